"""schedule: orders the nodes of each graph so that few bytes are live at once. Program -> Program.

The search goes over sets of nodes that may have run first (all inputs of each are in the set): what is live
depends on the set alone, so each needs only its best order. Small graphs are searched whole; in larger ones
only the best sets of each size are kept. The given order stays where nothing is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from edgec.ir import Graph, Program, Type
from edgec.passes.views import views

_WORK: Final = 200_000  # sets times nodes squared; a second for the largest networks


def schedule(program: Program, keep: tuple[str, ...] = ()) -> Program:
    """The Program with its graphs reordered, those named in `keep` left as they are; the same object where no order
    is better."""
    graphs = tuple(g if g.name in keep else order(program, g) for g in program.graphs)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return replace(program, graphs=graphs)


def order(program: Program, graph: Graph) -> Graph:
    """The graph in the best order found, itself where that is its own."""
    problem = problem_of(program, graph)
    given = tuple(range(len(graph.nodes)))
    found = _search(problem)
    allowed = all(
        not need >> i for i, need in enumerate(problem.needs)
    )  # states are read before their update
    if allowed and peak_bytes(problem, found) >= peak_bytes(problem, given):
        return graph
    return replace(graph, nodes=tuple(graph.nodes[i] for i in found))


@dataclass(frozen=True, slots=True)
class Problem:
    """A graph as the scheduler sees it. Buffers are numbered; a view belongs to the buffer of what it views.

    `needs[i]`: nodes that run before node i, as bits. `makes[i]`, `reads[i]`: buffers of node i.
    `readers[b]`: nodes that read buffer b, as bits; -1 where it stays. `start`: bytes of the inputs.
    """

    needs: tuple[int, ...]
    makes: tuple[tuple[int, ...], ...]
    reads: tuple[tuple[int, ...], ...]
    bytes: tuple[int, ...]
    readers: tuple[int, ...]
    start: int


def problem_of(program: Program, graph: Graph) -> Problem:
    """The scheduling problem of a graph."""
    types = program.type_of(graph)
    buffer: dict[str, int] = {}
    sizes: list[int] = []
    maker: dict[str, int] = {}
    makes: list[tuple[int, ...]] = []
    reads: list[tuple[int, ...]] = []

    def new(ref: str, t: Type) -> int:
        buffer[ref] = len(sizes)
        sizes.append(t.bytes)
        return buffer[ref]

    for value in graph.inputs:
        new(value.name, value.type)
    start = sum(sizes)
    for index, node in enumerate(graph.nodes):
        found = views(node, tuple(types[r] for r in node.inputs))
        made: list[int] = []
        for position, value in enumerate(node.outputs):
            maker[value.name] = index
            source = node.inputs[found[position].index] if found is not None else "@"
            if source in buffer:
                buffer[value.name] = buffer[source]
            else:
                made.append(new(value.name, value.type))
        makes.append(tuple(made))
        reads.append(tuple(sorted({buffer[r] for r in _refs(graph, index) if r in buffer})))
    readers = [0] * len(sizes)
    for index, read in enumerate(reads):
        for b in read:
            readers[b] |= 1 << index
    for ref in (*graph.outputs, *(r for _, r in graph.updates)):
        if ref in buffer:
            readers[buffer[ref]] = -1
    needs = [sum({1 << maker[r] for r in _refs(graph, i) if r in maker}) for i in range(len(graph.nodes))]
    _state_order(graph, needs, maker)
    return Problem(tuple(needs), tuple(makes), tuple(reads), tuple(sizes), tuple(readers), start)


def _refs(graph: Graph, index: int) -> Iterator[str]:
    """All that node `index` reads, the names of Bounds included."""
    node = graph.nodes[index]
    yield from node.inputs
    made = {v.name for v in node.outputs}
    for value in node.outputs:
        yield from (b.name for b in value.type.bounds if b.name not in made)


def _state_order(graph: Graph, needs: list[int], maker: dict[str, int]) -> None:
    """Let every reader of a state run before the node that makes its next content, so that this can happen in
    place; not where a reader needs that content itself."""
    for state, ref in graph.updates:
        if ref not in maker:
            continue
        last = maker[ref]
        for index, node in enumerate(graph.nodes):
            if index != last and "$" + state in node.inputs and not _after(needs, index) >> last & 1:
                needs[last] |= 1 << index


def _after(needs: list[int], index: int) -> int:
    """Nodes that run before `index`, directly or not, as bits."""
    seen = 0
    waiting = [index]
    while waiting:
        new = needs[waiting.pop()] & ~seen
        seen |= new
        waiting += [i for i in range(new.bit_length()) if new >> i & 1]
    return seen


def peak_bytes(problem: Problem, nodes: tuple[int, ...]) -> int:
    """Most bytes live while the nodes run in this order, a node's inputs and outputs together."""
    done, live, peak = 0, problem.start, problem.start
    for node in nodes:
        peak = max(peak, live + _made(problem, node))
        live, done = _run(problem, node, done, live)
    return peak


def _made(problem: Problem, node: int) -> int:
    return sum(problem.bytes[b] for b in problem.makes[node])


def _run(problem: Problem, node: int, done: int, live: int) -> tuple[int, int]:
    """(live bytes, nodes done) after `node`."""
    done |= 1 << node
    live += _made(problem, node)
    for b in {*problem.reads[node], *problem.makes[node]}:
        if problem.readers[b] >= 0 and not problem.readers[b] & ~done:
            live -= problem.bytes[b]
    return live, done


def _width(count: int) -> int:
    """Sets kept of each size: all of them in graphs of up to 10 nodes, which never have more than 252."""
    return max(8, min(512, _WORK // (count * count or 1)))


@dataclass(frozen=True, slots=True)
class _Path:
    """The best way found to run a set of nodes: it ends with `node`, after the way `before`."""

    peak: int
    live: int
    node: int
    before: _Path | None


def _search(problem: Problem) -> tuple[int, ...]:
    """The order with the lowest peak over all sets kept; ties go to the order given."""
    count = len(problem.needs)
    front: dict[int, _Path] = {0: _Path(problem.start, problem.start, -1, None)}
    for _ in range(count):
        grown: dict[int, _Path] = {}
        for done, path in front.items():
            for node in range(count):
                if done >> node & 1 or problem.needs[node] & ~done:
                    continue
                peak = max(path.peak, path.live + _made(problem, node))
                live, now = _run(problem, node, done, path.live)
                if now not in grown or peak < grown[now].peak:
                    grown[now] = _Path(peak, live, node, path)
        kept = sorted(grown.items(), key=lambda item: (item[1].peak, item[1].live))
        front = dict(kept[: _width(count)])
    path = next(iter(front.values()))
    found = []
    while path.before is not None:
        found.append(path.node)
        path = path.before
    return tuple(reversed(found))
