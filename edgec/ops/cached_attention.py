"""Attention of new tokens over a cache of keys and values that they join: rotary positions, cache update and
attention in one op, for the decoding and the prefill of language models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgec.fixedpoint import I64
from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.attention import AttentionAttrs, attention
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.heads import Place, check_place, heads_at

Rotary = Literal["none", "half", "interleaved"]


@dataclass(frozen=True, slots=True)
class CachedAttentionAttrs(Attrs):
    """Places of the new tokens' heads as in edgec/ops/heads.py; the caches are [N,B,S,D] and [N,B,S,E].

    `rotary` pairs the first 2 R channels of q and k as (c, c + R) ("half", as in Llama) or (2 c, 2 c + 1)
    ("interleaved"); R is the size of the frequencies, and `rotary_scale` multiplies sine and cosine. `causal`: new
    token i attends keys up to its own, else all that the cache then holds. `window` (> 0): none before its own
    position - window + 1.
    """

    scale: float
    batch: int
    tokens: int
    heads: int
    kv_heads: int
    depth: int
    value_depth: int
    q: Place
    k: Place
    v: Place
    rotary: Rotary = "none"
    rotary_scale: float = 1.0
    causal: bool = True
    window: int = 0


def infer(attrs: CachedAttentionAttrs, types: Types) -> Types:
    """Values with q[N,A,T,D], k[N,B,T,D], v[N,B,T,E], the caches, position i32 (one, or one a sample) and, with
    `rotary`, frequencies f32[R] -> y[N,T,A,E] and the new caches."""
    require(
        len(types) == (6 if attrs.rotary == "none" else 7), "takes q, k, v, caches, position, frequencies"
    )
    n, t, b = attrs.batch, attrs.tokens, attrs.kv_heads
    require(attrs.scale > 0 and math.isfinite(attrs.scale), f"the scale {attrs.scale} is not positive")
    require(attrs.window >= 0, f"the window {attrs.window} is negative")
    check_place(attrs.q, types[0], (n, attrs.heads, t, attrs.depth))
    check_place(attrs.k, types[1], (n, b, t, attrs.depth))
    check_place(attrs.v, types[2], (n, b, t, attrs.value_depth))
    require(attrs.heads % b == 0, f"{attrs.heads} heads do not divide over {b}")
    require(all(x.dtype is types[0].dtype for x in types[1:5]), "q, k, v and the caches have one type")
    keys = types[3].dims[2] if len(types[3].dims) == 4 else 0
    require(types[3].dims == (n, b, keys, attrs.depth) and keys >= t, f"the cache of k is {types[3].dims}")
    require(types[4].dims == (n, b, keys, attrs.value_depth), f"the cache of v is {types[4].dims}")
    require(types[5].dtype is DType.I32 and types[5].size in (1, n), "position is i32, one or one a sample")
    if attrs.rotary != "none":
        require(types[6].dtype is DType.F32 and len(types[6].dims) == 1, "frequencies are f32[R]")
        require(2 * types[6].size <= attrs.depth, f"{types[6].size} frequencies for {attrs.depth} channels")
    return (Type((n, t, attrs.heads, attrs.value_depth), types[0].dtype), types[3], types[4])


def first_positions(position: Array, batch: int, keys: int, tokens: int) -> I64:
    """i64[N]: where each sample's first new token goes, clamped so that all fit into the cache."""
    each = np.broadcast_to(np.asarray(position, np.int64).reshape(-1), (batch,))
    return np.clip(each, 0, keys - tokens)


def rotate(x: Any, positions: I64, frequencies: Any, rotary: Rotary, scale: float) -> Array:
    """x[N,A,T,D] with its first 2 R channels turned by position * frequency, positions i64[N,T]; the angle is a
    float32 product, as in PyTorch."""
    r = frequencies.size
    angle = positions.astype(np.float32)[:, None, :, None] * frequencies.astype(np.float32)
    sine, cosine = (f(angle).astype(x.dtype) * x.dtype.type(scale) for f in (np.sin, np.cos))
    first, second = (
        (slice(0, r), slice(r, 2 * r)) if rotary == "half" else (slice(0, 2 * r, 2), slice(1, 2 * r, 2))
    )
    y: Array = x.copy()
    y[..., first] = x[..., first] * cosine - x[..., second] * sine
    y[..., second] = x[..., second] * cosine + x[..., first] * sine
    return y


