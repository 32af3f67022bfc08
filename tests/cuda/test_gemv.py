"""Linear layers of few rows and very many outputs against their op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
import pytest
from cuda_harness import Case, floats

from edgec.ir import DType
from edgec.ops.linear import LinearAttrs

pytestmark = pytest.mark.skipif(not cuda_harness.gpu_is_here(), reason="needs a CUDA GPU")


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(8)
    shapes = ((1, 4096, 32000), (1, 1000, 40001), (4, 8 * 513, 8200), (3, 520, 70001))
    for dtype in (DType.F16, DType.BF16):
        for rows, channels, outputs in shapes[: 4 if dtype is DType.F16 else 1]:
            arrays = [floats(rng, s, dtype) for s in ((rows, channels), (outputs, channels))]
            act = None
            if rows > 1:
                arrays.append(floats(rng, (outputs,), dtype))
                act = (-50.0, 60.0)
            label = f"gemv {dtype.value} {rows}x{channels}x{outputs}"
            held = tuple(range(1, len(arrays)))
            yield Case(
                label, "linear", LinearAttrs(act), tuple(arrays), constants=held, symbol="ec_gemv_cuda"
            )


def test_gemv_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
