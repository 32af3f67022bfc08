"""What a graph costs before any kernel is chosen: multiply-accumulates and bytes of weights, from the cost that each
op's record states."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.ir import Graph, Program, uses
from edgec.ops import OPS


@dataclass(frozen=True, slots=True)
class GraphCost:
    """Cost of one run. `weight_bytes`: constants, each counted once."""

    macs: int
    weight_bytes: int


def cost(program: Program, graph: Graph) -> GraphCost:
    """The sum over the nodes of `graph`."""
    types = program.type_of(graph)
    macs = 0
    for node in graph.nodes:
        inputs, outputs = tuple(types[r] for r in node.inputs), tuple(v.type for v in node.outputs)
        macs += OPS[node.op].cost(node.attrs, inputs, outputs).macs
    return GraphCost(macs, sum(types[ref].bytes for ref in set(uses(graph)) if ref[0] == "@"))
