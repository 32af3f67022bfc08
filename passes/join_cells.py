"""join_cells: a concat of every r-th row and column becomes one transpose.

Patch merging (Swin) and focus layers (YOLO) cut a map [N,H,W,C] into its r x r sub-lattices and put these together
in channels: r * r + r slices and a concat, each of which reads and writes the map. The same elements are

    reshape [N,H/r,r,W/r,r,C] -> transpose -> reshape [N,H/r,W/r,r*r*C]

of which only the transpose moves anything. Integers and floats keep every bit.
"""

from __future__ import annotations

from math import isqrt

from edgec.ir import Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.joining import ConcatAttrs
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.ops.slicing import SliceAttrs
from edgec.passes.dead import remove_dead

Place = tuple[str, int, int]  # the map, first row, first column


def join_cells(program: Program) -> Program:
    """`program` with such concats as transposes. Same object where there are none."""
    if not any(n.op == "slice" for g in program.graphs for n in g.nodes):
        return program
    changed = rewrite(program, _visit)
    return program if changed is program else remove_dead(changed)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op != "concat" or len(node.outputs[0].type.shape) != 4 or node.outputs[0].type.bounds:
        return None
    assert isinstance(node.attrs, ConcatAttrs)
    step = isqrt(len(node.inputs))
    if step < 2 or step * step != len(node.inputs) or node.attrs.axis != 3:
        return None
    places = [p for p in (_place(at, ref, step) for ref in node.inputs) if p is not None]
    found = [p[1:] for p in places]
    cells = [(i, j) for i in range(step) for j in range(step)]
    if found not in (cells, [(i, j) for j, i in cells]) or len({p[0] for p in places}) != 1:
        return None
    ref = places[0][0]
    n, h, w, c = at.type(ref).dims
    if h % step or w % step:
        return None
    name = node.outputs[0].name
    order = (2, 4) if found == cells else (4, 2)
    cut = ReshapeAttrs((n, h // step, step, w // step, step, c))
    apart = at.builder.call("reshape", ref, attrs=cut, name=f"{name}.cells")
    perm = TransposeAttrs((0, 1, 3, *order, 5))
    moved = at.builder.call("transpose", apart, attrs=perm, name=f"{name}.moved")
    whole = ReshapeAttrs((n, h // step, w // step, step * step * c))
    return (at.builder.call("reshape", moved, attrs=whole, name=name),)


def _place(at: Rewrite, ref: str, step: int) -> Place | None:
    """The map whose every step-th row and column `ref` holds, and where these begin."""
    first = {1: 0, 2: 0}
    cut: set[int] = set()
    while True:
        node = at.maker(ref, "slice")
        if node is None:
            return (ref, first[1], first[2]) if cut == {1, 2} else None
        attrs = node.attrs
        assert isinstance(attrs, SliceAttrs)
        if attrs.axis not in first or attrs.axis in cut or attrs.step != step or attrs.start >= step:
            return (ref, first[1], first[2]) if cut == {1, 2} else None
        if at.type(ref).dims[attrs.axis] * step != at.type(node.inputs[0]).dims[attrs.axis]:
            return None
        first[attrs.axis] = attrs.start
        cut.add(attrs.axis)
        ref = node.inputs[0]
