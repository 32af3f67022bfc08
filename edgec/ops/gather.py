"""Ops that read or write at indices: gather, index_select, index_copy, scatter, scatter_add, embedding.

Indices are integers of any shape the op allows. A negative index counts from the end; what then lies outside
[0, size) is taken as the nearest element, so that no index reads or writes outside its tensor on a device
that cannot abort. Quantisation passes through: the integer form is the same movement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.fixedpoint import I64
from edgec.ir import NO_ATTRS, Array, Attrs, DType, Type
from edgec.ops.define import Arrays, Example, NoQuant, Op, Types, define, no_cost, require
from edgec.ops.emit import emit, zeros
from edgec.ops.movement import same_movement

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]
INDEX: tuple[DType, ...] = (DType.I32, DType.I64)


@dataclass(frozen=True, slots=True)
class GatherAttrs(Attrs):
    """The axis that the index runs along."""

    axis: int


@dataclass(frozen=True, slots=True)
class IndexSelectAttrs(Attrs):
    """The axis that the index runs along; the index's own axes take its place."""

    axis: int


@dataclass(frozen=True, slots=True)
class IndexCopyAttrs(Attrs):
    """The axis whose elements are replaced."""

    axis: int


@dataclass(frozen=True, slots=True)
class ScatterAttrs(Attrs):
    """The axis that the index runs along."""

    axis: int


@dataclass(frozen=True, slots=True)
class ScatterAddAttrs(Attrs):
    """The axis that the index runs along."""

    axis: int


def resolve(index: Array, size: int) -> I64:
    """Index with negatives counted from the end and the rest clamped to [0, size)."""
    i = index.astype(np.int64)
    return np.asarray(np.clip(np.where(i < 0, i + size, i), 0, size - 1), np.int64)


def _axis(x: Type, axis: int) -> int:
    require(0 <= axis < len(x.shape), f"axis {axis} of {len(x.shape)} axes")
    require(x.dims[axis] > 0, f"axis {axis} is empty")
    return axis


def _integers(t: Type) -> None:
    require(t.dtype in INDEX, f"indices are i32 or i64, not {t.dtype.value}")


def _within(x: Type, index: Type, axis: int) -> None:
    """An index of torch.gather's kind: as many axes as x, none but `axis` longer."""
    require(len(index.shape) == len(x.shape), f"index has {len(index.shape)} axes, x {len(x.shape)}")
    longer = [a for a in range(len(x.shape)) if a != axis and index.dims[a] > x.dims[a]]
    require(not longer, f"index of shape {index.dims} reaches beyond x of shape {x.dims} along {longer}")


def _window(x: Array, index: Array, axis: int) -> Array:
    """The part of x that an index of a smaller shape covers: a view."""
    cut = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(index.shape))
    return x[cut]


def infer_gather(attrs: GatherAttrs, types: Types) -> Types:
    require(len(types) == 2, "takes x and index")
    x, index = types
    _integers(index)
    _within(x, index, _axis(x, attrs.axis))
    return (Type(index.shape, x.dtype, x.quant),)


def gather(attrs: GatherAttrs, inputs: Arrays) -> Arrays:
    x, index = inputs
    at = resolve(index, x.shape[attrs.axis])
    return (np.take_along_axis(_window(x, index, attrs.axis), at, attrs.axis),)


def vjp_gather(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, GatherAttrs)
    if grads[0] is None:
        return (None, None)
    blank = zeros(b, b.types[node.inputs[0]].dims, grads[0])
    return (emit(b, "scatter_add", blank, node.inputs[1], grads[0], axis=node.attrs.axis), None)


