"""Optimisers: one step on one parameter, its rows of state in, their next content out.

`rate` is [1]: 0 leaves everything as it is, which is how a step whose loss is not finite is left out. An element
whose next content would not be finite stays as it is, its state too. Formulas are PyTorch's (torch.optim.SGD, Adam);
every float32 operation is one rounding in the order written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.ir import NO_ATTRS, Attrs, DType, Type
from edgec.ops.define import Arrays, Example, NoGrad, NoQuant, Op, Types, define, elementwise_cost, require

Numbers = npt.NDArray[Any]
NO_GRADIENT = NoGrad("a step of an optimiser is not differentiated")
IN_FLOAT = NoQuant("float parameters are updated in float")


@dataclass(frozen=True, slots=True)
class SgdAttrs(Attrs):
    """`weight_decay` times w is added to the gradient."""

    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class SgdMomentumAttrs(Attrs):
    """The step is momentum times the last one, plus the gradient and `weight_decay` times w."""

    momentum: float = 0.9
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class AdamAttrs(Attrs):
    """Decay of the mean and of the mean square, what is added to the root, and the weight decay (added to the
    gradient)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


def _same(types: Types, names: tuple[str, ...]) -> None:
    """Operands `names` have the shape and dtype of the first."""
    require(types[0].dtype.is_float, "parameters are float")
    for t, name in zip(types[1:], names, strict=True):
        require((t.shape, t.dtype) == (types[0].shape, types[0].dtype), f"{name} is not like the parameter")


def _one(t: Type, name: str, dtype: DType) -> None:
    require((t.shape, t.dtype) == ((1,), dtype), f"{name} is {dtype.value}[1]")


def sgd_infer(attrs: Attrs, types: Types) -> Types:
    """w, g, rate[1] -> w."""
    require(len(types) == 3, "takes w, g and rate")
    _same(types[:2], ("g",))
    _one(types[2], "rate", types[0].dtype)
    return (types[0],)


def sgd_momentum_infer(attrs: Attrs, types: Types) -> Types:
    """w, g, rate[1], m -> w, m."""
    require(len(types) == 4, "takes w, g, rate and m")
    _same((types[0], types[1], types[3]), ("g", "m"))
    _one(types[2], "rate", types[0].dtype)
    return types[0], types[0]


def adam_infer(attrs: Attrs, types: Types) -> Types:
    """w, g, rate[1], m, v, step i32[1] -> w, m, v."""
    require(len(types) == 6, "takes w, g, rate, m, v and step")
    _same((types[0], types[1], *types[3:5]), ("g", "m", "v"))
    _one(types[2], "rate", types[0].dtype)
    _one(types[5], "step", DType.I32)
    return types[0], types[0], types[0]


def _decayed(w: Numbers, g: Numbers, weight_decay: float) -> Numbers:
    return g + w.dtype.type(weight_decay) * w if weight_decay else g


def _kept(rate: Numbers, old: tuple[Numbers, ...], new: tuple[Numbers, ...]) -> Arrays:
    """`new` where all of it is finite and the rate is not 0, else `old`."""
    good = np.all([np.isfinite(x) for x in new], axis=0) & (rate != 0)
    return tuple(np.where(good, n, o) for n, o in zip(new, old, strict=True))


def sgd(attrs: SgdAttrs, inputs: Arrays) -> Arrays:
    """w - rate (g + weight_decay w)."""
    given: tuple[Numbers, ...] = inputs
    w, g, rate = given
    with np.errstate(invalid="ignore", over="ignore"):
        return _kept(rate, (w,), (w - rate * _decayed(w, g, attrs.weight_decay),))


def sgd_momentum(attrs: SgdMomentumAttrs, inputs: Arrays) -> Arrays:
    """m' = momentum m + (g + weight_decay w); w' = w - rate m'."""
    given: tuple[Numbers, ...] = inputs
    w, g, rate, m = given
    with np.errstate(invalid="ignore", over="ignore"):
        moved = w.dtype.type(attrs.momentum) * m + _decayed(w, g, attrs.weight_decay)
        return _kept(rate, (w, m), (w - rate * moved, moved))


def power(base: float, exponent: int) -> float:
    """base^exponent in float64 by squaring: the products that the C kernel makes."""
    result, square = 1.0, base
    while exponent > 0:
        if exponent & 1:
            result *= square
        square *= square
        exponent >>= 1
    return result


