"""Depthwise convolution on a GPU against its op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends.cuda_record import FLOATS
from edgec.ops.conv2d import Conv2dAttrs

SHAPES = (
    *((1, 112, 112, 32), (1, 56, 56, 144), (1, 14, 14, 384), (1, 7, 7, 960), (2, 14, 14, 240)),
    *((1, 9, 5, 3), (3, 6, 7, 10), (1, 2, 3, 8), (2, 30, 31, 68)),
)


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(8)
    for dtype in FLOATS:
        for shape in SHAPES:
            c = shape[3]
            for size in (3, 5, 7):
                for stride in (1, 2):
                    p = size // 2
                    pad = (p, p, p, p) if size != 5 or stride == 1 else (1, 2, 1, 2)
                    act = (0.0, 6.0) if stride == 2 else None
                    attrs = Conv2dAttrs((stride, stride), pad, groups=c, act=act)
                    w = floats(rng, (c, size, size, 1), dtype, 1.0 / size)
                    arrays = (floats(rng, shape, dtype), w, floats(rng, (c,), dtype))[: 3 if size != 5 else 2]
                    yield Case(
                        f"{dtype.value} {shape} {size}x{size} / {stride}",
                        "conv2d",
                        attrs,
                        arrays,
                        constants=tuple(range(1, len(arrays))),
                        symbol="ec_depthwise_conv2d_cuda",
                    )


def test_depthwise_convolution_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
