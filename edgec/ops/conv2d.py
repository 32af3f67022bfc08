"""conv2d: 2-D convolution with groups, strides, dilation and asymmetric zero padding.

Depthwise is groups == C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.fixedpoint import clamp_bounds, multipliers, requantize
from edgec.ir import Array, Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.terms import Term

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Clamp = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Conv2dAttrs(Attrs):
    """`pad` is (top, bottom, left, right). `act` is a fused clamp of the output, in real units."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    act: Clamp = None


def out_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Output rows or columns of a window that slides over `size` with padding."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def infer(attrs: Conv2dAttrs, types: Types) -> Types:
    """x[N,H,W,C], w[O,R,S,C/groups], b[O] (optional) -> y[N,P,Q,O]."""
    require(len(types) in (2, 3), "takes x, w and an optional b")
    x, w = types[0], types[1]
    require(
        len(x.shape) == 4 and len(w.shape) == 4,
        f"x and w have 4 axes, here {len(x.shape)} and {len(w.shape)}",
    )
    n, (h, wd, c), (o, r, s, i) = x.shape[0], x.dims[1:], w.dims
    require(c == i * attrs.groups, f"x has {c} channels, w takes {i} in each of {attrs.groups} groups")
    require(o % attrs.groups == 0, f"{o} output channels do not divide into {attrs.groups} groups")
    require(len(types) == 2 or types[2].shape == (o,), f"b has shape [{o}]")
    p = out_size(h, r, attrs.stride[0], attrs.pad[0], attrs.pad[1], attrs.dilation[0])
    q = out_size(wd, s, attrs.stride[1], attrs.pad[2], attrs.pad[3], attrs.dilation[1])
    require(p > 0 and q > 0, f"a {r}x{s} kernel does not fit into {h}x{wd} with padding {attrs.pad}")
    return (Type((n, p, q, o), x.dtype),)


def windows(x: Array, attrs: Conv2dAttrs, kernel: tuple[int, int], fill: float) -> Array:
    """Sliding windows [N,P,Q,C,R,S] of x[N,H,W,C], padded with `fill`. A view; no copy of the windows."""
    top, bottom, left, right = attrs.pad
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, attrs.dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    return view[:, :: attrs.stride[0], :: attrs.stride[1], :, :: attrs.dilation[0], :: attrs.dilation[1]]


