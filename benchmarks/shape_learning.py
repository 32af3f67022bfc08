"""Learning runs on the ten shapes, in compiled C, the frozen front computed once an image.

The schedule: 2 epochs of 2,000 images, one image a step, 1,000 others tested; the rate falls along a cosine after 100
steps of warming up. Ablations, which are no options of the product, change the graph or an op: `skip` drops the
gradient that passes a residual addition beside its block, `truncate` rounds new weights towards 0 as a C cast does (by
the interpreter, which is the same integers, slower).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import shapes
from host_model import HostModel

from edgec import interp
from edgec.ir import Array, Graph, Node, Port, Program, Value
from edgec.ops import train_conv
from edgec.ops.gradient import GradientSumAttrs
from edgec.training.options import CORRECT, EVALUATE, LABEL, LEARNING_RATE, TRAIN_STEP

TRAIN_IMAGES, TEST_IMAGES, EPOCHS, WARM_UP = 2000, 1000, 2, 100
STEP: Final = "step"
CHECK: Final = "check"
Ablation = Literal["none", "skip", "truncate"]
Features = list[dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Split:
    """A Program that learns, cut where state comes in: `front` makes of an image what `step` and `check` of `rest`
    read."""

    front: Program
    rest: Program


def split(program: Program) -> Split:
    """Cut off the nodes that no state and no label feeds."""
    step, evaluate = program.graph(TRAIN_STEP), program.graph(EVALUATE)
    frozen = _frozen(step)
    made = {v.name for n in frozen for v in n.outputs}
    needed = _read(step, made) | _read(evaluate, made)
    order = tuple(v for n in frozen for v in n.outputs if v.name in needed)
    image = step.inputs[0]
    ports = tuple(_port(v) for v in order)
    front = Graph("infer", (image,), frozen, tuple(v.name for v in order), (), (_port(image),), ports)
    rest = (replace(_rest(step, made, order), name=STEP), replace(_rest(evaluate, made, order), name=CHECK))
    return Split(Program((front,), program.constants, {}), replace(program, graphs=rest))


def _port(value: Value) -> Port:
    return Port(value.name, value.name, tuple(range(len(value.type.shape))))


def _frozen(graph: Graph) -> tuple[Node, ...]:
    """Nodes that only the image and constants feed."""
    known = {graph.inputs[0].name}
    found = []
    for node in graph.nodes:
        if all(r[0] == "@" or r in known for r in node.inputs):
            found.append(node)
            known.update(v.name for v in node.outputs)
    return tuple(found)


def _read(graph: Graph, made: set[str]) -> set[str]:
    rest = [n for n in graph.nodes if n.outputs[0].name not in made]
    return {r for n in rest for r in n.inputs if r in made}


def _rest(graph: Graph, made: set[str], order: Iterable[Value]) -> Graph:
    nodes = tuple(n for n in graph.nodes if n.outputs[0].name not in made)
    inputs = (*order, *(v for v in graph.inputs if v.name == LABEL))
    return replace(graph, nodes=nodes, inputs=inputs, input_ports=tuple(_port(v) for v in inputs))


def without_skips(program: Program) -> Program:
    """The Program with every sum of two gradients replaced by the one that came through the block."""
    graphs = []
    for graph in program.graphs:
        nodes: list[Node] = []
        for node in graph.nodes:
            attrs = node.attrs
            if isinstance(attrs, GradientSumAttrs) and len(attrs.factors) == 2:
                pair = len(node.outputs)
                attrs = GradientSumAttrs(attrs.factors[1:], attrs.masked[1:])
                inputs = node.inputs[pair + attrs_of(node).masked[0] :]
                node = replace(node, inputs=inputs, attrs=attrs)
            nodes.append(node)
        graphs.append(replace(graph, nodes=tuple(nodes)))
    return replace(program, graphs=tuple(graphs))


def attrs_of(node: Node) -> GradientSumAttrs:
    assert isinstance(node.attrs, GradientSumAttrs)
    return node.attrs


class Interpreted:
    """The same calls as HostModel's, by the interpreter."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.state: dict[str, Array] = {}

    def write(self, buffer: str, content: Array) -> None:
        self.state[buffer.removeprefix("state.")] = content

    def call(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        graph = self.program.graph(entry)
        outputs, self.state = interp.run(self.program, graph, inputs, self.state)
        return {p.label: outputs[p.ref] for p in graph.output_ports}


@contextmanager
def truncation() -> Any:
    """While it lasts, new weights and biases are their real value rounded towards 0."""
    kept = train_conv.update_weight, train_conv.update_bias
    exact = train_conv.integer_step

    def shortened(gradient: Any, rate: Any, u: Any, limit: float = 2.0**31, pull: Any = None) -> Any:
        # floor of a negative number, ceil of a positive one: what a cast of w - d does depends on the sign of w,
        # which the step does not know; `_old` holds it.
        assert pull is None  # the schemes are learnt without weight decay
        step = -(gradient.astype(rate.dtype) * rate)
        return np.clip(np.trunc(_old[0] + step.astype(np.float64)) - _old[0], -limit, limit).astype(np.int64)

    def keeping(update: Any) -> Any:
        def run(attrs: Any, inputs: Any) -> Any:
            _old[0] = inputs[0].astype(np.float64)
            return update(attrs, inputs)

        return run

    from edgec.ops import OPS

    ops = {n: OPS[n] for n in ("train_conv2d_weight", "train_conv2d_bias")}
    train_conv.integer_step = shortened
    for (name, op), update in zip(ops.items(), kept, strict=True):
        OPS[name] = replace(op, ref=keeping(update))
    try:
        yield
    finally:
        train_conv.integer_step = exact
        OPS.update(ops)


_old: list[Any] = [0.0]


def features(front: Program, images: Array, folder: Path) -> Features:
    """What the rest reads, image by image."""
    model = HostModel(front, folder)
    name = front.graphs[0].inputs[0].name
    return [model.call("infer", {name: image[None]}) for image in images]


def rate_at(step: int, steps: int, rate: float) -> float:
    """Linear to `rate` over WARM_UP steps, then a cosine to 0."""
    if step < WARM_UP:
        return rate * (step + 1) / WARM_UP
    return rate * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


@dataclass(frozen=True, slots=True)
class Task:
    """Features and labels of the training and the test images."""

    train: Features
    train_labels: Array
    test: Features
    test_labels: Array


def task(front: Program, seed: int, folder: Path) -> Task:
    """The task of a seed; its test images are of another."""
    images, labels = shapes.dataset(TRAIN_IMAGES, 2 * seed)
    others, answers = shapes.dataset(TEST_IMAGES, 2 * seed + 1)
    return Task(features(front, images, folder), labels, features(front, others, folder), answers)


def run(model: HostModel | Interpreted, given: Task, rate: float, seed: int, epochs: int = EPOCHS) -> float:
    """Percent of the test images that are told right after the training."""
    rng = np.random.default_rng(seed)
    count = len(given.train)
    steps, step = count * epochs, 0
    for _ in range(epochs):
        for index in rng.permutation(count):
            model.write(f"state.{LEARNING_RATE}", np.array([rate_at(step, steps, rate)], np.float32))
            model.call(STEP, {**given.train[index], LABEL: given.train_labels[index : index + 1]})
            step += 1
    right = 0
    for index, inputs in enumerate(given.test):
        outputs = model.call(CHECK, {**inputs, LABEL: given.test_labels[index : index + 1]})
        right += int(outputs[CORRECT][0])
    return 100.0 * right / len(given.test)


def learn(program: Program, seed: int, rate: float, ablation: Ablation = "none") -> float:
    """Percent of the test images that a Program with train_step and evaluate tells right after learning."""
    parts = split(program)
    rest = without_skips(parts.rest) if ablation == "skip" else parts.rest
    with tempfile.TemporaryDirectory() as folder:
        given = task(parts.front, seed, Path(folder) / "front")
        if ablation == "truncate":
            with truncation():
                return run(Interpreted(rest), given, rate, seed)
        return run(HostModel(rest, Path(folder) / "rest"), given, rate, seed)
