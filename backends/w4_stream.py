"""How a 4-bit linear layer of few rows of x is divided where the weights stream through rings in shared memory:
runtime_c/cuda/ec_linear_w4_stream.cu.

One block an SM, whose warps split the channels of its tiles. Two blocks fit an SM, so that the next kernel's stand
beside this one's and fetch their first weights meanwhile; never three, or one kernel could have two on an SM and none
on another.
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
        """Dynamic shared memory: what is needed, and as much as lets two blocks fit an SM, not three."""
        needed = self.depth * self.ring_bytes(layer) + self.other_bytes(layer)
        return max(needed, _most(gpu, self.depth) // 16 * 16)


def _most(gpu: Gpu, depth: int) -> int:
    """Dynamic shared memory of which two blocks fit an SM."""
    return (gpu.shared_bytes + DRIVER_BYTES) // 2 - DRIVER_BYTES - STATIC_BYTES - depth * BARRIERS_BYTES


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
    for depth in range(-(-tiles // together) * -(-layer.groups // (step * warps)), 0, -1):
        found = StreamRows(rows, together, step, depth, summed, keep, warps, gpu.sms, tiles)
        if found.shared_bytes(layer, gpu) <= _most(gpu, depth):
            return found
    return None


def _keeping(layer: Layer) -> int:
    """Warps that hold all of x in registers, 0 if none can."""
    for warps in range(WARPS_MOST, WARPS_MOST // 2, -1):
        if layer.groups % warps == 0 and layer.groups // warps <= KEPT_GROUPS:
            return warps
    return 0
