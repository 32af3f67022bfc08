"""Integer forms of normalisation, softmax and attention against float64 on inputs that are hard for them,
their C kernels on the same inputs bit for bit, and data movement on drawn shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import kernel_harness as harness
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.backends.kernels_c import KERNELS
from edgec.build import Builder
from edgec.fixedpoint import dequantize_array, integer_sqrt, quantize_array, reciprocal_sqrt
from edgec.ir import (
    NO_ATTRS,
    OF_NUMPY,
    Array,
    Attrs,
    Bound,
    Dim,
    DType,
    Loc,
    Node,
    Quant,
    Type,
    Value,
    per_tensor,
)
from edgec.ops import OPS
from edgec.ops.attention import AttentionAttrs, exp2_table
from edgec.ops.define import Arrays, Example, QuantRule, TypeRule, Types
from edgec.ops.examples import range_quant
from edgec.ops.gather import GatherAttrs
from edgec.ops.norm import GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.norm_integer import COUNT_MAX, plan_norm
from edgec.ops.shape import (
    ConcatAttrs,
    ExpandAttrs,
    PadAttrs,
    ReshapeAttrs,
    RollAttrs,
    SliceAttrs,
    TransposeAttrs,
)
from edgec.ops.softmax import SOFTMAX_QUANT, SoftmaxAttrs, exp_table
from edgec.plan import NodeView


@dataclass(frozen=True)
class Case:
    """One integer node: types, int8 and parameter inputs, and the float64 outputs on the dequantised inputs."""

    op: str
    attrs: Attrs
    in_types: Types
    inputs: Arrays
    out_type: Type
    real: Array

    def integer(self) -> Array:
        rule = OPS[self.op].quant
        assert isinstance(rule, QuantRule)
        return rule.ref(self.attrs, self.in_types, self.inputs, (self.out_type,))[0]

    def lsb(self) -> int:
        """Largest distance of the integer form from float64, in output steps."""
        assert self.out_type.quant is not None
        wanted = quantize_array(self.real, self.out_type.quant)
        return int(np.abs(self.integer().astype(np.int64) - wanted).max())

    def view(self, run_time: tuple[int, ...] = (0,)) -> NodeView:
        """The node as a kernel record sees it; all inputs but `run_time` are constants."""
        names = tuple(f"x{i}" if i in run_time else f"@c{i}" for i in range(len(self.inputs)))
        node = Node(self.op, names, (Value("y", self.out_type),), self.attrs, Loc("case"))
        data = tuple(None if i in run_time else x for i, x in enumerate(self.inputs))
        return NodeView(node, self.in_types, (self.out_type,), data)

    def on_device(self, run_time: tuple[int, ...] = (0,)) -> Array:
        """The output of the C kernel that accepts the node."""
        view = self.view(run_time)
        kernel = next(k for k in KERNELS if k.op == self.op and k.accepts(view, harness.host()))
        return harness.run_whole(kernel, view, self.inputs)[0]


def case(
    op: str, attrs: Attrs, quants: tuple[Quant | None, ...], inputs: Arrays, y: Quant | None = None
) -> Case:
    """Inputs with a Quant are int8 already; the output's range is as observed unless given."""
    types = tuple(Type(x.shape, OF_NUMPY[x.dtype.name], q) for x, q in zip(inputs, quants, strict=True))
    real_inputs = tuple(
        x.astype(np.float64 if x.dtype.kind == "f" else x.dtype) if q is None else dequantize_array(x, q)
        for x, q in zip(inputs, quants, strict=True)
    )
    real = OPS[op].ref(attrs, real_inputs)[0]
    shape = OPS[op].infer(attrs, types)[0].shape
    return Case(op, attrs, types, inputs, Type(shape, DType.I8, y or range_quant(real)), real)


def int8(rng: np.random.Generator, *shape: int, low: int = -128, high: int = 127) -> Array:
    return rng.integers(low, high, shape, endpoint=True).astype(np.int8)


