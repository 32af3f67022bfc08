"""Which tile and split an int8 product on tensor cores takes, by its sizes and the number of SMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgec.plan import Gpu


@dataclass(frozen=True, slots=True)
class Tile:
    """BM rows by BN outputs in steps of BK, by warps_m x warps_n warps on warps_k parts of each step; STAGES steps in
    shared memory."""

    bm: int
    bn: int
    bk: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int

    @property
    def threads(self) -> int:
        return 32 * self.warps_m * self.warps_n * self.warps_k

    @property
    def shared_bytes(self) -> int:
        sums = self.warps_k * self.bm * self.bn * 4  # where the stages were
        return max(self.stages * (self.bm + self.bn) * self.bk, sums) + 16 * self.bn


@dataclass(frozen=True, slots=True)
class Work:
    """Rows, outputs of a group, groups and elements of k of a product."""

    rows: int
    outputs: int
    groups: int
    k: int


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
    Tile(128, 128, 64, 4, 2, 1, 4),
    Tile(128, 64, 64, 4, 2, 1, 4),
    Tile(64, 64, 64, 2, 2, 1, 6),
    Tile(64, 64, 128, 2, 2, 2, 4),
    Tile(64, 32, 64, 2, 1, 2, 6),
    Tile(64, 32, 128, 2, 1, 2, 6),
    Tile(32, 32, 128, 1, 1, 4, 8),
    Tile(32, 32, 64, 1, 1, 2, 8),
    Tile(32, 64, 128, 1, 2, 2, 6),
    Tile(16, 64, 128, 1, 1, 4, 8),
    Tile(16, 64, 128, 1, 2, 2, 6),
    Tile(16, 32, 128, 1, 1, 4, 8),
    Tile(16, 64, 256, 1, 2, 4, 5),
    Tile(32, 32, 256, 1, 1, 8, 6),
    Tile(32, 64, 256, 1, 2, 4, 4),
    Tile(64, 32, 256, 2, 1, 4, 4),
    Tile(64, 64, 256, 2, 2, 2, 3),
)
START_CLOCKS: Final = 1200  # of a block: its first copies, its last store
SPLIT_CLOCKS: Final = 1800  # of a sum over blocks: a store, a fence, a counter, a load
CLUSTER_CLOCKS: Final = 600  # of a sum over a cluster
STEP_CLOCKS: Final = (
    90  # of a step with little work: a barrier and the latency of its loads from shared memory
)
BYTES_A_CLOCK: Final = 40  # from L2 to one SM
PRODUCTS_A_CLOCK: Final = 1500  # of one SM
SPLITS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
CLUSTERS: Final = (2, 4, 8)
CLUSTER_COMPUTE: Final = 90  # the first with clusters


def choose(work: Work, gpu: Gpu, tiles: tuple[Tile, ...] = TILES) -> Choice:
    """The choice with the smallest estimate."""
    fitting = (tile for tile in tiles if tile.shared_bytes <= gpu.shared_bytes)
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
    """Clocks that the product takes."""
    tile = choice.tile
    down, across = choice.tiles(work)
    blocks = down * across * work.groups * choice.splits
    resident = max(1, min(gpu.shared_bytes // tile.shared_bytes, 1536 // tile.threads))
    rounds = -(-blocks // gpu.sms)
    bytes_ = (tile.bm + tile.bn) * tile.bk / BYTES_A_CLOCK
    products = tile.bm * tile.bn * tile.bk / PRODUCTS_A_CLOCK
    together = min(rounds, resident)
    step = max(bytes_, products, STEP_CLOCKS / together)
    clocks = START_CLOCKS * -(-rounds // resident) + rounds * choice.steps * step
    if choice.cluster:
        clocks += CLUSTER_CLOCKS
    elif choice.splits > 1:
        clocks += SPLIT_CLOCKS + choice.splits * tile.bm * tile.bn * 4 / BYTES_A_CLOCK
    return clocks
