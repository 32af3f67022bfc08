"""Backward ops of trained_conv2d: the gradient to its input, and updates of its weight and bias in place.

q * 2**e (or g, float) is the gradient of the output in its integer steps; h = q where the mask is 1, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.block_float import (
    FRACTION,
    Numbers,
    Rounding,
    block_float,
    integer_step,
    is_pair,
    noise,
    power_of_two,
    q8_8,
    require_mask,
    require_scalar,
    split_q8_8,
    unpack_mask,
)
from edgec.ops.conv2d import Conv2dAttrs, out_size, windows
from edgec.ops.define import Arrays, Cost, Example, Op, Types, define, require
from edgec.ops.gradient import NO_SECOND, PLAIN, random_gradient, random_mask
from edgec.ops.train_cases import CASES, Case, weights
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
    """The convolution's fields; `zero` of its input; `salt` makes the noise of this parameter its own. `decays`: an
    input holds the weight decay of each output."""

    zero: int
    salt: int
    seed: int
    rounding: Rounding = "stochastic"
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    decays: bool = False

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution without its clamp."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class TrainConv2dBiasAttrs(Attrs):
    """`salt` makes the noise of this parameter its own. `decays`: an input holds the weight decay of each output."""

    salt: int
    seed: int
    rounding: Rounding = "stochastic"
    decays: bool = False


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
    require_sizes(attrs.size, (r, s), g.dims[1:3], attrs)
    if len(types) == at + 5:
        require_columns(w, attrs.groups, *types[at + 3 :])
    dx = Type((n, *attrs.size, i * attrs.groups), g.dtype)
    return (dx, Type((1,), DType.I32)) if pair else (dx,)


class Windows(Protocol):
    """How windows lie on a map, as attributes of convolutions say it."""

    @property
    def stride(self) -> tuple[int, int]: ...

    @property
    def pad(self) -> tuple[int, int, int, int]: ...

    @property
    def dilation(self) -> tuple[int, int]: ...

    @property
    def groups(self) -> int: ...


def require_sizes(
    size: tuple[int, ...], kernel: tuple[int, int], out: tuple[int, ...], attrs: Windows
) -> None:
    """Raise TypeRule unless windows of `kernel` on a map of `size` give rows and columns `out`."""
    for axis in range(2):
        before, after = attrs.pad[2 * axis : 2 * axis + 2]
        rows = out_size(size[axis], kernel[axis], attrs.stride[axis], before, after, attrs.dilation[axis])
        require(rows == out[axis], f"the convolution has {rows} rows or columns, the gradient {out[axis]}")


def masked(gradient: Array, mask: Array) -> Array:
    """h: the gradient where the mask is 1."""
    return np.where(unpack_mask(mask, gradient.shape), gradient, np.zeros((), gradient.dtype))


def input_grad(attrs: TrainedConv2dInputGradAttrs, inputs: Arrays) -> Arrays:
    """dx = sum over taps and outputs of h * eff * w. Float sums run over r, then s, then the outputs of a group."""
    pair = inputs[0].dtype == np.int8
    at = 2 if pair else 1
    h = masked(inputs[0], inputs[at])
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


@dataclass(frozen=True, slots=True)
class Behind:
    """Inputs of an update behind the step's number, by their positions; None: there is none."""

    fraction: int | None
    decay: int | None
    idx: int | None
    count: int

    @staticmethod
    def of(first: int, count: int, fraction: bool, decays: bool) -> Behind:
        """`first`: of them, of `count` inputs; idx is the one that is left."""
        decay = first + fraction
        end = decay + decays
        return Behind(
            first if fraction else None, decay if decays else None, end if count > end else None, end
        )


def weight_inputs(attrs: TrainConv2dWeightAttrs, count: int, pair: bool) -> Behind:
    """What follows the step's number of a train_conv2d_weight with `count` inputs."""
    return Behind.of(8 if pair else 7, count, attrs.rounding == "q8.8", attrs.decays)


