"""Normalisation and softmax on a GPU against their ops."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends.cuda_record import FLOATS
from edgec.ir import Array, DType
from edgec.ops.norm import BatchNormAttrs, GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.softmax import LogSoftmaxAttrs, SoftmaxAttrs

ROWS = (
    *((1, 1), (5, 33), (7, 96), (3136, 96), (197, 768), (1, 4096), (3, 14336), (2, 1000), (9, 31)),
    *((2, 40000), (4, 8), (64, 49)),
)
MAPS = ((2, 7, 5, 24, 3), (1, 56, 56, 64, 32), (1, 4, 4, 6, 1), (3, 8, 8, 96, 8))


def _affine(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> tuple[Array, Array]:
    return (floats(rng, shape, dtype) + 1).astype(dtype.numpy), floats(rng, shape, dtype)


def rows() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for dtype in FLOATS:
        for n, count in ROWS if dtype is DType.F16 else ROWS[1::2]:
            x = (floats(rng, (n, count), dtype, 2.0) + 0.5).astype(dtype.numpy)
            gain, bias = _affine(rng, (count,), dtype)
            name = f"{dtype.value} {n}x{count}"
            layer, root = LayerNormAttrs(1, 1e-5), RmsNormAttrs(1e-6)
            for given in ((x,), (x, gain), (x, gain, bias)):
                label = f"layer_norm {name} {len(given)}"
                constants = tuple(range(1, len(given)))
                yield Case(
                    label, "layer_norm", layer, given, constants=constants, symbol="ec_layer_norm_cuda"
                )
            yield Case(f"rms_norm {name}", "rms_norm", root, (x, gain), symbol="ec_rms_norm_cuda")
            yield Case(f"rms_norm {name} plain", "rms_norm", root, (x,), symbol="ec_rms_norm_cuda")
            yield Case(f"softmax {name}", "softmax", SoftmaxAttrs(1), (x,), symbol="ec_softmax_cuda")
            log = LogSoftmaxAttrs(1)
            yield Case(f"log_softmax {name}", "log_softmax", log, (x,), symbol="ec_log_softmax_cuda")
        x = floats(rng, (3, 4, 6), dtype)
        both = LayerNormAttrs(2, 1e-6)
        given = (x, *_affine(rng, (4, 6), dtype))
        yield Case(
            f"layer_norm {dtype.value} two axes", "layer_norm", both, given, symbol="ec_layer_norm_cuda"
        )


def maps() -> Iterator[Case]:
    rng = np.random.default_rng(4)
    for dtype in FLOATS:
        for n, h, w, c, groups in MAPS:
            x = floats(rng, (n, h, w, c), dtype)
            gain, bias = _affine(rng, (c,), dtype)
            name = f"{dtype.value} {n}x{h}x{w}x{c}"
            for given in ((x,), (x, gain), (x, gain, bias)):
                attrs = GroupNormAttrs(groups, 1e-5)
                label = f"group_norm {name} {len(given)}"
                yield Case(label, "group_norm", attrs, given, symbol="ec_group_norm_cuda")
            mean, var = floats(rng, (c,), dtype), np.abs(floats(rng, (c,), dtype)) + dtype.numpy.type(0.5)
            given = (x, gain, bias, mean, var)
            yield Case(
                f"batch_norm {name}", "batch_norm", BatchNormAttrs(1e-3), given, symbol="ec_batch_norm_cuda"
            )
            for axis in (1, 3):
                label = f"softmax {name} axis {axis}"
                yield Case(label, "softmax", SoftmaxAttrs(axis), (x,), symbol="ec_softmax_cuda")
            log = LogSoftmaxAttrs(2)
            yield Case(f"log_softmax {name} axis 2", "log_softmax", log, (x,), symbol="ec_log_softmax_cuda")


def cases() -> Iterator[Case]:
    yield from rows()
    yield from maps()


def test_normalisation_equals_its_ops() -> None:
    assert cuda_harness.run(cases()) == {}
