"""The packing of 4-bit weights against an unpacker written from the instruction's own operand layout."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.backends.w4_packing import interleave_gate, pack_pairs, pack_w4
from edgec.ops.linear_w4 import pack_nibbles, unpack_nibbles


def fragment(word: int) -> list[tuple[int, int]]:
    """What a lane's four registers hold after `(word >> s) & 0x000f000f` for s = 0, 4, 8, 12."""
    return [((word >> s) & 15, (word >> s >> 16) & 15) for s in (0, 4, 8, 12)]


def unpack(packed: np.ndarray, rows: int) -> np.ndarray:
    """Rows of the matrix that mma.m16n8k16 multiplies: register 0 is row lane / 4, 1 the row 8 below, 2 and 3 the same
    rows 8 columns on, two neighbouring columns each from 2 (lane % 4) on (PTX manual)."""
    tiles, chunks = packed.shape[:2]
    out = np.zeros((16 * tiles, 64 * chunks), np.uint8)
    for tile, chunk, lane, j in np.ndindex(packed.shape):
        g, t = divmod(lane, 4)
        for register, pair in enumerate(fragment(int(packed[tile, chunk, lane, j]))):
            row = 16 * tile + g + 8 * (register % 2)
            column = 64 * chunk + 16 * j + 2 * t + 8 * (register // 2)
            out[row, column : column + 2] = pair
    return out[:rows]


@pytest.mark.parametrize(("outputs", "channels"), [(16, 64), (40, 192), (7, 128)])
def test_the_fragments_of_the_packed_weights_are_the_weights(outputs: int, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 16, (outputs, channels)).astype(np.uint8)
    q = pack_nibbles(values)
    np.testing.assert_array_equal(unpack_nibbles(q), values)
    np.testing.assert_array_equal(unpack(pack_w4(q), outputs), values)


def test_pairs_are_the_rows_of_one_lane() -> None:
    scale = np.arange(20 * 3, dtype=np.float32).reshape(20, 3)
    pairs = pack_pairs(scale)
    assert pairs.shape == (2, 3, 8, 2)
    for g in range(8):
        np.testing.assert_array_equal(pairs[0, :, g], scale[[g, g + 8]].T)
    np.testing.assert_array_equal(pairs[1, :, 3], np.stack([scale[19], np.zeros(3)], 1))
    assert not pairs[1, :, 4:].any()


def test_gate_and_up_stand_in_one_tile() -> None:
    rows = np.arange(2 * 12)[:, None]
    tiles = interleave_gate(rows)[:, 0].reshape(2, 2, 8)
    assert tiles[0].tolist() == [list(range(8)), list(range(12, 20))]
    assert tiles[1].tolist() == [[8, 9, 10, 11, 0, 0, 0, 0], [20, 21, 22, 23, 0, 0, 0, 0]]
