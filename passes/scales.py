"""Which nodes run in integers, and the quantisation of every value that they touch.

Values that an op wants in one quantisation (concat, pooling, reshape) are joined by union-find, and their
ranges are merged before any scale is made. An op that fixes its output's scale keeps it: where such a value
meets others in one op, it is requantised for that op.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgec.errors import InternalError, UserError
from edgec.ir import Array, DType, Graph, Node, Program, Quant, Type, per_tensor
from edgec.match import consumers, ends
from edgec.ops import OPS
from edgec.ops.define import NoQuant, QuantRule
from edgec.passes.calibrate import FILL_MOVES, MASK_VALUE, Ranges, is_fill
from edgec.passes.observers import Range

# An output range below this share of what goes in is noise; below it multipliers would leave their 2**30.
MIN_SHARE: Final = 1e-5
MAX_RANGE: Final = 1e25  # a range that feeds itself through a shared scale would grow until float32 overflows
_ROUNDS: Final = (
    4  # of widening along the graph; each follows one more merge that runs against the node order
)
# Their result is finite where an input is minus infinity.
BOUNDED: Final = (
    "softmax",
    "sigmoid",
    "hardsigmoid",
    "tanh",
    "exp",
    "relu",
    "relu6",
    "attention",
    "reduce_max",
)
# To these a fill that reaches MASK_DEPTH below the scores is as good as minus infinity.
FILL_READERS: Final = ("softmax", "argmax")
CASTS: Final = ("quantize", "dequantize", "requantize", "cast")


def affine_quant(low: float, high: float) -> Quant:
    """int8 quantisation of [low, high] widened to hold 0, which gets an integer of its own."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low == 0.0:
        return per_tensor(1.0 / 128, 0)
    scale = float(np.float32((high - low) / 255.0))
    zero = int(np.clip(np.floor(-128 - low / scale + 0.5), -128, 127))
    return per_tensor(scale, zero)


def symmetric_quant(low: float, high: float) -> Quant:
    """int8 quantisation of [-m, m] with zero 0, -128 unused."""
    magnitude = max(-low, high)
    return per_tensor(magnitude / 127 if magnitude > 0 else 1.0 / 128, 0)


