"""How 4-bit weights lie in memory for the tensor cores: runtime_c/cuda/ec_w4.cuh, ec_linear_w4.cu.

Rows of weights stand in tiles of 16, channels in chunks of 64; a tile's chunk is 32 lanes of four 32-bit words, a word
an instruction of 16 channels. Word j of lane 4 g + t holds the rows g and g + 8 and, from channel 16 j + 2 t on, the
channels 0, 1, 8, 9: nibbles 0..3 are (g, 0), (g + 8, 0), (g, 8), (g + 8, 8) and 4..7 the channels behind these, so
that one AND leaves two neighbouring channels of a row in the two halves of a register. N is filled up to whole tiles.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Array

TILE: Final = 16
CHUNK: Final = 64

U32 = npt.NDArray[np.uint32]


def tiles_of(outputs: int) -> int:
    """Tiles of 16 rows that hold `outputs` rows."""
    return -(-outputs // TILE)


def pack_w4(q: Array) -> U32:
    """u32[tiles, K/64, 32, 4] of q u8[N, K/2], K a multiple of 64."""
    outputs, chunks = q.shape[0], 2 * q.shape[1] // CHUNK
    packed = np.empty((tiles_of(outputs), chunks, 8, 4, 4, 4), np.uint8)  # [tile, chunk, g, t, j, byte]
    for tile, place in enumerate(packed):
        rows = _whole_tiles(np.asarray(q[tile * TILE : tile * TILE + TILE], np.uint8))
        low, high = rows.reshape(2, 8, chunks, 4, 2, 4)  # [half] of [g, chunk, j, eights, t]
        place[..., :2] = ((low & 15) | (high << 4)).transpose(1, 0, 4, 2, 3)
        place[..., 2:] = ((low >> 4) | (high & 0xF0)).transpose(1, 0, 4, 2, 3)
    return packed.reshape(len(packed), chunks, 32, 16).view(np.uint32)


def pack_pairs(values: Array) -> Array:
    """[tiles, K/G, 8, 2] of scales or zeros [N, K/G]: rows g and g + 8 of a tile beside each other."""
    rows = _whole_tiles(values)
    pairs = rows.reshape(-1, 2, 8, rows.shape[1]).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(pairs)


def _whole_tiles(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`rows` with zeros below them up to a multiple of 16."""
    missing = -len(rows) % TILE
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)]) if missing else rows


def interleave_gate(rows: Array) -> Array:
    """Rows of a gated layer as its kernel takes them: eight of the gate, then the eight of the other half beside them.
    The half is filled up to a multiple of eight with zeros."""
    gate, up = np.split(rows, 2)
    missing = -len(gate) % 8
    if missing:
        below = np.zeros((missing, *rows.shape[1:]), rows.dtype)
        gate, up = np.concatenate([gate, below]), np.concatenate([up, below])
    both = np.stack([gate.reshape(-1, 8, *rows.shape[1:]), up.reshape(-1, 8, *rows.shape[1:])], axis=1)
    return both.reshape(-1, *rows.shape[1:])
