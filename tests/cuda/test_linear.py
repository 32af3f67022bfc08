"""linear and matmul in fp16, bf16 and fp32 against their ops."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import DType
from edgec.ops.linear import LinearAttrs, MatmulAttrs

FLOATS = (DType.F16, DType.BF16, DType.F32)
# (shape of x, outputs): tails in M, N and K; K odd; one row; rows of one channel; K long enough to be split
LINEAR = (
    ((1, 2048), 1000),
    ((197, 768), 2304),
    ((197, 3072), 768),
    ((3, 5, 96), 40),
    ((130, 72), 129),
    ((7, 33), 6),
    ((1, 1), 1),
    ((19,), 8),
    ((49, 4608), 512),
    ((300, 10), 12),
    ((1, 1, 1, 1152), 48),
    ((1, 1, 1, 4), 96),
    ((2100, 16), 130),
)
# (shape of a, shape of b, b transposed): batches, broadcasts both ways, odd sizes, one matrix for all
MATMUL = (
    ((3, 197, 64), (3, 197, 64), True),
    ((3, 197, 200), (3, 200, 64), False),
    ((2, 3, 40, 24), (3, 24, 72), False),
    ((2, 1, 17, 40), (5, 40, 8), False),
    ((4, 5, 33), (4, 33, 7), False),
    ((4, 5, 33), (4, 7, 33), True),
    ((2, 9, 64), (64, 128), False),
    ((6, 17), (17, 3), False),
    ((2, 3, 2, 5, 16), (3, 1, 8, 16), True),
    ((50, 2048), (2048, 64), False),
)


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for dtype in FLOATS:
        for n, (shape, outputs) in enumerate(LINEAR):
            k = shape[-1]
            arrays = (
                floats(rng, shape, dtype),
                floats(rng, (outputs, k), dtype, k**-0.5),
                floats(rng, (outputs,), dtype),
            )
            count, act = (2, None) if n % 3 == 2 else (3, (0.0, 0.75) if n % 2 else None)
            yield Case(
                f"linear {dtype.value} {shape} -> {outputs}",
                "linear",
                LinearAttrs(act=act),
                arrays[:count],
                constants=tuple(range(1, count)),
                symbol="ec_linear_cuda",
            )
        x, w = floats(rng, (50, 96), dtype), floats(rng, (24, 96), dtype, 0.1)
        label = f"linear {dtype.value}, weights computed at run time"
        yield Case(label, "linear", LinearAttrs(), (x, w), symbol="ec_linear_cuda")
        for left, right, transposed in MATMUL:
            pair = (floats(rng, left, dtype), floats(rng, right, dtype, left[-1] ** -0.5))
            yield Case(
                f"matmul {dtype.value} {left} {right} {transposed}",
                "matmul",
                MatmulAttrs(transpose_b=transposed),
                pair,
                symbol="ec_matmul_cuda",
            )


def test_products_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
