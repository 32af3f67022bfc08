"""Activation functions: relu, relu6, clamp, elu, leaky_relu, prelu, hardswish, hardsigmoid, sigmoid, tanh,
gelu, silu.

Quantised, each is a table of 256 entries (`lookup`); prelu has one multiplier a channel. References compute
in the dtype of their input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgec.fixedpoint import multiplier, multipliers, requantize
from edgec.ir import NO_ATTRS, Attrs, Node, Type
from edgec.ops.define import (
    Arrays,
    Example,
    Op,
    QuantRule,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import normal
from edgec.ops.terms import Term, unbroadcast
from edgec.ops.unary import Numbers, Unary, define_unary, erf, infer_float, infer_number

if TYPE_CHECKING:
    from edgec.build import Builder

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715  # gelu by tanh: Hendrycks and Gimpel, arXiv 1606.08415, section 2
_MAP, _VECTOR = (1, 5, 4, 3), (19,)


@dataclass(frozen=True, slots=True)
class ClampAttrs(Attrs):
    """Bounds; -inf and inf where open."""

    min: float = -math.inf
    max: float = math.inf


@dataclass(frozen=True, slots=True)
class EluAttrs(Attrs):
    """y = alpha * (e**x - 1) below 0."""

    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class LeakyReluAttrs(Attrs):
    """y = slope * x below 0."""

    slope: float = 0.01


@dataclass(frozen=True, slots=True)
class GeluAttrs(Attrs):
    """`approximate`: "none" is by erf, "tanh" by the tanh formula."""

    approximate: Literal["none", "tanh"] = "none"


def sigmoid(x: Numbers) -> Numbers:
    """1 / (1 + exp(-x)), in the dtype of x."""
    return np.asarray(1 / (1 + np.exp(-x)))


def gelu(attrs: GeluAttrs, x: Numbers) -> Numbers:
    """x * Phi(x), or its tanh approximation."""
    if attrs.approximate == "none":
        return np.asarray(x * 0.5 * (1 + erf(x * x.dtype.type(_SQRT_HALF))))
    inner = x.dtype.type(_SQRT_2_OVER_PI) * (x + x.dtype.type(_CUBIC) * x * x * x)
    return np.asarray(x * 0.5 * (1 + np.tanh(inner)))


def _clamp(attrs: ClampAttrs, x: Numbers) -> Numbers:
    """np.clip that leaves integers alone where a bound is open."""
    low = None if attrs.min == -math.inf else np.asarray(attrs.min, x.dtype)
    high = None if attrs.max == math.inf else np.asarray(attrs.max, x.dtype)
    return x if low is None and high is None else np.asarray(np.clip(x, low, high))


def _clamp_grad(a: ClampAttrs, x: Term, y: Term, dy: Term) -> Term:
    return x.op("ge", a.min).op("logical_and", x.op("le", a.max)).where(dy, 0.0)


def _relu6_grad(a: Attrs, x: Term, y: Term, dy: Term) -> Term:
    return x.op("gt", 0.0).op("logical_and", x.op("lt", 6.0)).where(dy, 0.0)


def _hardswish_grad(a: Attrs, x: Term, y: Term, dy: Term) -> Term:
    middle = dy * (x * (1.0 / 3.0) + 0.5)
    return x.op("lt", -3.0).where(dy * 0.0, x.op("gt", 3.0).where(dy, middle))


def _hardsigmoid_grad(a: Attrs, x: Term, y: Term, dy: Term) -> Term:
    inside = x.op("gt", -3.0).op("logical_and", x.op("lt", 3.0))
    return inside.where(dy * (1.0 / 6.0), 0.0)


def _gelu_grad(a: GeluAttrs, x: Term, y: Term, dy: Term) -> Term:
    if a.approximate == "none":
        phi = (x * x * -0.5).op("exp") * (1.0 / math.sqrt(2.0 * math.pi))
        return dy * ((x * _SQRT_HALF).op("erf") * 0.5 + 0.5 + x * phi)
    square = x * x
    t = (x * (square * _CUBIC + 1.0) * _SQRT_2_OVER_PI).op("tanh")
    slope = (square * (3.0 * _CUBIC) + 1.0) * _SQRT_2_OVER_PI
    return dy * ((t + 1.0) * 0.5 + x * (1.0 - t * t) * slope * 0.5)


def _silu_grad(a: Attrs, x: Term, y: Term, dy: Term) -> Term:
    s = x.op("sigmoid")
    return dy * (s + y * (1.0 - s))


_ANY = (("map", NO_ATTRS, normal(_MAP, std=3.0)), ("vector", NO_ATTRS, normal(_VECTOR, std=2.0)))

define_unary(
    Unary(
        name="relu",
        doc="max(x, 0).",
        ref=lambda a, x: np.maximum(x, np.zeros((), x.dtype)),
        grad=lambda a, x, y, dy: x.op("gt", 0.0).where(dy, 0.0),
        torch=lambda t, a, x: t.relu(x),
        examples=_ANY,
        infer=infer_number,
    )
)
define_unary(
    Unary(
        name="relu6",
        doc="min(max(x, 0), 6).",
        ref=lambda a, x: np.clip(x, np.zeros((), x.dtype), np.asarray(6, x.dtype)),
        grad=_relu6_grad,
        torch=lambda t, a, x: t.nn.functional.relu6(x),
        examples=(("map", NO_ATTRS, normal(_MAP, std=5.0)), ("vector", NO_ATTRS, normal(_VECTOR, std=8.0))),
        infer=infer_number,
    )
)
define_unary(
    Unary(
        name="clamp",
        doc="min(max(x, attrs.min), attrs.max); open bounds are infinite.",
        ref=_clamp,
        grad=_clamp_grad,
        torch=lambda t, a, x: t.clamp(x, a.min, a.max),
        examples=(
            ("both bounds", ClampAttrs(-0.5, 1.25), normal(_MAP)),
            ("lower bound only", ClampAttrs(min=0.25), normal(_VECTOR)),
        ),
        attrs=ClampAttrs,
        infer=infer_number,
    )
)
define_unary(
    Unary(
        name="elu",
        doc="x above 0, alpha * (e**x - 1) below.",
        ref=lambda a, x: np.where(x > 0, x, x.dtype.type(a.alpha) * np.expm1(np.minimum(x, 0))),
        grad=lambda a, x, y, dy: x.op("gt", 0.0).where(dy, dy * (y + a.alpha)),
        torch=lambda t, a, x: t.nn.functional.elu(x, a.alpha),
        examples=(
            ("alpha 1", EluAttrs(), normal(_MAP, std=2.0)),
            ("alpha 0.5", EluAttrs(0.5), normal(_VECTOR, std=2.0)),
        ),
        attrs=EluAttrs,
    )
)
define_unary(
    Unary(
        name="leaky_relu",
        doc="x above 0, slope * x below.",
        ref=lambda a, x: np.where(x > 0, x, x * x.dtype.type(a.slope)),
        grad=lambda a, x, y, dy: x.op("gt", 0.0).where(dy, dy * a.slope),
        torch=lambda t, a, x: t.nn.functional.leaky_relu(x, a.slope),
        examples=(
            ("slope 0.01", LeakyReluAttrs(), normal(_MAP)),
            ("slope 0.2", LeakyReluAttrs(0.2), normal(_VECTOR)),
        ),
        attrs=LeakyReluAttrs,
    )
)
define_unary(
    Unary(
        name="hardswish",
        doc="x * min(max(x + 3, 0), 6) / 6.",
        ref=lambda a, x: x * np.clip(x + x.dtype.type(3), x.dtype.type(0), x.dtype.type(6)) / x.dtype.type(6),
        grad=_hardswish_grad,
        torch=lambda t, a, x: t.nn.functional.hardswish(x),
        examples=_ANY,
    )
)
define_unary(
    Unary(
        name="hardsigmoid",
        doc="min(max(x + 3, 0), 6) / 6.",
        ref=lambda a, x: np.clip(x + x.dtype.type(3), x.dtype.type(0), x.dtype.type(6)) / x.dtype.type(6),
        grad=_hardsigmoid_grad,
        torch=lambda t, a, x: t.nn.functional.hardsigmoid(x),
        examples=_ANY,
        output=(1.0 / 256.0, -128),
    )
)
define_unary(
    Unary(
        name="sigmoid",
        doc="1 / (1 + e**-x).",
        ref=lambda a, x: sigmoid(x),
        grad=lambda a, x, y, dy: dy * y * (1.0 - y),
        torch=lambda t, a, x: t.sigmoid(x),
        examples=_ANY,
        output=(1.0 / 256.0, -128),
    )
)
define_unary(
    Unary(
        name="tanh",
        doc="Hyperbolic tangent.",
        ref=lambda a, x: np.tanh(x),
        grad=lambda a, x, y, dy: dy * (1.0 - y * y),
        torch=lambda t, a, x: t.tanh(x),
        examples=_ANY,
        output=(1.0 / 128.0, 0),
    )
)
define_unary(
    Unary(
        name="gelu",
        doc="x * Phi(x), Phi the normal distribution function; exact by erf or approximate by tanh.",
        ref=gelu,
        grad=_gelu_grad,
        torch=lambda t, a, x: t.nn.functional.gelu(x, approximate=a.approximate),
        examples=(
            ("by erf", GeluAttrs(), normal(_MAP, std=2.0)),
            ("by tanh", GeluAttrs("tanh"), normal(_VECTOR, std=2.0)),
        ),
        attrs=GeluAttrs,
    )
)
define_unary(
    Unary(
        name="silu",
        doc="x / (1 + e**-x).",
        ref=lambda a, x: x / (1 + np.exp(-x)),
        grad=_silu_grad,
        torch=lambda t, a, x: t.nn.functional.silu(x),
        examples=_ANY,
    )
)


def _infer_prelu(attrs: Attrs, types: Types) -> Types:
    """x[..., C], slope[C] or [1] -> y as x."""
    require(len(types) == 2, "takes x and slope")
    x, slope = types
    require(len(slope.dims) == 1, f"slope has one axis, here {len(slope.dims)}")
    channels = x.dims[-1] if x.dims else 1
    require(slope.dims[0] in (1, channels), f"slope has {slope.dims[0]} entries for {channels} channels")
    return infer_float(attrs, (x,))


def _prelu(attrs: Attrs, inputs: Arrays) -> Arrays:
    x: Numbers = inputs[0]
    slope: Numbers = inputs[1]
    return (np.where(x > 0, x, x * slope.astype(x.dtype)),)


def _prelu_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    if grads[0] is None:
        return (None, None)
    x, slope, dy = (Term(builder, r) for r in (*node.inputs, grads[0]))
    above = x.op("gt", 0.0)
    dslope = above.where(dy * 0.0, dy * x)
    return (above.where(dy, dy * slope).ref, unbroadcast(builder, dslope.ref, slope.ref))


def prelu_multipliers(
    x: Type, slope: Numbers, y: Type
) -> tuple[tuple[int, int], tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """((m, shift) at and above the zero, (m[C], shift[C]) below it); m carries the sign of a slope."""
    assert x.quant is not None and y.quant is not None
    ratio = x.quant.scale[0] / y.quant.scale[0]
    m, shift = multipliers(np.abs(slope.astype(np.float64)) * ratio)
    return multiplier(ratio), (np.where(slope < 0, -m, m).astype(np.int32), shift)


def _prelu_quant(attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize(x - Zx, Sx / Sy)), with Sx / Sy * slope[c] where x < Zx."""
    x_quant, y_quant = in_types[0].quant, out_types[0].quant
    assert x_quant is not None and y_quant is not None
    above, below = prelu_multipliers(in_types[0], inputs[1], out_types[0])
    acc = inputs[0].astype(np.int64) - x_quant.zero[0]
    y = np.where(acc < 0, requantize(acc, *below), requantize(acc, *above))
    return (np.clip(y + y_quant.zero[0], -128, 127).astype(np.int8),)


define(
    Op(
        name="prelu",
        doc="x above 0, slope[c] * x below; one slope a channel (the last axis) or one for all.",
        attrs=Attrs,
        infer=_infer_prelu,
        ref=_prelu,
        vjp=_prelu_grad,
        quant=QuantRule(("activation", "parameter"), "calibrated", _prelu_quant, max_lsb=1.0),
        cost=elementwise_cost,
        examples=(
            Example(
                "slope a channel",
                NO_ATTRS,
                normal((1, 4, 5, 3), (3,)),
                lambda t, x, s: t.nn.functional.prelu(x.permute(0, 3, 1, 2), s).permute(0, 2, 3, 1),
            ),
            Example("one slope", NO_ATTRS, normal((2, 7), (1,)), lambda t, x, s: t.nn.functional.prelu(x, s)),
            Example(
                "small slopes of both signs",
                NO_ATTRS,
                lambda rng: (*normal((6, 8))(rng), np.linspace(-0.2, 0.2, 8, dtype=np.float32)),
                lambda t, x, s: t.nn.functional.prelu(x, s),
            ),
        ),
    )
)
