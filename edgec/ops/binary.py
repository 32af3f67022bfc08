"""Binary arithmetic with numpy broadcasting: add, sub, mul, div, minimum, maximum, pow.

Operands have one dtype. add, sub and mul take a fused clamp `act` of the output, in real units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgec.fixedpoint import clamp_bounds, common_shift, multiplier, requantize
from edgec.ir import NO_ATTRS, Array, Attrs, DType, Node, Quant, Type
from edgec.ops.define import (
    Arrays,
    Example,
    NoQuant,
    Op,
    QuantRule,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import Make, integers, normal, uniform
from edgec.ops.terms import Term, broadcast, unbroadcast

if TYPE_CHECKING:
    from edgec.build import Builder

Clamp = tuple[float, float] | None
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class BinaryAttrs(Attrs):
    """`act`: fused clamp of the output, (low, high) in real units, infinite where open."""

    act: Clamp = None


AddAttrs = SubAttrs = MulAttrs = BinaryAttrs


def infer(attrs: Attrs, types: Types) -> Types:
    """a, b of one dtype of numbers -> their broadcast."""
    require(len(types) == 2, "takes two inputs")
    a, b = types
    require(a.dtype is b.dtype, f"operands have one dtype, here {a.dtype.value} and {b.dtype.value}")
    require(a.dtype is not DType.B8, "takes numbers, not booleans")
    return (Type(broadcast(a.shape, b.shape), a.dtype),)


def infer_float(attrs: Attrs, types: Types) -> Types:
    """a, b of one float dtype (or quantised) -> their broadcast."""
    (y,) = infer(attrs, types)
    for t in types:
        require(t.dtype.is_float or t.quant is not None, f"takes floats, not {t.dtype.value}")
    return (y,)


def clamped(attrs: Attrs, y: Array) -> Array:
    """y within attrs.act, in its own dtype."""
    act = attrs.act if isinstance(attrs, BinaryAttrs) else None
    if act is None:
        return y
    if not np.issubdtype(y.dtype, np.floating):
        info = np.iinfo(y.dtype.name)
        act = (max(act[0], info.min), min(act[1], info.max))
    return np.asarray(np.clip(y, np.asarray(act[0], y.dtype), np.asarray(act[1], y.dtype)))


# Terms a, b, y, dy -> (da, db), before the sum over broadcast axes
Derivative = Callable[[Term, Term, Term, Term], tuple[Term, Term]]


def derive(
    derivative: Derivative,
) -> Callable[[Builder, Node, Sequence[str | None]], tuple[str | None, ...]]:
    """The VJP of a binary op from its partial derivatives; where `act` clamps, the gradient is 0."""

    def vjp(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
        if grads[0] is None:
            return (None, None)
        a, b, y, dy = (Term(builder, r) for r in (*node.inputs, node.outputs[0].name, grads[0]))
        act = node.attrs.act if isinstance(node.attrs, BinaryAttrs) else None
        if act is not None:
            dy = y.op("gt", act[0]).op("logical_and", y.op("lt", act[1])).where(dy, 0.0)
        da, db = derivative(a, b, y, dy)
        return unbroadcast(builder, da.ref, a.ref), unbroadcast(builder, db.ref, b.ref)

    return vjp


def _choose(condition: str) -> Derivative:
    """Derivative of minimum and maximum: all to the operand chosen, half to each where they are equal."""

    def both(a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        half = a.op("eq", b).where(dy * 0.5, 0.0)
        first = a.op(condition, b).where(dy, half)
        return first, dy - first

    return both


def _pow_grad(a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
    """a > 0 is assumed for the gradient of the exponent."""
    return dy * b * a.op("pow", b - 1.0), dy * y * a.op("log")


def _quants(in_types: Types, out_types: Types) -> tuple[Quant, Quant, Quant]:
    a, b, y = in_types[0].quant, in_types[1].quant, out_types[0].quant
    assert a is not None and b is not None and y is not None
    return a, b, y


def sum_multipliers(a: Quant, b: Quant, y: Quant) -> tuple[int, int, int]:
    """(ma, mb, shift) that bring both operands of add, sub, minimum and maximum to the output's scale."""
    ya = y.scale[0]
    (ma, mb), shift = common_shift((a.scale[0] / ya, b.scale[0] / ya))
    return ma, mb, shift


