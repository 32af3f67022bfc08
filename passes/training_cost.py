"""training_cost: what a choice of trained parts adds in memory and in the backward pass, before anything is planned.

Memory as Lin et al. count it (On-Device Training Under 256KB Memory, NeurIPS 2022; their labels of schemes are these
sums): a trained bias holds its copy and, for each output element, what tells whether its clamp lets a gradient pass; a
trained slice holds its copy and its input channels. The head, float and always trained, holds its input.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgec.errors import UserError
from edgec.ir import Graph, Node, Program, Type
from edgec.ops import OPS
from edgec.passes.trainables import CONVOLUTIONS, SLICED, is_depthwise, layers_of
from edgec.training.options import Scheme, WeightSlice
from edgec.tune.evolution import Choice

INSTRUCTIONS_PER_MAC: Final = 4  # of the backward pass: an estimate, `edgec bench` counts


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What training a layer costs. `before`: bit i is set where layer i feeds this one. `layer` or `conv` is its name
    in a scheme; neither where no scheme can name it alone. `sliced`: also a part of its channels can train."""

    title: str
    layer: str | None
    conv: int | None
    sliced: bool
    bias_bytes: int
    clamp_bytes: int
    channels: int
    channel_bytes: int  # of the saved input, for each channel that trains
    weight_bytes: int  # of all channels
    macs: int
    before: int

    @property
    def named(self) -> bool:
        """Whether a scheme can name it."""
        return self.layer is not None or self.conv is not None

    def trained_channels(self, ratio: float) -> int:
        """Channels of the slice."""
        return min(self.channels, max(1, math.floor(ratio * self.channels)))

    def slice_bytes(self, ratio: float) -> int:
        """Of the slice's copy and of its saved input."""
        k = self.trained_channels(ratio)
        return k * self.channel_bytes + self.weight_bytes * k // self.channels


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Costs of a graph's layers in order, the head last."""

    layers: tuple[LayerCost, ...]
    head_bytes: int

    @property
    def body(self) -> tuple[LayerCost, ...]:
        """All but the head."""
        return self.layers[:-1]

    def extra_bytes(self, choice: Choice) -> int:
        """Memory beside inference's."""
        count = len(self.body)
        trained = {*range(count - choice.biases, count), *(number for number, _ in choice.slices)}
        biases: int = sum(self.layers[i].bias_bytes + self.layers[i].clamp_bytes for i in trained)
        slices: int = sum(self.layers[i].slice_bytes(r) for i, r in choice.slices)
        return self.head_bytes + biases + slices

    def macs(self, choice: Choice) -> int:
        """Multiply-accumulates of the backward pass: gradients of inputs from the loss down to the first layer that
        trains, and those of the slices."""
        count = len(self.body)
        trained = 0
        for i in (*range(count - choice.biases, count), *(number for number, _ in choice.slices)):
            trained |= 1 << i
        inputs: int = sum(layer.macs for layer in self.layers if layer.before & trained)
        slices = (
            self.layers[i].macs * self.layers[i].trained_channels(r) // self.layers[i].channels
            for i, r in choice.slices
        )
        return inputs + sum(slices) + self.layers[-1].macs

    def instructions(self, choice: Choice) -> int:
        """An estimate of the backward pass."""
        return INSTRUCTIONS_PER_MAC * self.macs(choice)

    def scheme(self, choice: Choice) -> Scheme:
        """The choice as a scheme file holds it."""
        rows = (WeightSlice(self.layers[i].layer, self.layers[i].conv, ratio) for i, ratio in choice.slices)
        return Scheme(choice.biases, tuple(rows))

    def numbers(self, titles: Sequence[str]) -> tuple[int, ...]:
        """Numbers of the layers with these names, ascending. Raises UserError EDGEC-E274 for others."""
        known = {layer.title: i for i, layer in enumerate(self.body) if layer.named}
        for title in titles:
            if title not in known:
                near = difflib.get_close_matches(title, known, n=3, cutoff=0.3) or list(known)[:3]
                raise UserError(
                    "EDGEC-E274",
                    f"name a layer before the head for --layer, such as {', '.join(near)}: {title!r} is none whose "
                    "weights could train",
                )
        return tuple(sorted({known[title] for title in titles}))


def training_cost(program: Program, graph: Graph) -> TrainingCost:
    """Of every layer. Raises UserError EDGEC-E248 where there is none."""
    layers = layers_of(graph)
    if not layers:
        raise UserError(
            "EDGEC-E248", "choose another model: it has no convolution or linear layer that could learn"
        )
    types = program.type_of(graph)
    before = _before(graph, layers)
    titles = Counter(n.loc.layer for n in layers)
    convolutions = [n for n in layers if n.op in CONVOLUTIONS]
    found = []
    for node in layers:
        alone = titles[node.loc.layer] == 1 and bool(node.loc.layer)
        conv = convolutions.index(node) if node.op in CONVOLUTIONS and not alone else None
        title = node.loc.layer if alone else f"conv {conv}" if conv is not None else str(node.loc)
        x, w, y = types[node.inputs[0]], types[node.inputs[1]], node.outputs[0].type
        axis = 0 if is_depthwise(program, graph, node) else len(w.shape) - 1
        found.append(
            LayerCost(
                title,
                node.loc.layer if alone else None,
                conv,
                node.op in SLICED,
                types[node.inputs[2]].bytes if len(node.inputs) > 2 else 0,
                _clamp_bytes(node, y),
                w.dims[axis],
                x.bytes // x.dims[-1],
                w.bytes,
                OPS[node.op].cost(node.attrs, tuple(types[r] for r in node.inputs), (y,)).macs,
                before[node.outputs[0].name],
            )
        )
    x = types[layers[-1].inputs[0]]
    return TrainingCost(tuple(found), x.bytes)


def _clamp_bytes(node: Node, y: Type) -> int:
    """A bit for each output element of an integer layer; the output itself where a float one has a clamp."""
    if y.quant is not None:
        return -(-y.size // 8)
    return y.bytes if getattr(node.attrs, "act", None) is not None else 0


def _before(graph: Graph, layers: Sequence[Node]) -> dict[str, int]:
    """By value: bit i is set where layer i feeds the node that makes it."""
    bits = {node.outputs[0].name: 1 << i for i, node in enumerate(layers)}
    feeding: dict[str, int] = {}
    reach: dict[str, int] = {}
    for node in graph.nodes:
        mask = 0
        for ref in node.inputs:
            mask |= reach.get(ref, 0)
        for value in node.outputs:
            feeding[value.name] = mask
            reach[value.name] = mask | bits.get(value.name, 0)
    return feeding
