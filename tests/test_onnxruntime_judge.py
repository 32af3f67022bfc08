"""ONNX Runtime as second judge: each op's integer form against a QDQ model with the same scales and inputs.

Both get the same int8 inputs. ONNX Runtime rounds half to even in float, we round half up in integers, so
that results differ by at most one step. Every case runs twice: as written, in float between DequantizeLinear
and QuantizeLinear, and with ONNX Runtime's optimiser, which makes its own integer kernels of it where it has
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgec.fixedpoint import dequantize_array
from edgec.ir import NO_ATTRS, Array, Attrs, DType, Quant, Type, per_tensor
from edgec.ops import OPS
from edgec.ops import define as ops
from edgec.ops.activation import ClampAttrs, EluAttrs, GeluAttrs, LeakyReluAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv import ConvTranspose2dAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.ops.norm import LayerNormAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.resize import ResizeAttrs
from edgec.ops.shape import TransposeAttrs
from edgec.ops.softmax import SoftmaxAttrs
from edgec.passes.scales import affine_quant
from edgec.passes.weights import quantize_bias, quantize_layer

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

OPSET = 20
TO_NCHW = (0, 3, 1, 2)


@dataclass(frozen=True)
class Case:
    """One op: `shapes` of the activations (ours, NHWC where rank 4), `weight` and `bias` of a layer;
    `onnx_op` with `onnx_attrs` and further constant inputs `extra`. `spatial`: rank-4 tensors are NCHW for
    ONNX."""

    label: str
    op: str
    attrs: Attrs
    shapes: tuple[tuple[int, ...], ...]
    onnx_op: str
    onnx_attrs: dict[str, object] = field(default_factory=dict)
    weight: tuple[int, ...] | None = None
    weight_order: tuple[int, ...] = ()
    parameters: tuple[tuple[int, ...], ...] = ()
    extra: tuple[Array, ...] = ()
    spatial: bool = True
    clip: tuple[float, float] | None = None
    scale: float = 0.03


MAP = (1, 7, 6, 8)
ROWS = (3, 33)


def conv(
    label: str, attrs: Conv2dAttrs, w: tuple[int, ...], shape: tuple[int, ...] = MAP, **more: object
) -> Case:
    top, bottom, left, right = attrs.pad
    described = {
        "strides": list(attrs.stride),
        "pads": [top, left, bottom, right],
        "dilations": list(attrs.dilation),
        "group": attrs.groups,
    }
    return Case(
        label,
        "conv2d",
        attrs,
        (shape,),
        "Conv",
        described,
        w,
        (0, 3, 1, 2),
        clip=attrs.act,
        **more,  # type: ignore[arg-type]
    )


def unary(op: str, onnx_op: str, attrs: Attrs = NO_ATTRS, scale: float = 0.03, **onnx_attrs: object) -> Case:
    return Case(op, op, attrs, (MAP,), onnx_op, onnx_attrs, spatial=False, scale=scale)


def binary(op: str, onnx_op: str, attrs: Attrs, second: tuple[int, ...] = MAP) -> Case:
    return Case(
        f"{op} {second}", op, attrs, (MAP, second), onnx_op, spatial=False, clip=getattr(attrs, "act", None)
    )


CASES = [
    conv("conv 3x3", Conv2dAttrs(pad=(1, 1, 1, 1)), (5, 3, 3, 8)),
    conv("conv stride 2, one-sided pad", Conv2dAttrs((2, 2), (0, 1, 0, 1)), (5, 3, 3, 8)),
    conv("conv dilated, two groups", Conv2dAttrs(pad=(2, 2, 2, 2), dilation=(2, 2), groups=2), (6, 3, 3, 4)),
    conv("conv clamped", Conv2dAttrs(act=(0.0, 2.0)), (9, 1, 1, 8)),
    conv("depthwise", Conv2dAttrs((2, 1), (1, 1, 1, 1), groups=8), (8, 3, 3, 1)),
    Case(
        "transposed conv",
        "conv_transpose2d",
        ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1)),
        (MAP,),
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
        (5, 3, 3, 8),
        (3, 0, 1, 2),
    ),
    Case(
        "transposed conv with output padding",
        "conv_transpose2d",
        ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1), (1, 1)),
        (MAP,),
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        (5, 3, 3, 8),
        (3, 0, 1, 2),
    ),
    Case("linear", "linear", LinearAttrs(), (ROWS,), "Gemm", {"transB": 1}, (7, 33), (0, 1)),
    Case("matmul", "matmul", MatmulAttrs(), ((2, 3, 9), (2, 9, 5)), "MatMul", scale=0.01),
    binary("add", "Add", BinaryAttrs()),
    binary("add", "Add", BinaryAttrs((0.0, 1.0)), (8,)),
    binary("sub", "Sub", BinaryAttrs()),
    binary("mul", "Mul", BinaryAttrs(), (1, 1, 1, 8)),
    binary("minimum", "Min", NO_ATTRS),
    binary("maximum", "Max", NO_ATTRS),
    Case(
        "max pool",
        "max_pool2d",
        MaxPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1)),
        (MAP,),
        "MaxPool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    Case(
        "average pool",
        "avg_pool2d",
        AvgPool2dAttrs((2, 2), (2, 2), (0, 0, 0, 0)),
        (MAP,),
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    Case(
        "average pool without its padding",
        "avg_pool2d",
        AvgPool2dAttrs((3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=False),
        (MAP,),
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 0},
    ),
    Case(
        "average pool with one-sided padding",
        "avg_pool2d",
        AvgPool2dAttrs((3, 2), (2, 1), (1, 1, 0, 1), count_include_pad=True),
        (MAP,),
        "AveragePool",
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    Case("global pool", "adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((1, 1)), (MAP,), "GlobalAveragePool"),
    Case(
        "mean", "reduce_mean", ReduceAttrs((1, 2), True), (MAP,), "ReduceMean", extra=(np.array([2, 3]),)
    ),
    Case("softmax", "softmax", SoftmaxAttrs(1), (ROWS,), "Softmax", {"axis": 1}),
    Case(
        "layer norm",
        "layer_norm",
        LayerNormAttrs(1, 1e-5),
        (ROWS,),
        "LayerNormalization",
        {"axis": -1},
        parameters=((33,), (33,)),
    ),
    unary("sigmoid", "Sigmoid"),
    unary("tanh", "Tanh"),
    unary("relu", "Relu"),
    unary("leaky_relu", "LeakyRelu", LeakyReluAttrs(0.1), alpha=0.1),
    unary("elu", "Elu", EluAttrs(1.0), alpha=1.0),
    unary("gelu", "Gelu", GeluAttrs("none")),
    unary("hardswish", "HardSwish"),
    unary("hardsigmoid", "HardSigmoid", alpha=1 / 6, beta=0.5),
    unary("exp", "Exp", scale=0.01),
    unary("abs", "Abs"),
    unary("neg", "Neg"),
    Case("clamp", "clamp", ClampAttrs(-1.0, 1.5), (MAP,), "Clip", extra=(np.float32(-1), np.float32(1.5))),
    Case("concat", "concat", ConcatAttrs(3), (MAP, MAP), "Concat", {"axis": 1}),
    Case(
        "pad",
        "pad",
        PadAttrs(((0, 0), (1, 0), (0, 2), (0, 0))),
        (MAP,),
        "Pad",
        extra=(np.array([0, 0, 1, 0, 0, 0, 0, 2]),),
    ),
    Case("transpose", "transpose", TransposeAttrs((0, 2, 1, 3)), (MAP,), "Transpose", {"perm": [0, 1, 3, 2]}),
    Case(
        "resize nearest",
        "resize",
        ResizeAttrs((14, 12), "nearest"),
        (MAP,),
        "Resize",
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        extra=(np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 8, 14, 12])),
    ),
    Case(
        "resize bilinear, fewer rows",
        "resize",
        ResizeAttrs((5, 9), "bilinear"),
        (MAP,),
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        extra=(np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 8, 5, 9])),
    ),
    Case(
        "resize bilinear",
        "resize",
        ResizeAttrs((14, 9), "bilinear"),
        (MAP,),
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        extra=(np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 8, 14, 9])),
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Node8:
    """A quantised node: input arrays with their types, in our order, and the output's type."""

    inputs: tuple[Array, ...]
    types: tuple[Type, ...]
    output: Type


