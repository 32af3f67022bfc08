"""Integer parameters that learn along float32 sums: gradients of trained_conv2d added to a sum in place, the velocity
of momentum, and the step of an integer along a sum.

A sum counts in integer steps: the gradient to the parameter, times factor * 2**e, as updates at once have it
(train_conv.py). So does a velocity, whose step is the rate times it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.block_float import Numbers, Rounding, is_pair, noise, q8_8, require_scalar
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Arrays, Cost, Example, Op, Types, define, elementwise_cost, require
from edgec.ops.gradient import NO_SECOND, PLAIN, random_gradient, random_mask
from edgec.ops.train_cases import CASES, Case, weights
from edgec.ops.train_conv import (
    Behind,
    bias_gradient,
    by_output,
    masked,
    moved_bias,
    moved_weight,
    random_decay,
    rates,
    require_bias_gradient,
    require_decay,
    require_gradient,
    summed_weight,
)

Q8_8_STEP = 2.0**-8  # of the weight


@dataclass(frozen=True, slots=True)
class SumConv2dWeightAttrs(Attrs):
    """The convolution's fields; `zero` of its input. `keep` times the old sum stays. `decays`: the decay of each output
    times the weight is added, of weights in Q8.8 with `fractions`."""

    zero: int
    keep: float = 1.0
    decays: bool = False
    fractions: bool = False
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution without its clamp."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class SumConv2dBiasAttrs(Attrs):
    """`keep` and `decays` as in SumConv2dWeightAttrs."""

    keep: float = 1.0
    decays: bool = False


@dataclass(frozen=True, slots=True)
class VelocityAttrs(Attrs):
    """`momentum` times the old velocity stays; `decays` and `fractions` as in SumConv2dWeightAttrs."""

    momentum: float
    decays: bool = False
    fractions: bool = False


@dataclass(frozen=True, slots=True)
class SgdIntegerAttrs(Attrs):
    """As TrainConv2dWeightAttrs, where the gradient is given."""

    salt: int
    seed: int
    rounding: Rounding = "stochastic"
    decays: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Inputs of a sum behind its share, by their positions; None: there is none."""

    parameter: int | None
    decay: int | None
    fraction: int | None
    idx: int | None
    count: int

    @staticmethod
    def of(first: int, count: int, decays: bool, fractions: bool) -> Sources:
        """`first`: of them, of `count` inputs; idx is the one that is left."""
        end = first + 2 * decays + fractions
        return Sources(
            first if decays else None,
            first + 1 if decays else None,
            first + 2 if fractions else None,
            end if count > end else None,
            end,
        )


def sum_sources(attrs: SumConv2dWeightAttrs, count: int, pair: bool) -> Sources:
    """What follows the share of a sum_conv2d_weight with `count` inputs."""
    return Sources.of(7 if pair else 6, count, attrs.decays, attrs.fractions)


def _require_sources(types: Types, found: Sources, dtype: DType) -> None:
    """Raise TypeRule unless parameter, decay and fraction are like the sum, which is input 0."""
    total = types[0]
    if found.parameter is not None and found.decay is not None:
        w, decay = types[found.parameter], types[found.decay]
        require((w.shape, w.dtype) == (total.shape, dtype), f"the parameter is {dtype.value}, like the sum")
        require((decay.shape, decay.dtype) == (total.shape[:1], total.dtype), "decay is one an output")
    require(found.fraction is None or found.decay is not None, "only a decay reads fractions")
    if found.fraction is not None:
        t = types[found.fraction]
        require((t.shape, t.dtype) == (total.shape, DType.I8), "the fraction is i8, like the sum")


def infer_weight(attrs: SumConv2dWeightAttrs, types: Types) -> Types:
    """sum f32[O,R,S,k], x[N,H,W,k*groups], q, e | g, mask, factor f32[O], share f32[1] (, w i8 and decay f32[O])
    (, fraction i8) (, idx) -> the new sum. idx as of train_conv2d_weight."""
    require(len(types) >= 3, "takes a sum, x and a gradient")
    pair = is_pair(types, 2)
    at = 4 if pair else 3
    found = sum_sources(attrs, len(types), pair)
    require(found.count <= len(types) <= found.count + 1, f"takes {found.count} inputs, and optionally idx")
    require_gradient(attrs, types, at, None if found.idx is None else types[found.idx])
    require(types[0].dtype is types[at + 1].dtype, "the sum is float, like factor")
    require_scalar(types[at + 2], types[0].dtype, "share")
    _require_sources(types, found, DType.I8)
    return (types[0],)