def infer_weight(attrs: TrainConv2dWeightAttrs, types: Types) -> Types:
    """w[O,R,S,k], x[N,H,W,k*groups], q, e | g, mask, factor f32[O], rate f32[1], step i32[1] (, fraction i8 like w)
    (, decay f32[O]) (, idx) -> the new w (, fraction).

    With idx i32[k] (depthwise) w is [k,R,S,1], x has its k channels and factor is f32[k].
    """
    require(len(types) >= 3, "takes w, x and a gradient")
    w = types[0]
    pair = is_pair(types, 2)
    at = 4 if pair else 3
    behind = weight_inputs(attrs, len(types), pair)
    require(
        behind.count <= len(types) <= behind.count + 1,
        f"takes {behind.count} inputs: w, x, a gradient, mask, factor, rate, step; and optionally idx",
    )
    factor, rate, step = types[at + 1 : at + 4]
    require(w.dtype is DType.I8, "w is int8")
    require_gradient(attrs, types, at, None if behind.idx is None else types[behind.idx])
    require_scalar(rate, factor.dtype, "rate")
    require_scalar(step, DType.I32, "step")
    require_decay(types, behind, factor)
    if behind.fraction is None:
        return (w,)
    fraction = types[behind.fraction]
    require((fraction.shape, fraction.dtype) == (w.shape, DType.I8), "the fraction is i8, like w")
    return w, fraction


def require_gradient(attrs: Windows, types: Types, at: int, idx: Type | None) -> None:
    """Raise TypeRule unless w (or a sum like it), x, the gradient, its mask at input `at` and the factor behind it
    belong together; `idx`: of trained channels of a depthwise w."""
    (w, x, g), (mask, factor) = types[:3], types[at : at + 2]
    require(x.dtype is DType.I8, "x is int8")
    require([len(t.shape) for t in (w, x, g)] == [4, 4, 4], "w, x and the gradient have 4 axes")
    require_mask(mask, g)
    o, r, s, i = w.dims
    groups = o if idx is not None else attrs.groups
    require(x.dims[3] == i * groups, f"x has {x.dims[3]} channels, w takes {i} in each of {groups} groups")
    require(idx is not None or g.dims[3] == o, f"the gradient has {g.dims[3]} channels, w {o} outputs")
    if idx is not None:
        require(by_rows(w, attrs.groups), "idx belongs to depthwise weights")
        require((idx.shape, idx.dtype) == ((o,), DType.I32), "idx is i32[k]")
    require(factor.shape == (o,) and factor.dtype.is_float, "factor is float, one an output")
    require_sizes(x.dims[1:3], (r, s), g.dims[1:3], attrs)


def require_decay(types: Types, behind: Behind, factor: Type) -> None:
    """Raise TypeRule unless the decay, where there is one, is like the factor."""
    if behind.decay is not None:
        t = types[behind.decay]
        require((t.shape, t.dtype) == (factor.shape, factor.dtype), "decay is float, one an output")


class Correlation(Windows, Protocol):
    """Windows on a map with a zero point."""

    @property
    def zero(self) -> int: ...

    @property
    def forward(self) -> Conv2dAttrs: ...


def weight_gradient(attrs: Correlation, x: Numbers, h: Numbers, dims: tuple[int, ...]) -> Numbers:
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


def summed_weight(attrs: Correlation, inputs: Arrays, idx: int | None) -> Numbers:
    """The weight gradient of inputs that begin with w (or a sum like it), x, the gradient and its mask."""
    at = 4 if inputs[2].dtype == np.int8 else 3
    h = masked(inputs[2], inputs[at])
    if idx is not None:
        h = h[..., np.asarray(inputs[idx], np.int64)]
    return weight_gradient(attrs, inputs[1], h, inputs[0].shape)


def update_weight(attrs: TrainConv2dWeightAttrs, inputs: Arrays) -> Arrays:
    """w + floor(u - gradient * (rate * factor * 2**e)), within +-127; the gradient's step is added to that of the
    decay, (rate * decay) * w. With q8.8 the same of 256 w + fraction, by 256 times the step."""
    w, pair = inputs[0], inputs[2].dtype == np.int8
    at = 4 if pair else 3
    factor, rate, step = inputs[at + 1 : at + 4]
    behind = weight_inputs(attrs, len(inputs), pair)
    scale = by_output(rates(rate, factor, inputs[3] if pair else None))
    pull = None if behind.decay is None else by_output(rates(rate, inputs[behind.decay], None))
    gradient = summed_weight(attrs, inputs, behind.idx)
    u = noise(attrs.rounding, w.size, int(step[0]), attrs.salt, attrs.seed).reshape(w.shape)
    fraction = None if behind.fraction is None else inputs[behind.fraction]
    return moved_weight(w, fraction, gradient, scale, pull, u)


