"""Ops that cut a tensor along one axis: slice, select, split, unbind. Any dtype; quantisation passes through.

The cut axis has a fixed size; other axes may be Bounds. split and unbind have several outputs; for kernels
they are rewritten as one slice or select an output, or their outputs are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops.define import Arrays, Example, Op, Types, define, no_cost, require
from edgec.ops.emit import emit, zeros
from edgec.ops.movement import normal, same_movement

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class SliceAttrs(Attrs):
    """Elements start, start + step, ... before stop along axis; 0 <= start < stop <= size, step >= 1."""

    axis: int
    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class SelectAttrs(Attrs):
    """The one element `index` along `axis`, which is dropped."""

    axis: int
    index: int


@dataclass(frozen=True, slots=True)
class SplitAttrs(Attrs):
    """Consecutive pieces of `sizes` along `axis`."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnbindAttrs(Attrs):
    """Every element along `axis`, which is dropped."""

    axis: int


def axis_size(x: Type, axis: int) -> int:
    """Fixed size of `axis`; TypeRule where there is none."""
    require(0 <= axis < len(x.shape), f"axis {axis} of {len(x.shape)} axes")
    size = x.shape[axis]
    require(isinstance(size, int), f"axis {axis} has a size known only at run time")
    assert isinstance(size, int)
    return size


def with_axis(x: Type, axis: int, size: int | None) -> Type:
    """x with `axis` of another size, or without it where size is None."""
    middle = () if size is None else (size,)
    return Type((*x.shape[:axis], *middle, *x.shape[axis + 1 :]), x.dtype, x.quant)


