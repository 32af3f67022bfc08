"""int8 broadcasting and reduction kernels on shapes drawn at random, against their ops."""

from __future__ import annotations

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c_pointwise import KERNELS
from edgec.ir import NO_ATTRS, OF_NUMPY, Array, Attrs, DType, Loc, Node, Type, Value, per_tensor
from edgec.ops import OPS
from edgec.ops.define import run
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.select import MaskedFillAttrs
from edgec.plan import NodeView

QUANT = per_tensor(0.05, -9)


def shapes(rng: np.random.Generator, operands: int) -> tuple[tuple[int, ...], ...]:
    """An output shape of up to six axes, then operands that broadcast to it."""
    out = tuple(int(d) for d in rng.integers(1, 5, rng.integers(1, 7)))
    chosen = []
    for _ in range(operands):
        kept = tuple(d if rng.random() < 0.6 else 1 for d in out)
        chosen.append(kept[int(rng.integers(0, len(out))) if rng.random() < 0.3 else 0 :])
    return (out, *chosen)


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    low, high = (0, 2) if dtype == "bool" else (-128, 128)
    return np.asarray(rng.integers(low, high, shape)).astype(dtype)


def assert_kernel_equals_op(
    symbol: str, op: str, attrs: Attrs, arrays: tuple[Array, ...], scale: float | None
) -> None:
    types = tuple(
        Type(x.shape, OF_NUMPY[x.dtype.name], QUANT if x.dtype == np.int8 else None) for x in arrays
    )
    quant = QUANT if scale is None else per_tensor(scale, 4)  # None: shared
    out = Type(OPS[op].infer(attrs, types)[0].shape, DType.I8, quant)
    names = tuple(f"x{i}" for i in range(len(arrays)))
    node = Node(op, names, (Value("y", out),), attrs, Loc(""))
    view = NodeView(node, types, (out,), (None,) * len(arrays))
    kernel = next(k for k in KERNELS if k.symbol == symbol and k.op == op)
    assert kernel.accepts(view, harness.host())
    (expected,) = run(OPS[op], attrs, types, arrays, (out,))
    np.testing.assert_array_equal(harness.run_whole(kernel, view, arrays)[0], expected)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("op", ["add", "mul", "maximum"])
def test_binary_kernel_broadcasts_any_shapes(op: str, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(seed)
    _, a, b = shapes(rng, 2)
    attrs = OPS[op].attrs()
    assert_kernel_equals_op(f"ec_{op}_s8", op, attrs, (draw(rng, a, "int8"), draw(rng, b, "int8")), 0.11)
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("seed", range(30))
def test_where_broadcasts_any_shapes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, c, a, b = shapes(rng, 3)
    arrays = (draw(rng, c, "bool"), draw(rng, a, "int8"), draw(rng, b, "int8"))
    assert_kernel_equals_op("ec_where_x1", "where", NO_ATTRS, arrays, None)


@pytest.mark.parametrize("seed", range(20))
def test_masked_fill_broadcasts_its_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    out, mask = shapes(rng, 1)
    arrays = (draw(rng, out, "int8"), draw(rng, mask, "bool"))
    assert_kernel_equals_op("ec_masked_fill_x1", "masked_fill", MaskedFillAttrs(1.23), arrays, None)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(
    ("op", "symbol", "scale"),
    [
        ("reduce_sum", "ec_reduce_sum_s8", 0.4),
        ("reduce_mean", "ec_reduce_sum_s8", 0.02),
        ("reduce_max", "ec_reduce_max_s8", None),
        ("reduce_min", "ec_reduce_min_s8", None),
    ],
)
def test_reduction_takes_any_axes(op: str, symbol: str, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.integers(1, 5, rng.integers(1, 7)))
    axes = tuple(i for i in range(len(shape)) if rng.random() < 0.5) or (0,)
    attrs = ReduceAttrs(axes, bool(rng.integers(0, 2)))
    assert_kernel_equals_op(symbol, op, attrs, (draw(rng, shape, "int8"),), scale)
