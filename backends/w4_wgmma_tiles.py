"""How the work of a 4-bit linear layer is divided among blocks with instructions of a warp group:
runtime_c/cuda/ec_linear_w4_wgmma.cu.

An estimate of the time decides: waves of blocks, by the slices that each has. Its constants are fitted to measured
divisions of Llama-3-8B's layers on an H200.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from edgec.backends.cuda_record import GRID_MOST
from edgec.backends.w4_tiles import LANES_BYTES, RESERVED_SHARED, Layer
from edgec.plan import Gpu

WIDE_ROWS: Final = 9  # of x, from which on this kernel is faster than the kernel of few rows
CLUSTER_MOST: Final = 8
CLUSTERED_SHARE: Final = 0.85  # of the SMs, that clusters fill: the rest is in pieces too small for one
CLUSTER_SMS: Final = 18  # that can be in one cluster; the last few of the chip are a piece of their own
JOIN_S: Final = 1e-6  # that adding the splits takes


@dataclass(frozen=True, slots=True)
class WideShape:
    """Template arguments of ec_linear_w4_wgmma_body, `x_rows` its N; blocks of it that an SM holds; what a slice and
    the rest of a block take where all SMs are full, in seconds."""

    x_rows: int
    warp_groups: int
    mt: int
    chunks: int
    stages: int
    loaders: int
    per_sm: int
    slice_s: float
    start_s: float

    @property
    def threads(self) -> int:
        return 128 * self.warp_groups + 32 * self.loaders

    @property
    def tiles(self) -> int:
        """Of 16 rows of weights."""
        return 4 * self.warp_groups * self.mt


SHAPES: Final = (
    WideShape(16, 2, 1, 4, 4, 4, 2, 1.12e-6, 3.5e-6),
    WideShape(32, 2, 1, 4, 3, 4, 2, 1.33e-6, 4.3e-6),
    WideShape(64, 3, 1, 2, 6, 4, 1, 0.64e-6, 4.0e-6),
    WideShape(64, 4, 1, 4, 3, 4, 1, 1.80e-6, 5.0e-6),
    WideShape(128, 3, 1, 2, 4, 4, 1, 1.00e-6, 5.0e-6),
    WideShape(128, 2, 2, 2, 4, 4, 1, 1.50e-6, 6.0e-6),
)


@dataclass(frozen=True, slots=True)
class WideRows:
    """A shape, and the blocks of a cluster that share the channels of a tile."""

    shape: WideShape
    splits: int

    def columns(self, layer: Layer) -> int:
        """Blocks along the rows of weights, without splits."""
        return -(-layer.tiles // self.shape.tiles)

    def slices(self, layer: Layer) -> int:
        return -(-layer.channels // (64 * self.shape.chunks))

    def blocks(self, layer: Layer) -> tuple[int, int, int]:
        return self.columns(layer) * self.splits, -(-layer.rows // self.shape.x_rows), 1

    def shared_bytes(self, layer: Layer) -> int:
        """The ring or, in its place, the sums, and two barriers a stage."""
        s = self.shape
        groups = 64 * s.chunks // layer.group * s.tiles * (48 if layer.asymmetric else 32)
        stage = s.chunks * (s.x_rows * 128 + s.tiles * LANES_BYTES) + groups
        sums = s.x_rows * (16 * s.tiles + 4) * 4
        return max(-(-stage // 1024) * 1024 * s.stages, sums) + 16 * s.stages

    def seconds(self, layer: Layer, gpu: Gpu) -> float:
        columns, rows, _ = self.blocks(layer)
        each = -(-self.slices(layer) // self.splits)
        waves = _waves(columns * rows // self.splits, self.splits, self.shape.per_sm, gpu.sms)
        join = JOIN_S if self.splits > 1 else 0.0
        return waves * (each * self.shape.slice_s + self.shape.start_s) + join


def _waves(tiles: int, splits: int, per_sm: int, sms: int) -> int:
    """Turns in which the chip's SMs take `tiles` clusters of `splits` blocks."""
    if splits == 1:
        return -(-tiles // (sms * per_sm))
    pieces, rest = divmod(sms, CLUSTER_SMS)
    together = pieces * (CLUSTER_SMS * per_sm // splits) + rest * per_sm // splits
    together = max(1, min(together, int(CLUSTERED_SHARE * sms * per_sm) // splits))
    return -(-tiles // together)


@functools.lru_cache(maxsize=256)
def choose_wide(layer: Layer, gpu: Gpu) -> WideRows | None:
    """The fastest division by the estimate, None where none fits the shared memory and the grid."""
    x_rows = next(most for most in (16, 32, 64, 128) if layer.rows <= most or most == 128)
    fitting = [
        choice
        for shape in SHAPES
        if shape.x_rows == x_rows
        for splits in range(1, CLUSTER_MOST + 1)
        for choice in (WideRows(shape, splits),)
        if splits <= choice.slices(layer)
        and choice.shared_bytes(layer) <= gpu.shared_bytes // shape.per_sm - RESERVED_SHARED
        and choice.blocks(layer)[1] <= GRID_MOST
    ]
    return min(fitting, key=lambda c: c.seconds(layer, gpu), default=None)
