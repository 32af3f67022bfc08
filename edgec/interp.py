"""The interpreter: runs a Graph node by node in numpy. It is the oracle that every backend equals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgec.ir import Array, Bound, Graph, Node, Program
from edgec.ops import OPS
from edgec.ops import define as ops

Observe = Callable[[Node, tuple[Array, ...]], None]


def run(
    program: Program,
    graph: Graph,
    inputs: Mapping[str, Array],
    state: Mapping[str, Array] | None = None,
    observe: Observe | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """(outputs by reference, state after the call).

    `inputs`: arrays by value name, in the graph's own layout and dtypes. `state`: content by name without
    `$`, the
    initial content where absent. `observe` is called after each node. Values are dropped after their last
    use.
    Where a shape has Bounds, arrays have their true size.
    """
    types = program.type_of(graph)
    values: dict[str, Array] = {}
    before = {n: s.initial.data for n, s in program.state.items()} | dict(state or {})
    for value in graph.inputs:
        array = np.asarray(inputs[value.name], value.type.dtype.numpy)
        expected = tuple(None if isinstance(d, Bound) else d for d in value.type.shape)
        if len(expected) != array.ndim or any(
            e is not None and e != a for e, a in zip(expected, array.shape, strict=True)
        ):
            raise ValueError(
                f"input {value.name} has shape {list(array.shape)}, the graph takes {list(value.type.dims)}"
            )
        values[value.name] = array
    last = last_uses(graph)
    for index, node in enumerate(graph.nodes):
        arguments = tuple(_read(ref, program, values, before) for ref in node.inputs)
        in_types = tuple(types[ref] for ref in node.inputs)
        out_types = tuple(v.type for v in node.outputs)
        results = ops.run(OPS[node.op], node.attrs, in_types, arguments, out_types)
        if observe is not None:
            observe(node, results)
        values.update((v.name, y) for v, y in zip(node.outputs, results, strict=True))
        for ref in (*node.inputs, *(v.name for v in node.outputs)):
            if last.get(ref, index) <= index:
                values.pop(ref, None)
    outputs = {ref: _read(ref, program, values, before) for ref in graph.outputs}
    after = before | {name: _read(ref, program, values, before) for name, ref in graph.updates}
    return outputs, after


def last_uses(graph: Graph) -> dict[str, int]:
    """Index of the last node that reads each value; outputs and updates count as read after the last node."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update((ref, index) for ref in node.inputs)
    end = len(graph.nodes)
    last.update((ref, end) for ref in graph.outputs)
    last.update((ref, end) for _, ref in graph.updates)
    return last


def _read(ref: str, program: Program, values: Mapping[str, Array], state: Mapping[str, Array]) -> Array:
    if ref[0] == "@":
        return program.constants[ref[1:]].data
    return state[ref[1:]] if ref[0] == "$" else values[ref]
