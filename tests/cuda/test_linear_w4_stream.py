"""Linear layers with 4-bit weights on few rows, weights through rings in shared memory, against their op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case

from edgec.ir import DType
from edgec.ops.linear_w4 import LinearW4Attrs
from tests.cuda.test_linear_w4 import case

STREAM = "ec_linear_w4_stream_cuda"
GROUPS = ((64, True), (64, False), (128, True), (128, False))  # of up to eight rows; the last two of more


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(11)
    for rows, norm, gated, dtype in (
        (1, 1e-5, False, DType.F16),
        (4, 1e-5, True, DType.BF16),
        (3, None, True, DType.F16),
        (8, 1e-6, True, DType.F16),
        (11, 1e-5, True, DType.BF16),
        (16, 1e-5, False, DType.F16),
    ):  # a block has all channels, or shares them with one other
        for channels in (1024, 6 * 1024):
            attrs = LinearW4Attrs(128, None, gated, norm)
            yield case(rng, STREAM, attrs, (rows, channels), 4400, dtype, bias=channels == 1024)
    for rows in (1, 2, 3, 4, 5, 8, 9, 15, 16):
        for group, symmetric in GROUPS[2 if rows > 8 else 0 :]:  # the last warps have fewer
            outputs, channels = int(rng.integers(2112, 9000)), group * int(rng.integers(16, 70))
            attrs = LinearW4Attrs(group, (-20.0, 30.0) if rows % 2 else None)
            yield case(rng, STREAM, attrs, (rows, channels), outputs, symmetric=symmetric, bias=rows > 2)
    for rows, channels, outputs, symmetric in (
        (1, 4096, 6144, True),
        (2, 14336, 4096, True),
        (4, 14336, 4096, False),
        (7, 11008, 4096, True),
        (16, 14336, 4096, True),
        (4, 4096, 28672, True),
        (16, 4096, 28672, True),
        (3, 4096, 4096, False),
        (1, 9344, 4096, False),
    ):
        yield case(rng, STREAM, LinearW4Attrs(128), (rows, channels), outputs, symmetric=symmetric)
    for rows, channels, outputs in (
        (1, 1024, 40000),
        (4, 64 * 29, 3001),
        (2, 128 * 33, 2113),
        (7, 64 * 75, 2500),
    ):
        yield case(rng, STREAM, LinearW4Attrs(64, None, False, 1e-6), (rows, channels), outputs)


def test_linear_w4_stream_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