def accumulate(attrs: Conv2dAttrs, x: Array, w: Array, fill: float) -> Array:
    """y[N,P,Q,O] = sum over window and group channels of x * w, in the common dtype of x and w."""
    view = windows(x, attrs, (w.shape[1], w.shape[2]), fill)
    n, p, q, c, r, s = view.shape
    o, g = w.shape[0], attrs.groups
    if g == c:
        return _accumulate_depthwise(view, w)
    rows = view.reshape(n, p, q, g, c // g, r, s).transpose(3, 0, 1, 2, 5, 6, 4).reshape(g, n * p * q, -1)
    weights = w.reshape(g, o // g, -1).transpose(0, 2, 1)
    y: Array = np.matmul(rows, weights).reshape(g, n, p, q, o // g)
    return y.transpose(1, 2, 3, 0, 4).reshape(n, p, q, o)


def _accumulate_depthwise(view: Array, w: Array) -> Array:
    """The same where each output reads one channel: tap by tap, without a copy of the windows."""
    n, p, q, c, r, s = view.shape
    weights = w.reshape(c, -1, r, s)
    y = np.zeros((n, p, q, c, weights.shape[1]), np.result_type(view, w))
    for row in range(r):
        for column in range(s):
            y += np.multiply(view[..., row, column, None], weights[..., row, column])
    return y.reshape(n, p, q, w.shape[0])


def ref(attrs: Conv2dAttrs, inputs: Arrays) -> Arrays:
    x, w = inputs[0], inputs[1]
    y = accumulate(attrs, x, w, 0.0)
    if len(inputs) == 3:
        y = np.add(y, inputs[2])
    return (np.clip(y, *attrs.act) if attrs.act is not None else y,)


def integer_accumulate(attrs: Conv2dAttrs, x: Array, w: Array, zero: int) -> Array:
    """Exact int64 sums of (x - zero) * w; padding contributes 0.

    Float64 products hold the integers exactly: |sum| <= K * 255 * 127 < 2**53 for any K that fits memory.
    """
    y = accumulate(attrs, x.astype(np.float64) - zero, w.astype(np.float64), 0.0)
    return y.astype(np.int64)


def quant_ref(attrs: Conv2dAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize(sum (x - Zx) w + b, Sx Sw / Sy))."""
    x_quant, w_quant, y_quant = in_types[0].quant, in_types[1].quant, out_types[0].quant
    assert x_quant is not None and w_quant is not None and y_quant is not None
    acc = integer_accumulate(attrs, inputs[0], inputs[1], x_quant.zero[0])
    if len(inputs) == 3:
        acc = acc + inputs[2].astype(np.int64)
    return (rescale(acc, x_quant.scale[0], w_quant.scale, y_quant.per_tensor, attrs.act, out_types[0]),)


def rescale(
    acc: Array, x_scale: float, w_scale: tuple[float, ...], y_quant: tuple[float, int], act: Clamp, y: Type
) -> Array:
    """int8 output of int32 sums whose last axis is the output channel; w_scale has one entry or one each."""
    assert y.quant is not None
    m, shift = multipliers([x_scale * s / y_quant[0] for s in w_scale])
    low, high = clamp_bounds(act, y.quant)
    return np.clip(requantize(acc, m, shift) + y_quant[1], low, high).astype(np.int8)


def cost(attrs: Conv2dAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(outputs[0].size * inputs[1].size // inputs[1].dims[0])


def clamp_gradient(b: Builder, y: str, dy: str, act: Clamp) -> str:
    """`dy` where the clamped output `y` lies strictly inside of `act`, 0 elsewhere."""
    inside: Term | None = None
    for comparison, bound in zip(("gt", "lt"), act or (), strict=False):
        if np.isfinite(bound):
            one = Term(b, y).op(comparison, bound)
            inside = one if inside is None else inside.op("logical_and", one)
    return dy if inside is None else inside.where(Term(b, dy), 0.0).ref


def swap_channels(b: Builder, w: str, groups: int) -> str:
    """w[O,R,S,C/groups] as the weight [C,R,S,O/groups] of the transposed convolution."""
    o, r, s, i = b.types[w].dims
    split = emit(b, "reshape", w, shape=(groups, o // groups, r, s, i))
    swapped = emit(b, "transpose", split, perm=(0, 4, 2, 3, 1))
    return emit(b, "reshape", swapped, shape=(groups * i, r, s, o // groups))


def input_gradient(b: Builder, attrs: Conv2dAttrs, size: tuple[int, int], w: str, dy: str) -> str:
    """Gradient to x, whose rows and columns are `size`."""
    return emit(
        b,
        "conv2d_input_grad",
        dy,
        w,
        size=size,
        stride=attrs.stride,
        pad=attrs.pad,
        dilation=attrs.dilation,
        groups=attrs.groups,
    )


def weight_gradient(b: Builder, attrs: Conv2dAttrs, kernel: tuple[int, int], x: str, dy: str) -> str:
    """Gradient to w[O,R,S,C/groups]; `kernel` is (R, S)."""
    return emit(
        b,
        "conv2d_weight_grad",
        x,
        dy,
        kernel=kernel,
        stride=attrs.stride,
        pad=attrs.pad,
        dilation=attrs.dilation,
        groups=attrs.groups,
    )


def gradients(b: Builder, attrs: Conv2dAttrs, x: str, w: str, dy: str) -> tuple[str, str, str]:
    """Gradients to x, w and b of an unclamped convolution."""
    (_, h, wd, _), (_, r, s, _) = b.types[x].dims, b.types[w].dims
    dx = input_gradient(b, attrs, (h, wd), w, dy)
    dw = weight_gradient(b, attrs, (r, s), x, dy)
    return dx, dw, emit(b, "reduce_sum", dy, axes=(0, 1, 2))


def vjp(b: Builder, node: Node, grads: Sequence[str | None]) -> Sequence[str | None]:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, Conv2dAttrs)
    if dy is None:
        return (None,) * len(node.inputs)
    dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
    return gradients(b, attrs, node.inputs[0], node.inputs[1], dy)[: len(node.inputs)]


def _example(
    label: str, attrs: Conv2dAttrs, x: tuple[int, ...], w: tuple[int, ...], bias: bool = True
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        arrays = (rng.normal(size=x), rng.normal(size=w) / np.sqrt(w[1] * w[2] * w[3]), rng.normal(size=w[0]))
        return tuple(a.astype(np.float32) for a in arrays[: 3 if bias else 2])

    def torch(t, x, w, b=None):  # type: ignore[no-untyped-def]
        top, bottom, left, right = attrs.pad
        padded = t.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = t.nn.functional.conv2d(
            padded, w.permute(0, 3, 1, 2), b, attrs.stride, 0, attrs.dilation, attrs.groups
        )
        y = y.permute(0, 2, 3, 1)
        return y.clamp(*attrs.act) if attrs.act is not None else y

    return Example(label, attrs, make, torch)


define(
    Op(
        name="conv2d",
        doc="2-D convolution of x[N,H,W,C] with w[O,R,S,C/groups] and b[O]; depthwise where groups == C.",
        attrs=Conv2dAttrs,
        infer=infer,
        ref=ref,
        vjp=vjp,
        quant=QuantRule(
            ("activation", "weight", "bias"), "calibrated", quant_ref, max_lsb=1.0, weight_axis=0
        ),
        cost=cost,
        examples=(
            _example(
                "3x3 stride 2, pad right and bottom",
                Conv2dAttrs((2, 2), (0, 1, 0, 1)),
                (1, 9, 8, 3),
                (4, 3, 3, 3),
            ),
            _example("pointwise, clamped", Conv2dAttrs(act=(0.0, 1.0)), (2, 4, 5, 6), (7, 1, 1, 6)),
            _example(
                "depthwise 5x5 pad 2", Conv2dAttrs(pad=(2, 2, 2, 2), groups=6), (1, 7, 6, 6), (6, 5, 5, 1)
            ),
            _example(
                "groups, dilation, no bias",
                Conv2dAttrs(dilation=(2, 2), groups=2, pad=(2, 2, 2, 2)),
                (1, 8, 8, 4),
                (6, 3, 3, 2),
                bias=False,
            ),
        ),
    )
)
