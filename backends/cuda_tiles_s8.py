"""Which tile and split an int8 product on tensor cores takes, by its sizes and the number of SMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgec.plan import Gpu


@dataclass(frozen=True, slots=True)
class Tile:
    """BM rows by BN outputs in steps of BK, by warps_m x warps_n warps on warps_k parts of each step; STAGES steps in
    shared memory. Fitted to an H200: `start` microseconds of a launch, `step` of a step, and `crowd`, by which a step
    grows with each block that an SM has."""

    bm: int
    bn: int
    bk: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int
    start: float = 0.0
    step: float = 0.0
    crowd: float = 0.0

    @property
    def threads(self) -> int:
        return 32 * self.warps_m * self.warps_n * self.warps_k

    def shared_bytes(self, steps: int) -> int:
        """Shared memory of a block that takes `steps`."""
        sums = self.warps_k * self.bm * self.bn * 4  # where the stages were
        stages = min(self.stages, steps) * (self.bm + self.bn) * self.bk
        return -(-18 * self.bn // 128) * 128 + max(stages, sums)


@dataclass(frozen=True, slots=True)
class Work:
    """Rows, outputs of a group, groups and elements of k of a product; `windows`: its rows are gathered from windows of
    several taps."""

    rows: int
    outputs: int
    groups: int
    k: int
    windows: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile, the parts of k that blocks share, and the steps of each. `cluster`: the blocks of a tile's splits are a
    cluster."""

    tile: Tile
    splits: int
    steps: int
    cluster: bool = False

    def tiles(self, work: Work) -> tuple[int, int]:
        """Blocks along rows and outputs."""
        return -(-work.rows // self.tile.bm), -(-work.outputs // self.tile.bn)


TILES: Final = (
    Tile(16, 32, 128, 1, 1, 4, 8, 1.05, 0.167, 0.68),
    Tile(16, 32, 512, 1, 1, 8, 3, 0.80, 0.461, 1.07),
    Tile(16, 64, 64, 1, 2, 1, 6, 0.91, 0.131, 0.76),
    Tile(16, 64, 128, 1, 2, 2, 6, 0.98, 0.180, 0.78),
    Tile(16, 64, 256, 1, 2, 4, 5, 1.32, 0.229, 1.07),
    Tile(16, 64, 512, 1, 2, 2, 3, 1.08, 0.409, 1.13),
    Tile(16, 64, 512, 1, 2, 4, 3, 1.41, 0.350, 1.10),
    Tile(16, 128, 256, 1, 4, 2, 3, 0.80, 0.129, 3.94),
    Tile(32, 32, 64, 1, 1, 2, 8, 1.01, 0.152, 0.68),
    Tile(32, 32, 128, 1, 1, 4, 8, 1.36, 0.124, 1.42),
    Tile(32, 64, 64, 2, 2, 1, 6, 1.09, 0.129, 1.21),
    Tile(32, 64, 128, 1, 2, 2, 6, 1.22, 0.086, 1.84),
    Tile(64, 64, 64, 2, 2, 1, 6, 1.13, 0.164, 1.23),
    Tile(64, 64, 64, 4, 2, 1, 4, 1.13, 0.229, 0.29),
    Tile(64, 64, 128, 2, 2, 2, 4, 1.36, 0.301, 0.65),
    Tile(128, 64, 64, 4, 2, 1, 4, 1.56, 0.260, 0.83),
    Tile(128, 128, 64, 4, 2, 1, 4, 1.67, 0.415, 0.51),
)
WINDOWS: Final = 1.5  # by which gathering windows makes a step longer
SPLIT_US: Final = 2.0  # of a sum over blocks: a store, a fence, a counter, a load
SPLIT_KIB_US: Final = 0.3  # for each KiB of a tile's sums and split
CLUSTER_US: Final = 0.85  # of a sum over a cluster
CLUSTER_BLOCK_US: Final = 0.28  # for each of its blocks
L2_BYTES_US: Final = 6.4e6  # that all SMs together get from L2
STORES_US: Final = 0.33e6  # results that are stored
SPLITS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
CLUSTERS: Final = (2, 4)
H200_SMS: Final = 132
CLUSTER_COMPUTE: Final = 90  # the first with clusters


def choose(work: Work, gpu: Gpu, tiles: tuple[Tile, ...] = TILES) -> Choice:
    """The choice with the smallest estimate."""
    fitting = (tile for tile in tiles if tile.shared_bytes(tile.stages) <= gpu.shared_bytes)
    options = [choice for tile in fitting for choice in choices(tile, work, gpu)]
    return min(options, key=lambda c: (estimate(c, work, gpu), c.splits))


def choices(tile: Tile, work: Work, gpu: Gpu) -> tuple[Choice, ...]:
    """Every split of k with this tile; small ones by a cluster where the GPU has them."""
    whole = -(-work.k // tile.bk)
    steps = sorted({-(-whole // s) for s in SPLITS})
    plain = tuple(Choice(tile, -(-whole // n), n) for n in steps)
    if gpu.compute < CLUSTER_COMPUTE:
        return plain
    return (*plain, *(Choice(tile, n, -(-whole // n), True) for n in CLUSTERS if n <= whole))


def estimate(choice: Choice, work: Work, gpu: Gpu) -> float:
    """Microseconds that the product takes on an H200 with as many SMs as `gpu` has."""
    tile = choice.tile
    down, across = choice.tiles(work)
    blocks = down * across * work.groups * choice.splits
    crowd = max(1.0, tile.crowd * -(-blocks // gpu.sms))
    step = tile.step * (WINDOWS if work.windows else 1.0)
    moved = blocks * choice.steps * (tile.bm + tile.bn) * min(tile.bk, work.k)
    l2 = L2_BYTES_US * gpu.sms / H200_SMS
    stored = work.rows * work.outputs * work.groups / (STORES_US * gpu.sms / H200_SMS)
    time = tile.start + max(choice.steps * step * crowd, moved / l2) + stored
    if choice.cluster:
        return time + CLUSTER_US + CLUSTER_BLOCK_US * choice.splits
    if choice.splits > 1:
        return time + SPLIT_US + SPLIT_KIB_US * choice.splits * tile.bm * tile.bn / 1024
    return time
