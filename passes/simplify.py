"""Simplification: equal nodes become one, and nodes that change nothing go. Every rule is exact.

Rules look at one node and its makers; the pass repeats until nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.ir import Array, Node, Program, Type
from edgec.match import Rewrite, attr, rewrite
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.passes.dead import remove_dead

MAX_ROUNDS: Final = 16  # each round removes a node of every chain; deeper chains of identities do not occur
MAX_CONSTANT: Final = 1 << 16  # elements of a constant that is looked at for being all 0 or 1

Rule = Callable[[Rewrite, Node], str | None]


def simplify(program: Program) -> Program:
    """`program` simplified, without dead code. Same object where nothing changed."""
    for _ in range(MAX_ROUNDS):
        before = program
        program = remove_dead(rewrite(_share_constants(program), _visit))
        if program is before:
            break
    return program


def _share_constants(program: Program) -> Program:
    """Constants of equal content become one."""
    first: dict[tuple[str, Type], str] = {}
    renamed = {
        "@" + name: "@" + first.setdefault((c.digest, c.type), name) for name, c in program.constants.items()
    }
    if all(old == new for old, new in renamed.items()):
        return program

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        inputs = tuple(renamed.get(r, r) for r in node.inputs)
        if inputs == node.inputs:
            return None
        quants = [v.type.quant for v in node.outputs]
        return at.builder.node(
            node.op, inputs, node.attrs, name=node.outputs[0].name, loc=node.loc, quants=quants
        )

    return rewrite(program, visit)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op == "split" and len(node.outputs) == 1:
        return (node.inputs[0],)
    if len(node.outputs) == 1:
        for rule in (*RULES.get(node.op, ()), *ALWAYS):
            ref = rule(at, node)
            if ref is not None:
                return (ref,)
    key = (node.op, node.inputs, node.attrs, tuple(v.type for v in node.outputs))
    twin = at.memo.get(key)
    if twin is None:
        at.memo[key] = tuple(v.name for v in node.outputs)
    return twin


def _same_type(at: Rewrite, node: Node) -> str | None:
    """Movements whose output has the input's type and order."""
    x = node.inputs[0]
    return x if at.type(x) == node.outputs[0].type else None


def _transpose(at: Rewrite, node: Node) -> str | None:
    """Pairs compose; a transpose that moves only axes of size 1 is a reshape; one that moves nothing goes."""
    assert isinstance(node.attrs, TransposeAttrs)
    x, perm = node.inputs[0], node.attrs.perm
    if perm == tuple(range(len(perm))):
        return x
    inner = at.maker(x, "transpose")
    if inner is not None:
        assert isinstance(inner.attrs, TransposeAttrs)
        composed = TransposeAttrs(tuple(inner.attrs.perm[p] for p in perm))
        return at.remake(node, inputs=inner.inputs, attrs=composed)
    t = at.type(x)
    moved = [p for p in perm if t.dims[p] != 1]
    if moved == sorted(moved) and not t.bounds:
        return at.remake(node, op="reshape", attrs=ReshapeAttrs(node.outputs[0].type.dims))
    return None


def _reshape(at: Rewrite, node: Node) -> str | None:
    """A reshape of a reshape is one; one to the same shape goes."""
    inner = at.maker(node.inputs[0], "reshape")
    if inner is None or at.type(inner.inputs[0]).bounds:
        return _same_type(at, node)
    if at.type(inner.inputs[0]) == node.outputs[0].type:
        return inner.inputs[0]
    return at.remake(node, inputs=inner.inputs, attrs=ReshapeAttrs(node.outputs[0].type.dims))


def _roll(at: Rewrite, node: Node) -> str | None:
    return None if any(attr(node, "shifts", tuple)) else node.inputs[0]


def _open_clamp(at: Rewrite, node: Node) -> str | None:
    bounds = (attr(node, "min", float), attr(node, "max", float))
    return node.inputs[0] if bounds == (-math.inf, math.inf) else None


def _pool(at: Rewrite, node: Node) -> str | None:
    """A window of one element that covers the map once."""
    one = attr(node, "kernel", tuple) == (1, 1) and getattr(node.attrs, "divisor", None) in (None, 1)
    return _same_type(at, node) if one and not any(attr(node, "pad", tuple)) else None


