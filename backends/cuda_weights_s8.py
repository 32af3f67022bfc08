"""Weights and channel records as the int8 CUDA kernels want them (runtime_c/cuda/ec_tile_s8.cuh, ec_requant.cuh)."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.kernel_record import folded_bias, requant_constants, zero_of
from edgec.ir import Array
from edgec.plan import NodeView, Packed

BLOCK: Final = 32  # outputs, and elements of k, of a block of packed weights
SHIFTS_HIGH: Final = (33, 55)  # shifts whose rounding lies in the high word, with room for a zero point


def channel_records(
    node: NodeView, outputs: int, groups: int, padded: int, bias: Array | None = None
) -> tuple[bool, Packed]:
    """(HIGH, int32[groups * padded][4]): bias (folded where not given), multiplier, round and shift of each output
    channel, each group's channels followed by zeros up to `padded`."""
    bias = (folded_bias(node).data if bias is None else bias).astype(np.int64)
    multiplier, shift = (c.data.astype(np.int64) for c in requant_constants(node, outputs))
    zero = zero_of(node.outputs[0])
    shift = np.where(multiplier == 0, SHIFTS_HIGH[0], shift)
    high = bool(np.all((shift >= SHIFTS_HIGH[0]) & (shift <= SHIFTS_HIGH[1])))
    if high:
        records = (bias, multiplier, np.int64(2 * zero + 1) << (shift - 33), shift - 32)
    else:
        records = (bias, multiplier, np.full(outputs, zero, np.int64), shift)
    rows = np.stack(records, 1).reshape(groups, outputs // groups, 4)
    rows = np.pad(rows, ((0, 0), (0, padded - outputs // groups), (0, 0)))
    return high, Packed("channel", "s8_channel", rows.reshape(-1, 4).astype(np.int32))


def round_up(count: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `count`."""
    return -(-count // step) * step


def packed_blocks(w: Array, groups: int, step_n: int, step_k: int) -> Array:
    """Layout "s8_mma" of w int8[O, K]: for each group, outputs padded to a multiple of `step_n` and k to one of
    `step_k` with zeros, blocks of 32 x 32 in the order of the fragments. int8[groups, N / 32, K / 32, 1024]."""
    outputs, k = w.shape[0] // groups, w.shape[1]
    n, wide = round_up(outputs, step_n), round_up(k, step_k)
    full = np.zeros((groups, n, wide), np.int8)
    full[:, :outputs, :k] = w.reshape(groups, outputs, k)
    # output 8 t + 4 h + 2 l + e of a block, k 16 u + 4 v + b
    cells = full.reshape(groups, n // BLOCK, 4, 2, 2, 2, wide // BLOCK, 2, 4, 4)
    order = cells.transpose(0, 1, 6, 3, 2, 5, 8, 4, 7, 9)
    return np.ascontiguousarray(order).reshape(groups, n // BLOCK, wide // BLOCK, BLOCK * BLOCK)


def packed_columns(w: Array) -> Array:
    """Layout "s8_columns" of depthwise weights w int8[C, R, S]: uint32[C / 4, S, ceil(R / 4), 4]."""
    channels, rows, columns = w.shape
    words = -(-rows // 4)
    full = np.zeros((channels, 4 * words, columns), np.int8)
    full[:, :rows] = w
    cells = full.reshape(channels // 4, 4, words, 4, columns).transpose(0, 4, 2, 1, 3)
    return np.ascontiguousarray(cells).view(np.uint32)[..., 0]


def padding_vector(zero: int) -> Packed:
    """16 bytes of the input's zero point, which taps outside of a map read."""
    return Packed("padding", "s8_padding", np.full(16, zero, np.int8))
