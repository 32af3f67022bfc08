"""The part of a graph between the input of some layers and the output of the block that they belong to.

The block of q, k and v ends with the attention's output projection, that of gate and up with down: the first value
that every way from the layers runs through, and behind it the linear layer that reads it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgec import interp
from edgec.ir import OF_NUMPY, Array, Constant, Graph, Node, Program, Type, Value
from edgec.match import consumers, ends

MOVES: Final = ("reshape", "transpose", "slice")


@dataclass(frozen=True, slots=True)
class Block:
    """`nodes` compute `output` from `given`: the layers' input, and what else they read that is not constant."""

    nodes: tuple[Node, ...]
    given: tuple[str, ...]
    output: str


def block_of(graph: Graph, layers: Sequence[Node]) -> Block:
    """The block of `layers`, which share an input. A single layer is its own, unless it is several in one: a packed
    projection that is split, or in which attention reads q, k and v."""
    starts = tuple(layer.outputs[0].name for layer in layers)
    if len(layers) == 1:
        readers = consumers(graph).get(starts[0], [])
        if readers and readers[0].op == "split" and len(readers) == 1:
            starts = tuple(v.name for v in readers[0].outputs)
        elif readers and all(n is readers[0] for n in readers[1:]) and len(readers) > 1:
            return _between(graph, layers, _with_projection(graph, readers[0]))
        else:
            return _between(graph, layers, layers[0])
    last = _meeting(graph, starts)
    alone = layers[0] if len(layers) == 1 else None
    return _between(graph, layers, alone if last is None else _with_projection(graph, last))


def _meeting(graph: Graph, starts: Sequence[str]) -> Node | None:
    """The first node that all values lead to, and past which nothing else of theirs leads."""
    touched = {name: 1 << i for i, name in enumerate(starts)}
    if any(name in graph.outputs for name in touched):
        return None
    everyone = (1 << len(starts)) - 1
    open_until: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        open_until.update((ref, index) for ref in node.inputs)
    open_until.update((ref, len(graph.nodes)) for ref in graph.outputs)
    for index, node in enumerate(graph.nodes):
        mask = 0
        for ref in node.inputs:
            mask |= touched.get(ref, 0)
        if mask == everyone and all(open_until.get(ref, -1) <= index for ref in touched):
            return node
        if mask:
            touched.update((v.name, touched.get(v.name, 0) | mask) for v in node.outputs)
    return None


def _with_projection(graph: Graph, node: Node) -> Node:
    """The linear layer that alone reads what `node` makes, moved or not; `node` where none does."""
    readers, leaving, at = consumers(graph), set(ends(graph)), node
    while at.outputs[0].name not in leaving:
        ahead = readers.get(at.outputs[0].name, [])
        if len(ahead) != 1:
            break
        at = ahead[0]
        if at.op == "linear":
            return at
        if at.op not in MOVES:
            break
    return node


def _between(graph: Graph, layers: Sequence[Node], last: Node | None) -> Block:
    """The nodes from `layers` to `last`; the layers alone, one after the other, where there is no last."""
    names = {n.outputs[0].name for n in layers}
    touched = set(names)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.outputs[0].name in names or touched.intersection(node.inputs):
            nodes.append(node)
            touched.update(v.name for v in node.outputs)
        if last is not None and node is last:
            break
    if last is None:
        nodes = [n for n in nodes if n.outputs[0].name in names]
    made = {v.name for n in nodes for v in n.outputs}
    given = dict.fromkeys(r for n in nodes for r in n.inputs if r[0] != "@" and r not in made)
    return Block(tuple(nodes), tuple(given), "" if last is None else last.outputs[0].name)


def run_block(
    program: Program, block: Block, given: Mapping[str, Array], weights: Mapping[str, Constant]
) -> tuple[Array, ...]:
    """The block's output (all layers' outputs where it has none), with `weights` by constant name in the place of
    the program's."""
    types = {r: Type(given[r].shape, OF_NUMPY[given[r].dtype.name]) for r in block.given}
    inputs = tuple(Value(_plain(r), types[r]) for r in block.given)
    nodes = tuple(replace(n, inputs=tuple(_plain(r) for r in n.inputs)) for n in block.nodes)
    outputs = (block.output,) if block.output else tuple(n.outputs[0].name for n in block.nodes)
    graph = Graph("block", inputs, nodes, outputs)
    constants = dict(program.constants) | dict(weights)
    arrays = {_plain(r): a for r, a in given.items() if r in types}
    found, _ = interp.run(Program((graph,), constants, {}), graph, arrays)
    return tuple(found[r] for r in outputs)


def _plain(ref: str) -> str:
    """A state as an input of the block."""
    return "state." + ref[1:] if ref[0] == "$" else ref
