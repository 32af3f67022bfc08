"""How a 4-bit linear layer of few rows of x is divided where the weights stream through rings in shared memory:
runtime_c/cuda/ec_linear_w4_stream.cu.

One block an SM, whose warps split the channels of its tiles. Of one kernel two blocks must never be on an SM, or
another SM has none. So narrow layers take more than half of an SM's shared memory and wide ones what they leave: the
next kernel's blocks then stand beside this one's and fetch their first weights meanwhile, where narrow and wide layers
take turns, as they do in transformers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from edgec.backends.w4_tiles import Layer
from edgec.plan import Gpu

ROWS: Final = (1, 2, 4)  # of x, as compiled
COMPUTE: Final = 90  # from which there are bulk copies, and kernels overlap
WARPS_LEAST: Final = 4
WARPS_MOST: Final = 8  # of 128 registers a thread, so that two blocks fit
KEPT_GROUPS: Final = 4  # of x, that a warp holds in registers
SUMS_BYTES: Final = 32 << 10  # of the warps' sums, about
STATIC_BYTES: Final = 512  # shared memory besides the dynamic and the rings' barriers
BARRIERS_BYTES: Final = 64  # of one step of all warps
DRIVER_BYTES: Final = 1024  # that the driver takes of each block
NARROW_TILES: Final = 2  # of a block, up to which a layer is narrow
NARROW_SHARE: Final = 118 / 228  # of an SM's shared memory that a block of a narrow layer takes
DEPTH_MOST: Final = 2  # what is asked for further ahead stands in the way of x


@dataclass(frozen=True, slots=True)
class StreamRows:
    """Template and launch arguments of ec_linear_w4_stream_body: `rows` of x; a warp takes `step` groups of `together`
    tiles at once, `depth` times under way, and keeps the sums of `summed` tiles. `keep`: its x stays in registers.
    `tiles`: of a block, at most."""

    rows: int
    together: int
    step: int
    depth: int
    summed: int
    keep: bool
    warps: int
    blocks: int
    tiles: int

    @property
    def threads(self) -> int:
        return 32 * self.warps

    def ring_bytes(self, layer: Layer) -> int:
        """Of one step of all warps."""
        return self.warps * self.together * self.step * (layer.group // 64) * 512

    def other_bytes(self, layer: Layer) -> int:
        """Scales, zeros, bias; x on its way to registers, whose place the sums take if it stays there, and the sums."""
        sums = min(self.summed, self.tiles) * (self.warps * layer.rows + 1) * 64
        x = self.warps * self.rows * (layer.group * 2 + 16)
        pairs = self.tiles * (layer.groups * (48 if layer.asymmetric else 32) + 64)
        return pairs + (max(x, sums) if self.keep else x + sums)

    def shared_bytes(self, layer: Layer, gpu: Gpu) -> int:
        """Dynamic shared memory: what is needed, and as much as the layer's share of an SM."""
        needed = self.depth * self.ring_bytes(layer) + self.other_bytes(layer)
        return max(needed, self.most_bytes(gpu))

    def most_bytes(self, gpu: Gpu) -> int:
        """Dynamic shared memory of a block that takes its share of an SM."""
        whole = gpu.shared_bytes + DRIVER_BYTES
        share = NARROW_SHARE if self.tiles <= NARROW_TILES else 1.0 - NARROW_SHARE
        return int(whole * share - DRIVER_BYTES - STATIC_BYTES - self.depth * BARRIERS_BYTES) // 16 * 16


@functools.lru_cache(maxsize=256)
def choose_stream(layer: Layer, gpu: Gpu) -> StreamRows | None:
    """The division, None where there is none: other chips, too many rows, fewer tiles than SMs, few or too many
    channels."""
    if gpu.compute < COMPUTE or layer.rows > ROWS[-1] or layer.tiles < gpu.sms:
        return None
    tiles = -(-layer.tiles // gpu.sms)
    rows = next(r for r in ROWS if layer.rows <= r)
    warps = _keeping(layer)
    keep = warps > 0
    if keep:
        together, step = 1, layer.groups // warps
    else:
        together, step = min(2, tiles), 2 if layer.groups % 2 == 0 else 1
        each = -(-layer.groups // (step * WARPS_MOST))
        warps = -(-layer.groups // (step * each))
        if warps < WARPS_LEAST:
            return None
    summed = max(together, min(tiles, SUMS_BYTES // (warps * layer.rows * 64)) // together * together)
    steps = -(-tiles // together) * -(-layer.groups // (step * warps))
    for depth in range(min(DEPTH_MOST, steps), 0, -1):
        found = StreamRows(rows, together, step, depth, summed, keep, warps, gpu.sms, tiles)
        if found.shared_bytes(layer, gpu) <= found.most_bytes(gpu):
            return found
    return None


def _keeping(layer: Layer) -> int:
    """Warps that hold all of x in registers, 0 if none can."""
    for warps in range(WARPS_MOST, WARPS_MOST // 2, -1):
        if layer.groups % warps == 0 and layer.groups // warps <= KEPT_GROUPS:
            return warps
    return 0
