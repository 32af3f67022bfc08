"""How each op works on views: the same op in another order of axes.

A rule gets the graph as far as it is rebuilt and an old node; it emits the op on the views' own values and
returns the views of its outputs, or None where the op needs its inputs in the old order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgec.ir import Node
from edgec.match import attr
from edgec.ops.gather import IndexSelectAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.linear import MatmulAttrs
from edgec.ops.norm import LayerNormAttrs
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs
from edgec.ops.shape import ExpandAttrs, ReshapeAttrs, RollAttrs, TransposeAttrs
from edgec.ops.slicing import SelectAttrs, UnbindAttrs

if TYPE_CHECKING:
    from edgec.passes.layout import Sinking

Perm = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """old value = transpose(ref, perm): axis i of the old value is axis perm[i] of `ref`."""

    ref: str
    perm: Perm


@dataclass(frozen=True, slots=True)
class Flat:
    """old value [N,K] = transpose(reshape(ref, dims), perm) flattened behind its first axis; `ref` is [N,K]
    too."""

    ref: str
    dims: tuple[int, ...]
    perm: Perm


Views = tuple[View | Flat, ...]
Rule = Callable[["Sinking", Node], Views | None]


def identity(rank: int) -> Perm:
    """The order that moves nothing."""
    return tuple(range(rank))


def inverse(perm: Perm) -> Perm:
    """The order that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def _view(at: Sinking, ref: str) -> View | None:
    """The view of `ref` if it moves anything and is not Flat."""
    view = at.view(ref)
    return view if isinstance(view, View) and view.perm != identity(len(view.perm)) else None


def _transpose(at: Sinking, node: Node) -> Views | None:
    assert isinstance(node.attrs, TransposeAttrs)
    view = at.view(node.inputs[0])
    return None if isinstance(view, Flat) else (_moved(view, node.attrs.perm),)


def _moved(view: View, perm: Perm) -> View:
    """transpose(view, perm)."""
    return View(view.ref, tuple(view.perm[p] for p in perm))


def _unary(at: Sinking, node: Node) -> Views | None:
    view = at.view(node.inputs[0])
    (ref,) = at.emit(node, (view.ref,))
    return (replace(view, ref=ref),)


def _broadcast(at: Sinking, node: Node) -> Views | None:
    """Elementwise ops of several inputs, in the order that needs the fewest bytes moved."""
    rank = len(node.outputs[0].type.shape)
    flat = _flat_operand(at, node)
    if flat is not None:
        (ref,) = at.emit(node, [flat.ref if isinstance(at.view(r), Flat) else r for r in node.inputs])
        return (replace(flat, ref=ref),)
    perm = _common_order(at, node.inputs, rank)
    if perm is None:
        return None
    (ref,) = at.emit(node, [_in_order(at, r, perm) for r in node.inputs])
    return (View(ref, perm),)


def _flat_operand(at: Sinking, node: Node) -> Flat | None:
    """The one Flat operand, where all others are single numbers."""
    views = [at.view(r) for r in node.inputs]
    flats = [v for v in views if isinstance(v, Flat)]
    others = [at.types[r].size for r, v in zip(node.inputs, views, strict=True) if not isinstance(v, Flat)]
    return flats[0] if len(flats) == 1 and all(size == 1 for size in others) else None


def _common_order(at: Sinking, refs: Sequence[str], rank: int) -> Perm | None:
    """The order of one of the inputs in which the others cost least to bring; None for the old order."""
    views = {r: at.view(r) for r in refs if r[0] != "@" and len(at.types[r].shape) == rank}
    orders = {v.perm for v in views.values() if isinstance(v, View)}
    if not orders - {identity(rank)}:
        return None

    def cost(perm: Perm) -> tuple[int, bool, Perm]:
        moved = sum(at.types[r].size for r, v in views.items() if not isinstance(v, View) or v.perm != perm)
        return moved, perm == identity(rank), perm

    best = min(orders, key=cost)
    return None if best == identity(rank) else best


def _in_order(at: Sinking, ref: str, perm: Perm) -> str:
    """A new value that equals `ref` (which broadcasts to len(perm) axes) with old axis i at perm[i]."""
    view, t = at.view(ref), at.types[ref]
    if isinstance(view, View) and view.perm == perm:
        return view.ref
    real = at.real(ref)
    if t.size == 1 and len(t.shape) < len(perm):
        return real
    whole = (1,) * (len(perm) - len(t.shape)) + t.dims
    return at.transpose(at.reshape(real, whole, ref + ".wide"), inverse(perm), ref.strip("$") + ".order")


def _concat(at: Sinking, node: Node) -> Views | None:
    assert isinstance(node.attrs, ConcatAttrs)
    perm = _common_order(at, node.inputs, len(node.outputs[0].type.shape))
    if perm is None:
        return None
    refs = [_in_order(at, r, perm) for r in node.inputs]
    (ref,) = at.emit(node, refs, ConcatAttrs(perm[node.attrs.axis]))
    return (View(ref, perm),)