def quantised(case: Case, rng: np.random.Generator) -> Node8:
    rule = OPS[case.op].quant
    assert isinstance(rule, ops.QuantRule)
    arrays: list[Array] = []
    quants: list[Quant | None] = []
    for i, shape in enumerate(case.shapes):
        shared = rule.role(i) == "shared"
        arrays.append(rng.integers(-128, 128, shape).astype(np.int8))
        quants.append(per_tensor(case.scale * (1 if shared else 1 + i / 3), -5 if shared else 4 * i - 5))
    if case.weight is not None:
        x = quants[0]
        assert x is not None
        w = rng.normal(size=case.weight) * np.exp(
            rng.normal(size=(case.weight[0], *[1] * (len(case.weight) - 1)))
        )
        bias = rng.normal(size=case.weight[0])
        weight, w_quant = quantize_layer(w, bias, x, 0, True)
        b, b_quant = quantize_bias(bias, x, w_quant)
        arrays += [weight, b]
        quants += [w_quant, b_quant]
    for shape in case.parameters:
        arrays.append((1 + rng.normal(size=shape) / 4).astype(np.float32))
        quants.append(None)
    types = tuple(
        Type(a.shape, DType.F32 if q is None else DType.I32 if a.dtype == np.int32 else DType.I8, q)
        for a, q in zip(arrays, quants, strict=True)
    )
    real = [
        a if t.quant is None else dequantize_array(a, t.quant) for a, t in zip(arrays, types, strict=True)
    ]
    (y,) = OPS[case.op].ref(case.attrs, tuple(np.asarray(r, np.float64) for r in real))
    if rule.output == "shared":
        out = types[0].quant
    else:
        out = (
            per_tensor(*rule.output)
            if isinstance(rule.output, tuple)
            else affine_quant(float(y.min()), float(y.max()))
        )
    return Node8(tuple(arrays), types, Type(y.shape, DType.I8, out))


