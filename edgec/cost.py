"""What a graph costs: multiply-accumulates, element operations and bytes moved, per node and in sum."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.ir import Graph, Loc, Program
from edgec.ops import OPS


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Cost of one node. `weight_bytes` are constants read; `activation_bytes` values read and written."""

    name: str
    op: str
    loc: Loc
    macs: int
    elementwise: int
    weight_bytes: int
    activation_bytes: int


def cost(program: Program, graph: Graph) -> tuple[NodeCost, ...]:
    """Cost of every node in order."""
    types = program.type_of(graph)
    rows = []
    for node in graph.nodes:
        inputs = tuple(types[r] for r in node.inputs)
        outputs = tuple(v.type for v in node.outputs)
        c = OPS[node.op].cost(node.attrs, inputs, outputs)
        weights = sum(types[r].bytes for r in node.inputs if r[0] == "@")
        moved = sum(types[r].bytes for r in node.inputs if r[0] != "@") + sum(t.bytes for t in outputs)
        rows.append(NodeCost(node.outputs[0].name, node.op, node.loc, c.macs, c.elementwise, weights, moved))
    return tuple(rows)


def total_macs(program: Program, graph: Graph) -> int:
    """Sum of multiply-accumulates."""
    return sum(row.macs for row in cost(program, graph))
