"""How the work of a 4-bit linear layer is divided among blocks and warps: runtime_c/cuda/ec_linear_w4.cu and
ec_linear_w4_gemm.cu.

Both read each weight once or a few times, x once for each block. A division is chosen by an estimate of its time: the
weights from memory, x and the sums of split channels through the L2 cache, the products, whatever is longest, on the SM
that has most to do.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgec.plan import Gpu

FEW_ROWS: Final = 16  # of x, up to which the kernel of few rows takes it
LANES_BYTES: Final = 512  # of a tile's chunk
THREADS_MOST: Final = 512
RESERVED_SHARED: Final = (
    1536  # what a kernel has besides its dynamic shared memory, and the driver's 1 KB a block
)
L2_OVER_DRAM: Final = 1.3  # bandwidth of reads that hit in L2, over that of memory
JOIN_S: Final = 1.5e-6  # that the last block needs to see the sums of the others
MMA_SHARE: Final = 0.55  # of the tensor cores' peak that mma.sync with weights taken apart reaches


@dataclass(frozen=True, slots=True)
class Layer:
    """`rows` of x, `tiles` of 16 rows of weights, channels in `groups` of `group`; `asymmetric`: it has zeros."""

    rows: int
    tiles: int
    groups: int
    group: int
    asymmetric: bool

    @property
    def channels(self) -> int:
        return self.groups * self.group

    @property
    def weight_bytes(self) -> float:
        return self.tiles * (self.channels * 8 + self.groups * (48 if self.asymmetric else 32))


@dataclass(frozen=True, slots=True)
class FewRows:
    """Template and launch arguments of ec_linear_w4_body: wm x wk warps, mt tiles a warp, `depth` chunks under way."""

    mt: int
    depth: int
    wm: int
    wk: int
    splits: int

    @property
    def threads(self) -> int:
        return 32 * self.wm * self.wk

    def columns(self, layer: Layer) -> int:
        """Blocks along the rows of weights."""
        return -(-layer.tiles // (self.wm * self.mt))

    def split_groups(self, layer: Layer) -> int:
        return -(-layer.groups // self.splits)

    def shared_bytes(self, layer: Layer) -> int:
        """x, the scales and the ring of weights; the sums come to the same place."""
        pairs = self.wm * self.mt * self.split_groups(layer)
        x = layer.rows * (self.split_groups(layer) * layer.group * 2 + 16)
        ring = self.threads * self.mt * 16 * self.depth
        sums = self.wk * 8 * -(-layer.rows // 8) * (self.wm * self.mt * 16 + 4) * 4
        return max(x + pairs * (48 if layer.asymmetric else 32) + ring, sums)

    def scratch_bytes(self, layer: Layer) -> int:
        if self.splits == 1:
            return 4
        return 4 * self.splits * layer.rows * (16 * layer.tiles + self.columns(layer))


@dataclass(frozen=True, slots=True)
class ManyRows:
    """Template and launch arguments of ec_linear_w4_gemm_body: wm x wn warps of 16 mt rows of weights and 8 nt of x."""

    mt: int
    nt: int
    wm: int
    wn: int
    stages: int
    splits: int

    @property
    def threads(self) -> int:
        return 32 * self.wm * self.wn

    def blocks(self, layer: Layer) -> tuple[int, int, int]:
        x_rows = 8 * self.nt * self.wn
        return -(-layer.tiles // (self.wm * self.mt)), -(-layer.rows // x_rows), self.splits

    def split_groups(self, layer: Layer) -> int:
        return -(-layer.groups // self.splits)

    def shared_bytes(self, layer: Layer) -> int:
        tiles, x_rows = self.wm * self.mt, 8 * self.nt * self.wn
        stage = x_rows * 128 + tiles * (LANES_BYTES + (48 if layer.asymmetric else 32))
        return max(-(-stage // 128) * 128 * self.stages, 16 * self.wn * (16 * tiles + 4) * 4)

    def scratch_bytes(self, layer: Layer) -> int:
        if self.splits == 1:
            return 16
        columns, rows, splits = self.blocks(layer)
        return 4 * columns * rows * splits * self.mt * self.nt * 4 * self.threads


@functools.lru_cache(maxsize=256)
def choose_few(layer: Layer, gpu: Gpu) -> FewRows | None:
    """The fastest division by the estimate, None where none fits the shared memory."""
    found = [c for c in _few(layer) if c.shared_bytes(layer) <= gpu.shared_bytes - RESERVED_SHARED]
    return min(found, key=lambda c: _few_seconds(c, layer, gpu), default=None)


def _few(layer: Layer) -> Iterator[FewRows]:
    for splits, mt, wk in itertools.product((1, 2, 3, 4, 6, 8), (1, 2), (1, 2, 3, 4, 5, 6, 8)):
        for wm in range(1, 17):
            one = FewRows(mt, 8, wm, wk, splits)
            if one.threads <= THREADS_MOST // mt and splits * wk <= layer.groups:
                yield one


def _few_seconds(c: FewRows, layer: Layer, gpu: Gpu) -> float:
    blocks = c.columns(layer) * c.splits
    share = -(-blocks // gpu.sms) * gpu.sms / blocks  # of the busiest SM, over the mean
    x = 2 * layer.rows * layer.channels * c.columns(layer)
    sums = 8 * c.splits * layer.rows * layer.tiles * 16 if c.splits > 1 else 0
    dram = layer.weight_bytes / gpu.bandwidth
    cache = (layer.weight_bytes + x + sums) / (gpu.bandwidth * L2_OVER_DRAM)
    latency = abs(c.threads - 256) * 2e-9  # about eight warps hide the latencies best
    return max(dram, cache) * max(1.0, share * 0.9) + (JOIN_S if c.splits > 1 else 0.0) + latency


MANY: Final = (
    # (mt, nt, wm, wn, stages)
    (2, 4, 4, 1, 6),
    (2, 8, 4, 1, 6),
    (2, 8, 4, 2, 4),
    (4, 8, 4, 2, 4),
    (2, 4, 2, 1, 6),
    (2, 8, 2, 2, 4),
)


@functools.lru_cache(maxsize=256)
def choose_many(layer: Layer, gpu: Gpu) -> ManyRows | None:
    """The fastest division by the estimate, None where none fits the shared memory."""
    found = [
        ManyRows(*shape, splits) for shape in MANY for splits in (1, 2, 3, 4, 6, 8) if splits <= layer.groups
    ]
    fitting = [c for c in found if c.shared_bytes(layer) <= gpu.shared_bytes - RESERVED_SHARED]
    return min(fitting, key=lambda c: _many_seconds(c, layer, gpu), default=None)


def _many_seconds(c: ManyRows, layer: Layer, gpu: Gpu) -> float:
    columns, rows, splits = c.blocks(layer)
    blocks = columns * rows * splits
    waves = -(-blocks // gpu.sms)
    products = 2 * 128 * c.mt * c.nt * c.wm * c.wn * layer.channels / splits  # of one block
    compute = waves * products / (gpu.fp16_flops * MMA_SHARE / gpu.sms)
    x = 2 * 8 * c.nt * c.wn * layer.channels * columns * rows
    sums = 8 * splits * layer.rows * layer.tiles * 16 if splits > 1 else 0
    cache = (layer.weight_bytes * rows + x + sums) / (gpu.bandwidth * L2_OVER_DRAM)
    return max(compute, cache, layer.weight_bytes / gpu.bandwidth) + (JOIN_S if splits > 1 else 0.0)