def infer_bias(attrs: SumConv2dBiasAttrs, types: Types) -> Types:
    """sum f32[O], q[...,O], e | g, mask, factor f32[O], share f32[1] (, b i32[O] and decay f32[O]) -> the new sum."""
    require(len(types) >= 2, "takes a sum and a gradient")
    at = 3 if is_pair(types, 1) else 2
    found = Sources.of(at + 3, len(types), attrs.decays, False)
    require(len(types) == found.count, f"takes {found.count} inputs")
    require_bias_gradient(types, at)
    require(types[0].dtype is types[at + 1].dtype, "the sum is float, like factor")
    require_scalar(types[at + 2], types[0].dtype, "share")
    _require_sources(types, found, DType.I32)
    return (types[0],)


def sum_weight(attrs: SumConv2dWeightAttrs, inputs: Arrays) -> Arrays:
    """keep * sum + gradient * (share * factor * 2**e) + decay * w; where that is not finite or the share is 0, sum."""
    pair = inputs[2].dtype == np.int8
    at = 4 if pair else 3
    factor, share = inputs[at + 1 : at + 3]
    found = sum_sources(attrs, len(inputs), pair)
    scale = by_output(rates(share, factor, inputs[3] if pair else None))
    gradient = summed_weight(attrs, inputs, found.idx)
    return _summed(attrs.keep, inputs, gradient, scale, found, share)


def sum_bias(attrs: SumConv2dBiasAttrs, inputs: Arrays) -> Arrays:
    """As of weights."""
    pair = inputs[1].dtype == np.int8
    at = 3 if pair else 2
    factor, share = inputs[at + 1 : at + 3]
    gradient = bias_gradient(masked(inputs[1], inputs[at]))
    found = Sources.of(at + 3, len(inputs), attrs.decays, False)
    return _summed(
        attrs.keep, inputs, gradient, rates(share, factor, inputs[2] if pair else None), found, share
    )


def _summed(
    keep: float, inputs: Arrays, gradient: Numbers, scale: Numbers, found: Sources, share: Array
) -> Arrays:
    total: Numbers = inputs[0]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        made = total.dtype.type(keep) * total + gradient.astype(scale.dtype) * scale
        made = _decayed(made, inputs, found)
    return (np.where(np.isfinite(made) & (share != 0), made, total),)


def _decayed(made: Numbers, inputs: Arrays, found: Sources) -> Numbers:
    """`made` + decay * w, where there is a decay."""
    if found.parameter is None or found.decay is None:
        return made
    w, decay = inputs[found.parameter], inputs[found.decay]
    real = w.astype(made.dtype)
    if found.fraction is not None:
        real = q8_8(w, inputs[found.fraction]).astype(made.dtype) * made.dtype.type(Q8_8_STEP)
    pulled: Numbers = np.multiply(by_output(decay) if w.ndim == 4 else decay, real)
    return np.add(made, pulled)


def infer_velocity(attrs: VelocityAttrs, types: Types) -> Types:
    """v f32[O,...], sum f32 like v (, w i8 or i32 and decay f32[O]) (, fraction i8) -> the new v."""
    found = Sources.of(2, len(types), attrs.decays, attrs.fractions)
    require(len(types) == found.count, f"takes {found.count} inputs")
    v, total = types[:2]
    require(
        v.dtype.is_float and (v.shape, v.dtype) == (total.shape, total.dtype), "v and sum are float, alike"
    )
    _require_sources(types, found, DType.I8 if len(v.shape) == 4 else DType.I32)
    return (v,)


def velocity(attrs: VelocityAttrs, inputs: Arrays) -> Arrays:
    """(momentum * v + sum) + decay * w; v where that is not finite."""
    v: Numbers = inputs[0]
    found = Sources.of(2, len(inputs), attrs.decays, attrs.fractions)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        made = _decayed(v.dtype.type(attrs.momentum) * v + inputs[1], inputs, found)
    return (np.where(np.isfinite(made), made, v),)


def step_inputs(attrs: SgdIntegerAttrs, count: int) -> Behind:
    """What follows the step's number of an sgd_integer."""
    return Behind.of(4, count, attrs.rounding == "q8.8", attrs.decays)


