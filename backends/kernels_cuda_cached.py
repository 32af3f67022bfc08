"""Kernel records of the CUDA backend: attention over a cache, for decoding and for prefill."""

from __future__ import annotations

import math
from typing import Final

from edgec.backends.cuda_attention_tiles import DEPTH_MAX, AttentionTile, choose_tile, padded
from edgec.backends.cuda_record import CUDA_TYPE, blocks_for, gpu_of
from edgec.backends.kernel_record import Fields, int_fields
from edgec.backends.kernels_cuda_attention import one_float, place_fields, plain_grid, whole_vectors
from edgec.ir import DType
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.plan import Gpu, Grid, Kernel, Launch, NodeView, Target

LOG2E: Final = math.log2(math.e)
NEW_TOKENS: Final = 16  # that a decoding block takes beside the cache: one matrix instruction
DECODE_ROWS: Final = 64
WRITE_WARPS: Final = 4


def cached_attrs(node: NodeView) -> CachedAttentionAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, CachedAttentionAttrs)
    return attrs


def _accepts_plain(node: NodeView, target: Target) -> bool:
    types = (*node.inputs[:5], *node.outputs)
    frequencies = all(t.dtype is DType.F32 for t in node.inputs[6:])
    return one_float(types) and frequencies and cached_attrs(node).value_depth <= DEPTH_MAX


def _accepts_prefill(node: NodeView, target: Target) -> bool:
    a = cached_attrs(node)
    sizes = (a.depth, a.value_depth, *(() if a.rotary != "none" else a.q))
    fits = a.depth <= DEPTH_MAX and whole_vectors(*sizes)
    return _accepts_plain(node, target) and node.inputs[0].dtype.is_half and fits


