"""int8 pointwise ops, tables, pooling and resize on CUDA: equal to their ops, integer for integer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cuda_harness
import numpy as np
from cuda_harness import Case

sys.path.insert(0, str(Path(__file__).parent))
from int8_cases import KINDS, ints, s8

from edgec.ir import NO_ATTRS, Attrs, DType, Type
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs, AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.resize import ResizeAttrs
from edgec.ops.select import MaskedFillAttrs

BROADCASTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 56, 56, 256), (1, 56, 56, 256)),
    ((3, 7, 5, 3), (3, 7, 5, 3)),
    ((2, 14, 14, 96), (2, 1, 1, 96)),
    ((1, 1, 1, 30), (1, 9, 9, 30)),
    ((1, 4, 5, 24), (24,)),
    ((2, 1, 5, 1), (4, 1, 3)),
    ((2, 3, 1, 4, 1, 8), (2, 1, 5, 1, 6, 8)),
    ((33,), ()),
)
POOLS: tuple[tuple[str, Attrs, tuple[int, ...], str], ...] = (
    ("max_pool2d", MaxPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1)), (1, 112, 112, 64), ""),
    ("max_pool2d", MaxPool2dAttrs((2, 3), (1, 2), (1, 1, 2, 2), (2, 2)), (2, 9, 8, 5), ""),
    ("max_pool2d", MaxPool2dAttrs((5, 5), (1, 1), (2, 2, 2, 2)), (1, 20, 20, 128), ""),
    ("avg_pool2d", AvgPool2dAttrs((2, 2), (2, 2)), (2, 14, 14, 24), ""),
    ("avg_pool2d", AvgPool2dAttrs((3, 3), (1, 2), (1, 1, 1, 1), False), (1, 9, 8, 12), ""),
    ("avg_pool2d", AvgPool2dAttrs((3, 3), (2, 1), (1, 1, 1, 1)), (1, 9, 8, 3), ""),
    ("avg_pool2d", AvgPool2dAttrs((2, 3), (1, 1), divisor=5), (1, 4, 5, 16), ""),
    (
        "adaptive_avg_pool2d",
        AdaptiveAvgPool2dAttrs((1, 1)),
        (2, 7, 7, 2048),
        "ec_global_adaptive_avg_pool2d_s8_cuda",
    ),
    (
        "adaptive_avg_pool2d",
        AdaptiveAvgPool2dAttrs((1, 1)),
        (1, 112, 112, 32),
        "ec_global_adaptive_avg_pool2d_s8_cuda",
    ),
    (
        "adaptive_max_pool2d",
        AdaptiveMaxPool2dAttrs((1, 1)),
        (3, 5, 6, 20),
        "ec_global_adaptive_max_pool2d_s8_cuda",
    ),
    ("adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((1, 1)), (2, 7, 7, 33), "ec_adaptive_avg_pool2d_s8_cuda"),
    ("adaptive_avg_pool2d", AdaptiveAvgPool2dAttrs((3, 4)), (1, 7, 5, 48), ""),
    ("adaptive_max_pool2d", AdaptiveMaxPool2dAttrs((3, 2)), (2, 6, 9, 6), ""),
)


def _binary(rng: np.random.Generator) -> Iterator[Case]:
    for op in ("add", "sub", "mul", "minimum", "maximum"):
        for n, shapes in enumerate(BROADCASTS):
            kinds = KINDS if n < 2 else KINDS[:1]
            for kind in kinds:
                types = tuple(
                    s8(s, scale, int(rng.integers(-128, 128)))
                    for s, scale in zip(shapes, (0.031, 0.0174), strict=True)
                )
                attrs = (
                    BinaryAttrs((-1.0, 2.5) if n == 1 else None) if op in ("add", "sub", "mul") else NO_ATTRS
                )
                y = OPS[op].infer(attrs, types)[0]
                yield Case(
                    f"{op} {shapes} {kind}",
                    op,
                    attrs,
                    tuple(ints(rng, s, kind) for s in shapes),
                    types,
                    (),
                    (s8(y.dims, 0.043 if op != "mul" else 0.05, int(rng.integers(-128, 128))),),
                    f"ec_{op}_s8_cuda",
                )


def _unary(rng: np.random.Generator) -> Iterator[Case]:
    for op, shape in (
        ("silu", (1, 28, 28, 96)),
        ("hardswish", (3, 7, 5)),
        ("sigmoid", (1, 1, 1, 30)),
        ("sqrt", (40,)),
    ):
        x = ints(rng, shape)
        yield Case(
            f"{op} {shape}",
            op,
            NO_ATTRS,
            (x,),
            (s8(shape, 0.05, 3),),
            (),
            (s8(shape, 0.03, -20),),
            "ec_lut_s8_cuda",
        )
    for kind in KINDS:
        for size in (1, 37, 4096, 300000):
            yield Case(
                f"requantize {size} {kind}",
                "requantize",
                NO_ATTRS,
                (ints(rng, (size,), kind),),
                (s8((size,), 0.02, 11),),
                (),
                (s8((size,), 0.0131 if kind == "random" else 0.9, -7),),
                "ec_requantize_s8_cuda",
            )
    for channels in (6, 32):
        slope = rng.normal(0, 0.4, channels).astype(np.float32)
        shape = (2, 5, 3, channels)
        yield Case(
            f"prelu {channels}",
            "prelu",
            NO_ATTRS,
            (ints(rng, shape), slope),
            (s8(shape, 0.02, 11), Type((channels,), DType.F32)),
            (1,),
            (s8(shape, 0.0131, -7),),
            "ec_prelu_s8_cuda",
        )


def _conversions(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.F32, DType.F16, DType.BF16):
        for shape in ((1, 224, 224, 3), (5, 7), (1, 1000)):
            values = (rng.normal(size=shape) * 2).astype(np.float32)
            values.reshape(-1)[:4] = (np.nan, np.inf, -np.inf, 0.021)
            x = values.astype(dtype.numpy)
            y = s8(shape, 0.014, -3)
            yield Case(
                f"quantize {dtype.value} {shape}",
                "quantize",
                NO_ATTRS,
                (x,),
                (),
                (),
                (y,),
                "ec_quantize_s8_cuda",
            )
    for shape in ((1, 1000), (5, 7), (1, 60, 60, 16)):
        yield Case(
            f"dequantize {shape}",
            "dequantize",
            NO_ATTRS,
            (ints(rng, shape),),
            (s8(shape, 0.0173, 5),),
            (),
            (),
            "ec_dequantize_s8_cuda",
            0.0,
        )


def _windows(rng: np.random.Generator) -> Iterator[Case]:
    for op, attrs, shape, symbol in POOLS:
        for kind in KINDS:
            x = s8(shape, 0.02, int(rng.integers(-128, 128)))
            y = OPS[op].infer(attrs, (x,))[0]
            assert x.quant is not None
            yield Case(
                f"{op} {shape} {kind}",
                op,
                attrs,
                (ints(rng, shape, kind),),
                (x,),
                (),
                (Type(y.shape, DType.I8, x.quant),),
                symbol or f"ec_{op}_s8_cuda",
            )
    for size, shape, corners in (((14, 15), (2, 7, 5, 32), False), ((9, 4), (1, 5, 8, 3), True)):
        x = s8(shape, 0.02, 9)
        attrs_resize = ResizeAttrs(size, "bilinear", corners)
        y = Type((shape[0], *size, shape[3]), DType.I8, x.quant)
        yield Case(
            f"resize {size}",
            "resize",
            attrs_resize,
            (ints(rng, shape),),
            (x,),
            (),
            (y,),
            "ec_resize_bilinear_s8_cuda",
        )


def _selections(rng: np.random.Generator) -> Iterator[Case]:
    for shape, mask in (((2, 5, 7, 3), (5, 1, 3)), ((1, 4, 9, 9), (4, 1, 9)), ((33,), (33,))):
        t = s8(shape, 0.02, 9)
        condition, c = rng.random(mask) < 0.5, Type(mask, DType.B8)
        x, other = ints(rng, shape), ints(rng, shape)
        types, symbol = (t, c), "ec_masked_fill_s8_cuda"
        fill = MaskedFillAttrs(-1e30)
        yield Case(f"fill {shape}", "masked_fill", fill, (x, condition), types, (), (t,), symbol)
        arrays, types = (condition, x, other), (c, t, t)
        yield Case(f"where {shape}", "where", NO_ATTRS, arrays, types, (), (t,), "ec_where_s8_cuda")


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    yield from _selections(np.random.default_rng(7))
    yield from _binary(rng)
    yield from _unary(rng)
    yield from _conversions(rng)
    yield from _windows(rng)


def test_int8_pointwise_kernels_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
