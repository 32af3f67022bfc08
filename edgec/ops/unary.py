"""Unary arithmetic: neg, abs, sqrt, rsqrt, exp, log, sin, cos, erf, pow_scalar, logical_not.

Quantised, each is a table of 256 entries (`lookup`). References compute in the dtype of their input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgec.ir import NO_ATTRS, Attrs, DType, Node, Type
from edgec.ops.define import (
    Arrays,
    Example,
    NoGrad,
    NoQuant,
    Op,
    OutputQuant,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.lookup import table_rule
from edgec.ops.sample import Make, bits, integers, normal, uniform
from edgec.ops.terms import Term

if TYPE_CHECKING:
    from edgec.build import Builder

Numbers = npt.NDArray[Any]
# attrs, x, y, dy -> dx
Derivative = Callable[[Any, Term, Term, Term], Term]


@dataclass(frozen=True, slots=True)
class PowScalarAttrs(Attrs):
    """y = x ** exponent."""

    exponent: float


def infer_number(attrs: Attrs, types: Types) -> Types:
    """x of numbers -> y of the same shape and dtype."""
    require(len(types) == 1, "takes one input")
    require(types[0].dtype is not DType.B8, "takes numbers, not booleans")
    return (Type(types[0].shape, types[0].dtype),)


def infer_float(attrs: Attrs, types: Types) -> Types:
    """x float or quantised -> y of the same shape and dtype."""
    require(len(types) == 1, "takes one input")
    t = types[0]
    require(t.dtype.is_float or t.quant is not None, f"takes floats, not {t.dtype.value}")
    return (Type(t.shape, t.dtype),)


def derive(
    derivative: Derivative,
) -> Callable[[Builder, Node, Sequence[str | None]], tuple[str | None, ...]]:
    """The VJP of a unary op from its formula dx = derivative(attrs, x, y, dy)."""

    def vjp(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
        if grads[0] is None:
            return (None,)
        x, y = Term(builder, node.inputs[0]), Term(builder, node.outputs[0].name)
        return (derivative(node.attrs, x, y, Term(builder, grads[0])).ref,)

    return vjp


@dataclass(frozen=True, slots=True)
class Unary:
    """What differs between unary ops. `examples`: label, attrs, inputs; `torch(t, attrs, x)` is PyTorch's."""

    name: str
    doc: str
    ref: Callable[[Any, Numbers], Any]
    grad: Derivative
    torch: Callable[..., Any]
    examples: tuple[tuple[str, Attrs, Make], ...]
    attrs: type[Attrs] = Attrs
    output: OutputQuant = "calibrated"
    infer: Callable[[Any, Types], Types] = infer_float


def define_unary(u: Unary) -> None:
    """Enter the record of `u` in the table."""

    def ref(attrs: Any, inputs: Arrays) -> Arrays:
        with np.errstate(all="ignore"):
            return (np.asarray(u.ref(attrs, inputs[0])),)

    def example(label: str, attrs: Attrs, make: Make) -> Example:
        return Example(label, attrs, make, lambda t, x: u.torch(t, attrs, x))

    define(
        Op(
            name=u.name,
            doc=u.doc,
            attrs=u.attrs,
            infer=u.infer,
            ref=ref,
            vjp=derive(u.grad),
            quant=table_rule(u.name, u.output),
            cost=elementwise_cost,
            examples=tuple(example(*e) for e in u.examples),
        )
    )


_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Numbers) -> Numbers:
    """The error function, float64 inside, in the dtype of x."""
    return np.asarray(_erf(x.astype(np.float64)), np.float64).astype(x.dtype)


def power(x: Numbers, exponent: float) -> Numbers:
    """x ** exponent in the dtype of x."""
    return np.asarray(np.power(x, np.asarray(exponent, x.dtype)))


def _plain(make: Make, other: Make) -> tuple[tuple[str, Attrs, Make], ...]:
    return (("map", NO_ATTRS, make), ("vector", NO_ATTRS, other))


_MAP, _VECTOR = (1, 5, 4, 3), (17,)
_ANY = _plain(normal(_MAP), normal(_VECTOR, std=2.0))
_POSITIVE = _plain(uniform(0.25, 4.0, _MAP), uniform(0.5, 2.0, _VECTOR))
_UNIT = (1.0 / 128.0, 0)  # outputs in [-1, 1]

