"""Backward ops of trained_conv2d: the gradient to its input, and updates of its weight and bias in place.

q * 2**e (or g, float) is the gradient of the output in its integer steps; h = q where the mask is 1, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.block_float import (
    Numbers,
    Rounding,
    block_float,
    integer_step,
    is_pair,
    noise,
    power_of_two,
    require_mask,
    require_scalar,
    unpack_mask,
)
from edgec.ops.conv2d import Conv2dAttrs, out_size, windows
from edgec.ops.define import Arrays, Cost, Example, Op, Types, define, require
from edgec.ops.gradient import NO_SECOND, PLAIN, random_gradient, random_mask
from edgec.ops.trained import by_rows, require_columns, whole_weight

WEIGHT_LIMIT = 127


@dataclass(frozen=True, slots=True)
class TrainedConv2dInputGradAttrs(Attrs):
    """The convolution's fields and `size`, rows and columns of its input. `exponent` is added to that of a pair."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    exponent: int = 0


@dataclass(frozen=True, slots=True)
class TrainConv2dWeightAttrs(Attrs):
    """The convolution's fields; `zero` of its input; `salt` makes the noise of this parameter its own."""

    zero: int
    salt: int
    seed: int
    rounding: Rounding = "stochastic"
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution without its clamp."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class TrainConv2dBiasAttrs(Attrs):
    """`salt` makes the noise of this parameter its own."""

    salt: int
    seed: int
    rounding: Rounding = "stochastic"


def infer_input_grad(attrs: TrainedConv2dInputGradAttrs, types: Types) -> Types:
    """q[N,P,Q,O], e | g, mask, w[O,R,S,I], eff i16[O] | f32[O] (, idx, slice) -> dx[N,H,W,C] (, exponent)."""
    pair = is_pair(types, 0)
    at = 2 if pair else 1
    require(len(types) in (at + 3, at + 5), "takes a gradient, mask, w, eff and optionally idx and slice")
    g, mask, w, eff = types[0], *types[at : at + 3]
    require(len(g.shape) == 4 and len(w.shape) == 4, "the gradient and w have 4 axes")
    require_mask(mask, g)
    (o, r, s, i), n = w.dims, g.dims[0]
    require(g.dims[3] == o and o % attrs.groups == 0, f"the gradient has {g.dims[3]} channels, w {o} outputs")
    require(eff.shape == (o,) and eff.dtype is (DType.I16 if pair else g.dtype), "eff is i16[O], or float")
    _require_sizes(attrs.size, (r, s), g.dims[1:3], attrs)
    if len(types) == at + 5:
        require_columns(w, attrs.groups, *types[at + 3 :])
    dx = Type((n, *attrs.size, i * attrs.groups), g.dtype)
    return (dx, Type((1,), DType.I32)) if pair else (dx,)


def _require_sizes(
    size: tuple[int, ...],
    kernel: tuple[int, int],
    out: tuple[int, ...],
    attrs: TrainedConv2dInputGradAttrs | TrainConv2dWeightAttrs,
) -> None:
    for axis in range(2):
        before, after = attrs.pad[2 * axis : 2 * axis + 2]
        rows = out_size(size[axis], kernel[axis], attrs.stride[axis], before, after, attrs.dilation[axis])
        require(rows == out[axis], f"the convolution has {rows} rows or columns, the gradient {out[axis]}")


def _masked(gradient: Array, mask: Array) -> Array:
    """h: the gradient where the mask is 1."""
    return np.where(unpack_mask(mask, gradient.shape), gradient, np.zeros((), gradient.dtype))


def input_grad(attrs: TrainedConv2dInputGradAttrs, inputs: Arrays) -> Arrays:
    """dx = sum over taps and outputs of h * eff * w. Float sums run over r, then s, then the outputs of a group."""
    pair = inputs[0].dtype == np.int8
    at = 2 if pair else 1
    h = _masked(inputs[0], inputs[at])
    w = whole_weight(inputs[at + 1], attrs.groups, inputs[at + 3 :])
    eff = inputs[at + 2]
    if not pair:
        return (_scattered(attrs, np.multiply(h, eff), w, ordered=True),)
    scaled = np.multiply(h.astype(np.int64), eff.astype(np.int64))
    # float64 sums of these integers are exact: int32 holds them, as `effective` chose the exponent
    acc = _scattered(attrs, scaled.astype(np.float64), w, ordered=False)
    q, shift = block_float(acc)
    return q, np.array([int(inputs[1][0]) + attrs.exponent + shift], np.int32)


