"""Comparisons and logic, broadcasting to booleans: eq, ne, lt, le, gt, ge, logical_and, logical_or."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.ir import NO_ATTRS, Array, Attrs, DType, Type
from edgec.ops.define import Arrays, Example, NoGrad, NoQuant, Op, Types, define, elementwise_cost, require
from edgec.ops.sample import Make, bits, integers, normal
from edgec.ops.terms import broadcast


def _infer_compare(attrs: Attrs, types: Types) -> Types:
    """a, b of one dtype -> b8 of their broadcast."""
    require(len(types) == 2, "takes two inputs")
    a, b = types
    require(a.dtype is b.dtype, f"operands have one dtype, here {a.dtype.value} and {b.dtype.value}")
    return (Type(broadcast(a.shape, b.shape), DType.B8),)


def _infer_logic(attrs: Attrs, types: Types) -> Types:
    """a, b boolean -> b8 of their broadcast."""
    require(all(t.dtype is DType.B8 for t in types), "takes booleans")
    return _infer_compare(attrs, types)


def _define(
    name: str,
    symbol: str,
    ref: Callable[[Array, Array], Any],
    rule: Callable[[Any, Types], Types],
    examples: tuple[tuple[str, Make], ...],
) -> None:
    """Enter one op. Its PyTorch counterpart has the same name."""

    def torch(t, a, b):  # type: ignore[no-untyped-def]
        return getattr(t, name)(a, b)

    def plain(attrs: Attrs, inputs: Arrays) -> Arrays:
        return (np.asarray(ref(inputs[0], inputs[1])),)

    define(
        Op(
            name=name,
            doc=f"a {symbol} b, as a boolean.",
            attrs=Attrs,
            infer=rule,
            ref=plain,
            vjp=NoGrad("booleans have no gradient"),
            quant=NoQuant("compared in float, so that both operands may have any scale"),
            cost=elementwise_cost,
            examples=tuple(Example(label, NO_ATTRS, make, torch) for label, make in examples),
        )
    )


_NUMBERS = (
    ("same shape", normal((1, 3, 4, 2), (1, 3, 4, 2))),
    ("broadcast", normal((3, 1, 2), (4, 1))),
    ("integers, some equal", integers(-2, 3, "int32", (4, 9), (9,))),
    ("int64", integers(-2, 3, "int64", (11,), (11,))),
)
_BOOLEANS = (("same shape", bits((2, 3, 4), (2, 3, 4))), ("broadcast", bits((3, 1), (4,))))

_define("eq", "==", np.equal, _infer_compare, _NUMBERS)
_define("ne", "!=", np.not_equal, _infer_compare, _NUMBERS)
_define("lt", "<", np.less, _infer_compare, _NUMBERS)
_define("le", "<=", np.less_equal, _infer_compare, _NUMBERS)
_define("gt", ">", np.greater, _infer_compare, _NUMBERS)
_define("ge", ">=", np.greater_equal, _infer_compare, _NUMBERS)
_define("logical_and", "and", np.logical_and, _infer_logic, _BOOLEANS)
_define("logical_or", "or", np.logical_or, _infer_logic, _BOOLEANS)
