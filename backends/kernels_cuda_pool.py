"""Kernel records of the CUDA backend: pooling and resize of fp32, fp16 and bf16; nearest resize of any element type."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.cuda_move import unit_bytes
from edgec.backends.cuda_record import CUDA_TYPE, all_of_one_float, blocks_for, flag
from edgec.backends.kernel_record import int_fields
from edgec.backends.kernels_cuda_norm import vector_width
from edgec.ops.pool import AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.resize import ResizeAttrs, bilinear_rows, nearest_rows
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

THREADS: Final = 128
THREADS_MAX: Final = 2**31
UNROLLED: Final = 3  # windows up to this size are known to the compiler
INDEX_MAX: Final = 2**16  # rows and columns that a resize table can name


def windows_fit(node: NodeView) -> bool:
    """Whether the bounds of an adaptive pooling's windows, p H / P, are worked out within int32."""
    x, y = node.inputs[0].dims, node.outputs[0].dims
    adaptive = node.node.op.startswith("adaptive")
    return not adaptive or all((x[axis] + 1) * y[axis] < 2**31 for axis in (1, 2))


def _is_small_float(node: NodeView, target: Target) -> bool:
    sizes = (node.inputs[0].size, node.outputs[0].size)
    return all_of_one_float(node, target) and max(sizes) < THREADS_MAX


def _accepts_pool(node: NodeView, target: Target) -> bool:
    return _is_small_float(node, target) and windows_fit(node)


def _launch_pool(node: NodeView, target: Target) -> Launch:
    attrs, x, y = node.node.attrs, node.inputs[0].dims, node.outputs[0].dims
    fixed = attrs if isinstance(attrs, (MaxPool2dAttrs, AvgPool2dAttrs)) else MaxPool2dAttrs((0, 0), (0, 0))
    divisor = attrs.fixed_divisor if isinstance(attrs, AvgPool2dAttrs) else 0
    dilation = fixed.dilation if isinstance(fixed, MaxPool2dAttrs) else (1, 1)
    fields = int_fields(
        batch=x[0],
        in_h=x[1],
        in_w=x[2],
        channels=x[3],
        out_h=y[1],
        out_w=y[2],
        kernel_h=fixed.kernel[0],
        kernel_w=fixed.kernel[1],
        stride_h=fixed.stride[0],
        stride_w=fixed.stride[1],
        pad_top=fixed.pad[0],
        pad_left=fixed.pad[2],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        divisor=divisor,
    )
    width = vector_width(node.inputs[0].dtype, x[3])
    kernel = fixed.kernel if max(fixed.kernel) <= UNROLLED else (0, 0)
    average, adaptive = "avg" in node.node.op, node.node.op.startswith("adaptive")
    template = (CUDA_TYPE[node.inputs[0].dtype], str(width), flag(average), flag(adaptive))
    blocks = (blocks_for(node.outputs[0].size // width, THREADS), 1, 1)
    grid = Grid("ec_pool2d_body", (*template, *(str(k) for k in kernel)), blocks, THREADS)
    return Launch("ec_pool2d_cuda_params", fields, (0,), (), (grid,))


def _resize_attrs(node: NodeView) -> ResizeAttrs:
    attrs = node.node.attrs
    assert isinstance(attrs, ResizeAttrs)
    return attrs


def _table_fits(node: NodeView, mode: str) -> bool:
    return _resize_attrs(node).mode == mode and max(node.inputs[0].dims[1:3]) <= INDEX_MAX


def _accepts_nearest(node: NodeView, target: Target) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    same = (x.dtype, x.quant) == (y.dtype, y.quant) and not x.bounds
    return same and y.size < THREADS_MAX and _table_fits(node, "nearest")


def _accepts_bilinear(node: NodeView, target: Target) -> bool:
    return _is_small_float(node, target) and _table_fits(node, "bilinear")


def _resize(node: NodeView, vectors: int) -> tuple[tuple[tuple[str, int | float], ...], tuple[int, int, int]]:
    """Fields and blocks for pixels of this many vectors."""
    x, y = node.inputs[0].dims, node.outputs[0].dims
    fields = int_fields(batch=x[0], in_h=x[1], in_w=x[2], vectors=vectors, out_h=y[1], out_w=y[2])
    return fields, (blocks_for(y[0] * y[1] * y[2] * vectors, THREADS), 1, 1)


def _launch_nearest(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0].dims
    tables = (nearest_rows(x.dims[1], y[1]), nearest_rows(x.dims[2], y[2]))
    constants = tuple(
        Packed(name, "u16", t.astype(np.uint16)) for name, t in zip(("rows", "columns"), tables, strict=True)
    )
    pixel = x.dims[3] * x.dtype.bytes
    unit = unit_bytes(x.dtype.bytes, pixel)
    fields, blocks = _resize(node, pixel // unit)
    grid = Grid("ec_resize_nearest_body", (str(unit),), blocks, THREADS)
    return Launch("ec_resize_cuda_params", fields, (0,), constants, (grid,))


def _launch_bilinear(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    tables, weights = [], []
    for name, axis in (("row", 1), ("column", 2)):
        lines = bilinear_rows(x.dims[axis], y.dims[axis], _resize_attrs(node).align_corners)
        tables.append(Packed(name + "s", "u16", np.stack(lines[:2], 1).astype(np.uint16)))
        weights.append(Packed(name + "_weight", "f32", lines[2].astype(np.float32)))
    width = vector_width(x.dtype, x.dims[3])
    fields, blocks = _resize(node, x.dims[3] // width)
    grid = Grid("ec_resize_bilinear_body", (CUDA_TYPE[x.dtype], str(width)), blocks, THREADS)
    return Launch("ec_resize_cuda_params", fields, (0,), (*tables, *weights), (grid,))


_POOLS: Final = ("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d")
_RESIZE: Final = "cuda/ec_resize.cu"

KERNELS: Final[tuple[Kernel, ...]] = (
    *(Kernel(op, "ec_pool2d_cuda", "cuda/ec_pool2d.cu", 100, _accepts_pool, _launch_pool) for op in _POOLS),
    Kernel("resize", "ec_resize_nearest_cuda", _RESIZE, 100, _accepts_nearest, _launch_nearest),
    Kernel("resize", "ec_resize_bilinear_cuda", _RESIZE, 100, _accepts_bilinear, _launch_bilinear),
)
