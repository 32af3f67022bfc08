"""How softmax attention divides over blocks and warps: the sizes of ec_attention_tile, chosen on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
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


GROUP_ROWS: Final = 64  # of the instruction of a warp group
WIDE_DEPTHS: Final = (64, 128)
SHORT: Final = 256  # keys up to which two warp groups and narrow tiles beat three


@dataclass(frozen=True, slots=True)
class WideTile:
    """A block of warp groups takes 64 `row_groups` query rows of `depth` channels; `key_groups` of its warp groups
    share their keys, `keys` at a time. `stages` tiles of K and of V are in shared memory at once."""

    depth: int
    keys: int
    row_groups: int
    key_groups: int
    stages: int

    @property
    def rows(self) -> int:
        return GROUP_ROWS * self.row_groups

    @property
    def threads(self) -> int:
        """One warp group more copies."""
        return 128 * (self.row_groups * self.key_groups + 1)

    @property
    def shared_bytes(self) -> int:
        """q, and that of the block's next work where it takes several; K, V and four barriers a stage."""
        buffers = 2 if self.key_groups == 1 else 1
        return 2 * self.depth * (buffers * self.rows + 2 * self.stages * self.keys) + 32 * self.stages

    def works(self, rows: int, heads: int) -> int:
        return -(-rows // self.rows) * heads

    def blocks(self, rows: int, heads: int, gpu: Gpu) -> int:
        """One a multiprocessor, which takes works in turn; each has one work where warp groups share its keys."""
        works = self.works(rows, heads)
        return min(works, gpu.sms) if self.key_groups == 1 else works

    def template(self, dtype: DType) -> tuple[str, ...]:
        """T, D, KEYS, ROW_GROUPS, KEY_GROUPS, STAGES."""
        sizes = (self.depth, self.keys, self.row_groups, self.key_groups, self.stages)
        return (CUDA_TYPE[dtype], *(str(n) for n in sizes))


# Tiles of 64 channels, and what 128 keys take a block of them, us on an H200.
MANY_ROWS: Final = (
    (WideTile(64, 128, 2, 1, 2), 1.16),
    (WideTile(64, 128, 3, 1, 2), 1.51),
    (WideTile(64, 64, 4, 1, 3), 2.22),
)


def choose_wide_tile(rows: int, heads: int, keys: int, depth: int, causal: bool, gpu: Gpu) -> WideTile:
    """The tile for `rows` query rows of each of `heads` key heads (of all samples) over `keys` keys.

    64 rows a block, whose warp groups share the keys, where that makes no more blocks than multiprocessors. Else whole
    rounds of blocks count; under the causal rule, works of all lengths fill them.
    """
    wide = min(d for d in WIDE_DEPTHS if depth <= d)
    if -(-rows // GROUP_ROWS) * heads <= gpu.sms:
        few = WideTile(64, 64, 1, 2, 4) if keys <= SHORT else WideTile(64, 128, 1, 3, 3)
        return WideTile(128, 64, 1, 2, 3) if wide == 128 else few
    if wide == 128:
        return WideTile(128, 128, 2, 1, 2)

    def time(tile: WideTile, each: float) -> float:
        rounds = tile.works(rows, heads) / gpu.sms
        return each * (max(1.0, rounds) if causal else ceil(rounds))

    return min(MANY_ROWS, key=lambda choice: time(*choice))[0]