def _neutral(value: float, either: bool) -> Rule:
    """x + 0, x * 1 and their kin, where the other operand does not widen the result."""

    def rule(at: Rewrite, node: Node) -> str | None:
        if getattr(node.attrs, "act", None) is not None:
            return None
        pairs = [node.inputs, node.inputs[::-1]] if either else [node.inputs]
        for x, c in pairs:
            data = _small_constant(at, c)
            if data is not None and bool(np.all(data == value)) and at.type(x) == node.outputs[0].type:
                return x
        return None

    return rule


def _small_constant(at: Rewrite, ref: str) -> Array | None:
    t = at.type(ref)
    return at.data(ref) if ref[0] == "@" and t.size <= MAX_CONSTANT and t.quant is None else None


def _pow_one(at: Rewrite, node: Node) -> str | None:
    return node.inputs[0] if float(attr(node, "exponent", object)) == 1.0 else None  # type: ignore[arg-type]


def _twice(at: Rewrite, node: Node) -> str | None:
    """An op that undoes itself."""
    inner = at.maker(node.inputs[0], node.op)
    return inner.inputs[0] if inner is not None and inner.inputs[0][0] != "@" else None


def _again(at: Rewrite, node: Node) -> str | None:
    """An op that changes nothing the second time."""
    return node.inputs[0] if at.maker(node.inputs[0], node.op) is not None else None


def _where(at: Rewrite, node: Node) -> str | None:
    """A choice whose condition is constant and uniform, or between equal values."""
    condition, a, b = node.inputs
    data = _small_constant(at, condition)
    chosen = a if a == b or (data is not None and bool(data.all())) else None
    if chosen is None and data is not None and not bool(data.any()):
        chosen = b
    return chosen if chosen is not None and at.type(chosen) == node.outputs[0].type else None


def _masked_fill(at: Rewrite, node: Node) -> str | None:
    data = _small_constant(at, node.inputs[1])
    return node.inputs[0] if data is not None and not bool(data.any()) else None


def _needless_expand(at: Rewrite, node: Node) -> str | None:
    """An operand that is expanded only to the shape that broadcasting gives it anyway."""
    inputs = list(node.inputs)
    for i, ref in enumerate(node.inputs):
        inner = at.maker(ref, "expand")
        if inner is None:
            continue
        inputs[i] = inner.inputs[0]
        shapes = [at.type(r).dims for r in inputs]
        if np.broadcast_shapes(*shapes) != node.outputs[0].type.dims or node.outputs[0].type.bounds:
            inputs[i] = ref
    return at.remake(node, inputs=tuple(inputs)) if tuple(inputs) != node.inputs else None


BROADCASTING: Final = (
    *("add", "sub", "mul", "div", "minimum", "maximum", "pow", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"),
)

RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "reshape": (_reshape,),
    "transpose": (_transpose,),
    "expand": (_same_type,),
    "slice": (_same_type,),
    "concat": (lambda at, node: _same_type(at, node) if len(node.inputs) == 1 else None,),
    "pad": (_same_type,),
    "cast": (_same_type,),
    "requantize": (_same_type,),
    "resize": (_same_type,),
    "adaptive_avg_pool2d": (_same_type,),
    "adaptive_max_pool2d": (_same_type,),
    "max_pool2d": (_pool,),
    "avg_pool2d": (_pool,),
    "roll": (_roll,),
    "clamp": (_open_clamp,),
    "add": (_neutral(0.0, either=True),),
    "sub": (_neutral(0.0, either=False),),
    "mul": (_neutral(1.0, either=True),),
    "div": (_neutral(1.0, either=False),),
    "pow_scalar": (_pow_one,),
    "neg": (_twice,),
    "logical_not": (_twice,),
    "abs": (_again,),
    "relu": (_again,),
    "relu6": (_again,),
    "where": (_where,),
    "masked_fill": (_masked_fill,),
}


def _expands(at: Rewrite, node: Node) -> str | None:
    return _needless_expand(at, node) if node.op in BROADCASTING else None


ALWAYS: Final[tuple[Rule, ...]] = (_expands,)
