"""How a 4-bit linear layer of few rows of x is divided where the weights stream through rings in shared memory:
runtime_c/cuda/ec_linear_w4_stream.cu.

One block an SM, whose warps share the channels of its tiles and keep x in registers: 512 channels a warp, or 256 where
that gives more warps. Where a block's warps cannot hold all channels, several blocks share them. The rules follow what
was fastest of some hundred divisions of Llama-3-8B's layers on an H200.

A block takes the whole shared memory of its SM: of one kernel two must never be on an SM, or another SM has none.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from edgec.backends.w4_tiles import Layer
from edgec.plan import Gpu

ROWS_MOST: Final = 16  # of x
COMPUTE: Final = 90  # from which there are bulk copies, clusters, and kernels overlap
WARPS_LEAST: Final = 4
CHANNELS_MOST: Final = 512  # of a warp, whose x its registers hold
BLOCK_CHANNELS: Final = 8 * CHANNELS_MOST  # of a block, at most, where several share them
WIDE_CHANNELS: Final = 12 * CHANNELS_MOST  # of a block that has all, of up to eight rows
FULL_CHANNELS: Final = 6 * CHANNELS_MOST  # of a block, up to which a warp has half as many
SUMMED_MOST: Final = 3  # tiles of a block whose sums are added at once
DEEP_TILES: Final = 7  # of a block, from which on more stages pay
NEARLY_ALL: Final = 0.96  # of the blocks; more of them are left out where no part would be smaller with them
STATIC_BYTES: Final = 2048  # of shared memory that a block has besides the dynamic, at most


@dataclass(frozen=True, slots=True)
class StreamRows:
    """Template and launch arguments of ec_linear_w4_stream_body: a warp has `step` groups, of each tile `depth` times
    under way, `more` times in the place of x; the warps' sums of `summed` tiles are added at once. `pair`: two blocks
    fetch x together. `splits` blocks share the channels, each `split_groups`; `tiles`: of a block, at most."""

    step: int
    depth: int
    more: int
    summed: int
    pair: bool
    warps: int
    splits: int
    split_groups: int
    columns: int
    tiles: int

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def blocks(self) -> int:
        return self.columns * self.splits

    def scratch_bytes(self, layer: Layer) -> int:
        """The sums of all splits, and of x's squares."""
        if self.splits == 1:
            return 0
        return self.splits * _eights(layer) * (layer.tiles * 512 + self.columns * self.warps * 32)

    def counters_bytes(self) -> int:
        """One for each warp that shares its sums."""
        return 4 * self.columns * self.warps

    def needed_bytes(self, layer: Layer) -> int:
        """Rings; x of each warp, whose place `more` stages and two sets of sums take; pairs, bias."""
        stage = self.step * (layer.group // 64) * 512
        x = layer.rows * (self.step * layer.group * 2 + 16)
        after = self.more * stage + 2 * self.summed * _eights(layer) * 512
        pairs = self.tiles * (self.split_groups * (48 if layer.asymmetric else 32) + 64)
        return self.warps * (self.depth * stage + max(x, after)) + pairs


@functools.lru_cache(maxsize=256)
def choose_stream(layer: Layer, gpu: Gpu) -> StreamRows | None:
    """The division, None where there is none: other chips, too many rows, or too many for the sums of groups of 64;
    fewer tiles than blocks, few channels, so many tiles that their scales leave no room."""
    if gpu.compute < COMPUTE or layer.rows > ROWS_MOST or (layer.rows > 8 and layer.group == 64):
        return None
    eights, pair = _eights(layer), layer.rows > 1
    whole = layer.channels <= (WIDE_CHANNELS if eights == 1 else BLOCK_CHANNELS)
    each = -(-layer.groups // (1 if whole else -(-layer.channels // BLOCK_CHANNELS)))
    step = _step(layer, each)
    warps = -(-each // step)
    split_groups = warps * step
    splits = -(-layer.groups // split_groups)
    columns = gpu.sms // splits
    columns -= columns % 2 if pair else 0
    if warps < WARPS_LEAST or layer.tiles < columns:
        return None
    tiles = -(-layer.tiles // columns)
    fewest = -(-layer.tiles // tiles)
    fewest += fewest % 2 if pair else 0
    columns = fewest if fewest > NEARLY_ALL * columns else columns
    summed = tiles if tiles <= SUMMED_MOST else 2
    deep = ((3, 1), (2, 1)) if eights == 1 else ((2, 1),)
    for depth, more in (*(deep if tiles >= DEEP_TILES else ()), (2, 0)):
        made = StreamRows(step, depth, more, summed, pair, warps, splits, split_groups, columns, tiles)
        if made.needed_bytes(layer) <= shared_bytes(gpu):
            return made
    return None


def shared_bytes(gpu: Gpu) -> int:
    """Dynamic shared memory of a block."""
    return gpu.shared_bytes - STATIC_BYTES


def _eights(layer: Layer) -> int:
    """Rows of x in steps of a product's eight."""
    return -(-layer.rows // 8)


def _step(layer: Layer, each: int) -> int:
    """Groups of a warp, of `each` that a block has: so many that x and its sums by group fill its registers, or half as
    many."""
    whole = CHANNELS_MOST // layer.group
    return whole if each * layer.group > FULL_CHANNELS else whole // 2
