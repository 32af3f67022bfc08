"""How softmax attention divides over blocks and warps: the sizes of ec_attention_tile, chosen on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE
from edgec.ir import DType
from edgec.plan import Gpu

DEPTH_MAX: Final = 256  # channels of a head that the registers of a warp hold
ROWS_A_WARP: Final = 16  # of the matrix instruction
MANY, FEW = 1.5, 0.25  # blocks a multiprocessor
LONG: Final = 512  # keys above which narrow tiles in flight beat wide ones


@dataclass(frozen=True, slots=True)
class AttentionTile:
    """A block takes 16 `sixteens` `row_warps` query rows; `key_warps` of its warps share the keys, `keys` each a tile.
    `depth` and `value_depth` are multiples of 16; up to `stages` tiles are in shared memory at once."""

    depth: int
    value_depth: int
    keys: int
    row_warps: int
    key_warps: int
    stages: int = 2
    sixteens: int = 1

    @property
    def rows(self) -> int:
        return ROWS_A_WARP * self.sixteens * self.row_warps

    @property
    def keys_a_tile(self) -> int:
        return self.keys * self.key_warps

    @property
    def threads(self) -> int:
        return 32 * self.row_warps * self.key_warps

    @property
    def query_bytes(self) -> int:
        return 2 * self.rows * (self.depth + 8)

    @property
    def stage_bytes(self) -> int:
        return 2 * self.keys_a_tile * (self.depth + self.value_depth + 16)

    @property
    def join_bytes(self) -> int:
        """Float sums of all warps, tops and totals."""
        return 4 * self.key_warps * self.rows * (self.value_depth + 4 + 2)

    def shared_bytes(self, keys: int) -> int:
        """Shared memory of a block that goes through `keys` keys."""
        stages = min(self.stages, -(-keys // self.keys_a_tile))
        return max(self.query_bytes + stages * self.stage_bytes, self.join_bytes)

    def template(self, dtype: DType) -> tuple[str, ...]:
        """T, D, E, BN, WM, WN, STAGES, MI."""
        sizes = (
            self.depth,
            self.value_depth,
            self.keys,
            self.row_warps,
            self.key_warps,
            self.stages,
            self.sixteens,
        )
        return (CUDA_TYPE[dtype], *(str(n) for n in sizes))


def padded(depth: int) -> int:
    """Channels as whole matrix instructions."""
    return -(-depth // 16) * 16


def choose_tile(
    rows: int, heads: int, keys: int, depths: tuple[int, int], gpu: Gpu, masked: bool = False
) -> AttentionTile:
    """The tile for `rows` query rows of each of `heads` key heads (of all samples) over `keys` keys.

    64 rows a block where that makes enough blocks to hide each other's waits, else 32; two pairs of warps share the
    keys. 16 rows and four shares where even that leaves most multiprocessors idle (measured on an H200).
    """
    depth, value_depth = (padded(d) for d in depths)

    def blocks(row_warps: int) -> int:
        return -(-rows // (ROWS_A_WARP * row_warps)) * heads

    sixteens = 1
    if blocks(4) >= MANY * gpu.sms and rows > ROWS_A_WARP:
        pairs = max(depth, value_depth) <= 128 and not masked  # registers hold 32 rows a warp
        row_warps, key_warps, sixteens = (2, 2, 2) if pairs else (4, 1, 1)
    elif blocks(2) >= FEW * gpu.sms and rows > ROWS_A_WARP:
        row_warps, key_warps = 2, 2
    else:
        row_warps, key_warps = 1, 4
    while key_warps > 1 and ROWS_A_WARP * (key_warps - 1) >= keys:
        key_warps //= 2
    narrow = key_warps > 1 or sixteens > 1
    wide = max(depth, value_depth) <= (64 if narrow else 128) and (key_warps == 1 or keys <= LONG)
    most = 32 if not wide or key_warps == 4 or (masked and key_warps == 1) else 64
    own = min(most, max(16, padded(-(-keys // key_warps))))
    tile = AttentionTile(
        depth, value_depth, own if own in (16, 32, 64) else most, row_warps, key_warps, 2, sixteens
    )
    while tile.shared_bytes(keys) > gpu.shared_bytes and tile.keys_a_tile > 16:
        narrower = tile.keys > 16
        tile = (
            replace(tile, keys=tile.keys // 2) if narrower else replace(tile, key_warps=tile.key_warps // 2)
        )
    return tile
