"""Dead code: nodes whose outputs nothing reads, and constants that no graph reads, are removed. States stay,
since they are part of the Program's interface."""

from __future__ import annotations

from dataclasses import replace

from edgec.ir import Graph, Program, uses
from edgec.match import ends


def remove_dead(program: Program) -> Program:
    """`program` without unread nodes and constants; graph inputs stay. Same object where nothing is dead."""
    graphs = tuple(_live(g) for g in program.graphs)
    read = {ref for g in graphs for ref in uses(g)}
    constants = {n: c for n, c in program.constants.items() if "@" + n in read}
    if len(constants) == len(program.constants) and all(
        a is b for a, b in zip(graphs, program.graphs, strict=True)
    ):
        return program
    return Program(graphs, constants, program.state)


def _live(graph: Graph) -> Graph:
    needed = set(ends(graph)) | {b.name for v in graph.inputs for b in v.type.bounds}
    kept = []
    for node in reversed(graph.nodes):
        if any(v.name in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.inputs)
            needed.update(b.name for v in node.outputs for b in v.type.bounds)
    return graph if len(kept) == len(graph.nodes) else replace(graph, nodes=tuple(reversed(kept)))
