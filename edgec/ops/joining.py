"""Ops that join or enlarge: concat and pad. Any dtype; inputs and output share one quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.fixedpoint import quantize_array
from edgec.ir import Attrs, Bound, Dim, Type
from edgec.ops.define import Arrays, Example, Op, QuantRule, Types, define, no_cost, require
from edgec.ops.emit import emit
from edgec.ops.movement import normal, same_movement

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class ConcatAttrs(Attrs):
    """The axis along which the inputs follow each other."""

    axis: int


@dataclass(frozen=True, slots=True)
class PadAttrs(Attrs):
    """(before, after) for each axis, and the real value of the new elements."""

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0


def infer_concat(attrs: ConcatAttrs, types: Types) -> Types:
    require(len(types) >= 1, "takes at least one input")
    first, axis = types[0], attrs.axis
    require(0 <= axis < len(first.shape), f"axis {axis} of {len(first.shape)} axes")
    total = 0
    for i, t in enumerate(types):
        require(t.dtype is first.dtype, f"input {i} is {t.dtype.value}, input 0 {first.dtype.value}")
        same = t.shape[:axis] == first.shape[:axis] and t.shape[axis + 1 :] == first.shape[axis + 1 :]
        require(
            len(t.shape) == len(first.shape) and same, f"input {i} has shape {t.shape}, not {first.shape}"
        )
        size = t.shape[axis]
        require(isinstance(size, int), f"input {i} has a size known only at run time along axis {axis}")
        total += t.dims[axis]
    return (Type((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype, first.quant),)


def concat(attrs: ConcatAttrs, inputs: Arrays) -> Arrays:
    return (np.concatenate(inputs, attrs.axis),)


def vjp_concat(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, ConcatAttrs)
    if grads[0] is None:
        return (None,) * len(node.inputs)
    axis, start, out = node.attrs.axis, 0, []
    for ref in node.inputs:
        size = b.types[ref].dims[axis]
        out.append(emit(b, "slice", grads[0], axis=axis, start=start, stop=start + size))
        start += size
    return tuple(out)


def infer_pad(attrs: PadAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    require(len(attrs.pads) == len(x.shape), f"{len(attrs.pads)} pads for {len(x.shape)} axes")
    shape: list[Dim] = []
    for size, (before, after) in zip(x.shape, attrs.pads, strict=True):
        require(before >= 0 and after >= 0, f"negative padding {attrs.pads} is a slice")
        if isinstance(size, Bound):
            require(before == after == 0, "an axis whose size is known only at run time cannot be padded")
            shape.append(size)
        else:
            shape.append(size + before + after)
    return (Type(tuple(shape), x.dtype, x.quant),)


def pad(attrs: PadAttrs, inputs: Arrays) -> Arrays:
    return (np.pad(inputs[0], attrs.pads, constant_values=attrs.value),)


def pad_value(attrs: PadAttrs, y: Type) -> float:
    """What new elements hold in y's own numbers: `value`, quantised where y is."""
    return attrs.value if y.quant is None else float(quantize_array(attrs.value, y.quant))


def quant_pad(attrs: PadAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    return (np.pad(inputs[0], attrs.pads, constant_values=int(pad_value(attrs, out_types[0]))),)


def vjp_pad(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, PadAttrs)
    grad = grads[0]
    if grad is None:
        return (None,)
    dims = b.types[node.inputs[0]].dims
    for axis, (before, after) in enumerate(node.attrs.pads):
        if before or after:
            grad = emit(b, "slice", grad, axis=axis, start=before, stop=before + dims[axis])
    return (grad,)


define(
    Op(
        name="concat",
        doc="The inputs one after another along an axis. Quantised inputs share the output's scale and zero.",
        attrs=ConcatAttrs,
        infer=infer_concat,
        ref=concat,
        vjp=vjp_concat,
        quant=same_movement(concat),
        cost=no_cost,
        examples=(
            Example(
                "channels",
                ConcatAttrs(3),
                normal((1, 3, 4, 2), (1, 3, 4, 5)),
                lambda t, *xs: t.cat(xs, 3),
            ),
            Example(
                "channels of two images",
                ConcatAttrs(3),
                normal((2, 2, 3, 1), (2, 2, 3, 4)),
                lambda t, *xs: t.cat(xs, 3),
            ),
            Example(
                "tokens", ConcatAttrs(1), normal((2, 1, 3), (2, 4, 3), (2, 2, 3)), lambda t, *xs: t.cat(xs, 1)
            ),
            Example("first axis", ConcatAttrs(0), normal((2, 3), (1, 3)), lambda t, *xs: t.cat(xs, 0)),
        ),
    )
)
define(
    Op(
        name="pad",
        doc="New elements of one value round the tensor. Integer form: the value quantised as the tensor is.",
        attrs=PadAttrs,
        infer=infer_pad,
        ref=pad,
        vjp=vjp_pad,
        quant=QuantRule(("shared",), "shared", quant_pad, max_lsb=0.0),
        cost=no_cost,
        examples=(
            Example(
                "rows and columns",
                PadAttrs(((0, 0), (1, 2), (0, 3), (0, 0))),
                normal((1, 3, 4, 2)),
                lambda t, x: t.nn.functional.pad(x, (0, 0, 0, 3, 1, 2)),
            ),
            Example(
                "two images",
                PadAttrs(((0, 0), (1, 0), (1, 1), (0, 0)), -1.0),
                normal((2, 2, 3, 2)),
                lambda t, x: t.nn.functional.pad(x, (0, 0, 1, 1, 1, 0), value=-1.0),
            ),
            Example(
                "with a value",
                PadAttrs(((0, 1), (2, 0)), 0.5),
                normal((2, 3)),
                lambda t, x: t.nn.functional.pad(x, (2, 0, 0, 1), value=0.5),
            ),
        ),
    )
)