def infer_step(attrs: SgdIntegerAttrs, types: Types) -> Types:
    """w i8[O,R,S,k] or i32[O], sum f32 like w, rate f32[1], step i32[1] (, fraction i8 like w) (, decay f32[O])
    -> the new w (, fraction)."""
    behind = step_inputs(attrs, len(types))
    require(len(types) == behind.count, f"takes {behind.count} inputs")
    w, total, rate, step = types[:4]
    require((w.dtype, len(w.shape)) in ((DType.I8, 4), (DType.I32, 1)), "w is i8[O,R,S,k] or i32[O]")
    require(total.dtype.is_float and total.shape == w.shape, "the sum is float, like w")
    require_scalar(rate, total.dtype, "rate")
    require_scalar(step, DType.I32, "step")
    require_decay(types, behind, Type(w.shape[:1], total.dtype))
    if behind.fraction is None:
        return (w,)
    fraction = types[behind.fraction]
    require(w.dtype is DType.I8, "weights alone are kept in Q8.8")
    require((fraction.shape, fraction.dtype) == (w.shape, DType.I8), "the fraction is i8, like w")
    return w, fraction


def step(attrs: SgdIntegerAttrs, inputs: Arrays) -> Arrays:
    """w + floor(u - (sum * rate + (rate * decay) * w)), saturated, as train_conv2d_weight and _bias do it."""
    w, total, rate, number = inputs[:4]
    behind = step_inputs(attrs, len(inputs))
    u = noise(attrs.rounding, w.size, int(number[0]), attrs.salt, attrs.seed).reshape(w.shape)
    pull = None if behind.decay is None else rates(rate, inputs[behind.decay], None)
    if w.dtype == np.int32:
        return moved_bias(w, total, rate, pull, u)
    fraction = None if behind.fraction is None else inputs[behind.fraction]
    return moved_weight(w, fraction, total, rate, None if pull is None else by_output(pull), u)


