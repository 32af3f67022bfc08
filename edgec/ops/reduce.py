"""Reductions over axes: reduce_mean, reduce_sum, reduce_max, reduce_min, argmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.fixedpoint import multiplier, requantize
from edgec.ir import Array, Attrs, Bound, Dim, DType, Node, Type
from edgec.ops.define import Arrays, Cost, Example, NoGrad, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.sample import integers, normal, uniform
from edgec.ops.terms import Term

if TYPE_CHECKING:
    from edgec.build import Builder


@dataclass(frozen=True, slots=True)
class ReduceAttrs(Attrs):
    """Axes >= 0 that are reduced; with `keepdims` they stay as size 1."""

    axes: tuple[int, ...]
    keepdims: bool = False


ReduceMeanAttrs = ReduceSumAttrs = ReduceMaxAttrs = ReduceMinAttrs = ReduceAttrs


@dataclass(frozen=True, slots=True)
class ArgmaxAttrs(Attrs):
    """`axis` None: over the flattened tensor."""

    axis: int | None
    keepdims: bool = False


def reduced(shape: Sequence[Dim], axes: tuple[int, ...], keepdims: bool) -> tuple[Dim, ...]:
    """The shape that is left. Raises TypeRule for an axis out of range, repeated, or of size 0."""
    require(len(set(axes)) == len(axes), f"axes {axes} repeat")
    for axis in axes:
        require(0 <= axis < len(shape), f"axis {axis} of a tensor with {len(shape)} axes")
        require(shape[axis] != 0, f"axis {axis} has no elements")
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def _infer(attrs: ReduceAttrs, types: Types) -> Types:
    """x of numbers -> x without attrs.axes; the dtype stays."""
    require(len(types) == 1, "takes one input")
    require(types[0].dtype is not DType.B8, "takes numbers, not booleans")
    return (Type(reduced(types[0].shape, attrs.axes, attrs.keepdims), types[0].dtype),)


def _infer_mean(attrs: ReduceAttrs, types: Types) -> Types:
    (y,) = _infer(attrs, types)
    require(y.dtype.is_float or types[0].quant is not None, f"takes floats, not {y.dtype.value}")
    return (y,)


def count(attrs: ReduceAttrs, x: Type) -> int:
    """Elements that go into one output."""
    return prod(x.dims[a] for a in attrs.axes)


def widen(builder: Builder, node: Node, gradient: str) -> Term:
    """A gradient of the reduced shape, with the reduced axes back (size 1), so that it broadcasts to x."""
    assert isinstance(node.attrs, ReduceAttrs)
    dims = builder.types[node.inputs[0]].dims
    kept = tuple(1 if i in node.attrs.axes else d for i, d in enumerate(dims))
    if builder.types[gradient].dims == kept:
        return Term(builder, gradient)
    return Term(builder, emit(builder, "reshape", gradient, shape=kept))


def _sum_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    if grads[0] is None:
        return (None,)
    assert isinstance(node.attrs, ReduceAttrs)
    x = builder.types[node.inputs[0]]
    dy = widen(builder, node, grads[0])
    if node.op == "reduce_mean":
        dy = dy * (1.0 / count(node.attrs, x))
    return (emit(builder, "expand", dy.ref, shape=x.dims),)


def _extreme_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    """The gradient goes in equal parts to all elements that equal the extreme, as torch.amax does."""
    if grads[0] is None:
        return (None,)
    assert isinstance(node.attrs, ReduceAttrs)
    x, y = Term(builder, node.inputs[0]), widen(builder, node, node.outputs[0].name)
    dy = widen(builder, node, grads[0])
    hits = x.op("eq", y).where(x.scalar(1.0), 0.0)
    total = builder.call("reduce_sum", hits.ref, attrs=ReduceAttrs(node.attrs.axes, keepdims=True))
    return ((hits * (dy / Term(builder, total))).ref,)


def sum_multiplier(op: str, attrs: ReduceAttrs, x: Type, y: Type) -> tuple[int, int]:
    """(m, shift) from the sum of x - Zx to the output of reduce_sum or reduce_mean."""
    assert x.quant is not None and y.quant is not None
    elements = count(attrs, x) if op == "reduce_mean" else 1
    return multiplier(x.quant.scale[0] / (elements * y.quant.scale[0]))


def _sum_quant(op: str) -> Callable[[Any, Types, Arrays, Types], Arrays]:
    """y = clamp(Zy + requantize(sum (x - Zx), Sx / Sy)), Sx / (n Sy) for the mean of n."""

    def ref(attrs: ReduceAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
        x_quant, y_quant = in_types[0].quant, out_types[0].quant
        assert x_quant is not None and y_quant is not None
        acc = (inputs[0].astype(np.int64) - x_quant.zero[0]).sum(attrs.axes, keepdims=attrs.keepdims)
        m, shift = sum_multiplier(op, attrs, in_types[0], out_types[0])
        return (np.clip(requantize(acc, m, shift) + y_quant.zero[0], -128, 127).astype(np.int8),)

    return ref


def cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """One operation an input element."""
    return Cost(0, inputs[0].size)


def _define(
    name: str,
    doc: str,
    ref: Callable[..., Any],
    quant: QuantRule,
    torch_name: str,
    rule: Callable[[Any, Types], Types] = _infer,
) -> None:
    def float_ref(attrs: ReduceAttrs, inputs: Arrays) -> Arrays:
        y: Array = np.asarray(ref(inputs[0], axis=attrs.axes, keepdims=attrs.keepdims))
        return (y.astype(inputs[0].dtype, copy=False),)

    def example(label: str, attrs: ReduceAttrs, shape: tuple[int, ...]) -> Example:
        def torch(t, x):  # type: ignore[no-untyped-def]
            return getattr(t, torch_name)(x, dim=attrs.axes, keepdim=attrs.keepdims)

        return Example(label, attrs, uniform(-1.0, 2.0, shape), torch)

    def whole(label: str, attrs: ReduceAttrs, shape: tuple[int, ...]) -> Example:
        def torch(t, x):  # type: ignore[no-untyped-def]
            return getattr(t, torch_name)(x, dim=attrs.axes, keepdim=attrs.keepdims).int()

        return Example(label, attrs, integers(-9, 9, "int32", shape), torch)

    counted = () if name == "reduce_mean" else (whole("integers", ReduceAttrs((1,)), (3, 6, 2)),)

    define(
        Op(
            name=name,
            doc=doc,
            attrs=ReduceAttrs,
            infer=rule,
            ref=float_ref,
            vjp=_extreme_grad if name in ("reduce_max", "reduce_min") else _sum_grad,
            quant=quant,
            cost=cost,
            examples=(
                example("height and width", ReduceAttrs((1, 2)), (1, 5, 4, 3)),
                example("last axis, kept", ReduceAttrs((2,), keepdims=True), (2, 3, 7)),
                example("axes apart", ReduceAttrs((0, 2)), (3, 4, 5, 2)),
                example("all", ReduceAttrs((0, 1)), (6, 5)),
                *counted,
            ),
        )
    )


def _extreme_rule(ref: Callable[..., Any]) -> QuantRule:
    def quant(attrs: ReduceAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
        return (ref(inputs[0], axis=attrs.axes, keepdims=attrs.keepdims),)

    return QuantRule(("shared",), "shared", quant, max_lsb=0.0)


def _sum_rule(op: str) -> QuantRule:
    return QuantRule(("activation",), "calibrated", _sum_quant(op), max_lsb=1.0)


_define("reduce_mean", "Mean over axes.", np.mean, _sum_rule("reduce_mean"), "mean", _infer_mean)
_define("reduce_sum", "Sum over axes, in the dtype of x.", np.sum, _sum_rule("reduce_sum"), "sum")
_define("reduce_max", "Largest element over axes.", np.max, _extreme_rule(np.max), "amax")
_define("reduce_min", "Smallest element over axes.", np.min, _extreme_rule(np.min), "amin")


def _infer_argmax(attrs: ArgmaxAttrs, types: Types) -> Types:
    """x -> i32 index along attrs.axis."""
    require(len(types) == 1, "takes one input")
    require(types[0].dtype is not DType.B8, "takes numbers, not booleans")
    shape = types[0].shape
    if attrs.axis is None:
        require(not any(isinstance(d, Bound) for d in shape), "a flattened argmax takes known sizes")
        return (Type((1,) * len(shape) if attrs.keepdims else (), DType.I32),)
    return (Type(reduced(shape, (attrs.axis,), attrs.keepdims), DType.I32),)


def _argmax(attrs: ArgmaxAttrs, inputs: Arrays) -> Arrays:
    y = np.argmax(inputs[0], axis=attrs.axis, keepdims=attrs.keepdims)
    return (np.asarray(y, np.int32),)


def _argmax_example(label: str, attrs: ArgmaxAttrs, shape: tuple[int, ...]) -> Example:
    def torch(t, x):  # type: ignore[no-untyped-def]
        return t.argmax(x, dim=attrs.axis, keepdim=attrs.keepdims).int()

    return Example(label, attrs, normal(shape), torch)


define(
    Op(
        name="argmax",
        doc="Index of the largest element along an axis, the first of equal ones; int32.",
        attrs=ArgmaxAttrs,
        infer=_infer_argmax,
        ref=_argmax,
        vjp=NoGrad("an index has no gradient"),
        quant=QuantRule(
            ("activation",),
            "plain",
            lambda attrs, in_types, inputs, out_types: _argmax(attrs, inputs),
            max_lsb=0.0,
        ),
        cost=cost,
        examples=(
            _argmax_example("last axis", ArgmaxAttrs(1), (4, 10)),
            _argmax_example("channels of a map, kept", ArgmaxAttrs(3, keepdims=True), (1, 3, 4, 5)),
            _argmax_example("middle axis", ArgmaxAttrs(1), (2, 5, 3)),
            _argmax_example("flattened", ArgmaxAttrs(None), (3, 4)),
            Example(
                "equal elements",
                ArgmaxAttrs(0),
                integers(0, 2, "int32", (9,)),
                lambda t, x: t.argmax(x.double() - 1e-3 * t.arange(9)).int(),
            ),
        ),
    )
)
