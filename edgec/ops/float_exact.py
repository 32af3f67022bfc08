"""exp and log in float32, one rounding an operation in a written order, so that every device has the same bits.

runtime_c/include/ec_float.h holds the same steps. Other dtypes (float64 in tests) get numpy's own.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

LOG2_E: Final = np.float32(1.4426950408889634)
LN2_HIGH: Final = np.float32(0.693359375)  # nine bits: a product with a whole number below 2^15 is exact
LN2_LOW: Final = np.float32(-2.12194440e-4)
EXP_LOW: Final = np.float32(-87.0)  # below this exp counts as 0
EXP_HIGH: Final = np.float32(88.0)  # above this exp counts as infinite
EXP_TERMS: Final = tuple(np.float32(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0))
LOG_TERMS: Final = tuple(np.float32(1.0 / k) for k in (11.0, 9.0, 7.0, 5.0, 3.0, 1.0))
SQRT_HALF: Final = np.float32(0.70710678)


def exp(x: Numbers) -> Numbers:
    """exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, then a polynomial in r. Relative error below 3e-7."""
    if x.dtype != np.float32:
        return np.asarray(np.exp(x))
    inside = np.clip(np.where(np.isnan(x), np.float32(0), x), EXP_LOW, EXP_HIGH)
    n = np.floor(inside * LOG2_E + np.float32(0.5))
    r = (inside - n * LN2_HIGH) - n * LN2_LOW
    y: Numbers = np.full_like(r, EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        y = y * r + term
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    y = np.where(x < EXP_LOW, np.float32(0), np.where(x > EXP_HIGH, np.float32(np.inf), y * power))
    return np.where(np.isnan(x), x, y)


def log(x: Numbers) -> Numbers:
    """log(x): x = m 2^e with sqrt(1/2) <= m < sqrt(2), log m = 2 atanh((m - 1) / (m + 1)). Minus infinity at 0,
    NaN below; subnormal numbers count as 0. Relative error below 3e-7."""
    if x.dtype != np.float32:
        return np.asarray(np.log(x))
    normal = (x >= np.finfo(np.float32).tiny) & np.isfinite(x)
    m, e = np.frexp(np.where(normal, x, np.float32(1)))
    small = m < SQRT_HALF
    m, exponent = np.where(small, m + m, m), (e - small).astype(np.float32)
    s = (m - np.float32(1)) / (m + np.float32(1))
    z = s * s
    y: Numbers = np.full_like(z, LOG_TERMS[0])
    for term in LOG_TERMS[1:]:
        y = y * z + term
    y = (s + s) * y
    found = exponent * LN2_HIGH + (exponent * LN2_LOW + y)
    at_zero = np.where(x < 0, np.float32(np.nan), np.float32(-np.inf))
    return np.where(normal, found, np.where(np.isposinf(x) | np.isnan(x), x, at_zero))


def total(x: Numbers, axis: int) -> Numbers:
    """Sum along `axis`, element after element, the axis kept: the order of a loop in C."""
    return np.asarray(np.add.accumulate(x, axis=axis, dtype=x.dtype).take([-1], axis))
