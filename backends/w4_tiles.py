"""How the work of a 4-bit linear layer is divided among blocks and warps: runtime_c/cuda/ec_linear_w4.cu and
ec_linear_w4_gemm.cu.

The rules for few rows follow what was fastest of some hundred divisions of Llama-3-8B's layers on an H200: one block an
SM, 12 to 16 warps, at least four to eight groups a warp, and channels split only where x does not fit. For many rows an
estimate of the time decides: products, the L2's traffic and the weights from memory, whatever is longest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from edgec.backends.cuda_record import GRID_MOST
from edgec.plan import Gpu

FEW_ROWS: Final = 16  # of x, up to which the kernel of few rows takes it
LANES_BYTES: Final = 512  # of a tile's chunk
SLICE: Final = 128  # channels of a stage of the kernel of many rows
CLUSTERS_FROM: Final = 90  # compute capability; kernels overlap from there on, too
TILES_MOST: Final = 16  # of a block of few rows
WARPS_MOST: Final = 16
X_BYTES_MOST: Final = {8: 66 << 10, 16: 133 << 10}  # of a block, by rows of x
ALONE_BYTES: Final = 115 << 10  # of shared memory, with which a block has its SM to itself
RESERVED_SHARED: Final = (
    1536  # what a kernel has besides its dynamic shared memory, and the driver's 1 KB a block
)
L2_OVER_DRAM: Final = 1.3  # bandwidth of reads that hit in L2, over that of memory
START_S: Final = 1e-6  # that a block needs before its products
JOIN_S: Final = 1.5e-6  # that adding the splits takes
MMA_SHARE: Final = 0.5  # of the tensor cores' peak that mma.sync with weights taken apart reaches
ALONE_SHARE: Final = 0.8  # of that, where an SM has one block at a time
REGISTERS: Final = 65536


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
    """Template and launch arguments of ec_linear_w4_body: wm x wk warps, mt tiles a warp, `depth` groups under way."""

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
        """The bias; x and its sums over groups, the scales and the ring of weights, and the sums in their place."""
        groups, eights = self.split_groups(layer), -(-layer.rows // 8)
        pairs = self.wm * self.mt * groups * (48 if layer.asymmetric else 32)
        x = layer.rows * (groups * layer.group * 2 + 16) + groups * 32 * eights
        ring = self.threads * self.mt * 16 * (layer.group // 64) * self.depth
        sums = self.wk * 8 * eights * (self.wm * self.mt * 16 + 4) * 4
        return self.wm * self.mt * 64 + max(x + pairs + ring, sums)

    def scratch_bytes(self, layer: Layer) -> int:
        if self.splits == 1:
            return 16
        return 4 * self.splits * layer.rows * self.columns(layer) * (self.wm * self.mt * 16 + 1)


@dataclass(frozen=True, slots=True)
class ManyRows:
    """Template and launch arguments of ec_linear_w4_gemm_body: wm x wn warps of 16 mt rows of weights and 8 nt of x.
    `cluster`: the splits of a tile are a cluster."""

    mt: int
    nt: int
    wm: int
    wn: int
    stages: int
    splits: int
    cluster: bool

    @property
    def threads(self) -> int:
        return 32 * self.wm * self.wn

    @property
    def tiles(self) -> int:
        """Of weights in a block."""
        return self.wm * self.mt

    @property
    def x_rows(self) -> int:
        """Of a block."""
        return 8 * self.nt * self.wn

    def columns(self, layer: Layer) -> int:
        """Blocks along the rows of weights, without splits."""
        return -(-layer.tiles // self.tiles)

    def blocks(self, layer: Layer) -> tuple[int, int, int]:
        return self.columns(layer) * self.splits, -(-layer.rows // self.x_rows), 1

    def split_groups(self, layer: Layer) -> int:
        return -(-layer.groups // self.splits)

    def shared_bytes(self, layer: Layer) -> int:
        pairs = SLICE // layer.group * self.tiles * (48 if layer.asymmetric else 32)
        stage = SLICE // 64 * (self.x_rows * 128 + self.tiles * LANES_BYTES) + pairs
        out = 16 * self.wn * (16 * self.tiles + 4) * 4
        sums = self.mt * self.nt * self.threads * 16 if self.cluster else 0
        return max(-(-stage // 128) * 128 * self.stages, out + sums)

    def scratch_bytes(self, layer: Layer) -> int:
        if self.splits == 1 or self.cluster:
            return 16
        blocks = self.blocks(layer)
        return blocks[0] * blocks[1] * self.mt * self.nt * self.threads * 16


@functools.lru_cache(maxsize=256)
def choose_few(layer: Layer, gpu: Gpu) -> FewRows | None:
    """The division by the rules above, None where none fits the shared memory."""
    for splits in (1, 2, 4, 8, 16):
        if splits > layer.groups:
            break
        choice = _divided(layer, gpu, splits)
        x = 2 * layer.rows * choice.split_groups(layer) * layer.group
        most = X_BYTES_MOST[8 if layer.rows <= 8 else 16]
        if x <= most and choice.shared_bytes(layer) <= gpu.shared_bytes - RESERVED_SHARED:
            return choice
    return None


def _divided(layer: Layer, gpu: Gpu, splits: int) -> FewRows:
    waves = -(-layer.tiles * splits // (gpu.sms * TILES_MOST))
    tiles = -(-layer.tiles * splits // (gpu.sms * waves))
    mt = 1 if tiles <= 8 else 2
    wm = -(-tiles // mt)
    groups = -(-layer.groups // splits)
    least = 8 if layer.rows <= 4 else 4  # groups of a warp
    wk = next(w for w in (8, 4, 2, 1) if w == 1 or (wm * w <= WARPS_MOST and w * least <= groups))
    depth = (2 if wm * wk >= 12 else 4) * (128 // layer.group)
    return FewRows(mt, depth, wm, wk, splits)


def padded_bytes(choice: FewRows, layer: Layer, gpu: Gpu) -> int:
    """Dynamic shared memory of a block. Where kernels overlap, two of one kernel on an SM would leave another idle."""
    needed = choice.shared_bytes(layer)
    alone = gpu.compute >= CLUSTERS_FROM and choice.columns(layer) * choice.splits <= gpu.sms
    return max(needed, ALONE_BYTES) if alone else needed


MANY: Final = {  # (mt, nt, wm, wn, stages) by the rows of x that a block has
    32: ((1, 4, 4, 1, 6), (2, 4, 4, 1, 4), (4, 4, 4, 1, 4)),
    64: ((2, 8, 4, 1, 4), (2, 8, 2, 1, 4)),
    128: ((4, 8, 4, 2, 3), (2, 8, 2, 2, 4), (2, 8, 2, 2, 3)),
}


@functools.lru_cache(maxsize=256)
def choose_many(layer: Layer, gpu: Gpu) -> ManyRows | None:
    """The fastest division by the estimate, None where none fits the shared memory and the grid."""
    clusters = gpu.compute >= CLUSTERS_FROM
    found = [
        ManyRows(*shape, splits, splits > 1 and clusters)
        for shape in MANY[next(most for most in (32, 64, 128) if layer.rows <= most or most == 128)]
        for splits in (1, 2, 3, 4, 6, 8)
        if splits * SLICE <= max(layer.channels, SLICE)
        and not (layer.asymmetric and shape[0] * shape[1] > 16)  # zeros of so many sums leave the registers
    ]
    fitting = [
        c
        for c in found
        if c.shared_bytes(layer) <= gpu.shared_bytes - RESERVED_SHARED
        and c.blocks(layer)[1] <= GRID_MOST
        and (c.splits == 1 or c.columns(layer) * c.splits <= 3 * gpu.sms)
    ]
    return min(fitting, key=lambda c: _many_seconds(c, layer, gpu), default=None)


def _many_seconds(c: ManyRows, layer: Layer, gpu: Gpu) -> float:
    columns, rows, splits = c.columns(layer), c.blocks(layer)[1], c.splits
    busiest = -(-columns * rows * splits // gpu.sms)
    together = min(gpu.shared_bytes // (c.shared_bytes(layer) + 1024), REGISTERS // (c.threads * 200))
    products = 2 * 16 * c.tiles * c.x_rows * layer.channels / splits  # of one block
    share = MMA_SHARE * (1.0 if min(busiest, together) > 1 else ALONE_SHARE)
    share *= c.mt / (c.mt + 1)  # what is taken apart once serves more products
    compute = busiest * products / (gpu.fp16_flops * share / gpu.sms)
    x = 2 * c.x_rows * layer.channels * columns * rows
    sums = 8 * splits * layer.rows * layer.tiles * 16 if splits > 1 and not c.cluster else 0
    cache = (layer.weight_bytes * rows + x + sums) / (gpu.bandwidth * L2_OVER_DRAM)
    return (
        max(compute, cache, layer.weight_bytes / gpu.bandwidth)
        + (JOIN_S if splits > 1 else 0.0)
        + busiest * START_S
    )