def _accepts_decode(node: NodeView, target: Target) -> bool:
    """k, v and q are read element by element, so that only the caches' rows must be whole vectors."""
    a = cached_attrs(node)
    few = a.tokens <= NEW_TOKENS and a.tokens * (a.heads // a.kv_heads) <= DECODE_ROWS
    fits = a.depth <= DEPTH_MAX and whole_vectors(a.depth, a.value_depth)
    return _accepts_plain(node, target) and node.inputs[0].dtype.is_half and few and fits


def _fields(node: NodeView) -> Fields:
    a = cached_attrs(node)
    rotary = node.inputs[6].size if a.rotary != "none" else 0
    return (
        *place_fields("q", a.q),
        *place_fields("k", a.k),
        *place_fields("v", a.v),
        *int_fields(
            batch=a.batch,
            tokens=a.tokens,
            keys=node.inputs[3].dims[2],
            heads=a.heads,
            kv_heads=a.kv_heads,
            depth=a.depth,
            value_depth=a.value_depth,
            causal=int(a.causal),
            window=a.window,
            position_step=int(node.inputs[5].size > 1),
            rotary=rotary,
            pair_step=1 if a.rotary == "interleaved" else rotary,
        ),
        ("rotary_scale", a.rotary_scale),
        ("scale", a.scale * LOG2E),
    )


def decode_tile(a: CachedAttentionAttrs) -> AttentionTile:
    """Few rows: the warps share the keys."""
    rows = a.tokens * (a.heads // a.kv_heads)
    row_warps = 1 if rows <= 16 else 2 if rows <= 32 else 4
    depth, value_depth = padded(a.depth), padded(a.value_depth)
    return AttentionTile(
        depth, value_depth, 16, row_warps, 4 if row_warps == 1 else 2, 3 if depth <= 128 else 2
    )


def decode_splits(a: CachedAttentionAttrs, keys: int, tile: AttentionTile, gpu: Gpu) -> int:
    """Blocks that share the keys of one key head: one a multiprocessor, but none for less than a tile."""
    return max(1, min(gpu.sms // (a.kv_heads * a.batch), -(-keys // tile.keys_a_tile)))


def _decode_scratch(node: NodeView, target: Target) -> int:
    a = cached_attrs(node)
    tile = decode_tile(a)
    splits = decode_splits(a, node.inputs[3].dims[2], tile, gpu_of(target))
    return 4 * a.batch * a.kv_heads * splits * tile.rows * (a.value_depth + 2)


def _decode_counters(node: NodeView, target: Target) -> int:
    a = cached_attrs(node)
    return 4 * a.batch * a.kv_heads


def _decode_shared(tile: AttentionTile, splits: int) -> int:
    """q, the new tokens' keys and values, the stages; the weights of the splits come last, over all that."""
    new = 2 * NEW_TOKENS * (tile.depth + tile.value_depth + 16)
    held = tile.query_bytes + new + tile.stages * tile.stage_bytes
    return max(held, tile.join_bytes, 8 * tile.rows * splits)


def _is_old(node: NodeView, *indices: int) -> bool:
    """Whether these inputs are states: no kernel of this graph writes them before this one has read them."""
    return all(node.node.inputs[i][0] == "$" for i in indices)


def _launch_decode(node: NodeView, target: Target) -> Launch:
    a, gpu = cached_attrs(node), gpu_of(target)
    tile, dtype = decode_tile(a), node.inputs[0].dtype
    splits = decode_splits(a, node.inputs[3].dims[2], tile, gpu)
    early = _is_old(node, 3, 4, 5)
    grid = Grid(
        "ec_attention_decode_body" if a.rotary == "none" else "ec_attention_decode_rotary_body",
        (*tile.template(dtype), "true" if early else "false"),
        (splits, a.kv_heads, a.batch),
        tile.threads,
        _decode_shared(tile, splits),
        waits=True,
    )
    return Launch("ec_cached_attention_params", _fields(node), tuple(range(len(node.inputs))), (), (grid,))


def _write_grid(node: NodeView) -> Grid:
    a = cached_attrs(node)
    turned = a.rotary != "none"
    rows = a.tokens * ((a.heads if turned else 0) + 2 * a.kv_heads)
    return Grid(
        "ec_cache_write_rotary_body" if turned else "ec_cache_write_body",
        (CUDA_TYPE[node.inputs[0].dtype],),
        (blocks_for(rows, WRITE_WARPS), a.batch, 1),
        32 * WRITE_WARPS,
    )


def _turned_bytes(node: NodeView, target: Target) -> int:
    """q after its rotation; a vector where there is none, so that the launches' arguments are the same."""
    a = cached_attrs(node)
    count = a.batch * a.heads * a.tokens * a.depth if a.rotary != "none" else 8
    return count * node.inputs[0].dtype.bytes


def _launch_prefill(node: NodeView, target: Target) -> Launch:
    a, keys = cached_attrs(node), node.inputs[3].dims[2]
    rows = a.tokens * (a.heads // a.kv_heads)
    tile = choose_tile(rows, a.kv_heads * a.batch, keys, (a.depth, a.value_depth), gpu_of(target))
    attend = Grid(
        "ec_attention_prefill_body" if a.rotary == "none" else "ec_attention_prefill_rotary_body",
        tile.template(node.inputs[0].dtype),
        (blocks_for(rows, tile.rows), a.kv_heads, a.batch),
        tile.threads,
        tile.shared_bytes(keys),
    )
    inputs = tuple(range(len(node.inputs)))
    return Launch("ec_cached_attention_params", _fields(node), inputs, (), (_write_grid(node), attend))


def _launch_plain(node: NodeView, target: Target) -> Launch:
    a = cached_attrs(node)
    body = "ec_cached_plain_body" if a.rotary == "none" else "ec_cached_plain_rotary_body"
    rows = a.batch * a.heads * a.tokens
    attend = plain_grid(body, node.inputs[0].dtype, rows, (a.depth, a.value_depth))
    inputs = tuple(range(len(node.inputs)))
    return Launch("ec_cached_attention_params", _fields(node), inputs, (), (_write_grid(node), attend))


RENEWS: Final = ((1, 3), (2, 4))
KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        "cached_attention",
        "ec_cached_attention_decode_cuda",
        "cuda/ec_attention_decode.cu",
        100,
        _accepts_decode,
        _launch_decode,
        scratch=_decode_scratch,
        counters=_decode_counters,
        renews=RENEWS,
    ),
    Kernel(
        "cached_attention",
        "ec_cached_attention_prefill_cuda",
        "cuda/ec_attention_prefill.cu",
        110,
        _accepts_prefill,
        _launch_prefill,
        scratch=_turned_bytes,
        renews=RENEWS,
    ),
    Kernel(
        "cached_attention",
        "ec_cached_attention_plain_cuda",
        "cuda/ec_attention_plain.cu",
        900,
        _accepts_plain,
        _launch_plain,
        scratch=_turned_bytes,
        renews=RENEWS,
    ),
)
