"""The reverse walk: gradients of whole networks against torch.autograd, and what it does not build."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgec import interp
from edgec.build import Builder
from edgec.errors import UserError
from edgec.ir import Array, DType, Loc, Program, Type, per_tensor
from edgec.ops.activation import ClampAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.passes.autodiff import gradients
from tests.training_networks import MAKERS, Network, as_double, close, counterpart, network

LABELS = np.array([1, 2], np.int32)


def loss_gradients(program: Program, wanted: list[str]) -> tuple[Program, dict[str, str]]:
    """(the first graph with cross-entropy and gradients as outputs, gradient by reference)."""
    graph = program.graphs[0]
    b = Builder("backward", program.constants, program.state)
    for value, port in zip(graph.inputs, graph.input_ports, strict=True):
        b.input(port.label, value.type, port.axes, value.name)
    label = b.input("label", Type(LABELS.shape, DType.I32))
    for node in graph.nodes:
        b.copy(node, {})
    loss = b.call("cross_entropy", graph.outputs[0], label)
    one = b.constant(np.ones(1, b.types[loss].dtype.numpy), "one")
    found = gradients(b, list(b.nodes), {loss: one}, wanted)
    refs = {ref: g for ref, g in found.items() if isinstance(g, str)}
    b.output(loss, "loss")
    for i, ref in enumerate(refs.values()):
        b.output(ref, f"g{i}")
    return b.program(), refs


def run(program: Program, own: Network) -> dict[str, Array]:
    feeds = {**own.arrays(), program.graphs[0].inputs[-1].name: LABELS}
    return interp.run(program, program.graphs[0], feeds)[0]


def torch_gradients(own: Network, inputs: bool = False) -> dict[str, Array]:
    """Gradients of all parameters in float64; of the inputs instead where asked."""
    module = own.module.double()
    module.zero_grad()
    given = tuple(
        x.double().requires_grad_() if inputs else x.double() if x.is_floating_point() else x
        for x in own.inputs
    )
    torch.nn.functional.cross_entropy(module(*given), torch.from_numpy(LABELS).long()).backward()
    if inputs:
        return {str(i): x.grad.numpy() for i, x in enumerate(given)}
    grads = {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}
    own.module.float()
    return grads


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-9), (False, 1e-5)], ids=["f64", "f32"])
@pytest.mark.parametrize("name", MAKERS)
def test_gradients_of_a_network_are_those_of_torch(name: str, double: bool, tolerance: float) -> None:
    own = network(name)
    wanted = torch_gradients(own)
    places = {
        ref: place
        for ref, c in own.program.constants.items()
        if c.type.size > 1 and (place := counterpart(c.data, dict(own.module.named_parameters()))) is not None
    }
    unused = {n for n in wanted if n not in {p for p, _ in places.values()}}
    # Of a table that a constant index reads, the rows alone are left; the token is repeated for each image.
    assert unused <= {"body.positions.weight", "body.kinds.weight", "token"}
    program = as_double(own.program) if double else own.program
    backward, refs = loss_gradients(program, ["@" + ref for ref in places])
    found = run(backward, own)
    assert len(refs) == len(places)
    # The bias of a key has no influence: what its gradient holds is rounding.
    floor = 1e-3 * max(float(np.abs(g).max()) for g in wanted.values())
    for ref, gradient in refs.items():
        parameter, axes = places[ref[1:]]
        assert close(found[gradient], wanted[parameter].transpose(axes), tolerance, floor), parameter


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "bert"])
def test_gradients_of_inputs_pass_through_every_pass(name: str) -> None:
    own = network(name, whole=True)
    wanted = torch_gradients(network(name), inputs=True)["0"]
    (x,) = own.program.graphs[0].input_ports
    backward, refs = loss_gradients(as_double(own.program), [x.ref])
    # The passes fold factors into weights in float64 and round each to float32 once.
    assert close(run(backward, own)[refs[x.ref]], wanted.transpose(x.axes), 1e-5)
    network(name).module.float()


def square_twice() -> Builder:
    b = Builder("infer")
    x = b.input("x", Type((3,), DType.F32))
    y = b.call("mul", x, x, attrs=BinaryAttrs())
    b.output(b.call("add", y, x, attrs=BinaryAttrs()), "y")
    return b


def test_gradients_of_a_value_used_more_than_once_are_added() -> None:
    b = square_twice()
    one = b.constant(np.ones(3, np.float32), "one")
    found = gradients(b, list(b.nodes), {b.outputs[0]: one}, ["x"])
    assert isinstance(found["x"], str)
    b.output(found["x"], "dx")
    x = np.array([1, 2, 3], np.float32)
    outputs, _ = interp.run(b.program(), b.graph(), {"x": x})
    np.testing.assert_array_equal(outputs[found["x"]], 2 * x + 1)


@pytest.mark.parametrize("fused", [True, False])
def test_a_clamp_on_its_bound_passes_gradients_as_the_one_of_torch_until_it_is_fused(fused: bool) -> None:
    b = Builder("infer")
    x = b.input("x", Type((5,), DType.F32))
    zero = b.constant(np.zeros(5, np.float32), "zero")
    y = b.call("add", x, zero, attrs=BinaryAttrs((-1.0, 2.0) if fused else None))
    if not fused:
        y = b.call("clamp", y, attrs=ClampAttrs(-1.0, 2.0))
    b.output(y, "y")
    one = b.constant(np.ones(5, np.float32), "one")
    found = gradients(b, list(b.nodes), {b.outputs[0]: one}, ["x"])
    assert isinstance(found["x"], str)
    b.output(found["x"], "dx")
    given = torch.tensor([-1.5, -1.0, 0.0, 2.0, 2.5], requires_grad=True)
    (torch.nn.functional.hardtanh if fused else torch.clamp)(given, -1.0, 2.0).sum().backward()
    outputs, _ = interp.run(b.program(), b.graph(), {"x": given.detach().numpy()})
    np.testing.assert_array_equal(outputs[found["x"]], given.grad.numpy())


def two_layers() -> tuple[Builder, list[str]]:
    b = Builder("infer")
    rng = np.random.default_rng(0)
    x = b.input("x", Type((1, 5, 5, 2), DType.F32))
    names = []
    for i in range(2):
        b.loc = Loc(f"conv{i}")
        w = b.constant(rng.normal(size=(2, 3, 3, 2)).astype(np.float32), f"w{i}")
        x = b.call("conv2d", x, w, attrs=Conv2dAttrs(pad=(1, 1, 1, 1), act=(0.0, float("inf"))))
        names.append(w)
    b.output(b.call("reduce_sum", x, attrs=ReduceAttrs((0, 1, 2, 3), False)), "loss")
    return b, names


def test_frozen_layers_in_front_get_no_backward_nodes() -> None:
    b, (_, last) = two_layers()
    forward = len(b.nodes)
    one = b.constant(np.ones((), np.float32), "one")
    gradients(b, list(b.nodes), {b.outputs[0]: one}, [last])
    ops = [n.op for n in b.nodes[forward:]]
    assert "conv2d_input_grad" not in ops
    assert ops.count("conv2d_weight_grad") == 1
    assert "reduce_sum" not in ops[1:]  # no bias gradient was asked for


def test_nothing_wanted_builds_nothing() -> None:
    b, _ = two_layers()
    forward = len(b.nodes)
    assert gradients(b, list(b.nodes), {b.outputs[0]: b.constant(np.ones((), np.float32))}, []) == {}
    assert len(b.nodes) == forward


def test_an_op_without_gradient_on_the_way_is_refused_with_its_layer() -> None:
    b = Builder("infer")
    x = b.input("x", Type((1, 5), DType.F32))
    b.loc = Loc("head", "net.py", 7)
    w = b.constant(np.ones((4, 5), np.float32), "w")
    y = b.call("linear", x, w, attrs=LinearAttrs())
    b.loc = Loc("rows", "net.py", 9)
    b.node("quantize_rows", (y,), name="rows")
    scale = b.nodes[-1].outputs[-1].name
    b.output(scale, "y")
    one = b.constant(np.ones(b.types[scale].dims, b.types[scale].dtype.numpy), "one")
    with pytest.raises(UserError) as refused:
        gradients(b, list(b.nodes), {scale: one}, [w])
    assert str(refused.value) == (
        "EDGEC-E403: train only layers behind these, replace them, or compile with --precision fp32 where integers "
        "are named: 1 node between a trained layer and the loss without a gradient\n"
        "  quantize_rows at rows (net.py:9): " + _why("quantize_rows")
    )


def _why(op: str) -> str:
    from edgec.ops import OPS
    from edgec.ops.define import NoGrad

    vjp = OPS[op].vjp
    assert isinstance(vjp, NoGrad)
    return vjp.why


def test_an_integer_node_on_the_way_is_refused_without_integer_rules() -> None:
    quant = per_tensor(0.1, 0)
    b = Builder("infer")
    x = b.input("x", Type((1, 5), DType.I8, quant))
    b.loc = Loc("sum")
    y = b.node("add", (x, x), BinaryAttrs(), quants=[quant])[0]
    real = b.call("dequantize", y)
    b.output(real, "y")
    one = b.constant(np.ones((1, 5), np.float32), "one")
    with pytest.raises(
        UserError, match=r"2 nodes .*\n  add at sum: it has no rule for integers\n  dequantize at sum"
    ):
        gradients(b, list(b.nodes), {real: one}, ["x"])
