"""int8 convolutions and linear layers on CUDA: equal to their ops, integer for integer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cuda_harness
import numpy as np
import pytest
from cuda_harness import Case

sys.path.insert(0, str(Path(__file__).parent))
from int8_cases import KINDS, ints, s8, weights

from edgec.backends import kernels_cuda_int8_conv
from edgec.backends.cuda_tiles_s8 import Choice, Tile, Work, choices, estimate
from edgec.ops.conv2d import Conv2dAttrs, infer
from edgec.ops.linear import LinearAttrs
from edgec.plan import Gpu

X_SCALE = 0.0237
SIX = (0.0, 6.0)
SAME3, SAME5, SAME7 = (1,) * 4, (2,) * 4, (3,) * 4
TILE, ROWS = "ec_conv2d_s8_cuda", "ec_conv2d_rows_s8_cuda"
DEPTHWISE, PLAIN = "ec_depthwise_conv2d_s8_cuda", "ec_depthwise_plain_conv2d_s8_cuda"

# label, record, x, w, attributes
CONVOLUTIONS = (
    ("3x3", TILE, (1, 14, 14, 64), (64, 3, 3, 64), Conv2dAttrs(pad=SAME3)),
    ("3x3 deep", TILE, (1, 7, 7, 512), (512, 3, 3, 512), Conv2dAttrs(pad=SAME3, act=SIX)),
    ("3x3 batch 3", TILE, (3, 9, 11, 32), (48, 3, 3, 32), Conv2dAttrs(pad=SAME3)),
    ("3x3 stride 2", TILE, (2, 15, 15, 128), (96, 3, 3, 128), Conv2dAttrs((2, 2), (1, 0, 0, 1))),
    ("3x3 dilated", TILE, (1, 17, 13, 16), (40, 3, 3, 16), Conv2dAttrs((1, 2), (3, 1, 0, 2), (2, 3))),
    ("1x1", TILE, (1, 28, 28, 64), (256, 1, 1, 64), Conv2dAttrs()),
    ("1x1 wide", TILE, (1, 14, 14, 1024), (256, 1, 1, 1024), Conv2dAttrs(act=SIX)),
    ("1x1 stride 2", TILE, (2, 14, 13, 256), (64, 1, 1, 256), Conv2dAttrs((2, 2))),
    ("1x1 padded", TILE, (1, 5, 6, 32), (8, 1, 1, 32), Conv2dAttrs(pad=(1, 2, 0, 1))),
    ("1x1 of 24", TILE, (1, 20, 20, 24), (144, 1, 1, 24), Conv2dAttrs(act=SIX)),
    ("3x3 of 40", TILE, (1, 10, 10, 40), (40, 3, 3, 40), Conv2dAttrs(pad=SAME3)),
    ("3x3 of 20", TILE, (1, 10, 10, 20), (33, 3, 3, 20), Conv2dAttrs(pad=SAME3)),
    ("stem 7x7", TILE, (1, 64, 64, 3), (64, 7, 7, 3), Conv2dAttrs((2, 2), SAME7)),
    ("stem 3x3", TILE, (2, 33, 31, 3), (32, 3, 3, 3), Conv2dAttrs((2, 2), (0, 1, 0, 1), act=SIX)),
    ("widest map of runs", TILE, (1, 2, 32766, 3), (8, 3, 3, 3), Conv2dAttrs(pad=SAME3)),
    ("wider than int16", TILE, (1, 2, 40001, 3), (8, 3, 3, 3), Conv2dAttrs(pad=SAME3)),
    ("odd channels", TILE, (1, 9, 9, 7), (13, 3, 2, 7), Conv2dAttrs(pad=(1, 1, 1, 0))),
    ("5x5 of 6", TILE, (2, 12, 9, 6), (10, 5, 5, 6), Conv2dAttrs(pad=SAME5)),
    ("groups of 16", TILE, (1, 14, 14, 128), (128, 3, 3, 16), Conv2dAttrs(pad=SAME3, groups=8)),
    ("groups of 3", TILE, (1, 8, 8, 12), (20, 3, 3, 3), Conv2dAttrs(pad=SAME3, groups=4)),
    ("multiplied depthwise", TILE, (1, 8, 8, 12), (24, 3, 3, 1), Conv2dAttrs(pad=SAME3, groups=12)),
    ("large batch", TILE, (16, 28, 28, 64), (128, 3, 3, 64), Conv2dAttrs(pad=SAME3)),
    ("rows", ROWS, (1, 1, 1, 480), (20, 1, 1, 480), Conv2dAttrs()),
    ("rows of 6", ROWS, (5, 1, 1, 6), (144, 1, 1, 6), Conv2dAttrs(act=SIX)),
    ("depthwise 3x3", DEPTHWISE, (1, 14, 14, 96), (96, 3, 3, 1), Conv2dAttrs(pad=SAME3, groups=96)),
    (
        "depthwise 3x3 large",
        DEPTHWISE,
        (1, 112, 112, 32),
        (32, 3, 3, 1),
        Conv2dAttrs(pad=SAME3, groups=32, act=SIX),
    ),
    (
        "depthwise 3x3 stride 2",
        DEPTHWISE,
        (2, 57, 55, 144),
        (144, 3, 3, 1),
        Conv2dAttrs((2, 2), (0, 1, 0, 1), groups=144),
    ),
    ("depthwise 5x5", DEPTHWISE, (1, 29, 27, 72), (72, 5, 5, 1), Conv2dAttrs(pad=SAME5, groups=72)),
    (
        "depthwise 5x5 by 2",
        DEPTHWISE,
        (1, 28, 28, 240),
        (240, 5, 5, 1),
        Conv2dAttrs((2, 2), (1, 2, 1, 2), groups=240),
    ),
    ("depthwise 7x7", DEPTHWISE, (2, 14, 15, 384), (384, 7, 7, 1), Conv2dAttrs(pad=SAME7, groups=384)),
    (
        "depthwise 7x7 by 2",
        DEPTHWISE,
        (1, 56, 56, 96),
        (96, 7, 7, 1),
        Conv2dAttrs((2, 2), SAME7, groups=96),
    ),
    ("depthwise odd", PLAIN, (2, 9, 8, 7), (7, 3, 3, 1), Conv2dAttrs(pad=SAME3, groups=7)),
    ("depthwise dilated", PLAIN, (1, 13, 13, 8), (8, 3, 5, 1), Conv2dAttrs((1, 3), (2, 2, 4, 1), (2, 2), 8)),
)

# rows, k, outputs
LINEAR = (
    (1, 2048, 1000),
    (3, 65, 17),
    (8, 768, 3072),
    (196, 384, 1536),
    (77, 36, 20),
    (9, 33, 5),
    (1, 1280, 1000),
)


def _y_scale(k: int) -> float:
    """So that outputs of random inputs fill int8."""
    return X_SCALE * 0.01 * 73 * 73 * float(np.sqrt(k)) / 60


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for label, symbol, shape, w_shape, attrs in CONVOLUTIONS:
        for kind in KINDS:
            zero = int(rng.integers(-128, 128))
            (w, b), types = weights(rng, w_shape, X_SCALE)
            x_type = s8(shape, X_SCALE, zero)
            y = infer(attrs, (x_type, *types))[0]
            # at "highest", multipliers above 1/4: their rounding takes 64 bits
            scale = _y_scale(int(np.prod(w_shape[1:]))) if kind != "highest" else X_SCALE * 0.004
            y_type = s8(y.dims, scale, int(rng.integers(-128, 128)))
            yield Case(
                f"{label} {kind}",
                "conv2d",
                attrs,
                (ints(rng, shape, kind), w, b),
                (x_type, *types),
                (1, 2),
                (y_type,),
                symbol,
            )
    for rows, k, outputs in LINEAR:
        for kind in KINDS:
            (w, b), types = weights(rng, (outputs, k), X_SCALE)
            x_type = s8((rows, k), X_SCALE, int(rng.integers(-128, 128)))
            yield Case(
                f"linear {rows}x{k}x{outputs} {kind}",
                "linear",
                LinearAttrs(SIX if kind == "lowest" else None),
                (ints(rng, (rows, k), kind), w, b),
                (x_type, *types),
                (1, 2),
                (s8((rows, outputs), _y_scale(k), int(rng.integers(-128, 128))),),
                "ec_linear_rows_s8_cuda" if rows <= 8 else "ec_linear_s8_cuda",
            )


def test_int8_convolutions_equal_their_op() -> None:
    assert cuda_harness.run(cases()) == {}


def through_scratch(work: Work, gpu: Gpu, tiles: tuple[Tile, ...]) -> Choice:
    """The best choice that splits k without a cluster, where k has two steps."""
    options = [c for t in tiles for c in choices(t, work, gpu) if not c.cluster]
    return min(options, key=lambda c: (c.splits == 1, estimate(c, work, gpu)))


def split_cases() -> list[Case]:
    """The products on tensor cores."""
    return [c for c in cases() if c.symbol in (TILE, "ec_linear_s8_cuda")]


def test_splits_through_scratch_equal_their_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_cuda_int8_conv, "choose", through_scratch)
    assert cuda_harness.run(split_cases()) == {}


def test_tiles_chosen_for_orin_equal_their_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels with the tiles of 16 SMs, on this machine's GPU."""
    monkeypatch.setattr(cuda_harness, "TARGET", "orin")
    assert cuda_harness.run(split_cases()) == {}
