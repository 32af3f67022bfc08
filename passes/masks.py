"""Masks in booleans: an additive float mask that is proved to hold only 0 and minus infinity becomes the boolean
that it was made from, which integers can follow; infinities have no int8.

attention(q, k, v, m) takes the boolean, x + m becomes masked_fill(x, not m, -inf). A constant mask that is the
causal rule becomes `causal`. where(c, x, v) becomes masked_fill for v of -1e4 or less, minus infinity included. A sum
with a large finite number such as -1e9 stays as it is: where it stands in a whole row,
softmax gives the mean and not zero.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from edgec.ir import Array, DType, Node
from edgec.match import Rewrite, attr
from edgec.ops.attention import AttentionAttrs, causal_mask
from edgec.ops.select import MaskedFillAttrs
from edgec.ops.shape import ExpandAttrs
from edgec.passes.calibrate import MASK_VALUE

MOVEMENTS: Final = ("reshape", "expand", "transpose", "slice", "select")
HIDDEN: Final = -math.inf


def boolean_attention(at: Rewrite, node: Node) -> str | None:
    """attention with its float mask as a boolean one, as `causal`, or without it where it hides nothing."""
    attrs = node.attrs
    assert isinstance(attrs, AttentionAttrs)
    if len(node.inputs) < 4:
        return None
    mask = node.inputs[3]
    if at.type(mask).dtype is not DType.B8:
        if not is_mask(at, mask):
            return None
        mask = allowed(at, mask) or ""
    data = at.data(mask) if mask else None
    if data is not None and data.all():
        mask = ""
    elif data is not None and _is_causal(at, node, data):
        mask, attrs = "", replace(attrs, causal=True)
    if mask == node.inputs[3]:
        return None
    inputs = (*node.inputs[:3], mask) if mask else node.inputs[:3]
    return at.remake(node, inputs=inputs, attrs=attrs)


def _is_causal(at: Rewrite, node: Node, data: Array) -> bool:
    queries, keys = at.type(node.inputs[0]).dims[2], at.type(node.inputs[1]).dims[2]
    if data.shape[-2:] != (queries, keys) or data.size != queries * keys:
        return False
    return bool(np.array_equal(data.reshape(queries, keys), causal_mask(queries, keys)))


def masked_sum(at: Rewrite, node: Node) -> str | None:
    """x + mask as masked_fill; a sum of two masks waits for what reads it."""
    if getattr(node.attrs, "act", None) is not None:
        return None
    first, second = (is_mask(at, ref) for ref in node.inputs)
    if first == second:
        return None
    x, mask = node.inputs if second else node.inputs[::-1]
    if x[0] == "@" or at.type(x) != node.outputs[0].type:
        return None
    shown = allowed(at, mask)
    return x if shown is None else _fill(at, x, _not(at, shown), HIDDEN, node.outputs[0].name)


def masked_choice(at: Rewrite, node: Node) -> str | None:
    """where(c, x, v) and where(c, v, x) as masked_fill, v a number that stands for minus infinity."""
    condition, a, b = node.inputs
    for x, fill in ((a, b), (b, a)):
        data = at.data(fill)
        if data is None or not data.size or x[0] == "@" or at.type(x) != node.outputs[0].type:
            continue
        if at.type(x).dtype.is_float and data.max() <= MASK_VALUE and data.min() == data.max():
            hidden = _not(at, condition) if x == a else condition
            return _fill(at, x, hidden, float(data.max()), node.outputs[0].name)
    return None


def _fill(at: Rewrite, x: str, hidden: str, value: float, name: str) -> str:
    return at.builder.call("masked_fill", x, hidden, attrs=MaskedFillAttrs(value), name=name)


def is_mask(at: Rewrite, ref: str) -> bool:
    """Whether `ref` is a float value of zeros and minus infinities only, as far as the graph says."""
    if not at.type(ref).dtype.is_float:
        return False
    data = at.data(ref)
    if data is not None:
        return bool(np.all((data == 0) | (data == HIDDEN)))
    node = at.maker(ref)
    if node is None:
        return False
    if node.op in MOVEMENTS:
        return is_mask(at, node.inputs[0])
    if node.op == "masked_fill":
        return attr(node, "value", float) == HIDDEN and is_mask(at, node.inputs[0])
    if node.op == "where":
        return is_mask(at, node.inputs[1]) and is_mask(at, node.inputs[2])
    if node.op == "add":
        return getattr(node.attrs, "act", None) is None and all(is_mask(at, r) for r in node.inputs)
    return False


def allowed(at: Rewrite, ref: str) -> str | None:
    """The boolean that holds where the mask `ref` is 0, of a shape that broadcasts to its; None: everywhere."""
    data = at.data(ref)
    if data is not None:
        return None if np.all(data == 0) else at.builder.constant(data == 0, ref[1:] + ".allowed")
    node = at.makers[ref]
    key = ("allowed", ref)
    if key not in at.memo:
        made = _allowed(at, node)
        at.memo[key] = () if made is None else (made,)
    return at.memo[key][0] if at.memo[key] else None


def _allowed(at: Rewrite, node: Node) -> str | None:
    if node.op in MOVEMENTS:
        source = allowed(at, node.inputs[0])
        if source is None:
            return None
        source = _full(at, source, at.type(node.inputs[0]).dims)
        return at.builder.call(node.op, source, attrs=node.attrs, name=node.outputs[0].name + ".allowed")
    if node.op == "masked_fill":
        return _both(at, allowed(at, node.inputs[0]), _not(at, node.inputs[1]))
    if node.op == "add":
        return _both(at, allowed(at, node.inputs[0]), allowed(at, node.inputs[1]))
    condition, (a, b) = node.inputs[0], (allowed(at, r) for r in node.inputs[1:])
    # where(c, a, b) allows (not c or a) and (c or b)
    first = None if a is None else at.builder.call("logical_or", _not(at, condition), a)
    second = None if b is None else at.builder.call("logical_or", condition, b)
    return _both(at, first, second)


def _full(at: Rewrite, ref: str, dims: tuple[int, ...]) -> str:
    """`ref` in the shape `dims`, to which it broadcasts."""
    if at.type(ref).dims == dims:
        return ref
    return at.builder.call("expand", ref, attrs=ExpandAttrs(dims), name="allowed")


def _both(at: Rewrite, a: str | None, b: str | None) -> str | None:
    if a is None or b is None:
        return a or b
    return at.builder.call("logical_and", a, b, name="allowed")


def _not(at: Rewrite, ref: str) -> str:
    data = at.data(ref)
    if data is not None:
        return at.builder.constant(~np.asarray(data, np.bool_), ref[1:] + ".not")
    maker = at.maker(ref, "logical_not")
    return maker.inputs[0] if maker is not None else at.builder.call("logical_not", ref, name="shown")
