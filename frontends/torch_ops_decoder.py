"""Importers of edgec's own PyTorch operators, which stand in an exported decoder (torch_decoder.py)."""

from __future__ import annotations

from typing import Final

from edgec.frontends.torch_call import Call, Importer, Result
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.heads import dense_place


def cached_attention(c: Call) -> Result:
    """q[N,A,T,D], k[N,B,T,D], v[N,B,T,E] that have their rotary positions already, and the caches."""
    q, k, v, keys, values, position = (c.ref(name) for name in ("q", "k", "v", "keys", "values", "position"))
    (n, a, t, d), (_, b, _, e) = c.dims(q), c.dims(v)
    attrs = CachedAttentionAttrs(
        scale=float(c["scale"]),
        batch=n,
        tokens=t,
        heads=a,
        kv_heads=b,
        depth=d,
        value_depth=e,
        q=dense_place(c.dims(q)),
        k=dense_place(c.dims(k)),
        v=dense_place(c.dims(v)),
        window=int(c["window"]),
    )
    return c.b.node("cached_attention", (q, k, v, keys, values, position), attrs)


TABLE: Final[dict[str, Importer]] = {"edgec.cached_attention.default": cached_attention}
