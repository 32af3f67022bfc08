"""Kernel records of the CUDA backend: attention by the instructions of a warp group, which Hopper alone has.

They take what the records of kernels_cuda_attention and kernels_cuda_cached take in half types and without a mask,
where rows, keys and depths fill the instructions; those take all else.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_attention_tiles import GROUP_ROWS, WIDE_DEPTHS, choose_wide_tile
from edgec.backends.cuda_record import blocks_for, gpu_of
from edgec.backends.cuda_tiles import HOPPER
from edgec.backends.kernels_cuda_attention import accepts_tiles, strided_attrs, strided_fields
from edgec.backends.kernels_cuda_cached import (
    RENEWS,
    accepts_prefill,
    cached_attrs,
    cached_fields,
    prefill_write_grid,
    turned_bytes,
)
from edgec.ir import DType
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.plan import Gpu, Grid, Kernel, Launch, NodeView, Target

SOURCE: Final = "cuda/ec_attention_wgmma.cu"
DEPTH_LEAST: Final = 40  # below, half of each product or more would be zeros
KEYS_LEAST: Final = 96  # below, tiles of single warps are as fast or faster (measured on an H200)
ROWS_MOST: Final = 2**32 - 1  # times heads of a group: ec_wide_heads
WORKS_MOST: Final = 2**31 - 1


def _suits(a: StridedAttentionAttrs | CachedAttentionAttrs, tokens: int, keys: int, target: Target) -> bool:
    """Whether a node of these sizes is for these records, and within a launch's range."""
    group, depths = a.heads // a.kv_heads, (a.depth, a.value_depth)
    rows = tokens * group
    large = rows >= GROUP_ROWS and keys >= KEYS_LEAST and min(depths) >= DEPTH_LEAST
    works = blocks_for(rows, GROUP_ROWS) * a.kv_heads * a.batch
    fits = max(depths) <= max(WIDE_DEPTHS) and rows * group <= ROWS_MOST and works <= WORKS_MOST
    return gpu_of(target).compute == HOPPER and large and fits


def _accepts_values(node: NodeView, target: Target) -> bool:
    a = strided_attrs(node)
    return accepts_tiles("")(node, target) and _suits(a, a.queries, a.keys, target)


def _accepts_prefill(node: NodeView, target: Target) -> bool:
    a = cached_attrs(node)
    return accepts_prefill(node, target) and _suits(a, a.tokens, node.inputs[3].dims[2], target)


def _grid(
    body: str,
    dtype: DType,
    a: StridedAttentionAttrs | CachedAttentionAttrs,
    sizes: tuple[int, int],
    gpu: Gpu,
) -> Grid:
    """The launch for `sizes` = (tokens, keys)."""
    rows, heads = sizes[0] * (a.heads // a.kv_heads), a.kv_heads * a.batch
    tile = choose_wide_tile(rows, heads, sizes[1], max(a.depth, a.value_depth), a.causal, gpu)
    blocks = (tile.blocks(rows, heads, gpu), 1, 1)
    return Grid(body, tile.template(dtype), blocks, tile.threads, tile.shared_bytes, waits=True)


def _launch_values(node: NodeView, target: Target) -> Launch:
    a, dtype = strided_attrs(node), node.inputs[0].dtype
    grid = _grid("ec_attention_wide_body", dtype, a, (a.queries, a.keys), gpu_of(target))
    return Launch("ec_attention_params", strided_fields(node), (0, 1, 2), (), (grid,))


def _launch_prefill(node: NodeView, target: Target) -> Launch:
    a, dtype = cached_attrs(node), node.inputs[0].dtype
    body = "ec_attention_wide_prefill_body" if a.rotary == "none" else "ec_attention_wide_prefill_rotary_body"
    grid = _grid(body, dtype, a, (a.tokens, node.inputs[3].dims[2]), gpu_of(target))
    inputs = tuple(range(len(node.inputs)))
    return Launch(
        "ec_cached_attention_params", cached_fields(node), inputs, (), (prefill_write_grid(node), grid)
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel("attention", "ec_attention_wide_cuda", SOURCE, 90, _accepts_values, _launch_values),
    Kernel(
        "strided_attention", "ec_strided_attention_wide_cuda", SOURCE, 90, _accepts_values, _launch_values
    ),
    Kernel(
        "cached_attention",
        "ec_cached_attention_prefill_wide_cuda",
        SOURCE,
        105,  # after ec_cached_attention_decode_cuda
        _accepts_prefill,
        _launch_prefill,
        scratch=turned_bytes,
        renews=RENEWS,
    ),
)