def by_output(numbers: Array) -> Array:
    """[O] as [O,1,1,1]."""
    return numbers[:, None, None, None]


def moved_weight(
    w: Array, fraction: Array | None, gradient: Numbers, scale: Numbers, pull: Numbers | None, u: Numbers
) -> Arrays:
    """(w,), or (w, fraction), after floor(u - (gradient * scale + pull * w)) within +-127; in Q8.8 by 1/256."""
    old = w.astype(np.int64) if fraction is None else q8_8(w, fraction)
    if fraction is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.multiply(scale, scale.dtype.type(FRACTION))
    if pull is not None:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            pull = np.multiply(pull, old.astype(pull.dtype))
    moved = old + integer_step(gradient, scale, u, pull=pull)
    if fraction is None:
        return (np.clip(moved, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8),)
    limit = WEIGHT_LIMIT * FRACTION
    return split_q8_8(np.clip(moved, -limit, limit))


def moved_bias(b: Array, gradient: Numbers, scale: Numbers, pull: Numbers | None, u: Numbers) -> Arrays:
    """(b,) after floor(u - (gradient * scale + pull * b)), within int32."""
    if pull is not None:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            pull = np.multiply(pull, b.astype(pull.dtype))
    moved = b.astype(np.int64) + integer_step(gradient, scale, u, pull=pull)
    return (np.clip(moved, -(2**31), 2**31 - 1).astype(np.int32),)


def rates(rate: Array, factor: Array, exponent: Array | None) -> Array:
    """(rate * factor) * 2**e, one rounding each."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found: Array = np.multiply(rate, factor)
        if exponent is not None:
            found = np.multiply(found, power_of_two(int(exponent[0])).astype(found.dtype))
    return found


def cost_weight(attrs: TrainConv2dWeightAttrs, inputs: Types, outputs: Types) -> Cost:
    w = inputs[0]
    return Cost(inputs[2].size // inputs[2].dims[3] * w.size, 4 * w.size)


def bias_inputs(attrs: TrainConv2dBiasAttrs, count: int, pair: bool) -> Behind:
    """What follows the step's number of a train_conv2d_bias."""
    return Behind.of(7 if pair else 6, count, False, attrs.decays)


def infer_bias(attrs: TrainConv2dBiasAttrs, types: Types) -> Types:
    """b i32[O], q[...,O], e | g, mask, factor f32[O], rate f32[1], step i32[1] (, decay f32[O]) -> the new b."""
    require(len(types) >= 2, "takes b and a gradient")
    pair = is_pair(types, 1)
    at = 3 if pair else 2
    behind = bias_inputs(attrs, len(types), pair)
    require(
        len(types) == behind.count, f"takes {behind.count} inputs: b, a gradient, mask, factor, rate and step"
    )
    b, factor, rate, step = types[0], *types[at + 1 : at + 4]
    require(b.dtype is DType.I32, "b is i32, one an output")
    require_bias_gradient(types, at)
    require_scalar(rate, factor.dtype, "rate")
    require_scalar(step, DType.I32, "step")
    require_decay(types, behind, factor)
    return (b,)


def require_bias_gradient(types: Types, at: int) -> None:
    """Raise TypeRule unless b (or a sum like it), the gradient, its mask at input `at` and the factor behind it
    belong together."""
    (b, g), (mask, factor) = types[:2], types[at : at + 2]
    require(b.shape == g.shape[-1:], "b has one element an output")
    require_mask(mask, g)
    require(factor.shape == b.shape and factor.dtype.is_float, "factor is float, one an output")


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
    """b + floor(u - gradient * (rate * factor * 2**e)), within int32; decay as of weights."""
    b, pair = inputs[0], inputs[1].dtype == np.int8
    at = 3 if pair else 2
    gradient = bias_gradient(masked(inputs[1], inputs[at]))
    factor, rate, step = inputs[at + 1 : at + 4]
    behind = bias_inputs(attrs, len(inputs), pair)
    pull = None if behind.decay is None else rates(rate, inputs[behind.decay], None)
    u = noise(attrs.rounding, b.size, int(step[0]), attrs.salt, attrs.seed)
    return moved_bias(b, gradient, rates(rate, factor, inputs[2] if pair else None), pull, u)