def cached_attention(attrs: CachedAttentionAttrs, inputs: Arrays) -> Arrays:
    """softmax(scale q [k cache, k]^T + causal) [v cache, v], and the caches with k and v at the position."""
    n, t, b = attrs.batch, attrs.tokens, attrs.kv_heads
    q = heads_at(inputs[0], attrs.q, (n, attrs.heads, t, attrs.depth))
    k = heads_at(inputs[1], attrs.k, (n, b, t, attrs.depth))
    v = heads_at(inputs[2], attrs.v, (n, b, t, attrs.value_depth))
    keys, values = inputs[3].copy(), inputs[4].copy()
    total = keys.shape[2]
    own = first_positions(inputs[5], n, total, t)[:, None] + np.arange(t)
    if attrs.rotary != "none":
        q, k = (rotate(x, own, inputs[6], attrs.rotary, attrs.rotary_scale) for x in (q, k))
    for sample, places in enumerate(own):
        keys[sample][:, places], values[sample][:, places] = k[sample], v[sample]
    column = np.arange(total)
    last = own if attrs.causal else np.broadcast_to(own[:, -1:], own.shape)
    shown = column <= last[..., None]
    if attrs.window:
        shown &= column > own[..., None] - attrs.window
    held = column[:, None] <= own[:, -1, None, None, None]  # what lies beyond may be no number
    safe = [np.where(held, x, x.dtype.type(0)) for x in (keys, values)]
    (y,) = attention(AttentionAttrs(attrs.scale), (q, *safe, shown[:, None]))
    return np.ascontiguousarray(y.transpose(0, 2, 1, 3)), keys, values


def cost(attrs: CachedAttentionAttrs, inputs: Types, outputs: Types) -> Cost:
    """With the cache full."""
    pairs = attrs.batch * attrs.heads * attrs.tokens * inputs[3].dims[2]
    return Cost(pairs * (attrs.depth + attrs.value_depth), 3 * pairs)


def _torch_rotate(t: Any, x: Any, at: Any, frequencies: Any) -> Any:
    angle = t.cat([at[:, None] * frequencies] * 2, -1)
    low, high = x.chunk(2, -1)
    return x * angle.cos() + t.cat([-high, low], -1) * angle.sin()


def _decode_torch(t, x, _k, _v, keys, values, position, frequencies):  # type: ignore[no-untyped-def]
    p = int(position)
    q, k, v = x.reshape(1, 1, 8, 8).transpose(1, 2).split([4, 2, 2], 1)
    at = t.tensor([float(p)])
    q, k = (_torch_rotate(t, one, at, frequencies) for one in (q, k))
    keys[:, :, p], values[:, :, p] = k[:, :, 0], v[:, :, 0]
    y = t.nn.functional.scaled_dot_product_attention(
        q, keys[:, :, : p + 1], values[:, :, : p + 1], scale=0.4, enable_gqa=True
    )
    return y.transpose(1, 2), keys, values


def _decode_inputs(rng: np.random.Generator) -> Arrays:
    x, keys, values = (
        rng.normal(size=s).astype(np.float32) for s in ((1, 1, 64), (1, 2, 9, 8), (1, 2, 9, 8))
    )
    return x, x, x, keys, values, np.array([5], np.int32), np.array([1.0, 0.1, 0.01, 0.001], np.float32)


def _chunk_torch(t, q, k, v, keys, values, position):  # type: ignore[no-untyped-def]
    p = int(position)
    keys[:, :, p : p + 3], values[:, :, p : p + 3] = k.transpose(1, 2), v.transpose(1, 2)
    shown = t.ones(3, 7, dtype=t.bool).tril(p).triu(p - 2)
    y = t.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), keys, values, shown, scale=0.4)
    return y.transpose(1, 2), keys, values


def _chunk_inputs(rng: np.random.Generator) -> Arrays:
    new = (rng.normal(size=(1, 3, 2, 8)).astype(np.float32) for _ in range(3))
    caches = (rng.normal(size=(1, 2, 7, 8)).astype(np.float32) for _ in range(2))
    return (*new, *caches, np.array(2, np.int32))


define(
    Op(
        name="cached_attention",
        doc="New tokens' heads at `q`, `k`, `v` = (offset, batch, head, token step) of the first three inputs (one "
        "packed projection, say), caches of k[N,B,S,D] and v[N,B,S,E], position i32 = tokens that the cache holds, "
        "frequencies f32[R] with `rotary` -> y[N,T,A,E] and the caches with the new k (rotated) and v at position.. "
        "A position beyond S - T counts as S - T. Kernels update the caches in place.",
        attrs=CachedAttentionAttrs,
        infer=infer,
        ref=cached_attention,
        vjp=NoGrad("decoding has no gradient"),
        quant=NoQuant("the cache is kept in float"),
        cost=cost,
        examples=(
            Example(
                "decode with rotary positions",
                CachedAttentionAttrs(
                    0.4,
                    1,
                    1,
                    4,
                    2,
                    8,
                    8,
                    q=(0, 64, 8, 64),
                    k=(32, 64, 8, 64),
                    v=(48, 64, 8, 64),
                    rotary="half",
                ),
                _decode_inputs,
                _decode_torch,
            ),
            Example(
                "three tokens, a window",
                CachedAttentionAttrs(
                    0.4, 1, 3, 2, 2, 8, 8, q=(0, 48, 8, 16), k=(0, 48, 8, 16), v=(0, 48, 8, 16), window=3
                ),
                _chunk_inputs,
                _chunk_torch,
            ),
        ),
    )
)
