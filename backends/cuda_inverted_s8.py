"""How blocks share an int8 inverted residual on CUDA (runtime_c/cuda/ec_inverted_s8.cu): tiles of the map, parts of the
hidden channels, and where things stand in shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgec.plan import Gpu

WORDS: Final = {3: 1, 5: 2}  # of four taps in a column of the depthwise kernel
CLUSTERS: Final = (1, 2, 4, 8)
THREADS: Final = (256, 512)
TILE_SIDES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
BLOCK: Final = 32  # channels of a block of packed weights
BLOCK_BYTES: Final = 1024
BLOCK_AT: Final = 128  # EC_BLOCK_AT
ALIGN: Final = 128  # of everything in shared memory
MOST_TILES: Final = 2**20  # which the kernels divide as floats
# Cycles of an SM, fitted to an H200. ..._ISSUE: instructions of a warp, which hold up other warps.
START: Final = 3050  # from the end of the previous kernel until x is there
PROLOGUE: Final = 760  # instructions of a warp, where a block stands beside others
GATED_BYTES: Final = 4  # of the gated map in a cycle
EXPAND: Final = 370  # of 16 rows by 32 channels,
EXPAND_K: Final = 145  # and of each 32 of k
EXPAND_ISSUE: Final = 645
EXPAND_K_ISSUE: Final = 78
DEPTHWISE: Final = 950
STRIP: Final = {(3, 1): 490, (3, 2): 300, (5, 1): 1760, (5, 2): 900}  # two outputs of four channels
STRIP_ISSUE: Final = 0.15  # the part of it in which others do not issue
PROJECT_K: Final = 71  # of 16 rows by 32 outputs and 32 of k,
PROJECT_ISSUE: Final = 207
PART: Final = 905  # and where the sums go to the cluster,
CLUSTER: Final = 90
CLUSTER_BLOCK: Final = 195  # of 8 rows by 32 outputs that are added up, and each block
CLUSTER_ISSUE: Final = 320
CROWDED: Final = (0.7, 800)  # clusters on more than this part of the SMs take longer by this
TILE: Final = 5  # that the squeeze takes longer


@dataclass(frozen=True, slots=True)
class Shape:
    """An inverted residual. `kernel` and `stride` of the depthwise convolution; `expands`: a product comes before it;
    `outputs` 0: it ends with the depthwise convolution; `kernel` 0: it begins after it."""

    images: int
    in_h: int
    in_w: int
    in_c: int
    hidden: int
    out_h: int
    out_w: int
    outputs: int
    kernel: int
    stride: int
    expands: bool


@dataclass(frozen=True, slots=True)
class Share:
    """Outputs of a tile, blocks of 32 hidden channels of a thread block, blocks that share a tile, and threads."""

    tile_h: int
    tile_w: int
    blocks: int
    parts: int
    threads: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Bytes into shared memory; `block`: of the constants, which stand first, after a barrier; all bytes."""

    at: dict[str, int]
    block: int
    bytes: int


