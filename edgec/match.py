"""Rewriting one node at a time: what graph passes share. No pattern language; a visitor looks at a node and
its makers and says what stands in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgec.build import Builder
from edgec.ir import Array, Constant, Graph, Node, Port, Program, Type, uses

T = TypeVar("T")


@dataclass(slots=True)
class Rewrite:
    """The graph as far as it is rewritten. `makers`: the new node that makes each value; `counts`: how often a
    value is read (an upper bound for values that replace others); `ends`: values of the old graph that leave it;
    `memo`: the visitor's own notes on this graph."""

    builder: Builder
    ends: frozenset[str] = frozenset()
    makers: dict[str, Node] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    memo: dict[object, tuple[str, ...]] = field(default_factory=dict)

    def maker(self, ref: str, *ops: str) -> Node | None:
        """The node that makes `ref` if it is one of `ops` (any op where none are given)."""
        node = self.makers.get(ref)
        return node if node is not None and (not ops or node.op in ops) else None

    def sole(self, ref: str, *ops: str) -> Node | None:
        """`maker`, if nothing else reads `ref`."""
        return self.maker(ref, *ops) if self.counts[ref] <= 1 else None

    def type(self, ref: str) -> Type:
        return self.builder.types[ref]

    def data(self, ref: str) -> Array | None:
        """Content of a constant, None where `ref` is computed or is a state."""
        return self.builder.constants[ref[1:]].data if ref[0] == "@" else None

    def remake(self, node: Node, name: str | None = None, **changes: object) -> str:
        """Append `node` with changed inputs or attrs (given as keyword arguments of Node); its first
        output."""
        new = replace(node, **changes)  # type: ignore[arg-type]
        quants = [v.type.quant for v in node.outputs]
        name = name or node.outputs[0].name
        out = self.builder.node(new.op, new.inputs, new.attrs, name=name, loc=new.loc, quants=quants)
        return out[0]


# (the rewrite so far, a node whose inputs are renamed already) -> what replaces its outputs, or None to
# keep it.
Visit = Callable[[Rewrite, Node], tuple[str, ...] | None]


def rewrite(program: Program, visit: Visit) -> Program:
    """Every graph with each node kept or replaced as `visit` says, in order. Replacements have the same
    types.

    Nodes that nothing reads any more remain; `passes.dead` removes them. The same object where nothing
    changed.
    """
    constants: Mapping[str, Constant] = program.constants
    graphs = []
    for graph in program.graphs:
        new, constants = _rewrite(program, graph, constants, visit)
        graphs.append(new)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return Program(tuple(graphs), constants, program.state)


def _rewrite(
    program: Program, graph: Graph, constants: Mapping[str, Constant], visit: Visit
) -> tuple[Graph, Mapping[str, Constant]]:
    builder = Builder(graph.name, constants, program.state)
    builder.types.update(program.type_of(graph))  # names of later nodes are taken
    at = Rewrite(builder, frozenset(ends(graph)), counts=Counter(uses(graph)))
    fixed = bound_names(graph)
    renamed: dict[str, str] = {}
    changed = False
    for node in graph.nodes:
        inputs = tuple(renamed.get(r, r) for r in node.inputs)
        now = node if inputs == node.inputs else replace(node, inputs=inputs)
        before = len(builder.nodes)
        builder.loc = node.loc
        for value in node.outputs:
            del builder.types[value.name]  # what replaces the node may take its name
        outputs = None if any(v.name in fixed for v in node.outputs) else visit(at, now)
        made = {v.name for n in builder.nodes[before:] for v in n.outputs}
        if outputs is None or _merges_ends(at, node, outputs, made):
            del builder.nodes[before:]
            builder.copy(now, {})
        else:
            changed = True
            for value, ref in zip(node.outputs, outputs, strict=True):
                assert builder.types[ref] == value.type, (node, builder.types[ref], value.type)
                renamed[value.name] = ref
                if ref != value.name:
                    at.counts[ref] += at.counts[value.name]
        for new in builder.nodes[before:]:
            at.makers.update((v.name, new) for v in new.outputs)
    if not changed:
        return graph, constants
    return rename_ends(replace(graph, nodes=tuple(builder.nodes)), renamed), builder.constants


def _merges_ends(at: Rewrite, node: Node, outputs: tuple[str, ...], made: set[str]) -> bool:
    """Whether an output of the graph would become an input, a constant, or the same value as another
    output."""
    for value, ref in zip(node.outputs, outputs, strict=True):
        if value.name in at.ends and ref not in made and (ref in at.ends or ref not in at.makers):
            return True
    return False


def rename_ends(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    """Outputs, updates and output ports under their new names."""
    return replace(
        graph,
        outputs=tuple(renamed.get(r, r) for r in graph.outputs),
        updates=tuple((s, renamed.get(r, r)) for s, r in graph.updates),
        output_ports=tuple(Port(renamed.get(p.ref, p.ref), p.label, p.axes) for p in graph.output_ports),
    )


def bound_names(graph: Graph) -> frozenset[str]:
    """Values that hold the size of a Bound; their names stand in types, so no pass renames them."""
    types = [v.type for v in graph.inputs] + [v.type for n in graph.nodes for v in n.outputs]
    return frozenset(b.name for t in types for b in t.bounds)


def consumers(graph: Graph) -> dict[str, list[Node]]:
    """Nodes that read each reference, in order; a node that reads it twice stands there twice."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for ref in node.inputs:
            found.setdefault(ref, []).append(node)
    return found


def attr(node: Node, name: str, kind: type[T]) -> T:
    """The attribute `name` of a node whose op has it; `kind` is its type."""
    value = getattr(node.attrs, name)
    assert isinstance(value, kind), f"{node.op}.{name} is {value!r}"
    return value


def ends(graph: Graph) -> Iterator[str]:
    """References that leave the graph: outputs and updates."""
    yield from graph.outputs
    yield from (ref for _, ref in graph.updates)


def per_channel_values(data: Array, shape: tuple[int, ...], channels: int) -> npt.NDArray[np.float64] | None:
    """`data` as [channels] where it broadcasts to `shape` along the last axis only, else None."""
    rank_too_large = data.ndim > len(shape)
    if rank_too_large or data.size not in (1, channels) or (data.size > 1 and data.shape[-1] != channels):
        return None
    return np.broadcast_to(np.asarray(data, np.float64).reshape(-1), (channels,)).copy()
