"""ReLU linear attention (EfficientViT): linear in the number of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.ir import Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.heads import Place, check_place, heads_at


@dataclass(frozen=True, slots=True)
class LinearAttentionAttrs(Attrs):
    """`eps` is added to the normaliser. `q`, `k`, `v`: places as in edgec/ops/heads.py."""

    eps: float
    batch: int
    tokens: int
    heads: int
    depth: int
    q: Place
    k: Place
    v: Place


def infer(attrs: LinearAttentionAttrs, types: Types) -> Types:
    """Values that hold q, k and v [N,A,T,D] -> y[N,T,A,D]."""
    require(len(types) == 3, "takes q, k and v")
    sizes = (attrs.batch, attrs.heads, attrs.tokens, attrs.depth)
    for t, place in zip(types, (attrs.q, attrs.k, attrs.v), strict=True):
        check_place(place, t, sizes)
        require(t.dtype is types[0].dtype, "q, k and v have one type")
    require(attrs.eps >= 0, f"eps {attrs.eps} is negative")
    return (Type((attrs.batch, attrs.tokens, attrs.heads, attrs.depth), types[0].dtype),)


def linear_attention(attrs: LinearAttentionAttrs, inputs: Arrays) -> Arrays:
    """y = relu(q) (relu(k)^T v) / (relu(q) (relu(k)^T 1) + eps)."""
    sizes = (attrs.batch, attrs.heads, attrs.tokens, attrs.depth)
    q, k, v = (heads_at(x, p, sizes) for x, p in zip(inputs, (attrs.q, attrs.k, attrs.v), strict=True))
    q, k = np.maximum(q, 0), np.maximum(k, 0)
    state = np.matmul(k.swapaxes(2, 3), v)
    total = np.matmul(q, k.sum(2)[..., None]) + q.dtype.type(attrs.eps)
    return (np.ascontiguousarray((np.matmul(q, state) / total).transpose(0, 2, 1, 3)),)


def cost(attrs: LinearAttentionAttrs, inputs: Types, outputs: Types) -> Cost:
    tokens = attrs.batch * attrs.heads * attrs.tokens
    return Cost(2 * tokens * attrs.depth * (attrs.depth + 1), 4 * tokens * attrs.depth)


def _torch(t: Any, x: Any, heads: int, depth: int) -> Any:
    """EfficientViT's own way, from [N,H,W,A 3 D]."""
    n, h, w, _ = x.shape
    x = x.permute(0, 3, 1, 2).reshape(n, heads, 3 * depth, h * w)
    q, k, v = x.split(depth, 2)
    q, k, v = q.relu(), k.relu(), t.nn.functional.pad(v, (0, 0, 0, 1), value=1.0)
    y = (v @ k.transpose(-1, -2)) @ q
    y = y[:, :, :-1] / (y[:, :, -1:] + 1e-5)
    return y.permute(0, 3, 1, 2)


def _example(label: str, n: int, h: int, w: int, heads: int, depth: int) -> Example:
    channels = 3 * heads * depth
    steps = (h * w * channels, 3 * depth, channels)
    attrs = LinearAttentionAttrs(
        1e-5, n, h * w, heads, depth, (0, *steps), (depth, *steps), (2 * depth, *steps)
    )

    def make(rng: np.random.Generator) -> Arrays:
        x = rng.normal(size=(n, h, w, channels)).astype(np.float32)
        return x, x, x

    # The normaliser of a token may be as small as eps; errors are relative to it.
    return Example(label, attrs, make, lambda t, x, _k, _v: _torch(t, x, heads, depth), 1e-4)


define(
    Op(
        name="linear_attention",
        doc="y[N,T,A,D] = relu(q) (relu(k)^T v) / (relu(q) (relu(k)^T 1) + eps) for heads at `q`, `k`, `v` = (offset, "
        "batch, head, token step) of the inputs, which may be one packed projection.",
        attrs=LinearAttentionAttrs,
        infer=infer,
        ref=linear_attention,
        vjp=NoGrad("linear attention takes this form when it is lowered, after its gradient has been made"),
        quant=NoQuant("its sums have no range that int8 could hold"),
        cost=cost,
        examples=(_example("one map", 1, 4, 5, 2, 8), _example("a batch", 2, 3, 3, 3, 4)),
    )
)
