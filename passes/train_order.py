"""train_order: the nodes of a training step in an order that keeps few bytes. Program -> Program.

What backward nodes make of a forward value alone (a mask of where a clamp was open, the channels whose weights
train) is made in the forward part where it is smaller than the value. A parameter is updated as soon as its gradient
exists and everything that reads its old content has run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgec.ir import Graph, Node, Program, Type
from edgec.match import consumers
from edgec.training.options import LOSS, TRAIN_STEP


def train_order(program: Program) -> Program:
    """The Program with its training step in order; the same object where it has none."""
    graphs = tuple(_ordered(program, g) if g.name == TRAIN_STEP else g for g in program.graphs)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return replace(program, graphs=graphs)


def _ordered(program: Program, graph: Graph) -> Graph:
    return early_updates(hoisted(graph, program.type_of(graph)))


def forward_length(graph: Graph) -> int:
    """Number of nodes up to the one that makes the loss."""
    loss = next(p.ref for p in graph.output_ports if p.label == LOSS)
    return next(i for i, n in enumerate(graph.nodes) if loss in (v.name for v in n.outputs)) + 1


def hoisted(graph: Graph, types: Mapping[str, Type]) -> Graph:
    """The graph with backward nodes that make less of one forward value moved behind the node that makes it."""
    count = forward_length(graph)
    forward, backward = graph.nodes[:count], graph.nodes[count:]
    values = {v.name for n in forward for v in n.outputs} | {v.name for v in graph.inputs}
    sources = _sources(backward, values)
    readers = consumers(replace(graph, nodes=backward))
    held = set(graph.outputs) | {ref for _, ref in graph.updates}
    after: dict[str, list[Node]] = {}
    moved: set[str] = set()
    for value in sorted(values):
        chain = [n for n in backward if sources.get(n.outputs[0].name) == value]
        inside = {n.outputs[0].name for n in chain}
        if not chain or value in held or not all(n.outputs[0].name in inside for n in readers.get(value, ())):
            continue
        kept = [r for r in inside if any(n.outputs[0].name not in inside for n in readers.get(r, ()))]
        if sum(types[r].bytes for r in kept) < types[value].bytes:
            after[value] = chain
            moved |= inside
    if not moved:
        return graph
    nodes: list[Node] = [n for v in graph.inputs for n in after.get(v.name, ())]
    for node in forward:
        nodes.append(node)
        nodes += [n for v in node.outputs for n in after.get(v.name, ())]
    nodes += [n for n in backward if n.outputs[0].name not in moved]
    return replace(graph, nodes=tuple(nodes))


def _sources(backward: tuple[Node, ...], values: set[str]) -> dict[str, str]:
    """The forward value that a backward value is made of, where it is made of constants and that one alone."""
    found: dict[str, str] = {}
    for node in backward:
        own = {found.get(r, r) for r in node.inputs if r[0] != "@"}
        if len(own) == 1 and len(node.outputs) == 1 and (source := own.pop()) in values:
            found[node.outputs[0].name] = source
    return found


def early_updates(graph: Graph) -> Graph:
    """The graph with each node that makes a state's next content as early as its operands and the readers of the old
    content allow."""
    makers = {ref: state for state, ref in graph.updates if ref[0] not in "@$"}
    updates = [n for n in graph.nodes if any(v.name in makers for v in n.outputs) and not _is_read(graph, n)]
    later = {n.outputs[0].name for n in updates}
    rest = [n for n in graph.nodes if n.outputs[0].name not in later]
    position: dict[str, int] = {v.name: -1 for v in graph.inputs}
    last_read: dict[str, int] = {}
    for index, node in enumerate(rest):
        position.update((v.name, index) for v in node.outputs)
        last_read.update((ref, index) for ref in node.inputs)
    behind: dict[int, list[Node]] = {}
    for node in updates:
        olds = ["$" + makers[v.name] for v in node.outputs if v.name in makers]
        times = [position[r] for r in node.inputs if r in position]
        times += [last_read[old] for old in olds if old in last_read]
        behind.setdefault(max(times, default=-1), []).append(node)
    nodes = list(behind.get(-1, ()))
    for index, node in enumerate(rest):
        nodes += [node, *behind.get(index, ())]
    return replace(graph, nodes=tuple(nodes))


def _is_read(graph: Graph, node: Node) -> bool:
    """Whether other nodes, or outputs, read what the node makes."""
    names = {v.name for v in node.outputs}
    return bool(names & set(graph.outputs)) or any(names & set(n.inputs) for n in graph.nodes)
