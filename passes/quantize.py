"""Quantisation to int8: every node with an integer form runs in it, the rest in float between dequantize and
quantize.

Weights: symmetric, per output channel, -127..127. Activations: per tensor, -128..127, zero exact. Biases:
int32 at scale(x) * scale(w). Graph inputs and outputs that integers touch become int8; indices and states
stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from edgec.build import Builder
from edgec.ir import DType, Graph, Loc, Node, Port, Program, Quant, Type, Value
from edgec.ops import OPS
from edgec.ops.define import QuantRule
from edgec.passes.calibrate import Ranges
from edgec.passes.dead import remove_dead
from edgec.passes.scales import (
    Scales,
    affine_quant,
    assign_scales,
    constant_range,
    hidden_values,
    shared_inputs,
    symmetric_quant,
    why_float,
)
from edgec.passes.weights import check_accumulator, quantize_bias, quantize_constant, quantize_layer


@dataclass(frozen=True, slots=True)
class Scheme:
    """`weights`: one scale a channel or a tensor. `keep_float`: layers of the user's model that stay in
    float."""

    weights: Literal["channel", "tensor"] = "channel"
    keep_float: frozenset[str] = frozenset()


INT8 = Scheme()
BORDERS: Final[dict[str, str]] = {
    "quantize": "brings a float value back to integers",
    "dequantize": "brings integers to a node that runs in float",
}


NOT_CALIBRATED: Final = "nothing in its entry is in int8: the calibration covers the first entry alone"


@dataclass(frozen=True, slots=True)
class Island:
    """A node that runs in float in a quantised graph, and why."""

    graph: str
    name: str
    op: str
    loc: Loc
    why: str


def quantize(program: Program, ranges: Ranges, scheme: Scheme = INT8) -> Program:
    """Every graph that `ranges` covers, in int8. Raises TargetError where 32-bit sums could overflow."""
    covered = {name for name, _ in ranges.of}
    constants = program.constants
    graphs = []
    for graph in program.graphs:
        if graph.name in covered:
            build = _Quantizer(program, graph, Builder(graph.name, constants, program.state), scheme)
            graph = build.run(assign_scales(program, graph, ranges, scheme.keep_float))
            constants = build.builder.constants
        graphs.append(graph)
    return remove_dead(Program(tuple(graphs), constants, program.state))


def float_islands(program: Program, scheme: Scheme = INT8, every: bool = False) -> tuple[Island, ...]:
    """Nodes that compute in float in the quantised graphs of `program` (in `every` graph), in order, each with
    its reason; the quantize and dequantize nodes round them are among them."""
    found = []
    for graph in program.graphs:
        types = program.type_of(graph)
        nodes = graph.nodes
        quantised = any(v.type.quant for n in nodes for v in n.outputs)
        if not quantised and not every:
            continue
        hidden = hidden_values(program, graph)
        for node in nodes:
            touched = (*(types[r] for r in node.inputs), *(v.type for v in node.outputs))
            floats = any(t.dtype.is_float for t in touched)
            if node.op in BORDERS or (floats and not any(t.quant for t in touched)):
                why = BORDERS.get(node.op) or why_float(program, node, types, scheme.keep_float, hidden)
                why = why or ("it stands between float nodes" if quantised else NOT_CALIBRATED)
                found.append(Island(graph.name, node.outputs[0].name, node.op, node.loc, why))
    return tuple(found)


@dataclass(slots=True)
class _Quantizer:
    """Rebuilds one graph. `plain` and `integer` hold the two forms of each old value, made when first asked
    for."""

    program: Program
    graph: Graph
    builder: Builder
    scheme: Scheme
    plain: dict[str, str] = field(default_factory=dict)
    integer: dict[str, str] = field(default_factory=dict)
    types: Mapping[str, Type] = field(default_factory=dict)
    quants: Mapping[str, Quant] = field(default_factory=dict)

    def run(self, scales: Scales) -> Graph:
        self.types, self.quants = self.program.type_of(self.graph), scales.quants
        self.builder.types.update(self.types)  # the names of later nodes are taken
        self._inputs(scales)
        for index, node in enumerate(self.graph.nodes):
            self.builder.loc = node.loc
            for value in node.outputs:
                del self.builder.types[value.name]
            if index in scales.integer:
                self._integer_node(node)
            else:
                self._plain_node(node)
        return self._finish()

    def _inputs(self, scales: Scales) -> None:
        read = {r for i in scales.integer for r in self.graph.nodes[i].inputs}
        for value in self.graph.inputs:
            integer = value.type.dtype is DType.F32 and value.name in read
            t = Type(value.type.shape, DType.I8, self.quants[value.name]) if integer else value.type
            self.builder.inputs.append(Value(value.name, t))
            self.builder.types[value.name] = t
            (self.integer if integer else self.plain)[value.name] = value.name

    def as_plain(self, ref: str) -> str:
        """`ref` unquantised: itself, or dequantised once."""
        if ref[0] in "@$":
            return ref
        if ref not in self.plain:
            self.plain[ref] = self.builder.call("dequantize", self.integer[ref], name=ref + ".f")
        return self.plain[ref]

    def as_integer(self, ref: str, quant: Quant | None = None) -> str:
        """`ref` in int8, at `quant` where given: itself, quantised once, or requantised."""
        if ref[0] == "@":
            return self._constant(ref, quant or affine_quant(*constant_range(self.program, ref)))
        if ref not in self.integer:
            source = ref if ref[0] == "$" else self.plain[ref]
            own = (self.quants[ref],)
            self.integer[ref] = self.builder.node(
                "quantize", (source,), name=ref.strip("$") + ".q", quants=own
            )[0]
        made = self.integer[ref]
        if quant is None or self.builder.types[made].quant == quant:
            return made
        return self.builder.node("requantize", (made,), name=ref.strip("$") + ".r", quants=(quant,))[0]

    def _constant(self, ref: str, quant: Quant) -> str:
        data = quantize_constant(self.program.constants[ref[1:]].data, quant)
        return self.builder.constant(data, ref[1:] + ".q", quant)

    def _plain_node(self, node: Node) -> None:
        self.builder.copy(node, {r: self.as_plain(r) for r in node.inputs})
        self.plain.update((v.name, v.name) for v in node.outputs)

    def _integer_node(self, node: Node) -> None:
        rule = OPS[node.op].quant
        assert isinstance(rule, QuantRule)
        quants = [self._output(rule, node, v) for v in node.outputs]
        shared = set(shared_inputs(node))
        inputs: list[str] = []
        for i, ref in enumerate(node.inputs):
            role = rule.role(i)
            if role in ("index", "parameter"):
                inputs.append(self.as_plain(ref))
            elif role == "weight":
                inputs.append(self._weight(rule, node, inputs))
            elif role == "bias":
                inputs.append(self._bias(node, inputs))
            else:
                inputs.append(self.as_integer(ref, quants[0] if ref in shared else None))
        check_accumulator(self.builder, rule, node, inputs)
        outputs = self.builder.node(
            node.op, inputs, node.attrs, name=node.outputs[0].name, loc=node.loc, quants=quants
        )
        for value, ref in zip(node.outputs, outputs, strict=True):
            (self.plain if self.builder.types[ref].quant is None else self.integer)[value.name] = ref

    def _output(self, rule: QuantRule, node: Node, value: Value) -> Quant | None:
        return (
            None if rule.output == "plain" or value.type.dtype is not DType.F32 else self.quants[value.name]
        )

    def _weight(self, rule: QuantRule, node: Node, inputs: list[str]) -> str:
        index = len(inputs)
        ref = node.inputs[index]
        data = self.program.constants[ref[1:]].data
        if rule.weight_axis is None:
            quant = symmetric_quant(*constant_range(self.program, ref))
            return self._constant(ref, quant)
        x = self.builder.types[inputs[0]].quant
        assert x is not None
        bias = node.inputs[index + 1] if len(node.inputs) > index + 1 else None
        b = self.program.constants[bias[1:]].data if bias is not None else None
        weight, quant = quantize_layer(data, b, x, rule.weight_axis, self.scheme.weights == "channel")
        return self.builder.constant(weight, ref[1:] + ".q", quant)

    def _bias(self, node: Node, inputs: list[str]) -> str:
        ref = node.inputs[len(inputs)]
        x, w = (self.builder.types[r].quant for r in inputs[:2])
        assert x is not None and w is not None
        data, quant = quantize_bias(self.program.constants[ref[1:]].data, x, w, node.loc)
        return self.builder.constant(data, ref[1:] + ".q", quant)

    def _finish(self) -> Graph:
        def out(ref: str) -> str:
            return ref if self.plain.get(ref) == ref else self.integer.get(ref, ref)

        g = self.graph
        updates = tuple((name, self.as_plain(ref)) for name, ref in g.updates)
        return Graph(
            g.name,
            tuple(self.builder.inputs),
            tuple(self.builder.nodes),
            tuple(out(r) for r in g.outputs),
            updates,
            g.input_ports,
            tuple(Port(out(p.ref), p.label, p.axes) for p in g.output_ports),
        )
