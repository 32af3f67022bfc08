"""The gradient of a layer of whose weight a slice trains: dW of the slice alone, from the gathered input channels,
and dx without a whole weight in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgec.build import Builder
from edgec.ir import Node
from edgec.ops import conv2d
from edgec.ops.conv2d import Conv2dAttrs, clamp_gradient
from edgec.ops.emit import emit
from edgec.ops.gather import IndexCopyAttrs, IndexSelectAttrs
from edgec.ops.linear import LinearAttrs
from edgec.passes.autodiff import Gradient, Vjp


def sliced_rule(whole: str, index: str, state: str, axis: int, gathered: str | None) -> Vjp:
    """The rule of a conv2d or linear whose weight is the constant `whole` with `state` at `index` (a constant) along
    `axis`. In the place of the weight's gradient stands that of the slice. `gathered`: the channels of the input that
    the slice reads, where they are there already.

    A channel of dx is made of its own channel of the weight alone: so dx is that of the constant, where it lies, with
    the trained channels replaced by those that the slice makes. No whole weight is assembled.
    """

    def vjp(b: Builder, node: Node, grads: Sequence[Gradient | None]) -> Sequence[Gradient | None]:
        dy = grads[0]
        assert isinstance(dy, str)
        attrs = node.attrs
        assert isinstance(attrs, (Conv2dAttrs, LinearAttrs))
        dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
        made = _conv(b, node.inputs[0], attrs, dy) if isinstance(attrs, Conv2dAttrs) else _linear(b, node, dy)
        return made[: len(node.inputs)]

    def _conv(b: Builder, x: str, attrs: Conv2dAttrs, dy: str) -> tuple[str, str, str]:
        (_, h, wd, _), (_, r, s, i) = b.types[x].dims, b.types[whole].dims
        part, part_dy, channels = attrs, dy, index
        if axis == 0:  # depthwise
            part = replace(attrs, groups=b.types[index].size)
            part_dy = select(b, dy, index)
        else:
            channels = channels_of(b, index, i, attrs.groups)
        dw = conv2d.weight_gradient(b, part, (r, s), gathered or select(b, x, channels), part_dy)
        frozen = conv2d.input_gradient(b, attrs, (h, wd), whole, dy)
        trained = conv2d.input_gradient(b, part, (h, wd), state, part_dy)
        dx = b.call("index_copy", frozen, channels, trained, attrs=IndexCopyAttrs(3))
        return dx, dw, emit(b, "reduce_sum", dy, axes=(0, 1, 2))

    def _linear(b: Builder, node: Node, dy: str) -> tuple[str, str, str]:
        x = node.inputs[0]
        outputs, channels = b.types[whole].dims
        rows = b.types[x].size // channels
        flat_dy = emit(b, "reshape", dy, shape=(rows, outputs))
        flat_x = emit(b, "reshape", gathered or select(b, x, index), shape=(rows, b.types[index].size))
        frozen, trained = (emit(b, "matmul", flat_dy, w) for w in (whole, state))
        dx = b.call("index_copy", frozen, index, trained, attrs=IndexCopyAttrs(1))
        dx = emit(b, "reshape", dx, shape=b.types[x].dims)
        return dx, emit(b, "linear_weight_grad", flat_x, flat_dy), emit(b, "reduce_sum", flat_dy, axes=(0,))

    return vjp


def channels_of(b: Builder, index: str, size: int, groups: int) -> str:
    """A constant: the input channels that `index` along the last axis of a weight [..., size] means, in all groups."""
    at = b.constants[index[1:]].data
    spread = np.concatenate([at + group * size for group in range(groups)])
    return b.constant(spread.astype(np.int32), index[1:])


def select(b: Builder, ref: str, index: str) -> str:
    """Channels `index` of `ref`."""
    return b.call("index_select", ref, index, attrs=IndexSelectAttrs(len(b.types[ref].shape) - 1))