define_unary(
    Unary(
        name="neg",
        doc="-x.",
        ref=lambda a, x: -x,
        grad=lambda a, x, y, dy: -dy,
        torch=lambda t, a, x: -x,
        examples=(*_ANY, ("integers", NO_ATTRS, integers(-50, 50, "int32", (6,)))),
        infer=infer_number,
    )
)
define_unary(
    Unary(
        name="abs",
        doc="|x|. The gradient at 0 is 0.",
        ref=lambda a, x: np.abs(x),
        grad=lambda a, x, y, dy: x.op("gt", 0.0).where(dy, x.op("lt", 0.0).where(-dy, 0.0)),
        torch=lambda t, a, x: x.abs(),
        examples=(*_ANY, ("integers", NO_ATTRS, integers(-50, 50, "int64", (6,)))),
        infer=infer_number,
    )
)
define_unary(
    Unary(
        name="sqrt",
        doc="Square root.",
        ref=lambda a, x: np.sqrt(x),
        grad=lambda a, x, y, dy: dy * 0.5 / y,
        torch=lambda t, a, x: x.sqrt(),
        examples=_POSITIVE,
    )
)
define_unary(
    Unary(
        name="rsqrt",
        doc="1 / sqrt(x).",
        ref=lambda a, x: 1 / np.sqrt(x),
        grad=lambda a, x, y, dy: dy * y * y * y * -0.5,
        torch=lambda t, a, x: x.rsqrt(),
        examples=_POSITIVE,
    )
)
define_unary(
    Unary(
        name="exp",
        doc="e ** x.",
        ref=lambda a, x: np.exp(x),
        grad=lambda a, x, y, dy: dy * y,
        torch=lambda t, a, x: x.exp(),
        examples=_ANY,
    )
)
define_unary(
    Unary(
        name="log",
        doc="Natural logarithm.",
        ref=lambda a, x: np.log(x),
        grad=lambda a, x, y, dy: dy / x,
        torch=lambda t, a, x: x.log(),
        examples=_POSITIVE,
    )
)
define_unary(
    Unary(
        name="sin",
        doc="Sine of x in radians.",
        ref=lambda a, x: np.sin(x),
        grad=lambda a, x, y, dy: dy * x.op("cos"),
        torch=lambda t, a, x: x.sin(),
        examples=_ANY,
        output=_UNIT,
    )
)
define_unary(
    Unary(
        name="cos",
        doc="Cosine of x in radians.",
        ref=lambda a, x: np.cos(x),
        grad=lambda a, x, y, dy: -(dy * x.op("sin")),
        torch=lambda t, a, x: x.cos(),
        examples=_ANY,
        output=_UNIT,
    )
)
define_unary(
    Unary(
        name="erf",
        doc="Error function, 2 / sqrt(pi) * integral of exp(-t * t) from 0 to x.",
        ref=lambda a, x: erf(x),
        grad=lambda a, x, y, dy: dy * (-(x * x)).op("exp") * (2.0 / math.sqrt(math.pi)),
        torch=lambda t, a, x: x.erf(),
        examples=_ANY,
        output=_UNIT,
    )
)


def _pow_grad(attrs: PowScalarAttrs, x: Term, y: Term, dy: Term) -> Term:
    if attrs.exponent == 0.0:
        return dy * 0.0
    return dy * x.op("pow_scalar", attrs=PowScalarAttrs(attrs.exponent - 1.0)) * attrs.exponent


define_unary(
    Unary(
        name="pow_scalar",
        doc="x ** exponent, the exponent a number known at compile time.",
        ref=lambda a, x: power(x, a.exponent),
        grad=_pow_grad,
        torch=lambda t, a, x: x.pow(a.exponent),
        examples=(
            ("square", PowScalarAttrs(2.0), normal(_MAP)),
            ("cube of negative numbers too", PowScalarAttrs(3.0), normal(_VECTOR)),
            ("fractional, positive x", PowScalarAttrs(-0.75), uniform(0.5, 2.0, _VECTOR)),
        ),
        attrs=PowScalarAttrs,
    )
)


def _infer_bool(attrs: Attrs, types: Types) -> Types:
    require(len(types) == 1 and types[0].dtype is DType.B8, "takes one boolean input")
    return (Type(types[0].shape, DType.B8),)


define(
    Op(
        name="logical_not",
        doc="not x, of booleans.",
        attrs=Attrs,
        infer=_infer_bool,
        ref=lambda a, inputs: (np.logical_not(inputs[0]),),
        vjp=NoGrad("booleans have no gradient"),
        quant=NoQuant("booleans are not quantised"),
        cost=elementwise_cost,
        examples=(
            Example("map", NO_ATTRS, bits((1, 3, 4, 2)), lambda t, x: t.logical_not(x)),
            Example("vector", NO_ATTRS, bits((9,)), lambda t, x: t.logical_not(x)),
        ),
    )
)
