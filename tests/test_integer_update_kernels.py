"""Kernels of weight decay, Q8.8 and sums on drawn shapes and at the ends of their ranges, bit for bit; and that kernels
which know none of them take none of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Attrs
from edgec.ops.block_float import Rounding
from edgec.ops.define import Arrays
from edgec.ops.gradient import random_mask, random_pair
from edgec.ops.train_conv import TrainConv2dBiasAttrs, TrainConv2dWeightAttrs
from edgec.ops.train_sums import SgdIntegerAttrs, SumConv2dBiasAttrs, SumConv2dWeightAttrs, VelocityAttrs
from tests.test_train_kernels import TARGET, Shapes, assert_all_kernels, int8, made

FORMS: tuple[tuple[Rounding, bool], ...] = (
    ("stochastic", True),
    ("nearest", True),
    ("q8.8", False),
    ("q8.8", True),
)


def floats(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Of either sign, their sizes drawn by their exponents."""
    signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    return (signs * 10.0 ** rng.uniform(low, high, shape)).astype(np.float32)


@pytest.mark.parametrize("plain", [True, False])
def test_weights_with_decay_and_in_q8_8_on_drawn_shapes(plain: bool) -> None:
    rng, seen = np.random.default_rng(41), set()
    for number in range(80):
        s, (rounding, decays) = Shapes(rng, plain), FORMS[number % 4]
        chosen = (s.idx,) if s.rows and len(s.idx) else ()
        k = len(s.idx) if chosen else s.w[0]
        place = s.stride, s.pad, s.dilation, s.groups
        zero, salt, seed = int(rng.integers(-128, 128)), int(rng.integers(0, 2**32)), number - 40
        attrs = TrainConv2dWeightAttrs(zero, salt, seed, rounding, *place, decays)  # type: ignore[arg-type]
        sums = SumConv2dWeightAttrs(zero, 0.5 + number % 3 / 4, decays, rounding == "q8.8" and decays, *place)  # type: ignore[arg-type]
        w = int8(rng, (k, *s.w[1:]))
        x = int8(rng, (*s.x[:3], k) if chosen else s.x)
        factor = (10.0 ** rng.uniform(-6, 2, k)).astype(np.float32)
        decay = (np.abs(floats(rng, (k,), -3, 1)),) if decays else ()
        fraction = (int8(rng, w.shape),) if rounding == "q8.8" else ()
        q, e = random_pair(rng, s.y, int(rng.integers(-20, 2)))
        mask = random_mask(rng, s.y)
        rate, step = np.array([0.01], np.float32), np.array([number], np.int32)
        for gradient in ((q, e), ((0.01 * q).astype(np.float32),)):
            inputs: Arrays = (w, x, *gradient, mask, factor, rate, step, *fraction, *decay, *chosen)
            view, expected = made("train_conv2d_weight", attrs, inputs)
            seen |= assert_all_kernels(view, inputs, expected)
            own = (w, *decay, *fraction) if decays else ()
            inputs = (floats(rng, w.shape, -6, 6), x, *gradient, mask, factor, rate, *own, *chosen)
            view, expected = made("sum_conv2d_weight", sums, inputs)
            seen |= assert_all_kernels(view, inputs, expected)
    assert {f"ec_train_conv2d_weight_{f}_{k}" for f in ("decay", "q88") for k in ("pair", "f32")} <= seen
    assert "ec_pointwise_train_weight_q88_pair_dsp" in seen or not plain


@pytest.mark.parametrize("pair", [True, False])
def test_biases_with_decay_on_drawn_shapes(pair: bool) -> None:
    rng = np.random.default_rng(42)
    for number in range(60):
        shape = (1, int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 40)))
        q, e = random_pair(rng, shape, int(rng.integers(-20, 2)))
        gradient = (q, e) if pair else ((0.01 * q).astype(np.float32),)
        b = (rng.integers(-(2**31), 2**31, shape[3]) >> rng.integers(0, 31, shape[3])).astype(np.int32)
        given = (*gradient, random_mask(rng, shape), np.abs(floats(rng, shape[3:], -2, 4)))
        decay, rate = np.abs(floats(rng, shape[3:], -3, 2)), np.array([0.02], np.float32)
        inputs: Arrays = (b, *given, rate, np.array([number], np.int32), decay)
        attrs: Attrs = TrainConv2dBiasAttrs(number, 7, "nearest" if number % 3 else "stochastic", True)
        view, expected = made("train_conv2d_bias", attrs, inputs)
        assert_all_kernels(view, inputs, expected)
        decays = number % 2 == 0
        inputs = (floats(rng, b.shape, -9, 9), *given, rate, *((b, decay) if decays else ()))
        view, expected = made("sum_conv2d_bias", SumConv2dBiasAttrs(0.9, decays), inputs)
        assert_all_kernels(view, inputs, expected)


