"""Kernel records of the CUDA backend: int8 pooling, resize and reductions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.cuda_record import GRID_MOST, WARP_OUTPUTS_MOST, blocks_for, flag, gpu_of
from edgec.backends.cuda_tiles_s8 import CLUSTER_COMPUTE
from edgec.backends.kernel_record import INT32_MAX, Accepts, Fields, all_s8, int_fields, zero_of
from edgec.backends.kernels_c_pool import INDEX_MAX, SUM_MAX
from edgec.backends.kernels_cuda_int8_conv import fits_index
from edgec.backends.kernels_cuda_int8_pointwise import flat_grid, vector_of
from edgec.backends.kernels_cuda_pool import windows_fit
from edgec.backends.strided import split_axes
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.reduce import ReduceAttrs, count, sum_multiplier
from edgec.ops.resize import ResizeAttrs, bilinear_rows, integer_weights
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

GLOBAL_VECTORS: Final = 8  # EC_POOL_VECTORS of ec_pool2d_s8.cu
GLOBAL_THREADS: Final = 256
REDUCE_AXES: Final = 3
_SUMS: Final = ("reduce_sum", "reduce_mean")
_MAXIMUM: Final = ("max_pool2d", "adaptive_max_pool2d")
_ADAPTIVE: Final = ("adaptive_avg_pool2d", "adaptive_max_pool2d")


@dataclass(frozen=True, slots=True)
class _Shares:
    """How the blocks of a global pooling share it: vectors of channels in groups, images, `splits` of `share` pixels
    each; `clusters`: those of a map are a cluster."""

    vector: int
    groups: int
    batch: int
    splits: int
    share: int
    clusters: bool


def _window(node: NodeView) -> tuple[MaxPool2dAttrs, int]:
    """The windows of a pooling node and the fixed divisor of their sums; those of an adaptive one are not read."""
    attrs = node.node.attrs
    if isinstance(attrs, MaxPool2dAttrs):
        return attrs, 0
    if isinstance(attrs, AvgPool2dAttrs):
        return MaxPool2dAttrs(attrs.kernel, attrs.stride, attrs.pad), attrs.fixed_divisor
    assert isinstance(attrs, (AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs))
    return MaxPool2dAttrs((1, 1), (1, 1)), 0


def _fields(node: NodeView, splits: int = 1, share: int = 0) -> Fields:
    windows, divisor = _window(node)
    x, y = node.inputs[0].dims, node.outputs[0].dims
    return (
        *int_fields(batch=x[0], in_h=x[1], in_w=x[2], channels=x[3], out_h=y[1], out_w=y[2]),
        *int_fields(kernel_h=windows.kernel[0], kernel_w=windows.kernel[1]),
        *int_fields(stride_h=windows.stride[0], stride_w=windows.stride[1]),
        *int_fields(pad_top=windows.pad[0], pad_left=windows.pad[2]),
        *int_fields(dilation_h=windows.dilation[0], dilation_w=windows.dilation[1]),
        *int_fields(divisor=divisor, zero=zero_of(node.inputs[0])),
        *int_fields(splits=splits, share=share),
    )


def _accepts(node: NodeView, target: Target) -> bool:
    windows, divisor = _window(node)
    x = node.inputs[0].dims
    elements = x[1] * x[2] if node.node.op in _ADAPTIVE else int(np.prod(windows.kernel))
    attrs = node.node.attrs
    if isinstance(attrs, AdaptiveAvgPool2dAttrs) and attrs.ties != "up":
        return False
    same = all_s8(node, target) and node.inputs[0].quant == node.outputs[0].quant
    return same and fits_index(node) and windows_fit(node) and max(elements, divisor) <= SUM_MAX


def _accepts_global(node: NodeView, target: Target) -> bool:
    whole = node.outputs[0].dims[1:3] == (1, 1) and node.node.op in _ADAPTIVE
    return (
        _accepts(node, target)
        and whole
        and node.inputs[0].dims[0] <= GRID_MOST
        and node.inputs[0].dims[3] % 4 == 0
    )


def _launch(node: NodeView, target: Target) -> Launch:
    op, y = node.node.op, node.outputs[0]
    vector = vector_of((y.dims[3],), y.size, target)
    template = (str(vector), flag(op in _MAXIMUM), flag(op in _ADAPTIVE))
    grid = flat_grid("ec_pool2d_s8_body", template, y.size // vector)
    return Launch("ec_pool2d_s8_params", _fields(node), (0,), (), (grid,))


def _global_plan(node: NodeView, target: Target) -> _Shares:
    """More blocks for larger maps; eight at most, which a cluster may have."""
    batch, height, width, channels = node.inputs[0].dims
    vector = next(v for v in (16, 8, 4) if channels % v == 0)
    groups = blocks_for(channels, GLOBAL_VECTORS * vector)
    size = height * width * GLOBAL_VECTORS * vector
    splits = next((n for n, most in ((1, 8 << 10), (4, 24 << 10)) if size <= most), 8)
    share = -(-height * width // splits)
    clusters = gpu_of(target).compute >= CLUSTER_COMPUTE
    return _Shares(
        vector, groups, batch, splits if clusters else -(-height * width // share), share, clusters
    )


def _launch_global(node: NodeView, target: Target) -> Launch:
    plan = _global_plan(node, target)
    meeting = plan.splits if plan.clusters or plan.splits == 1 else 0
    template = (str(plan.vector), flag(node.node.op in _MAXIMUM), str(meeting))
    blocks = (plan.groups * plan.splits, plan.batch, 1)
    grid = Grid(
        "ec_global_pool_s8_body", template, blocks, GLOBAL_THREADS, waits=True, cluster=max(1, meeting)
    )
    return Launch("ec_pool2d_s8_params", _fields(node, plan.splits, plan.share), (0,), (), (grid,))


def _scratch_global(node: NodeView, target: Target) -> int:
    plan = _global_plan(node, target)
    blocks = 0 if plan.clusters else plan.groups * plan.splits * plan.batch
    return max(16, 4 * GLOBAL_VECTORS * plan.vector * blocks)


def _counters_global(node: NodeView, target: Target) -> int:
    plan = _global_plan(node, target)
    return 4 * plan.groups * plan.batch


def _accepts_bilinear(node: NodeView, target: Target) -> bool:
    attrs = node.node.attrs
    assert isinstance(attrs, ResizeAttrs)
    same = all_s8(node, target) and node.inputs[0].quant == node.outputs[0].quant
    fits = max(node.inputs[0].dims[1:3]) <= INDEX_MAX and fits_index(node)
    return same and fits and attrs.mode == "bilinear"


def _launch_bilinear(node: NodeView, target: Target) -> Launch:
    attrs, x, y = node.node.attrs, node.inputs[0].dims, node.outputs[0].dims
    assert isinstance(attrs, ResizeAttrs)
    tables = []
    for name, axis in (("rows", 1), ("columns", 2)):
        first, second, weight = bilinear_rows(x[axis], y[axis], attrs.align_corners)
        table = np.stack([first, second, integer_weights(weight.astype(np.float64))], 1)
        tables.append(Packed(name, "u16", table.astype(np.uint16)))
    fields = int_fields(batch=x[0], in_h=x[1], in_w=x[2], channels=x[3], out_h=y[1], out_w=y[2])
    size = node.outputs[0].size
    vector = vector_of((x[3],), size, target)
    grid = flat_grid("ec_resize_bilinear_s8_body", (str(vector),), size // vector)
    return Launch("ec_resize_s8_params", fields, (0,), tuple(tables), (grid,))


def _reduces(node: NodeView, target: Target) -> bool:
    """At most three kept and three reduced axes, and an int32 sum."""
    attrs, x, y = node.node.attrs, node.inputs[0], node.outputs[0]
    assert isinstance(attrs, ReduceAttrs)
    few = all(len(part.sizes) <= REDUCE_AXES for part in split_axes(x.dims, attrs.axes))
    same = node.node.op in _SUMS or x.quant == y.quant
    fits = all_s8(node, target) and fits_index(node) and count(attrs, x) * 255 <= INT32_MAX
    return few and same and fits and y.size <= WARP_OUTPUTS_MOST


def _launch_reduce(node: NodeView, target: Target) -> Launch:
    attrs, x, y = node.node.attrs, node.inputs[0], node.outputs[0]
    assert isinstance(attrs, ReduceAttrs)
    kept, gone = (part.padded(REDUCE_AXES) for part in split_axes(x.dims, attrs.axes))
    m, shift = sum_multiplier(node.node.op, attrs, x, y) if node.node.op in _SUMS else (0, 1)
    named = (
        *(("kept", kept.sizes), ("kept_stride", kept.strides[0])),
        *(("size", gone.sizes), ("stride", gone.strides[0])),
    )
    fields = (
        *((f"{name}{i}", value) for name, values in named for i, value in enumerate(values)),
        *int_fields(zero_in=zero_of(x), multiplier=m, shift=shift, zero_out=zero_of(y)),
    )
    lanes = 1 if kept.strides[0][-1] == 1 and kept.sizes[-1] >= 32 else 32
    kind = 0 if node.node.op in _SUMS else 1 if node.node.op == "reduce_max" else 2
    grid = flat_grid("ec_reduce_s8_body", (str(kind), str(lanes)), y.size * lanes)
    return Launch("ec_reduce_cuda_s8_params", fields, (0,), (), (grid,))


def _pool(op: str) -> tuple[Kernel, ...]:
    source = "cuda/ec_pool2d_s8.cu"
    own: Accepts = _accepts
    window = Kernel(op, f"ec_{op}_s8_cuda", source, 100, own, _launch)
    if op not in _ADAPTIVE:
        return (window,)
    whole = Kernel(
        op=op,
        symbol=f"ec_global_{op}_s8_cuda",
        source=source,
        rank=90,
        accepts=_accepts_global,
        launch=_launch_global,
        scratch=_scratch_global,
        counters=_counters_global,
    )
    return (whole, window)


KERNELS: Final[tuple[Kernel, ...]] = (
    *(
        Kernel(op, f"ec_{op}_s8_cuda", "cuda/ec_reduce_s8.cu", 100, _reduces, _launch_reduce)
        for op in (*_SUMS, "reduce_max", "reduce_min")
    ),
    *(kernel for op in ("max_pool2d", "avg_pool2d", *_ADAPTIVE) for kernel in _pool(op)),
    Kernel(
        op="resize",
        symbol="ec_resize_bilinear_s8_cuda",
        source="cuda/ec_resize_s8.cu",
        rank=100,
        accepts=_accepts_bilinear,
        launch=_launch_bilinear,
    ),
)
