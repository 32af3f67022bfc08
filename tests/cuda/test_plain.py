"""The plain linear kernel against its op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import DType
from edgec.ops.linear import LinearAttrs


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for dtype in (DType.F32, DType.F16, DType.BF16):
        for rows, k, n in ((1, 1, 1), (3, 33, 7), (5, 64, 129), (130, 17, 31)):
            arrays = tuple(floats(rng, s, dtype) for s in ((rows, k), (n, k), (n,)))
            for count, act in ((2, None), (3, (-0.5, 0.5))):
                yield Case(
                    f"plain {dtype.value} {rows}x{k}x{n} {count}",
                    "linear",
                    LinearAttrs(act=act),
                    arrays[:count],
                    constants=tuple(range(1, count)),
                    symbol="ec_linear_plain_cuda",
                )


def test_plain_linear_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
