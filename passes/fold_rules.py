"""How a factor on the channels of a value moves back through one op, towards constants that can hold it.

`labels` is an integer array of a value's shape: the channel whose factor each element is to be multiplied by, -1
where the element stays as it is. A rule takes the labels of an output and says what must be true of the operands.
Factors are positive, so that ReLU lets them through; where elements with different labels come from one element
(a key head that several query heads share), those channels must have one factor: they are merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Node, Type
from edgec.match import attr
from edgec.ops import OPS
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.heads import Place, heads_at
from edgec.ops.strided_attention import StridedAttentionAttrs

Labels = npt.NDArray[np.int64]
Merges = tuple[tuple[int, int], ...]
CUTS: Final = ("slice", "select")


class NoFold(Exception):
    """The factor cannot be moved back exactly; the text says why, for the report."""


@dataclass(frozen=True, slots=True)
class Need:
    """Operand `operand` of the node must be multiplied by the factors that `labels` name. `constant`: it is a
    parameter of the op (a weight, a gain), which takes them along `axis`; `labels` then runs along that axis."""

    operand: int
    labels: Labels
    constant: bool = False
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """All of `needs` together multiply the output; channels in `merges` need one factor. `also`: other outputs that
    are multiplied, too, with their labels; nothing but a state may take them. `packed`: operands may read other,
    unlabelled elements of one value, which the rule has checked."""

    needs: tuple[Need, ...]
    merges: Merges = ()
    also: tuple[tuple[int, Labels], ...] = ()
    packed: bool = False


# (node, types by reference, index of the output, its labels) -> ways to do it, the best first.
Rule = Callable[[Node, Mapping[str, Type], int, Labels], tuple[Move, ...]]


def along_last(labels: Labels, op: str) -> Labels:
    """The labels of the last axis, if they are the same at every place of the other axes."""
    row = labels.reshape(-1, labels.shape[-1])[0] if labels.size else labels.reshape(-1)
    if not np.array_equal(labels, np.broadcast_to(row, labels.shape)):
        raise NoFold(f"the channels do not lie along the last axis of {op}")
    return row


def shrink(labels: Labels, dims: tuple[int, ...], merge: bool) -> tuple[Labels, Merges]:
    """Labels of an operand of shape `dims` that was broadcast to the shape of `labels`. Raises NoFold where an
    element would need two factors, unless `merge` makes one of them."""
    merges: set[tuple[int, int]] = set()
    lead = labels.ndim - len(dims)
    for axis in range(labels.ndim):
        if axis >= lead and dims[axis - lead] == labels.shape[axis]:
            continue
        first = np.take(labels, [0], axis)
        if not np.array_equal(labels, np.broadcast_to(first, labels.shape)):
            if not merge or np.any((labels < 0) != (first < 0)):
                raise NoFold("an operand spreads over channels that need different factors")
            wide = np.broadcast_to(first, labels.shape)
            pairs = np.unique(np.stack([wide[wide != labels], labels[wide != labels]], 1), axis=0)
            merges.update((int(a), int(b)) for a, b in pairs)
        labels = first
    return labels.reshape(dims), tuple(sorted(merges))


def _homogeneous(node: Node) -> None:
    """Raise NoFold where a clamp fused into the node is not 0 or open at each end."""
    act = getattr(node.attrs, "act", None)
    if act is not None and any(limit not in (0.0, math.inf, -math.inf) for limit in act):
        raise NoFold(f"the clamp {act} of {node.op} does not scale")


def _layer(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """Rows of the weight, and the bias."""
    _homogeneous(node)
    row = along_last(labels, node.op)
    return (Move(tuple(Need(i, row, constant=True) for i in range(1, len(node.inputs)))),)


def _norm(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """Gain and bias."""
    if len(node.inputs) < 2:
        raise NoFold(f"{node.op} has no gain")
    if len(types[node.inputs[1]].dims) != 1:
        raise NoFold(f"{node.op} normalises several axes")
    row = along_last(labels, node.op)
    count = min(len(node.inputs), 3)  # batch_norm's statistics stay
    return (Move(tuple(Need(i, row, constant=True) for i in range(1, count))),)


def _sum(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """Every term."""
    _homogeneous(node)
    terms = [shrink(labels, types[ref].dims, False)[0] for ref in node.inputs]
    return (Move(tuple(Need(i, term) for i, term in enumerate(terms))),)


def _product(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """One factor: a constant where there is one."""
    _homogeneous(node)
    operands = range(1 if node.op == "div" else len(node.inputs))
    moves, why = [], ""
    for i in sorted(operands, key=lambda i: node.inputs[i][0] != "@"):
        try:
            moves.append(Move((Need(i, shrink(labels, types[node.inputs[i]].dims, False)[0]),)))
        except NoFold as refused:
            why = str(refused)
    if not moves:
        raise NoFold(why)
    return tuple(moves)


def _through(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    return (Move((Need(0, labels),)),)


def _channelwise(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """Ops that work on each channel alone, over the other axes."""
    row = along_last(labels, node.op)
    return (Move((Need(0, np.broadcast_to(row, types[node.inputs[0]].dims)),)),)


def _reduce(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    dims, axes = types[node.inputs[0]].dims, attr(node, "axes", tuple)
    kept = tuple(1 if i in axes else d for i, d in enumerate(dims))
    return (Move((Need(0, np.broadcast_to(labels.reshape(kept), dims)),)),)


def _reshape(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    return (Move((Need(0, labels.reshape(types[node.inputs[0]].dims)),)),)


def _transpose(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    return (Move((Need(0, labels.transpose(np.argsort(attr(node, "perm", tuple)))),)),)


def _expand(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    given, merges = shrink(labels, types[node.inputs[0]].dims, merge=True)
    return (Move((Need(0, given),), merges),)


def _cut(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """slice, select, split, unbind: what is cut away stays as it is. Of the last tokens the others, which nobody else
    reads then, may take the factors, too."""
    given = np.full(types[node.inputs[0]].dims, -1, np.int64)
    places = np.arange(given.size).reshape(given.shape)
    kept = OPS[node.op].ref(node.attrs, (places,))[index]
    given.reshape(-1)[kept.astype(np.int64)] = labels
    exact = Move((Need(0, given),))
    if node.op not in CUTS:
        return (exact,)
    axis = attr(node, "axis", int)
    kept_axis = np.expand_dims(labels, axis) if node.op == "select" else labels
    first = np.take(kept_axis, [0], axis)
    if not np.array_equal(kept_axis, np.broadcast_to(first, kept_axis.shape)):
        return (exact,)
    return exact, Move((Need(0, np.broadcast_to(first, given.shape)),))


def _concat(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    axis = attr(node, "axis", int)
    sizes = [types[ref].dims[axis] for ref in node.inputs]
    parts = np.split(labels, np.cumsum(sizes)[:-1], axis)
    return (Move(tuple(Need(i, part) for i, part in enumerate(parts))),)


def _pad(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    if attr(node, "value", float) != 0.0:
        raise NoFold("it pads with a number other than 0")
    ends = [
        (low, size - high) for (low, high), size in zip(attr(node, "pads", tuple), labels.shape, strict=True)
    ]
    return (Move((Need(0, labels[tuple(slice(a, b) for a, b in ends)]),)),)


def _index_copy(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """A cache and what is written into it."""
    axis = attr(node, "axis", int)
    first = np.take(labels, [0], axis)
    if not np.array_equal(labels, np.broadcast_to(first, labels.shape)):
        raise NoFold("the factor differs along the cache")
    return (Move((Need(0, labels), Need(2, np.broadcast_to(first, types[node.inputs[2]].dims)))),)


def _attention(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """The values: y[N,A,T,E] mixes v[N,B,S,E] over S; B key heads serve A = B * group query heads."""
    n, heads, _, depth = labels.shape
    first = labels[:, :, :1]
    if not np.array_equal(labels, np.broadcast_to(first, labels.shape)):
        raise NoFold("the factor differs between queries")
    dims = types[node.inputs[2]].dims
    grouped = first.reshape(n, dims[1], heads // dims[1], 1, depth)
    given, merges = shrink(grouped, (n, dims[1], 1, 1, depth), merge=True)
    values = np.broadcast_to(given.reshape(n, dims[1], 1, depth), dims)
    return (Move((Need(2, values),), merges),)


def _placed_attention(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """Attention that reads q, k and v at places of packed projections: y[N,T,A,E]."""
    attrs = node.attrs
    assert isinstance(attrs, (StridedAttentionAttrs, CachedAttentionAttrs))
    if index:
        raise NoFold("the scaled value is a cache")
    first = labels[:1, :1]
    if not np.array_equal(labels, np.broadcast_to(first, labels.shape)):
        raise NoFold("the factor differs between queries")
    own, keys, depth = attrs.kv_heads, _tokens(attrs), attrs.value_depth
    given, merges = shrink(first.reshape(own, attrs.heads // own, depth), (own, 1, depth), merge=True)
    heads = given.reshape(1, own, 1, depth)
    source = np.full(types[node.inputs[2]].dims, -1, np.int64)
    places = np.arange(source.size).reshape(source.shape)
    source.reshape(-1)[heads_at(places, attrs.v, (attrs.batch, own, keys, depth))] = heads
    read = ((0, attrs.q, (attrs.batch, attrs.heads, _queries(attrs))), (1, attrs.k, (attrs.batch, own, keys)))
    for operand, place, sizes in read:
        if node.inputs[operand] == node.inputs[2] and _reads(source, place, (*sizes, attrs.depth)):
            raise NoFold("q or k reads what v does")
    needs = [Need(2, source)]
    also: tuple[tuple[int, Labels], ...] = ()
    if isinstance(attrs, CachedAttentionAttrs):
        cache = np.broadcast_to(heads, types[node.inputs[4]].dims)
        needs.append(Need(4, cache))
        also = ((2, cache),)
    return (Move(tuple(needs), merges, also, packed=True),)


def _reads(labels: Labels, place: Place, sizes: tuple[int, int, int, int]) -> bool:
    """Whether heads at `place` hold a labelled element."""
    return bool(np.any(heads_at(labels, place, sizes).astype(np.int64) >= 0))


def _tokens(attrs: StridedAttentionAttrs | CachedAttentionAttrs) -> int:
    return attrs.keys if isinstance(attrs, StridedAttentionAttrs) else attrs.tokens


def _queries(attrs: StridedAttentionAttrs | CachedAttentionAttrs) -> int:
    return attrs.queries if isinstance(attrs, StridedAttentionAttrs) else attrs.tokens


def _matmul(node: Node, types: Mapping[str, Type], index: int, labels: Labels) -> tuple[Move, ...]:
    """The columns of the second operand."""
    first = labels[..., :1, :]
    if not np.array_equal(labels, np.broadcast_to(first, labels.shape)):
        raise NoFold("the channels do not lie along the last axis of matmul")
    dims, flipped = types[node.inputs[1]].dims, attr(node, "transpose_b", bool)
    rows, columns = (dims[-1], dims[-2]) if flipped else dims[-2:]
    given, merges = shrink(first, (*dims[:-2], 1, columns), merge=True)
    full = np.broadcast_to(given, (*dims[:-2], rows, columns))
    return (Move((Need(1, full.swapaxes(-1, -2) if flipped else full),), merges),)


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("linear", "conv1d", "conv2d"), _layer),
    **dict.fromkeys(("layer_norm", "rms_norm", "group_norm", "batch_norm"), _norm),
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys(("relu", "leaky_relu", "neg", "abs"), _through),
    **dict.fromkeys(
        ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize"), _channelwise
    ),
    **dict.fromkeys(("reduce_mean", "reduce_sum"), _reduce),
    **dict.fromkeys(("slice", "select", "split", "unbind"), _cut),
    **dict.fromkeys(("strided_attention", "cached_attention"), _placed_attention),
    "attention": _attention,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "concat": _concat,
    "pad": _pad,
    "index_copy": _index_copy,
    "matmul": _matmul,
}
