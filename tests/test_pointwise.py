"""Pointwise ops: generated bodies against their ops, integer corners of the int8 forms, fused loops."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pointwise_bodies as bodies
import pytest

from edgec.backends import pointwise
from edgec.backends.kernels_c_pointwise import KERNELS
from edgec.backends.strided import broadcast, split_axes
from edgec.fixedpoint import quantize_array
from edgec.ir import NO_ATTRS, Array, Attrs, DType, Loc, Node, Quant, Type, Value, per_tensor
from edgec.ops import OPS
from edgec.ops.activation import ClampAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.define import Example, run
from edgec.ops.examples import ExampleNode, float_node
from edgec.ops.lookup import lookup_table
from edgec.ops.select import MaskedFillAttrs
from edgec.plan import Kernel, NodeView

NODES = [float_node(OPS[op], e) for op in pointwise.OPS for e in OPS[op].examples]
CASES = [(n, c) for n in NODES for c in bodies.cases(n)]
IDS = [f"{n.op.name}-{n.example.label}-{'rows' if c.rows else 'flat'}" for n, c in CASES]
TOLERANCE = 1e-6  # of the largest magnitude: a few float32 roundings


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return bodies.build([c for _, c in CASES], tmp_path_factory.mktemp("bodies"))


def assert_close(actual: Array, expected: Array) -> None:
    if expected.dtype.kind == "f":
        scale = float(np.abs(expected).max(initial=1e-30))
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=TOLERANCE * scale)
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("op", pointwise.OPS)
def test_every_pointwise_op_has_an_accepted_example(op: str) -> None:
    assert any(n.op.name == op for n, _ in CASES)


@pytest.mark.parametrize(("node", "call"), CASES, ids=IDS)
def test_generated_body_equals_its_op(library: ctypes.CDLL, node: ExampleNode, call: object) -> None:
    assert isinstance(call, bodies.Call)
    rows = (0, call.rows) if call.rows else None
    assert_close(bodies.run(library, call, node.inputs, rows), node.expected[0])


def example(op: str, attrs: Attrs, *arrays: Array) -> ExampleNode:
    return float_node(OPS[op], Example("given", attrs, lambda rng: arrays, None))


def test_generated_rows_run_through_rings(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 3, 2)
    node = example("add", NO_ADD, x, np.array([100, 200], np.float32))
    call = next(c for c in bodies.cases(node) if c.rows)
    ringed = bodies.with_rings(call, ring_0=2, ring_y=2)
    ring = np.zeros_like(x)
    ring[0, :2] = x[0, 2:]  # rows 2 and 3 stand at 0 and 1
    made = bodies.run(bodies.build([ringed], tmp_path), ringed, (ring, node.inputs[1]), (2, 4))
    np.testing.assert_array_equal(made[0, :2], node.expected[0][0, 2:])


NO_ADD = BinaryAttrs()


def test_equal_bodies_have_one_symbol_and_others_do_not() -> None:
    first, second = (
        bodies.cases(example("add", NO_ADD, *(np.ones(s, np.float32) for s in ((2, n), (n,)))))[0]
        for n in (3, 4)
    )
    assert pointwise.emit(first) == pointwise.emit(first)
    assert pointwise.emit(first)[0] != pointwise.emit(second)[0]


def test_integer_sums_wrap_as_in_numpy(tmp_path: Path) -> None:
    x = np.array([2**31 - 1, -(2**31), 5], np.int32)
    node = example("add", NO_ADD, x, x)
    call = bodies.cases(node)[0]
    np.testing.assert_array_equal(
        bodies.run(bodies.build([call], tmp_path), call, (x, x), None), node.expected[0]
    )


def test_masked_fill_writes_minus_infinity(tmp_path: Path) -> None:
    x, mask = np.ones(3, np.float32), np.array([True, False, True])
    call = bodies.cases(example("masked_fill", MaskedFillAttrs(-math.inf), x, mask))[0]
    y = bodies.run(bodies.build([call], tmp_path), call, (x, mask), None)
    assert y.tolist() == [-math.inf, 1.0, -math.inf]


def test_a_chain_of_ops_becomes_one_loop(tmp_path: Path) -> None:
    f32 = DType.F32
    x, scale = Type((2, 3), f32), Type((3,), f32)
    steps = (
        pointwise.Step("mul", (), (0, 1), f32, f32),
        pointwise.Step("silu", (), (-1,), f32, f32),
        pointwise.Step("add", (), (-2, 0), f32, f32),
    )
    text = pointwise.loop("chain", steps, (x, scale), x, None)
    assert text == (
        "static void chain(const float *x0, const float *x1, float *xy)\n{\n"
        "    for (int32_t i0 = 0; i0 < 2; i0++) {\n"
        "        for (int32_t i1 = 0; i1 < 3; i1++) {\n"
        "            const float v0 = x0[i0 * 3 + i1];\n"
        "            const float v1 = x1[i1];\n"
        "            const float t0 = v0 * v1;\n"
        "            const float t1 = t0 / (1.0f + expf(-t0));\n"
        "            const float t2 = t1 + v0;\n"
        "            xy[i0 * 3 + i1] = t2;\n"
        "        }\n    }\n}\n"
    )


def test_broadcast_merges_axes_that_run_on() -> None:
    plan = broadcast((1, 4, 5, 3), [(1, 4, 5, 3), (3,)])
    assert plan.sizes == (20, 3)
    assert plan.strides == ((3, 1), (0, 1))


def test_reduction_axes_split_into_kept_and_reduced() -> None:
    kept, gone = split_axes((2, 4, 5, 3), (1, 2))
    assert (kept.sizes, kept.strides) == ((2, 3), ((60, 1),))
    assert (gone.sizes, gone.strides) == ((20,), ((3,),))


S8 = DType.I8


def s8(shape: tuple[int, ...], scale: float = 0.05, zero: int = 3) -> Type:
    return Type(shape, S8, per_tensor(scale, zero))


def view(op: str, attrs: Attrs, inputs: tuple[Type, ...], output: Type) -> NodeView:
    names = tuple(f"x{i}" for i in range(len(inputs)))
    return NodeView(
        Node(op, names, (Value("y", output),), attrs, Loc("")), inputs, (output,), (None,) * len(inputs)
    )


def kernel(symbol: str, op: str) -> Kernel:
    return next(k for k in KERNELS if k.symbol == symbol and k.op == op)


ALL = np.arange(-128, 128).astype(np.int8)
PAIRS = tuple(np.repeat(ALL, 256).reshape(-1) if i == 0 else np.tile(ALL, 256) for i in (0, 1))


@pytest.mark.parametrize("op", ["add", "sub", "mul", "minimum", "maximum"])
@pytest.mark.parametrize("scales", [(0.05, 0.05, 0.1), (0.001, 0.9, 0.004), (1.0, 2e-5, 0.6)])
def test_every_pair_of_int8_equals_the_op(op: str, scales: tuple[float, float, float]) -> None:
    symbol = f"ec_{'add' if op == 'sub' else op}_s8"
    shape = PAIRS[0].shape
    types = (s8(shape, scales[0], -128), s8(shape, scales[1], 127))
    out = s8(shape, scales[2], 11)
    attrs = BinaryAttrs((-0.5, math.inf)) if op in ("add", "sub", "mul") else NO_ATTRS
    node = view(op, attrs, types, out)
    (made,) = harness.run_whole(kernel(symbol, op), node, PAIRS)
    (expected,) = run(OPS[op], attrs, types, PAIRS, (out,))
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("shapes", [((1, 6, 4, 3), (1, 1, 1, 3)), ((1, 6, 4, 1), (6, 1, 3)), ((4, 3), ())])
@pytest.mark.parametrize("spare", [0, 3])
def test_rows_of_a_broadcast_equal_the_whole(shapes: tuple[tuple[int, ...], ...], spare: int) -> None:
    rng = np.random.default_rng(4)
    arrays = tuple(rng.integers(-128, 128, s).astype(np.int8) for s in shapes)
    out = s8((1, 6, 4, 3) if len(shapes[0]) == 4 else (1, 1, 4, 3), 0.1, -7)
    types = tuple(s8(s, 0.03 * (i + 1), i) for i, s in enumerate(shapes))
    node = view("mul", NO_ADD, types, out)
    (expected,) = run(OPS["mul"], NO_ADD, types, arrays, (out,))
    (made,) = harness.run_rows(kernel("ec_mul_rows_s8", "mul"), node, arrays, spare)
    np.testing.assert_array_equal(made, expected.reshape(out.dims)[0])


def test_table_is_zero_outside_the_domain_and_saturates_at_infinity() -> None:
    table = lookup_table("rsqrt", NO_ATTRS, s8((1,), 0.1, 0), s8((1,), 0.05, -5))
    assert table[128 - 40] == -5
    assert table[128] == 127


def test_clamp_table_holds_its_bounds() -> None:
    table = lookup_table("clamp", ClampAttrs(-1.0, 2.0), s8((1,), 0.1, 0), s8((1,), 0.1, 0))
    assert (table.min(), table.max()) == (-10, 20)


QUANT: Quant = per_tensor(0.037, -11)


def quantized_by_kernel(x: Array) -> tuple[Array, Array]:
    types, out = (Type(x.shape, DType.F32),), Type(x.shape, S8, QUANT)
    node = view("quantize", NO_ATTRS, types, out)
    (expected,) = run(OPS["quantize"], NO_ATTRS, types, (x,), (out,))
    return harness.run_whole(kernel("ec_quantize_f32", "quantize"), node, (x,))[0], expected


def test_quantize_kernel_equals_the_op_on_ties_and_extremes() -> None:
    ties = (np.arange(-300, 300) + 0.5) * 0.037
    near = np.nextafter(ties.astype(np.float32), np.float32(np.inf))
    extremes = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-45]
    made, expected = quantized_by_kernel(np.concatenate([ties, near, extremes]).astype(np.float32))
    np.testing.assert_array_equal(made, expected)


def test_quantize_is_one_step_from_the_exact_rounding_at_most() -> None:
    x = np.random.default_rng(1).normal(size=4000, scale=3.0).astype(np.float32)
    made, _ = quantized_by_kernel(x)
    distance = np.abs(made.astype(int) - quantize_array(x, QUANT))
    assert distance.max() <= 1
    assert np.count_nonzero(distance) < 4


def test_prelu_takes_negative_slopes() -> None:
    x, slope = np.tile(ALL, 2), np.array([-1.5, 0.25], np.float32)
    types = (s8((256, 2), 0.05, 5), Type((2,), DType.F32))
    out = s8((256, 2), 0.07, -20)
    arrays = (x.reshape(256, 2), slope)
    node = NodeView(
        Node("prelu", ("x", "@s"), (Value("y", out),), NO_ATTRS, Loc("")), types, (out,), (None, slope)
    )
    (made,) = harness.run_whole(kernel("ec_prelu_s8", "prelu"), node, arrays)
    (expected,) = run(OPS["prelu"], NO_ATTRS, types, arrays, (out,))
    np.testing.assert_array_equal(made, expected)


def test_gradient_of_a_clamped_sum_is_zero_outside() -> None:
    from edgec import interp
    from edgec.build import Builder

    b = Builder("g")
    x = b.input("x", Type((3,), DType.F32))
    dy = b.input("dy", Type((3,), DType.F32))
    b.node("add", (x, x), BinaryAttrs((0.0, 1.0)))
    vjp = OPS["add"].vjp
    assert callable(vjp)
    da, db = vjp(b, b.nodes[-1], (dy,))
    assert da is not None and db is not None
    b.output(da, "da")
    program = b.program()
    feeds = {"x": np.array([-1.0, 0.2, 3.0], np.float32), "dy": np.array([5.0, 6.0, 7.0], np.float32)}
    outputs, _ = interp.run(program, program.graphs[0], feeds)
    assert outputs[da].tolist() == [0.0, 6.0, 0.0]
