"""Kernel records of the CUDA backend: reading and writing at indices, of any element type."""

from __future__ import annotations

import math
from typing import Final

from edgec.backends.cuda_move import divider, divider_fields, filled, unit_bytes
from edgec.backends.cuda_record import CUDA_TYPE, FLOATS, blocks_for, gpu_of
from edgec.backends.kernel_record import Accepts
from edgec.backends.kernels_c_shape import GATHER_AXES, index_walk, same_bytes, strides_of
from edgec.backends.kernels_cuda_move import THREADS, UNITS_MAX, flat
from edgec.ir import DType
from edgec.ops.gather import GatherAttrs, IndexCopyAttrs, IndexSelectAttrs, ScatterAddAttrs, ScatterAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

_INDEX: Final = (DType.I32, DType.I64)
SOUGHT_MOST: Final = 1 << 16  # indices among which each thread looks for its own again


def _index_type(node: NodeView) -> str:
    return CUDA_TYPE[node.inputs[1].dtype]


def _accepts_slices(data: tuple[int, ...]) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        small = all(t.bytes // t.dtype.bytes < UNITS_MAX for t in (*node.inputs, *node.outputs))
        sought = isinstance(node.node.attrs, IndexCopyAttrs) and node.inputs[1].size > SOUGHT_MOST
        return small and not sought and same_bytes(node, data) and node.inputs[1].dtype in _INDEX

    return accepts


def _launch_slices(node: NodeView, target: Target) -> Launch:
    attrs, x, count = node.node.attrs, node.inputs[0], node.inputs[1].size
    axis = attrs.axis if isinstance(attrs, (IndexSelectAttrs, IndexCopyAttrs)) else 0
    outer, run = math.prod(x.dims[:axis]), math.prod(x.dims[axis + 1 :]) * x.dtype.bytes
    unit = unit_bytes(x.dtype.bytes, run)
    total, whole = outer * count * run // unit, x.bytes // unit
    magic, shift = divider(count)
    fields = (
        ("total", total),
        ("whole", whole),
        ("axis_size", x.dims[axis]),
        ("count", count),
        *divider_fields([(1, run // unit)]),
        ("magic_2", magic),
        ("shift_2", shift),
    )
    copies = isinstance(attrs, IndexCopyAttrs)
    blocks = blocks_for(total, THREADS)
    if copies:  # the rest of x is copied by blocks that stride over it, unless y is x
        blocks = max(blocks, min(gpu_of(target).sms, blocks_for(whole, THREADS)))
    body = "ec_index_copy_body" if copies else "ec_index_select_body"
    grid = Grid(body, (str(unit), _index_type(node)), (blocks, 1, 1), THREADS)
    return Launch("ec_slices_cuda_params", fields, tuple(range(len(node.inputs))), (), (grid,))


def _accepts_index(data: tuple[int, ...]) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        fits = same_bytes(node, data) and node.inputs[1].dtype in _INDEX
        small = node.inputs[0].size < UNITS_MAX and node.inputs[1].size < UNITS_MAX
        return fits and small and len(index_walk(node)) <= GATHER_AXES

    return accepts


def _accepts_scatter(node: NodeView, target: Target) -> bool:
    attrs = node.node.attrs
    assert isinstance(attrs, (ScatterAttrs, ScatterAddAttrs))
    return node.inputs[1].dims[attrs.axis] <= SOUGHT_MOST and _accepts_index((0, 2))(node, target)


def _accepts_add(node: NodeView, target: Target) -> bool:
    return node.inputs[0].dtype in FLOATS and _accepts_scatter(node, target)


def _launch_index(node: NodeView, target: Target) -> Launch:
    attrs, x, dims, total = node.node.attrs, node.inputs[0], node.inputs[1].dims, node.inputs[1].size
    assert isinstance(attrs, (GatherAttrs, ScatterAttrs, ScatterAddAttrs))
    walk = filled(index_walk(node), GATHER_AXES)
    fields = (
        ("total", total),
        ("whole", x.size),
        ("axis_size", x.dims[attrs.axis]),
        ("axis_stride", strides_of(x.dims)[attrs.axis]),
        ("axis_count", dims[attrs.axis]),
        ("axis_inner", math.prod(dims[attrs.axis + 1 :])),
        *((f"stride_{i}", stride) for i, (_, stride) in enumerate(walk)),
        *divider_fields((i, walk[i][0]) for i in range(1, GATHER_AXES)),
    )
    element, index = str(x.dtype.bytes), _index_type(node)
    grids: tuple[Grid, ...]
    if isinstance(attrs, GatherAttrs):
        grids = (Grid("ec_gather_body", (element, index), flat(total), THREADS),)
    else:
        whole = Grid("ec_whole_body", (element,), flat(x.size), THREADS)
        adds = isinstance(attrs, ScatterAddAttrs)
        body = "ec_scatter_add_body" if adds else "ec_scatter_body"
        kind = CUDA_TYPE[x.dtype] if adds else element
        grids = (whole, Grid(body, (kind, index), flat(total), THREADS))
    return Launch("ec_gather_cuda_params", fields, tuple(range(len(node.inputs))), (), grids)


_SOURCE: Final = "cuda/ec_index.cu"

KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel("index_select", "ec_index_select_cuda", _SOURCE, 100, _accepts_slices((0,)), _launch_slices),
    Kernel("embedding", "ec_index_select_cuda", _SOURCE, 100, _accepts_slices((0,)), _launch_slices),
    Kernel(
        "index_copy",
        "ec_index_copy_cuda",
        _SOURCE,
        100,
        _accepts_slices((0, 2)),
        _launch_slices,
        in_place=(0,),
    ),
    Kernel("gather", "ec_gather_cuda", _SOURCE, 100, _accepts_index((0,)), _launch_index),
    Kernel("scatter", "ec_scatter_cuda", _SOURCE, 100, _accepts_scatter, _launch_index, in_place=(0,)),
    Kernel("scatter_add", "ec_scatter_add_cuda", _SOURCE, 100, _accepts_add, _launch_index, in_place=(0,)),
)
