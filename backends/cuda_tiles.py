"""Which tile a matrix product of the CUDA backend takes, in how many parts its K is cut and how these are added: a
model of the time.

At batch 1 most layers have fewer tiles than the GPU has SMs, so small tiles and parts of K decide. The model counts,
for the SM with most blocks, the clocks of a slice of K (tensor cores or FMAs, shared memory, what an SM takes from the
L2, the latency of one step of the pipeline) and adds what a block and the addition of its parts cost.
`benchmarks/cuda_layers.py --choices` measures every choice; the constants are fitted to its figures on an H200 and
are used for all chips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from typing import Final

from edgec.plan import Gpu

SLICE_BYTES: Final = 128
SPLITS: Final = (
    2,
    3,
    4,
    6,
    8,
)  # a cluster has 8 blocks at most; of 5, tiles of 64x64 took half as long again as of 4
HOPPER: Final = 90  # compute capability with clusters and, it alone, with instructions of a warp group


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` of A by `columns` of B for `warps_m` * `warps_n` * `warps_k` warps; see ec_tile in ec_mma.cuh. With
    warps_k = 0 for `warps_m` * `warps_n` warp groups; see ec_wide_tile in ec_wgmma.cuh."""

    rows: int
    columns: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int

    @property
    def wide(self) -> bool:
        return self.warps_k == 0

    @property
    def threads(self) -> int:
        return self.warps_m * self.warps_n * (128 if self.wide else 32 * self.warps_k)

    @property
    def shared_bytes(self) -> int:
        pipeline = self.stages * (self.rows + self.columns) * SLICE_BYTES
        sums = max(1, self.warps_k) * self.rows * (self.columns + 8) * 4
        return max(pipeline, sums)

    def text(self, kind: str) -> str:
        """The C++ type, of elements of type `kind`."""
        numbers = [self.rows, self.columns, self.warps_m, self.warps_n, self.warps_k, self.stages]
        if self.wide:
            del numbers[4]
        return f"{'ec_wide_tile' if self.wide else 'ec_tile'}<{kind}, {', '.join(map(str, numbers))}>"


