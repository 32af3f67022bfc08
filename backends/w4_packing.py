"""How 4-bit weights lie in memory for the tensor cores: runtime_c/cuda/ec_w4.cuh, ec_linear_w4.cu.

Rows of weights stand in tiles of 16, channels in chunks of 64; a tile's chunk is 32 lanes of four 32-bit words, a word
an instruction of 16 channels. Word j of lane 4 g + t holds the rows g and g + 8 and, from channel 16 j + 2 t on, the
channels 0, 1, 8, 9: nibble e is row g + 8 (e % 2) and channel ORDER[e], so that one AND leaves two neighbouring
channels of a row in the two halves of a register. N is filled up to whole tiles with scale 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Array
from edgec.ops.linear_w4 import unpack_nibbles

TILE: Final = 16
CHUNK: Final = 64
ORDER: Final = (
    (0, 0),
    (0, 0),
    (1, 0),
    (1, 0),
    (0, 1),
    (0, 1),
    (1, 1),
    (1, 1),
)  # (8s, 1s) of nibble e's channel

U32 = npt.NDArray[np.uint32]


def tiles_of(outputs: int) -> int:
    """Tiles of 16 rows that hold `outputs` rows."""
    return -(-outputs // TILE)


def pack_w4(q: Array) -> U32:
    """u32[tiles, K/64, 32, 4] of q u8[N, K/2], K a multiple of 64."""
    outputs, channels = q.shape[0], 2 * q.shape[1]
    packed = np.empty((tiles_of(outputs), channels // CHUNK, 32, 4), np.uint32)
    step = max(1, (1 << 22) // channels)  # tiles at a time: the nibbles of a whole layer as words are large
    for first in range(0, len(packed), step):
        rows = _whole_tiles(unpack_nibbles(q[first * TILE : (first + step) * TILE]))
        packed[first : first + step] = _words(rows.reshape(-1, 2, 8, channels // CHUNK, 4, 2, 4, 2))
    return packed


def _words(nibbles: npt.NDArray[np.uint8]) -> U32:
    """nibbles[tile, half, g, chunk, j, eights, t, ones] as words [tile, chunk, lane, j]."""
    tiles, _, _, chunks = nibbles.shape[:4]
    words = np.zeros((tiles, 8, chunks, 4, 4), np.uint32)  # [tile, g, chunk, j, t]
    for place, (eights, ones) in enumerate(ORDER):
        words |= nibbles[:, place % 2, :, :, :, eights, :, ones].astype(np.uint32) << np.uint32(4 * place)
    return np.ascontiguousarray(words.transpose(0, 2, 1, 4, 3)).reshape(tiles, chunks, 32, 4)


def pack_pairs(values: Array) -> Array:
    """[tiles, K/G, 8, 2] of scales or zeros [N, K/G]: rows g and g + 8 of a tile beside each other."""
    rows = _whole_tiles(values)
    pairs = rows.reshape(-1, 2, 8, rows.shape[1]).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(pairs)


def _whole_tiles(rows: Array) -> Array:
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
