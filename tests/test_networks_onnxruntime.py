"""ONNX Runtime as second judge of whole int8 networks, layer by layer, each fed what the interpreter's layer saw.

One step is the most a layer may differ: ONNX Runtime rounds half to even in float, edgec half up in integers.
Layers that only move bytes are left to the tests of their kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import interp
from edgec.ir import Array, Node, Type
from tests import test_onnxruntime_judge as judge
from tests.example_networks import ON_DEVICE, raw_inputs, transformed
from tests.test_onnxruntime_judge import Case, Node8

MOVING = ("reshape", "transpose", "split")
CHANNELS_LAST_TO_FIRST = {1: 2, 2: 3, 3: 1}  # axes of a map, where the judge has NCHW


def padding(pad: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = pad
    return [top, left, bottom, right]


def convolution(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    described = {"strides": a.stride, "pads": padding(a.pad), "dilations": a.dilation, "group": a.groups}
    shapes = (view.types[0].dims,)
    w = view.types[1].dims
    return Case("", "conv2d", a, shapes, "Conv", described, w, (0, 3, 1, 2), clip=a.act)


def product(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    shapes, w = (view.types[0].dims,), view.types[1].dims
    return Case("", "linear", a, shapes, "Gemm", {"transB": 1}, w, (0, 1), clip=a.act)


def pool(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    kind = "MaxPool" if node.op == "max_pool2d" else "AveragePool"
    described = {"kernel_shape": a.kernel, "strides": a.stride, "pads": padding(a.pad)}
    return Case("", node.op, a, (view.types[0].dims,), kind, described)


def global_pool(node: Node, view: Node8) -> Case:
    assert node.attrs.size == (1, 1)  # type: ignore[attr-defined]
    return Case("", node.op, node.attrs, (view.types[0].dims,), "GlobalAveragePool")


def mean(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    rank = len(view.types[0].dims)
    axes = [CHANNELS_LAST_TO_FIRST[i] if rank == 4 else i for i in a.axes]
    described = {"keepdims": int(a.keepdims)}
    shapes = (view.types[0].dims,)
    return Case("", node.op, a, shapes, "ReduceMean", described, extra=(np.array(axes, np.int64),))


def sum_of_two(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    shapes = tuple(t.dims for t in view.types)
    return Case("", "add", a, shapes, "Add", spatial=False, clip=a.act)


def layer_norm(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    described = {"axis": -a.axes_from_end, "epsilon": a.eps}
    return Case("", "layer_norm", a, (view.types[0].dims,), "LayerNormalization", described)


def softmax(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    return Case("", "softmax", a, (view.types[0].dims,), "Softmax", {"axis": a.axis}, spatial=False)


def gelu(node: Node, view: Node8) -> Case:
    a: Any = node.attrs
    described = {"approximate": a.approximate}
    return Case("", "gelu", a, (view.types[0].dims,), "Gelu", described, spatial=False)


CASES: dict[str, Callable[[Node, Node8], Case]] = {
    "conv2d": convolution,
    "linear": product,
    "max_pool2d": pool,
    "avg_pool2d": pool,
    "adaptive_avg_pool2d": global_pool,
    "reduce_mean": mean,
    "add": sum_of_two,
    "layer_norm": layer_norm,
    "softmax": softmax,
    "gelu": gelu,
}


def judged_attention(node: Node, view: Node8) -> Array:
    """softmax(q k^T scale) v in float between DequantizeLinear and QuantizeLinear."""
    a: Any = node.attrs
    constants, nodes, inputs = [numpy_helper.from_array(np.float32(a.scale), "scale")], [], []

    def quant(t: Type, i: str) -> list[str]:
        assert t.quant is not None
        scale, zero = t.quant.per_tensor
        constants.append(numpy_helper.from_array(np.float32(scale), f"s{i}"))
        constants.append(numpy_helper.from_array(np.array(zero, np.int8), f"z{i}"))
        return [f"s{i}", f"z{i}"]

    for name, t in zip("qkv", view.types, strict=True):
        inputs.append(helper.make_tensor_value_info(f"{name}8", TensorProto.INT8, t.dims))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}8", *quant(t, name)], [name]))
    nodes += [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", *quant(view.output, "y")], ["y8"]),
    ]
    output = helper.make_tensor_value_info("y8", TensorProto.INT8, None)
    graph = helper.make_graph(nodes, "attention", inputs, [output], constants)
    opsets = [helper.make_opsetid("", judge.OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = judge.ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {f"{n}8": x for n, x in zip("qkv", view.inputs, strict=True)}
    return np.asarray(session.run(None, feed)[0])


def judged(node: Node, view: Node8) -> Array:
    """What ONNX Runtime makes of the node's inputs."""
    if node.op == "attention":
        return judged_attention(node, view)
    if node.op == "linear":  # Gemm takes matrices
        rows = view.inputs[0].reshape(-1, view.inputs[0].shape[-1])
        types = (Type(rows.shape, view.types[0].dtype, view.types[0].quant), *view.types[1:])
        flat = Node8((rows, *view.inputs[1:]), types, view.output)
        return judge.theirs(product(node, flat), flat, True).reshape(view.output.dims)
    return judge.theirs(CASES[node.op](node, view), view, True)


def layers(name: str, inputs: dict[str, Array]) -> Iterator[tuple[Node, Node8, Array]]:
    """Each node that computes, what it saw and what it made."""
    program = transformed(name).program
    graph = program.graphs[0]
    types = program.type_of(graph)
    values = {f"@{n}": c.data for n, c in program.constants.items()} | dict(inputs)
    seen: list[tuple[Node, Node8, Array]] = []

    def observe(node: Node, results: tuple[Array, ...]) -> None:
        if node.op not in MOVING:
            given = tuple(np.asarray(values[ref]) for ref in node.inputs)
            view = Node8(given, tuple(types[ref] for ref in node.inputs), node.outputs[0].type)
            seen.append((node, view, results[0]))
        values.update((v.name, y) for v, y in zip(node.outputs, results, strict=True))

    interp.run(program, graph, inputs, observe=observe)
    yield from seen


@pytest.mark.parametrize("name", ON_DEVICE)
def test_every_layer_is_within_one_step_of_onnx_runtime(name: str) -> None:
    typical, noise = raw_inputs(name)[0], raw_inputs(name)[-1]
    far = []
    for inputs in (typical, noise):
        for node, view, ours in layers(name, inputs):
            distance = int(np.abs(ours.astype(np.int32) - judged(node, view)).max())
            if distance > 1:
                far.append(f"{node.op} {node.loc.layer}: {distance} steps")
    assert far == []