def _combine(merge: Callable[[Numbers, Numbers], Any]) -> Callable[[Any, Types, Arrays, Types], Arrays]:
    """acc = merge((a - Za) * ma, (b - Zb) * mb), y = clamp(Zy + ((acc + 2**(s - 1)) >> s)), in int32."""

    def ref(attrs: Any, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
        a, b, y = _quants(in_types, out_types)
        ma, mb, shift = sum_multipliers(a, b, y)
        acc = merge(
            (inputs[0].astype(np.int64) - a.zero[0]) * ma, (inputs[1].astype(np.int64) - b.zero[0]) * mb
        )
        low, high = clamp_bounds(attrs.act if isinstance(attrs, BinaryAttrs) else None, y)
        rounded = (acc.astype(np.int64) + (1 << (shift - 1))) >> shift
        return (np.clip(rounded + y.zero[0], low, high).astype(np.int8),)

    return ref


def _mul_quant(attrs: BinaryAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize((a - Za) * (b - Zb), Sa * Sb / Sy))."""
    a, b, y = _quants(in_types, out_types)
    m, shift = multiplier(a.scale[0] * b.scale[0] / y.scale[0])
    acc = (inputs[0].astype(np.int64) - a.zero[0]) * (inputs[1].astype(np.int64) - b.zero[0])
    low, high = clamp_bounds(attrs.act, y)
    return (np.clip(requantize(acc, m, shift) + y.zero[0], low, high).astype(np.int8),)


def _rule(ref: Callable[[Any, Types, Arrays, Types], Arrays]) -> QuantRule:
    return QuantRule(("activation", "activation"), "calibrated", ref, max_lsb=1.0)


_FLOAT: Final = (
    ("same shape", normal((1, 4, 5, 3), (1, 4, 5, 3))),
    ("a vector along the channels", normal((1, 4, 5, 3), (3,))),
    ("both broadcast", normal((2, 1, 5, 1), (4, 1, 3))),
    ("a number", normal((2, 7), ())),
)
_INTEGER: Final = (
    ("int32", integers(-9, 9, "int32", (2, 6), (6,))),
    ("int64", integers(-9, 9, "int64", (2, 6), (2, 1))),
)
_POSITIVE: Final = (
    ("same shape", uniform(0.5, 2.0, (1, 4, 5, 3), (1, 4, 5, 3))),
    ("broadcast", uniform(0.5, 2.0, (2, 1, 5), (4, 1))),
)


def _define(
    name: str,
    doc: str,
    ref: Callable[[Numbers, Numbers], Any],
    grad: Derivative,
    quant: QuantRule | NoQuant,
    examples: tuple[tuple[str, Make], ...],
    rule: Callable[[Any, Types], Types] = infer,
) -> None:
    """Enter one op. Its PyTorch counterpart has the same name."""
    takes_act = name in ("add", "sub", "mul")
    attrs = BinaryAttrs() if takes_act else NO_ATTRS

    def float_ref(a: Attrs, inputs: Arrays) -> Arrays:
        with np.errstate(all="ignore"):
            return (clamped(a, np.asarray(ref(inputs[0], inputs[1]))),)

    def torch(t: Any, a: Any, b: Any) -> Any:
        return getattr(t, name)(a, b)

    cases = [Example(label, attrs, make, torch) for label, make in examples]
    if takes_act:
        clamp = BinaryAttrs(act=(0.0, 1.5))
        cases.append(
            Example("clamped", clamp, examples[0][1], lambda t, a, b: torch(t, a, b).clamp(0.0, 1.5))
        )
    define(
        Op(
            name=name,
            doc=doc,
            attrs=BinaryAttrs if takes_act else Attrs,
            infer=rule,
            ref=float_ref,
            vjp=derive(grad),
            quant=quant,
            cost=elementwise_cost,
            examples=tuple(cases),
        )
    )


_define(
    "add",
    "a + b, with an optional clamp.",
    lambda a, b: a + b,
    lambda a, b, y, dy: (dy, dy),
    _rule(_combine(lambda a, b: a + b)),
    (*_FLOAT, *_INTEGER),
)
_define(
    "sub",
    "a - b, with an optional clamp.",
    lambda a, b: a - b,
    lambda a, b, y, dy: (dy, -dy),
    _rule(_combine(lambda a, b: a - b)),
    (*_FLOAT, *_INTEGER),
)
_define(
    "mul",
    "a * b, with an optional clamp.",
    lambda a, b: a * b,
    lambda a, b, y, dy: (dy * b, dy * a),
    _rule(_mul_quant),
    (*_FLOAT, *_INTEGER),
)
_define(
    "div",
    "a / b.",
    lambda a, b: a / b,
    lambda a, b, y, dy: (dy / b, -(dy * y / b)),
    NoQuant("the quotient of two activations has no bounded range; a constant divisor becomes mul"),
    _POSITIVE,
    infer_float,
)
_define(
    "minimum",
    "The smaller of a and b.",
    np.minimum,
    _choose("lt"),
    _rule(_combine(np.minimum)),
    (*_FLOAT, *_INTEGER),
)
_define(
    "maximum",
    "The larger of a and b.",
    np.maximum,
    _choose("gt"),
    _rule(_combine(np.maximum)),
    (*_FLOAT, *_INTEGER),
)
_define(
    "pow",
    "a ** b.",
    np.power,
    _pow_grad,
    NoQuant("both operands vary; a constant exponent becomes pow_scalar, which is a table"),
    _POSITIVE,
    infer_float,
)
