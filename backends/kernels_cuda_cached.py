"""Kernel records of the CUDA backend: attention over a cache, for decoding and for prefill."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from edgec.backends.cuda_attention_tiles import DEPTH_MAX, AttentionTile, choose_tile, padded
from edgec.backends.cuda_record import CUDA_TYPE, GRID_MOST, blocks_for, gpu_of
from edgec.backends.kernel_record import Fields, int_fields
from edgec.backends.kernels_cuda_attention import (
    one_float,
    place_fields,
    plain_fits,
    plain_grid,
    whole_vectors,
)
from edgec.ir import DType
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.plan import Gpu, Grid, Kernel, Launch, NodeView, Target

LOG2E: Final = math.log2(math.e)
NEW_TOKENS: Final = 16  # that a decoding block takes beside the cache: one matrix instruction
DECODE_ROWS: Final = 64
WRITE_WARPS: Final = 4
WRITE_THREADS: Final = 256
PAIRS_MOST: Final = 128  # whose sines and cosines a block has room for


def cached_attrs(node: NodeView) -> CachedAttentionAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, CachedAttentionAttrs)
    return attrs


def _accepts_plain(node: NodeView, target: Target) -> bool:
    types, a = (*node.inputs[:5], *node.outputs), cached_attrs(node)
    frequencies = all(t.dtype is DType.F32 for t in node.inputs[6:])
    fits = (
        a.value_depth <= DEPTH_MAX and plain_fits(a.depth, target) and max(a.kv_heads, a.batch) <= GRID_MOST
    )
    return one_float(types) and frequencies and fits


def accepts_prefill(node: NodeView, target: Target) -> bool:
    a = cached_attrs(node)
    sizes = (a.depth, a.value_depth, *(() if a.rotary != "none" else a.q))
    fits = a.depth <= DEPTH_MAX and whole_vectors(*sizes)
    return _accepts_plain(node, target) and node.inputs[0].dtype.is_half and fits


def accepts_decode(node: NodeView, target: Target) -> bool:
    a = cached_attrs(node)
    few = a.tokens <= NEW_TOKENS and a.tokens * (a.heads // a.kv_heads) <= DECODE_ROWS
    fits = a.depth <= DEPTH_MAX and whole_vectors(a.depth, a.value_depth, *a.q, *a.k, *a.v)
    return _accepts_plain(node, target) and node.inputs[0].dtype.is_half and few and fits


def cached_fields(node: NodeView) -> Fields:
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


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the cached keys of a head divide: over `splits` blocks, of which each goes through its part in tiles."""

    tile: AttentionTile
    splits: int

    @property
    def shared_bytes(self) -> int:
        """q, the new tokens' keys and values, the stages; over all that, in the end, the warps' sums."""
        tile = self.tile
        new = 2 * NEW_TOKENS * (tile.depth + tile.value_depth + 16)
        return max(tile.query_bytes + new + tile.stages * tile.stage_bytes, tile.join_bytes)


