"""Rotary position embeddings: x * cos + turned(x) * sin becomes the op rope.

The form in which a model writes the rotation (halves or neighbours, tables in any shape, a scale) is not matched
piece by piece: a sum of two products, one of which reads a cosine, is evaluated on drawn numbers, and becomes rope
where it equals it. Frequencies are a constant that the angles read, positions the integers that they are cast from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.ir import Array, Constant, DType, Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops import OPS
from edgec.ops.rope import RopeAttrs, rope
from edgec.ops.slicing import SliceAttrs
from edgec.passes.dead import remove_dead

MAX_CONE: Final = 40  # nodes between a rotation's operands and its sum
MAX_CONSTANT: Final = 1 << 16  # elements of a constant in the cone; a table of frequencies has few
TOLERANCE: Final = 1e-3  # float32 angles below POSITIONS, numbers of size 1
POSITIONS: Final = 512  # drawn below this, where float32 angles are exact enough
FAR: Final = 1 << 17  # and below this, for tables that end or change at some position
FAR_TOLERANCE: Final = 2e-2  # two steps of an angle of 2**17 in float32


@dataclass(frozen=True, slots=True)
class _Angles:
    """Where a table of cosines comes from."""

    position: str  # i32[T] in this shape or another
    frequency: str  # a constant with R elements


def rotary(program: Program) -> Program:
    """`program` with rope as one op. Same object where there is none."""
    changed = rewrite(program, _visit)
    return program if changed is program else remove_dead(changed)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if getattr(node.attrs, "act", None) is not None:
        return None
    ref = _rotation(at, node) if node.op == "add" else _part(at, node) if node.op == "concat" else None
    return None if ref is None else (ref,)


def _part(at: Rewrite, node: Node) -> str | None:
    """concat(rope(first channels of x), the others of x), which is what rope does with fewer frequencies."""
    turned = at.maker(node.inputs[0], "rope")
    first = at.maker(turned.inputs[0], "slice") if turned is not None else None
    rest = at.maker(node.inputs[1], "slice") if len(node.inputs) == 2 else None
    if turned is None or first is None or rest is None or first.inputs != rest.inputs:
        return None
    x, a, b = first.inputs[0], first.attrs, rest.attrs
    assert isinstance(a, SliceAttrs)
    assert isinstance(b, SliceAttrs)
    depth, pairs = at.type(x).dims[3], at.type(turned.inputs[2]).dims[0]
    if (a, b) != (SliceAttrs(3, 0, 2 * pairs), SliceAttrs(3, 2 * pairs, depth)):
        return None
    if at.type(x) != node.outputs[0].type:
        return None
    inputs = (x, *turned.inputs[1:])
    return at.builder.call("rope", *inputs, attrs=turned.attrs, name=node.outputs[0].name)


def _rotation(at: Rewrite, node: Node) -> str | None:
    """rope where the sum is one."""
    t = node.outputs[0].type
    products = [at.maker(r, "mul") for r in node.inputs]
    if len(t.dims) != 4 or not t.dtype.is_float or t.bounds or None in products:
        return None
    for product in products:
        for x, table in (product.inputs, product.inputs[::-1]):  # type: ignore[union-attr]
            angles = _angles(at, table) if at.type(x) == t and table[0] not in "@$" else None
            found = _equal_rope(at, node, x, angles) if angles is not None else None
            if angles is not None and found is not None:
                return _rope(at, node, x, angles, found)
    return None


def _rope(at: Rewrite, node: Node, x: str, angles: _Angles, attrs: RopeAttrs) -> str:
    tokens = at.type(x).dims[attrs.axis]
    name = node.outputs[0].name
    position = angles.position
    if at.type(position).dims != (tokens,):
        shape = OPS["reshape"].attrs(shape=(tokens,))  # type: ignore[call-arg]
        position = at.builder.call("reshape", position, attrs=shape, name=name + ".position")
    flat = at.builder.constants[angles.frequency[1:]].data.reshape(-1).astype(np.float32)
    frequency = at.builder.constant(flat, angles.frequency[1:])
    return at.builder.call("rope", x, position, frequency, attrs=attrs, name=name)


def _cone(at: Rewrite, end: str, leaves: frozenset[str]) -> list[Node] | None:
    """Nodes that lead from `leaves` and constants to `end`, in order; None where there are too many or others."""
    found: dict[str, Node] = {}
    order: list[Node] = []

    def visit(ref: str) -> bool:
        if ref in leaves or ref in found:
            return True
        if ref[0] == "@":
            return at.type(ref).size <= MAX_CONSTANT
        node = at.maker(ref)
        if node is None or len(order) > MAX_CONE:
            return False
        found.update((v.name, node) for v in node.outputs)
        if not all(visit(r) for r in node.inputs):
            return False
        order.append(node)
        return True

    return order if visit(end) else None


def _above(at: Rewrite, ref: str) -> Iterator[Node]:
    """Makers of `ref` and of what they read, at most MAX_CONE of them."""
    seen: set[str] = set()
    waiting = [ref]
    while waiting and len(seen) < MAX_CONE:
        node = at.maker(waiting.pop())
        if node is not None and node.outputs[0].name not in seen:
            seen.add(node.outputs[0].name)
            yield node
            if not (node.op == "cast" and at.type(node.inputs[0]).dtype is DType.I32):
                waiting += node.inputs


def _angles(at: Rewrite, table: str) -> _Angles | None:
    """Positions and frequencies of a table of cosines; None where it is none."""
    key = ("angles", table)
    if key not in at.memo:
        above = list(_above(at, table))
        casts = [n for n in above if n.op == "cast" and at.type(n.inputs[0]).dtype is DType.I32]
        constants = [r for n in above if n.op in ("matmul", "mul") for r in n.inputs if r[0] == "@"]
        constants = [r for r in constants if at.type(r).dtype.is_float and at.type(r).size > 1]
        one = any(n.op == "cos" for n in above) and len(casts) == 1 and len(set(constants)) == 1
        at.memo[key] = (_unshaped(at, casts[0].inputs[0]), constants[0]) if one else ()
    found = at.memo[key]
    return _Angles(*found) if found else None


def _unshaped(at: Rewrite, ref: str) -> str:
    """`ref` before reshapes."""
    node = at.maker(ref, "reshape")
    return ref if node is None else _unshaped(at, node.inputs[0])


def _equal_rope(at: Rewrite, node: Node, x: str, angles: _Angles) -> RopeAttrs | None:
    """The attributes with which rope computes `node`, None where none do."""
    leaves = frozenset((x, angles.position))
    cone = _cone(at, node.inputs[0], leaves), _cone(at, node.inputs[1], leaves)
    if cone[0] is None or cone[1] is None:
        return None
    nodes = list({n.outputs[0].name: n for n in (*cone[0], *cone[1])}.values())
    shapes = tuple((n.op, n.attrs, tuple(at.type(r).dims for r in n.inputs)) for n in nodes)
    constants = tuple(r for n in nodes for r in n.inputs if r[0] == "@")
    key = ("rope", shapes, constants, angles.position, angles.frequency)
    if key not in at.memo:  # all layers rotate in one way
        found = _attributes(at, [*nodes, node], x, angles)
        at.memo[key] = (
            () if found is None else (f"{found.axis}", f"{int(found.interleaved)}", f"{found.scale!r}")
        )
    if not at.memo[key]:
        return None
    axis, interleaved, scale = at.memo[key]
    return RopeAttrs(int(axis), bool(int(interleaved)), float(scale))


def _attributes(at: Rewrite, nodes: list[Node], x: str, angles: _Angles) -> RopeAttrs | None:
    t = at.type(x)
    frequency = at.builder.constants[angles.frequency[1:]].data.reshape(-1).astype(np.float32)
    if 2 * len(frequency) > t.dims[3]:
        return None
    whole = at.type(angles.position)
    drawn = np.random.default_rng(0).normal(size=t.dims).astype(np.float32)
    constants = at.builder.constants
    still = {x: np.ones_like(drawn), angles.position: np.zeros(whole.dims, np.int32)}
    scale = float(_evaluated(nodes, still, constants).reshape(-1)[0])  # what a rotation by 0 multiplies with

    def equals(attrs: RopeAttrs, most: int, tolerance: float) -> bool:
        """At positions below `most`, the largest among them."""
        place = np.random.default_rng(most).integers(0, most, whole.size).astype(np.int32)
        place[-1] = most - 1
        wanted = _evaluated(nodes, {x: drawn, angles.position: place.reshape(whole.dims)}, constants)
        (found,) = rope(attrs, (drawn, place, frequency))
        return bool(np.allclose(found, wanted, rtol=0.0, atol=tolerance * max(1.0, scale)))

    for axis in (2, 1):
        for interleaved in (False, True):
            attrs = RopeAttrs(axis, interleaved, scale)
            if t.dims[axis] != whole.size or not equals(attrs, POSITIONS, TOLERANCE):
                continue
            return attrs if equals(attrs, FAR, FAR_TOLERANCE * float(np.abs(drawn).max())) else None
    return None


def _evaluated(nodes: list[Node], given: Mapping[str, Array], constants: Mapping[str, Constant]) -> Array:
    """The last node's output."""
    values = dict(given)
    for node in nodes:
        inputs = tuple(constants[r[1:]].data if r[0] == "@" else values[r] for r in node.inputs)
        results = OPS[node.op].ref(node.attrs, inputs)
        for value, result in zip(node.outputs, results, strict=True):
            values[value.name] = np.asarray(result).astype(value.type.dtype.numpy, copy=False)
    return values[nodes[-1].outputs[0].name]
