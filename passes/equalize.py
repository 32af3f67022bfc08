"""Cross-layer equalisation: scales move between two layers so that their channels get equal ranges.

With y = W2 f(W1 x + b1) and f(s y) = s f(y) for s > 0, W1 and b1 divided and W2 multiplied by s_i for
channel i give the same function. s_i = sqrt(r1_i / r2_i) makes the ranges of both equal: Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, equation 11. A depthwise
layer between two others is a pair with each; sweeping over the pairs until s is 1 equalises all three.

A clamp at 6 does not scale with its input. It becomes a ReLU and a minimum with 6 / s_i, channel by channel,
which is exact and costs one more op (`relu6="clip"`), or a ReLU, which is not exact (`"relu"`), or the pair
stays (`"keep"`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from edgec.ir import Graph, Node, Program, uses
from edgec.match import Rewrite, attr, consumers, ends, rewrite
from edgec.passes.dead import remove_dead

F64 = npt.NDArray[np.float64]
Relu6 = Literal["clip", "relu", "keep"]

LAYERS: Final = ("conv2d", "conv1d", "conv_transpose2d", "linear")
NEXT: Final = ("conv2d", "conv1d", "linear")
# f(s y) = s f(y) for s > 0, channel by channel.
HOMOGENEOUS: Final = (
    *("relu", "leaky_relu", "max_pool2d", "avg_pool2d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d"),
)
SWEEPS: Final = 40
TOLERANCE: Final = 1e-4  # of s from 1; quantised ranges do not see less


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers whose channels may trade scales: `first` and `second` are output names."""

    first: Node
    second: Node
    clipped: bool  # the first one's output has an upper clamp


def equalize(program: Program, relu6: Relu6 = "clip") -> Program:
    """`program` with the channels of neighbouring layers equalised. Same object where there are no such
    pairs."""
    counts = Counter(ref for g in program.graphs for ref in uses(g))
    every = [p for g in program.graphs for p in pairs(program, g, counts)]
    found = [p for p in every if not p.clipped or relu6 != "keep"]
    if not found:
        return program
    weights = {
        ref: np.asarray(program.constants[ref[1:]].data, np.float64)
        for p in found
        for ref in (*p.first.inputs[1:], *p.second.inputs[1:])
    }
    total = _sweep(found, weights)
    if all(np.allclose(s, 1.0, rtol=0, atol=TOLERANCE) for s in total.values()):
        return program
    clips = {p.first.outputs[0].name: total[p.first.outputs[0].name] for p in found if p.clipped}
    return _rebuild(program, weights, clips, relu6)


def pairs(program: Program, graph: Graph, counts: Counter[str]) -> list[Pair]:
    """Layers of `graph` with constants of their own, one behind the other with only homogeneous ops
    between."""
    readers, leaving = consumers(graph), set(ends(graph))
    types = program.type_of(graph)

    def own(node: Node) -> bool:
        refs = node.inputs[1:]
        return all(r[0] == "@" and counts[r] == 1 and types[r].dtype.is_float for r in refs)

    found = []
    for node in graph.nodes:
        if node.op not in LAYERS or not own(node):
            continue
        low, high = _bounds(node)
        at = node
        while True:
            name = at.outputs[0].name
            ahead = readers.get(name, [])
            if len(ahead) != 1 or name in leaving:
                break
            at = ahead[0]
            if at.op in NEXT and own(at) and at.inputs[0] == name:
                if low in (0.0, -math.inf) and (high == math.inf or low == 0.0):
                    found.append(Pair(node, at, high != math.inf))
                break
            # A flattened map keeps its channels innermost.
            channels = types[node.outputs[0].name].dims[-1]
            flat = at.op == "reshape" and at.outputs[0].type.dims[-1] % channels == 0
            if at.op not in HOMOGENEOUS and not flat:
                break
    return found


def _bounds(node: Node) -> tuple[float, float]:
    act = getattr(node.attrs, "act", None)
    return (-math.inf, math.inf) if act is None else (float(act[0]), float(act[1]))


def output_range(w: F64) -> F64:
    """max |w| of each output channel of w[O,...]."""
    return np.asarray(np.abs(w).reshape(len(w), -1).max(axis=1))


def input_blocks(w: F64, groups: int, channels: int) -> F64:
    """w[O,...,I] as [groups, rows, channels of a group]: a view if w is contiguous."""
    inner = channels // groups
    return w.reshape(groups, -1, inner)


def _sweep(found: list[Pair], weights: dict[str, F64]) -> dict[str, F64]:
    """Equalise `weights` in place; the product of all factors by the first layer's output name."""
    total: dict[str, F64] = {}
    for _ in range(SWEEPS):
        worst = 0.0
        for pair in found:
            w1, w2 = weights[pair.first.inputs[1]], weights[pair.second.inputs[1]]
            groups = getattr(pair.second.attrs, "groups", 1)
            blocks = input_blocks(w2, groups, len(w1))
            r1, r2 = output_range(w1), np.abs(blocks).max(axis=1).ravel()
            usable = (r1 > 0) & (r2 > 0)
            s = np.sqrt(np.where(usable, r1, 1.0) / np.where(usable, r2, 1.0))
            worst = max(worst, float(np.abs(s - 1).max(initial=0.0)))
            weights[pair.first.inputs[1]] = w1 / s.reshape(-1, *[1] * (w1.ndim - 1))
            for bias in pair.first.inputs[2:]:
                weights[bias] = weights[bias] / s
            weights[pair.second.inputs[1]] = (blocks * s.reshape(groups, 1, -1)).reshape(w2.shape)
            name = pair.first.outputs[0].name
            total[name] = total.get(name, np.ones(len(w1))) * s
        if worst < TOLERANCE:
            break
    return total


def _rebuild(program: Program, weights: dict[str, F64], clips: dict[str, F64], relu6: Relu6) -> Program:
    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if not any(r in weights for r in node.inputs[1:]):
            return None
        inputs = [node.inputs[0]]
        for ref in node.inputs[1:]:
            dtype = at.type(ref).dtype.numpy
            inputs.append(at.builder.constant(weights[ref].astype(dtype), ref[1:]) if ref in weights else ref)
        name = node.outputs[0].name
        if name not in clips:
            return (at.remake(node, inputs=tuple(inputs)),)
        high = attr(node, "act", tuple)[1]
        attrs = replace(node.attrs, act=(0.0, math.inf))  # type: ignore[call-arg]
        if relu6 == "relu":
            return (at.remake(node, inputs=tuple(inputs), attrs=attrs),)
        limits = (high / clips[name]).astype(node.outputs[0].type.dtype.numpy)
        bounds = at.builder.constant(limits, name + ".clip")
        y = at.remake(node, name + ".open", inputs=tuple(inputs), attrs=attrs)
        return at.builder.node("minimum", (y, bounds), name=name, loc=node.loc)

    return remove_dead(rewrite(program, visit))
