"""Reductions, argmax, pooling and resize on a GPU against their ops."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends.cuda_record import FLOATS
from edgec.ir import Attrs, DType
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs
from edgec.ops.resize import ResizeAttrs

REDUCED: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...] = (
    ((5, 33), (1,), "rows"),
    ((3, 4096), (1,), "rows"),
    ((1, 70000), (1,), "rows"),
    ((197, 768), (1,), "rows"),
    ((6, 5), (0, 1), "rows"),
    ((2, 7, 7, 40), (1, 2), "columns"),
    ((1, 7, 7, 1280), (1, 2), "columns"),
    ((3, 5, 9), (1,), "columns"),
    ((1, 112, 112, 32), (1, 2), "split"),
    ((2, 56, 56, 144), (1, 2), "columns"),
    ((4, 10000, 12), (1,), "split"),
    ((70000, 36), (0,), "split"),
    ((3, 4, 5, 2), (0, 2), "any"),
    ((3, 40, 5, 20), (1, 3), "any"),
)
MAPS = ((1, 9, 11, 24), (2, 7, 5, 3), (1, 56, 56, 64))
WINDOWS: tuple[tuple[str, Attrs], ...] = (
    ("max_pool2d", MaxPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1))),
    ("max_pool2d", MaxPool2dAttrs((2, 3), (1, 2), (0, 1, 1, 0))),
    ("max_pool2d", MaxPool2dAttrs((5, 5), (1, 1), (2, 2, 2, 2))),
    ("max_pool2d", MaxPool2dAttrs((2, 2), (1, 1), (0, 0, 0, 0), (2, 1))),
    ("avg_pool2d", AvgPool2dAttrs((2, 2), (2, 2))),
    ("avg_pool2d", AvgPool2dAttrs((3, 3), (2, 1), (1, 1, 1, 1))),
    ("avg_pool2d", AvgPool2dAttrs((3, 3), (1, 2), (1, 1, 1, 1), count_include_pad=False)),
    ("avg_pool2d", AvgPool2dAttrs((2, 3), (1, 1), divisor=5)),
    ("adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((3, 2))),
    ("adaptive_max_pool2d", AdaptiveMaxPool2dAttrs((2, 4))),
)
RESIZES = (
    ResizeAttrs((13, 4)),
    ResizeAttrs((18, 22)),
    ResizeAttrs((14, 10), "bilinear"),
    ResizeAttrs((3, 5), "bilinear"),
    ResizeAttrs((8, 12), "bilinear", True),
)


def reductions() -> Iterator[Case]:
    rng = np.random.default_rng(5)
    for shape, axes, kind in REDUCED:
        attrs = ReduceAttrs(axes, keepdims=len(axes) == 1)
        for dtype in FLOATS:
            for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"):
                x = (floats(rng, shape, dtype) + 1).astype(dtype.numpy)
                label = f"{op} {dtype.value} {shape} {axes}"
                yield Case(label, op, attrs, (x,), symbol=f"ec_reduce_{kind}_cuda")
        for op in ("reduce_sum", "reduce_max", "reduce_min"):
            x = rng.integers(-(2**31), 2**31 - 1, shape).astype(np.int32)
            yield Case(f"{op} i32 {shape} {axes}", op, attrs, (x,), symbol=f"ec_reduce_{kind}_cuda")


def indices() -> Iterator[Case]:
    rng = np.random.default_rng(6)
    for dtype in (*FLOATS, DType.I32):
        for shape, axis in (((1, 128256), 1), ((3, 1000), 1), ((2, 5, 3), 1), ((3, 4), None), ((4, 7), 0)):
            x = (
                rng.integers(-9, 9, shape).astype(dtype.numpy)
                if dtype is DType.I32
                else floats(rng, shape, dtype)
            )
            label = f"argmax {dtype.value} {shape} {axis}"
            yield Case(label, "argmax", ArgmaxAttrs(axis), (x,), symbol="ec_argmax_cuda")


def windows() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    for dtype in FLOATS:
        for shape in MAPS:
            x = floats(rng, shape, dtype)
            for op, attrs in WINDOWS:
                yield Case(f"{dtype.value} {shape} {attrs}", op, attrs, (x,), symbol="ec_pool2d_cuda")
            for resize in RESIZES:
                symbol = f"ec_resize_{resize.mode}_cuda"
                yield Case(f"{dtype.value} {shape} {resize}", "resize", resize, (x,), symbol=symbol)
        for shape, kind in (
            ((2, 7, 7, 320), "columns"),
            ((1, 112, 112, 24), "split"),
            ((1, 7, 7, 5), "columns"),
        ):
            x = floats(rng, shape, dtype)
            for op, one in (
                ("adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((1, 1))),
                ("adaptive_max_pool2d", AdaptiveMaxPool2dAttrs((1, 1))),
            ):
                yield Case(f"{op} {dtype.value} {shape}", op, one, (x,), symbol=f"ec_reduce_{kind}_cuda")
    x8 = rng.integers(-128, 127, (1, 6, 7, 5)).astype(np.int8)
    yield Case("bytes", "resize", ResizeAttrs((9, 5)), (x8,), symbol="ec_resize_nearest_cuda")


def cases() -> Iterator[Case]:
    yield from reductions()
    yield from indices()
    yield from windows()


def test_reductions_pooling_and_resize_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