def decoding(a: CachedAttentionAttrs, keys: int, gpu: Gpu) -> Decoding:
    """Few rows: the warps of a block share the keys, and so do blocks, until each multiprocessor has one."""
    rows = a.tokens * (a.heads // a.kv_heads)
    row_warps = 1 if rows <= 16 else 2 if rows <= 32 else 4
    turns = 8 * NEW_TOKENS * padded(a.depth) // 2 + 64  # static shared memory of the body
    most = 4 if row_warps == 1 else 2
    for own, key_warps in ((32, most), (16, most), (16, 2), (16, 1)):
        tile = AttentionTile(padded(a.depth), padded(a.value_depth), own, row_warps, key_warps)
        how = Decoding(tile, max(1, min(gpu.sms // (a.kv_heads * a.batch), -(-keys // tile.keys_a_tile))))
        if how.shared_bytes + turns <= gpu.shared_bytes:
            break
    return how


def _decoding(node: NodeView, target: Target) -> Decoding:
    return decoding(cached_attrs(node), node.inputs[3].dims[2], gpu_of(target))


def _decode_scratch(node: NodeView, target: Target) -> int:
    a, how = cached_attrs(node), _decoding(node, target)
    return 4 * a.batch * a.kv_heads * how.splits * how.tile.rows * (a.value_depth + 4)


def _decode_counters(node: NodeView, target: Target) -> int:
    a = cached_attrs(node)
    return 4 * a.batch * a.kv_heads


def is_old(node: NodeView, *indices: int) -> bool:
    """Whether these inputs are states: no kernel of this graph writes them before this one has read them."""
    return all(node.node.inputs[i][0] == "$" for i in indices)


def _launch_decode(node: NodeView, target: Target) -> Launch:
    a, how = cached_attrs(node), _decoding(node, target)
    early = "true" if is_old(node, 3, 4, 5) else "false"
    grid = Grid(
        "ec_attention_decode_body" if a.rotary == "none" else "ec_attention_decode_rotary_body",
        (*how.tile.template(node.inputs[0].dtype)[:-1], early),
        (how.splits, a.kv_heads, a.batch),
        how.tile.threads,
        how.shared_bytes,
        waits=True,
    )
    return Launch(
        "ec_cached_attention_params", cached_fields(node), tuple(range(len(node.inputs))), (), (grid,)
    )


def write_grid(node: NodeView) -> Grid:
    a = cached_attrs(node)
    turned = a.rotary != "none"
    rows = a.tokens * ((a.heads if turned else 0) + 2 * a.kv_heads)
    return Grid(
        "ec_cache_write_rotary_body" if turned else "ec_cache_write_body",
        (CUDA_TYPE[node.inputs[0].dtype],),
        (blocks_for(rows, WRITE_WARPS), a.batch, 1),
        32 * WRITE_WARPS,
    )


def prefill_write_grid(node: NodeView) -> Grid:
    """The first launch of a prefill in half types: 16 channels a thread where all rows are whole vectors."""
    a, pairs = cached_attrs(node), node.inputs[6].size if len(node.inputs) > 6 else 0
    aligned = whole_vectors(pairs, *a.q, *a.k, *a.v) and a.depth % 16 == 0 and a.value_depth % 16 == 0
    if not aligned or pairs > PAIRS_MOST:
        return write_grid(node)
    turned = a.rotary != "none"
    units = (((a.heads if turned else 0) + a.kv_heads) * a.depth + a.kv_heads * a.value_depth) // 16
    return Grid(
        "ec_cache_write_rows_rotary_body" if turned else "ec_cache_write_rows_body",
        (CUDA_TYPE[node.inputs[0].dtype],),
        (a.tokens, a.batch, 1),
        min(WRITE_THREADS, 32 * blocks_for(units, 32)),
    )


def turned_bytes(node: NodeView, target: Target) -> int:
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
    return Launch(
        "ec_cached_attention_params", cached_fields(node), inputs, (), (prefill_write_grid(node), attend)
    )


def _launch_plain(node: NodeView, target: Target) -> Launch:
    a = cached_attrs(node)
    body = "ec_cached_plain_body" if a.rotary == "none" else "ec_cached_plain_rotary_body"
    rows = a.batch * a.heads * a.tokens
    attend = plain_grid(body, node.inputs[0].dtype, rows, (a.depth, a.value_depth))
    inputs = tuple(range(len(node.inputs)))
    return Launch("ec_cached_attention_params", cached_fields(node), inputs, (), (write_grid(node), attend))


RENEWS: Final = ((1, 3), (2, 4))
KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        "cached_attention",
        "ec_cached_attention_decode_cuda",
        "cuda/ec_attention_decode.cu",
        100,
        accepts_decode,
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
        accepts_prefill,
        _launch_prefill,
        scratch=turned_bytes,
        renews=RENEWS,
    ),
    Kernel(
        "cached_attention",
        "ec_cached_attention_plain_cuda",
        "cuda/ec_attention_plain.cu",
        900,
        _accepts_plain,
        _launch_plain,
        scratch=turned_bytes,
        renews=RENEWS,
    ),
)