@pytest.mark.parametrize("e", [-400, -130, 0, 127, 300])
@pytest.mark.parametrize("rate", [0.0, 1e-38, 1e-3, 3e38, np.inf, np.nan])
def test_updates_at_the_ends_of_float(e: int, rate: float) -> None:
    rng = np.random.default_rng(43)
    q = rng.integers(-127, 128, (1, 3, 3, 5)).astype(np.int8)
    factor = np.array([0.0, 1e-20, 1.0, 1e20, 3e38], np.float32)
    given = (q, np.array([e], np.int32), random_mask(rng, q.shape), factor)
    scalar, step = np.array([rate], np.float32), np.array([-1], np.int32)
    b = np.array([-(2**31), -1, 0, 5, 2**31 - 1], np.int32)
    w, x, fraction = int8(rng, (5, 1, 1, 6)), int8(rng, (1, 3, 3, 6)), int8(rng, (5, 1, 1, 6))
    decay = np.array([0.0, 1e-30, 1.0, 1e10, 3e38], np.float32)
    ends = np.array([0.0, 3e38, -3e38, 1e-40, np.inf], np.float32)
    total = np.resize(ends, w.shape)
    cases: tuple[tuple[str, Attrs, Arrays], ...] = (
        ("train_conv2d_bias", TrainConv2dBiasAttrs(1, 2, decays=True), (b, *given, scalar, step, decay)),
        (
            "train_conv2d_weight",
            TrainConv2dWeightAttrs(-7, 1, 2, decays=True),
            (w, x, *given, scalar, step, decay),
        ),
        (
            "train_conv2d_weight",
            TrainConv2dWeightAttrs(-7, 1, 2, "q8.8", decays=True),
            (w, x, *given, scalar, step, fraction, decay),
        ),
        ("sum_conv2d_bias", SumConv2dBiasAttrs(0.5, True), (ends, *given, scalar, b, decay)),
        (
            "sum_conv2d_weight",
            SumConv2dWeightAttrs(-7, 0.5, True, True),
            (total, x, *given, scalar, w, decay, fraction),
        ),
        ("velocity", VelocityAttrs(0.5, True, True), (total, total, w, decay, fraction)),
        ("velocity", VelocityAttrs(0.5, True), (ends, ends, b, decay)),
        ("sgd_integer", SgdIntegerAttrs(3, 4, "q8.8", True), (w, total, scalar, step, fraction, decay)),
        ("sgd_integer", SgdIntegerAttrs(3, 4, "stochastic", True), (w, total, scalar, step, decay)),
        ("sgd_integer", SgdIntegerAttrs(3, 4, "nearest"), (b, ends, scalar, step)),
    )
    for op, attrs, inputs in cases:
        view, expected = made(op, attrs, inputs)
        assert_all_kernels(view, inputs, expected)


def test_a_weight_in_q8_8_stays_within_127() -> None:
    w = np.array([127, -127, -128, 126, 0, -1], np.int8).reshape(1, 1, 1, 6)
    fraction = np.array([127, -128, -128, 127, 127, -128], np.int8).reshape(w.shape)
    total = np.array([-1e9, 1e9, 0.0, 0.0, -0.001, np.nan], np.float32).reshape(w.shape)
    rest = (np.ones(1, np.float32), np.zeros(1, np.int32), fraction)
    view, expected = made("sgd_integer", SgdIntegerAttrs(1, 2, "q8.8"), (w, total, *rest))
    assert_all_kernels(view, (w, total, *rest), expected)
    values = expected[0].astype(int) * 256 + expected[1]
    np.testing.assert_array_equal(
        values.reshape(-1)[[0, 1, 2, 3, 5]], [32512, -32512, -32512, 126 * 256 + 127, -384]
    )
    assert values.reshape(-1)[4] in (127, 128)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f[0]}, {f[1]}")
def test_kernels_of_the_plain_step_take_no_other(form: tuple[Rounding, bool]) -> None:
    rounding, decays = form
    rng, shape = np.random.default_rng(44), (1, 4, 4, 8)
    q, e = random_pair(rng, shape)
    rest = (random_mask(rng, shape), np.ones(8, np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    w, x, decay = int8(rng, (8, 1, 1, 8)), int8(rng, (1, 4, 4, 8)), (np.ones(8, np.float32),)
    fraction = (int8(rng, w.shape),) if rounding == "q8.8" else ()
    kind = "q88" if rounding == "q8.8" else "decay"
    inputs: Arrays = (w, x, q, e, *rest, *fraction, *(decay if decays else ()))
    view, _ = made("train_conv2d_weight", TrainConv2dWeightAttrs(0, 1, 2, rounding, decays=decays), inputs)
    taking = {k.symbol for k in KERNELS if k.op == "train_conv2d_weight" and k.accepts(view, TARGET)}
    fast = {"ec_pointwise_train_weight_q88_pair_dsp"} if rounding == "q8.8" else set()
    assert taking == {f"ec_train_conv2d_weight_{kind}_pair"} | fast
    inputs = (rng.integers(-9, 9, 8).astype(np.int32), q, e, *rest, *decay)
    view, _ = made("train_conv2d_bias", TrainConv2dBiasAttrs(1, 2, decays=True), inputs)
    taking = {k.symbol for k in KERNELS if k.op == "train_conv2d_bias" and k.accepts(view, TARGET)}
    assert taking == {"ec_train_conv2d_bias_decay_pair"}
