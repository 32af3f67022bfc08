"""Generated pointwise loops on a GPU against their ops: every op, element type, and ways to broadcast."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends import kernels_cuda_pointwise
from edgec.backends.kernels_cuda_pointwise import FLOATS
from edgec.ir import NO_ATTRS, OF_NUMPY, Array, DType
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.ops.cast import CastAttrs
from edgec.ops.examples import example_rng
from edgec.ops.select import MaskedFillAttrs

CASTS = (DType.F32, DType.F16, DType.BF16, DType.I64, DType.I32, DType.I16, DType.I8, DType.U8, DType.B8)
SHAPES = (
    ((2, 56, 56, 24), (24,)),
    ((3, 7, 5), (3, 1, 5)),
    ((1, 14, 14, 96), (1, 1, 1, 96)),
    ((8, 1), (1, 8)),
    ((1001,), ()),
    ((4, 3, 2, 10), (3, 1, 10)),
)


def examples() -> Iterator[Case]:
    """The examples of each op, in every float type."""
    for kernel in kernels_cuda_pointwise.KERNELS:
        op = OPS[kernel.op]
        for n, example in enumerate(op.examples):
            arrays = example.make(example_rng(op, example))
            plain = all(a.dtype != np.float32 for a in arrays)
            for dtype in FLOATS[:1] if plain else FLOATS[:2] if n else FLOATS:
                given = tuple(a.astype(dtype.numpy) if a.dtype == np.float32 else a for a in arrays)
                label = f"{op.name} {example.label} {dtype.value}"
                yield Case(label, op.name, example.attrs, given, symbol=kernel.symbol)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    if dtype is DType.B8:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_float:
        return floats(rng, shape, dtype, 40.0)
    low = 0 if dtype is DType.U8 else -100
    return rng.integers(low, 100, shape).astype(dtype.numpy)


def casts() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for source in CASTS:
        for to in CASTS:
            if source is to:
                continue
            for size in (1, 64, 4099):
                x = _drawn(rng, (size,), source)
                x = np.abs(x) if to is DType.U8 and source is not DType.B8 else x
                attrs = CastAttrs(to.value)
                yield Case(
                    f"{source.value} to {to.value} {size}", "cast", attrs, (x,), symbol="ec_pw_cast_cuda"
                )


def broadcasts() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for dtype in (*FLOATS, DType.I64, DType.I32, DType.I8):
        for a, b in SHAPES if dtype in (DType.F16, DType.I8) else SHAPES[::3]:
            for op, attrs in (
                ("add", BinaryAttrs()),
                ("mul", BinaryAttrs((-3.0, 5.0))),
                ("maximum", NO_ATTRS),
            ):
                arrays = (_drawn(rng, a, dtype), _drawn(rng, b, dtype))
                yield Case(f"{op} {dtype.value} {a} {b}", op, attrs, arrays, symbol=f"ec_pw_{op}_cuda")
            mask = _drawn(rng, b, DType.B8)
            arrays = (_drawn(rng, a, dtype), mask)
            fill = MaskedFillAttrs(float("-inf") if dtype.is_float else -7.0)
            label = f"fill {dtype.value} {a} {b}"
            if np.broadcast_shapes(a, b) == a:
                yield Case(label, "masked_fill", fill, arrays, symbol="ec_pw_masked_fill_cuda")
            where = (mask, _drawn(rng, a, dtype), _drawn(rng, b, dtype))
            label = f"where {dtype.value} {a} {b}"
            yield Case(label, "where", NO_ATTRS, where, symbol="ec_pw_where_cuda")


def cases() -> Iterator[Case]:
    yield from examples()
    yield from casts()
    yield from broadcasts()


def test_pointwise_loops_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}


def test_every_type_is_drawn() -> None:
    seen = {OF_NUMPY[a.dtype.name] for case in cases() for a in case.arrays}
    assert seen >= set(CASTS)
