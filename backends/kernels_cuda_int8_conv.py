"""Kernel records of the CUDA backend: int8 convolutions and linear layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.cuda_record import GRID_MOST, blocks_for, flag, gpu_of
from edgec.backends.cuda_tiles_s8 import TILES, Choice, Tile, Work, choose
from edgec.backends.cuda_weights_s8 import (
    BLOCK,
    channel_records,
    packed_blocks,
    packed_columns,
    padding_vector,
    round_up,
)
from edgec.backends.kernel_record import (
    INT32_MAX,
    Clamp,
    Fields,
    all_s8,
    bias_of,
    channel_requant,
    clamp_fields_s8,
    constant,
    int_fields,
    quant_of,
    weighted_s8,
    zero_of,
)
from edgec.backends.kernels_c_conv import conv_attrs, depthwise_s8, is_pointwise
from edgec.backends.kernels_c_linear import LEADING_AXES, MATMUL_K_MAX, leading_axes, linear_attrs
from edgec.ir import Array
from edgec.ops.conv import ConvTranspose2dAttrs
from edgec.ops.linear import MatmulAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

GEMV_ROWS: Final = 8
GEMV_WARPS: Final = 4
TAPS_MAX: Final = 16  # rows and columns of a kernel, a bit each
ROWS_DENSE, ROWS_PIXELS, ROWS_WINDOWS, ROWS_RUNS = range(4)  # EC_ROWS_ of ec_conv2d_s8.cu
INT16_MAX: Final = 2**15 - 1
DEPTHWISE_THREADS: Final = 128
MATMUL_TILE: Final = (32, 64)
_DEPTHWISE_KERNELS: Final = ((3, 3), (5, 5), (7, 7))


def _clamp(node: NodeView) -> Clamp:
    return linear_attrs(node).act if node.node.op == "linear" else conv_attrs(node).act


def _groups(node: NodeView) -> int:
    return 1 if node.node.op == "linear" else conv_attrs(node).groups


def _rows(node: NodeView) -> int:
    """Outputs of one channel."""
    return node.outputs[0].size // node.inputs[1].dims[0]


def _weights(node: NodeView) -> Array:
    """w int8[O, K], k in the order (row, column, channel)."""
    w = constant(node, 1)
    return np.ascontiguousarray(w.reshape(w.shape[0], -1), np.int8)


def fits_index(node: NodeView) -> bool:
    """Whether int32 counts the elements of every operand."""
    return all(t.size <= INT32_MAX for t in (*node.inputs, *node.outputs))


@dataclass(frozen=True, slots=True)
class _Product:
    """A node as a product: `vector` bytes of a copy, `kind` how its rows stand in the input."""

    work: Work
    vector: int
    kind: int


def _product(node: NodeView) -> _Product:
    outputs, k = node.inputs[1].dims[0], node.inputs[1].size // node.inputs[1].dims[0]
    groups, channels = _groups(node), node.inputs[0].dims[-1]
    vector = next(v for v in (16, 8, 4, 1) if channels % v == 0 and channels // groups % v == 0)
    kind = _kind(node)
    if vector == 1 and groups == 1 and _runs_fit(node):
        kind, k = ROWS_RUNS, round_up(k // _kernel_rows(node), 16) * _kernel_rows(node)
    work = Work(_rows(node), outputs // groups, groups, k, kind >= ROWS_WINDOWS)
    return _Product(work, vector, kind)


def _runs_fit(node: NodeView) -> bool:
    """Whether the taps of a row are one run of bytes, and int16 holds the first row and column of every window."""
    if node.node.op == "linear":
        return True
    attrs, (_, h, w, _) = conv_attrs(node), node.inputs[0].dims
    furthest = max(h + attrs.pad[1], w + attrs.pad[3], *attrs.pad)
    return attrs.dilation[1] == 1 and furthest <= INT16_MAX


def _kernel_rows(node: NodeView) -> int:
    return 1 if node.node.op == "linear" else node.inputs[1].dims[1]


def _packed_weights(node: NodeView, product: _Product, tile: Tile) -> Array:
    """The weights in blocks; runs are filled up to their length in k."""
    w = _weights(node)
    if product.kind == ROWS_RUNS:
        rows = _kernel_rows(node)
        run, length = w.shape[1] // rows, product.work.k // rows
        cells = np.pad(w.reshape(w.shape[0], rows, run), ((0, 0), (0, 0), (0, length - run)))
        w = cells.reshape(w.shape[0], -1)
    return packed_blocks(w, product.work.groups, tile.bn, tile.bk)


def _kind(node: NodeView) -> int:
    if node.node.op == "linear":
        return ROWS_DENSE
    attrs = conv_attrs(node)
    if node.inputs[1].dims[1:3] != (1, 1) or any(attrs.pad):
        return ROWS_WINDOWS
    return ROWS_DENSE if attrs.stride == (1, 1) else ROWS_PIXELS


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
        sizes = int_fields(in_h=1, in_w=1, in_c=channels, out_h=1, out_w=1, out_c=outputs)
        steps = int_fields(
            kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, pad_top=0, pad_left=0, dilation_h=1, dilation_w=1
        )
        return (*sizes, *steps)
    attrs, x, y = conv_attrs(node), node.inputs[0].dims, node.outputs[0].dims
    return int_fields(
        in_h=x[1],
        in_w=x[2],
        in_c=x[3],
        out_h=y[1],
        out_w=y[2],
        out_c=y[3],
        kernel_h=node.inputs[1].dims[1],
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
    return max(node.inputs[1].dims[1:3]) <= TAPS_MAX


def _group_in(node: NodeView, product: _Product) -> int:
    """Channels of a group; of runs, their length in k."""
    if product.kind == ROWS_RUNS:
        return product.work.k // _kernel_rows(node)
    return node.inputs[0].dims[-1] // product.work.groups


def _launch_tile(node: NodeView, target: Target) -> Launch:
    product, choice = _choice(node, target)
    work, tile = product.work, choice.tile
    packed = _packed_weights(node, product, tile)
    high, channel = channel_records(node, work.outputs * work.groups, work.groups, packed.shape[1] * BLOCK)
    fields = (
        ("rows", work.rows),
        *_geometry(node),
        *int_fields(group_in=_group_in(node, product), group_out=work.outputs),
        *int_fields(in_bytes=node.inputs[0].size, k=work.k),
        *int_fields(k_blocks=packed.shape[2], n_blocks=packed.shape[1]),
        *int_fields(splits=choice.splits, steps=choice.steps),
        *clamp_fields_s8(_clamp(node), node.outputs[0]),
    )
    constants = (Packed("w", "s8_mma", packed), channel, padding_vector(zero_of(node.inputs[0])))
    out = 8 if work.outputs % 8 == 0 else 1
    meeting = choice.splits if choice.cluster or choice.splits == 1 else 0
    sizes = (tile.bm, tile.bn, tile.bk, tile.warps_m, tile.warps_n, tile.warps_k, tile.stages, product.vector)
    template = (*(str(n) for n in (*sizes, product.kind, meeting)), flag(high), str(out))
    down, across = choice.tiles(work)
    grid = Grid(
        "ec_conv2d_s8_body",
        template,
        (down * choice.splits, across, work.groups),
        tile.threads,
        tile.shared_bytes(choice.steps),
        waits=True,
        cluster=max(1, meeting),
        cached=product.kind >= ROWS_WINDOWS,
    )
    return Launch("ec_conv2d_s8_params", fields, (0,), constants, (grid,))


def _scratch_tile(node: NodeView, target: Target) -> int:
    product, choice = _choice(node, target)
    if choice.splits == 1 or choice.cluster:
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
    columns = next((n for n in (4, 2) if threads[n] >= 256 * sms), 1)
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


def _accepts_transposed(node: NodeView, target: Target) -> bool:
    return weighted_s8(node, target) and fits_index(node)


def _launch_transposed(node: NodeView, target: Target) -> Launch:
    attrs, x, y = node.node.attrs, node.inputs[0].dims, node.outputs[0].dims
    assert isinstance(attrs, ConvTranspose2dAttrs)
    outputs, r, s, depth = node.inputs[1].dims
    w = np.pad(constant(node, 1), ((0, 0), (0, 0), (0, 0), (0, -depth % 4)))
    packed = np.ascontiguousarray(w.reshape(outputs, r, s, -1, 4).transpose(1, 2, 3, 0, 4))
    # The bias stays unfolded: how many taps reach an output differs from output to output.
    high, channel = channel_records(node, outputs, 1, outputs, bias_of(node))
    fields = (
        *int_fields(batch=x[0], in_h=x[1], in_w=x[2], in_c=x[3], out_h=y[1], out_w=y[2], out_c=y[3]),
        *int_fields(kernel_h=r, kernel_w=s, stride_h=attrs.stride[0], stride_w=attrs.stride[1]),
        *int_fields(pad_top=attrs.pad[0], pad_left=attrs.pad[2]),
        *int_fields(dilation_h=attrs.dilation[0], dilation_w=attrs.dilation[1], groups=attrs.groups),
        ("zero_in", zero_of(node.inputs[0])),
        *clamp_fields_s8(attrs.act, node.outputs[0]),
    )
    template = (flag(depth % 4 == 0), flag(high))
    blocks = (blocks_for(node.outputs[0].size, 128), 1, 1)
    grid = Grid("ec_conv_transpose2d_s8_body", template, blocks, 128)
    constants = (Packed("w", "s8_transposed", packed), channel)
    return Launch("ec_conv_transpose2d_s8_params", fields, (0,), constants, (grid,))


def _accepts_matmul(node: NodeView, target: Target) -> bool:
    fits = len(leading_axes(node)) <= LEADING_AXES and node.inputs[0].dims[-1] <= MATMUL_K_MAX
    rows = -(-node.outputs[0].dims[-2] // MATMUL_TILE[0])
    batch = math.prod(axis[0] for axis in leading_axes(node))
    return all_s8(node, target) and fits and max(rows, batch) <= GRID_MOST and fits_index(node)


def _launch_matmul(node: NodeView, target: Target) -> Launch:
    attrs, (a, b), y = node.node.attrs, node.inputs, node.outputs[0]
    assert isinstance(attrs, MatmulAttrs)
    axes = ((1, 0, 0),) * (LEADING_AXES - len(leading_axes(node))) + leading_axes(node)
    k, n, m = a.dims[-1], y.dims[-1], y.dims[-2]
    multiplier, shift = channel_requant(quant_of(a).scale[0], quant_of(b).scale, quant_of(y).scale[0], 1)
    fields = (
        *((f"n{i}", axis[0]) for i, axis in enumerate(axes)),
        *((f"a_{i}", axis[1]) for i, axis in enumerate(axes)),
        *((f"b_{i}", axis[2]) for i, axis in enumerate(axes)),
        *int_fields(m=m, k=k, n=n, b_k=1 if attrs.transpose_b else n, b_n=k if attrs.transpose_b else 1),
        *int_fields(zero_a=zero_of(a), zero_b=zero_of(b), zero_out=zero_of(y)),
        *int_fields(multiplier=int(multiplier[0]), shift=int(shift[0])),
    )
    blocks = (blocks_for(n, MATMUL_TILE[1]), blocks_for(m, MATMUL_TILE[0]), math.prod(x[0] for x in axes))
    grid = Grid("ec_matmul_s8_body", (flag(not attrs.transpose_b),), blocks, 128)
    return Launch("ec_matmul_s8_params", fields, (0, 1), (), (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv_transpose2d",
        symbol="ec_conv_transpose2d_s8_cuda",
        source="cuda/ec_conv_transpose2d_s8.cu",
        rank=100,
        accepts=_accepts_transposed,
        launch=_launch_transposed,
        epilogue=True,
    ),
    Kernel("matmul", "ec_matmul_s8_cuda", "cuda/ec_matmul_s8.cu", 100, _accepts_matmul, _launch_matmul),
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
