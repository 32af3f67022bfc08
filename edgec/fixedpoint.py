"""Requantisation: the one definition of how an integer accumulator becomes an int8, mirrored by
`ec_requant.h`.

Single rounding (ties toward +infinity) on every target:

    requantize(a, m, s) = floor((a * m + 2**(s - 1)) / 2**s)        with 64-bit a * m

`m` is an int32 in [2**30, 2**31) or 0 and `s` a right shift in [1, 62], so that m / 2**s is the real
multiplier within 2**-31 relative. For s >= 33 the sum needs only the high word of the product: one SMMLA and one shift
on Armv7E-M.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgec.ir import Quant

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

SHIFT_MIN = 1
SHIFT_MAX = 62
ADD_BITS = 21  # multipliers of `add` stay below 2**21: 255 * 2**21 * 2 fits int32


def multiplier(real: float) -> tuple[int, int]:
    """(m, s) for a real multiplier >= 0, m in [2**30, 2**31). (0, 1) where real < 2**-32.

    Raises ValueError where real is negative, not finite or >= 2**30.
    """
    if not math.isfinite(real) or real < 0.0:
        raise ValueError(f"requantisation multiplier {real} is not a finite number >= 0")
    mantissa, exponent = math.frexp(real)
    m = round(mantissa * (1 << 31))
    if m == 1 << 31:
        m, exponent = m >> 1, exponent + 1
    shift = 31 - exponent
    if shift > SHIFT_MAX or m == 0:
        return 0, SHIFT_MIN
    if shift < SHIFT_MIN:
        raise ValueError(f"requantisation multiplier {real} is not below 2**30")
    return m, shift


def multipliers(real: npt.ArrayLike) -> tuple[I32, I32]:
    """`multiplier` for each element: (m int32[C], s int32[C])."""
    pairs = [multiplier(float(r)) for r in np.asarray(real, np.float64).ravel()]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32)


def requantize(acc: npt.ArrayLike, m: npt.ArrayLike, shift: npt.ArrayLike) -> I64:
    """floor((acc * m + 2**(shift-1)) / 2**shift), elementwise with broadcasting; acc within int32. Returns
    int64."""
    product = np.asarray(acc, np.int64) * np.asarray(m, np.int64)
    s = np.asarray(shift, np.int64)
    return np.asarray((product + (np.int64(1) << (s - 1))) >> s, np.int64)


def common_shift(real: tuple[float, ...], bits: int = ADD_BITS) -> tuple[tuple[int, ...], int]:
    """Integers m_i and one right shift s with real_i ~ m_i / 2**s, max m_i in [2**(bits-1), 2**bits), s in
    [1, 31].

    For sums of a few scaled int8 in one int32 (`add`): the error of each term is below 255 * 2**-s / 2
    output steps.
    """
    largest = max(abs(r) for r in real)
    if largest == 0.0:
        return (0,) * len(real), 1
    shift = min(bits - math.frexp(largest)[1], 31)
    if shift < 1:
        raise ValueError(f"scale ratio {largest} is not below 2**{bits - 1}")
    top = (1 << bits) - 1
    return tuple(max(-top, min(top, round(r * (1 << shift)))) for r in real), shift


def quantize_array(x: npt.ArrayLike, quant: Quant, low: int = -128, high: int = 127) -> I64:
    """round-half-up(x / scale) + zero, clamped to [low, high]. x float [...]; per-channel along
    quant.axis."""
    real = np.asarray(x, np.float64)
    scale, zero = spread(quant, real.ndim)
    q = np.floor(real / scale + 0.5) + zero
    return np.asarray(np.clip(q, low, high), np.int64)


def dequantize_array(q: npt.ArrayLike, quant: Quant) -> npt.NDArray[np.float64]:
    """scale * (q - zero) in float64."""
    ints = np.asarray(q, np.int64)
    scale, zero = spread(quant, ints.ndim)
    return np.asarray(scale * (ints - zero), np.float64)


def spread(quant: Quant, rank: int) -> tuple[npt.NDArray[np.float64], I64]:
    """Scale and zero shaped to broadcast against a tensor of `rank` axes."""
    scale, zero = np.array(quant.scale, np.float64), np.array(quant.zero, np.int64)
    if quant.axis is None:
        return scale.reshape(()), zero.reshape(())
    shape = [1] * rank
    shape[quant.axis] = len(quant.scale)
    return scale.reshape(shape), zero.reshape(shape)


def clamp_bounds(act: tuple[float, float] | None, quant: Quant) -> tuple[int, int]:
    """int8 output bounds for a fused clamp to the real range `act` (None: the whole int8 range)."""
    if act is None:
        return -128, 127
    scale, zero = quant.per_tensor
    low, high = (
        max(-128, min(127, zero + math.floor(b / scale + 0.5))) if math.isfinite(b) else None for b in act
    )
    return -128 if low is None else low, 127 if high is None else high


def integer_sqrt(v: npt.ArrayLike) -> I64:
    """floor(sqrt(v)) of 0 <= v < 2**62, exactly."""
    n = np.asarray(v, np.int64)
    s = np.floor(np.sqrt(n.astype(np.float64))).astype(np.int64)
    s = s - (s * s > n)  # the float root is off by one at most
    return np.asarray(s + ((s + 1) * (s + 1) <= n), np.int64)


def reciprocal_sqrt(v: npt.ArrayLike) -> tuple[I64, I64]:
    """(r, k) with 1 / sqrt(v) = r * 2**(k - 60) within 2**-28 relative, 1 <= v < 2**62; (0, 0) where v is 0.

    k is the largest that keeps v * 4**k below 2**62; r = floor(2**60 / floor(sqrt(v * 4**k))), which is in
    (2**29, 2**30]: an int32.
    """
    n = np.asarray(v, np.int64)
    k = np.zeros(n.shape, np.int64)
    for step in (16, 8, 4, 2, 1):
        room = n < (np.int64(1) << (62 - 2 * step))
        n = np.where(room, n << (2 * step), n)
        k = k + np.where(room, step, 0)
    zero = n == 0
    r = (np.int64(1) << 60) // np.where(zero, 1, integer_sqrt(n))
    return np.where(zero, 0, r), np.where(zero, 0, k)
