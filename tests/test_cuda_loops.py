"""What is decided on the host for CUDA's data movement and generated loops: divisions, units, vectors, text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.backends.cuda_move import divider, in_units, unit_bytes, walk_unit
from edgec.backends.cuda_pointwise import emit_loop, vector_of
from edgec.backends.kernels_cuda_pointwise import KERNELS
from edgec.backends.strided import broadcast
from edgec.ir import DType, Loc, Node, Type, Value
from edgec.ops import OPS
from edgec.ops.activation import GeluAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.plan import BufferArg, Call, LoopStep, NodeView
from edgec.targets.load import load_target

TARGET = load_target("orin")


def _call(op: str, attrs: object, *types: Type) -> Call:
    (out,) = OPS[op].infer(attrs, types)  # type: ignore[arg-type]
    names = tuple(f"x{i}" for i in range(len(types)))
    node = Node(op, names, (Value("y", out),), attrs, Loc(""))  # type: ignore[arg-type]
    view = NodeView(node, types, (out,), (None,) * len(types))
    kernel = next(k for k in KERNELS if k.op == op)
    assert kernel.accepts(view, TARGET)
    fields = kernel.launch(view, TARGET).fields
    inputs = tuple(BufferArg(n) for n in names)
    return Call(
        *(kernel, "y", "", fields, inputs, (), (BufferArg("y"),), None, 0, None, 0, op, Loc("")),
        in_types=types,
        out_types=(out,),
    )


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_division_is_a_multiplication_and_a_shift(size: int, n: int) -> None:
    magic, shift = divider(size)
    assert magic < 2**32
    assert ((n * magic >> 32) + n) >> shift == n // size


def test_units_are_as_large_as_sizes_strides_and_offsets_allow() -> None:
    assert unit_bytes(2, 64, 48) == 16
    assert unit_bytes(2, 64, 6) == 2
    assert walk_unit(((5, 96), (64, 1)), 32, 2) == 16
    assert walk_unit(((5, 96), (64, 1)), 4, 2) == 8
    assert walk_unit(((5, 1), (64, 5)), 0, 2) == 2  # not dense: element by element
    assert in_units(((5, 96), (64, 1)), 8) == ((5, 12), (8, 1))


@pytest.mark.parametrize(
    ("dtype", "a", "b", "vector"),
    [
        (DType.F16, (4, 16), (16,), 8),
        (DType.F32, (4, 16), (16,), 4),
        (DType.I8, (4, 16), (16,), 16),
        (DType.F16, (4, 6), (6,), 2),
        (DType.F16, (4, 6), (4, 1), 2),
        (DType.F16, (7, 9), (7, 9), 8),  # one axis: a rest follows
        (DType.F16, (5,), (), 1),
    ],
)
def test_vectors_fill_16_bytes_where_the_innermost_axis_allows(
    dtype: DType, a: tuple[int, ...], b: tuple[int, ...], vector: int
) -> None:
    out = np.broadcast_shapes(a, b)
    types = (Type(a, dtype), Type(b, dtype), Type(out, dtype))
    assert vector_of(broadcast(out, [a, b, out]), types) == vector


def test_half_types_are_computed_in_float_and_rounded_once() -> None:
    half = Type((2, 8), DType.F16)
    one = _call("add", BinaryAttrs((0.0, 6.0)), half, Type((8,), DType.F16))
    two = LoopStep("gelu", (("tanh", 0),), (-1,), DType.F16)
    first = LoopStep("add", one.params, (0, 1), DType.F16)
    joined = _call("gelu", GeluAttrs(), half)
    call = Call(
        *(joined.kernel, "y", "", (), one.inputs, (), joined.outputs, None, 0, None, 0, "gelu", Loc("")),
        in_types=one.in_types,
        out_types=(half,),
        loop=(first, two),
    )
    symbol, text, grid = emit_loop(call, TARGET)
    assert grid.body == symbol
    assert (grid.blocks, grid.threads) == ((1, 1, 1), 64)
    assert text.count("ec_element<__half>::of") == 1
    assert (
        "const ec_vector<__half, 8> x1 = *(const ec_vector<__half, 8> *)((const __half *)in1 + (i1));" in text
    )
    assert "const float t1 = t0 < 0.0f ? 0.0f : (t0 > 6.0f ? 6.0f : t0);" in text
    assert "y.at[j] = ec_element<__half>::of(t2);" in text


def test_equal_loops_have_equal_symbols() -> None:
    half = Type((2, 8), DType.F16)
    assert emit_loop(_call("relu", OPS["relu"].attrs(), half), TARGET) == emit_loop(
        _call("relu", OPS["relu"].attrs(), half), TARGET
    )