def cost_bias(attrs: TrainConv2dBiasAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, inputs[1].size + 4 * inputs[0].size)


def random_decay(rng: np.random.Generator, outputs: int) -> Array:
    """Weight decays, one of them 0."""
    decay = rng.uniform(0.0, 2.0, outputs).astype(np.float32)
    decay[0] = 0.0
    return decay


def _input_grad_example(case: Case, pair: bool) -> Example:
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
        return (*g, random_mask(rng, case.out), weights(rng, case.w), eff, *case.columns(rng))

    return Example(f"{case.label}, {'pair' if pair else 'float'}", attrs, make, None)


def _weight_example(case: Case, pair: bool, rounding: Rounding, decays: bool = False) -> Example:
    a = case.forward
    attrs = TrainConv2dWeightAttrs(-3, 5, 17, rounding, a.stride, a.pad, a.dilation, a.groups, decays)

    def make(rng: np.random.Generator) -> Arrays:
        shape = case.trained
        w, given = weights(rng, shape), case.gradient(rng, pair)
        factor = rng.uniform(0.0, 0.6, shape[0]).astype(np.float32)
        rest = factor, np.array([0.02], np.float32), np.array([12345], np.int32)
        fraction = (rng.integers(-128, 128, shape).astype(np.int8),) if rounding == "q8.8" else ()
        decay = (random_decay(rng, shape[0]),) if decays else ()
        return (w, *given, *rest, *fraction, *decay, *case.chosen())

    label = f"{case.label}, {'pair' if pair else 'float'}, {rounding}{', decays' * decays}"
    return Example(label, attrs, make, None)


def _bias_example(
    label: str,
    shape: tuple[int, ...],
    pair: bool,
    rounding: Rounding,
    rate: float = 0.5,
    decays: bool = False,
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        b = rng.integers(-(2**31), 2**31, shape[-1]).astype(np.int32)
        b[0], b[-1] = 2**31 - 1, -(2**31)
        factor = rng.uniform(0.0, 90.0, shape[-1]).astype(np.float32)
        rest = factor, np.array([rate], np.float32), np.array([-7], np.int32)
        decay = (random_decay(rng, shape[-1]),) if decays else ()
        return (b, *random_gradient(rng, shape, pair), random_mask(rng, shape), *rest, *decay)

    return Example(label, TrainConv2dBiasAttrs(9, -4, rounding, decays), make, None)


_STATES: tuple[tuple[Rounding, bool], ...] = (("stochastic", True), ("q8.8", False), ("q8.8", True))
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
        "seed, word element % 4. x holds the trained channels alone; idx i32[k] are those of a depthwise w. With "
        "decays, (rate * decay[O]) * w is added to what u is less. Rounding q8.8: the same of 256 w + fraction i8, by "
        "256 times the step, within 256 * +-127; the new w is its rounded upper byte.",
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
        )
        + tuple(
            _weight_example(case, pair, rounding, decays)
            for case in (CASES[0], CASES[1], CASES[3], CASES[6])
            for pair in (True, False)
            for rounding, decays in _STATES
        ),
    )
)

define(
    Op(
        name="train_conv2d_bias",
        doc="b int32 after one step: b + floor(u - db * (rate * factor[O] * 2^e)) within int32, db the gradient's "
        "sum over pixels. " + _SHARED + "u and decays as in train_conv2d_weight.",
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
            _bias_example("pair, decays", (1, 4, 4, 8), True, "stochastic", 0.25, True),
            _bias_example("float, decays", (2, 2, 4, 5), False, "nearest", 0.25, True),
        ),
    )
)