def _cost_weight(attrs: SumConv2dWeightAttrs, inputs: Types, outputs: Types) -> Cost:
    g = inputs[2]
    return Cost(g.size // g.dims[3] * inputs[0].size, 4 * inputs[0].size)


def _cost_bias(attrs: SumConv2dBiasAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, inputs[1].size + 4 * inputs[0].size)


Make = Callable[[np.random.Generator], Arrays]


def _floats(rng: np.random.Generator, shape: tuple[int, ...], size: float = 1.0) -> Array:
    return (size * rng.normal(size=shape)).astype(np.float32)


def _int8(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _weight_example(case: Case, pair: bool, keep: float, decays: bool, fractions: bool) -> Example:
    a = case.forward
    attrs = SumConv2dWeightAttrs(-3, keep, decays, fractions, a.stride, a.pad, a.dilation, a.groups)

    def make(rng: np.random.Generator) -> Arrays:
        shape, total = case.trained, _floats(rng, case.trained)
        total.reshape(-1)[1] = np.float32(3e38)  # stays, where the sum would leave float32
        given = case.gradient(rng, pair)
        factor = rng.uniform(0.0, 0.6, shape[0]).astype(np.float32)
        sources = (weights(rng, shape), random_decay(rng, shape[0])) if decays else ()
        fraction = (_int8(rng, shape),) if fractions else ()
        return (total, *given, factor, np.array([0.25], np.float32), *sources, *fraction, *case.chosen())

    label = f"{case.label}, {'pair' if pair else 'float'}{', decays' * decays}{', fractions' * fractions}"
    return Example(label, attrs, make, None)


def _bias_example(label: str, shape: tuple[int, ...], pair: bool, share: float, decays: bool) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        total, factor = _floats(rng, shape[-1:]), rng.uniform(0.0, 90.0, shape[-1]).astype(np.float32)
        b = rng.integers(-(2**31), 2**31, shape[-1]).astype(np.int32)
        sources = (b, random_decay(rng, shape[-1])) if decays else ()
        given = (*random_gradient(rng, shape, pair), random_mask(rng, shape))
        return (total, *given, factor, np.array([share], np.float32), *sources)

    return Example(label, SumConv2dBiasAttrs(0.75, decays), make, None)


def _velocity_example(label: str, attrs: VelocityAttrs, shape: tuple[int, ...]) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        v, total = _floats(rng, shape), _floats(rng, shape)
        total.reshape(-1)[0] = np.inf
        bias = rng.integers(-(2**31), 2**31, shape).astype(np.int32)
        w = weights(rng, shape) if len(shape) == 4 else bias
        sources = (w, random_decay(rng, shape[0])) if attrs.decays else ()
        return (v, total, *sources, *((_int8(rng, shape),) if attrs.fractions else ()))

    def torch(t: Any, v: Any, total: Any, *sources: Any) -> Any:
        made = attrs.momentum * v + total
        if sources:
            w, decay, *fraction = sources
            real = w + fraction[0] / 256.0 if fraction else w
            made = made + decay.reshape(-1, *(1,) * (v.ndim - 1)) * real
        return t.where(t.isfinite(made), made, v)

    return Example(label, attrs, make, torch)


def _step_example(label: str, attrs: SgdIntegerAttrs, shape: tuple[int, ...], rate: float) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        w = weights(rng, shape) if len(shape) == 4 else rng.integers(-900, 900, shape).astype(np.int32)
        w.reshape(-1)[0] = 127 if len(shape) == 4 else 2**31 - 1
        total = _floats(rng, shape, 20.0)
        total.reshape(-1)[-3:] = (np.nan, np.inf, -np.inf)
        fraction = (_int8(rng, shape),) if attrs.rounding == "q8.8" else ()
        decay = (random_decay(rng, shape[0]),) if attrs.decays else ()
        return (w, total, np.array([rate], np.float32), np.array([7], np.int32), *fraction, *decay)

    return Example(label, attrs, make, None)


_SHAPE = (5, 3, 1, 7)
_SHARED = (
    "q i8[N,P,Q,O] and e i32[1], or g f32, is the gradient to the output's steps, counted where its mask is 1. With "
    "decays also + decay[O] * the parameter, with fractions of (256 w + fraction i8) / 256. "
)

define(
    Op(
        name="sum_conv2d_weight",
        doc="keep * sum f32 + dw * (share * factor[O] * 2^e), dw as in train_conv2d_weight; elements that would not be "
        "finite stay, share 0 changes nothing. " + _SHARED + "idx as in train_conv2d_weight.",
        attrs=SumConv2dWeightAttrs,
        infer=infer_weight,
        ref=sum_weight,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=_cost_weight,
        examples=tuple(
            _weight_example(case, pair, keep, decays, fractions)
            for case in (CASES[0], CASES[3], CASES[6], CASES[7])
            for pair in (True, False)
            for keep, decays, fractions in ((1.0, False, False), (0.75, True, False), (0.5, True, True))
        ),
    )
)

define(
    Op(
        name="sum_conv2d_bias",
        doc="keep * sum f32 + db * (share * factor[O] * 2^e), db as in train_conv2d_bias; elements that would not be "
        "finite stay, share 0 changes nothing. " + _SHARED.strip(),
        attrs=SumConv2dBiasAttrs,
        infer=infer_bias,
        ref=sum_bias,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=_cost_bias,
        examples=(
            _bias_example("pair", (1, 4, 4, 10), True, 0.5, False),
            _bias_example("pair, decays", (2, 3, 3, 5), True, 1.0, True),
            _bias_example("float", (1, 4, 5, 7), False, 1.0, False),
            _bias_example("float, decays", (1, 4, 5, 7), False, 0.25, True),
            _bias_example("share 0", (1, 2, 2, 6), True, 0.0, True),
        ),
    )
)

define(
    Op(
        name="velocity",
        doc="momentum * v + sum, float32; with decays also + decay[O] * w of int8 weights (with fractions of (256 w + "
        "fraction i8) / 256) or int32 biases. Elements that would not be finite stay.",
        attrs=VelocityAttrs,
        infer=infer_velocity,
        ref=velocity,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=elementwise_cost,
        examples=(
            _velocity_example("weights", VelocityAttrs(0.5), _SHAPE),
            _velocity_example("weights, decays", VelocityAttrs(0.9, True), _SHAPE),
            _velocity_example("weights in Q8.8, decays", VelocityAttrs(0.9, True, True), _SHAPE),
            _velocity_example("biases", VelocityAttrs(0.75), (9,)),
            _velocity_example("biases, decays", VelocityAttrs(0.75, True), (9,)),
        ),
    )
)

define(
    Op(
        name="sgd_integer",
        doc="w i8 or i32 + floor(u - sum f32 * rate), saturated; u, decays and q8.8 as in train_conv2d_weight. "
        "Elements whose step is not finite stay.",
        attrs=SgdIntegerAttrs,
        infer=infer_step,
        ref=step,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=elementwise_cost,
        examples=(
            _step_example("weights", SgdIntegerAttrs(3, 4), _SHAPE, 0.1),
            _step_example("weights, nearest, decays", SgdIntegerAttrs(3, 4, "nearest", True), _SHAPE, 0.1),
            _step_example("weights in Q8.8", SgdIntegerAttrs(5, -4, "q8.8"), _SHAPE, 0.1),
            _step_example("weights in Q8.8, decays", SgdIntegerAttrs(5, -4, "q8.8", True), _SHAPE, 0.1),
            _step_example("biases", SgdIntegerAttrs(6, 4), (11,), 2.0),
            _step_example("biases, decays", SgdIntegerAttrs(6, 4, "stochastic", True), (11,), 0.5),
            _step_example("rate 0", SgdIntegerAttrs(3, 4, "q8.8", True), _SHAPE, 0.0),
        ),
    )
)
