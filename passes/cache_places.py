"""Attention over a cache takes its heads where the projections left them: rope, transposes, reshapes and cuts before
cached_attention become its frequencies and places, so that nothing moves between a projection and the cache.

Runs after rotary (rope must be one op) and before layout, which would move the transposes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from edgec.ir import Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.cached_attention import CachedAttentionAttrs, Rotary
from edgec.ops.heads import Place
from edgec.ops.rope import RopeAttrs
from edgec.ops.shape import TransposeAttrs
from edgec.ops.slicing import SliceAttrs, SplitAttrs
from edgec.passes.dead import remove_dead

Sizes = tuple[int, int, int, int]  # N, A, T, D


def cache_places(program: Program) -> Program:
    """`program` with cached attention on its projections. Same object where nothing changed."""
    changed = rewrite(program, _visit)
    return program if changed is program else remove_dead(changed)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    attrs = node.attrs
    if not isinstance(attrs, CachedAttentionAttrs):
        return None
    inputs, attrs = _with_rotary(at, node, attrs)
    keys = (attrs.batch, attrs.kv_heads, attrs.tokens, attrs.depth)
    sizes = ((attrs.batch, attrs.heads, attrs.tokens, attrs.depth), keys, (*keys[:3], attrs.value_depth))
    found = [
        _source(at, r, p, s) for r, p, s in zip(inputs, (attrs.q, attrs.k, attrs.v), sizes, strict=False)
    ]
    refs = tuple(ref for ref, _ in found)
    q, k, v = (place for _, place in found)
    attrs = replace(attrs, q=q, k=k, v=v)
    inputs = (*refs, *inputs[3:])
    if inputs == node.inputs and attrs == node.attrs:
        return None
    name = node.outputs[0].name
    return at.builder.node("cached_attention", inputs, attrs, name=name, loc=node.loc)


def _with_rotary(
    at: Rewrite, node: Node, attrs: CachedAttentionAttrs
) -> tuple[tuple[str, ...], CachedAttentionAttrs]:
    """Inputs and attributes with the rotation of q and k inside, where both are rotated alike at the positions
    that the cache gives them."""
    q, k = (at.maker(r, "rope") for r in node.inputs[:2])
    if attrs.rotary != "none" or q is None or k is None or q.inputs[1:] != k.inputs[1:] or q.attrs != k.attrs:
        return node.inputs, attrs
    how = q.attrs
    assert isinstance(how, RopeAttrs)
    dense = all(_is_dense(p, at.type(r).dims) for p, r in zip((attrs.q, attrs.k), node.inputs, strict=False))
    if how.axis != 2 or not dense or not _counts_from(at, q.inputs[1], node.inputs[5], attrs.tokens):
        return node.inputs, attrs
    inputs = (q.inputs[0], k.inputs[0], *node.inputs[2:6], q.inputs[2])
    kind: Rotary = "interleaved" if how.interleaved else "half"
    return inputs, replace(attrs, rotary=kind, rotary_scale=how.scale)


def _counts_from(at: Rewrite, positions: str, first: str, tokens: int) -> bool:
    """Whether `positions` is first, first + 1, ..."""
    node = at.maker(positions)
    while node is not None and node.op == "reshape":
        positions, node = node.inputs[0], at.maker(node.inputs[0])
    if positions == first:
        return tokens == 1
    if node is None or node.op != "add" or first not in node.inputs:
        return False
    other = node.inputs[1 - node.inputs.index(first)]
    steps = at.data(other) if other[0] == "@" and at.type(other).size == tokens else None
    return steps is not None and bool(np.array_equal(steps.reshape(-1), np.arange(tokens)))


def _is_dense(place: Place, dims: tuple[int, ...]) -> bool:
    if len(dims) != 4:
        return False
    _, a, t, d = dims
    return place == (0, a * t * d, t * d, d)


def _source(at: Rewrite, ref: str, place: Place, sizes: Sizes) -> tuple[str, Place]:
    """The earliest value that holds the heads, and where."""
    while True:
        node = at.maker(ref)
        found = None if node is None else _before(at, node, ref, place, sizes)
        if found is None:
            return ref, place
        ref, place = found


def _before(at: Rewrite, node: Node, ref: str, place: Place, sizes: Sizes) -> tuple[str, Place] | None:
    x = node.inputs[0]
    if node.op == "reshape" and not at.type(x).bounds:
        return x, place
    if node.op == "transpose":
        return _transposed(at, node, place, sizes)
    if node.op == "slice":
        cut = node.attrs
        assert isinstance(cut, SliceAttrs)
        return _cut(at, x, at.type(ref).dims, place, sizes, cut.axis, cut.start) if cut.step == 1 else None
    if node.op == "split":
        cuts = node.attrs
        assert isinstance(cuts, SplitAttrs)
        index = [v.name for v in node.outputs].index(ref)
        start = sum(cuts.sizes[:index])
        return _cut(at, x, at.type(ref).dims, place, sizes, cuts.axis, start)
    return None


def _transposed(at: Rewrite, node: Node, place: Place, sizes: Sizes) -> tuple[str, Place] | None:
    """Through [N,T,A,D] -> [N,A,T,D]."""
    assert isinstance(node.attrs, TransposeAttrs)
    x = node.inputs[0]
    if node.outputs[0].type.dims != sizes or not _is_dense(place, sizes) or node.attrs.perm[3] != 3:
        return None
    dims = at.type(x).dims
    steps = [prod(dims[i + 1 :]) for i in range(4)]
    n, a, t, _ = (steps[p] for p in node.attrs.perm)
    return x, (0, n, a, t)


def _cut(
    at: Rewrite, x: str, dims: tuple[int, ...], place: Place, sizes: Sizes, axis: int, start: int
) -> tuple[str, Place] | None:
    """Through a cut of the last axis of [N,T,C], each token's channels being within one row."""
    offset, batch, head, token = place
    n, a, t, d = sizes
    own, whole = dims[-1], at.type(x).dims[-1]
    rows = dims[:-1] in ((n, t), (n * t,)) and axis == len(dims) - 1
    within = offset + (a - 1) * head + d <= own
    if not rows or not within or (t > 1 and token != own) or (n > 1 and batch != t * own):
        return None
    return x, (start + offset, t * whole, head, whole)
