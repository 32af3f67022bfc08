"""Kernel records of the CUDA backend: int8 convolutions and linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.cuda_record import blocks_for, gpu_of
from edgec.backends.cuda_tiles_s8 import TILES, Choice, Tile, Work, choose
from edgec.backends.cuda_weights_s8 import (
    BLOCK,
    channel_records,
    packed_blocks,
    packed_columns,
    padding_vector,
)
from edgec.backends.kernel_record import (
    INT32_MAX,
    Clamp,
    Fields,
    clamp_fields_s8,
    constant,
    int_fields,
    weighted_s8,
    zero_of,
)
from edgec.backends.kernels_c_conv import conv_attrs, depthwise_s8, is_pointwise
from edgec.backends.kernels_c_linear import linear_attrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

GEMV_ROWS: Final = 8
GEMV_WARPS: Final = 4
PACKED_K: Final = 128  # k of packed weights is a multiple of it: every tile's step divides it
PACKED_N: Final = 128
CORNER_MAX: Final = 2**15 - 1  # rows and columns that share a word in the kernel
DEPTHWISE_THREADS: Final = 128
_DEPTHWISE_KERNELS: Final = ((3, 3), (5, 5), (7, 7))


def flag(value: bool) -> str:
    """A template argument."""
    return "true" if value else "false"


def _clamp(node: NodeView) -> Clamp:
    return linear_attrs(node).act if node.node.op == "linear" else conv_attrs(node).act


def _groups(node: NodeView) -> int:
    return 1 if node.node.op == "linear" else conv_attrs(node).groups


def _rows(node: NodeView) -> int:
    """Outputs of one channel."""
    return node.outputs[0].size // node.inputs[1].dims[0]


def _weights(node: NodeView) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    """w int8[O, K], k in the order (row, column, channel)."""
    w = constant(node, 1)
    return np.ascontiguousarray(w.reshape(w.shape[0], -1), np.int8)


def fits_index(node: NodeView) -> bool:
    """Whether int32 counts the elements of every operand."""
    return all(t.size <= INT32_MAX for t in (*node.inputs, *node.outputs))


@dataclass(frozen=True, slots=True)
class _Product:
    """A node as a product: `vector` bytes of a copy, `taps` where rows are gathered from windows."""

    work: Work
    vector: int
    taps: bool


def _product(node: NodeView) -> _Product:
    w = _weights(node)
    groups = _groups(node)
    channels = node.inputs[0].dims[-1]
    vector = next(v for v in (16, 8, 4, 1) if channels % v == 0 and channels // groups % v == 0)
    taps = node.node.op != "linear" and not (
        node.inputs[1].dims[1:3] == (1, 1) and not any(conv_attrs(node).pad)
    )
    return _Product(Work(_rows(node), w.shape[0] // groups, groups, w.shape[1]), vector, taps)


def _tile_suits(tile: Tile, product: _Product) -> bool:
    """Whether each thread of the tile copies at most 8 pieces of a step."""
    piece = 16 if product.vector == 1 else product.vector
    pieces = tile.bk // piece
    return tile.threads % pieces == 0 and 1 <= tile.bm * pieces // tile.threads <= 8


def _choice(node: NodeView, target: Target) -> tuple[_Product, Choice]:
    product = _product(node)
    suited = tuple(t for t in TILES if _tile_suits(t, product))
    return product, choose(product.work, gpu_of(target), suited)


def _geometry(node: NodeView) -> Fields:
    """From in_h to dilation_w of ec_conv2d_s8_params; a linear layer has 1x1 maps."""
    if node.node.op == "linear":
        outputs, channels = node.inputs[1].dims
        sizes = int_fields(in_h=1, in_w=1, in_c=channels, out_h=1, out_w=1, out_c=outputs, kernel_w=1)
        steps = int_fields(stride_h=1, stride_w=1, pad_top=0, pad_left=0, dilation_h=1, dilation_w=1)
        return (*sizes, *steps)
    attrs, x, y = conv_attrs(node), node.inputs[0].dims, node.outputs[0].dims
    return int_fields(
        in_h=x[1],
        in_w=x[2],
        in_c=x[3],
        out_h=y[1],
        out_w=y[2],
        out_c=y[3],
        kernel_w=node.inputs[1].dims[2],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
    )


def _accepts_tile(node: NodeView, target: Target) -> bool:
    if not (weighted_s8(node, target) and fits_index(node)):
        return False
    if node.node.op == "linear":
        return True
    attrs, x = conv_attrs(node), node.inputs[0].dims
    reach = [(k - 1) * d for k, d in zip(node.inputs[1].dims[1:3], attrs.dilation, strict=True)]
    return max(x[1] + sum(attrs.pad[:2]) + reach[0], x[2] + sum(attrs.pad[2:]) + reach[1]) <= CORNER_MAX


def _launch_tile(node: NodeView, target: Target) -> Launch:
    product, choice = _choice(node, target)
    work, tile = product.work, choice.tile
    packed = packed_blocks(_weights(node), work.groups, PACKED_N, PACKED_K)
    high, channel = channel_records(node, work.outputs * work.groups, work.groups, packed.shape[1] * BLOCK)
    fields = (
        ("rows", work.rows),
        *_geometry(node),
        *int_fields(group_in=node.inputs[0].dims[-1] // work.groups, group_out=work.outputs, k=work.k),
        *int_fields(k_blocks=packed.shape[2], n_blocks=packed.shape[1]),
        *int_fields(splits=choice.splits, steps=choice.steps),
        *clamp_fields_s8(_clamp(node), node.outputs[0]),
    )
    constants = (Packed("w", "s8_mma", packed), channel, padding_vector(zero_of(node.inputs[0])))
    out = 8 if work.outputs % 8 == 0 else 1
    sizes = (tile.bm, tile.bn, tile.bk, tile.warps_m, tile.warps_n, tile.warps_k, tile.stages, product.vector)
    template = (*(str(n) for n in sizes), flag(product.taps), flag(high), str(out))
    down, across = choice.tiles(work)
    grid = Grid(
        "ec_conv2d_s8_body",
        template,
        (down, across, work.groups * choice.splits),
        tile.threads,
        tile.shared_bytes,
        waits=True,
    )
    return Launch("ec_conv2d_s8_params", fields, (0,), constants, (grid,))


def _scratch_tile(node: NodeView, target: Target) -> int:
    product, choice = _choice(node, target)
    if choice.splits == 1:
        return 16
    down, across = choice.tiles(product.work)
    return down * across * product.work.groups * choice.splits * choice.tile.bm * choice.tile.bn * 4


def _counters_tile(node: NodeView, target: Target) -> int:
    product, choice = _choice(node, target)
    down, across = choice.tiles(product.work)
    return 4 * down * across * product.work.groups


def _accepts_gemv(node: NodeView, target: Target) -> bool:
    if not (weighted_s8(node, target) and fits_index(node)) or _rows(node) > GEMV_ROWS:
        return False
    return node.node.op == "linear" or (is_pointwise(node) and node.inputs[0].dims[1:3] == (1, 1))


def _launch_gemv(node: NodeView, target: Target) -> Launch:
    w, rows = _weights(node), _rows(node)
    outputs, channels = w.shape
    high, channel = channel_records(node, outputs, 1, outputs)
    fields = (
        *int_fields(rows=rows, in_c=channels, out_c=outputs),
        *clamp_fields_s8(_clamp(node), node.outputs[0]),
    )
    vector = next(v for v in (16, 4, 1) if channels % v == 0)
    together = 2 if outputs >= 8 * gpu_of(target).sms else 1
    tall = next(n for n in (1, 2, 4, 8) if n >= rows)
    template = (str(vector), str(together), str(tall), str(GEMV_WARPS), flag(high))
    blocks = blocks_for(outputs, together * GEMV_WARPS)
    grid = Grid("ec_gemv_s8_body", template, (blocks, 1, 1), 32 * GEMV_WARPS, waits=True)
    return Launch("ec_gemv_s8_params", fields, (0,), (Packed("w", "ok", w), channel), (grid,))


def _depthwise_fields(node: NodeView, strips: int) -> Fields:
    attrs, x, w, y = conv_attrs(node), node.inputs[0].dims, node.inputs[1].dims, node.outputs[0].dims
    return (
        *int_fields(batch=x[0], in_h=x[1], in_w=x[2], channels=x[3], out_h=y[1], out_w=y[2]),
        *int_fields(kernel_h=w[1], kernel_w=w[2], stride_h=attrs.stride[0], stride_w=attrs.stride[1]),
        *int_fields(pad_top=attrs.pad[0], pad_left=attrs.pad[2]),
        *int_fields(dilation_h=attrs.dilation[0], dilation_w=attrs.dilation[1], strips=strips),
        ("zero_in", zero_of(node.inputs[0])),
        *clamp_fields_s8(attrs.act, node.outputs[0]),
    )


def _accepts_depthwise_plain(node: NodeView, target: Target) -> bool:
    return depthwise_s8(node, target) and fits_index(node)


def _accepts_depthwise(node: NodeView, target: Target) -> bool:
    if not _accepts_depthwise_plain(node, target):
        return False
    attrs = conv_attrs(node)
    known = node.inputs[1].dims[1:3] in _DEPTHWISE_KERNELS and attrs.dilation == (1, 1)
    return known and attrs.stride[1] in (1, 2) and node.inputs[0].dims[3] % 4 == 0


def _launch_depthwise(node: NodeView, target: Target) -> Launch:
    """As many outputs a thread as leave every SM some blocks."""
    batch, rows, width, channels = node.outputs[0].dims
    _, r, s, _ = node.inputs[1].dims
    high, channel = channel_records(node, channels, 1, channels)
    sms = gpu_of(target).sms
    threads = {n: batch * rows * -(-width // n) * (channels // 4) for n in (4, 2, 1)}
    columns = next((n for n in (4, 2) if threads[n] >= 128 * sms), 1)
    block = DEPTHWISE_THREADS if threads[columns] >= 2 * DEPTHWISE_THREADS * sms else 64
    template = (str(r), str(s), str(conv_attrs(node).stride[1]), str(columns), flag(high))
    grid = Grid(
        "ec_depthwise_s8_body", template, (blocks_for(threads[columns], block), 1, 1), block, waits=True
    )
    packed = Packed("w", "s8_columns", packed_columns(constant(node, 1)[..., 0]))
    fields = _depthwise_fields(node, -(-width // columns))
    return Launch("ec_depthwise_s8_params", fields, (0,), (packed, channel), (grid,))


def _launch_depthwise_plain(node: NodeView, target: Target) -> Launch:
    y = node.outputs[0]
    high, channel = channel_records(node, y.dims[3], 1, y.dims[3])
    w = np.ascontiguousarray(constant(node, 1)[..., 0].transpose(1, 2, 0))
    grid = Grid("ec_depthwise_plain_s8_body", (flag(high),), (blocks_for(y.size, 128), 1, 1), 128)
    fields = _depthwise_fields(node, y.dims[2])
    return Launch("ec_depthwise_s8_params", fields, (0,), (Packed("w", "rsc", w), channel), (grid,))


def _tile(op: str) -> Kernel:
    return Kernel(
        op=op,
        symbol=f"ec_{op}_s8_cuda",
        source="cuda/ec_conv2d_s8.cu",
        rank=100,
        accepts=_accepts_tile,
        launch=_launch_tile,
        scratch=_scratch_tile,
        counters=_counters_tile,
        epilogue=True,
    )


def _gemv(op: str) -> Kernel:
    return Kernel(
        op=op,
        symbol=f"ec_{op}_rows_s8_cuda",
        source="cuda/ec_gemv_s8.cu",
        rank=80,
        accepts=_accepts_gemv,
        launch=_launch_gemv,
        epilogue=True,
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    _tile("conv2d"),
    _tile("linear"),
    _gemv("conv2d"),
    _gemv("linear"),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_s8_cuda",
        source="cuda/ec_depthwise_conv2d_s8.cu",
        rank=85,
        accepts=_accepts_depthwise,
        launch=_launch_depthwise,
        epilogue=True,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_plain_conv2d_s8_cuda",
        source="cuda/ec_depthwise_conv2d_s8.cu",
        rank=86,
        accepts=_accepts_depthwise_plain,
        launch=_launch_depthwise_plain,
        epilogue=True,
    ),
)
