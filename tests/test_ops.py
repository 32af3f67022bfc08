"""Every op's examples: infer against ref, ref against PyTorch, vjp against finite differences and torch.autograd,
the integer form against float, and its cost."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder
from edgec.fixedpoint import quantize_array
from edgec.ir import OF_NUMPY, Array, DType, Type
from edgec.ops import OPS
from edgec.ops.cast import CastAttrs
from edgec.ops.define import Arrays, Example, NoGrad, NoQuant, Op, QuantRule
from edgec.ops.examples import example_rng, float_node, float_of_quantized, quantized_node

EXAMPLES = [pytest.param(op, e, id=f"{op.name}-{e.label}") for op in OPS.values() for e in op.examples]
STEP = 1e-6  # of the central differences; their error is about STEP**2 + 1e-16 / STEP
PROBES = 12  # elements of each input that are moved


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_op_has_two_examples_and_a_doc(op: Op) -> None:
    assert len(op.examples) >= 2
    assert op.doc
    assert len({e.label for e in op.examples}) == len(op.examples)


@pytest.mark.parametrize(("op", "example"), EXAMPLES)
def test_infer_agrees_with_ref(op: Op, example: Example) -> None:
    inputs = example.make(example_rng(op, example))
    inferred = op.infer(example.attrs, tuple(Type(x.shape, OF_NUMPY[x.dtype.name]) for x in inputs))
    outputs = op.ref(example.attrs, inputs)
    assert [t.shape for t in inferred] == [np.shape(y) for y in outputs]


@pytest.mark.parametrize(("op", "example"), [p for p in EXAMPLES if p.values[1].torch is not None])
def test_ref_agrees_with_torch(op: Op, example: Example) -> None:
    import torch

    assert example.torch is not None
    node = float_node(op, example)
    expected = example.torch(torch, *(torch.from_numpy(x.copy()) for x in node.inputs))
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    assert len(expected) == len(node.expected)
    for actual, wanted in zip(node.expected, (t.detach().numpy() for t in expected), strict=True):
        assert actual.shape == wanted.shape
        if np.issubdtype(wanted.dtype, np.floating):
            scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30))
            np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=example.tolerance * scale)
        else:
            np.testing.assert_array_equal(actual, wanted)


def _differentiable(op: Op, example: Example) -> bool:
    """Whether the op has a gradient and this example a float input and a float output."""
    node = float_node(op, example)
    floats = [any(t.dtype.is_float for t in types) for types in (node.in_types, node.out_types)]
    return not isinstance(op.vjp, NoGrad) and all(floats)


@pytest.mark.parametrize(("op", "example"), [p for p in EXAMPLES if _differentiable(*p.values)])
def test_vjp_agrees_with_finite_differences(op: Op, example: Example) -> None:
    rng = example_rng(op, example)
    inputs = tuple(x.astype(np.float64) if x.dtype.kind == "f" else x for x in example.make(rng))
    cotangents = tuple(
        rng.normal(size=np.shape(y)) for y in op.ref(example.attrs, inputs) if _is_float(np.asarray(y))
    )
    gradients = _vjp(op, example, inputs, cotangents)
    assert any(g is not None for g in gradients)
    for index, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        if gradient is None:
            continue
        assert gradient.shape == x.shape
        scale = float(np.abs(gradient).max(initial=1.0))
        for at in rng.choice(x.size, min(PROBES, x.size), replace=False):
            expected = _difference(op, example, inputs, cotangents, index, int(at))
            assert gradient.ravel()[at] == pytest.approx(expected, rel=0.0, abs=2e-6 * scale)


# Inputs that torch takes as constants: finite differences alone hold their gradients.
CONSTANT_IN_TORCH = {"batch_norm": (3, 4)}
# Inputs without a gradient though torch has one: a table of frequencies, a teacher's logits.
CONSTANT_HERE = {"rope": (2,), "kl_logits": (1,)}


# In float64, too, torch has 1/6 of hardsigmoid in float32.
@pytest.mark.parametrize(("kind", "tolerance"), [(np.float64, 1e-7), (np.float32, 1e-5)], ids=["f64", "f32"])
@pytest.mark.parametrize(("op", "example"), [p for p in EXAMPLES if _differentiable(*p.values)])
def test_vjp_agrees_with_autograd(op: Op, example: Example, kind: type, tolerance: float) -> None:
    rng = example_rng(op, example)
    inputs = tuple(x.astype(kind) if x.dtype.kind == "f" else x for x in example.make(rng))
    outputs = (np.asarray(y) for y in op.ref(example.attrs, inputs))
    cotangents = tuple(np.asarray(rng.normal(size=y.shape), kind) for y in outputs if _is_float(y))
    gradients = _vjp(op, example, inputs, cotangents)
    held = [x.dtype.kind == "f" and i not in CONSTANT_IN_TORCH.get(op.name, ()) for i, x in enumerate(inputs)]
    wanted = _by_autograd(example, inputs, cotangents, held)
    assert any(wanted[i] is not None for i, g in enumerate(gradients) if g is not None)
    for index, (gradient, expected) in enumerate(zip(gradients, wanted, strict=True)):
        if gradient is None and index not in CONSTANT_HERE.get(op.name, ()):
            assert expected is None or not expected.any()
        elif gradient is not None and held[index]:
            found = np.zeros_like(gradient) if expected is None else expected
            scale = float(np.abs(found).max(initial=1.0))
            np.testing.assert_allclose(gradient, found, rtol=0.0, atol=tolerance * scale)


def _by_autograd(
    example: Example, inputs: Arrays, cotangents: Arrays, held: list[bool]
) -> list[Array | None]:
    """Gradient of sum(outputs * cotangents) to each input that is held; None where no output depends on it."""
    import torch

    assert example.torch is not None
    given = [torch.from_numpy(x.copy()).requires_grad_(own) for x, own in zip(inputs, held, strict=True)]
    made = example.torch(torch, *given)
    outputs = [y for y in (made if isinstance(made, (tuple, list)) else (made,)) if y.is_floating_point()]
    total = sum((y * torch.from_numpy(dy)).sum() for y, dy in zip(outputs, cotangents, strict=True))
    found = iter(torch.autograd.grad(total, [x for x in given if x.requires_grad], allow_unused=True))
    rows = [next(found) if own else None for own in held]
    return [None if g is None else g.numpy() for g in rows]


def test_every_op_with_a_gradient_has_an_example_that_holds_it() -> None:
    held = {p.values[0].name for p in EXAMPLES if _differentiable(*p.values)}
    rest = {op.name for op in OPS.values() if not isinstance(op.vjp, NoGrad)} - held
    assert rest == {"cast"}  # its examples make integers or booleans: the next test


@pytest.mark.parametrize(("to", "back"), [("f64", "f32"), ("i32", None)])
def test_the_gradient_of_a_cast_between_floats_is_the_cast_back(to: str, back: str | None) -> None:
    b = Builder("backward")
    b.call("cast", b.input("x", Type((3,), DType.F32)), attrs=CastAttrs(to))
    vjp = OPS["cast"].vjp
    assert not isinstance(vjp, NoGrad)
    (found,) = vjp(b, b.nodes[-1], [b.input("dy", Type((3,), DType.F64))])
    assert (None if found is None else b.types[found].dtype.value) == back


def _is_float(y: Array) -> bool:
    return bool(y.dtype.kind == "f")


def _vjp(op: Op, example: Example, inputs: Arrays, cotangents: Arrays) -> list[Array | None]:
    """Gradient of sum(outputs * cotangents) to each input, by the nodes that op.vjp builds."""
    assert not isinstance(op.vjp, NoGrad)
    b = Builder("backward")
    refs = [b.input(f"x{i}", Type(x.shape, OF_NUMPY[x.dtype.name])) for i, x in enumerate(inputs)]
    b.node(op.name, refs, example.attrs)
    node = b.nodes[-1]
    given = iter(
        b.input(f"dy{i}", Type(dy.shape, OF_NUMPY[dy.dtype.name])) for i, dy in enumerate(cotangents)
    )
    grads = op.vjp(b, node, [next(given) if v.type.dtype.is_float else None for v in node.outputs])
    assert len(grads) == len(inputs)
    for i, ref in enumerate(grads):
        if ref is not None:
            b.output(ref, f"dx{i}")
    program = b.program()
    feeds = {v.name: x for v, x in zip(b.inputs, (*inputs, *cotangents), strict=True)}
    outputs, _ = interp.run(program, program.graphs[0], feeds)
    return [None if ref is None else outputs[ref] for ref in grads]


def _difference(op: Op, example: Example, inputs: Arrays, cotangents: Arrays, index: int, at: int) -> float:
    values = []
    for step in (STEP, -STEP):
        moved = list(inputs)
        moved[index] = inputs[index].copy()
        moved[index].reshape(-1)[at] += step
        outputs = [np.asarray(y) for y in op.ref(example.attrs, tuple(moved))]
        floats = [y for y in outputs if _is_float(y)]
        values.append(sum(float((y * dy).sum()) for y, dy in zip(floats, cotangents, strict=True)))
    return (values[0] - values[1]) / (2 * STEP)


@pytest.mark.parametrize(
    ("op", "example"), [p for p in EXAMPLES if not isinstance(p.values[0].quant, NoQuant)]
)
def test_integer_form_stays_within_max_lsb_of_float(op: Op, example: Example) -> None:
    assert isinstance(op.quant, QuantRule)
    node = quantized_node(op, example)
    for actual, real, t in zip(node.expected, float_of_quantized(node), node.out_types, strict=True):
        if t.dtype is DType.U8:
            continue  # a mask: its bits turn where the rounding of the int8 output does
        if t.quant is None:
            np.testing.assert_allclose(actual, real, rtol=1e-6)  # float32 against float64; integers are equal
        else:
            assert actual.dtype == np.int8
            distance = np.abs(actual.astype(np.int64) - quantize_array(real, t.quant))
            assert distance.max(initial=0) <= op.quant.max_lsb


@pytest.mark.parametrize(("op", "example"), EXAMPLES)
def test_cost_is_not_negative(op: Op, example: Example) -> None:
    node = float_node(op, example)
    cost = op.cost(example.attrs, node.in_types, node.out_types)
    assert cost.macs >= 0
    assert cost.elementwise >= 0
