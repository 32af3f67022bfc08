"""Fixed-point arithmetic against exact integers and fractions, in numpy and in C."""

from __future__ import annotations

import ctypes
import math
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import FLAGS, RUNTIME

from edgec import fixedpoint as fp
from edgec.ir import Quant, per_channel, per_tensor

ACC = st.integers(-(2**31), 2**31 - 1)
SIZE = st.integers(2**30, 2**31 - 1)
MULTIPLIER = st.one_of(st.just(0), SIZE, SIZE.map(lambda m: -m))
SHIFT = st.integers(fp.SHIFT_MIN, fp.SHIFT_MAX)
REAL = st.floats(2.0**-31, 2.0**29, allow_nan=False)
LIMIT = 0x3FFFFFFF  # EC_REQUANT_LIMIT

C_SOURCE = """
#include "ec_requant.h"
void requantize_all(int32_t count, const int32_t *acc, const int32_t *m, const int32_t *shift, int32_t *y);
void requantize_all(int32_t count, const int32_t *acc, const int32_t *m, const int32_t *shift, int32_t *y)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = ec_requantize(acc[i], m[i], shift[i]);
    }
}
void divide_all(int32_t count, const int32_t *sum, const int32_t *divisor, int32_t *y);
void divide_all(int32_t count, const int32_t *sum, const int32_t *divisor, int32_t *y)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = ec_divide_round(sum[i], divisor[i]);
    }
}
"""


def exact(acc: int, m: int, shift: int) -> int:
    """floor((acc * m + 2**(shift - 1)) / 2**shift) without a width."""
    return (acc * m + 2 ** (shift - 1)) // 2**shift


@pytest.fixture(scope="module", params=[(), ("-D__ARM_ARCH_6M__",)], ids=["64-bit product", "Armv6-M"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder: Path = tmp_path_factory.mktemp("requant")
    (folder / "all.c").write_text(C_SOURCE)
    command = ["gcc", *FLAGS, "-fsanitize=undefined", "-fPIC", "-shared", f"-I{RUNTIME / 'include'}"]
    command += request.param
    subprocess.run([*command, str(folder / "all.c"), "-o", str(folder / "all.so")], check=True)
    return ctypes.CDLL(str(folder / "all.so"))


def in_c(library: ctypes.CDLL, function: str, *columns: np.ndarray) -> np.ndarray:
    arrays = [np.ascontiguousarray(c, np.int32) for c in columns]
    y = np.zeros_like(arrays[0])
    getattr(library, function)(y.size, *(a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, y)))
    return y


@given(ACC, MULTIPLIER, SHIFT)
def test_requantize_is_exact(acc: int, m: int, shift: int) -> None:
    assert int(fp.requantize(acc, m, shift)) == exact(acc, m, shift)


def test_requantize_in_c_is_exact_and_saturates(
    library: ctypes.CDLL, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    edges = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1])
    acc = np.concatenate([np.repeat(edges, 62 * 3), rng.integers(-(2**31), 2**31, 60_000)])
    m = np.concatenate([np.tile([0, 2**30, 2**31 - 1], 62 * 6), rng.integers(2**30, 2**31, 60_000)])
    m[1::2] *= -1
    shift = np.concatenate([np.tile(np.repeat(np.arange(1, 63), 3), 6), rng.integers(1, 63, 60_000)])
    expected = [
        max(-LIMIT, min(LIMIT, exact(int(a), int(b), int(s)))) for a, b, s in zip(acc, m, shift, strict=True)
    ]
    np.testing.assert_array_equal(in_c(library, "requantize_all", acc, m, shift), expected)
    assert "runtime error" not in capfd.readouterr().err


def test_requantize_in_c_rounds_ties_up(library: ctypes.CDLL) -> None:
    acc = np.array([-3, -2, -1, 0, 1, 2, 3])
    m, shift = np.full(7, 2**30), np.full(7, 31)
    assert in_c(library, "requantize_all", acc, m, shift).tolist() == [-1, -1, 0, 0, 1, 1, 2]