def two_floats(value: float) -> tuple[float, float]:
    """Two float32 numbers whose sum, in float64, is `value` to 48 bits: how a kernel's fields hold it."""
    high = float(np.float32(value))
    return high, float(np.float32(value - high))


def adam(attrs: AdamAttrs, inputs: Arrays) -> Arrays:
    """m' = m + (1 - b1)(g - m); v' = b2 v + (1 - b2) g^2; w' = w - rate c1 m' / (sqrt(v') c2 + eps), with
    c1 = 1 / (1 - b1^step) and c2 = 1 / sqrt(1 - b2^step)."""
    given: tuple[Numbers, ...] = inputs
    w, g, rate, m, v, step = given
    number, count = w.dtype.type, max(1, int(step[0]))
    c1 = number(1.0 / (1.0 - power(sum(two_floats(attrs.beta1)), count)))
    c2 = number(1.0 / np.sqrt(1.0 - power(sum(two_floats(attrs.beta2)), count)))
    with np.errstate(invalid="ignore", over="ignore"):
        d = _decayed(w, g, attrs.weight_decay)
        mean = m + number(1.0 - attrs.beta1) * (d - m)
        square = number(attrs.beta2) * v + number(1.0 - attrs.beta2) * (d * d)
        moved = (rate * c1) * (mean / (np.sqrt(square) * c2 + number(attrs.eps)))
        return _kept(rate, (w, m, v), (w - moved, mean, square))


def accumulate(attrs: Attrs, inputs: Arrays) -> Arrays:
    """sum + factor g."""
    given: tuple[Numbers, ...] = inputs
    old, g, factor = given
    with np.errstate(invalid="ignore", over="ignore"):
        return _kept(factor, (old,), (old + factor * g,))


def when_finite_infer(attrs: Attrs, types: Types) -> Types:
    """x[1] of four bytes an element, loss[1] -> x's type."""
    require(len(types) == 2, "takes x and the loss")
    x, loss = types
    require(loss.shape == (1,) and loss.dtype.is_float, "the loss is a float [1]")
    require(x.shape == (1,) and x.dtype in (DType.F32, DType.F64, DType.I32), "x is f32[1] or i32[1]")
    return (x,)


def when_finite(attrs: Attrs, inputs: Arrays) -> Arrays:
    x, loss = inputs
    return (np.where(np.isfinite(loss), x, x.dtype.type(0)),)


def _make(states: int, step: int | None, shape: tuple[int, ...], rate: float) -> Callable[..., Arrays]:
    """w, g, rate and states (mean squares are positive) and, where given, the step. One gradient is not finite."""

    def make(rng: np.random.Generator) -> Arrays:
        w, g, *more = (rng.normal(size=shape).astype(np.float32) for _ in range(2 + states))
        more = [m if i == 0 else np.abs(m) for i, m in enumerate(more)]
        counted = (np.array([step], np.int32),) if step is not None else ()
        return (w, g, np.array([rate], np.float32), *more, *counted)

    return make


def _with_nan(make: Callable[..., Arrays]) -> Callable[..., Arrays]:
    def poisoned(rng: np.random.Generator) -> Arrays:
        inputs = make(rng)
        inputs[1].reshape(-1)[1] = np.nan
        return inputs

    return poisoned


def _torch_sgd(decay: float) -> Callable[..., Any]:
    def torch(t, w, g, rate):  # type: ignore[no-untyped-def]
        return w - rate * (g + decay * w)

    return torch


def _torch_momentum(attrs: SgdMomentumAttrs) -> Callable[..., Any]:
    def torch(t, w, g, rate, m):  # type: ignore[no-untyped-def]
        p = t.nn.Parameter(w.clone())
        p.grad = g.clone()
        one = t.optim.SGD([p], float(rate), attrs.momentum, weight_decay=attrs.weight_decay)
        one.state[p]["momentum_buffer"] = m.clone()
        one.step()
        return p.detach(), one.state[p]["momentum_buffer"]

    return torch


def _torch_adam(attrs: AdamAttrs) -> Callable[..., Any]:
    def torch(t, w, g, rate, m, v, step):  # type: ignore[no-untyped-def]
        p = t.nn.Parameter(w.clone())
        p.grad = g.clone()
        one = t.optim.Adam(
            [p], float(rate), (attrs.beta1, attrs.beta2), attrs.eps, weight_decay=attrs.weight_decay
        )
        one.state[p].update(step=t.tensor(float(step) - 1), exp_avg=m.clone(), exp_avg_sq=v.clone())
        one.step()
        return p.detach(), one.state[p]["exp_avg"], one.state[p]["exp_avg_sq"]

    return torch


