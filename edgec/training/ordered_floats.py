"""Whether the floats of a network that learns are, bit for bit, numpy's: then `make check` may compare bytes."""

from __future__ import annotations

from typing import Final

from edgec.ir import Graph, Node, Program
from edgec.ops.linear import ORDERED_MOST
from edgec.ops.pool import MaxPool2dAttrs

# Ops with float results that numpy and the C kernels add up in one order, and whose exp and log are ours.
_ORDERED: Final = frozenset(
    {"dequantize", "gradient_quantize", "gradient_float", "when_finite", "reshape", "expand"}
    | {"cross_entropy", "cross_entropy_grad", "reduce_sum", "matmul", "linear", "linear_weight_grad"}
    | {"linear_weight_update", "sgd", "max_pool2d_grad"}
)


def are_numpys(program: Program) -> bool:
    """True where every float is made of integers by ops that have one order of summation."""
    return all(_is_ordered(program, graph, node) for graph in program.graphs for node in graph.nodes)


def _is_ordered(program: Program, graph: Graph, node: Node) -> bool:
    if not any(v.type.dtype.is_float for v in node.outputs):
        return True
    if node.op == "linear":  # a large one is added in the order of numpy's library
        return program.type_of(graph)[node.inputs[1]].size <= ORDERED_MOST
    if isinstance(node.attrs, MaxPool2dAttrs):  # an element in several windows gets a sum
        return all(k <= s for k, s in zip(node.attrs.kernel, node.attrs.stride, strict=True))
    return node.op in _ORDERED
