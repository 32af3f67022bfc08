"""Choosing elements by a boolean tensor: where, masked_fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.fixedpoint import quantize_array
from edgec.ir import NO_ATTRS, Attrs, DType, Node, Quant, Type
from edgec.ops.define import Arrays, Example, Op, QuantRule, Types, define, elementwise_cost, require
from edgec.ops.sample import Make, bits, integers, normal
from edgec.ops.terms import Term, broadcast, unbroadcast

if TYPE_CHECKING:
    from edgec.build import Builder


@dataclass(frozen=True, slots=True)
class MaskedFillAttrs(Attrs):
    """`value` replaces the elements under the mask; it may be infinite."""

    value: float


def _infer_where(attrs: Attrs, types: Types) -> Types:
    """condition b8, a and b of one dtype -> the broadcast of all three."""
    require(len(types) == 3, "takes condition, a and b")
    condition, a, b = types
    require(condition.dtype is DType.B8, f"the condition is boolean, here {condition.dtype.value}")
    require(a.dtype is b.dtype, f"a and b have one dtype, here {a.dtype.value} and {b.dtype.value}")
    return (Type(broadcast(condition.shape, a.shape, b.shape), a.dtype),)


def _where_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    if grads[0] is None:
        return (None, None, None)
    condition, dy = Term(builder, node.inputs[0]), Term(builder, grads[0])
    da = condition.where(dy, 0.0)
    db = condition.where(dy * 0.0, dy)
    a, b = node.inputs[1:]
    return (None, unbroadcast(builder, da.ref, a), unbroadcast(builder, db.ref, b))


def _where_quant(attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """The bytes of a or b: both have the output's quantisation."""
    return (np.where(*inputs),)


def _infer_fill(attrs: MaskedFillAttrs, types: Types) -> Types:
    """x, mask b8 -> x's type; the mask broadcasts to x."""
    require(len(types) == 2, "takes x and mask")
    x, mask = types
    require(mask.dtype is DType.B8, f"the mask is boolean, here {mask.dtype.value}")
    require(broadcast(x.shape, mask.shape) == x.shape, "the mask broadcasts to the shape of x")
    return (Type(x.shape, x.dtype),)


def _fill(attrs: MaskedFillAttrs, inputs: Arrays) -> Arrays:
    x, mask = inputs
    return (np.where(mask, np.asarray(attrs.value, x.dtype), x),)


def _fill_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    if grads[0] is None:
        return (None, None)
    return (builder.call("masked_fill", grads[0], node.inputs[1], attrs=MaskedFillAttrs(0.0)), None)


def fill_value(attrs: MaskedFillAttrs, quant: Quant) -> int:
    """The int8 that stands for `attrs.value`: the nearest, saturated."""
    return int(quantize_array(attrs.value, quant))


def _fill_quant(attrs: MaskedFillAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """x, or round-half-up(value / S) + Z saturated to int8, where the mask holds."""
    quant = out_types[0].quant
    assert quant is not None
    x, mask = inputs
    return (np.where(mask, np.int8(fill_value(attrs, quant)), x),)


def _together(first: Make, second: Make) -> Make:
    return lambda rng: (*first(rng), *second(rng))


define(
    Op(
        name="where",
        doc="a where condition holds, else b; all three broadcast.",
        attrs=Attrs,
        infer=_infer_where,
        ref=lambda attrs, inputs: (np.where(*inputs),),
        vjp=_where_grad,
        quant=QuantRule(("index", "shared", "shared"), "shared", _where_quant, max_lsb=0.0),
        cost=elementwise_cost,
        examples=(
            Example(
                "same shape",
                NO_ATTRS,
                _together(bits((1, 3, 4, 2)), normal((1, 3, 4, 2), (1, 3, 4, 2))),
                lambda t, c, a, b: t.where(c, a, b),
            ),
            Example(
                "all three broadcast",
                NO_ATTRS,
                _together(bits((3, 1, 1)), normal((4, 1), (2,))),
                lambda t, c, a, b: t.where(c, a, b),
            ),
            Example(
                "int64",
                NO_ATTRS,
                _together(bits((5,)), integers(-9, 9, "int64", (2, 5), ())),
                lambda t, c, a, b: t.where(c, a, b),
            ),
        ),
    )
)

define(
    Op(
        name="masked_fill",
        doc="attrs.value where the mask holds, else x; the mask broadcasts to x.",
        attrs=MaskedFillAttrs,
        infer=_infer_fill,
        ref=_fill,
        vjp=_fill_grad,
        quant=QuantRule(("shared", "index"), "shared", _fill_quant, max_lsb=0.0),
        cost=elementwise_cost,
        examples=(
            Example(
                "same shape",
                MaskedFillAttrs(0.5),
                _together(normal((1, 3, 4, 2)), bits((1, 3, 4, 2))),
                lambda t, x, m: x.masked_fill(m, 0.5),
            ),
            Example(
                "mask broadcast over heads",
                MaskedFillAttrs(-1.5),
                _together(normal((2, 3, 4)), bits((3, 1))),
                lambda t, x, m: x.masked_fill(m, -1.5),
            ),
        ),
    )
)
