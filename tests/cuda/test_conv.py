"""Convolutions in fp16, bf16 and fp32 against their ops."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import Attrs, DType
from edgec.ops.conv import Conv1dAttrs, ConvTranspose2dAttrs
from edgec.ops.conv2d import Conv2dAttrs

FLOATS = (DType.F16, DType.BF16, DType.F32)
Shape = tuple[int, ...]
CONV: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((1, 56, 56, 64), (64, 3, 3, 64), Conv2dAttrs(pad=(1, 1, 1, 1), act=(0.0, float("inf")))),
    ((1, 14, 14, 256), (256, 3, 3, 256), Conv2dAttrs(pad=(1, 1, 1, 1))),
    ((1, 7, 7, 512), (512, 3, 3, 512), Conv2dAttrs(pad=(1, 1, 1, 1), act=(0.0, float("inf")))),
    ((1, 28, 28, 64), (128, 1, 1, 64), Conv2dAttrs(stride=(2, 2))),
    ((2, 14, 14, 48), (24, 1, 1, 48), Conv2dAttrs(act=(0.0, 6.0))),
    ((2, 9, 11, 16), (40, 3, 3, 16), Conv2dAttrs((2, 1), (0, 1, 2, 0), (1, 2))),
    ((1, 12, 12, 8), (16, 5, 3, 8), Conv2dAttrs(pad=(4, 4, 2, 2), dilation=(2, 2))),
    ((1, 32, 32, 3), (64, 7, 7, 3), Conv2dAttrs((2, 2), (3, 3, 3, 3), act=(0.0, float("inf")))),
    ((1, 33, 31, 3), (32, 3, 3, 3), Conv2dAttrs((2, 2), (0, 1, 0, 1), act=(0.0, 6.0))),
    ((3, 9, 9, 1), (7, 3, 3, 1), Conv2dAttrs(pad=(1, 1, 1, 1))),
    ((1, 32, 32, 3), (96, 4, 4, 3), Conv2dAttrs((4, 4))),
    ((2, 32, 32, 3), (64, 16, 16, 3), Conv2dAttrs((16, 16))),
    ((1, 14, 14, 32), (64, 2, 2, 32), Conv2dAttrs((2, 2))),
    ((1, 8, 9, 12), (10, 3, 3, 12), Conv2dAttrs(pad=(1, 1, 1, 1))),
    ((2, 5, 5, 20), (6, 1, 1, 20), Conv2dAttrs()),
)
PATCH: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((1, 64, 48, 3), (64, 7, 7, 3), Conv2dAttrs((2, 2), (3, 3, 3, 3), act=(0.0, float("inf")))),
    ((2, 33, 31, 3), (32, 3, 3, 3), Conv2dAttrs((2, 2), (0, 1, 0, 1), act=(0.0, 6.0))),
    ((1, 32, 32, 3), (96, 4, 4, 3), Conv2dAttrs((4, 4), (1, 1, 1, 1))),
    ((2, 9, 9, 1), (7, 3, 3, 1), Conv2dAttrs(pad=(1, 1, 1, 1), dilation=(2, 1))),
    ((1, 20, 3, 5), (200, 2, 3, 5), Conv2dAttrs(pad=(1, 0, 1, 1))),
    ((1, 30, 30, 3), (16, 5, 5, 3), Conv2dAttrs((1, 2), (2, 2, 2, 2))),
    ((1, 224, 224, 3), (96, 4, 4, 3), Conv2dAttrs((4, 4), (0, 0, 1, 3))),
)
GROUPED: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((2, 9, 8, 12), (18, 3, 3, 4), Conv2dAttrs((2, 1), (1, 1, 1, 1), groups=3)),
    ((1, 7, 7, 10), (10, 3, 3, 1), Conv2dAttrs(pad=(1, 1, 1, 1), groups=10, act=(0.0, 1.0))),
    ((1, 8, 8, 8), (8, 2, 2, 4), Conv2dAttrs((2, 2), groups=2)),
    ((1, 14, 14, 96), (96, 1, 1, 16), Conv2dAttrs(groups=6)),
)
CONV1D: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((1, 300, 80), (384, 3, 80), Conv1dAttrs(pad=(1, 1))),
    ((2, 31, 24), (17, 4, 24), Conv1dAttrs(2, (2, 1), 2, act=(-0.5, 0.5))),
    ((1, 16, 5), (4, 3, 5), Conv1dAttrs()),
)
CONV1D_GROUPED: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((2, 20, 12), (6, 3, 4), Conv1dAttrs(2, (1, 1), groups=3)),
)
TRANSPOSED: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((1, 14, 14, 64), (32, 2, 2, 64), ConvTranspose2dAttrs((2, 2))),
    ((2, 7, 6, 16), (24, 3, 3, 16), ConvTranspose2dAttrs((2, 3), (1, 0, 1, 1), (1, 0), act=(0.0, 1.0))),
    ((1, 5, 6, 8), (9, 4, 3, 8), ConvTranspose2dAttrs(dilation=(2, 1), pad=(1, 1, 1, 1))),
    ((1, 6, 6, 6), (4, 3, 3, 6), ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1))),
)
TRANSPOSED_GROUPED: tuple[tuple[Shape, Shape, Attrs], ...] = (
    ((2, 5, 5, 8), (6, 3, 3, 4), ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1), groups=2)),
)
TABLE = (
    ("conv2d", "ec_conv2d_cuda", CONV),
    ("conv2d", "ec_conv2d_patch_cuda", PATCH),
    ("conv2d", "ec_conv2d_grouped_cuda", GROUPED),
    ("conv1d", "ec_conv1d_cuda", CONV1D),
    ("conv1d", "ec_conv1d_grouped_cuda", CONV1D_GROUPED),
    ("conv_transpose2d", "ec_conv_transpose2d_cuda", TRANSPOSED),
    ("conv_transpose2d", "ec_conv_transpose2d_grouped_cuda", TRANSPOSED_GROUPED),
)


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for dtype in FLOATS:
        for op, symbol, table in TABLE:
            for n, (x, w, attrs) in enumerate(table):
                arrays = (
                    floats(rng, x, dtype),
                    floats(rng, w, dtype, prod(w[1:]) ** -0.5),
                    floats(rng, w[:1], dtype),
                )
                count = 2 if n % 4 == 3 else 3
                yield Case(
                    f"{op} {dtype.value} {x} {w} {attrs}",
                    op,
                    attrs,
                    arrays[:count],
                    constants=tuple(range(1, count)),
                    symbol=symbol,
                )


def test_convolutions_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
