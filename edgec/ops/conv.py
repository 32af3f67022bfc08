"""conv1d, conv_transpose2d, and the weight gradient of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops import conv2d
from edgec.ops.conv2d import Clamp, Conv2dAttrs, clamp_gradient, out_size, rescale, windows
from edgec.ops.define import Arrays, Cost, Example, NoQuant, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.sample import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Conv1dAttrs(Attrs):
    """`pad` is (before, after). `act` is a fused clamp of the output, in real units."""

    stride: int = 1
    pad: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    act: Clamp = None

    @property
    def as_2d(self) -> Conv2dAttrs:
        """The same convolution over x[N,L,1,C] with w[O,K,1,C/groups]."""
        return Conv2dAttrs((self.stride, 1), (*self.pad, 0, 0), (self.dilation, 1), self.groups, self.act)


@dataclass(frozen=True, slots=True)
class ConvTranspose2dAttrs(Attrs):
    """`pad` (top, bottom, left, right) is cut from the output, `output_pad` rows and columns are added at its
    end, fewer than the larger of stride and dilation. `act` is a fused clamp of the output, in real units."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    act: Clamp = None

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution whose input gradient this is."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class Conv2dWeightGradAttrs(Attrs):
    """`kernel` is (R, S); the rest as the convolution has it."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution whose weight gradient this is."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


def _with_unit_axis(t: Type) -> Type:
    return Type((*t.shape[:-1], 1, t.shape[-1]), t.dtype, t.quant)


def conv1d_infer(attrs: Conv1dAttrs, types: Types) -> Types:
    """x[N,L,C], w[O,K,C/groups], b[O] (optional) -> y[N,P,O]."""
    require(len(types) in (2, 3), "takes x, w and an optional b")
    ranks = [len(t.shape) for t in types[:2]]
    require(ranks == [3, 3], f"x and w have 3 axes, here {ranks[0]} and {ranks[1]}")
    y = conv2d.infer(attrs.as_2d, (*map(_with_unit_axis, types[:2]), *types[2:]))[0]
    return (Type((y.shape[0], y.shape[1], y.shape[3]), y.dtype),)


def conv1d_ref(attrs: Conv1dAttrs, inputs: Arrays) -> Arrays:
    x, w, *bias = inputs
    y = conv2d.ref(attrs.as_2d, (x[:, :, None], w[:, :, None], *bias))[0]
    return (y[:, :, 0],)


def conv1d_quant_ref(attrs: Conv1dAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """As conv2d, over x[N,L,1,C]."""
    x, w, *bias = inputs
    types = (*map(_with_unit_axis, in_types[:2]), *in_types[2:])
    arrays = (x[:, :, None], w[:, :, None], *bias)
    y = conv2d.quant_ref(attrs.as_2d, types, arrays, (_with_unit_axis(out_types[0]),))[0]
    return (y[:, :, 0],)


def conv1d_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, Conv1dAttrs)
    if dy is None:
        return (None,) * len(node.inputs)
    dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
    x, w = node.inputs[:2]
    wide = [emit(b, "reshape", r, shape=_with_unit_axis(b.types[r]).dims) for r in (x, w, dy)]
    dx, dw, db = conv2d.gradients(b, attrs.as_2d, *wide)
    narrow = [emit(b, "reshape", g, shape=b.types[r].dims) for g, r in ((dx, x), (dw, w))]
    return (*narrow, db)[: len(node.inputs)]


def transpose_infer(attrs: ConvTranspose2dAttrs, types: Types) -> Types:
    """x[N,H,W,C], w[O,R,S,C/groups], b[O] (optional) -> y[N,P,Q,O]."""
    require(len(types) in (2, 3), "takes x, w and an optional b")
    x, w = types[0], types[1]
    ranks = [len(t.shape) for t in types[:2]]
    require(ranks == [4, 4], f"x and w have 4 axes, here {ranks[0]} and {ranks[1]}")
    c, (o, r, s, i) = x.dims[3], w.dims
    require(c == i * attrs.groups, f"x has {c} channels, w takes {i} in each of {attrs.groups} groups")
    require(o % attrs.groups == 0, f"{o} output channels do not divide into {attrs.groups} groups")
    require(len(types) == 2 or types[2].shape == (o,), f"b has shape [{o}]")
    for extra, steps in zip(attrs.output_pad, zip(attrs.stride, attrs.dilation, strict=True), strict=True):
        require(0 <= extra < max(steps), f"output_pad {extra} is not below stride and dilation {steps}")
    top, bottom, left, right = attrs.pad
    full = _full_size(attrs, x.dims[1:3], (r, s))
    p, q = full[0] - top - bottom, full[1] - left - right
    require(p > 0 and q > 0, f"padding {attrs.pad} leaves an output of {p}x{q}")
    return (Type((x.shape[0], p, q, o), x.dtype),)


def _full_size(attrs: ConvTranspose2dAttrs, size: Sequence[int], kernel: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the output before padding is cut."""
    rows, columns = (
        (size[i] - 1) * attrs.stride[i] + attrs.dilation[i] * (kernel[i] - 1) + 1 + attrs.output_pad[i]
        for i in range(2)
    )
    return rows, columns


