"""Kernel records of the CUDA backend: reductions over axes, argmax, and global pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgec.backends.cuda_record import (
    CUDA_TYPE,
    ELEMENTS_MOST,
    FLOATS,
    GRID_MOST,
    WARP_OUTPUTS_MOST,
    all_of_one_float,
    blocks_for,
    gpu_of,
)
from edgec.backends.kernel_record import Accepts, Fields, int_fields, is_s8
from edgec.backends.kernels_cuda_norm import vector_width
from edgec.backends.strided import split_axes
from edgec.ir import DType
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

THREADS: Final = 256
LANES: Final = 8  # vectors of columns that a block takes
SPLITS_MAX: Final = 64
ROWS_EACH: Final = 4  # rows that a thread should have at least before a column is split further
JOINS: Final = {
    "reduce_sum": "ec_reduce_sum",
    "reduce_mean": "ec_reduce_sum",
    "reduce_max": "ec_reduce_max",
    "reduce_min": "ec_reduce_min",
    "adaptive_avg_pool2d": "ec_reduce_sum",
    "adaptive_max_pool2d": "ec_reduce_max",
}
AXES: Final = 3
SOURCE: Final = "cuda/ec_reduce.cu"


def reduced_axes(node: NodeView) -> tuple[int, ...]:
    """The axes over which the node reduces; those of a map for a global pooling."""
    attrs = node.node.attrs
    return attrs.axes if isinstance(attrs, ReduceAttrs) else (1, 2)


@dataclass(frozen=True, slots=True)
class Columns:
    """x as [outer, count, inner], the middle being reduced."""

    outer: int
    count: int
    inner: int


def columns_of(node: NodeView) -> Columns | None:
    """The reduced axes in one piece, None where they are apart."""
    dims, axes = node.inputs[0].dims, sorted(reduced_axes(node))
    long = [i for i, d in enumerate(dims) if d > 1]
    if not axes:
        return None
    first, last = axes[0], axes[-1]
    if any(i not in axes for i in long if first < i < last):
        return None
    return Columns(math.prod(dims[:first]), math.prod(dims[first : last + 1]), math.prod(dims[last + 1 :]))


def _numbers(node: NodeView, target: Target) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if x.size > ELEMENTS_MOST or x.size == 0:
        return False
    whole = x.dtype is DType.I32 and y.dtype is DType.I32 and node.node.op != "reduce_mean"
    return all_of_one_float(node, target) or (whole and x.quant is None and not x.bounds)


def _accepts_rows(node: NodeView, target: Target) -> bool:
    columns = columns_of(node)
    return _numbers(node, target) and columns is not None and columns.inner == 1


@dataclass(frozen=True, slots=True)
class ColumnTile:
    """A block takes `lanes` vectors of columns with `threads` threads; `splits` blocks share a column."""

    lanes: int
    threads: int
    splits: int


def column_tile(columns: Columns, width: int, target: Target) -> ColumnTile:
    """Wide tiles for tensors that fill the GPU many times over; else narrow ones and so many threads that each has a
    few rows, so that no second step is needed where it would take longer than the first."""
    sms, vectors = gpu_of(target).sms, -(-columns.inner // width)
    if columns.outer * columns.count * vectors >= 64 * THREADS * sms:
        blocks = blocks_for(vectors, LANES) * columns.outer
        most = columns.count // (THREADS // LANES * ROWS_EACH)
        return ColumnTile(LANES, THREADS, max(1, min(most, 8 * sms // blocks, SPLITS_MAX)))
    lanes = 2 if vectors % 2 == 0 else 1
    rows = max(columns.count, 64) * lanes
    threads = min(1024, max(128, 1 << (rows - 1).bit_length()))
    each = -(-columns.count * lanes // threads)
    return ColumnTile(lanes, threads, 1 if each <= 8 else min(-(-each // ROWS_EACH), SPLITS_MAX))


def _width(node: NodeView, columns: Columns) -> int:
    return vector_width(node.inputs[0].dtype, columns.inner)


def _accepts_columns(node: NodeView, target: Target) -> bool:
    columns = columns_of(node)
    if not _numbers(node, target) or columns is None or columns.outer > GRID_MOST:
        return False
    return column_tile(columns, _width(node, columns), target).splits == 1


def _accepts_split(node: NodeView, target: Target) -> bool:
    columns = columns_of(node)
    if not _numbers(node, target) or columns is None or columns.outer > GRID_MOST:
        return False
    return column_tile(columns, _width(node, columns), target).splits > 1


def _accepts_any(node: NodeView, target: Target) -> bool:
    parts = split_axes(node.inputs[0].dims, reduced_axes(node))
    few = all(len(part.sizes) <= AXES for part in parts)
    return _numbers(node, target) and few and node.outputs[0].size <= WARP_OUTPUTS_MOST


def is_global(node: NodeView) -> bool:
    """Whether an adaptive pooling has one window, the whole map."""
    attrs = node.node.attrs
    assert isinstance(attrs, (AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs))
    return tuple(attrs.size) == (1, 1)


def _template(node: NodeView) -> tuple[str, str]:
    element = CUDA_TYPE[node.inputs[0].dtype]
    return element, f"{JOINS[node.node.op]}<{element}>"


def _scale(node: NodeView) -> tuple[str, float]:
    mean = node.node.op in ("reduce_mean", "adaptive_avg_pool2d")
    elements = math.prod(node.inputs[0].dims[a] for a in reduced_axes(node))
    return ("scale", 1.0 / elements if mean else 1.0)


def _launch_rows(node: NodeView, target: Target) -> Launch:
    columns = columns_of(node)
    assert columns is not None
    rows, length = columns.outer, columns.count
    width = vector_width(node.inputs[0].dtype, length)
    lanes = min(32, 1 << (-(-length // width) - 1).bit_length())
    while lanes < 1024 and lanes * width < length and rows * lanes < gpu_of(target).sms * 512:
        lanes *= 2
    threads = THREADS if lanes <= 32 else lanes
    fields = (*int_fields(rows=rows, count=length), _scale(node))
    blocks = (blocks_for(rows, threads // lanes), 1, 1)
    grid = Grid("ec_reduce_rows_body", (*_template(node), str(width), str(lanes)), blocks, threads)
    return Launch("ec_reduce_rows_params", fields, (0,), (), (grid,))


def _launch_columns(node: NodeView, target: Target) -> Launch:
    columns = columns_of(node)
    assert columns is not None
    width = _width(node, columns)
    tile = column_tile(columns, width, target)
    fields = (*int_fields(count=columns.count, inner=columns.inner, splits=tile.splits), _scale(node))
    blocks = (blocks_for(columns.inner, width * tile.lanes), tile.splits, columns.outer)
    body = "ec_reduce_columns_split_body" if tile.splits > 1 else "ec_reduce_columns_body"
    grid = Grid(body, (*_template(node), str(width), str(tile.lanes)), blocks, tile.threads)
    return Launch("ec_reduce_columns_params", fields, (0,), (), (grid,))


def _split_scratch(node: NodeView, target: Target) -> int:
    columns = columns_of(node)
    assert columns is not None
    return 4 * columns.outer * column_tile(columns, _width(node, columns), target).splits * columns.inner


def _split_counters(node: NodeView, target: Target) -> int:
    columns = columns_of(node)
    assert columns is not None
    width = _width(node, columns)
    return 4 * columns.outer * blocks_for(columns.inner, width * column_tile(columns, width, target).lanes)


def _launch_any(node: NodeView, target: Target) -> Launch:
    kept, gone = (part.padded(AXES) for part in split_axes(node.inputs[0].dims, reduced_axes(node)))
    fields: Fields = (
        ("outputs", node.outputs[0].size),
        *((f"kept{i}", kept.sizes[i]) for i in (1, 2)),
        *((f"kept_stride{i}", s) for i, s in enumerate(kept.strides[0])),
        ("count", math.prod(gone.sizes)),
        *((f"size{i}", gone.sizes[i]) for i in (1, 2)),
        *((f"stride{i}", s) for i, s in enumerate(gone.strides[0])),
        _scale(node),
    )
    blocks = (blocks_for(node.outputs[0].size, THREADS // 32), 1, 1)
    grid = Grid("ec_reduce_any_body", _template(node), blocks, THREADS)
    return Launch("ec_reduce_any_params", fields, (0,), (), (grid,))


def _argmax_sizes(node: NodeView) -> Columns:
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, ArgmaxAttrs)
    if attrs.axis is None:
        return Columns(1, node.inputs[0].size, 1)
    axis = attrs.axis
    return Columns(math.prod(dims[:axis]), dims[axis], math.prod(dims[axis + 1 :]))


def _accepts_argmax(node: NodeView, target: Target) -> bool:
    x = node.inputs[0]
    plain = x.quant is None and not x.bounds and x.dtype in (*FLOATS, DType.I32)
    return (plain or is_s8(x)) and x.size <= ELEMENTS_MOST and node.outputs[0].dtype is DType.I32


def _argmax_splits(node: NodeView, target: Target) -> int:
    """Blocks that share a row: each thread gets two vectors."""
    columns = _argmax_sizes(node)
    each = 2 * THREADS * vector_width(node.inputs[0].dtype, columns.count)
    wanted = max(1, 2 * gpu_of(target).sms // columns.outer)
    return min(blocks_for(columns.count, each), wanted, THREADS) if columns.inner == 1 else 1


def _launch_argmax(node: NodeView, target: Target) -> Launch:
    columns, element = _argmax_sizes(node), CUDA_TYPE[node.inputs[0].dtype]
    splits, outputs = _argmax_splits(node, target), columns.outer * columns.inner
    fields = int_fields(outputs=outputs, count=columns.count, inner=columns.inner, splits=splits)
    if columns.inner > 1 or columns.outer > GRID_MOST:
        grid = Grid("ec_argmax_inner_body", (element,), (blocks_for(outputs, THREADS), 1, 1), THREADS)
    else:
        width = vector_width(node.inputs[0].dtype, columns.count)
        grid = Grid("ec_argmax_body", (element, str(width)), (splits, columns.outer, 1), THREADS)
    return Launch("ec_argmax_cuda_params", fields, (0,), (), (grid,))


def _argmax_scratch(node: NodeView, target: Target) -> int:
    return 8 * _argmax_sizes(node).outer * _argmax_splits(node, target)


def _argmax_counters(node: NodeView, target: Target) -> int:
    return 4 * _argmax_sizes(node).outer


def _global(accepts: Accepts) -> Accepts:
    """Accepts what `accepts` does where one window is the whole map."""
    return lambda node, target: is_global(node) and accepts(node, target)


def _columns(op: str, limited: Callable[[Accepts], Accepts]) -> tuple[Kernel, ...]:
    split = Kernel(
        op,
        "ec_reduce_split_cuda",
        SOURCE,
        80,
        limited(_accepts_split),
        _launch_columns,
        scratch=_split_scratch,
        counters=_split_counters,
    )
    return (
        split,
        Kernel(op, "ec_reduce_columns_cuda", SOURCE, 85, limited(_accepts_columns), _launch_columns),
    )


def _reduce(op: str) -> tuple[Kernel, ...]:
    return (
        Kernel(op, "ec_reduce_rows_cuda", SOURCE, 70, _accepts_rows, _launch_rows),
        *_columns(op, lambda accepts: accepts),
        Kernel(op, "ec_reduce_any_cuda", SOURCE, 100, _accepts_any, _launch_any),
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    *(k for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min") for k in _reduce(op)),
    *(k for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d") for k in _columns(op, _global)),
    Kernel(
        op="argmax",
        symbol="ec_argmax_cuda",
        source="cuda/ec_argmax.cu",
        rank=100,
        accepts=_accepts_argmax,
        launch=_launch_argmax,
        scratch=_argmax_scratch,
        counters=_argmax_counters,
    ),
)
