"""ReLU linear attention that a model spells out (EfficientViT) becomes one op.

    y = (relu(q) (relu(k)^T [v, 1])) [..., :D] / (... [..., D:] + eps), or the same with tokens last,

however its parts are cut, padded and transposed: what each operand holds is found by numbering the elements. Agrees to
rounding. For backends that have the op; runs after layout.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.ir import Node, Program
from edgec.match import Rewrite, attr, rewrite
from edgec.ops.heads import Place
from edgec.ops.linear_attention import LinearAttentionAttrs
from edgec.ops.shape import TransposeAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.origins import BACK, MOVEMENTS, Index, back_in_place, origins, place_of
from edgec.passes.simplify import simplify

Source = tuple[str, Place]
KERNEL: Final = MOVEMENTS | {"relu"}
PADDED: Final = MOVEMENTS | {"pad"}
SWAP: Final = (0, 1, 3, 2)


def recognise_linear_attention(program: Program) -> Program:
    """`program` with linear attention as one op. Same object where there is none."""
    changed = rewrite(program, _visit)
    return program if changed is program else simplify(remove_dead(changed))


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op in BACK:
        ref = back_in_place(at, node, lambda ref: at.maker(ref, "linear_attention") is not None)
        return None if ref is None else (ref,)
    if (
        node.op != "div"
        or getattr(node.attrs, "act", None) is not None
        or len(node.outputs[0].type.dims) != 4
    ):
        return None
    whole, eps, axis = _ratio(at, node)
    product = at.maker(whole, "matmul") if whole else None
    if product is None:
        return None
    tokens_last = axis == 2
    query, state = product.inputs[::-1] if tokens_last else product.inputs
    q = _oriented(at, query, tokens_last, attr(product, "transpose_b", bool) and tokens_last)
    inner = at.maker(state, "matmul")
    if q is None or inner is None or (attr(product, "transpose_b", bool) and not tokens_last):
        return None
    key, value = inner.inputs[::-1] if tokens_last else inner.inputs
    second = attr(inner, "transpose_b", bool)
    # relu(k) as [N,A,T,D]: on the left it stands as [D,T], on the right as [T,D].
    k = _oriented(at, key, not tokens_last, tokens_last and second)
    v = _padded(at, value, tokens_last, second and not tokens_last)
    if k is None or v is None:
        return None
    n, a, t, d = (node.outputs[0].type.dims[i] for i in ((0, 1, 3, 2) if tokens_last else (0, 1, 2, 3)))
    sources = [_source(at, *part) for part in (q, k, v)]
    if any(s is None or part[1].shape != (n, a, t, d) for s, part in zip(sources, (q, k, v), strict=True)):
        return None
    (x, qp), (y, kp), (z, vp) = (s for s in sources if s is not None)
    attrs = LinearAttentionAttrs(eps, n, t, a, d, qp, kp, vp)
    name = node.outputs[0].name
    made = at.builder.call("linear_attention", x, y, z, attrs=attrs, name=name + ".tokens")
    back = (0, 2, 3, 1) if tokens_last else (0, 2, 1, 3)
    return (at.builder.call("transpose", made, attrs=TransposeAttrs(back), name=name),)


def _ratio(at: Rewrite, node: Node) -> tuple[str, float, int]:
    """(y, eps, axis) of y[..., :D] / (y[..., D:] + eps) along `axis` 2 or 3; "" where it is none."""
    total = at.maker(node.inputs[1], "add")
    top, found = at.maker(node.inputs[0], "slice"), ("", 0.0, 0)
    if total is None or top is None or getattr(total.attrs, "act", None) is not None:
        return found
    for ref, other in (total.inputs, total.inputs[::-1]):
        data, below = at.data(other), at.maker(ref, "slice")
        if data is None or data.size != 1 or below is None or below.inputs != top.inputs:
            continue
        axis, size = attr(top, "axis", int), at.type(top.inputs[0]).dims
        ends = (
            attr(top, "start", int),
            attr(top, "stop", int),
            attr(below, "start", int),
            attr(below, "stop", int),
        )
        d = size[axis] - 1
        eps = float(data.reshape(-1)[0])
        if axis in (2, 3) and attr(below, "axis", int) == axis and ends == (0, d, d, d + 1) and eps >= 0:
            return top.inputs[0], eps, axis
    return found


def _oriented(at: Rewrite, ref: str, swapped: bool, again: bool) -> tuple[str, Index] | None:
    """(source, index [N,A,T,D]) of relu(x) that stands in `ref`, with its last axes exchanged where `swapped` is
    not `again`."""
    for origin in origins(at, ref, KERNEL):
        if (
            sum(n.op == "relu" for n in origin.passed) >= 1
            and origin.ref[0] != "@"
            and origin.index.ndim == 4
        ):
            index = origin.index.transpose(SWAP) if swapped != again else origin.index
            return origin.ref, index
    return None


def _padded(at: Rewrite, ref: str, swapped: bool, again: bool) -> tuple[str, Index] | None:
    """(source, index [N,A,T,D]) of v in [v, 1]."""
    for origin in origins(at, ref, PADDED):
        pads = [n for n in origin.passed if n.op == "pad"]
        if len(pads) != 1 or attr(pads[0], "value", float) != 1.0 or origin.index.ndim != 4:
            continue
        index = origin.index.transpose(SWAP) if swapped != again else origin.index
        if (index[..., -1] == -1).all() and (index[..., :-1] >= 0).all():
            return origin.ref, np.ascontiguousarray(index[..., :-1])
    return None


def _source(at: Rewrite, ref: str, index: Index) -> Source | None:
    place = place_of(index)
    return None if place is None else (ref, place)
