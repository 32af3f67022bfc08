"""What surrounds a 4-bit linear layer becomes part of it: the gate of an MLP, and an RMS norm before it.

silu(g) u, g and u the halves of one layer's result, becomes `gated`: the result of the layer is never in memory. An RMS
norm without a gain (`quantize_w4` puts gains into the weights) becomes `norm_eps` of the layers that read it, where x
has so few rows that the kernel has all of it at hand; with more rows a norm of its own costs less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from edgec.ir import Graph, Node, Program
from edgec.match import Rewrite, consumers, ends, rewrite
from edgec.ops.binary import BinaryAttrs
from edgec.ops.linear_w4 import LinearW4Attrs
from edgec.ops.norm import RmsNormAttrs
from edgec.ops.slicing import SplitAttrs
from edgec.passes.dead import remove_dead

NORM_ROWS: Final = 16  # of x


def fuse_w4(program: Program) -> Program:
    """`program` with gates and norms inside of 4-bit layers. Same object where there are none."""
    # Graphs of one model name their values alike.
    norms = frozenset((g.name, name) for g in program.graphs for name in _inner_norms(program, g))

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if node.op == "linear_w4":
            return _with_norm(at, node, norms)
        return _gated(at, node) if node.op == "mul" else None

    changed = rewrite(program, visit)
    return program if changed is program else remove_dead(changed)


def _inner_norms(program: Program, graph: Graph) -> Iterable[str]:
    """RMS norms without a gain that nothing reads but 4-bit layers of few rows."""
    readers, leaving, types = consumers(graph), set(ends(graph)), program.type_of(graph)
    for node in graph.nodes:
        if node.op == "rms_norm" and len(node.inputs) == 1:
            name = node.outputs[0].name
            rows = types[name].size // types[name].dims[-1]
            found = readers.get(name, [])
            layers = all(n.op == "linear_w4" and name not in n.inputs[1:] for n in found)
            if found and layers and rows <= NORM_ROWS and name not in leaving:
                yield name


def _with_norm(at: Rewrite, node: Node, norms: frozenset[tuple[str, str]]) -> tuple[str, ...] | None:
    assert isinstance(node.attrs, LinearW4Attrs)
    norm = at.maker(node.inputs[0], "rms_norm")
    if norm is None or (at.builder.name, node.inputs[0]) not in norms or node.attrs.norm_eps is not None:
        return None
    assert isinstance(norm.attrs, RmsNormAttrs)
    attrs = replace(node.attrs, norm_eps=norm.attrs.eps)
    return (at.remake(node, inputs=(norm.inputs[0], *node.inputs[1:]), attrs=attrs),)


def _gated(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """mul(silu(first half), second half) of a split of one layer, in either order."""
    if node.attrs != BinaryAttrs():
        return None
    for gate, up in (node.inputs, node.inputs[::-1]):
        silu = at.sole(gate, "silu")
        split = at.sole(up, "split")
        if silu is None or split is None or at.sole(silu.inputs[0], "split") is not split:
            continue
        layer = at.sole(split.inputs[0], "linear_w4")
        if layer is None or not _halves(split, silu.inputs[0], up):
            continue
        assert isinstance(layer.attrs, LinearW4Attrs)
        if layer.attrs.act is None and not layer.attrs.gated:
            made = replace(layer.attrs, gated=True)
            name = node.outputs[0].name
            return at.builder.node("linear_w4", layer.inputs, made, name=name, loc=layer.loc)
    return None


def _halves(split: Node, gate: str, up: str) -> bool:
    """Whether `split` cuts its last axis in two, `gate` first."""
    assert isinstance(split.attrs, SplitAttrs)
    last = len(split.outputs[0].type.shape) - 1
    equal = len(split.attrs.sizes) == 2 and len(set(split.attrs.sizes)) == 1
    return equal and split.attrs.axis == last and [v.name for v in split.outputs] == [gate, up]
