"""Fusion: clamps go into the `act` of the op before them, zero pads into convolutions and poolings.

Every rule is exact in float; in int8 a pad by 0 is a pad by the zero point, so it stays exact there too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from edgec.ir import Node, Program
from edgec.match import Rewrite, attr, rewrite
from edgec.ops.activation import ClampAttrs
from edgec.passes.simplify import simplify

Interval = tuple[float, float]

WITH_ACT: Final = ("conv2d", "conv1d", "conv_transpose2d", "linear", "add", "sub", "mul")
KEEP_ORDER: Final = ("max_pool2d", "adaptive_max_pool2d", "reshape", "transpose")
CLAMPS: Final = ("relu", "relu6", "clamp")
# Values that are never negative, so that padding by 0 and by -infinity give the same maximum.
NON_NEGATIVE: Final = ("relu", "relu6", "sigmoid", "hardsigmoid", "softmax", "abs", "sqrt", "exp")
MAX_ROUNDS: Final = 8


def fuse(program: Program) -> Program:
    """`program` with clamps and pads fused, without dead code. Same object where nothing changed."""
    for _ in range(MAX_ROUNDS):
        before = program
        program = rewrite(program, _visit)
        if program is before:
            break
        program = simplify(program)  # a clamp that moved may leave two reshapes side by side
    return program


def interval(node: Node) -> Interval | None:
    """(low, high) of relu, relu6 and clamp; None for other ops."""
    if isinstance(node.attrs, ClampAttrs):
        return node.attrs.min, node.attrs.max
    return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(node.op)


def after(first: Interval | None, second: Interval) -> Interval:
    """The one clamp that equals `first` and then `second`."""
    low, high = first if first is not None else (-math.inf, math.inf)
    return min(max(low, second[0]), second[1]), min(max(high, second[0]), second[1])


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op in CLAMPS:
        return _clamp(at, node)
    if node.op == "conv2d":
        return _pad_into(at, node, 0.0)
    if node.op == "max_pool2d":
        return _max_pool(at, node)
    if node.op == "avg_pool2d":
        return _avg_pool(at, node)
    return None


def _clamp(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    bounds = interval(node)
    assert bounds is not None
    x = node.inputs[0]
    if not at.type(x).dtype.is_float:
        return None
    maker = at.sole(x, *WITH_ACT)
    if maker is not None:
        act = after(maker.attrs.act, bounds)  # type: ignore[attr-defined]
        name = node.outputs[0].name
        return (at.remake(maker, name, attrs=replace(maker.attrs, act=act)),)  # type: ignore[call-arg]
    inner = at.maker(x, *CLAMPS)
    if inner is not None:
        first = interval(inner)
        merged = after(first, bounds)
        if merged == first:
            return (x,)
        clamp = ClampAttrs(*merged)
        return (at.remake(node, op="clamp", inputs=inner.inputs, attrs=clamp),)
    return _clamp_earlier(at, node)


def _clamp_earlier(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """clamp(f(layer)) is f(clamp(layer)) for movements and maxima, and then it fuses into the layer."""
    moved = at.sole(node.inputs[0], *KEEP_ORDER)
    if moved is None or at.sole(moved.inputs[0], *WITH_ACT) is None:
        return None
    t = at.type(moved.inputs[0])
    name = moved.inputs[0]
    clamped = at.builder.node(node.op, (name,), node.attrs, name=name, loc=node.loc)[0]
    assert at.type(clamped) == t
    at.counts[clamped] += 1
    return (at.remake(moved, node.outputs[0].name, inputs=(clamped,)),)


def _spatial_pad(at: Rewrite, node: Node) -> tuple[Node, tuple[int, int, int, int]] | None:
    """The pad before `node` and its (top, bottom, left, right), where it pads rows and columns only."""
    pad = at.maker(node.inputs[0], "pad")
    if pad is None:
        return None
    pads = attr(pad, "pads", tuple)
    if len(pads) != 4 or any(pads[0]) or any(pads[3]) or min(*pads[1], *pads[2]) < 0:
        return None
    return pad, (*pads[1], *pads[2])


def _pad_into(at: Rewrite, node: Node, value: float) -> tuple[str, ...] | None:
    found = _spatial_pad(at, node)
    if found is None or attr(found[0], "value", object) != value:
        return None
    pad, more = found
    own = attr(node, "pad", tuple)
    total = tuple(a + b for a, b in zip(own, more, strict=True))
    inputs = (pad.inputs[0], *node.inputs[1:])
    return (at.remake(node, inputs=inputs, attrs=replace(node.attrs, pad=total)),)  # type: ignore[call-arg]


def _max_pool(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """A maximum ignores a pad by -infinity, and one by 0 where nothing is negative and each window has an
    element."""
    found = _spatial_pad(at, node)
    if found is None:
        return None
    pad, more = found
    if attr(pad, "value", object) == -math.inf:
        return _pad_into(at, node, -math.inf)
    kernel, dilation = attr(node, "kernel", tuple), attr(node, "dilation", tuple)
    total = [a + b for a, b in zip(attr(node, "pad", tuple), more, strict=True)]
    inside = all(
        d == 1 and max(total[2 * i : 2 * i + 2]) < k
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    )
    return _pad_into(at, node, 0.0) if inside and _never_negative(at, pad.inputs[0]) else None


def _never_negative(at: Rewrite, ref: str) -> bool:
    maker = at.maker(ref)
    if maker is None:
        return False
    act = getattr(maker.attrs, "act", None)
    bounds = interval(maker)
    low = act[0] if act is not None else bounds[0] if bounds is not None else -math.inf
    return maker.op in NON_NEGATIVE or low >= 0.0


def _avg_pool(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """An average that has no padding of its own counts the zeros before it."""
    if any(attr(node, "pad", tuple)) or getattr(node.attrs, "divisor", None) is not None:
        return None
    found = _spatial_pad(at, node)
    if found is None or attr(found[0], "value", object) != 0.0:
        return None
    counted = replace(node, attrs=replace(node.attrs, count_include_pad=True))  # type: ignore[call-arg]
    return _pad_into(at, counted, 0.0)
