"""ONNX Runtime as second judge of int8 convolution, products, pooling and resize: at most one step away.

Each op runs on identical integers. ONNX Runtime rescales in float32 with ties to even, edgec in integers with ties up,
so that one step is the most they can differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgec.ir import Array, Attrs, Quant
from edgec.ops import OPS
from edgec.ops.conv import ConvTranspose2dAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Example
from edgec.ops.examples import ExampleNode, quantized_node
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.resize import ResizeAttrs
from edgec.ops.sample import normal

OPSET, IR_VERSION = 17, 9
DOMAIN = "com.microsoft"
Shape = tuple[int, ...]


class Judge:
    """An ONNX graph in the making: constants, nodes, one input x and one output y."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Array) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def quant(self, quant: Quant | None, dtype: str = "int8") -> tuple[str, str]:
        """Names of a scale and a zero point; vectors for a per-channel quantisation."""
        assert quant is not None
        scale, zero = np.array(quant.scale, np.float32), np.array(quant.zero, dtype)
        if quant.axis is None:
            scale, zero = scale.reshape(()), zero.reshape(())
        return self.constant(scale), self.constant(zero)

    def node(self, kind: str, inputs: list[str], output: str = "y", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def run(self, **inputs: Array) -> Array:
        import onnxruntime
        from onnx import TensorProto, helper

        values = [helper.make_tensor_value_info(n, TensorProto.INT8, x.shape) for n, x in inputs.items()]
        y = helper.make_tensor_value_info("y", TensorProto.INT8, None)
        graph = helper.make_graph(self.nodes, "judge", values, [y], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return np.asarray(session.run(None, inputs)[0])


def example(op: str, attrs: Attrs, *shapes: Shape) -> ExampleNode:
    return quantized_node(OPS[op], Example("judged", attrs, normal(*shapes), None))


def nchw(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def nhwc(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1)


def pads(pad: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = pad
    return [top, left, bottom, right]


def assert_one_step(node: ExampleNode, judged: Array) -> None:
    distance = np.abs(judged.astype(np.int64) - node.expected[0])
    assert distance.max(initial=0) <= 1


@pytest.mark.parametrize(
    ("attrs", "x", "w"),
    [
        (Conv2dAttrs((2, 2), (0, 1, 0, 1)), (1, 17, 16, 3), (8, 3, 3, 3)),
        (Conv2dAttrs(), (2, 5, 6, 32), (24, 1, 1, 32)),
        (Conv2dAttrs(pad=(2, 2, 2, 2), groups=12), (1, 9, 8, 12), (12, 5, 5, 1)),
        (Conv2dAttrs(pad=(2, 1, 2, 0), dilation=(2, 2), groups=3), (1, 9, 9, 6), (9, 3, 3, 2)),
    ],
)
def test_conv2d(attrs: Conv2dAttrs, x: Shape, w: Shape) -> None:
    node = example("conv2d", attrs, x, w, w[:1])
    judge = Judge()
    data, weight, bias = node.inputs
    inputs = ["x", *judge.quant(node.in_types[0].quant), judge.constant(nchw(weight))]
    inputs += [*judge.quant(node.in_types[1].quant), *judge.quant(node.out_types[0].quant)]
    judge.node(
        "QLinearConv",
        [*inputs, judge.constant(bias)],
        strides=attrs.stride,
        pads=pads(attrs.pad),
        dilations=attrs.dilation,
        group=attrs.groups,
    )
    assert_one_step(node, nhwc(judge.run(x=nchw(data))))


def test_conv_transpose2d() -> None:
    attrs = ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1), (1, 1))
    node = example("conv_transpose2d", attrs, (1, 5, 4, 6), (8, 3, 3, 6), (8,))
    judge = Judge()
    data, weight, bias = node.inputs
    w_quant, b_quant = node.in_types[1].quant, node.in_types[2].quant
    assert w_quant is not None and b_quant is not None
    # ONNX has no integer transposed convolution: the float one between dequantise and quantise.
    w = weight.transpose(3, 0, 1, 2) * np.array(w_quant.scale, np.float32)[:, None, None]
    b = bias * np.array(b_quant.scale, np.float32)
    judge.node("DequantizeLinear", ["x", *judge.quant(node.in_types[0].quant)], "real")
    judge.node(
        "ConvTranspose",
        ["real", judge.constant(w.astype(np.float32)), judge.constant(b.astype(np.float32))],
        "sum",
        strides=attrs.stride,
        pads=pads(attrs.pad),
        output_padding=attrs.output_pad,
    )
    judge.node("QuantizeLinear", ["sum", *judge.quant(node.out_types[0].quant)])
    assert_one_step(node, nhwc(judge.run(x=nchw(data))))


def test_linear() -> None:
    node = example("linear", LinearAttrs(), (5, 67), (31, 67), (31,))
    judge = Judge()
    data, weight, bias = node.inputs
    inputs = ["x", *judge.quant(node.in_types[0].quant), judge.constant(weight)]
    inputs += [*judge.quant(node.in_types[1].quant), judge.constant(bias)]
    judge.node("QGemm", [*inputs, *judge.quant(node.out_types[0].quant)], domain=DOMAIN, transB=1)
    assert_one_step(node, judge.run(x=data))


def test_matmul() -> None:
    node = example("matmul", MatmulAttrs(), (2, 3, 7, 33), (2, 3, 33, 9))
    judge = Judge()
    inputs = ["x", *judge.quant(node.in_types[0].quant), "b", *judge.quant(node.in_types[1].quant)]
    judge.node("QLinearMatMul", [*inputs, *judge.quant(node.out_types[0].quant)])
    assert_one_step(node, judge.run(x=node.inputs[0], b=node.inputs[1]))


def test_max_pool2d() -> None:
    attrs = MaxPool2dAttrs((3, 3), (2, 2), (1, 0, 1, 1))
    node = example("max_pool2d", attrs, (2, 9, 8, 5))
    judge = Judge()
    judge.node("MaxPool", ["x"], kernel_shape=attrs.kernel, strides=attrs.stride, pads=pads(attrs.pad))
    np.testing.assert_array_equal(nhwc(judge.run(x=nchw(node.inputs[0]))), node.expected[0])


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool2d(count_include_pad: bool) -> None:
    attrs = AvgPool2dAttrs((3, 2), (2, 1), (1, 1, 0, 1), count_include_pad)
    node = example("avg_pool2d", attrs, (1, 9, 8, 5))
    judge = Judge()
    quant = judge.quant(node.in_types[0].quant)
    judge.node(
        "QLinearAveragePool",
        ["x", *quant, *quant],
        domain=DOMAIN,
        kernel_shape=attrs.kernel,
        strides=attrs.stride,
        pads=pads(attrs.pad),
        count_include_pad=int(count_include_pad),
    )
    assert_one_step(node, nhwc(judge.run(x=nchw(node.inputs[0]))))


def test_global_average() -> None:
    node = example("adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((1, 1)), (2, 7, 6, 9))
    judge = Judge()
    quant = judge.quant(node.in_types[0].quant)
    judge.node("QLinearGlobalAveragePool", ["x", *quant, *quant], domain=DOMAIN, channels_last=0)
    assert_one_step(node, nhwc(judge.run(x=nchw(node.inputs[0]))))


def _nearest(judge: Judge, node: ExampleNode, sizes: str) -> None:
    judge.node(
        "Resize",
        ["x", "", "", sizes],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _bilinear(judge: Judge, node: ExampleNode, sizes: str) -> None:
    quant = judge.quant(node.in_types[0].quant)
    judge.node("DequantizeLinear", ["x", *quant], "real")
    judge.node("Resize", ["real", "", "", sizes], "resized", mode="linear")
    judge.node("QuantizeLinear", ["resized", *quant])


@pytest.mark.parametrize(("mode", "resize"), [("nearest", _nearest), ("bilinear", _bilinear)])
@pytest.mark.parametrize("size", [(14, 12), (5, 9)])
def test_resize(mode: Any, resize: Callable[[Judge, ExampleNode, str], None], size: tuple[int, int]) -> None:
    node = example("resize", ResizeAttrs(size, mode), (1, 7, 6, 4))
    judge = Judge()
    resize(judge, node, judge.constant(np.array([1, 4, *size], np.int64)))
    assert_one_step(node, nhwc(judge.run(x=nchw(node.inputs[0]))))