def test_divide_round_in_c_rounds_half_up(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(1)
    divisor = rng.integers(1, 5000, 20_000)
    total = rng.integers(-255, 256, 20_000) * divisor + rng.integers(-5000, 5000, 20_000)
    expected = [
        math.floor(Fraction(int(s), int(d)) + Fraction(1, 2)) for s, d in zip(total, divisor, strict=True)
    ]
    assert in_c(library, "divide_all", total, divisor).tolist() == expected


@given(REAL)
def test_multiplier_is_within_2_to_the_minus_31(real: float) -> None:
    m, shift = fp.multiplier(real)
    assert 2**30 <= m < 2**31
    assert fp.SHIFT_MIN <= shift <= fp.SHIFT_MAX
    assert abs(Fraction(m, 2**shift) / Fraction(real) - 1) <= Fraction(1, 2**31)


@pytest.mark.parametrize("real", [0.0, 2.0**-33, 5e-324])
def test_multiplier_below_2_to_the_minus_32_is_zero(real: float) -> None:
    assert fp.multiplier(real) == (0, fp.SHIFT_MIN)


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan, 2.0**30])
def test_multiplier_out_of_range_is_refused(real: float) -> None:
    with pytest.raises(ValueError, match="requantisation multiplier"):
        fp.multiplier(real)


def test_multiplier_just_below_a_power_of_two_carries() -> None:
    assert fp.multiplier(math.nextafter(1.0, 0.0)) == (2**30, 30)


@given(st.lists(st.floats(2.0**-16, 2.0**15), min_size=1, max_size=3))
def test_common_shift_keeps_sums_in_int32(real: list[float]) -> None:
    ms, shift = fp.common_shift(tuple(real))
    assert 1 <= shift <= 31
    assert all(abs(m) < 2**fp.ADD_BITS for m in ms)
    assert 2 * 255 * max(abs(m) for m in ms) + 2 ** (shift - 1) < 2**31


@given(st.tuples(st.floats(0.01, 4.0), st.floats(0.01, 4.0)), st.integers(-255, 255), st.integers(-255, 255))
def test_common_shift_is_within_its_error(real: tuple[float, float], a: int, b: int) -> None:
    ms, shift = fp.common_shift(real)
    scaled = Fraction(a * ms[0] + b * ms[1], 2**shift)
    wanted = a * Fraction(real[0]) + b * Fraction(real[1])
    # Half a step of each multiplier, a whole one where it is clamped below 2**ADD_BITS.
    assert abs(scaled - wanted) <= 2 * Fraction(255, 2**shift)


@given(st.integers(-128, 127), st.floats(1e-3, 10.0), st.integers(-128, 127))
def test_quantize_inverts_dequantize(q: int, scale: float, zero: int) -> None:
    quant = per_tensor(scale, zero)
    assert int(fp.quantize_array(fp.dequantize_array(q, quant), quant)) == q


def test_quantize_rounds_half_up_and_clamps() -> None:
    x = np.array([-1e9, -0.75, -0.25, 0.25, 0.75, 1e9])
    assert fp.quantize_array(x, per_tensor(0.5, 3)).tolist() == [-128, 2, 3, 4, 5, 127]


def test_per_channel_scales_run_along_their_axis() -> None:
    quant = per_channel([1.0, 0.5], axis=0)
    assert fp.quantize_array(np.ones((2, 3)), quant).tolist() == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    ("act", "bounds"),
    [(None, (-128, 127)), ((0.0, math.inf), (-28, 127)), ((0.0, 6.0), (-28, 32)), ((-1e9, 1e9), (-128, 127))],
)
def test_clamp_bounds(act: tuple[float, float] | None, bounds: tuple[int, int]) -> None:
    assert fp.clamp_bounds(act, Quant((0.1,), (-28,))) == bounds


@settings(max_examples=200)
@given(ACC, REAL)
def test_requantize_is_the_real_product_rounded(acc: int, real: float) -> None:
    m, shift = fp.multiplier(real)
    distance = abs(int(fp.requantize(acc, m, shift)) - Fraction(acc) * Fraction(real))
    assert distance <= Fraction(1, 2) + abs(acc) * Fraction(real) / 2**31
