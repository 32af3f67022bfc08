"""A gradient passes an int8 op without a rule of its own through the op's float form: against PyTorch's autograd of the
numbers that the integers stand for."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder
from edgec.fixedpoint import dequantize_array
from edgec.ir import DType, Loc, Type
from edgec.ops import OPS
from edgec.ops.define import Example, Op, QuantRule
from edgec.ops.examples import ExampleNode, quantized_node
from edgec.ops.gradient_float import GradientFloatAttrs
from edgec.passes.straight import Format, Straight, scale_of
from edgec.passes.straight_float import has_float_form, through_float

torch = pytest.importorskip("torch")

# Ties, of which integers have many: PyTorch shares the gradient of some, edgec gives it to the first, or to both.
TIES = ("maximum", "minimum", "reduce_max", "reduce_min", "max_pool2d", "adaptive_max_pool2d")
CASES = [
    pytest.param(op, example, id=f"{op.name}: {example.label}")
    for op in OPS.values()
    if isinstance(op.quant, QuantRule) and op.quant.output != "plain"
    if has_float_form(op.name) and op.name not in (*TIES, "quantize")
    for example in op.examples
    if example.torch is not None and example.label not in ("integers", "int64", "int32")
    if (op.name, example.label) != ("mul", "clamped")  # its zeros stand at the bound
]


def given(b: Builder, node: ExampleNode) -> tuple[list[str], dict[str, np.ndarray]]:
    """References of the inputs: activations are inputs of the graph, parameters and indices constants."""
    rule = node.op.quant
    assert isinstance(rule, QuantRule)
    refs, arrays = [], {}
    for index, (t, array) in enumerate(zip(node.in_types, node.inputs, strict=True)):
        if rule.role(index) in ("activation", "shared"):
            refs.append(b.input(f"x{index}", t))
            arrays[refs[-1]] = array
        else:
            refs.append(b.constant(array, f"c{index}", t.quant))
    return refs, arrays


def wanted(node: ExampleNode, gradients: list[np.ndarray]) -> list[np.ndarray | None]:
    """By PyTorch: gradients to the integers of quantised inputs from those to the integers of the outputs."""
    example, tensors = node.example, []
    for t, array in zip(node.in_types, node.inputs, strict=True):
        real = array if t.quant is None else dequantize_array(array, t.quant)
        tensor = torch.tensor(real.astype(np.float64) if np.issubdtype(real.dtype, np.floating) else real)
        tensors.append(tensor.requires_grad_() if tensor.is_floating_point() else tensor)
    assert example.torch is not None
    made = example.torch(torch, *tensors)
    outputs = made if isinstance(made, (tuple, list)) else (made,)
    total = sum(
        (y * torch.tensor(g / scale_of(t))).sum()
        for y, g, t in zip(outputs, gradients, node.out_types, strict=True)
    )
    total.backward()
    return [
        None
        if x.grad is None or t.quant is None or t.quant.axis is not None
        else x.grad.numpy() * scale_of(t)
        for x, t in zip(tensors, node.in_types, strict=True)
    ]


def found(
    node: ExampleNode, pairs: list[tuple[np.ndarray, np.ndarray]], kind: Format
) -> list[np.ndarray | None]:
    """By the rule, in the interpreter."""
    b = Builder("g")
    b.loc = Loc("example")
    refs, arrays = given(b, node)
    b.node(node.op.name, refs, node.example.attrs, quants=[t.quant for t in node.out_types])
    grads = []
    for index, (q, e) in enumerate(pairs):
        values = (q, e) if kind == "int8" else (q * np.float32(2.0 ** e[0]),)
        names = [
            b.input(f"g{index}_{k}", Type(v.shape, DType(v.dtype.str[1] + str(8 * v.itemsize))))
            for k, v in enumerate(values)
        ]
        arrays |= dict(zip(names, values, strict=True))
        grads.append(Straight(names[0], names[1] if kind == "int8" else None))
    made = through_float(b, b.nodes[-1], grads, kind)
    places: list[str | None] = []
    for grad in made:
        if not isinstance(grad, Straight):
            places.append(None)
        elif grad.exponent is None:
            places.append(b.call("mul", grad.q, b.constant(np.float32(grad.factor))))
        else:
            places.append(
                b.call("gradient_float", grad.q, grad.exponent, attrs=GradientFloatAttrs(grad.factor))
            )
    for place in filter(None, places):
        b.output(place, place)
    outputs, _ = interp.run(b.program(), b.graph(), arrays)
    return [None if place is None else outputs[place] for place in places]


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize(("op", "example"), CASES)
def test_gradient_through_the_float_form(op: Op, example: Example, kind: Format) -> None:
    node = quantized_node(op, example)
    rng = np.random.default_rng(5)
    pairs = [
        (rng.integers(-127, 128, t.dims).astype(np.int8), np.array([-6], np.int32)) for t in node.out_types
    ]
    expected = wanted(node, [q * 2.0**-6 for q, _ in pairs])
    compared = 0
    for mine, theirs in zip(found(node, pairs, kind), expected, strict=True):
        if mine is None:
            continue
        assert theirs is not None
        largest = np.abs(theirs).max(initial=0.0)
        # A pair has 7 bits and a sign; floats are compared as floats.
        tolerance = largest * (1 / 127 if kind == "int8" else 1e-4) + 1e-9
        assert np.abs(mine - theirs).max(initial=0.0) <= tolerance
        compared += 1
    assert compared or not any(r in ("activation", "shared") for r in op.quant.roles)