def to_onnx(a: Array, case: Case, index: int) -> Array:
    """An array in ONNX's order of axes."""
    if index >= len(case.shapes):
        return a.transpose(case.weight_order) if a.ndim > 1 and case.weight_order else a
    return a.transpose(TO_NCHW) if case.spatial and a.ndim == 4 else a


def model(case: Case, node: Node8) -> bytes:
    """DequantizeLinear on each input, the op, a Clip where it is clamped, QuantizeLinear."""
    h, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, constants, inputs, refs = [], [], [], []
    for i, (a, t) in enumerate(zip(node.inputs, node.types, strict=True)):
        given = to_onnx(a, case, i)
        if i < len(case.shapes):
            inputs.append(h.make_tensor_value_info(f"x{i}", onnx.TensorProto.INT8, given.shape))
        else:
            constants.append(numpy_helper.from_array(np.ascontiguousarray(given), f"x{i}"))
        if t.quant is None:
            refs.append(f"x{i}")
            continue
        per_axis = t.quant.axis is not None
        scale = np.array(t.quant.scale if per_axis else t.quant.scale[0], np.float32)
        zero = np.array(t.quant.zero if per_axis else t.quant.zero[0], a.dtype)
        constants += [numpy_helper.from_array(scale, f"s{i}"), numpy_helper.from_array(zero, f"z{i}")]
        axis = {"axis": case.weight_order.index(0) if a.ndim > 1 else 0} if per_axis else {}
        nodes.append(h.make_node("DequantizeLinear", [f"x{i}", f"s{i}", f"z{i}"], [f"r{i}"], **axis))
        refs.append(f"r{i}")
    for j, extra in enumerate(case.extra):
        constants.append(numpy_helper.from_array(np.asarray(extra), f"e{j}"))
        refs.append(f"e{j}")
    nodes.append(h.make_node(case.onnx_op, refs, ["y"], **case.onnx_attrs))
    last = "y"
    if case.clip is not None:
        constants += [
            numpy_helper.from_array(np.float32(b), n) for b, n in zip(case.clip, ("lo", "hi"), strict=True)
        ]
        nodes.append(h.make_node("Clip", ["y", "lo", "hi"], ["c"]))
        last = "c"
    assert node.output.quant is not None
    scale, zero = node.output.quant.per_tensor
    constants += [
        numpy_helper.from_array(np.float32(scale), "sy"),
        numpy_helper.from_array(np.array(zero, np.int8), "zy"),
    ]
    nodes.append(h.make_node("QuantizeLinear", [last, "sy", "zy"], ["q"]))
    output = h.make_tensor_value_info("q", onnx.TensorProto.INT8, None)
    graph = h.make_graph(nodes, "judge", inputs, [output], constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", OPSET)], ir_version=9)
    return bytes(made.SerializeToString())


def theirs(case: Case, node: Node8, optimised: bool) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model(case, node), options, providers=["CPUExecutionProvider"])
    feed = {f"x{i}": np.ascontiguousarray(to_onnx(node.inputs[i], case, i)) for i in range(len(case.shapes))}
    (y,) = session.run(None, feed)
    back = tuple(np.argsort(TO_NCHW))
    return np.asarray(y.transpose(back) if case.spatial and y.ndim == 4 else y)


@pytest.mark.parametrize("optimised", [False, True], ids=["as written", "optimised"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.label)
def test_an_integer_op_is_within_one_step_of_onnx_runtime(case: Case, optimised: bool) -> None:
    node = quantised(case, np.random.default_rng(0))
    op = OPS[case.op]
    (ours,) = ops.run(op, case.attrs, node.types, node.inputs, (node.output,))
    difference = ours.astype(np.int32) - theirs(case, node, optimised)
    assert np.abs(difference).max() <= 1
    assert ours.std() > 5, "the case must fill the int8 range for one step to mean something"