def one_hot_rows(count: int) -> Array:
    """Rows whose only deviation is one element: the largest normalised value there is, sqrt(count - 1)."""
    x = np.full((4, count), -3, np.int8)
    x[0, 0], x[1, count // 2], x[2, -1] = 127, -4, -2
    return x


# --- reciprocal square root


@given(st.integers(0, (1 << 62) - 1))
@settings(max_examples=300)
def test_integer_sqrt_is_exact(v: int) -> None:
    assert int(integer_sqrt(v)) == math.isqrt(v)


@pytest.mark.parametrize("root", [1, 3, 2**15, 2**26 + 1, 2**30, 2**31 - 1])
def test_integer_sqrt_is_exact_round_squares(root: int) -> None:
    square = root * root
    assert [int(integer_sqrt(v)) for v in (square - 1, square)] == [root - 1, root]


@given(st.integers(1, (1 << 62) - 1))
@settings(max_examples=300)
def test_reciprocal_sqrt_is_within_2_to_minus_28(v: int) -> None:
    r, k = (int(a) for a in reciprocal_sqrt(v))
    # r^2 v 4^k / 2^120 is 1 for an exact root; its relative error is twice that of r
    assert abs(r * r * v * 4**k - 2**120) <= 2**120 >> 27


def test_reciprocal_sqrt_of_zero_is_zero() -> None:
    assert [int(a) for a in reciprocal_sqrt(0)] == [0, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 4096, COUNT_MAX])
def test_norm_sum_of_variance_and_eps_stays_below_2_to_62(count: int) -> None:
    plan = plan_norm(count, 1.0, per_tensor(1e-6, 0), per_tensor(0.03, 0), None, None)
    assert plan.fraction % 2 == 0
    assert (count * count * 2**16 << plan.fraction) + plan.eps < 2**62


def test_norm_refuses_more_elements_than_its_range_allows() -> None:
    with pytest.raises(ValueError, match="at most 1048576 elements"):
        plan_norm(COUNT_MAX + 1, 1e-5, per_tensor(0.1, 0), per_tensor(0.1, 0), None, None)


# --- normalisations


def norm_cases() -> list[object]:
    rng = np.random.default_rng(5)
    narrow, wide, tiny = per_tensor(0.02, 17), per_tensor(0.9, -128), per_tensor(1e-4, 0)
    layer = LayerNormAttrs(1, 1e-5)
    out = [
        pytest.param(case("layer_norm", layer, (narrow,), (int8(rng, 6, 192),)), id="layer random"),
        pytest.param(case("layer_norm", layer, (wide,), (int8(rng, 3, 1000),)), id="layer long"),
        pytest.param(case("layer_norm", layer, (tiny,), (int8(rng, 5, 64),)), id="layer eps counts"),
        pytest.param(
            case("layer_norm", layer, (tiny,), (int8(rng, 5, 2, low=-1, high=0),)), id="layer two elements"
        ),
        pytest.param(case("layer_norm", layer, (narrow,), (one_hot_rows(768),)), id="layer one-hot"),
        pytest.param(
            case("layer_norm", layer, (narrow,), (np.full((2, 40), 99, np.int8),), per_tensor(0.02, 4)),
            id="layer constant rows",
        ),
        pytest.param(case("rms_norm", RmsNormAttrs(1e-6), (narrow,), (int8(rng, 6, 192),)), id="rms random"),
        pytest.param(
            case("rms_norm", RmsNormAttrs(1e-6), (wide,), (int8(rng, 4, 33),)), id="rms far zero point"
        ),
        pytest.param(
            case("group_norm", GroupNormAttrs(4, 1e-5), (narrow,), (int8(rng, 2, 9, 7, 12),)), id="group map"
        ),
    ]
    gains = tuple(rng.normal(s, 1.0, 96).astype(np.float32) for s in (1.0, 0.0))
    out.append(
        pytest.param(
            case("layer_norm", layer, (narrow, None, None), (int8(rng, 4, 96), *gains)), id="layer affine"
        )
    )
    outlier = np.where(np.arange(96) == 7, 60.0, 0.5).astype(np.float32)
    out.append(
        pytest.param(
            case("layer_norm", layer, (narrow, None, None), (int8(rng, 4, 96), outlier, gains[1])),
            id="layer one large gain",
        )
    )
    return out


@pytest.mark.parametrize("node", norm_cases())
def test_integer_norm_stays_within_one_step_of_float64(node: Case) -> None:
    assert node.lsb() <= 1


@pytest.mark.parametrize("node", norm_cases())
def test_norm_kernel_equals_its_integer_form_on_hard_inputs(node: Case) -> None:
    np.testing.assert_array_equal(node.on_device(), node.integer())