def transpose_accumulate(attrs: ConvTranspose2dAttrs, x: Array, w: Array) -> Array:
    """y[N,P,Q,O]: each x is spread over the window of outputs that a convolution would have read it for."""
    (n, h, wd), (o, r, s, i), g = x.shape[:3], w.shape, attrs.groups
    full = np.zeros((n, *_full_size(attrs, (h, wd), (r, s)), o), np.result_type(x, w))
    rows = x.reshape(n * h * wd, g, i).transpose(1, 0, 2)
    for row in range(r):
        for column in range(s):
            weights = w[:, row, column].reshape(g, o // g, i).transpose(0, 2, 1)
            part = np.matmul(rows, weights).transpose(1, 0, 2).reshape(n, h, wd, o)
            top, left = row * attrs.dilation[0], column * attrs.dilation[1]
            bottom, right = top + (h - 1) * attrs.stride[0] + 1, left + (wd - 1) * attrs.stride[1] + 1
            full[:, top : bottom : attrs.stride[0], left : right : attrs.stride[1]] += part
    top, bottom, left, right = attrs.pad
    return full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]


def transpose_ref(attrs: ConvTranspose2dAttrs, inputs: Arrays) -> Arrays:
    y = transpose_accumulate(attrs, inputs[0], inputs[1])
    if len(inputs) == 3:
        y = np.add(y, inputs[2])
    return (np.clip(y, *attrs.act) if attrs.act is not None else y,)


def transpose_quant_ref(
    attrs: ConvTranspose2dAttrs, in_types: Types, inputs: Arrays, out_types: Types
) -> Arrays:
    """y = clamp(Zy + requantize(sum (x - Zx) w + b, Sx Sw / Sy))."""
    x_quant, w_quant, y_quant = in_types[0].quant, in_types[1].quant, out_types[0].quant
    assert x_quant is not None and w_quant is not None and y_quant is not None
    x = inputs[0].astype(np.float64) - x_quant.zero[0]
    acc = transpose_accumulate(attrs, x, inputs[1].astype(np.float64)).astype(np.int64)
    if len(inputs) == 3:
        acc = acc + inputs[2].astype(np.int64)
    return (rescale(acc, x_quant.scale[0], w_quant.scale, y_quant.per_tensor, attrs.act, out_types[0]),)


def transpose_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, ConvTranspose2dAttrs)
    if dy is None:
        return (None,) * len(node.inputs)
    dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
    x, w = node.inputs[:2]
    _, r, s, _ = b.types[w].dims
    whole = emit(b, "reduce_sum", dy, axes=(0, 1, 2))
    dy, forward = _reached(b, attrs, dy)
    dx = b.call("conv2d", dy, conv2d.swap_channels(b, w, attrs.groups), attrs=forward)
    # Seen from the forward convolution dy is the input and x the gradient of the output.
    swapped = conv2d.weight_gradient(b, forward, (r, s), dy, x)
    dw = conv2d.swap_channels(b, swapped, attrs.groups)
    return (dx, dw, whole)[: len(node.inputs)]


def _reached(b: Builder, attrs: ConvTranspose2dAttrs, dy: str) -> tuple[str, Conv2dAttrs]:
    """dy and the convolution over it that has as many windows as x. Output padding of a stride or more would
    hold further windows: it is taken from the padding that was cut, then from dy."""
    pad = list(attrs.pad)
    for axis in range(2):
        extra = attrs.output_pad[axis]
        if extra < attrs.stride[axis]:
            continue
        cut = min(extra, pad[2 * axis + 1])
        pad[2 * axis + 1] -= cut
        if extra > cut:
            stop = b.types[dy].dims[axis + 1] - (extra - cut)
            dy = emit(b, "slice", dy, axis=axis + 1, start=0, stop=stop)
    top, bottom, left, right = pad
    return dy, replace(attrs.forward, pad=(top, bottom, left, right))


