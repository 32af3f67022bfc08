"""The integer arithmetic of layer_norm, rms_norm and group_norm, shared by the three ops and their kernels.

Over n elements x of scale S and zero Z (layer_norm and group_norm; rms_norm has x - Z for d / n and no mean):

    d_i = n x_i - sum(x)                       the n-fold deviation, exact
    V   = n sum(x^2) - sum(x)^2                n^2 times the variance, exact, 64 bit
    U   = V 2^f + round(eps n^2 / S^2 2^f)     f even, 0 <= f <= 16, chosen at compile time so that U < 2^62
    r, k = fixedpoint.reciprocal_sqrt(U)       1 / sqrt(U) = r 2^(k - 60)
    t_i = (d_i r) rounded, shifted by 60 - k - f / 2 - 16: the normalised value with 16 fractional bits
    y_i = clamp(Zy + (t_i G_i + B_i 2^16, rounded and shifted by 16 + g))

G = round(gamma / Sy 2^g) and B = round(beta / Sy 2^g) are int32 tables with one g; roundings are half up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.fixedpoint import I64, common_shift, reciprocal_sqrt
from edgec.ir import Array, Quant

COUNT_MAX = 1 << 20  # d r stays below 2^58 and t below 2^26
FRACTION_BITS = 16  # of the normalised value
TABLE_BITS = 30


@dataclass(frozen=True, slots=True)
class NormPlan:
    """What a kernel gets: f, the eps term (at most 2^60), tables G and B (one entry if constant), shift g."""

    fraction: int
    eps: int
    gain: Array
    bias: Array
    shift: int


def plan_norm(
    count: int, eps: float, x: Quant, y: Quant, gamma: Array | None, beta: Array | None
) -> NormPlan:
    """Tables for a norm over `count` elements; gamma and beta float [C], or None for 1 and 0.

    Raises ValueError where count > 2^20 or a gain is 2^29 output steps or more.
    """
    if count > COUNT_MAX:
        raise ValueError(f"an integer norm covers at most {COUNT_MAX} elements, here {count}")
    scale_x, scale_y = x.per_tensor[0], y.per_tensor[0]
    # V < n^2 2^16; two bits are left for the sum with the eps term
    fraction = max(0, min(16, 60 - 16 - 2 * (count - 1).bit_length())) & ~1
    term = eps * count * count / scale_x**2 * 2.0**fraction
    gains = np.ones(1) if gamma is None else np.asarray(gamma, np.float64).ravel()
    biases = np.zeros(gains.size) if beta is None else np.asarray(beta, np.float64).ravel()
    if gains.size < biases.size:
        gains = np.broadcast_to(gains, biases.shape)
    real = tuple(float(v) / scale_y for v in (*gains, *biases))
    tables, shift = common_shift(real, TABLE_BITS)
    both = np.array(tables, np.int32)
    return NormPlan(fraction, int(min(term + 0.5, 2.0**60)), both[: gains.size], both[gains.size :], shift)


def normalise(deviation: I64, variance: I64, plan: NormPlan) -> I64:
    """t of the head comment; `deviation` d, `variance` V broadcast against each other."""
    r, k = reciprocal_sqrt((variance << plan.fraction) + plan.eps)
    down: I64 = 60 - FRACTION_BITS - plan.fraction // 2 - k
    return np.asarray((deviation * r + (np.int64(1) << (down - 1))) >> down, np.int64)


def scale_out(t: I64, plan: NormPlan, zero: int) -> Array:
    """int8 from t and the tables, which broadcast against t."""
    shift = FRACTION_BITS + plan.shift
    gain, bias = plan.gain.astype(np.int64), plan.bias.astype(np.int64)
    acc = t * gain + bias * (1 << FRACTION_BITS)
    y = zero + ((acc + (np.int64(1) << (shift - 1))) >> shift)
    return np.asarray(np.clip(y, -128, 127), np.int8)


def deviations(x: I64, axes: tuple[int, ...]) -> tuple[I64, I64]:
    """(d, V) about the mean over `axes`, kept."""
    n = int(np.prod([x.shape[a] for a in axes]))
    total = x.sum(axes, keepdims=True)
    return n * x - total, n * (x * x).sum(axes, keepdims=True) - total * total