def blocks_of(channels: int) -> int:
    return -(-channels // BLOCK)


def tiles_of(shape: Shape, share: Share) -> int:
    return shape.images * -(-shape.out_h // share.tile_h) * -(-shape.out_w // share.tile_w)


def halo(shape: Shape, share: Share) -> tuple[int, int]:
    """Rows and columns that a tile reads."""
    high, across = ((n - 1) * shape.stride + shape.kernel for n in (share.tile_h, share.tile_w))
    return high, across


def constants_of(shape: Shape, share: Share) -> tuple[tuple[str, int], ...]:
    """Names and bytes of what a share's block of constants holds, in order."""
    k1, n2, wide = blocks_of(shape.in_c), blocks_of(shape.outputs), BLOCK * share.blocks
    sizes: list[tuple[str, int]] = []
    if shape.kernel:
        if shape.expands:
            sizes += [("w1", share.blocks * k1 * BLOCK_BYTES), ("records1", 18 * wide), ("table1", 256)]
        sizes += [("wd", wide // 4 * shape.kernel * WORDS[shape.kernel] * 16), ("records_d", 18 * wide)]
        sizes += [("table_d", 256)]
    if shape.outputs:
        sizes += [("w2", n2 * share.blocks * BLOCK_BYTES), ("records2", 18 * BLOCK * n2)]
    return tuple(sizes)


def layout(shape: Shape, share: Share) -> Layout:
    """Where everything stands. The sums of a cluster stand where x and e were."""
    n2, wide = blocks_of(shape.outputs), BLOCK * share.blocks
    at, end = {}, BLOCK_AT
    for name, size in constants_of(shape, share):
        at[name] = end
        end += round_up(size)
    block, pixels = end - BLOCK_AT, 16 * -(-share.tile_h * share.tile_w // 16)
    if shape.outputs:
        at["d"] = end
        end += round_up(pixels * (wide + 16))
    x = e = 0
    if shape.kernel:
        high, across = halo(shape, share)
        inside = min(high, shape.in_h) * min(across, shape.in_w)
        at["place"] = end
        end += round_up(4 * inside)
        x = 16 * -(-inside // 16) * (BLOCK * blocks_of(shape.in_c) + 16) if shape.expands else 0
        e = (high * across + shape.stride) * (wide + 16)
    at["x"], at["e"] = end, end + round_up(x)
    if not shape.outputs:
        at["sums"] = at["e"] + round_up(e)
        return Layout(at, block, at["sums"] + 4 * wide)
    at["sums"] = end
    sums = pixels * n2 * BLOCK * 4 if share.parts > 1 else 0
    return Layout(at, block, max(at["e"] + e, end + sums))


def round_up(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def choose(shape: Shape, gpu: Gpu) -> Share | None:
    """The share with the smallest estimate; None where none fits."""
    known = (s for s in shares(shape) if tiles_of(shape, s) <= MOST_TILES)
    found = [s for s in known if layout(shape, s).bytes <= gpu.shared_bytes]
    return min(found, key=lambda s: (estimate(shape, s, gpu), s.threads), default=None)


def shares(shape: Shape) -> Iterator[Share]:
    """Every way to share. Blocks that end with the depthwise convolution need not meet."""
    whole = blocks_of(shape.hidden)
    parts = CLUSTERS if shape.outputs else range(1, whole + 1)
    blocks = sorted({-(-whole // n) for n in parts})
    rows = (1,) if not shape.kernel else tuple(n for n in TILE_SIDES if n <= shape.out_h)
    columns = (
        (16, 32, 48, 64, 96, 128, 256)
        if not shape.kernel
        else tuple(n for n in TILE_SIDES if n <= shape.out_w)
    )
    for each in blocks:
        count = -(-whole // each)
        if shape.outputs and count not in CLUSTERS:
            continue
        for tile_h in rows:
            for tile_w in columns:
                if tile_h * tile_w <= 256 and 8 * each <= THREADS[0]:
                    yield from (Share(tile_h, tile_w, each, count, threads) for threads in THREADS)


def estimate(shape: Shape, share: Share, gpu: Gpu) -> float:
    """Cycles from the end of the previous kernel on."""
    warps, all_blocks = share.threads // 32, tiles_of(shape, share) * share.parts
    crowd = -(-all_blocks // gpu.sms)
    blocks, pixels = share.blocks, share.tile_h * share.tile_w
    time = START + PROLOGUE * warps * (crowd - 1) / 4
    if shape.kernel:
        time += _front(shape, share, crowd)
    else:
        time += pixels * BLOCK * blocks * crowd / GATED_BYTES
    if not shape.outputs:
        return time + TILE * tiles_of(shape, share) / shape.images
    units = -(-pixels // 16) * blocks_of(shape.outputs)
    if share.parts == 1:
        return time + _phase(units, PROJECT_K * blocks, 12 * blocks + PROJECT_ISSUE, warps, crowd)
    time += CROWDED[1] if all_blocks > CROWDED[0] * gpu.sms else 0
    time += _phase(units, PROJECT_K * blocks + PART, 12 * blocks + 20, warps, crowd)
    added = -(-2 * units // share.parts)
    each = CLUSTER_BLOCK * share.parts
    return time + CLUSTER + _phase(added, each, CLUSTER_ISSUE + 8 * share.parts, warps, crowd)


def _phase(units: int, latency: float, instructions: float, warps: int, crowd: int) -> float:
    """Units that warps take in turn: as long as one after the other takes, or as their instructions."""
    return max(-(-units // warps) * latency, units * instructions * crowd / 4)


def _front(shape: Shape, share: Share, crowd: int) -> float:
    """Cycles from when x is there up to the depthwise convolution."""
    warps, blocks, time = share.threads // 32, share.blocks, float(DEPTHWISE)
    high, across = halo(shape, share)
    inside = min(high, shape.in_h) * min(across, shape.in_w)
    if shape.expands:
        k1, units = blocks_of(shape.in_c), -(-inside // 16) * blocks
        time += _phase(units, EXPAND_K * k1 + EXPAND, EXPAND_K_ISSUE * k1 + EXPAND_ISSUE, warps, crowd)
    lanes = max(1, share.threads // (8 * blocks))
    strips = -(-share.tile_h * -(-share.tile_w // 2) // lanes)
    each = STRIP[shape.kernel, shape.stride]
    return time + strips * each * max(1.0, warps * STRIP_ISSUE * crowd / 4)