@dataclass(frozen=True, slots=True)
class Product:
    """m by n with sums over k, `batch` times. `bytes`: of an element; `rows_of_k`: B is read as b[k,n], by tiles of
    whole swizzled rows."""

    m: int
    n: int
    k: int
    bytes: int
    batch: int = 1
    rows_of_k: bool = False

    @property
    def slices(self) -> int:
        return ceil(self.k * self.bytes / SLICE_BYTES)


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile, the parts that K is cut into, and whether these are a cluster or are added through memory."""

    tile: Tile
    splits: int
    cluster: bool

    def tiles(self, product: Product) -> int:
        return ceil(product.m / self.tile.rows) * ceil(product.n / self.tile.columns)


TILES: Final[tuple[Tile, ...]] = (
    Tile(128, 128, 4, 2, 1, 3),
    Tile(64, 128, 2, 2, 2, 3),
    Tile(64, 64, 2, 2, 2, 4),
    Tile(32, 64, 1, 2, 2, 6),
    Tile(32, 32, 1, 1, 4, 8),
    Tile(16, 64, 1, 2, 2, 6),
    Tile(16, 64, 1, 1, 4, 8),
    Tile(16, 32, 1, 1, 4, 8),
)
WIDE_TILES: Final[tuple[Tile, ...]] = (
    Tile(128, 128, 2, 2, 0, 4),
    Tile(64, 128, 1, 2, 0, 6),
    Tile(64, 96, 1, 1, 0, 6),
    Tile(64, 64, 1, 1, 0, 4),
    Tile(64, 64, 1, 1, 0, 6),
    Tile(64, 64, 1, 1, 0, 8),
    Tile(64, 32, 1, 1, 0, 8),
)
PLAIN_TILES: Final[tuple[Tile, ...]] = (
    Tile(128, 64, 4, 2, 1, 3),
    Tile(64, 64, 2, 2, 1, 3),
    Tile(32, 32, 1, 1, 4, 4),
    Tile(16, 32, 1, 1, 4, 4),
)
_BLOCKS_SPLIT: Final = 3  # of an SM, at most, where K is split: that is, where tiles are fewer than SMs
_COLUMNS_OF_K: Final = 64  # that a tile of rows of k has at least: 128 bytes of halves


def candidates(product: Product, gpu: Gpu) -> Iterator[Choice]:
    """Every choice that this chip can run."""
    hopper = gpu.compute == HOPPER
    if product.bytes == 4:
        tiles = PLAIN_TILES
    elif product.rows_of_k:
        tiles = tuple(t for t in TILES if t.columns >= _COLUMNS_OF_K)
    else:
        tiles = TILES + (WIDE_TILES if hopper and product.bytes == 2 else ())  # they take halves
    for tile in tiles:
        if tile.shared_bytes > gpu.shared_bytes:
            continue
        yield Choice(tile, 1, False)
        blocks = Choice(tile, 1, False).tiles(product) * product.batch
        for splits in SPLITS:
            fills = blocks <= gpu.sms and blocks * splits <= _BLOCKS_SPLIT * gpu.sms
            if fills and splits <= product.slices:
                yield Choice(tile, splits, False)
                if hopper:
                    yield Choice(tile, splits, True)


@cache
def choose(product: Product, gpu: Gpu) -> Choice:
    """The fastest choice by the model."""
    return min(candidates(product, gpu), key=lambda choice: clocks(choice, product, gpu))


def clocks(choice: Choice, product: Product, gpu: Gpu) -> float:
    """Predicted clocks of the product."""
    tile = choice.tile
    blocks = choice.tiles(product) * choice.splits * product.batch
    busiest = ceil(blocks / gpu.sms)
    resident = max(1, min(gpu.shared_bytes // (tile.shared_bytes + 1024), _THREADS // tile.threads))
    together = min(busiest, resident)
    elements = tile.rows * tile.columns / tile.threads
    slices = ceil(product.slices / choice.splits)
    block = slices * _slice_clocks(tile, together, product.bytes) + _BLOCK + _ELEMENT * elements
    if choice.splits > 1 and choice.cluster:
        block += _CLUSTER + _CLUSTER_PART * choice.splits + _CLUSTER_ELEMENT * elements
    elif choice.splits > 1:
        block += _SCRATCH + _SCRATCH_ELEMENT * choice.splits * elements
    return ceil(busiest / together) * block + _EACH * blocks / gpu.sms


def _slice_clocks(tile: Tile, together: int, size: int) -> float:
    """Clocks from one slice of K to the next, for `together` blocks on an SM."""
    taken = (tile.rows + tile.columns) * SLICE_BYTES
    products = tile.rows * tile.columns * SLICE_BYTES // size
    if tile.wide:
        step = _WIDE_STEP + _WIDE_COLUMN * tile.columns / tile.warps_n
        shared, sums = taken / 128, _WIDE_RATE * products
    else:
        warp_rows, warp_columns = tile.rows // tile.warps_m, tile.columns // tile.warps_n
        read = tile.warps_m * tile.warps_n * (warp_rows + warp_columns) * SLICE_BYTES
        step = _STEP[tile.warps_k] + _WARP * warp_rows * warp_columns / tile.warps_k
        shared, sums = (taken + read) / 128, (_FMA_RATE if size == 4 else _RATE) * products
    alone = (step, taken / _TAKEN_ALONE, _LATENCY / (tile.stages - 1))
    return _largest(together * _largest(sums, _SHARED * shared, taken / _TAKEN), *alone)


def _largest(*clocks_of: float) -> float:
    """About the largest: what nearly limits costs too."""
    return sqrt(sqrt(sum(c * c * c * c for c in clocks_of)))


_STEP: Final = {1: 80.0, 2: 61.0, 4: 77.0}  # by groups of warps along K
_WARP: Final = 0.156  # a product's element of a warp
_WIDE_STEP: Final = 253.0
_WIDE_COLUMN: Final = 0.731
_LATENCY: Final = 1285.0  # of a copy from the L2
_RATE: Final = 1.85 / 1024  # clocks of a multiply-accumulate on an SM
_WIDE_RATE: Final = 1.72 / 2048
_FMA_RATE: Final = 1 / 110
_SHARED: Final = 0.913
_TAKEN: Final = 123.5  # bytes that an SM takes from the L2 in a clock
_TAKEN_ALONE: Final = 50.7  # one block
_BLOCK: Final = 2485.0
_ELEMENT: Final = 22.3
_EACH: Final = 104.0
_CLUSTER: Final = 1707.0
_CLUSTER_PART: Final = 569.0
_CLUSTER_ELEMENT: Final = 2.0
_SCRATCH: Final = 2132.0
_SCRATCH_ELEMENT: Final = 18.9
_THREADS: Final = 515  # of the blocks that share an SM well
