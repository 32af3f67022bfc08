"""Rows in int8 with scales of their own, and products of them, against their ops: integers bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import NO_ATTRS, Array, DType
from edgec.ops.linear_w8a8 import LinearW8A8Attrs

ROWS, LINEAR = "ec_quantize_rows_cuda", "ec_linear_w8a8_cuda"


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(4)
    for dtype in (DType.F16, DType.BF16, DType.F32):
        for shape in ((1, 4096), (3, 5, 100), (17, 33), (130, 14336), (2, 6)):
            x = floats(rng, shape, dtype, 3.0)
            x[..., 0, :] *= np.asarray(0, dtype.numpy)  # a row of zeros
            yield Case(f"rows {dtype.value} {shape}", "quantize_rows", NO_ATTRS, (x,), symbol=ROWS)
    for rows in (1, 2, 5, 16, 17, 31, 64, 100, 128, 130):
        for dtype in ("f16", "bf16", "f32"):
            outputs, channels = int(rng.integers(1, 500)), 16 * int(rng.integers(1, 90))
            arrays: tuple[Array, ...] = (
                rng.integers(-127, 128, (rows, channels)).astype(np.int8),
                rng.uniform(0.001, 0.1, (rows, 1)).astype(np.float32),
                rng.integers(-127, 128, (outputs, channels)).astype(np.int8),
                rng.uniform(0.0001, 0.001, outputs).astype(np.float32),
            )
            if rows % 2:
                arrays += (rng.normal(size=outputs).astype(np.float32),)
            attrs = LinearW8A8Attrs(dtype, (-20.0, 30.0) if rows > 16 else None)
            label = f"linear {dtype} {rows}x{channels}x{outputs}"
            held = tuple(range(2, len(arrays)))
            yield Case(label, "linear_w8a8", attrs, arrays, constants=held, symbol=LINEAR)


def test_linear_w8a8_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