def test_layer_norm_of_a_constant_row_is_beta() -> None:
    beta = np.linspace(-1, 1, 40).astype(np.float32)
    inputs = (np.full((1, 40), -128, np.int8), np.ones(40, np.float32), beta)
    node = case("layer_norm", LayerNormAttrs(1, 1e-5), (per_tensor(0.1, 3), None, None), inputs)
    assert node.out_type.quant is not None
    np.testing.assert_array_equal(node.integer()[0], quantize_array(beta, node.out_type.quant))


# --- softmax


def softmax_case(x: Array, scale: float, axis: int = 1) -> Case:
    return case("softmax", SoftmaxAttrs(axis), (per_tensor(scale, 5),), (x,), per_tensor(*SOFTMAX_QUANT))


SOFTMAX = [
    pytest.param(softmax_case(int8(np.random.default_rng(1), 8, 10), 0.1), id="classes"),
    pytest.param(softmax_case(int8(np.random.default_rng(2), 3, 5000), 0.05), id="5000 classes"),
    pytest.param(softmax_case(one_hot_rows(64), 0.5), id="one-hot"),
    pytest.param(softmax_case(np.full((2, 7), 127, np.int8), 1.0), id="equal"),
    pytest.param(softmax_case(np.zeros((3, 1), np.int8), 1.0), id="one class"),
    pytest.param(softmax_case(int8(np.random.default_rng(3), 4, 12), 1e-4), id="tiny scale"),
    pytest.param(softmax_case(int8(np.random.default_rng(4), 4, 12), 30.0), id="huge scale"),
    pytest.param(softmax_case(int8(np.random.default_rng(6), 2, 9, 4), 0.2), id="middle axis"),
]


@pytest.mark.parametrize("node", SOFTMAX)
def test_integer_softmax_stays_within_one_step_of_float64(node: Case) -> None:
    assert node.lsb() <= 1


@pytest.mark.parametrize("node", SOFTMAX)
def test_softmax_kernel_equals_its_integer_form_on_hard_inputs(node: Case) -> None:
    np.testing.assert_array_equal(node.on_device(), node.integer())


@pytest.mark.parametrize("count", [1, 2, 2048, 2049, 1 << 20])
def test_softmax_table_adds_up_within_its_range(count: int) -> None:
    table = exp_table(0.1, count).astype(np.int64)
    assert int(table[0]) * count <= 1 << 31
    assert (int(table[0]) << 8) + (int(table[0]) * count >> 1) < 1 << 32


# --- attention


def attention_case(
    rng: np.random.Generator,
    heads: tuple[int, int],
    tokens: tuple[int, int],
    depth: int,
    attrs: AttentionAttrs,
    scale: float,
    mask: Array | None = None,
) -> Case:
    (a, b), (t, s) = heads, tokens
    quants = (per_tensor(scale, 3), per_tensor(scale, -40), per_tensor(0.01, 11))
    inputs = (int8(rng, 2, a, t, depth), int8(rng, 2, b, s, depth), int8(rng, 2, b, s, depth))
    if mask is None:
        return case("attention", attrs, quants, inputs)
    return case("attention", attrs, (*quants, None), (*inputs, mask))


def attention_cases() -> list[object]:
    rng = np.random.default_rng(11)
    plain, causal = AttentionAttrs(0.125), AttentionAttrs(0.125, True)
    some = rng.random((2, 1, 1, 20)) < 0.6
    none = np.zeros((1, 1, 8, 20), np.bool_)
    none[..., 4:, :] = True
    bias = rng.normal(size=(4, 8, 20)).astype(np.float32)
    bias[:, :, 3] = -np.inf
    bias[:, :, 5] = -1e9
    return [
        pytest.param(attention_case(rng, (3, 3), (16, 16), 64, plain, 0.02), id="usual"),
        pytest.param(attention_case(rng, (1, 1), (4, 700), 32, plain, 0.02), id="700 keys"),
        pytest.param(attention_case(rng, (2, 2), (9, 9), 64, plain, 0.5), id="saturated scores"),
        pytest.param(attention_case(rng, (2, 2), (9, 9), 64, plain, 1e-4), id="flat scores"),
        pytest.param(attention_case(rng, (2, 2), (12, 12), 16, causal, 0.02), id="causal"),
        pytest.param(attention_case(rng, (4, 2), (7, 13), 16, plain, 0.02), id="grouped queries"),
        pytest.param(attention_case(rng, (4, 4), (8, 20), 16, plain, 0.02, some), id="mask of each sample"),
        pytest.param(attention_case(rng, (4, 4), (8, 20), 16, plain, 0.02, none), id="rows without keys"),
        pytest.param(attention_case(rng, (4, 4), (8, 20), 16, plain, 0.02, bias), id="additive mask"),
        pytest.param(attention_case(rng, (1, 1), (5, 1), 8, plain, 0.02), id="one key"),
    ]