def transpose_cost(attrs: ConvTranspose2dAttrs, inputs: Types, outputs: Types) -> Cost:
    o, r, s, i = inputs[1].dims
    return Cost(inputs[0].size // inputs[0].dims[3] * o * r * s * i)


def weight_grad_infer(attrs: Conv2dWeightGradAttrs, types: Types) -> Types:
    """x[N,H,W,C], dy[N,P,Q,O] -> dw[O,R,S,C/groups]."""
    require(len(types) == 2, "takes x and dy")
    x, dy = types
    ranks = [len(t.shape) for t in types]
    require(ranks == [4, 4], f"x and dy have 4 axes, here {ranks[0]} and {ranks[1]}")
    for axis in range(2):
        before, after = attrs.pad[2 * axis : 2 * axis + 2]
        rows = out_size(
            x.dims[axis + 1], attrs.kernel[axis], attrs.stride[axis], before, after, attrs.dilation[axis]
        )
        require(rows == dy.dims[axis + 1], f"dy has size {dy.dims[axis + 1]}, the convolution {rows}")
    c, o = x.dims[3], dy.dims[3]
    require(c % attrs.groups == 0 and o % attrs.groups == 0, f"{attrs.groups} groups of {c} and {o} channels")
    return (Type((o, *attrs.kernel, c // attrs.groups), x.dtype),)


def weight_grad_ref(attrs: Conv2dWeightGradAttrs, inputs: Arrays) -> Arrays:
    x, dy = inputs
    view = windows(x, attrs.forward, attrs.kernel, 0.0)
    n, p, q, c, r, s = view.shape
    o, g = dy.shape[3], attrs.groups
    rows = view.reshape(n, p, q, g, c // g, r, s).transpose(3, 0, 1, 2, 5, 6, 4).reshape(g, n * p * q, -1)
    gradients = dy.reshape(n * p * q, g, o // g).transpose(1, 2, 0)
    return (np.matmul(gradients, rows).reshape(o, r, s, c // g),)


def weight_grad_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dw = node.attrs, grads[0]
    assert isinstance(attrs, Conv2dWeightGradAttrs)
    if dw is None:
        return None, None
    x, dy = node.inputs
    _, h, wd, _ = b.types[x].dims
    # The op is bilinear: each operand's gradient is the convolution's own, with dw as its weight.
    dx = conv2d.input_gradient(b, attrs.forward, (h, wd), dw, dy)
    return dx, b.call("conv2d", x, dw, attrs=attrs.forward)


def weight_grad_cost(attrs: Conv2dWeightGradAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(inputs[1].size * outputs[0].size // outputs[0].dims[0])


def _conv1d_example(
    label: str, attrs: Conv1dAttrs, x: tuple[int, ...], w: tuple[int, ...], bias: bool
) -> Example:
    def torch(t, x, w, b=None):  # type: ignore[no-untyped-def]
        padded = t.nn.functional.pad(x.permute(0, 2, 1), attrs.pad)
        y = t.nn.functional.conv1d(
            padded, w.permute(0, 2, 1), b, attrs.stride, 0, attrs.dilation, attrs.groups
        )
        y = y.permute(0, 2, 1)
        return y.clamp(*attrs.act) if attrs.act is not None else y

    shapes = (x, w, w[:1]) if bias else (x, w)
    return Example(label, attrs, normal(*shapes), torch)


def _transpose_example(
    label: str, attrs: ConvTranspose2dAttrs, x: tuple[int, ...], w: tuple[int, ...], bias: bool
) -> Example:
    def torch(t, x, w, b=None):  # type: ignore[no-untyped-def]
        o, r, s, i = w.shape
        g = attrs.groups
        # PyTorch indexes the weight by input channel: [C, O/groups, R, S].
        w = w.reshape(g, o // g, r, s, i).permute(0, 4, 1, 2, 3).reshape(g * i, o // g, r, s)
        y = t.nn.functional.conv_transpose2d(
            x.permute(0, 3, 1, 2), w, b, attrs.stride, 0, 0, attrs.groups, attrs.dilation
        )
        top, bottom, left, right = attrs.pad
        # Output padding adds rows that no x reaches: they hold the bias alone.
        y = t.nn.functional.pad(
            y if b is None else y - b[:, None, None], (0, attrs.output_pad[1], 0, attrs.output_pad[0])
        )
        y = y if b is None else y + b[:, None, None]
        y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right].permute(0, 2, 3, 1)
        return y.clamp(*attrs.act) if attrs.act is not None else y

    shapes = (x, w, w[:1]) if bias else (x, w)
    return Example(label, attrs, normal(*shapes), torch)


def _weight_grad_torch(attrs: Conv2dWeightGradAttrs):  # type: ignore[no-untyped-def]
    def torch(t, x, dy):  # type: ignore[no-untyped-def]
        top, bottom, left, right = attrs.pad
        padded = t.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        shape = (dy.shape[3], x.shape[3] // attrs.groups, *attrs.kernel)
        dw = t.nn.grad.conv2d_weight(
            padded, shape, dy.permute(0, 3, 1, 2), attrs.stride, 0, attrs.dilation, attrs.groups
        )
        return dw.permute(0, 2, 3, 1)

    return torch


def _weight_grad_example(
    label: str, attrs: Conv2dWeightGradAttrs, x: tuple[int, ...], dy: tuple[int, ...]
) -> Example:
    return Example(label, attrs, normal(x, dy), _weight_grad_torch(attrs), tolerance=2e-5)


define(
    Op(
        name="conv1d",
        doc="1-D convolution of x[N,L,C] with w[O,K,C/groups] and b[O].",
        attrs=Conv1dAttrs,
        infer=conv1d_infer,
        ref=conv1d_ref,
        vjp=conv1d_vjp,
        quant=QuantRule(
            ("activation", "weight", "bias"), "calibrated", conv1d_quant_ref, max_lsb=1.0, weight_axis=0
        ),
        cost=conv2d.cost,
        examples=(
            _conv1d_example("stride 2, padded", Conv1dAttrs(2, (1, 2)), (2, 11, 3), (4, 3, 3), True),
            _conv1d_example(
                "depthwise, causal, clamped",
                Conv1dAttrs(pad=(4, 0), dilation=2, groups=4, act=(0.0, 1.0)),
                (1, 9, 4),
                (4, 3, 1),
                False,
            ),
        ),
    )
)

define(
    Op(
        name="conv_transpose2d",
        doc="Transposed convolution of x[N,H,W,C] with w[O,R,S,C/groups] and b[O].",
        attrs=ConvTranspose2dAttrs,
        infer=transpose_infer,
        ref=transpose_ref,
        vjp=transpose_vjp,
        quant=QuantRule(
            ("activation", "weight", "bias"), "calibrated", transpose_quant_ref, max_lsb=1.0, weight_axis=0
        ),
        cost=transpose_cost,
        examples=(
            _transpose_example(
                "2x2 stride 2", ConvTranspose2dAttrs((2, 2)), (1, 3, 4, 5), (3, 2, 2, 5), True
            ),
            _transpose_example(
                "3x3 stride 2, padded, output padding",
                ConvTranspose2dAttrs((2, 2), (1, 1, 1, 0), (1, 0), act=(-1.0, 2.0)),
                (2, 4, 3, 4),
                (6, 3, 3, 4),
                True,
            ),
            _transpose_example(
                "groups, dilation",
                ConvTranspose2dAttrs((1, 3), (2, 1, 0, 3), (0, 2), (2, 1), groups=2),
                (1, 4, 4, 4),
                (6, 3, 2, 2),
                False,
            ),
            _transpose_example(
                "output padding of a stride and more",
                ConvTranspose2dAttrs((1, 2), (0, 1, 0, 1), (2, 3), (3, 4)),
                (1, 4, 3, 3),
                (2, 2, 2, 3),
                True,
            ),
        ),
    )
)

define(
    Op(
        name="conv2d_weight_grad",
        doc="Gradient of conv2d to its weight, from x[N,H,W,C] and the gradient dy[N,P,Q,O] of the output.",
        attrs=Conv2dWeightGradAttrs,
        infer=weight_grad_infer,
        ref=weight_grad_ref,
        vjp=weight_grad_vjp,
        quant=NoQuant("gradients are computed in float"),
        cost=weight_grad_cost,
        examples=(
            _weight_grad_example(
                "stride 2, unread last column",
                Conv2dWeightGradAttrs((3, 3), (2, 2), (0, 1, 0, 1)),
                (2, 6, 7, 3),
                (2, 3, 3, 4),
            ),
            _weight_grad_example(
                "groups, dilation",
                Conv2dWeightGradAttrs((2, 3), dilation=(2, 1), groups=2, pad=(1, 1, 1, 1)),
                (1, 5, 5, 4),
                (1, 5, 5, 6),
            ),
        ),
    )
)