def _without(perm: Perm, dropped: Sequence[int]) -> Perm:
    """Order of the axes that are left when old axes `dropped` go."""
    left = [p for i, p in enumerate(perm) if i not in dropped]
    ranks = sorted(left)
    return tuple(ranks.index(p) for p in left)


def _reduce(at: Sinking, node: Node) -> Views | None:
    view = _view(at, node.inputs[0])
    if view is None:
        return None
    if isinstance(node.attrs, ArgmaxAttrs):
        if node.attrs.axis is None:
            return None
        old: tuple[int, ...] = (node.attrs.axis,)
        attrs: ArgmaxAttrs | ReduceAttrs = replace(node.attrs, axis=view.perm[old[0]])
    else:
        assert isinstance(node.attrs, ReduceAttrs)
        old = node.attrs.axes
        attrs = replace(node.attrs, axes=tuple(sorted(view.perm[a] for a in old)))
    (ref,) = at.emit(node, (view.ref,), attrs)
    return (View(ref, view.perm if node.attrs.keepdims else _without(view.perm, old)),)


def _along_axis(at: Sinking, node: Node) -> Views | None:
    """Ops with an `axis` that keep the rank, one view in."""
    view = _view(at, node.inputs[0])
    if view is None:
        return None
    axis = view.perm[attr(node, "axis", int)]
    attrs = replace(node.attrs, axis=axis)  # type: ignore[call-arg]
    refs = at.emit(node, (view.ref, *(at.real(r) for r in node.inputs[1:])), attrs)
    return tuple(View(r, view.perm) for r in refs)


def _index_select(at: Sinking, node: Node) -> Views | None:
    assert isinstance(node.attrs, IndexSelectAttrs)
    return _along_axis(at, node) if len(at.types[node.inputs[1]].shape) == 1 else None


def _drop_axis(at: Sinking, node: Node) -> Views | None:
    """select and unbind."""
    view = _view(at, node.inputs[0])
    if view is None:
        return None
    assert isinstance(node.attrs, SelectAttrs | UnbindAttrs)
    old = node.attrs.axis
    refs = at.emit(node, (view.ref,), replace(node.attrs, axis=view.perm[old]))
    return tuple(View(r, _without(view.perm, (old,))) for r in refs)


def _each_axis(at: Sinking, node: Node) -> Views | None:
    """pad, expand and roll: attributes by axis."""
    view = _view(at, node.inputs[0])
    if view is None:
        return None
    back = inverse(view.perm)
    if isinstance(node.attrs, RollAttrs):
        attrs: RollAttrs | PadAttrs | ExpandAttrs = replace(
            node.attrs, axes=tuple(view.perm[a] for a in node.attrs.axes)
        )
    elif isinstance(node.attrs, PadAttrs):
        attrs = replace(node.attrs, pads=tuple(node.attrs.pads[i] for i in back))
    else:
        assert isinstance(node.attrs, ExpandAttrs)
        if len(node.attrs.shape) != len(view.perm):
            return None
        attrs = ExpandAttrs(tuple(node.attrs.shape[i] for i in back))
    (ref,) = at.emit(node, (view.ref,), attrs)
    return (View(ref, view.perm),)


def _last_axes(at: Sinking, node: Node) -> Views | None:
    """Ops on the last axis (layer norm: the last few) that treat all other axes alike."""
    view = _view(at, node.inputs[0])
    if view is None:
        return None
    kept = node.attrs.axes_from_end if isinstance(node.attrs, LayerNormAttrs) else 1
    rank = len(view.perm)
    if view.perm[rank - kept :] != identity(rank)[rank - kept :]:
        return None
    (ref,) = at.emit(node, (view.ref, *(at.real(r) for r in node.inputs[1:])))
    return (View(ref, view.perm),)


def _linear(at: Sinking, node: Node) -> Views | None:
    """A linear layer over a flattened map takes the map's own order into its weights."""
    view = at.view(node.inputs[0])
    if not isinstance(view, Flat):
        return _last_axes(at, node)
    w = at.data(node.inputs[1])
    if w is None:
        return None
    old_dims = [view.dims[p] for p in view.perm][1:]
    back = [p - 1 for p in inverse(view.perm)[1:]]
    cells = w.reshape(len(w), *old_dims).transpose(0, *(1 + b for b in back))
    weight = at.constant(np.ascontiguousarray(cells.reshape(w.shape)), node.inputs[1][1:])
    (ref,) = at.emit(node, (view.ref, weight, *(at.real(r) for r in node.inputs[2:])))
    return (View(ref, identity(2)),)


