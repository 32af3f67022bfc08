"""Attention that a model spells out becomes one op: matmul, scale, masks, softmax, matmul.

Scales of q, of k and of the scores are multiplied; constant addends are added up, one addend known only at run time
may stand beside them; scores filled with minus infinity become a boolean mask. A query that may attend no key then
yields 0 where the softmax made it NaN; all else agrees to rounding. Keys and values that are spread over the query
heads (as in `repeat_kv`) are taken before they are spread. Runs after layout and simplify, which leave one form of each
transpose, and before fuse and calibration, which would look at the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgec.ir import Array, Node, Program
from edgec.match import Rewrite, attr, rewrite
from edgec.ops.attention import AttentionAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.masks import boolean_attention
from edgec.passes.origins import origins
from edgec.passes.simplify import simplify

MAX_MASK: Final = 1 << 24  # elements of a mask that is made here
LOW: Final = -1e4  # a score this low has no weight beside another
SWAP: Final = (0, 1, 3, 2)


def recognise_attention(program: Program) -> Program:
    """`program` with attention as one op. Same object where there is none to recognise."""
    found = rewrite(program, _visit)
    if found is program:
        return program
    return simplify(remove_dead(rewrite(found, _plain_mask)))


def _plain_mask(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    ref = boolean_attention(at, node) if node.op == "attention" else None
    return None if ref is None else (ref,)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op == "matmul":
        ref = _spelt_out(at, node)
    elif node.op == "attention":
        ref = _ungrouped(at, node)
    else:
        return None
    return None if ref is None else (ref,)


@dataclass(frozen=True, slots=True)
class _Scores:
    """What stands between the product of q and k and the softmax. `added`: constant addends that broadcast to the
    scores; `computed`: an addend known at run time; `hidden`: where the scores are `fill`, minus infinity or so low
    that it amounts to that."""

    product: Node
    scale: float
    added: tuple[Array, ...] = ()
    computed: str = ""
    hidden: str = ""
    fill: float = -math.inf


def _spelt_out(at: Rewrite, node: Node) -> str | None:
    """The attention that ends with this product."""
    probabilities, v = node.inputs
    soft = at.sole(probabilities, "softmax")
    t = at.type(probabilities)
    rank = len(t.shape)
    if soft is None or rank not in (3, 4) or t.bounds or attr(soft, "axis", int) != rank - 1:
        return None
    scores = _scores(at, soft.inputs[0], 1.0, t.dims)
    if scores is None or any(len(at.type(r).shape) != rank for r in (*scores.product.inputs, v)):
        return None
    if scores.product.outputs[0].type.dims != t.dims:
        return None  # reshapes between them came to another shape
    q, q_scale = _unscaled(at, scores.product.inputs[0])
    k, k_scale = _unscaled(at, scores.product.inputs[1])
    scale = scores.scale * q_scale * k_scale
    q, k, v = (_four_axes(at, r) for r in (q, k, v))
    k = k if attr(scores.product, "transpose_b", bool) else _swapped(at, k)
    v = _swapped(at, v) if attr(node, "transpose_b", bool) else v
    mask = _mask(at, scores, rank)
    if not (scale > 0 and math.isfinite(scale)) or not _fits(at, q, k, v) or mask is None:
        return None
    name = node.outputs[0].name
    attrs = AttentionAttrs(scale)
    if rank == 4:
        return at.builder.call("attention", q, k, v, *mask, attrs=attrs, name=name)
    y = at.builder.call("attention", q, k, v, *mask, attrs=attrs, name=name + ".heads")
    return at.builder.call("reshape", y, attrs=ReshapeAttrs(node.outputs[0].type.dims), name=name)


def _fits(at: Rewrite, q: str, k: str, v: str) -> bool:
    """Whether attention takes these: the products may have broadcast in ways that it does not."""
    (n, a, _, _), keys, values = (at.type(r).dims for r in (q, k, v))
    return keys[0] == n and keys[1] in (1, a) and keys[:3] == values[:3]


def _scores(at: Rewrite, ref: str, scale: float, shape: tuple[int, ...]) -> _Scores | None:
    """The nodes before a softmax, up to the product; `scale`: what `ref` is multiplied with after it."""
    node = at.sole(ref)
    if node is None or getattr(node.attrs, "act", None) is not None:
        return None
    if node.op == "matmul":
        return _Scores(node, scale)
    if node.op == "reshape":
        return _scores(at, node.inputs[0], scale, shape)
    if node.op == "masked_fill":
        inner = _scores(at, node.inputs[0], scale, shape)
        hidden = _hidden(at, node, scale, shape)
        if inner is None or not hidden or inner.hidden:
            return None
        return replace(inner, hidden=hidden, fill=attr(node, "value", float) * scale)
    for x, other in (node.inputs, node.inputs[::-1]) if node.op in ("add", "mul") else ():
        if at.type(x).dims != node.outputs[0].type.dims or x[0] == "@":
            continue
        factor = _number(at, other)
        if node.op == "mul":
            inner = None if factor is None else _scores(at, x, scale * factor, shape)
        else:
            inner = _scores(at, x, scale, shape)
            inner = None if inner is None else _with_addend(at, inner, other, node, scale, shape)
        if inner is not None:
            return inner
    return None


def _number(at: Rewrite, ref: str) -> float | None:
    data = at.data(ref)
    return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else None


def _like_scores(data: Array, here: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """`data`, which broadcasts to `here`, as what broadcasts to `shape`, of which `here` is a reshape."""
    if here == shape:
        return data
    if math.prod(shape) > MAX_MASK:
        return None
    return np.broadcast_to(data, here).reshape(shape)


def _with_addend(
    at: Rewrite, found: _Scores, ref: str, node: Node, scale: float, shape: tuple[int, ...]
) -> _Scores | None:
    data, here = at.data(ref), node.outputs[0].type.dims
    if data is not None:
        term = _like_scores(data, here, shape)
        return (
            None
            if term is None
            else replace(found, added=(*found.added, np.multiply(term, term.dtype.type(scale))))
        )
    plain = here == shape and scale == 1.0 and not found.computed and not at.type(ref).bounds
    return replace(found, computed=ref) if plain else None


def _hidden(at: Rewrite, node: Node, scale: float, shape: tuple[int, ...]) -> str:
    """The boolean of a fill with minus infinity, or with a number so low, times `scale`, that it amounts to that; ""
    for others."""
    if scale <= 0:
        return ""
    ref, here = node.inputs[1], node.outputs[0].type.dims
    value = attr(node, "value", float) * scale
    data = at.data(ref)
    if data is None:
        return ref if value == -math.inf and here == shape and len(at.type(ref).shape) <= len(shape) else ""
    hidden = _like_scores(data, here, shape)
    if hidden is None or (value > LOW and value != -math.inf):
        return ""
    some = not np.broadcast_to(hidden, shape[-2:] if hidden.ndim < 2 else hidden.shape).all(-1).any()
    return at.builder.constant(hidden, ref[1:]) if some or value == -math.inf else ""


def _unscaled(at: Rewrite, ref: str) -> tuple[str, float]:
    """(x, factor) with ref = factor x: a multiplication by a number before the movements that lead to `ref`."""
    node = at.sole(ref)
    if node is None:
        return ref, 1.0
    if node.op == "mul" and getattr(node.attrs, "act", None) is None:
        for x, other in (node.inputs, node.inputs[::-1]):
            factor = _number(at, other)
            if factor is not None and at.type(x) == node.outputs[0].type:
                return x, factor
    if node.op in ("transpose", "reshape"):
        inner, factor = _unscaled(at, node.inputs[0])
        if inner != node.inputs[0]:
            return at.builder.call(node.op, inner, attrs=node.attrs, name=ref), factor
    return ref, 1.0


def _four_axes(at: Rewrite, ref: str) -> str:
    """[B,T,D] as [B,1,T,D]."""
    dims = at.type(ref).dims
    if len(dims) == 4:
        return ref
    shape = (dims[0], 1, *dims[1:])
    data = at.data(ref)
    if data is not None:
        return at.builder.constant(data.reshape(shape), ref[1:])
    return at.builder.call("reshape", ref, attrs=ReshapeAttrs(shape), name=ref + ".heads")


def _swapped(at: Rewrite, ref: str) -> str:
    data = at.data(ref)
    if data is not None:
        return at.builder.constant(np.ascontiguousarray(data.transpose(SWAP)), ref[1:])
    return at.builder.call("transpose", ref, attrs=TransposeAttrs(SWAP), name=ref + ".rows")


def _mask(at: Rewrite, scores: _Scores, rank: int) -> tuple[str, ...] | None:
    """The mask of the attention, of at most four axes; () where there is none, None where one op cannot say it."""
    parts = [_expanded(x, rank) for x in scores.added]
    total = sum(parts[1:], parts[0]) if parts else None
    hidden = at.data(scores.hidden) if scores.hidden else None
    if hidden is not None:
        shown = _expanded(~np.asarray(hidden, np.bool_), rank)
        if total is None and not scores.computed:
            return (at.builder.constant(shown, "shown"),)
        if scores.fill != -math.inf and (scores.computed or not _outweighed(hidden, total, scores.fill)):
            return None
        zero = np.zeros((), np.float32) if total is None else total
        total = np.where(shown, zero, np.float32(-np.inf)).astype(np.float32)
    elif scores.hidden:
        if total is not None or scores.computed:
            return None
        shown_ref = at.builder.call("logical_not", scores.hidden, name="shown")
        return (_axes(at, shown_ref, rank),)
    if not scores.computed:
        return () if total is None else (at.builder.constant(total, "mask"),)
    computed = _axes(at, scores.computed, rank)
    if total is None:
        return (computed,)
    return (
        at.builder.call(
            "add", computed, at.builder.constant(total, "mask"), attrs=BinaryAttrs(), name="mask"
        ),
    )


def _outweighed(hidden: Array, total: Array | None, fill: float) -> bool:
    """Whether in each row a key that is shown outweighs those that are filled, where `total` is added to all."""
    if total is None:
        return True
    if math.prod(np.broadcast_shapes(hidden.shape, total.shape)) > MAX_MASK:
        return False
    hidden, total = np.broadcast_arrays(hidden.astype(np.bool_), total.astype(np.float64))
    shown = np.where(hidden, -np.inf, total).max(-1)
    filled = np.where(hidden, fill + np.maximum(total, 0.0), -np.inf).max(-1)
    return bool(np.all((filled == -np.inf) | (filled <= shown + LOW)))


def _expanded(data: Array, rank: int) -> Array:
    """An addend of scores [B,T,S] as one of [B,1,T,S]."""
    return data[:, None] if rank == 3 and data.ndim == 3 else data


def _axes(at: Rewrite, ref: str, rank: int) -> str:
    dims = at.type(ref).dims
    if rank != 3 or len(dims) != 3:
        return ref
    return at.builder.call("reshape", ref, attrs=ReshapeAttrs((dims[0], 1, *dims[1:])), name="mask")


def _ungrouped(at: Rewrite, node: Node) -> str | None:
    """Attention on keys and values as they were before each was repeated for the query heads of its group."""
    k, v = (_before_spread(at, r) for r in node.inputs[1:3])
    if k is None or v is None or at.type(k).dims[1] != at.type(v).dims[1]:
        return None
    return at.remake(node, inputs=(node.inputs[0], k, v, *node.inputs[3:]))


def _before_spread(at: Rewrite, ref: str) -> str | None:
    """x[N,B,S,D] where ref[N,A,S,D] has each of its heads A / B times in a row."""
    for origin in origins(at, ref):
        if not any(n.op == "expand" for n in origin.passed):
            continue
        n, a, s, d = at.type(ref).dims
        dims = at.type(origin.ref).dims
        own = origin.index.size and at.type(origin.ref).size // (n * s * d)
        if own < 1 or own >= a or a % own or at.type(origin.ref).size != n * own * s * d:
            continue
        dense = np.arange(n * own * s * d, dtype=np.int32)
        for perm, whole in ((None, (n, own, s, d)), ((0, 2, 1, 3), (n, s, own, d))):
            x = dense.reshape(whole)
            x = x if perm is None else x.transpose(perm)
            if np.array_equal(origin.index, np.repeat(x, a // own, 1)):
                made = origin.ref
                if dims != whole:
                    made = at.builder.call("reshape", made, attrs=ReshapeAttrs(whole), name=ref + ".own")
                if perm is not None:
                    made = at.builder.call("transpose", made, attrs=TransposeAttrs(perm), name=ref + ".own")
                return made
    return None
