"""Kernel records of the CUDA backend: convolutions in fp16, bf16 and fp32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edgec.backends.cuda_gemm import (
    chosen,
    chunk_of,
    counter_bytes,
    grid_of,
    held,
    is_weighted_float,
    packed_bias,
    pitch_of,
    run_length,
    scratch_bytes,
    size_fields,
    weight_constants,
    weights_can_be_used,
)
from edgec.backends.cuda_record import CUDA_TYPE, blocks_for, gpu_of
from edgec.backends.cuda_tiles import SLICE_BYTES, Product, Tile
from edgec.backends.kernel_record import INT32_MAX, clamp_fields_f32, int_fields
from edgec.ops.conv import Conv1dAttrs, ConvTranspose2dAttrs
from edgec.ops.conv2d import Clamp, Conv2dAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

SOURCE: Final = "cuda/ec_conv2d.cu"
GROUPED_THREADS: Final = 128
PATCH_ROWS: Final = 64  # places of a block
PATCH_COLUMNS_MOST: Final = 128
PATCH_BYTES_MOST: Final = 112 << 10  # so that an H100 holds two blocks


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution as ec_conv_params has it: place (p, q), tap (r, s) reads row (p stride - pad + r dilation) / up."""

    h: int
    w: int
    c: int
    p: int
    q: int
    taps_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    up_h: int
    up_w: int


def window_of(node: NodeView) -> Window:
    """The window of conv2d, conv1d and conv_transpose2d."""
    x, w, y = node.inputs[0].dims, node.inputs[1].dims, node.outputs[0].dims
    attrs = node.node.attrs
    if isinstance(attrs, Conv1dAttrs):
        sizes = (x[1], 1, x[2], y[1], 1, 1)
        return Window(*sizes, attrs.stride, 1, attrs.pad[0], 0, attrs.dilation, 1, 1, 1)
    sizes = (x[1], x[2], x[3], y[1], y[2], w[2])
    if isinstance(attrs, ConvTranspose2dAttrs):
        dilation = (-attrs.dilation[0], -attrs.dilation[1])
        return Window(*sizes, 1, 1, -attrs.pad[0], -attrs.pad[2], *dilation, *attrs.stride)
    assert isinstance(attrs, Conv2dAttrs)
    window = Window(*sizes, *attrs.stride, attrs.pad[0], attrs.pad[2], *attrs.dilation, 1, 1)
    return _widened(window) if attrs.groups == 1 else window


def _widened(o: Window) -> Window:
    """The same, with the taps of a row as channels of one tap, where windows stand side by side."""
    side_by_side = o.stride_w == o.taps_w and o.w == o.q * o.taps_w and o.pad_w == 0 and o.dilation_w == 1
    if o.taps_w == 1 or not side_by_side:
        return o
    return Window(*(o.h, o.q, o.c * o.taps_w, o.p, o.q, 1, o.stride_h, 1, o.pad_h, 0, o.dilation_h, 1, 1, 1))


def is_dense(o: Window, taps: int) -> bool:
    """Whether the rows of the product are the places of x, one after the other."""
    one = taps == o.taps_w == o.stride_h == o.stride_w == o.up_h == o.up_w == 1
    return one and o.pad_h == o.pad_w == 0 and (o.p, o.q) == (o.h, o.w)


