"""Kernel records of the C backend: pooling and resize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.backends.kernel_record import Accepts, Fields, all_f32, all_s8, int_fields, zero_of
from edgec.ir import Array
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.resize import ResizeAttrs, bilinear_rows, integer_weights, nearest_rows
from edgec.plan import Halo, Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]

INDEX_MAX: Final = 2**16  # rows and columns that a resize table can name
SUM_MAX: Final = 2**21  # elements of a window: 2 * 255 of each and the divisor fit int32


def _as_window(node: NodeView) -> MaxPool2dAttrs:
    """The windows of a pooling node; those of an adaptive one where all have one size."""
    attrs = node.node.attrs
    if isinstance(attrs, MaxPool2dAttrs):
        return attrs
    if isinstance(attrs, AvgPool2dAttrs):
        return MaxPool2dAttrs(attrs.kernel, attrs.stride, attrs.pad)
    x, y = node.inputs[0].dims, node.outputs[0].dims
    size = (x[1] // y[1], x[2] // y[2])
    return MaxPool2dAttrs(size, size)


def _divisor(node: NodeView) -> int:
    attrs = node.node.attrs
    return attrs.fixed_divisor if isinstance(attrs, AvgPool2dAttrs) else 0


def _zero(node: NodeView) -> int:
    return zero_of(node.inputs[0]) if node.inputs[0].quant is not None else 0


def _launch_window(node: NodeView, target: Target) -> Launch:
    windows = _as_window(node)
    x, y = node.inputs[0].dims, node.outputs[0].dims
    fields = int_fields(
        in_h=x[1],
        in_w=x[2],
        channels=x[3],
        out_h=y[1],
        out_w=y[2],
        kernel_h=windows.kernel[0],
        kernel_w=windows.kernel[1],
        stride_h=windows.stride[0],
        stride_w=windows.stride[1],
        pad_top=windows.pad[0],
        pad_left=windows.pad[2],
        dilation_h=windows.dilation[0],
        dilation_w=windows.dilation[1],
        divisor=_divisor(node),
        zero=_zero(node),
        ring_0=x[1],
        ring_y=y[1],
    )
    return Launch("ec_pool2d_params", fields, (0,), ())


def _launch_adaptive(node: NodeView, target: Target) -> Launch:
    assert isinstance(node.node.attrs, (AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs))
    x, y = node.inputs[0].dims, node.outputs[0].dims
    fields = int_fields(
        batch=x[0], in_h=x[1], in_w=x[2], channels=x[3], out_h=y[1], out_w=y[2], zero=_zero(node)
    )
    return Launch("ec_adaptive_pool2d_params", fields, (0,), ())


def _halo(node: NodeView) -> Halo:
    windows = _as_window(node)
    return Halo(windows.kernel[0], windows.stride[0], windows.pad[0], windows.dilation[0])


def _sums_fit(node: NodeView) -> bool:
    """Whether no int8 window sum, nor twice it and the divisor, leaves int32."""
    if isinstance(node.node.attrs, AvgPool2dAttrs):
        return max(int(np.prod(_as_window(node).kernel)), _divisor(node)) <= SUM_MAX
    return node.inputs[0].dims[1] * node.inputs[0].dims[2] <= SUM_MAX


def _pools_s8(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and node.inputs[0].quant == node.outputs[0].quant and _sums_fit(node)


def _regular(accepts: Accepts) -> Accepts:
    """An adaptive pooling whose windows all have one size."""

    def regular(node: NodeView, target: Target) -> bool:
        x, y = node.inputs[0].dims, node.outputs[0].dims
        return accepts(node, target) and x[1] % y[1] == 0 and x[2] % y[2] == 0

    return regular


def _window(op: str, symbol: str, accepts: Accepts, rank: int = 100) -> Kernel:
    return Kernel(op, symbol, f"kernels/{symbol}.c", rank, accepts, _launch_window, halo=_halo)


def _ties(accepts: Accepts, ties: str) -> Accepts:
    """An average that rounds its ties so."""

    def so(node: NodeView, target: Target) -> bool:
        attrs = node.node.attrs
        own = attrs.ties if isinstance(attrs, AdaptiveAvgPool2dAttrs) else "up"
        return own == ties and accepts(node, target)

    return so


def _adaptive(op: str, symbol: str, accepts: Accepts) -> Kernel:
    return Kernel(op, symbol, f"kernels/{symbol}.c", 100, accepts, _launch_adaptive)


def _resize_attrs(node: NodeView) -> ResizeAttrs:
    attrs = node.node.attrs
    assert isinstance(attrs, ResizeAttrs)
    return attrs


def _table_fits(node: NodeView, mode: str) -> bool:
    return _resize_attrs(node).mode == mode and max(node.inputs[0].dims[1:3]) <= INDEX_MAX


def _accepts_nearest(node: NodeView, target: Target) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    return x.dtype is y.dtype and x.quant == y.quant and not x.bounds and _table_fits(node, "nearest")


def _accepts_bilinear_s8(node: NodeView, target: Target) -> bool:
    same = node.inputs[0].quant == node.outputs[0].quant
    return all_s8(node, target) and same and _table_fits(node, "bilinear")


def _accepts_bilinear_f32(node: NodeView, target: Target) -> bool:
    return all_f32(node, target) and _table_fits(node, "bilinear")


def _resize_fields(node: NodeView, pixel: int) -> Fields:
    x, y = node.inputs[0].dims, node.outputs[0].dims
    return int_fields(batch=x[0], in_h=x[1], in_w=x[2], pixel=pixel, out_h=y[1], out_w=y[2])


def _launch_nearest(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0].dims
    tables = (nearest_rows(x.dims[1], y[1]), nearest_rows(x.dims[2], y[2]))
    constants = tuple(
        Packed(name, "u16", t.astype(np.uint16)) for name, t in zip(("rows", "columns"), tables, strict=True)
    )
    return Launch("ec_resize_params", _resize_fields(node, x.dims[3] * x.dtype.bytes), (0,), constants)


def _interpolation(node: NodeView, axis: int) -> tuple[Array, Array, Array]:
    corners = _resize_attrs(node).align_corners
    return bilinear_rows(node.inputs[0].dims[axis], node.outputs[0].dims[axis], corners)


def _launch_bilinear_s8(node: NodeView, target: Target) -> Launch:
    constants = []
    for name, axis in (("rows", 1), ("columns", 2)):
        first, second, weight = _interpolation(node, axis)
        table = np.stack([first, second, integer_weights(weight.astype(np.float64))], 1)
        constants.append(Packed(name, "u16", table.astype(np.uint16)))
    fields = _resize_fields(node, node.inputs[0].dims[3])
    return Launch("ec_resize_params", fields, (0,), tuple(constants))


def _launch_bilinear_f32(node: NodeView, target: Target) -> Launch:
    tables, weights = [], []
    for name, axis in (("row", 1), ("column", 2)):
        first, second, weight = _interpolation(node, axis)
        tables.append(Packed(name + "s", "u16", np.stack([first, second], 1).astype(np.uint16)))
        weights.append(Packed(name + "_weight", "f32", weight.astype(np.float32)))
    fields = _resize_fields(node, node.inputs[0].dims[3])
    return Launch("ec_resize_params", fields, (0,), (*tables, *weights))


def _resize(symbol: str, accepts: Accepts, launch: Launcher) -> Kernel:
    return Kernel("resize", symbol, f"kernels/{symbol}.c", 100, accepts, launch)


KERNELS: Final[tuple[Kernel, ...]] = (
    _window("max_pool2d", "ec_max_pool2d_s8", _pools_s8),
    _window("max_pool2d", "ec_max_pool2d_f32", all_f32),
    _window("avg_pool2d", "ec_avg_pool2d_s8", _pools_s8),
    _window("avg_pool2d", "ec_avg_pool2d_f32", all_f32),
    # Equal windows run row by row on the pooling kernels; uneven ones need the bounds of each window.
    _window("adaptive_avg_pool2d", "ec_avg_pool2d_s8", _regular(_ties(_pools_s8, "up")), 90),
    _window("adaptive_avg_pool2d", "ec_avg_pool2d_f32", _regular(all_f32), 90),
    _window("adaptive_max_pool2d", "ec_max_pool2d_s8", _regular(_pools_s8), 90),
    _window("adaptive_max_pool2d", "ec_max_pool2d_f32", _regular(all_f32), 90),
    _adaptive("adaptive_avg_pool2d", "ec_adaptive_avg_pool2d_s8", _ties(_pools_s8, "up")),
    _adaptive("adaptive_avg_pool2d", "ec_adaptive_avg_pool2d_even_s8", _ties(_pools_s8, "even")),
    _adaptive("adaptive_avg_pool2d", "ec_adaptive_avg_pool2d_f32", all_f32),
    _adaptive("adaptive_max_pool2d", "ec_adaptive_max_pool2d_s8", _pools_s8),
    _adaptive("adaptive_max_pool2d", "ec_adaptive_max_pool2d_f32", all_f32),
    _resize("ec_resize_nearest_x1", _accepts_nearest, _launch_nearest),
    _resize("ec_resize_bilinear_s8", _accepts_bilinear_s8, _launch_bilinear_s8),
    _resize("ec_resize_bilinear_f32", _accepts_bilinear_f32, _launch_bilinear_f32),
)
