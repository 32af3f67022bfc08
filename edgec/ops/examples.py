"""An op's examples as typed nodes, in float and in int8: what `edgec ops` asks kernels about, and what tests run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.fixedpoint import dequantize_array, quantize_array, spread
from edgec.ir import OF_NUMPY, Array, DType, Loc, Node, Quant, Type, Value, per_channel, per_tensor
from edgec.ops.define import Arrays, Example, Op, QuantRule, Types, run
from edgec.plan import NodeView


@dataclass(frozen=True, slots=True)
class ExampleNode:
    """One example with its types; `expected` is what the op says the outputs are."""

    op: Op
    example: Example
    in_types: Types
    inputs: Arrays
    out_types: Types
    expected: Arrays

    def view(self, constant: tuple[int, ...] = ()) -> NodeView:
        """The node as a kernel record sees it, inputs `constant` being constants."""
        names = tuple(f"@c{i}" if i in constant else f"x{i}" for i in range(len(self.inputs)))
        values = tuple(Value(f"y{i}", t) for i, t in enumerate(self.out_types))
        node = Node(self.op.name, names, values, self.example.attrs, Loc("example"))
        data = tuple(x if i in constant else None for i, x in enumerate(self.inputs))
        return NodeView(node, self.in_types, self.out_types, data)


def example_rng(op: Op, example: Example) -> np.random.Generator:
    """The same generator in every test of this example."""
    return np.random.default_rng(list(f"{op.name} {example.label}".encode()))


def types_of(arrays: Arrays) -> Types:
    return tuple(Type(x.shape, OF_NUMPY[x.dtype.name]) for x in arrays)


def float_node(op: Op, example: Example) -> ExampleNode:
    """The example as it is written."""
    inputs = example.make(example_rng(op, example))
    in_types = types_of(inputs)
    out_types = op.infer(example.attrs, in_types)
    expected = tuple(
        np.asarray(y).astype(t.dtype.numpy)
        for y, t in zip(op.ref(example.attrs, inputs), out_types, strict=True)
    )
    return ExampleNode(op, example, in_types, inputs, out_types, expected)


def range_quant(*arrays: Array) -> Quant:
    """Asymmetric int8 parameters of the joint range of `arrays`, real 0 being exact."""
    low = min(0.0, *(float(x.min(initial=0.0)) for x in arrays))
    high = max(0.0, *(float(x.max(initial=0.0)) for x in arrays))
    scale = float(np.float32((high - low or 1.0) / 255.0))
    return per_tensor(scale, int(np.clip(np.floor(-128 - low / scale + 0.5), -128, 127)))


def weight_quant(w: Array, axis: int | None) -> Quant:
    """Symmetric int8 parameters, per channel along `axis` or per tensor."""
    if axis is None:
        return per_tensor(max(float(np.abs(w).max()), 1e-9) / 127, 0)
    most = np.abs(w).max(axis=tuple(i for i in range(w.ndim) if i != axis))
    return per_channel(np.maximum(most, 1e-9) / 127, axis)


def bias_quant(x: Quant, w: Quant) -> Quant:
    """int32 at scale(x) * scale(w), along axis 0."""
    return per_channel([x.scale[0] * s for s in w.scale], 0)


def quantized_node(op: Op, example: Example) -> ExampleNode:
    """The example in its integer form, every range as observed."""
    assert isinstance(op.quant, QuantRule)
    node = float_node(op, example)
    quants = _input_quants(op.quant, node)
    types, inputs = [], []
    for index, (x, t, q) in enumerate(zip(node.inputs, node.in_types, quants, strict=True)):
        if q is None:
            types.append(t)
            inputs.append(x)
        elif op.quant.role(index) == "bias":
            scale, _ = spread(q, x.ndim)
            types.append(Type(t.shape, DType.I32, q))
            inputs.append(np.floor(np.divide(x, scale) + 0.5).astype(np.int32))
        else:
            low = -127 if op.quant.role(index) == "weight" else -128
            types.append(Type(t.shape, DType.I8, q))
            inputs.append(quantize_array(x, q, low).astype(np.int8))
    out_types = tuple(
        t if (q := _output_quant(op.quant, quants, y)) is None else Type(t.shape, DType.I8, q)
        for t, y in zip(node.out_types, node.expected, strict=True)
    )
    expected = run(op, example.attrs, tuple(types), tuple(inputs), out_types)
    typed = tuple(np.asarray(y).astype(t.dtype.numpy) for y, t in zip(expected, out_types, strict=True))
    return ExampleNode(op, example, tuple(types), tuple(inputs), out_types, typed)


def float_of_quantized(node: ExampleNode) -> Arrays:
    """The float op on the dequantised inputs of an integer node, in float64."""
    inputs = tuple(
        x
        if t.quant is None and not t.dtype.is_float
        else x.astype(np.float64)
        if t.quant is None
        else dequantize_array(x, t.quant)
        for x, t in zip(node.inputs, node.in_types, strict=True)
    )
    return node.op.ref(node.example.attrs, inputs)


def _input_quants(rule: QuantRule, node: ExampleNode) -> tuple[Quant | None, ...]:
    floats = [i for i, t in enumerate(node.in_types) if t.dtype.is_float]
    shared = [node.inputs[i] for i in floats if rule.role(i) == "shared"]
    quants: list[Quant | None] = []
    for index, x in enumerate(node.inputs):
        role = rule.role(index)
        if index not in floats or role in ("parameter", "index"):
            quants.append(None)
        elif role == "activation":
            quants.append(range_quant(x))
        elif role == "shared":
            quants.append(range_quant(*shared))
        elif role == "weight":
            quants.append(weight_quant(x, rule.weight_axis))
        else:
            assert quants[0] is not None and quants[1] is not None
            quants.append(bias_quant(quants[0], quants[1]))
    return tuple(quants)


def _output_quant(rule: QuantRule, inputs: tuple[Quant | None, ...], y: Array) -> Quant | None:
    if isinstance(rule.output, tuple):
        return per_tensor(*rule.output)
    if rule.output == "plain" or not np.issubdtype(y.dtype, np.floating):
        return None
    if rule.output == "calibrated":
        return range_quant(y)
    marked = [q for i, q in enumerate(inputs) if rule.role(i) == "shared"]
    return marked[0] if marked else inputs[0]