def constant_range(program: Program, ref: str) -> Range:
    """(min, max) of a constant's finite elements."""
    data = np.asarray(program.constants[ref[1:]].data)
    finite = data[np.isfinite(data)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def hidden_values(program: Program, graph: Graph) -> frozenset[str]:
    """References that may hold minus infinity, or a number that stands for it, other than as a fill of computed
    scores on its way to a softmax: the range of such a fill reaches a little below the scores, which softmax takes
    for minus infinity."""
    hidden = {
        ref
        for node in graph.nodes
        for ref in node.inputs
        if ref[0] == "@" and _is_mask(program.constants[ref[1:]].data)
    }
    readers = consumers(graph)
    for node in graph.nodes:
        made = _makes_mask(program, node) or (is_fill(node) and not _vanishes(graph, node, readers))
        if made or (node.op not in BOUNDED and any(r in hidden for r in node.inputs)):
            hidden.update(v.name for v in node.outputs)
    return frozenset(hidden)


def _makes_mask(program: Program, node: Node) -> bool:
    """Whether a node fills constants, chooses or multiplies by a number that stands for minus infinity."""
    if is_fill(node):
        return node.inputs[0][0] == "@"
    if node.op not in ("where", "mul"):
        return False
    return any(_only_low(program.constants[r[1:]].data) for r in node.inputs if r[0] == "@")


def _only_low(data: Array) -> bool:
    return data.dtype.kind == "f" and bool(data.size) and float(data.max()) <= MASK_VALUE


def _vanishes(graph: Graph, fill: Node, readers: Mapping[str, Sequence[Node]]) -> bool:
    """Whether movements alone lie between filled scores and softmaxes."""
    queue, leaving = [fill.outputs[0].name], set(ends(graph))
    while queue:
        name = queue.pop()
        if name in leaving:
            return False
        for node in readers.get(name, ()):
            if node.op in FILL_MOVES:
                queue += [v.name for v in node.outputs]
            elif node.op not in FILL_READERS:
                return False
    return True


def _is_mask(data: Array) -> bool:
    """Whether a constant holds minus infinity, or zeros and numbers that stand for it."""
    if data.dtype.kind != "f" or not data.size:
        return False
    low = float(data.min())
    return low == -np.inf or (low <= MASK_VALUE and bool(np.any(data == 0)))


def why_float(
    program: Program,
    node: Node,
    types: Mapping[str, Type],
    kept: frozenset[str],
    hidden: frozenset[str] = frozenset(),
) -> str:
    """Why `node` cannot run in integers, "" where it can. `kept`: layers that the user keeps in float;
    `hidden`: the graph's `hidden_values`."""
    rule = OPS[node.op].quant
    if node.loc.layer in kept:
        return "kept in float by request"
    if isinstance(rule, NoQuant):
        return rule.why
    if node.outputs[0].name in hidden:
        return "it makes a mask of minus infinity, for which int8 has no number"
    for i, ref in enumerate(node.inputs):
        role, t = rule.role(i), types[ref]
        if ref in hidden and role in ("activation", "shared"):
            return "it reads a mask of minus infinity, for which int8 has no number"
        if role == "index":
            continue
        if role in ("weight", "bias") and ref[0] != "@":
            return f"its {role} is computed at run time"
        if role == "parameter" and ref[0] != "@" and t.dtype.is_float:
            return "its parameters are computed at run time"
        if role != "parameter" and t.dtype is not DType.F32:
            return f"it computes in {t.dtype.value}"
    return ""


@dataclass(slots=True)
class _Joined:
    """Union-find over references, with the range of each class and the quantisation that an op has fixed."""

    parent: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    fixed: dict[str, Quant] = field(default_factory=dict)

    def root(self, ref: str) -> str:
        while self.parent.setdefault(ref, ref) != ref:
            self.parent[ref] = self.parent[self.parent[ref]]
            ref = self.parent[ref]
        return ref

    def join(self, a: str, b: str) -> None:
        """Make one class of two; the range covers both."""
        first, second = self.root(a), self.root(b)
        if first == second:
            return
        self.parent[second] = first
        low, high = self.ranges[second]
        self.widen(first, low, high)
        if second in self.fixed:
            self.fixed.setdefault(first, self.fixed[second])

    def widen(self, ref: str, low: float, high: float) -> bool:
        """Whether the class of `ref` had to grow to hold [low, high]."""
        root = self.root(ref)
        before = self.ranges[root]
        self.ranges[root] = min(before[0], low), max(before[1], high)
        return self.ranges[root] != before

    def quant(self, ref: str) -> Quant:
        root = self.root(ref)
        return self.fixed[root] if root in self.fixed else affine_quant(*self.ranges[root])


@dataclass(frozen=True, slots=True)
class Scales:
    """`integer`: indices of the nodes that run in integers; `quants`: the quantisation of every float
    value."""

    integer: frozenset[int]
    quants: Mapping[str, Quant]


def assign_scales(
    program: Program, graph: Graph, ranges: Ranges, kept: frozenset[str] = frozenset()
) -> Scales:
    """Scales for `graph`, whose float values are in `ranges`."""
    types = program.type_of(graph)
    chosen = _integer_nodes(program, graph, types, kept)
    joined = _Joined()
    floats = [ref for ref, t in types.items() if t.dtype is DType.F32 and ref[0] != "@"]
    for ref in floats:
        if (graph.name, ref) not in ranges.of and types[ref].size:
            raise InternalError(f"{ref} of graph {graph.name} was not there when ranges were observed")
        joined.ranges[ref] = ranges.of.get((graph.name, ref), (0.0, 0.0))
    for index, node in enumerate(graph.nodes):
        if index in chosen:
            _join(program, node, joined)
    for _ in range(_ROUNDS):
        grown = [_widen(program, node, joined) for i, node in enumerate(graph.nodes) if i in chosen]
        if not any(grown):
            break
    return Scales(chosen, {ref: joined.quant(ref) for ref in floats})


def _rule(node: Node) -> QuantRule:
    rule = OPS[node.op].quant
    assert isinstance(rule, QuantRule)
    return rule


def shared_inputs(node: Node) -> list[str]:
    """Inputs that want the output's quantisation."""
    rule = _rule(node)
    shared = [r for i, r in enumerate(node.inputs) if rule.role(i) == "shared"]
    return shared or ([node.inputs[0]] if rule.output == "shared" else [])


def _integer_nodes(
    program: Program, graph: Graph, types: Mapping[str, Type], kept: frozenset[str]
) -> frozenset[int]:
    """Nodes that run in integers. A movement between float nodes, or from an input to them, stays float with
    them."""
    hidden = hidden_values(program, graph)
    chosen = {
        i
        for i, n in enumerate(graph.nodes)
        if n.op not in CASTS and n.inputs and not why_float(program, n, types, kept, hidden)
    }
    chosen -= {i for i in chosen if not any(types[r].dtype is DType.F32 for r in graph.nodes[i].inputs)}
    while alone := [i for i in sorted(chosen) if _moves_floats(graph, types, i, chosen)]:
        chosen.difference_update(alone)
    return frozenset(chosen)


def _moves_floats(graph: Graph, types: Mapping[str, Type], index: int, chosen: set[int]) -> bool:
    """Whether node `index` is a movement between values that are float without it. One from a graph's input to
    its output alone is none: there integers are as good."""
    node = graph.nodes[index]
    if _rule(node).output != "shared":
        return False
    computed = [r for r in node.inputs if types[r].dtype is DType.F32 and r[0] != "@"]
    given = {v.name for v in graph.inputs} & set(computed)
    names = {v.name for v in node.outputs}
    if names & set(ends(graph)) and (given or not computed):
        return False
    others = [n for i, n in enumerate(graph.nodes) if i in chosen and i != index]
    if any(names & set(n.inputs) or given & set(n.inputs) for n in others):
        return False
    makers = {v.name for i, n in enumerate(graph.nodes) if i not in chosen for v in n.outputs}
    read = any(names & set(n.inputs) for n in graph.nodes)
    return all(r in makers or r in given for r in computed) and (read or not given)


def _join(program: Program, node: Node, joined: _Joined) -> None:
    rule = _rule(node)
    outputs = [v.name for v in node.outputs if v.type.dtype is DType.F32]
    if isinstance(rule.output, tuple):
        for name in outputs:
            joined.fixed[joined.root(name)] = per_tensor(*rule.output)
        return
    shared = shared_inputs(node)
    if not shared or not outputs:
        return
    if rule.role(0) == "weight":  # an embedding: rows of the table pass through
        joined.fixed[joined.root(outputs[0])] = symmetric_quant(*constant_range(program, node.inputs[0]))
        return
    for other in outputs[1:]:
        joined.join(outputs[0], other)
    for ref in shared:
        if ref[0] == "@":
            joined.widen(outputs[0], *constant_range(program, ref))
    values = [r for r in shared if r[0] != "@"]
    fixed = {joined.fixed.get(joined.root(r)) for r in values}
    alone = len(shared) == len(values) and len(fixed) == 1  # all of one fixed scale, or none fixed
    for ref in values:
        if alone or joined.root(ref) not in joined.fixed:
            joined.join(ref, outputs[0])
        else:
            joined.widen(outputs[0], *joined.ranges[joined.root(ref)])


def _widen(program: Program, node: Node, joined: _Joined) -> bool:
    """Keep the output's range at or above MIN_SHARE of what the inputs could make; whether it grew."""
    rule = _rule(node)
    if rule.output != "calibrated" or not node.outputs:
        return False
    sizes = []
    for i, ref in enumerate(node.inputs):
        if rule.role(i) in ("activation", "shared", "weight"):
            quant = joined.quant(ref) if ref[0] != "@" else affine_quant(*constant_range(program, ref))
            sizes.append(
                255 * quant.scale[0]
            )  # what int8 can hold, which is more than was seen where that is 0
    product = node.op not in ("add", "sub", "minimum", "maximum")
    possible = float(np.prod(sizes)) if product else max(sizes)
    name = node.outputs[0].name
    low, high = joined.ranges[joined.root(name)]
    least = MIN_SHARE * possible
    if least > MAX_RANGE:
        raise UserError(
            "EDGEC-E356",
            f"scale the weights or inputs of {node.loc} down, or compile with --precision fp32: its results could "
            f"reach {possible:.1e}, an int8 range ends at {MAX_RANGE / MIN_SHARE:.0e}",
        )
    return joined.widen(name, low, low + least) if high - low < least else False