def conv_product(node: NodeView) -> Product:
    """Places by output channels, sums over taps and channels."""
    w, y = node.inputs[1], node.outputs[0]
    outputs = w.dims[0]
    return Product(y.size // outputs, outputs, w.size // outputs, y.dtype.bytes)


def _attrs(node: NodeView) -> tuple[int, Clamp]:
    """(groups, clamp)."""
    attrs = node.node.attrs
    assert isinstance(attrs, Conv2dAttrs | Conv1dAttrs | ConvTranspose2dAttrs)
    return attrs.groups, attrs.act


def _fits(node: NodeView) -> bool:
    return is_weighted_float(node) and max(node.inputs[0].size, node.outputs[0].size) <= INT32_MAX


def _accepts(node: NodeView, target: Target) -> bool:
    return _fits(node) and _attrs(node)[0] == 1 and weights_can_be_used(node)


def _launch(node: NodeView, target: Target) -> Launch:
    product, x, o = conv_product(node), node.inputs[0], window_of(node)
    choice = chosen(product, target)
    inputs, constants = weight_constants(node)
    clamp = clamp_fields_f32(_attrs(node)[1])
    taps = product.k // o.c
    dense = is_dense(o, taps)
    aligned = "true" if o.c % chunk_of(x) == 0 else "false"
    if dense:
        pitches = int_fields(pitch_a=product.k, pitch_b=pitch_of(node))
        fields = (*size_fields(product, choice), *pitches, *clamp)
        grid = grid_of("ec_linear_body", product, choice, x.dtype, (held(node), aligned))
        return Launch("ec_gemm_params", fields, inputs, constants, (grid,))
    up = "true" if (o.up_h, o.up_w) != (1, 1) else "false"
    fields = (
        *size_fields(product, choice),
        ("pitch_b", pitch_of(node)),
        *((name, getattr(o, name)) for name in Window.__slots__),
        *clamp,
    )
    grid = grid_of("ec_conv_body", product, choice, x.dtype, (held(node), aligned, up))
    return Launch("ec_conv_params", fields, inputs, constants, (replace(grid, cached=True),))


@dataclass(frozen=True, slots=True)
class _Patches:
    """How the patch kernel covers a map: tiles of PATCH_ROWS places, `tile_w` wide."""

    tile: Tile
    slices: int
    tile_w: int
    rows: int  # of a patch
    columns: int  # elements of one of its rows


def _patches(node: NodeView) -> _Patches:
    product, o, x = conv_product(node), window_of(node), node.inputs[0]
    taps_h = product.k // (o.c * o.taps_w)
    columns = min(-(-product.n // 32) * 32, PATCH_COLUMNS_MOST)
    warps = (2, 1, 4) if columns == 32 else (2, 2, 2)
    tile_w = 8 if o.q > 4 else 4
    return _Patches(
        Tile(PATCH_ROWS, columns, *warps, 1),
        -(-product.k * x.dtype.bytes // SLICE_BYTES),
        tile_w,
        (PATCH_ROWS // tile_w - 1) * o.stride_h + (taps_h - 1) * o.dilation_h + 1,
        ((tile_w - 1) * o.stride_w + (o.taps_w - 1) * o.dilation_w + 1) * o.c,
    )


def _patch_bytes(node: NodeView) -> int:
    """Shared memory of the patch kernel."""
    patches, size = _patches(node), node.inputs[0].dtype.bytes
    tiles = patches.slices * (patches.tile.rows + patches.tile.columns) * SLICE_BYTES
    pixels = -(-patches.rows * patches.columns // 8) * 8 * size
    places = patches.slices * SLICE_BYTES // size * 2
    return max(tiles + pixels + places, patches.tile.shared_bytes)


def _accepts_patch(node: NodeView, target: Target) -> bool:
    if not _accepts(node, target) or window_of(node).c % chunk_of(node.inputs[0]) == 0:
        return False
    if node.inputs[1].dims[1:3] == (1, 1):
        return False
    patches = _patches(node)
    fits = _patch_bytes(node) <= min(PATCH_BYTES_MOST, gpu_of(target).shared_bytes)
    return fits and patches.rows * patches.columns < 2**15 and node.constants[1] is not None


def _launch_patch(node: NodeView, target: Target) -> Launch:
    product, x, o, patches = conv_product(node), node.inputs[0], window_of(node), _patches(node)
    inputs, constants = weight_constants(node)
    tiles_h = -(-o.p // (PATCH_ROWS // patches.tile_w))
    tiles_w = -(-o.q // patches.tile_w)
    fields = (
        *int_fields(n=product.n, k=product.k, pitch_b=pitch_of(node)),
        *((name, getattr(o, name)) for name in Window.__slots__ if not name.startswith("up_")),
        *int_fields(patch_h=patches.rows, patch_w=patches.columns, tiles_h=tiles_h, tiles_w=tiles_w),
        *clamp_fields_f32(_attrs(node)[1]),
    )
    run = run_length(product.n, x.dtype)
    grid = Grid(
        "ec_conv_patch_body",
        (patches.tile.text(CUDA_TYPE[x.dtype]), str(patches.slices), str(patches.tile_w), str(run)),
        (x.dims[0] * tiles_h * tiles_w, -(-product.n // patches.tile.columns), 1),
        patches.tile.threads,
        _patch_bytes(node),
        waits=True,
    )
    return Launch("ec_conv_patch_params", fields, inputs, constants, (grid,))


def _accepts_grouped(node: NodeView, target: Target) -> bool:
    return _fits(node)


def _launch_grouped(node: NodeView, target: Target) -> Launch:
    product, x, o = conv_product(node), node.inputs[0], window_of(node)
    groups, act = _attrs(node)
    fields = (
        *int_fields(m=product.m, n=product.n, groups=groups, taps=product.k * groups // o.c),
        *((name, getattr(o, name)) for name in Window.__slots__),
        *clamp_fields_f32(act),
    )
    grid = Grid(
        "ec_conv_grouped_body",
        (CUDA_TYPE[x.dtype], str(run_length(node.inputs[1].dims[-1], x.dtype))),
        (blocks_for(node.outputs[0].size, GROUPED_THREADS), 1, 1),
        GROUPED_THREADS,
    )
    return Launch("ec_conv_grouped_params", fields, (0, 1), (packed_bias(node),), (grid,))


def _records(op: str) -> tuple[Kernel, Kernel]:
    return (
        Kernel(
            op=op,
            symbol=f"ec_{op}_cuda",
            source=SOURCE,
            rank=100,
            accepts=_accepts,
            launch=_launch,
            scratch=lambda node, target: scratch_bytes(conv_product(node), target),
            counters=lambda node, target: counter_bytes(conv_product(node), target),
            epilogue=True,
        ),
        Kernel(
            op=op,
            symbol=f"ec_{op}_grouped_cuda",
            source="cuda/ec_conv_grouped.cu",
            rank=800,
            accepts=_accepts_grouped,
            launch=_launch_grouped,
            epilogue=True,
        ),
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_patch_cuda",
        source="cuda/ec_conv_patch.cu",
        rank=60,
        accepts=_accepts_patch,
        launch=_launch_patch,
        epilogue=True,
    ),
    *(record for op in ("conv2d", "conv1d", "conv_transpose2d") for record in _records(op)),
)
