"""Kernel records of the CUDA backend: attention of one new token, or a few, over a cache, by clusters of blocks.

It takes what the record of kernels_cuda_cached for decoding takes, where a key head has few query rows and its channels
fill the instructions; that one takes all else.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE, blocks_for, flag, gpu_of
from edgec.backends.cuda_tiles import HOPPER
from edgec.backends.kernels_cuda_cached import RENEWS, accepts_decode, cached_attrs, cached_fields, is_old
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

ROWS: Final = 8  # query rows of a key head: columns of the matrix instruction
DEPTHS: Final = (64, 128)
KEYS: Final = 16  # of a warp's tile
WARPS: Final = 8
SPLITS: Final = 8  # blocks of a key head: a cluster of the size that every chip with clusters has
SHORT: Final = 2 * WARPS * SPLITS * KEYS  # keys up to which a warp copies one tile at a time, as measured
PAIRS: Final = {"none": "EC_FEW_PLAIN", "half": "EC_FEW_HALF", "interleaved": "EC_FEW_NEIGHBOURS"}


def _accepts(node: NodeView, target: Target) -> bool:
    a = cached_attrs(node)
    fits = a.depth == a.value_depth and a.depth in DEPTHS and a.tokens * (a.heads // a.kv_heads) <= ROWS
    turned = a.rotary == "none" or 2 * node.inputs[6].size == a.depth
    return gpu_of(target).compute >= HOPPER and accepts_decode(node, target) and fits and turned


def _shared_bytes(depth: int, stages: int) -> int:
    """ec_few_shared: rows of the new tokens, the warps' keys and values, tops and totals, sums of the other blocks."""
    row = 2 * (depth + 8)
    sums = ROWS * (8 * WARPS + 4 * depth + 8 * SPLITS)
    return 3 * ROWS * row + WARPS * stages * 2 * KEYS * row + sums + 16


def _launch(node: NodeView, target: Target) -> Launch:
    a = cached_attrs(node)
    fresh = a.tokens * (a.heads // a.kv_heads + 2) * a.depth // 4  # items of four channels
    stages = 1 if node.inputs[3].dims[2] <= SHORT else 2
    template = (a.depth, WARPS, SPLITS, stages, blocks_for(fresh, 32 * WARPS), PAIRS[a.rotary])
    grid = Grid(
        "ec_attention_few_body" if a.rotary == "none" else "ec_attention_few_rotary_body",
        (CUDA_TYPE[node.inputs[0].dtype], *map(str, template), flag(is_old(node, 3, 4, 5))),
        (SPLITS, a.kv_heads, a.batch),
        32 * WARPS,
        _shared_bytes(a.depth, stages),
        min_blocks=2 if stages == 1 else 1,
        waits=True,
        cluster=SPLITS,
    )
    inputs = tuple(range(len(node.inputs)))
    return Launch("ec_cached_attention_params", cached_fields(node), inputs, (), (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        "cached_attention",
        "ec_cached_attention_few_cuda",
        "cuda/ec_attention_few.cu",
        90,
        _accepts,
        _launch,
        renews=RENEWS,
    ),
)