def infer_slice(attrs: SliceAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    size = axis_size(types[0], attrs.axis)
    require(
        0 <= attrs.start < attrs.stop <= size and attrs.step >= 1,
        f"{attrs.start}:{attrs.stop}:{attrs.step} of {size} elements",
    )
    return (with_axis(types[0], attrs.axis, -(-(attrs.stop - attrs.start) // attrs.step)),)


def slice_(attrs: SliceAttrs, inputs: Arrays) -> Arrays:
    cut = (slice(None),) * attrs.axis + (slice(attrs.start, attrs.stop, attrs.step),)
    return (inputs[0][cut],)


def vjp_slice(b: Builder, node: Node, grads: Grads) -> Grads:
    """The gradient between zeros; for step > 1 each element is first followed by step - 1 zeros."""
    attrs = node.attrs
    assert isinstance(attrs, SliceAttrs)
    grad = grads[0]
    if grad is None:
        return (None,)
    dims = b.types[node.inputs[0]].dims
    axis, step = attrs.axis, attrs.step
    count = b.types[grad].dims[axis]
    if step > 1:
        spread = (*dims[:axis], count, 1, *dims[axis + 1 :])
        grad = _pad(b, emit(b, "reshape", grad, shape=spread), axis + 1, 0, step - 1)
        grad = emit(b, "reshape", grad, shape=(*dims[:axis], count * step, *dims[axis + 1 :]))
        used = min(count * step, dims[axis] - attrs.start)
        if used < count * step:
            grad = emit(b, "slice", grad, axis=axis, start=0, stop=used)
        count = used
    return (_pad(b, grad, axis, attrs.start, dims[axis] - attrs.start - count),)


def _pad(b: Builder, ref: str, axis: int, before: int, after: int) -> str:
    if before == 0 and after == 0:
        return ref
    pads = [(0, 0)] * len(b.types[ref].dims)
    pads[axis] = (before, after)
    return emit(b, "pad", ref, pads=tuple(pads))


def infer_select(attrs: SelectAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    size = axis_size(types[0], attrs.axis)
    require(0 <= attrs.index < size, f"index {attrs.index} of {size} elements")
    return (with_axis(types[0], attrs.axis, None),)


def select(attrs: SelectAttrs, inputs: Arrays) -> Arrays:
    return (inputs[0][(slice(None),) * attrs.axis + (attrs.index,)],)


def vjp_select(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs = node.attrs
    assert isinstance(attrs, SelectAttrs)
    if grads[0] is None:
        return (None,)
    dims, axis = b.types[node.inputs[0]].dims, attrs.axis
    kept = emit(b, "reshape", grads[0], shape=(*dims[:axis], 1, *dims[axis + 1 :]))
    return (_pad(b, kept, axis, attrs.index, dims[axis] - attrs.index - 1),)


def infer_split(attrs: SplitAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    size = axis_size(types[0], attrs.axis)
    require(sum(attrs.sizes) == size and min(attrs.sizes) > 0, f"sizes {attrs.sizes} of {size} elements")
    return tuple(with_axis(types[0], attrs.axis, s) for s in attrs.sizes)


def split(attrs: SplitAttrs, inputs: Arrays) -> Arrays:
    return tuple(np.split(inputs[0], np.cumsum(attrs.sizes)[:-1], attrs.axis))


def vjp_split(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, SplitAttrs)
    if all(g is None for g in grads):
        return (None,)
    like = next(g for g in grads if g is not None)
    parts = [
        zeros(b, v.type.dims, like) if g is None else g for g, v in zip(grads, node.outputs, strict=True)
    ]
    return (emit(b, "concat", *parts, axis=node.attrs.axis),)


def infer_unbind(attrs: UnbindAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    size = axis_size(types[0], attrs.axis)
    require(size > 0, "the axis is empty")
    return (with_axis(types[0], attrs.axis, None),) * size


def unbind(attrs: UnbindAttrs, inputs: Arrays) -> Arrays:
    moved: Array = np.moveaxis(inputs[0], attrs.axis, 0)
    return tuple(moved[i] for i in range(moved.shape[0]))


def vjp_unbind(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, UnbindAttrs)
    if all(g is None for g in grads):
        return (None,)
    dims, axis = b.types[node.inputs[0]].dims, node.attrs.axis
    shape = (*dims[:axis], 1, *dims[axis + 1 :])
    like = next(g for g in grads if g is not None)
    parts = [zeros(b, shape, like) if g is None else emit(b, "reshape", g, shape=shape) for g in grads]
    return (parts[0] if len(parts) == 1 else emit(b, "concat", *parts, axis=axis),)


define(
    Op(
        name="slice",
        doc="Every step-th element from start to before stop along one axis.",
        attrs=SliceAttrs,
        infer=infer_slice,
        ref=slice_,
        vjp=vjp_slice,
        quant=same_movement(slice_),
        cost=no_cost,
        examples=(
            Example("middle", SliceAttrs(1, 1, 4), normal((2, 5, 3)), lambda t, x: x[:, 1:4]),
            Example("every third", SliceAttrs(1, 1, 8, 3), normal((2, 8, 3)), lambda t, x: x[:, 1:8:3]),
            Example("last axis", SliceAttrs(2, 2, 7, 2), normal((2, 3, 7)), lambda t, x: x[..., 2:7:2]),
        ),
    )
)
define(
    Op(
        name="select",
        doc="One element along an axis; the axis is dropped.",
        attrs=SelectAttrs,
        infer=infer_select,
        ref=select,
        vjp=vjp_select,
        quant=same_movement(select),
        cost=no_cost,
        examples=(
            Example("first token", SelectAttrs(1, 0), normal((2, 5, 3)), lambda t, x: x[:, 0]),
            Example("last axis", SelectAttrs(2, 3), normal((2, 3, 4)), lambda t, x: x[..., 3]),
        ),
    )
)
define(
    Op(
        name="split",
        doc="Consecutive pieces along an axis, one output each.",
        attrs=SplitAttrs,
        infer=infer_split,
        ref=split,
        vjp=vjp_split,
        quant=same_movement(split),
        cost=no_cost,
        examples=(
            Example("unequal", SplitAttrs(1, (2, 1, 3)), normal((2, 6)), lambda t, x: x.split((2, 1, 3), 1)),
            Example("halves", SplitAttrs(0, (2, 2)), normal((4, 3)), lambda t, x: x.chunk(2, 0)),
            Example(
                "quarters",
                SplitAttrs(2, (2, 2, 2, 2)),
                normal((2, 3, 8)),
                lambda t, x: x.chunk(4, 2),
            ),
        ),
    )
)
define(
    Op(
        name="unbind",
        doc="Every element along an axis as an output of its own; the axis is dropped.",
        attrs=UnbindAttrs,
        infer=infer_unbind,
        ref=unbind,
        vjp=vjp_unbind,
        quant=same_movement(unbind),
        cost=no_cost,
        examples=(
            Example("q, k, v", UnbindAttrs(2), normal((1, 4, 3, 2, 5)), lambda t, x: x.unbind(2)),
            Example("rows", UnbindAttrs(0), normal((2, 3)), lambda t, x: x.unbind(0)),
            Example("last axis", UnbindAttrs(1), normal((3, 4)), lambda t, x: x.unbind(1)),
        ),
    )
)