DECAYED, STEEP, ADAM = SgdAttrs(0.25), SgdMomentumAttrs(0.5, 0.125), AdamAttrs(weight_decay=0.01)

define(
    Op(
        name="sgd",
        doc="w - rate (g + weight_decay w); elements that would not be finite stay, rate 0 changes nothing.",
        attrs=SgdAttrs,
        infer=sgd_infer,
        ref=sgd,
        vjp=NO_GRADIENT,
        quant=IN_FLOAT,
        cost=elementwise_cost,
        examples=(
            Example("plain", SgdAttrs(), _make(0, None, (3, 5), 0.1), _torch_sgd(0.0)),
            Example("decayed", DECAYED, _make(0, None, (2, 3, 3, 4), 0.01), _torch_sgd(0.25)),
            Example("one gradient is NaN", SgdAttrs(), _with_nan(_make(0, None, (7,), 0.1)), None),
            Example("rate 0", DECAYED, _make(0, None, (7,), 0.0), _torch_sgd(0.0)),
        ),
    )
)
define(
    Op(
        name="sgd_momentum",
        doc="m' = momentum m + g + weight_decay w, w' = w - rate m'; as sgd where that is not finite or rate is 0.",
        attrs=SgdMomentumAttrs,
        infer=sgd_momentum_infer,
        ref=sgd_momentum,
        vjp=NO_GRADIENT,
        quant=IN_FLOAT,
        cost=elementwise_cost,
        examples=(
            Example(
                "plain", SgdMomentumAttrs(), _make(1, None, (3, 5), 0.1), _torch_momentum(SgdMomentumAttrs())
            ),
            Example("decayed", STEEP, _make(1, None, (17,), 0.01), _torch_momentum(STEEP)),
            Example("one gradient is NaN", STEEP, _with_nan(_make(1, None, (7,), 0.1)), None),
        ),
    )
)
define(
    Op(
        name="adam",
        doc="Adam with bias correction by the step's number (from 1), weight decay added to the gradient; as sgd where "
        "something is not finite or the rate is 0.",
        attrs=AdamAttrs,
        infer=adam_infer,
        ref=adam,
        vjp=NO_GRADIENT,
        quant=IN_FLOAT,
        cost=elementwise_cost,
        examples=(
            Example("first step", AdamAttrs(), _make(2, 1, (3, 5), 0.01), _torch_adam(AdamAttrs())),
            Example("step 37, decayed", ADAM, _make(2, 37, (17,), 0.1), _torch_adam(ADAM)),
            Example("one gradient is NaN", ADAM, _with_nan(_make(2, 3, (7,), 0.1)), None),
        ),
    )
)
define(
    Op(
        name="accumulate",
        doc="sum + factor g, with a factor [1] that is not 0; elements that would not be finite stay.",
        attrs=Attrs,
        infer=sgd_infer,
        ref=accumulate,
        vjp=NO_GRADIENT,
        quant=IN_FLOAT,
        cost=elementwise_cost,
        examples=(
            Example("a quarter", NO_ATTRS, _make(0, None, (3, 5), 0.25), lambda t, s, g, f: s + f * g),
            Example("factor 0", NO_ATTRS, _make(0, None, (7,), 0.0), lambda t, s, g, f: s),
        ),
    )
)


def _losses(value: float, x: float = 0.5, dtype: str = "float32") -> Callable[..., Arrays]:
    return lambda rng: (np.array([x], dtype), np.array([value], np.float32))


define(
    Op(
        name="when_finite",
        doc="x[1] where loss[1] is finite, else 0.",
        attrs=Attrs,
        infer=when_finite_infer,
        ref=when_finite,
        vjp=NO_GRADIENT,
        quant=IN_FLOAT,
        cost=elementwise_cost,
        examples=(
            Example("finite", NO_ATTRS, _losses(3.0), lambda t, x, loss: x),
            Example("NaN", NO_ATTRS, _losses(float("nan")), lambda t, x, loss: 0 * x),
            Example("infinite", NO_ATTRS, _losses(float("inf")), lambda t, x, loss: 0 * x),
            Example("a number, finite", NO_ATTRS, _losses(3.0, 7, "int32"), lambda t, x, loss: x),
            Example("a number, NaN", NO_ATTRS, _losses(float("nan"), 7, "int32"), lambda t, x, loss: 0 * x),
        ),
    )
)