def infer_index_select(attrs: IndexSelectAttrs, types: Types) -> Types:
    require(len(types) == 2, "takes x and index")
    x, index = types
    _integers(index)
    axis = _axis(x, attrs.axis)
    return (Type((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype, x.quant),)


def index_select(attrs: IndexSelectAttrs, inputs: Arrays) -> Arrays:
    x, index = inputs
    return (np.take(x, resolve(index, x.shape[attrs.axis]), attrs.axis),)


def vjp_index_select(b: Builder, node: Node, grads: Grads) -> Grads:
    """Sum the rows of the gradient that came from one row of x."""
    assert isinstance(node.attrs, IndexSelectAttrs)
    if grads[0] is None:
        return (None, None)
    return (rows_added(b, grads[0], node.inputs[1], b.types[node.inputs[0]].dims, node.attrs.axis), None)


def rows_added(b: Builder, grad: str, index: str, dims: Sequence[int], axis: int) -> str:
    """Zeros of `dims` to which the slices of `grad` are added where `index` (any rank) says."""
    count = math.prod(b.types[index].dims)
    rows = (*dims[:axis], count, *dims[axis + 1 :])
    shape = tuple(count if a == axis else 1 for a in range(len(dims)))
    if index[0] == "@":  # no kernel reshapes a constant
        at = b.constant(np.reshape(b.constants[index[1:]].data, shape), f"{index[1:]}.rows")
    else:
        at = emit(b, "reshape", index, shape=shape)
    at = emit(b, "expand", at, shape=rows)
    return emit(b, "scatter_add", zeros(b, dims, grad), at, emit(b, "reshape", grad, shape=rows), axis=axis)


def infer_index_copy(attrs: IndexCopyAttrs, types: Types) -> Types:
    require(len(types) == 3, "takes x, index and source")
    x, index, source = types
    _integers(index)
    axis = _axis(x, attrs.axis)
    require(len(index.shape) == 1, "index has one axis")
    expected = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
    require(source.shape == expected, f"source has shape {source.shape}, not {expected}")
    require(source.dtype is x.dtype, f"source is {source.dtype.value}, x {x.dtype.value}")
    return (x,)


def index_copy(attrs: IndexCopyAttrs, inputs: Arrays) -> Arrays:
    x, index, source = inputs
    y = x.copy()
    np.moveaxis(y, attrs.axis, 0)[resolve(index, x.shape[attrs.axis])] = np.moveaxis(source, attrs.axis, 0)
    return (y,)


def vjp_index_copy(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, IndexCopyAttrs)
    grad = grads[0]
    if grad is None:
        return (None, None, None)
    axis, index = node.attrs.axis, node.inputs[1]
    blank = zeros(b, b.types[node.inputs[2]].dims, grad)
    return (
        emit(b, "index_copy", grad, index, blank, axis=axis),
        None,
        emit(b, "index_select", grad, index, axis=axis),
    )


def infer_scatter(attrs: ScatterAttrs | ScatterAddAttrs, types: Types) -> Types:
    require(len(types) == 3, "takes x, index and source")
    x, index, source = types
    _integers(index)
    _within(x, index, _axis(x, attrs.axis))
    require(source.shape == index.shape, f"source has shape {source.shape}, index {index.shape}")
    require(source.dtype is x.dtype, f"source is {source.dtype.value}, x {x.dtype.value}")
    return (x,)


def scatter(attrs: ScatterAttrs, inputs: Arrays) -> Arrays:
    x, index, source = inputs
    y = x.copy()
    np.put_along_axis(_window(y, index, attrs.axis), resolve(index, x.shape[attrs.axis]), source, attrs.axis)
    return (y,)


def vjp_scatter(b: Builder, node: Node, grads: Grads) -> Grads:
    """Right where no two indices write the same element (PyTorch's condition as well)."""
    assert isinstance(node.attrs, ScatterAttrs)
    grad = grads[0]
    if grad is None:
        return (None, None, None)
    axis, index = node.attrs.axis, node.inputs[1]
    blank = zeros(b, b.types[node.inputs[2]].dims, grad)
    return (
        emit(b, "scatter", grad, index, blank, axis=axis),
        None,
        emit(b, "gather", grad, index, axis=axis),
    )


def scatter_add(attrs: ScatterAddAttrs, inputs: Arrays) -> Arrays:
    x, index, source = inputs
    y = x.copy()
    grid: list[I64] = list(np.indices(index.shape, sparse=True))
    grid[attrs.axis] = resolve(index, x.shape[attrs.axis])
    np.add.at(y, tuple(grid), source)
    return (y,)


def vjp_scatter_add(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, ScatterAddAttrs)
    grad = grads[0]
    if grad is None:
        return (None, None, None)
    return (grad, None, emit(b, "gather", grad, node.inputs[1], axis=node.attrs.axis))


def infer_embedding(attrs: Attrs, types: Types) -> Types:
    require(len(types) == 2, "takes table and ids")
    table, ids = types
    _integers(ids)
    require(len(table.shape) == 2, f"the table has 2 axes, here {len(table.shape)}")
    return (Type((*ids.shape, table.shape[1]), table.dtype, table.quant),)


def embedding(attrs: Attrs, inputs: Arrays) -> Arrays:
    table, ids = inputs
    return (table[resolve(ids, table.shape[0])],)


def vjp_embedding(b: Builder, node: Node, grads: Grads) -> Grads:
    if grads[0] is None:
        return (None, None)
    return (rows_added(b, grads[0], node.inputs[1], b.types[node.inputs[0]].dims, 0), None)


def _example(
    label: str,
    attrs: Attrs,
    x: tuple[int, ...],
    index: tuple[int, ...],
    size: int,
    torch: object,
    source: tuple[int, ...] | None = None,
    unique: int | None = None,
) -> Example:
    """x and an index below `size` of these shapes (`unique`: distinct along that axis), maybe a source."""

    def make(rng: np.random.Generator) -> Arrays:
        if unique is None:
            at = rng.integers(0, size, index)
        else:
            room = (*index[:unique], size, *index[unique + 1 :])
            at = np.take(
                rng.permuted(np.broadcast_to(_ramp(size, unique, len(index)), room), axis=unique),
                range(index[unique]),
                unique,
            )
        arrays: list[Array] = [rng.normal(size=x).astype(np.float32), at.astype(np.int32)]
        if source is not None:
            arrays.append(rng.normal(size=source).astype(np.float32))
        return tuple(arrays)

    assert callable(torch)
    return Example(label, attrs, make, torch)


def _ramp(size: int, axis: int, rank: int) -> Array:
    return np.arange(size).reshape([size if a == axis else 1 for a in range(rank)])


define(
    Op(
        name="gather",
        doc="y has the index's shape; its element is x at the same place, along `axis` at the index.",
        attrs=GatherAttrs,
        infer=infer_gather,
        ref=gather,
        vjp=vjp_gather,
        quant=same_movement(gather, ("shared", "index")),
        cost=no_cost,
        examples=(
            _example("columns", GatherAttrs(1), (3, 5), (3, 4), 5, lambda t, x, i: t.gather(x, 1, i.long())),
            _example(
                "smaller index",
                GatherAttrs(1),
                (3, 4, 5),
                (2, 6, 3),
                4,
                lambda t, x, i: t.gather(x, 1, i.long()),
            ),
        ),
    )
)
define(
    Op(
        name="index_select",
        doc="Slices of x along `axis` at the index, whose own axes replace `axis`.",
        attrs=IndexSelectAttrs,
        infer=infer_index_select,
        ref=index_select,
        vjp=vjp_index_select,
        quant=same_movement(index_select, ("shared", "index")),
        cost=no_cost,
        examples=(
            _example("rows", IndexSelectAttrs(0), (5, 3), (4,), 5, lambda t, x, i: t.index_select(x, 0, i)),
            _example(
                "relative positions",
                IndexSelectAttrs(1),
                (2, 7, 3),
                (2, 4),
                7,
                lambda t, x, i: x[:, i.long()],
            ),
        ),
    )
)
define(
    Op(
        name="index_copy",
        doc="x with its slices along `axis` at the index replaced by the source's; the last of equals wins.",
        attrs=IndexCopyAttrs,
        infer=infer_index_copy,
        ref=index_copy,
        vjp=vjp_index_copy,
        quant=same_movement(index_copy, ("shared", "index", "shared")),
        cost=no_cost,
        examples=(
            _example(
                "rows",
                IndexCopyAttrs(0),
                (6, 3),
                (2,),
                6,
                lambda t, x, i, s: t.index_copy(x, 0, i.long(), s),
                (2, 3),
                0,
            ),
            _example(
                "cache",
                IndexCopyAttrs(2),
                (1, 2, 8, 4),
                (3,),
                8,
                lambda t, x, i, s: t.index_copy(x, 2, i.long(), s),
                (1, 2, 3, 4),
                0,
            ),
        ),
    )
)
define(
    Op(
        name="scatter",
        doc="x with the source's elements written along `axis` at the index; the last of equals wins.",
        attrs=ScatterAttrs,
        infer=infer_scatter,
        ref=scatter,
        vjp=vjp_scatter,
        quant=same_movement(scatter, ("shared", "index", "shared")),
        cost=no_cost,
        examples=(
            _example(
                "columns",
                ScatterAttrs(1),
                (3, 6),
                (3, 4),
                6,
                lambda t, x, i, s: t.scatter(x, 1, i.long(), s),
                (3, 4),
                1,
            ),
            _example(
                "smaller index",
                ScatterAttrs(0),
                (5, 4),
                (3, 2),
                5,
                lambda t, x, i, s: t.scatter(x, 0, i.long(), s),
                (3, 2),
                0,
            ),
        ),
    )
)
define(
    Op(
        name="scatter_add",
        doc="x with the source's elements added along `axis` at the index: the gradient of lookups.",
        attrs=ScatterAddAttrs,
        infer=infer_scatter,
        ref=scatter_add,
        vjp=vjp_scatter_add,
        quant=NoQuant("sums of gradients are kept in float"),
        cost=lambda attrs, inputs, outputs: no_cost(attrs, inputs, outputs),
        examples=(
            _example(
                "equal indices add up",
                ScatterAddAttrs(0),
                (3, 4),
                (6, 4),
                3,
                lambda t, x, i, s: t.scatter_add(x, 0, i.long(), s),
                (6, 4),
            ),
            _example(
                "middle axis",
                ScatterAddAttrs(1),
                (2, 5, 3),
                (2, 4, 2),
                5,
                lambda t, x, i, s: t.scatter_add(x, 1, i.long(), s),
                (2, 4, 2),
            ),
        ),
    )
)
define(
    Op(
        name="embedding",
        doc="Rows of the table[V,D] at ids[...]: y[...,D]. int8: table and output share one scale.",
        attrs=Attrs,
        infer=infer_embedding,
        ref=embedding,
        vjp=vjp_embedding,
        quant=same_movement(embedding, ("weight", "index")),
        cost=no_cost,
        examples=(
            _example(
                "tokens", NO_ATTRS, (10, 4), (2, 5), 10, lambda t, w, i: t.nn.functional.embedding(i, w)
            ),
            _example(
                "one sequence", NO_ATTRS, (6, 3), (4,), 6, lambda t, w, i: t.nn.functional.embedding(i, w)
            ),
        ),
    )
)
