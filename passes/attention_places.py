"""Attention takes its heads where a projection left them and writes them token by token: transposes, reshapes and cuts
around it become places (edgec/ops/heads.py). For backends whose kernels read at places; runs after recognise_attention.

q, k and v may then be one packed value. The result [N,T,A,E] is followed by the transpose that attention's own result
needs; simplify cancels it against the one that puts the heads beside each other.
"""

from __future__ import annotations

from edgec.ir import Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.attention import AttentionAttrs
from edgec.ops.heads import Place
from edgec.ops.shape import TransposeAttrs
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.origins import origins, place_of
from edgec.passes.simplify import simplify


def attention_places(program: Program) -> Program:
    """`program` with attention at places. Same object where nothing changed."""
    changed = rewrite(program, _visit)
    return program if changed is program else simplify(remove_dead(changed))


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    attrs = node.attrs
    if not isinstance(attrs, AttentionAttrs) or any(
        at.type(r).quant or at.type(r).bounds for r in node.inputs
    ):
        return None
    found = [_source(at, ref) for ref in node.inputs[:3]]
    if any(f is None for f in found):
        return None
    (x, q), (y, k), (z, v) = (f for f in found if f is not None)
    if (x, y, z) == node.inputs[:3]:
        return None
    (n, a, t, d), (_, b, s, e) = at.type(node.inputs[0]).dims, at.type(node.inputs[2]).dims
    places = StridedAttentionAttrs(
        attrs.scale,
        batch=n,
        queries=t,
        keys=s,
        heads=a,
        kv_heads=b,
        depth=d,
        value_depth=e,
        q=q,
        k=k,
        v=v,
        causal=attrs.causal,
    )
    name = node.outputs[0].name
    tokens = at.builder.call(
        "strided_attention", x, y, z, *node.inputs[3:], attrs=places, name=name + ".tokens"
    )
    return (at.builder.call("transpose", tokens, attrs=TransposeAttrs((0, 2, 1, 3)), name=name),)


def _source(at: Rewrite, ref: str) -> tuple[str, Place] | None:
    """The earliest value that holds these heads, and where."""
    for origin in origins(at, ref):
        place = place_of(origin.index) if origin.ref[0] != "@" or origin.ref == ref else None
        if place is not None:
            return origin.ref, place
    return None
