"""Which tile a matrix product of the CUDA backend takes, and in how many parts its K is cut: a model of the time.

At batch 1 most layers have fewer tiles than the GPU has SMs, so small tiles and parts of K decide. The model counts,
for the SM with most blocks, the clocks of a slice of K (tensor cores or FMAs, shared memory, the L2's share, the
latency of one step of the pipeline) and adds what each kernel and each addition of parts costs.
`benchmarks/cuda_layers.py` measures every choice; the constants come from its figures on an H200.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Final

from edgec.plan import Gpu

SLICE_BYTES: Final = 128
CLUSTER_MOST: Final = 8  # blocks of a cluster that every chip with clusters allows
REGISTERS: Final = 65536


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` of A by `columns` of B for `warps_m` * `warps_n` * `warps_k` warps; see ec_tile in ec_mma.cuh."""

    rows: int
    columns: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int

    @property
    def threads(self) -> int:
        return 32 * self.warps_m * self.warps_n * self.warps_k

    @property
    def shared_bytes(self) -> int:
        pipeline = self.stages * (self.rows + self.columns) * SLICE_BYTES
        sums = self.warps_k * self.rows * (self.columns + 8) * 4
        return max(pipeline, sums)

    def text(self, kind: str) -> str:
        """The C++ type, of elements of type `kind`."""
        return (
            f"ec_tile<{kind}, {self.rows}, {self.columns}, {self.warps_m}, {self.warps_n}, "
            f"{self.warps_k}, {self.stages}>"
        )


@dataclass(frozen=True, slots=True)
class Product:
    """m by n with sums over k, `batch` times. `bytes`: of an element; `columns_least`: that a tile must have."""

    m: int
    n: int
    k: int
    bytes: int
    batch: int = 1
    columns_least: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile, and the parts that K is cut into."""

    tile: Tile
    splits: int

    def tiles(self, product: Product) -> int:
        return ceil(product.m / self.tile.rows) * ceil(product.n / self.tile.columns)


TILES: Final = (
    Tile(128, 128, 4, 2, 1, 3),
    Tile(128, 64, 4, 2, 1, 4),
    Tile(64, 128, 2, 2, 2, 3),
    Tile(64, 64, 2, 2, 1, 4),
    Tile(64, 64, 2, 2, 2, 4),
    Tile(64, 32, 2, 1, 2, 6),
    Tile(32, 128, 1, 4, 1, 4),
    Tile(32, 64, 1, 2, 2, 6),
    Tile(32, 32, 1, 1, 4, 4),
    Tile(32, 32, 1, 1, 4, 8),
    Tile(16, 64, 1, 2, 2, 6),
    Tile(16, 32, 1, 1, 4, 8),
)
PLAIN_TILES: Final = (
    Tile(128, 64, 4, 2, 1, 3),
    Tile(64, 64, 2, 2, 1, 3),
    Tile(32, 32, 1, 1, 4, 4),
    Tile(16, 32, 1, 1, 4, 4),
)


@cache
def choose(product: Product, gpu: Gpu) -> Choice:
    """The fastest choice by the model."""
    tiles = PLAIN_TILES if product.bytes == 4 else TILES
    slices = ceil(product.k * product.bytes / SLICE_BYTES)
    choices = [
        Choice(tile, splits)
        for tile in tiles
        for splits in range(1, CLUSTER_MOST + 1)
        if splits <= slices and tile.columns >= product.columns_least
    ]
    return min(choices, key=lambda choice: clocks(choice, product, gpu))


def clocks(choice: Choice, product: Product, gpu: Gpu) -> float:
    """Predicted clocks of the product."""
    tile, splits = choice.tile, choice.splits
    slices = ceil(ceil(product.k * product.bytes / SLICE_BYTES) / splits)
    blocks = choice.tiles(product) * splits * product.batch
    resident = max(1, min(gpu.shared_bytes // (tile.shared_bytes + 1024), 1536 // tile.threads))
    busiest = ceil(blocks / gpu.sms)
    together = min(busiest, resident)
    bytes_in = (tile.rows + tile.columns) * SLICE_BYTES
    warp_rows, warp_columns = tile.rows // tile.warps_m, tile.columns // tile.warps_n
    read = tile.warps_m * tile.warps_n * (warp_rows + warp_columns) * SLICE_BYTES
    rate = 128 if product.bytes == 4 else 1024
    sums = tile.rows * tile.columns * SLICE_BYTES // product.bytes / rate
    active = min(blocks, gpu.sms)
    slice_clocks = max(
        together * max(sums, (bytes_in + read) / 128, bytes_in / 48 if active < gpu.sms else bytes_in / 32),
        _STEP[tile.warps_k],
    )
    rounds = ceil(busiest / together)
    ends = _FIRST + tile.rows * tile.columns / tile.threads * 3
    parts = 0.0 if splits == 1 else _PARTS + splits * 30.0
    return rounds * (slices * slice_clocks + ends + parts)


_STEP: Final = {1: 260.0, 2: 200.0, 4: 150.0}  # clocks from slice to slice where nothing else limits
_FIRST: Final = 1200.0  # until the first slice is there
_PARTS: Final = 700.0  # that adding the parts takes
