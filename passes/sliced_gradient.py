"""The gradient of a layer of whose weight a slice trains: dW of the slice alone, from the gathered input channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgec.build import Builder
from edgec.ir import Node
from edgec.ops import conv2d
from edgec.ops.conv2d import Conv2dAttrs, clamp_gradient
from edgec.ops.emit import emit
from edgec.ops.gather import IndexSelectAttrs
from edgec.ops.linear import LinearAttrs
from edgec.passes.autodiff import Gradient, Vjp


def sliced_rule(index: str, axis: int) -> Vjp:
    """The rule of a conv2d or linear whose weight's `index` (a constant, along `axis`) trains. In the place of the
    weight's gradient stands that of the slice."""

    def vjp(b: Builder, node: Node, grads: Sequence[Gradient | None]) -> Sequence[Gradient | None]:
        dy = grads[0]
        assert isinstance(dy, str)
        attrs = node.attrs
        assert isinstance(attrs, (Conv2dAttrs, LinearAttrs))
        dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
        made = _conv(b, node, attrs, dy) if isinstance(attrs, Conv2dAttrs) else _linear(b, node, dy)
        return made[: len(node.inputs)]

    def _conv(b: Builder, node: Node, attrs: Conv2dAttrs, dy: str) -> tuple[str, str, str]:
        x, w = node.inputs[:2]
        (_, h, wd, _), (_, r, s, i) = b.types[x].dims, b.types[w].dims
        dx = conv2d.input_gradient(b, attrs, (h, wd), w, dy)
        at = b.constants[index[1:]].data
        part, part_dy = attrs, dy
        if axis == 0:  # depthwise
            part, part_dy = replace(attrs, groups=len(at)), _select(b, dy, index)
            part_x = _select(b, x, index)
        else:
            spread = np.concatenate([at + group * i for group in range(attrs.groups)])
            part_x = _select(b, x, b.constant(spread.astype(np.int32), "channels"))
        dw = conv2d.weight_gradient(b, part, (r, s), part_x, part_dy)
        return dx, dw, emit(b, "reduce_sum", dy, axes=(0, 1, 2))

    def _linear(b: Builder, node: Node, dy: str) -> tuple[str, str, str]:
        x, w = node.inputs[:2]
        outputs, channels = b.types[w].dims
        rows = b.types[x].size // channels
        flat_dy = emit(b, "reshape", dy, shape=(rows, outputs))
        flat_x = emit(b, "reshape", _select(b, x, index), shape=(rows, b.types[index].size))
        dx = emit(b, "reshape", emit(b, "matmul", flat_dy, w), shape=b.types[x].dims)
        return dx, emit(b, "linear_weight_grad", flat_x, flat_dy), emit(b, "reduce_sum", flat_dy, axes=(0,))

    return vjp


def _select(b: Builder, ref: str, index: str) -> str:
    """Channels `index` of `ref`."""
    return b.call("index_select", ref, index, attrs=IndexSelectAttrs(len(b.types[ref].shape) - 1))