@pytest.mark.parametrize("node", attention_cases())
def test_integer_attention_stays_within_its_bound_of_float64(node: Case) -> None:
    rule = OPS["attention"].quant
    assert isinstance(rule, QuantRule)
    assert node.lsb() <= rule.max_lsb


@pytest.mark.parametrize("node", attention_cases())
def test_attention_kernel_equals_its_integer_form_on_hard_inputs(node: Case) -> None:
    np.testing.assert_array_equal(node.on_device((0, 1, 2)), node.integer())


def test_attention_takes_a_boolean_mask_computed_at_run_time() -> None:
    mask = np.random.default_rng(3).random((2, 1, 6, 6)) < 0.5
    node = attention_case(np.random.default_rng(4), (2, 1), (6, 6), 8, AttentionAttrs(0.3), 0.02, mask)
    np.testing.assert_array_equal(node.on_device((0, 1, 2, 3)), node.integer())


def test_no_integer_attention_kernel_takes_an_additive_mask_computed_at_run_time() -> None:
    mask = np.zeros((6, 6), np.float32)
    node = attention_case(np.random.default_rng(4), (1, 1), (6, 6), 8, AttentionAttrs(0.3), 0.02, mask)
    view = node.view((0, 1, 2, 3))
    assert not any(k.accepts(view, harness.host()) for k in KERNELS if k.op == "attention")


def test_attention_over_equal_values_returns_them() -> None:
    rng = np.random.default_rng(8)
    quants = (per_tensor(0.02, 0), per_tensor(0.02, 0), per_tensor(0.01, 11))
    v = np.broadcast_to(int8(rng, 1, 1, 1, 16), (1, 1, 300, 16)).copy()
    inputs = (int8(rng, 1, 1, 3, 16), int8(rng, 1, 1, 300, 16), v)
    node = case("attention", AttentionAttrs(0.25), quants, inputs, quants[2])
    np.testing.assert_array_equal(node.integer(), np.broadcast_to(v[:, :, :1], (1, 1, 3, 16)))


def test_exp2_table_covers_one_power_of_two() -> None:
    table = exp2_table()
    assert table[0] == 1 << 30
    assert table[255] == round(2.0 ** (30 - 255 / 256))


# --- data movement beyond the examples


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int8, np.bool_])
def test_movement_kernels_take_any_element_type(dtype: type) -> None:
    rng = np.random.default_rng(2)
    for op in ("transpose", "slice", "concat", "pad", "roll", "index_select"):
        for example in OPS[op].examples:
            inputs = tuple(x if x.dtype == np.int32 else (x * 3).astype(dtype) for x in example.make(rng))
            np.testing.assert_array_equal(*_on_device(op, example, inputs))


def _on_device(op: str, example: Example, inputs: Arrays) -> tuple[Array, Array]:
    """(kernel's output, op's output) of a node that is not quantised."""
    types = tuple(Type(x.shape, OF_NUMPY[x.dtype.name]) for x in inputs)
    out = OPS[op].infer(example.attrs, types)
    node = Node(op, ("x",) * len(inputs), (Value("y", out[0]),), example.attrs, Loc("case"))
    view = NodeView(node, types, out, (None,) * len(inputs))
    kernel = next(k for k in KERNELS if k.op == op and k.accepts(view, harness.host()))
    return harness.run_whole(kernel, view, inputs)[0], OPS[op].ref(example.attrs, inputs)[0]