def _matmul(at: Sinking, node: Node) -> Views | None:
    """A second operand that is only transposed in its last two axes is read so."""
    assert isinstance(node.attrs, MatmulAttrs)
    view = _view(at, node.inputs[1])
    rank = len(at.types[node.inputs[1]].shape)
    if view is None or view.perm != (*range(rank - 2), rank - 1, rank - 2):
        return None
    attrs = MatmulAttrs(not node.attrs.transpose_b)
    (ref,) = at.emit(node, (at.real(node.inputs[0]), view.ref), attrs)
    return (View(ref, identity(len(node.outputs[0].type.shape))),)


def _reshape(at: Sinking, node: Node) -> Views | None:
    assert isinstance(node.attrs, ReshapeAttrs)
    old, new = at.types[node.inputs[0]].dims, node.outputs[0].type.dims
    moves = unit_moves(old, new)
    if moves is not None:
        before = at.view(node.inputs[0])
        return None if isinstance(before, Flat) else (_moved(before, moves),)
    view = _view(at, node.inputs[0])
    if view is None or not at.types[node.inputs[0]].size:
        return None
    name = node.outputs[0].name
    groups = _groups(old, new)
    sources, order = _placed(groups, new, view.perm)
    units = [p for i, p in enumerate(view.perm) if old[i] == 1]
    moved = (*units, *(view.perm[i] for i in sources))
    together = [p for p in moved if p not in units]
    if together != sorted(together):
        if len(new) == 2 and new[0] == old[0] and view.perm[0] == 0:
            ref = at.reshape(view.ref, new, name)
            return (Flat(ref, at.type(view.ref).dims, view.perm),)
        ref = at.transpose(view.ref, moved, name + ".order")
    else:
        ref = view.ref
    return (View(at.reshape(ref, tuple(new[i] for i in order), name), inverse(order)),)


def unit_moves(old: Sequence[int], new: Sequence[int]) -> Perm | None:
    """The transpose that equals a reshape which only moves axes of size 1, None where it does more."""
    large, small = ([i for i, d in enumerate(old) if (d == 1) is unit] for unit in (False, True))
    if len(old) != len(new) or [old[i] for i in large] != [d for d in new if d != 1]:
        return None
    return tuple((small if d == 1 else large).pop(0) for d in new)


Groups = list[tuple[list[int], list[int]]]


def _groups(old: Sequence[int], new: Sequence[int]) -> Groups:
    """(old axes, new axes) of equal product, axes of size 1 left out; groups as small as they come."""
    sources = [i for i, d in enumerate(old) if d != 1]
    results = [i for i, d in enumerate(new) if d != 1]
    groups: Groups = []
    a = b = 0
    while a < len(sources):
        first, start = a, b
        have, want, a = old[sources[a]], 1, a + 1
        while have != want:
            if want < have:
                want, b = want * new[results[b]], b + 1
            else:
                have, a = have * old[sources[a]], a + 1
        groups.append((sources[first:a], results[start:b]))
    return groups


def _placed(groups: Groups, new: Sequence[int], perm: Perm) -> tuple[list[int], Perm]:
    """(old axes, new axes) in the order in which a value in the view's order holds them.

    The axes of a group must lie side by side; a group stands where its last axis stands, so that channels
    stay last.
    """
    laid = sorted(groups, key=lambda group: max(perm[i] for i in group[0]))
    order = [i for _, results in laid for i in results]
    for i in (i for i, d in enumerate(new) if d == 1):
        before = [order.index(j) for j in range(i) if j in order]
        order.insert(0 if i == 0 or not before else before[-1] + 1, i)
    return [i for sources, _ in laid for i in sources], tuple(order)


UNARY: Final = frozenset(
    (
        *(
            "neg",
            "abs",
            "sqrt",
            "rsqrt",
            "exp",
            "log",
            "sin",
            "cos",
            "erf",
            "relu",
            "relu6",
            "elu",
            "leaky_relu",
        ),
        *(
            "hardswish",
            "hardsigmoid",
            "sigmoid",
            "tanh",
            "gelu",
            "silu",
            "clamp",
            "logical_not",
            "pow_scalar",
        ),
        "cast",
    )
)
BROADCAST: Final = frozenset(
    (
        *("add", "sub", "mul", "div", "minimum", "maximum", "pow", "where", "masked_fill"),
        *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"),
    )
)
ELEMENTWISE: Final = UNARY | BROADCAST

RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "argmax"), _reduce),
    **dict.fromkeys(("softmax", "log_softmax", "slice", "split"), _along_axis),
    **dict.fromkeys(("select", "unbind"), _drop_axis),
    **dict.fromkeys(("pad", "expand", "roll"), _each_axis),
    **dict.fromkeys(("layer_norm", "rms_norm", "prelu", "batch_norm"), _last_axes),
    "transpose": _transpose,
    "concat": _concat,
    "index_select": _index_select,
    "linear": _linear,
    "matmul": _matmul,
    "reshape": _reshape,
}
