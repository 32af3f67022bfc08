"""Kernel records of the CUDA backend: depthwise convolution of fp32, fp16 and bf16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.cuda_record import CUDA_TYPE, GRID_MOST, blocks_for, gpu_of, is_float
from edgec.backends.kernel_record import clamp_fields_f32, constant, int_fields
from edgec.ir import Array
from edgec.ops.conv2d import Conv2dAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

THREADS: Final = 128
SIZES: Final = (3, 5, 7)
STRIDES: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class DepthwiseTile:
    """What a thread makes: rows by columns of `width` channels; `lanes` neighbouring threads differ in channels.
    `shared`: the rows of the window are shared by warps (ec_depthwise_rows_body), each of which makes one row."""

    width: int
    columns: int
    rows: int
    lanes: int = 8
    shared: bool = False


def depthwise_attrs(node: NodeView) -> Conv2dAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, Conv2dAttrs)
    return attrs


def _accepts(node: NodeView, target: Target) -> bool:
    attrs, x, w = depthwise_attrs(node), node.inputs[0], node.inputs[1]
    square = w.dims[1] == w.dims[2] and w.dims[1] in SIZES and attrs.stride in tuple((s, s) for s in STRIDES)
    each = attrs.groups == x.dims[3] == w.dims[0] and attrs.dilation == (1, 1)
    floats = is_float(x) and node.outputs[0].dtype is x.dtype and w.dtype.is_float and w.quant is None
    held = all(c is not None for c in node.constants[1:])
    return square and each and floats and held and x.dims[0] <= GRID_MOST


def depthwise_tile(node: NodeView, target: Target) -> DepthwiseTile:
    """Small tiles at batch 1, where threads are few; large ones, with fewer loads a result, where they are many.
    As measured on an H200 by benchmarks/cuda_memory.py."""
    channels, (_, p, q, _), batch = node.inputs[0].dims[3], node.outputs[0].dims, node.inputs[0].dims[0]
    width = next(v for v in (4, 2, 1) if channels % v == 0)
    size, stride = node.inputs[1].dims[1], depthwise_attrs(node).stride[0]
    if size > 3:
        return DepthwiseTile(width, 4 if q >= 14 else 2, 1, shared=True)
    if batch * p * q * channels // (8 * width) >= 32 * gpu_of(target).sms * THREADS:
        return DepthwiseTile(width, 4, 2)
    vectors = channels // width
    lanes = 16 if p * q <= 28 * 28 and (vectors % 16 == 0 or vectors >= 64) else 8
    return DepthwiseTile(width, 2 if stride == 1 else 1, 1, lanes)


def packed_taps(node: NodeView, together: int) -> Array:
    """fp32 [tiles, taps + 1, together]: the taps of so many channels, then their biases; zeros beyond the last."""
    channels = node.inputs[0].dims[3]
    taps = constant(node, 1).astype(np.float32).reshape(channels, -1)
    bias = constant(node, 2).astype(np.float32) if len(node.inputs) == 3 else np.zeros(channels, np.float32)
    rows = np.concatenate([taps, bias[:, None]], 1)
    tiles = blocks_for(channels, together)
    padded = np.zeros((tiles * together, rows.shape[1]), np.float32)
    padded[:channels] = rows
    return np.ascontiguousarray(padded.reshape(tiles, together, -1).transpose(0, 2, 1))


def _launch(node: NodeView, target: Target) -> Launch:
    attrs, x, y = depthwise_attrs(node), node.inputs[0], node.outputs[0].dims
    channels, size = x.dims[3], node.inputs[1].dims[1]
    tile = depthwise_tile(node, target)
    strips_w = -(-y[2] // tile.columns)
    strips = -(-y[1] // tile.rows) * strips_w
    fields = int_fields(
        in_h=x.dims[1],
        in_w=x.dims[2],
        channels=channels,
        out_h=y[1],
        out_w=y[2],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        strips_w=strips_w,
        strips=strips,
    )
    together = tile.width * tile.lanes
    numbers = [size, size, attrs.stride[0], tile.width, tile.columns, tile.rows, tile.lanes]
    threads, body, per_block = THREADS, "ec_depthwise_conv2d_body", THREADS // tile.lanes
    if tile.shared:
        threads, body, per_block = 32 * size, "ec_depthwise_rows_body", 32 // tile.lanes
        numbers.pop(5)
    blocks = (blocks_for(strips, per_block), blocks_for(channels, together), x.dims[0])
    template = (CUDA_TYPE[x.dtype], *(str(n) for n in numbers))
    grid = Grid(body, template, blocks, threads, waits=True)
    fields = (*fields, *clamp_fields_f32(attrs.act))
    packed = Packed("weight", f"depthwise{together}", packed_taps(node, together))
    return Launch("ec_depthwise_conv2d_params", fields, (0,), (packed,), (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_cuda",
        source="cuda/ec_depthwise_conv2d.cu",
        rank=50,
        accepts=_accepts,
        launch=_launch,
        epilogue=True,
    ),
)
