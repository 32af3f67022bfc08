"""bisect: the first pass after which the network's outputs leave the float model's, then the first node inside it.

The reference is the imported Program. Passes keep the names of the values that they keep, so values are compared by
name; int8 values are dequantised first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgec import compiler, interp, samples
from edgec.fixedpoint import dequantize_array
from edgec.ir import Array, Node, Program


@dataclass(frozen=True, slots=True)
class Found:
    """Where numbers leave: `step` and `node` are "" where none do. `distance` is relative to the largest magnitude."""

    step: str
    node: str
    op: str
    where: str
    distance: float
    steps: tuple[tuple[str, float], ...]

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "steps": [{"step": s, "distance": d} for s, d in self.steps]}

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{name:<12} {distance:.3g}" for name, distance in self.steps]
        if not self.step:
            return "\n".join([*lines, "every pass stays within the tolerance"])
        lines.append(f"numbers leave after {self.step}")
        if self.node:
            lines.append(f"first at {self.op} %{self.node}, {self.where}: {self.distance:.3g}")
        return "\n".join(lines)


def bisect(request: compiler.Request, inputs: dict[str, Array] | None, tolerance: float) -> Found:
    """Run every stage on the first sample and compare with the import."""
    done = compiler.transform(request)
    arrays = inputs if inputs is not None else done.arrays
    trace = done.trace
    _, reference = trace.after[0]
    outputs, _ = _run(reference, arrays)
    steps: list[tuple[str, float]] = []
    previous = reference
    for name, program in trace.after[1:]:
        current, _ = _run(program, arrays)
        distance = max(_distance(a, b) for a, b in zip(outputs, current, strict=True))
        steps.append((name, distance))
        if distance > tolerance:
            node, worst = _first_node(previous, program, arrays, tolerance)
            if node is None:
                return Found(name, "", "", "", distance, tuple(steps))
            return Found(name, node.outputs[0].name, node.op, str(node.loc), worst, tuple(steps))
        previous = program
    return Found("", "", "", "", 0.0, tuple(steps))


def _run(program: Program, arrays: Any) -> tuple[list[Array], dict[str, Array]]:
    """(outputs in the user's layout and in float, every float value by name)."""
    graph = program.graphs[0]
    types = program.type_of(graph)
    given = samples.to_device(arrays, graph.input_ports, types, "the input")[0]
    values: dict[str, Array] = {}

    def keep(node: Node, results: tuple[Array, ...]) -> None:
        for value, y in zip(node.outputs, results, strict=True):
            values[value.name] = dequantize_array(y, value.type.quant) if value.type.quant is not None else y

    found, _ = interp.run(program, graph, given, observe=keep)
    outputs = [samples.value_to_user(found[p.ref], p, types[p.ref], raw=False) for p in graph.output_ports]
    return outputs, values


def _first_node(before: Program, after: Program, arrays: Any, tolerance: float) -> tuple[Node | None, float]:
    _, old = _run(before, arrays)
    _, new = _run(after, arrays)
    for node in after.graphs[0].nodes:
        for value in node.outputs:
            a, b = old.get(value.name), new[value.name]
            if a is not None and a.shape == b.shape and (worst := _distance(a, b)) > tolerance:
                return node, worst
    return None, 0.0


def _distance(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.max(np.abs(x - y), initial=0.0) / max(1e-12, float(np.max(np.abs(x), initial=0.0))))
