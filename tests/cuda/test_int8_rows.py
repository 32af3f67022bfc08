"""int8 softmax, normalisation, attention, matmul, transposed convolution and reductions on CUDA: equal to their ops,
integer for integer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cuda_harness
import numpy as np
from cuda_harness import Case

sys.path.insert(0, str(Path(__file__).parent))
from int8_cases import KINDS, ints, s8, weights

from edgec.ir import Array, Attrs, DType, Type
from edgec.ops import OPS
from edgec.ops.attention import AttentionAttrs
from edgec.ops.conv import ConvTranspose2dAttrs, transpose_infer
from edgec.ops.linear import MatmulAttrs
from edgec.ops.norm import GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.softmax import SOFTMAX_QUANT, SoftmaxAttrs

NORMS: tuple[tuple[str, Attrs, tuple[int, ...], int], ...] = (
    ("layer_norm", LayerNormAttrs(1, 1e-5), (2, 5, 12), 12),
    ("layer_norm", LayerNormAttrs(1, 1e-5), (196, 384), 384),
    ("layer_norm", LayerNormAttrs(2, 1e-6), (3, 40, 130), 40 * 130),
    ("rms_norm", RmsNormAttrs(1e-6), (7, 33), 33),
    ("rms_norm", RmsNormAttrs(1e-6), (2, 3, 4096), 4096),
    ("group_norm", GroupNormAttrs(3, 1e-5), (2, 4, 3, 6), 6),
    ("group_norm", GroupNormAttrs(8, 1e-5), (1, 40, 40, 64), 64),
)
MATMULS = (
    ((2, 3, 4, 5), (2, 3, 5, 6), False),
    ((2, 3, 44, 64), (3, 70, 64), True),
    ((6, 197), (197, 130), False),
    ((2, 1, 33, 65), (3, 65, 9), False),
)
TRANSPOSED = (
    ("2x2 by 2", (1, 7, 9, 16), (24, 2, 2, 16), ConvTranspose2dAttrs((2, 2))),
    (
        "3x3 by 2",
        (2, 4, 3, 5),
        (6, 3, 3, 5),
        ConvTranspose2dAttrs((2, 2), (1, 1, 1, 0), (1, 0), act=(-1.0, 2.0)),
    ),
    (
        "groups",
        (1, 4, 4, 4),
        (6, 3, 2, 2),
        ConvTranspose2dAttrs((1, 3), (2, 1, 0, 3), (0, 2), (2, 1), groups=2),
    ),
    ("4x4 by 2", (1, 14, 14, 32), (32, 4, 4, 32), ConvTranspose2dAttrs((2, 2), (1, 1, 1, 1))),
)
REDUCTIONS = (
    ((2, 3), (1, 7, 7, 4)),
    ((1, 2), (2, 9, 8, 96)),
    ((0,), (5, 33)),
    ((1, 3), (2, 3, 4, 5)),
    ((2,), (2, 3, 300)),
)


def _zero(rng: np.random.Generator) -> int:
    return int(rng.integers(-128, 128))


def _softmax(rng: np.random.Generator) -> Iterator[Case]:
    for axis, shape in ((1, (5, 1000)), (2, (2, 3, 7)), (1, (2, 21, 40)), (0, (33,))):
        for kind in KINDS:
            y = s8(shape, *SOFTMAX_QUANT)
            x = s8(shape, 0.07, _zero(rng))
            yield Case(
                f"softmax {shape} {kind}",
                "softmax",
                SoftmaxAttrs(axis),
                (ints(rng, shape, kind),),
                (x,),
                (),
                (y,),
                "ec_softmax_s8_cuda",
            )


def _norms(rng: np.random.Generator) -> Iterator[Case]:
    for op, attrs, shape, channels in NORMS:
        gain_shape = shape[1:] if op == "layer_norm" and len(shape) == 3 and shape[1] == 40 else (channels,)
        tables = [rng.normal(1, 0.3, gain_shape), rng.normal(0, 0.5, gain_shape)]
        tables = tables[: 1 if op == "rms_norm" else 2]
        for count in sorted({0, len(tables)}):
            for kind in KINDS:
                given = tuple(t.astype(np.float32) for t in tables[:count])
                types = (s8(shape, 0.03, _zero(rng)), *(Type(gain_shape, DType.F32) for _ in given))
                yield Case(
                    f"{op} {shape} {count} {kind}",
                    op,
                    attrs,
                    (ints(rng, shape, kind), *given),
                    types,
                    tuple(range(1, count + 1)),
                    (s8(shape, 0.021, _zero(rng)),),
                    f"ec_{op}_s8_cuda",
                )


def _attention(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (
        ((1, 2, 5, 8), (1, 2, 7, 8), 4),
        ((2, 4, 33, 20), (2, 2, 65, 20), 24),
        ((1, 3, 49, 7), (1, 3, 49, 7), 200),
    )
    for q, k, e in shapes:
        for kind, causal in (("", False), ("", True), ("mask_", False), ("bias_", True)):
            types = [s8(q, 0.04, _zero(rng)), s8(k, 0.05, _zero(rng)), s8((*k[:3], e), 0.02, _zero(rng))]
            arrays: list[Array] = [ints(rng, t.dims) for t in types]
            if kind == "mask_":
                arrays.append(rng.random((q[2], k[2])) < 0.6)
                types.append(Type((q[2], k[2]), DType.B8))
            if kind == "bias_":
                bias = rng.normal(size=(1, q[1], q[2], k[2])).astype(np.float32)
                bias[..., ::3] = -np.inf
                arrays.append(bias)
                types.append(Type(bias.shape, DType.F32))
            yield Case(
                f"attention {q} {kind}{causal}",
                "attention",
                AttentionAttrs(0.03, causal),
                tuple(arrays),
                tuple(types),
                (3,) if kind == "bias_" else (),
                (s8((*q[:3], e), 0.02, _zero(rng)),),
                f"ec_attention_{kind}s8_cuda",
            )


def _products(rng: np.random.Generator) -> Iterator[Case]:
    for a, b, transposed in MATMULS:
        for kind in KINDS:
            attrs = MatmulAttrs(transposed)
            types = (s8(a, 0.03, _zero(rng)), s8(b, 0.02, _zero(rng)))
            y = OPS["matmul"].infer(attrs, types)[0]
            yield Case(
                f"matmul {a} {b} {kind}",
                "matmul",
                attrs,
                (ints(rng, a, kind), ints(rng, b, kind)),
                types,
                (),
                (s8(y.dims, 0.6, _zero(rng)),),
                "ec_matmul_s8_cuda",
            )
    for label, x, w_shape, transpose in TRANSPOSED:
        for kind in KINDS:
            (w, bias), types = weights(rng, w_shape, 0.02)
            x_type = s8(x, 0.02, _zero(rng))
            dims = transpose_infer(transpose, (x_type, *types))[0].dims
            yield Case(
                f"transposed {label} {kind}",
                "conv_transpose2d",
                transpose,
                (ints(rng, x, kind), w, bias),
                (x_type, *types),
                (1, 2),
                (s8(dims, 0.5 if kind == "random" else 0.0001, _zero(rng)),),
                "ec_conv_transpose2d_s8_cuda",
            )


def _reductions(rng: np.random.Generator) -> Iterator[Case]:
    for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"):
        for axes, shape in REDUCTIONS:
            attrs, x = ReduceAttrs(axes), s8(shape, 0.03, _zero(rng))
            y = OPS[op].infer(attrs, (x,))[0]
            own = s8(y.dims, 0.04 if op == "reduce_mean" else 0.5, _zero(rng))
            result = own if op in ("reduce_sum", "reduce_mean") else Type(y.shape, DType.I8, x.quant)
            yield Case(
                f"{op} {axes} {shape}",
                op,
                attrs,
                (ints(rng, shape),),
                (x,),
                (),
                (result,),
                f"ec_{op}_s8_cuda",
            )


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for family in (_softmax, _norms, _attention, _products, _reductions):
        yield from family(rng)


def test_int8_rows_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
