"""Attention that reads its heads where a projection left them, and writes them token by token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.ir import Attrs, DType, Type
from edgec.ops.attention import AttentionAttrs, attention
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.heads import Place, check_place, heads_at
from edgec.ops.movement import normal


@dataclass(frozen=True, slots=True)
class StridedAttentionAttrs(Attrs):
    """`scale` (> 0) multiplies the scores. `causal`: query i attends keys 0..i only. `window` (> 0): query i
    attends no key before i - window + 1. `q`, `k`, `v`: places as in edgec/ops/heads.py."""

    scale: float
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    depth: int
    value_depth: int
    q: Place
    k: Place
    v: Place
    causal: bool = False
    window: int = 0


def infer(attrs: StridedAttentionAttrs, types: Types) -> Types:
    """Values that hold q[N,A,T,D], k[N,B,S,D], v[N,B,S,E], a mask that broadcasts to [N,A,T,S] -> y[N,T,A,E]."""
    require(len(types) in (3, 4), "takes q, k, v and an optional mask")
    n, t, s = attrs.batch, attrs.queries, attrs.keys
    require(attrs.scale > 0 and math.isfinite(attrs.scale), f"the scale {attrs.scale} is not positive")
    require(attrs.window >= 0, f"the window {attrs.window} is negative")
    check_place(attrs.q, types[0], (n, attrs.heads, t, attrs.depth))
    check_place(attrs.k, types[1], (n, attrs.kv_heads, s, attrs.depth))
    check_place(attrs.v, types[2], (n, attrs.kv_heads, s, attrs.value_depth))
    require(attrs.heads % attrs.kv_heads == 0, f"{attrs.heads} heads do not divide over {attrs.kv_heads}")
    require(all(x.dtype is types[0].dtype for x in types[1:3]), "q, k and v have one type")
    if len(types) == 4:
        full, mask = (n, attrs.heads, t, s), types[3].dims
        fits = len(mask) <= 4 and all(x in (1, f) for x, f in zip(mask[::-1], full[::-1], strict=False))
        require(fits, f"a mask of shape {mask} does not broadcast to {full}")
        require(types[3].dtype is DType.B8 or types[3].dtype.is_float, "the mask is b8 or float")
    return (Type((n, t, attrs.heads, attrs.value_depth), types[0].dtype),)


def window_mask(queries: int, keys: int, window: int) -> np.typing.NDArray[np.bool_]:
    """[T,S] booleans: True where key j of query i is not before i - window + 1."""
    return np.triu(np.ones((queries, keys), np.bool_), 1 - window)


def strided_attention(attrs: StridedAttentionAttrs, inputs: Arrays) -> Arrays:
    """softmax(scale q k^T + mask) v; a query that may attend no key yields 0."""
    n, t, s = attrs.batch, attrs.queries, attrs.keys
    q = heads_at(inputs[0], attrs.q, (n, attrs.heads, t, attrs.depth))
    k = heads_at(inputs[1], attrs.k, (n, attrs.kv_heads, s, attrs.depth))
    v = heads_at(inputs[2], attrs.v, (n, attrs.kv_heads, s, attrs.value_depth))
    masks = list(inputs[3:])
    if attrs.window:
        shown = window_mask(t, s, attrs.window)
        if masks and masks[0].dtype == np.bool_:
            masks = [np.logical_and(masks[0], shown)]
        elif masks:
            masks = [np.where(shown, masks[0], -np.inf).astype(masks[0].dtype)]
        else:
            masks = [shown]
    (y,) = attention(AttentionAttrs(attrs.scale, attrs.causal), (q, k, v, *masks))
    return (np.ascontiguousarray(y.transpose(0, 2, 1, 3)),)


def cost(attrs: StridedAttentionAttrs, inputs: Types, outputs: Types) -> Cost:
    pairs = attrs.batch * attrs.heads * attrs.queries * attrs.keys
    return Cost(pairs * (attrs.depth + attrs.value_depth), 3 * pairs)


def _packed_torch(t: Any, x: Any) -> Any:
    q, k, v = x.reshape(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
    y = t.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3)
    return y.transpose(1, 2)


def _grouped_torch(t: Any, q: Any, kv: Any) -> Any:
    q = q.reshape(1, 6, 4, 8).transpose(1, 2)
    k, v = kv.reshape(1, 6, 2, 2, 8).permute(3, 0, 2, 1, 4)
    shown = t.ones(6, 6, dtype=t.bool).tril().triu(-2)
    y = t.nn.functional.scaled_dot_product_attention(q, k, v, shown, scale=0.3, enable_gqa=True)
    return y.transpose(1, 2)


_PACKED = StridedAttentionAttrs(
    0.3, 2, 5, 5, 2, 2, 8, 8, q=(0, 240, 8, 48), k=(16, 240, 8, 48), v=(32, 240, 8, 48)
)
_GROUPED = StridedAttentionAttrs(
    0.3,
    1,
    6,
    6,
    4,
    2,
    8,
    8,
    q=(0, 192, 8, 32),
    k=(0, 192, 16, 32),
    v=(8, 192, 16, 32),
    causal=True,
    window=3,
)

define(
    Op(
        name="strided_attention",
        doc="attention whose heads stand at `q`, `k`, `v` = (offset, batch, head, token step) of its inputs, which "
        "may be one packed projection; y[N,T,A,E]. `window`: query i attends keys after i - window only. Made "
        "from attention by passes/attention_places.py.",
        attrs=StridedAttentionAttrs,
        infer=infer,
        ref=strided_attention,
        vjp=NoGrad("attention takes this form when it is lowered, after its gradient has been made"),
        quant=NoQuant("int8 attention takes separate q, k and v"),
        cost=cost,
        examples=(
            Example(
                "packed",
                _PACKED,
                lambda rng: (x := rng.normal(size=(2, 5, 48)).astype(np.float32), x, x),
                lambda t, x, _k, _v: _packed_torch(t, x),
            ),
            Example(
                "grouped queries, causal window",
                _GROUPED,
                lambda rng: (*(a := normal((1, 6, 32), (1, 6, 32))(rng)), a[1]),
                lambda t, q, kv, _v: _grouped_torch(t, q, kv),
            ),
        ),
    )
)