@pytest.mark.parametrize("index", [-1, -5, -6, 5, 2**31 - 1, -(2**31)])
def test_an_index_outside_of_its_tensor_reads_the_nearest_element(index: int) -> None:
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    example = Example("", NO_ATTRS, lambda rng: (), None)
    actual, expected = _on_device("embedding", example, (table, np.array([index], np.int32)))
    np.testing.assert_array_equal(actual, expected)
    nearest = min(max(index + 5 if index < 0 else index, 0), 4)
    np.testing.assert_array_equal(actual[0], table[nearest])


def test_reshape_keeps_a_bound() -> None:
    b = Builder("g")
    tokens = Bound("n", 12)
    x = b.input("x", Type((1, tokens, 4), DType.F32))
    assert b.types[b.call("reshape", x, attrs=ReshapeAttrs((-1, 2, 2)))].shape == (tokens, 2, 2)


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_transposes_of_any_axes_equal_numpy(sizes: list[int], data: st.DataObject) -> None:
    perm = tuple(data.draw(st.permutations(range(len(sizes)))))
    x = np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes)
    example = Example("", TransposeAttrs(perm), lambda rng: (), None)
    np.testing.assert_array_equal(*_on_device("transpose", example, (x,)))


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_slices_of_any_axis_equal_numpy(sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(sizes) - 1))
    start = data.draw(st.integers(0, sizes[axis] - 1))
    attrs = SliceAttrs(
        axis, start, data.draw(st.integers(start + 1, sizes[axis])), data.draw(st.integers(1, 3))
    )
    x = np.arange(math.prod(sizes), dtype=np.int32).astype(np.int8).reshape(sizes)
    np.testing.assert_array_equal(*_on_device("slice", Example("", attrs, lambda rng: (), None), (x,)))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_rolls_of_any_axes_equal_numpy(sizes: list[int], data: st.DataObject) -> None:
    axes = tuple(data.draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1)))
    shifts = tuple(data.draw(st.integers(-7, 7)) for _ in axes)
    x = np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes)
    example = Example("", RollAttrs(shifts, axes), lambda rng: (), None)
    np.testing.assert_array_equal(*_on_device("roll", example, (x,)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_gathers_along_any_axis_equal_numpy(sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(sizes) - 1))
    shape = [data.draw(st.integers(1, 6 if a == axis else s)) for a, s in enumerate(sizes)]
    index = np.random.default_rng(0).integers(-9, 9, shape).astype(np.int32)
    x = np.arange(math.prod(sizes), dtype=np.float32).reshape(sizes)
    example = Example("", GatherAttrs(axis), lambda rng: (), None)
    np.testing.assert_array_equal(*_on_device("gather", example, (x, index)))


TOKENS = Bound("n", 12)


@pytest.mark.parametrize(
    ("op", "attrs", "shapes", "expected"),
    [
        ("transpose", TransposeAttrs((1, 0)), ((TOKENS, 4),), (4, TOKENS)),
        ("slice", SliceAttrs(1, 1, 3), ((TOKENS, 4),), (TOKENS, 2)),
        ("expand", ExpandAttrs((5, -1, 4)), ((1, TOKENS, 1),), (5, TOKENS, 4)),
        ("concat", ConcatAttrs(1), ((TOKENS, 4), (TOKENS, 2)), (TOKENS, 6)),
        ("pad", PadAttrs(((0, 0), (1, 1))), ((TOKENS, 4),), (TOKENS, 6)),
        ("softmax", SoftmaxAttrs(1), ((TOKENS, 4),), (TOKENS, 4)),
        ("layer_norm", LayerNormAttrs(1, 1e-5), ((TOKENS, 4),), (TOKENS, 4)),
        (
            "attention",
            AttentionAttrs(0.5),
            ((1, 2, 3, 4), (1, 2, TOKENS, 4), (1, 2, TOKENS, 5)),
            (1, 2, 3, 5),
        ),
    ],
)
def test_sizes_known_only_at_run_time_pass_through(
    op: str, attrs: Attrs, shapes: tuple[tuple[Dim, ...], ...], expected: tuple[Dim, ...]
) -> None:
    types = tuple(Type(shape, DType.F32) for shape in shapes)
    assert OPS[op].infer(attrs, types)[0].shape == expected


def test_an_axis_without_a_fixed_size_cannot_be_cut() -> None:
    with pytest.raises(TypeRule, match="known only at run time"):
        OPS["slice"].infer(SliceAttrs(0, 0, 2), (Type((TOKENS, 4), DType.F32),))