def _scattered(attrs: TrainedConv2dInputGradAttrs, h: Numbers, w: Numbers, ordered: bool) -> Numbers:
    """dx[N,H,W,C] in the dtype of h; `ordered`: each output by itself, in order."""
    n, p, q, o = h.shape
    r, s, i = w.shape[1:]
    groups = attrs.groups
    top, _, left, _ = attrs.pad
    reach = [
        (size - 1) * stride + dilation * (k - 1) + 1
        for size, stride, dilation, k in zip((p, q), attrs.stride, attrs.dilation, (r, s), strict=True)
    ]
    height, width = max(reach[0], attrs.size[0] + top), max(reach[1], attrs.size[1] + left)
    dx = np.zeros((n, height, width, groups, i), h.dtype)
    split = h.reshape(n, p, q, groups, o // groups)
    weights = w.astype(h.dtype).reshape(groups, o // groups, r, s, i)
    for row in range(r):
        for column in range(s):
            first = row * attrs.dilation[0], column * attrs.dilation[1]
            view = dx[
                :,
                first[0] : first[0] + (p - 1) * attrs.stride[0] + 1 : attrs.stride[0],
                first[1] : first[1] + (q - 1) * attrs.stride[1] + 1 : attrs.stride[1],
            ]
            tap = weights[:, :, row, column]
            if ordered or o == groups:
                for j in range(o // groups):
                    view += split[..., j, None] * tap[:, j]
            else:
                view += np.einsum("npqgj,gji->npqgi", split, tap, optimize=True)
    return dx[:, top : top + attrs.size[0], left : left + attrs.size[1]].reshape(n, *attrs.size, groups * i)


def cost_input_grad(attrs: TrainedConv2dInputGradAttrs, inputs: Types, outputs: Types) -> Cost:
    w = next(t for t in inputs if len(t.shape) == 4 and t is not inputs[0])
    return Cost(inputs[0].size * w.size // w.dims[0])


def infer_weight(attrs: TrainConv2dWeightAttrs, types: Types) -> Types:
    """w[O,R,S,k], x[N,H,W,k*groups], q, e | g, mask, factor f32[O], rate f32[1], step i32[1] (, idx) -> the new w.

    With idx i32[k] (depthwise) w is [k,R,S,1], x has its k channels and factor is f32[k].
    """
    require(len(types) >= 2, "takes w and x")
    w, x = types[:2]
    pair = is_pair(types, 2)
    at = 4 if pair else 3
    require(
        len(types) in (at + 4, at + 5), "takes w, x, a gradient, mask, factor, rate, step, optionally idx"
    )
    g, (mask, factor, rate, step) = types[2], types[at : at + 4]
    require(w.dtype is DType.I8 and x.dtype is DType.I8, "w and x are int8")
    require([len(t.shape) for t in (w, x, g)] == [4, 4, 4], "w, x and the gradient have 4 axes")
    require_mask(mask, g)
    o, r, s, i = w.dims
    chosen = len(types) == at + 5
    groups = o if chosen else attrs.groups
    require(x.dims[3] == i * groups, f"x has {x.dims[3]} channels, w takes {i} in each of {groups} groups")
    require(chosen or g.dims[3] == o, f"the gradient has {g.dims[3]} channels, w {o} outputs")
    if chosen:
        require(by_rows(w, attrs.groups), "idx belongs to depthwise weights")
        require((types[-1].shape, types[-1].dtype) == ((o,), DType.I32), "idx is i32[k]")
    require(factor.shape == (o,) and factor.dtype.is_float, "factor is float, one an output")
    require_scalar(rate, factor.dtype, "rate")
    require_scalar(step, DType.I32, "step")
    _require_sizes(x.dims[1:3], (r, s), g.dims[1:3], attrs)
    return (w,)


def weight_gradient(attrs: TrainConv2dWeightAttrs, x: Numbers, h: Numbers, dims: tuple[int, ...]) -> Numbers:
    """sum over pixels of h * (x - zero), [O,R,S,k]: int64 of an integer h, else float, pixel after pixel."""
    o, r, s, i = dims
    groups = x.shape[3] // i
    exact = h.dtype == np.int8
    kind = np.dtype(np.float64) if exact else h.dtype
    centred = np.subtract(x.astype(kind), np.asarray(attrs.zero, kind))
    view = windows(centred, attrs.forward, (r, s), 0.0)
    n, p, q = view.shape[:3]
    rows: Numbers = view.reshape(n * p * q, groups, i, r, s)
    outputs = h.astype(kind).reshape(n * p * q, groups, o // groups)
    if exact:
        found = np.einsum("zgj,zgirs->gjrsi", outputs, rows, optimize=True)
        return np.asarray(found.reshape(dims), np.int64)
    total = np.zeros((groups, o // groups, r, s, i), kind)
    for pixel in range(n * p * q):
        total += outputs[pixel][:, :, None, None, None] * rows[pixel].transpose(0, 2, 3, 1)[:, None]
    return total.reshape(dims)


def update_weight(attrs: TrainConv2dWeightAttrs, inputs: Arrays) -> Arrays:
    """w + floor(u - gradient * (rate * factor * 2**e)), within +-127."""
    w, x = inputs[:2]
    pair = inputs[2].dtype == np.int8
    at = 4 if pair else 3
    h = _masked(inputs[2], inputs[at])
    factor, rate, step = inputs[at + 1 : at + 4]
    if len(inputs) == at + 5:
        h = h[..., np.asarray(inputs[-1], np.int64)]
    gradient = weight_gradient(attrs, x, h, w.shape)
    u = noise(attrs.rounding, w.size, int(step[0]), attrs.salt, attrs.seed).reshape(w.shape)
    scale = _rates(rate, factor, inputs[3] if pair else None)[:, None, None, None]
    moved = w.astype(np.int64) + integer_step(gradient, scale, u)
    return (np.clip(moved, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8),)


def _rates(rate: Array, factor: Array, exponent: Array | None) -> Array:
    """(rate * factor) * 2**e, one rounding each."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rates: Array = np.multiply(rate, factor)
        if exponent is not None:
            rates = np.multiply(rates, power_of_two(int(exponent[0])).astype(rates.dtype))
    return rates


def cost_weight(attrs: TrainConv2dWeightAttrs, inputs: Types, outputs: Types) -> Cost:
    w = inputs[0]
    return Cost(inputs[2].size // inputs[2].dims[3] * w.size, 4 * w.size)


def infer_bias(attrs: TrainConv2dBiasAttrs, types: Types) -> Types:
    """b i32[O], q[...,O], e | g, mask, factor f32[O], rate f32[1], step i32[1] -> the new b."""
    require(len(types) >= 2, "takes b and a gradient")
    pair = is_pair(types, 1)
    at = 3 if pair else 2
    require(len(types) == at + 4, "takes b, a gradient, mask, factor, rate and step")
    b, g, (mask, factor, rate, step) = types[0], types[1], types[at:]
    require(b.dtype is DType.I32 and b.shape == g.shape[-1:], "b is i32, one an output")
    require_mask(mask, g)
    require(factor.shape == b.shape and factor.dtype.is_float, "factor is float, one an output")
    require_scalar(rate, factor.dtype, "rate")
    require_scalar(step, DType.I32, "step")
    return (b,)


def bias_gradient(h: Numbers) -> Numbers:
    """sum over pixels of h: int64 of an integer h, else float, pixel after pixel."""
    rows = h.reshape(-1, h.shape[-1])
    if h.dtype == np.int8:
        return np.asarray(rows.astype(np.int64).sum(0), np.int64)
    total = np.zeros(h.shape[-1], h.dtype)
    for row in rows:
        total += row
    return total


def update_bias(attrs: TrainConv2dBiasAttrs, inputs: Arrays) -> Arrays:
    """b + floor(u - gradient * (rate * factor * 2**e)), within int32."""
    b = inputs[0]
    pair = inputs[1].dtype == np.int8
    at = 3 if pair else 2
    gradient = bias_gradient(_masked(inputs[1], inputs[at]))
    factor, rate, step = inputs[at + 1 :]
    u = noise(attrs.rounding, b.size, int(step[0]), attrs.salt, attrs.seed)
    moved = b.astype(np.int64) + integer_step(gradient, _rates(rate, factor, inputs[2] if pair else None), u)
    return (np.clip(moved, -(2**31), 2**31 - 1).astype(np.int32),)


def cost_bias(attrs: TrainConv2dBiasAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, inputs[1].size + 4 * inputs[0].size)


PLAIN_CONV = Conv2dAttrs()


@dataclass(frozen=True, slots=True)
class _Case:
    """A convolution of the examples: x[N,H,W,C], w[O,R,S,I]; `idx`: the trained channels, none: all."""

    label: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    forward: Conv2dAttrs = PLAIN_CONV
    idx: tuple[int, ...] = ()

    @property
    def out(self) -> tuple[int, int, int, int]:
        a, (n, h, w, _) = self.forward, self.x
        p = out_size(h, self.w[1], a.stride[0], a.pad[0], a.pad[1], a.dilation[0])
        q = out_size(w, self.w[2], a.stride[1], a.pad[2], a.pad[3], a.dilation[1])
        return n, p, q, self.w[0]

    @property
    def rows(self) -> bool:
        return self.forward.groups > 1 and self.w[3] == 1


CASES = (
    _Case("1x1", (1, 4, 4, 6), (7, 1, 1, 6)),
    _Case("1x1, some columns", (1, 3, 5, 12), (8, 1, 1, 12), idx=(1, 4, 5, 11)),
    _Case("1x1, batch", (2, 3, 3, 8), (9, 1, 1, 8)),
    _Case(
        "3x3 stride 2, some columns", (1, 6, 7, 5), (4, 3, 3, 5), Conv2dAttrs((2, 2), (1, 0, 1, 1)), (0, 3)
    ),
    _Case("depthwise 3x3", (1, 5, 4, 6), (6, 3, 3, 1), Conv2dAttrs(pad=(1, 1, 1, 1), groups=6)),
    _Case(
        "depthwise 7x7 stride 2",
        (1, 8, 8, 5),
        (5, 7, 7, 1),
        Conv2dAttrs((2, 2), (3, 3, 3, 3), groups=5),
    ),
    _Case(
        "depthwise 5x5, some channels",
        (1, 6, 5, 9),
        (9, 5, 5, 1),
        Conv2dAttrs(pad=(2, 2, 2, 2), groups=9),
        (2, 3, 8),
    ),
    _Case("groups, dilation", (2, 5, 6, 6), (4, 2, 3, 3), Conv2dAttrs((1, 2), (1, 1, 0, 2), (2, 1), 2)),
)


def _input_grad_example(case: _Case, pair: bool) -> Example:
    a = case.forward
    attrs = TrainedConv2dInputGradAttrs(
        case.x[1:3], a.stride, a.pad, a.dilation, a.groups, -10 if pair else 0
    )

    def make(rng: np.random.Generator) -> Arrays:
        g = random_gradient(rng, case.out, pair)
        o = case.w[0]
        eff = (
            rng.integers(0, 129, o).astype(np.int16) if pair else rng.uniform(0.01, 0.1, o).astype(np.float32)
        )
        w = rng.integers(-127, 128, case.w).astype(np.int8)
        return (*g, random_mask(rng, case.out), w, eff, *_columns(rng, case))

    return Example(f"{case.label}, {'pair' if pair else 'float'}", attrs, make, None)


def _columns(rng: np.random.Generator, case: _Case) -> Arrays:
    if not case.idx:
        return ()
    shape = (len(case.idx), *case.w[1:]) if case.rows else (*case.w[:3], len(case.idx))
    return np.array(case.idx, np.int32), rng.integers(-127, 128, shape).astype(np.int8)


def _weight_example(case: _Case, pair: bool, rounding: Rounding) -> Example:
    a = case.forward
    attrs = TrainConv2dWeightAttrs(-3, 5, 17, rounding, a.stride, a.pad, a.dilation, a.groups)

    def make(rng: np.random.Generator) -> Arrays:
        n, h, wd, c = case.x
        k = len(case.idx)
        channels = k if k else c
        shape = case.w if not k else (k, *case.w[1:]) if case.rows else (*case.w[:3], k)
        w = rng.integers(-127, 128, shape).astype(np.int8)
        x = rng.integers(-128, 128, (n, h, wd, channels)).astype(np.int8)
        g = random_gradient(rng, case.out, pair)
        factor = rng.uniform(0.0, 0.6, shape[0]).astype(np.float32)
        rest = factor, np.array([0.02], np.float32), np.array([12345], np.int32)
        last = (np.array(case.idx, np.int32),) if case.rows and k else ()
        return (w, x, *g, random_mask(rng, case.out), *rest, *last)

    return Example(f"{case.label}, {'pair' if pair else 'float'}, {rounding}", attrs, make, None)


def _bias_example(
    label: str, shape: tuple[int, ...], pair: bool, rounding: Rounding, rate: float = 0.5
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        b = rng.integers(-(2**31), 2**31, shape[-1]).astype(np.int32)
        b[0], b[-1] = 2**31 - 1, -(2**31)
        factor = rng.uniform(0.0, 90.0, shape[-1]).astype(np.float32)
        rest = factor, np.array([rate], np.float32), np.array([-7], np.int32)
        return (b, *random_gradient(rng, shape, pair), random_mask(rng, shape), *rest)

    return Example(label, TrainConv2dBiasAttrs(9, -4, rounding), make, None)


_SHARED = "q i8[N,P,Q,O] and e i32[1], or g f32, is the gradient to the output's steps, counted where its mask is 1. "

define(
    Op(
        name="trained_conv2d_input_grad",
        doc="Gradient of trained_conv2d to x: the transposed convolution of the masked gradient times eff[O] with w, "
        "its columns idx replaced by slice. "
        + _SHARED
        + "A pair: int32 sums rounded in block floating point, e + exponent.",
        attrs=TrainedConv2dInputGradAttrs,
        infer=infer_input_grad,
        ref=input_grad,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=cost_input_grad,
        examples=tuple(_input_grad_example(c, pair) for c in CASES for pair in (True, False)),
    )
)

define(
    Op(
        name="train_conv2d_weight",
        doc="w int8 after one step: w + floor(u - dw * (rate * factor[O] * 2^e)) within +-127, dw the sum over "
        "pixels of (x - zero) times the gradient. "
        + _SHARED
        + "u: 1/2, or 24 bits of Philox for (element / 4, step, salt), key "
        "seed, word element % 4. x holds the trained channels alone; idx i32[k] are those of a depthwise w.",
        attrs=TrainConv2dWeightAttrs,
        infer=infer_weight,
        ref=update_weight,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=cost_weight,
        examples=tuple(
            _weight_example(c, pair, rounding)
            for index, c in enumerate(replace(c) for c in CASES)
            for pair in (True, False)
            for rounding in (("stochastic", "nearest") if index == 0 else ("stochastic",))
        ),
    )
)

define(
    Op(
        name="train_conv2d_bias",
        doc="b int32 after one step: b + floor(u - db * (rate * factor[O] * 2^e)) within int32, db the gradient's "
        "sum over pixels. " + _SHARED + "u as in train_conv2d_weight.",
        attrs=TrainConv2dBiasAttrs,
        infer=infer_bias,
        ref=update_bias,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=cost_bias,
        examples=(
            _bias_example("pair, stochastic", (1, 4, 4, 10), True, "stochastic"),
            _bias_example("pair, nearest, batch", (2, 3, 3, 5), True, "nearest"),
            _bias_example("pair, many pixels", (1, 21, 25, 16), True, "stochastic"),
            _bias_example("float, stochastic", (1, 4, 5, 7), False, "stochastic"),
            _bias_example("rate beyond all bounds", (1, 2, 2, 6), False, "nearest", 1e38),
        ),
    )
)
