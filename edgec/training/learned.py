"""What generated code and tools know of a network that learns: classes, accumulated steps, and two hashes.

The graph's hash is that of the network and its factory weights, whatever trains of it; the layout's is that of which
parameters train, in which order, shape and format. Saved bytes belong where both are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edgec.build import constant
from edgec.ir import Constant, DType, Persistence, Program
from edgec.text import show_type
from edgec.training.options import EVALUATE, TRAIN_STEP, TrainSpec

_ADDED: Final = (".slice", ".down", ".up")  # states beside the constants of the network


@dataclass(frozen=True, slots=True)
class Learned:
    """`classes`: labels are 0 to classes - 1; 0 where they are other values. `accumulate`: steps that make one
    update. Hashes are in hexadecimal."""

    classes: int
    accumulate: int
    graph_hash: str
    layout_hash: str


def learned_of(program: Program, spec: TrainSpec) -> Learned | None:
    """Of a program that `passes.train` made; None for others."""
    if all(graph.name != TRAIN_STEP for graph in program.graphs):
        return None
    return Learned(_classes(program), spec.accumulate, _graph_hash(program), _layout_hash(program))


def _classes(program: Program) -> int:
    graph = program.graph(EVALUATE)
    types = program.type_of(graph)
    counted = [types[n.inputs[0]].dims[1] for n in graph.nodes if n.op == "cross_entropy"]
    return counted[0] if counted else 0


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _graph_hash(program: Program) -> str:
    """Of the inputs and outputs of the network and of all its weights, in whatever order. Indices of slices are no
    weights, nor are single numbers, nor integer biases of zeros, which layers without one have where they learn."""
    graph = program.graph("infer")
    types = program.type_of(graph)
    read = {r for n in graph.nodes for r in n.inputs}
    linear = {n.inputs[1] for n in graph.nodes if n.op == "linear"}
    held = [c for n, c in program.constants.items() if "@" + n in read and _is_weight(n, program)]
    held += [s.initial for n, s in program.state.items() if "$" + n in read and not n.endswith(_ADDED)]
    rows = [program.constants[ref[1:]] for ref in linear if ref[0] == "@"]
    weights = {(_as_rows(c) if c in rows else c).digest for c in held if not _no_bias(c)}
    ports = [show_type(types[ref]) for ref in (*(v.name for v in graph.inputs), *graph.outputs)]
    return _digest([*ports, *sorted(weights)])


def _as_rows(weight: Constant) -> Constant:
    """The weight of an int8 linear layer as it is where it learns: that of a 1x1 convolution."""
    if weight.type.dtype is not DType.I8:
        return weight
    outputs, channels = weight.type.dims
    return constant(weight.data.reshape(outputs, 1, 1, channels))


def _no_bias(content: Constant) -> bool:
    return content.type.dtype is DType.I32 and content.type.quant is not None and not content.data.any()


def _is_weight(name: str, program: Program) -> bool:
    t = program.constants[name].type
    index = t.dtype is DType.I32 and ".trained" in name and t.quant is None
    return t.size > 1 and not index


def _layout_hash(program: Program) -> str:
    """Of name and type of each state that is saved, and of the channels of slices."""
    rows = []
    for name, state in program.state.items():
        if state.persistence is Persistence.SAVED:
            channels = program.constants.get(f"{name.removesuffix('.slice')}.trained")
            at = channels.digest if channels is not None and name.endswith(".slice") else ""
            rows.append(f"{name} {show_type(state.type)} {at}")
    return _digest(rows)
