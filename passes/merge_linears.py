"""Linear layers of one input become one: the projections of q, k and v, and the two of a gated MLP.

Decoding reads each weight once for one token, so it wants few large products. Only in Programs with cached attention
(which reads q, k and v inside the one projection); elsewhere the cut of the result would cost more than it saves, but
for projections that lead to nothing but one attention: `merge_projections`, where kernels read its operands in place.
The weights are concatenated when they are read, so that no more than one layer's are in memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edgec.ir import Constant, Graph, Loc, Node, Program, Value
from edgec.lazy import joined
from edgec.match import consumers
from edgec.ops.linear import LinearAttrs
from edgec.ops.slicing import SplitAttrs

MAX_PARTS: Final = 4  # outputs that a split has


def merge_linears(program: Program) -> Program:
    """`program` with linear layers merged. Same object where there are none to merge."""
    constants = dict(program.constants)
    graphs = tuple(_merged(program, graph, constants) for graph in program.graphs)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return Program(graphs, constants, program.state)  # dead weights go with the next pass


def merge_projections(program: Program) -> Program:
    """`program` with the projections of each attention merged. Same object where there are none to merge."""
    constants = dict(program.constants)
    graphs = tuple(_with_groups(program, g, constants, _attended(program, g)) for g in program.graphs)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return Program(graphs, constants, program.state)


def _attended(program: Program, graph: Graph) -> list[tuple[Node, ...]]:
    """Groups whose members lead, through movements, to nothing but one attention."""
    readers = consumers(graph)
    ends = set(graph.outputs) | {ref for _, ref in graph.updates}

    def reader(node: Node) -> Node | None:
        while True:
            (name,) = (v.name for v in node.outputs)
            found = readers.get(name, [])
            if len(found) != 1 or name in ends:
                return None
            node = found[0]
            if node.op not in ("reshape", "transpose"):
                return node if node.op == "attention" else None

    groups = []
    for group in _groups(program, graph):
        of = {id(reader(node)) for node in group}
        if len(of) == 1 and reader(group[0]) is not None:
            groups.append(group)
    return groups


def _merged(program: Program, graph: Graph, constants: dict[str, Constant]) -> Graph:
    if not any(node.op == "cached_attention" for node in graph.nodes):
        return graph
    return _with_groups(program, graph, constants, _groups(program, graph))


def _with_groups(
    program: Program, graph: Graph, constants: dict[str, Constant], groups: list[tuple[Node, ...]]
) -> Graph:
    if not groups:
        return graph
    first = {group[0].outputs[0].name: group for group in groups}
    gone = {node.outputs[0].name for group in groups for node in group}
    taken = set(program.type_of(graph)) | set(constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.outputs[0].name in first:
            nodes += _one(program, first[node.outputs[0].name], constants, taken)
        elif node.outputs[0].name not in gone:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _groups(program: Program, graph: Graph) -> list[tuple[Node, ...]]:
    """Linear layers of one block with constant weights, without a clamp, that read one value and agree on having a
    bias."""
    known = program.type_of(graph)
    groups = []
    for ref, readers in consumers(graph).items():
        linears = [n for n in readers if n.op == "linear" and n.inputs[0] == ref and _may_merge(program, n)]
        for group in _alike(linears):
            plain = all(known[n.inputs[0]].quant is None for n in group)
            if 2 <= len(group) <= MAX_PARTS and plain:
                groups.append(group)
    return groups


def _may_merge(program: Program, node: Node) -> bool:
    assert isinstance(node.attrs, LinearAttrs)
    own = node.attrs.act is None and all(r[0] == "@" for r in node.inputs[1:])
    return own and program.constants[node.inputs[1][1:]].type.quant is None


def _alike(linears: list[Node]) -> list[tuple[Node, ...]]:
    """By their block, attention and MLP say, and by whether they have a bias."""
    groups: dict[tuple[str, int], list[Node]] = {}
    for node in linears:
        groups.setdefault((node.loc.layer.rpartition(".")[0], len(node.inputs)), []).append(node)
    return [tuple(group) for group in groups.values()]


def _one(
    program: Program, group: tuple[Node, ...], constants: dict[str, Constant], taken: set[str]
) -> tuple[Node, Node]:
    """The merged layer and the split of its result."""
    refs = [node.inputs[1:] for node in group]
    weights = []
    for position in range(len(refs[0])):
        names = [r[position][1:] for r in refs]
        name = merged_name(names)
        constants[name] = joined([program.constants[n] for n in names])
        weights.append("@" + name)
    types = [node.outputs[0].type for node in group]
    sizes = tuple(t.dims[-1] for t in types)
    whole = replace(types[0], shape=(*types[0].shape[:-1], sum(sizes)))
    value = Value(_free(group[0].outputs[0].name + ".merged", taken), whole)
    loc = _loc([node.loc for node in group])
    inputs = (group[0].inputs[0], *weights)
    linear = replace(group[0], inputs=inputs, outputs=(value,), loc=loc)
    outputs = tuple(node.outputs[0] for node in group)
    return linear, Node("split", (value.name,), outputs, SplitAttrs(len(whole.shape) - 1, sizes), loc)


def merged_name(names: list[str]) -> str:
    """`layers.0.q_k_v.weight` of layers.0.q.weight, layers.0.k.weight, layers.0.v.weight."""
    parts = [name.split(".") for name in names]
    same = len({len(p) for p in parts}) == 1
    pieces = zip(*parts, strict=True) if same else (tuple(names),)
    return ".".join(p[0] if len(set(p)) == 1 else "_".join(p) for p in pieces)


def _loc(locs: list[Loc]) -> Loc:
    return replace(locs[0], layer=merged_name([loc.layer for loc in locs]))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
