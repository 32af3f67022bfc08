"""Which parameters train: from a TrainSpec and a graph to a list of operands, whole or in slices.

A layer is a node with a constant weight: a convolution or a linear layer; the head is the last of them. Vectors
that are equal in several layers (gains of 1) are told apart here; equal matrices count as one tied weight.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.errors import UserError
from edgec.fixedpoint import dequantize_array
from edgec.ir import Array, Graph, Node, Program
from edgec.training.options import Criterion, Scheme, TrainSpec, WeightSlice

LAYERS: Final = ("conv2d", "conv1d", "conv_transpose2d", "linear")
CONVOLUTIONS: Final = ("conv2d", "conv1d", "conv_transpose2d")
SLICED: Final = ("conv2d", "linear")  # layers of which a slice can train
# Operands that are parameters, by op; those of LAYERS are weight and bias.
PARAMETERS: Final[dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(LAYERS, (1, 2)),
    "layer_norm": (1, 2),
    "group_norm": (1, 2),
    "rms_norm": (1,),
    "prelu": (1,),
    "embedding": (0,),
}


@dataclass(frozen=True, slots=True)
class Trainable:
    """Operand `position` of the node that makes `value`. `channels`: of its weight's last axis (of a depthwise
    convolution: of its first) those that train, ascending; None where all do."""

    value: str
    position: int
    channels: tuple[int, ...] | None = None


def layers_of(graph: Graph) -> list[Node]:
    """The layers of a graph in order."""
    return [n for n in graph.nodes if n.op in LAYERS and n.inputs[1][0] == "@"]


def is_depthwise(program: Program, graph: Graph, node: Node) -> bool:
    """Whether the convolution makes one output channel of each input channel."""
    types = program.type_of(graph)
    groups = getattr(node.attrs, "groups", 1)
    return groups > 1 and groups == types[node.inputs[0]].dims[-1] == types[node.inputs[1]].dims[0]


def trainables(program: Program, graph: Graph, spec: TrainSpec) -> tuple[Trainable, ...]:
    """What trains by `spec` (in any mode but none and lora), in the order of the nodes. Raises UserError EDGEC-E248
    where there is no layer, E249 where a scheme does not fit the model."""
    layers = layers_of(graph)
    if not layers:
        raise UserError(
            "EDGEC-E248",
            "compile without --train: the model has no convolution or linear layer that could learn",
        )
    body, head = layers[:-1], layers[-1]
    chosen: dict[tuple[str, int], Trainable] = {}

    def add(node: Node, positions: Iterable[int], channels: tuple[int, ...] | None = None) -> None:
        for position in positions:
            if position < len(node.inputs) and node.inputs[position][0] == "@":
                part = channels if position == 1 else None
                key = node.outputs[0].name, position
                chosen[key] = Trainable(*key, part)

    if spec.mode == "full":
        for node in graph.nodes:
            add(node, PARAMETERS.get(node.op, ()))
    elif spec.mode == "last":
        for node in layers[-spec.count :]:
            add(node, (1, 2))
    elif spec.mode == "bias":
        for node in graph.nodes:
            add(node, (2,) if node.op in PARAMETERS else ())
    elif spec.mode == "sparse":
        assert spec.scheme is not None
        for node in body[max(0, len(body) - spec.scheme.biases) :]:
            add(node, (2,))
        for node, ratio in _scheme_layers(body, head, spec.scheme):
            add(node, (1, 2), _channels(program, graph, node, ratio, spec.scheme))
    add(head, (1, 2))
    order = {n.outputs[0].name: i for i, n in enumerate(graph.nodes)}
    return tuple(sorted(chosen.values(), key=lambda t: (order[t.value], t.position)))


def _scheme_layers(body: Sequence[Node], head: Node, scheme: Scheme) -> list[tuple[Node, float]]:
    """(layer, ratio) of each slice that is not empty. Raises UserError EDGEC-E249."""
    layers = (*body, head)
    _refuse_unknown(layers, scheme)
    found: list[tuple[Node, float]] = []
    for part in scheme.weights:
        for node in _named(layers, part):
            if any(node is other for other, _ in found):
                raise UserError(
                    "EDGEC-E249",
                    f"name each layer once in the scheme: {part.title} is there already ({node.loc})",
                )
            if node is head and part.ratio < 1.0:
                raise UserError(
                    "EDGEC-E249",
                    f"leave {part.title} out of the scheme: it is the head, which trains whole ({node.loc})",
                )
            if node.op not in SLICED and part.ratio not in (0.0, 1.0):
                raise UserError(
                    "EDGEC-E249",
                    f"give the ratio 1 in the scheme: slices of {node.op} do not train ({part.title} at {node.loc})",
                )
            found.append((node, part.ratio))
    return [(node, ratio) for node, ratio in found if ratio > 0.0]


def _named(layers: Sequence[Node], part: WeightSlice) -> list[Node]:
    """The layers that the scheme means; several where a layer of the model runs more than once."""
    if part.conv is not None:
        return [n for n in layers if n.op in CONVOLUTIONS][part.conv : part.conv + 1]
    return [n for n in layers if n.loc.layer == part.layer]


def _refuse_unknown(layers: Sequence[Node], scheme: Scheme) -> None:
    """Raise UserError EDGEC-E249, which names all that the scheme names and the model lacks."""
    unknown = [part for part in scheme.weights if not _named(layers, part)]
    count = sum(n.op in CONVOLUTIONS for n in layers)
    cures, causes = [], []
    convolutions = [part.title for part in unknown if part.conv is not None]
    if convolutions:
        cures.append(f"give a conv from 0 to {count - 1}" if count else "name layers, not convolutions")
        causes.append(f"the model has {count} convolutions, there is no {', '.join(convolutions)}")
    titles = [part.layer for part in unknown if part.layer is not None]
    if titles:
        names = list(dict.fromkeys(n.loc.layer for n in layers if n.loc.layer))
        near = [name for t in titles for name in difflib.get_close_matches(t, names, n=3, cutoff=0.3)]
        cures.append(f"name a layer of the model, such as {', '.join(dict.fromkeys(near or names[:3]))}")
        verb = "have no weights or do not exist" if len(titles) > 1 else "has no weights or does not exist"
        causes.append(f"{', '.join(map(repr, titles))} {verb}")
    if unknown:
        raise UserError("EDGEC-E249", f"in the scheme, {' and '.join(cures)}: {'; '.join(causes)}")


def _channels(
    program: Program, graph: Graph, node: Node, ratio: float, scheme: Scheme
) -> tuple[int, ...] | None:
    """Channels of the weight that train; None where all do."""
    content = program.constants[node.inputs[1][1:]]
    quant = content.type.quant
    w = np.asarray(content.data if quant is None else dequantize_array(content.data, quant), np.float64)
    depthwise = is_depthwise(program, graph, node)
    size = w.shape[0] if depthwise else w.shape[-1]
    count = max(1, math.floor(ratio * size))
    if count == size:
        return None
    lengths = np.square(w.reshape(size, -1) if depthwise else w.reshape(-1, size).T).sum(1)
    return _pick(lengths, count, scheme.criterion, scheme.seed)


def _pick(lengths: Array, count: int, criterion: Criterion, seed: int) -> tuple[int, ...]:
    if criterion == "first":
        return tuple(range(count))
    if criterion == "random":
        drawn = np.random.default_rng(seed).permutation(len(lengths))[:count]
    else:
        drawn = np.argsort(np.negative(lengths), kind="stable")[:count]
    return tuple(sorted(int(i) for i in drawn))
