"""What the ops of int8 training share: masks of bits, gradients in block floating point, rounding noise.

A gradient is a pair (q int8[...], e int32[1]) that stands for q * 2**e. While it is computed, pixel by pixel, q is
kept to 8 bits by one right shift that only grows: a pixel (its vector of channels) that needs a larger shift first
halves all that was written before it. A gradient in float is one array, f32 (f64 in tests).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from edgec.fixedpoint import I64
from edgec.ir import Array, DType, Type
from edgec.ops.define import require
from edgec.ops.token_choice import LOW, MULTIPLIERS, ROUNDS, U64, WEYL

Rounding = Literal["stochastic", "nearest", "q8.8"]
Numbers = npt.NDArray[Any]

QUANTUM: Final = 2.0**-24  # of the noise: 24 bits of a random word
FACTOR_BITS: Final = 14  # of the mantissa of a factor
HEADROOM: Final = 8  # bits by which the larger term of a sum is moved up
FARTHEST: Final = 30  # right shifts beyond it leave nothing
FRACTION: Final = 256  # of a weight in Q8.8: one step of the weight holds so many


def pack_mask(inside: Array) -> Array:
    """u8[ceil(size / 8)] of booleans: bit i % 8 of byte i // 8 is element i in flat order."""
    return np.packbits(np.asarray(inside, np.bool_).ravel(), bitorder="little")


def unpack_mask(mask: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The booleans of `shape` that `pack_mask` packed."""
    count = int(np.prod(shape))
    bits = np.unpackbits(np.asarray(mask, np.uint8), count=count, bitorder="little")
    return bits.astype(np.bool_).reshape(shape)


def mask_type(t: Type) -> Type:
    """The mask of a tensor of type `t`."""
    return Type((-(-t.size // 8),), DType.U8)


def require_mask(mask: Type, of: Type) -> None:
    """Raise TypeRule unless `mask` is one of `of`."""
    require(
        mask.shape == mask_type(of).shape and mask.dtype is DType.U8,
        f"the mask is u8{list(mask_type(of).dims)}",
    )


def require_scalar(t: Type, dtype: DType, name: str) -> None:
    """Raise TypeRule unless `t` is dtype[1]."""
    require((t.shape, t.dtype) == ((1,), dtype), f"{name} is {dtype.value}[1]")


def is_pair(types: tuple[Type, ...], index: int) -> bool:
    """Whether a gradient that begins at input `index` is a pair; a float one otherwise. Checks its types."""
    require(index < len(types), "takes a gradient")
    if types[index].dtype.is_float:
        return False
    require(types[index].dtype is DType.I8, "a gradient is float, or int8 and an exponent")
    require(index + 1 < len(types), "an int8 gradient has an exponent")
    require_scalar(types[index + 1], DType.I32, "the exponent")
    return True


def halve(q: I64, steps: int) -> I64:
    """`steps` times (q + 1) >> 1."""
    for _ in range(min(steps, 9)):  # int8 stays as it is after 8 steps: 0 or -0
        q = (q + 1) >> 1
    return q


def block_float(acc: Array) -> tuple[npt.NDArray[np.int8], int]:
    """(q, shift) with acc ~ q * 2**shift, int32 sums of which the last axis is a pixel's channels."""
    sums = np.asarray(acc, np.int64).reshape(-1, acc.shape[-1])
    largest = np.abs(sums).max(axis=1, initial=0)
    shifts = np.maximum.accumulate(_needed(largest))
    half = np.where(shifts > 0, np.int64(1) << np.maximum(shifts - 1, 0), 0)
    q = (sums + half[:, None]) >> shifts[:, None]
    last = int(shifts[-1]) if len(shifts) else 0
    for shift in np.unique(shifts):
        if shift != last:
            at = shifts == shift
            q[at] = halve(q[at], last - int(shift))
    return q.reshape(acc.shape).astype(np.int8), last


def _needed(largest: I64) -> I64:
    """The smallest shift s with (largest + half(s)) >> s <= 127, half(0) = 0."""
    shifts = np.zeros(largest.shape, np.int64)
    for s in range(1, 33):
        half = (np.int64(1) << (s - 1)) >> 1
        shifts = np.where((largest + half) >> (s - 1) > 127, s, shifts)
    return shifts


def mantissa(factor: float) -> tuple[int, int]:
    """(m, k) with factor ~ m * 2**k, |m| in [2**13, 2**14]; (0, 0) for 0."""
    if factor == 0.0:
        return 0, 0
    fraction, exponent = np.frexp(factor)
    return round(float(fraction) * (1 << FACTOR_BITS)), int(exponent) - FACTOR_BITS


def aligned(terms: list[tuple[I64, int]]) -> tuple[I64, int]:
    """(acc, exponent) of the sum of integers * 2**exponent: the largest exponent less HEADROOM is common; what
    lies lower is rounded half up."""
    common = max(exponent for _, exponent in terms) - HEADROOM
    total = np.zeros(1, np.int64)
    for value, exponent in terms:
        up = exponent - common
        if up >= 0:
            moved = value << up
        else:
            moved = (value + (np.int64(1) << (-up - 1))) >> -up if -up <= FARTHEST else np.zeros_like(value)
        total = total + moved
    return total, common


def random_words(count: int, step: int, salt: int, seed: int) -> U64:
    """Words of Philox-4x32-10: word i % 4 for the counter (i // 4, step, salt, 0) and the key (seed, 0)."""
    blocks = -(-count // 4)
    c0 = np.arange(blocks, dtype=np.uint64)
    c1, c2, c3 = (np.full(blocks, v & 0xFFFFFFFF, np.uint64) for v in (step, salt, 0))
    k0, k1 = seed & 0xFFFFFFFF, 0
    shift = np.uint64(32)
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.asarray(np.stack([c0, c1, c2, c3], 1).reshape(-1)[:count], np.uint64)


def noise(rounding: Rounding, count: int, step: int, salt: int, seed: int) -> npt.NDArray[np.float32]:
    """What is added before `floor`, f32[count] in [0, 1): 1/2 to the nearest, else the upper 24 bits of a random
    word."""
    if rounding == "nearest":
        return np.full(count, 0.5, np.float32)
    words = random_words(count, step, salt, seed) >> np.uint64(8)
    return np.asarray(words.astype(np.float32) * np.float32(QUANTUM), np.float32)


def integer_step(
    gradient: Numbers, rate: Numbers, u: Numbers, limit: float = 2.0**31, pull: Numbers | None = None
) -> I64:
    """floor(u - gradient * rate), or floor(u - (gradient * rate + pull)), each operation rounded to the dtype of
    `rate`, within +-limit; 0 where it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        step = gradient.astype(rate.dtype) * rate
        moved = np.floor(u.astype(rate.dtype) - (step if pull is None else step + pull))
    moved = np.where(np.isfinite(moved), moved, 0)
    return np.asarray(np.clip(moved, -limit, limit), np.int64)


def q8_8(w: Numbers, fraction: Numbers) -> I64:
    """The weights in Q8.8 whose rounded upper byte is w: 256 w + fraction, w within +-127, fraction int8."""
    return np.asarray(np.maximum(w.astype(np.int64), -127) * FRACTION + fraction.astype(np.int64), np.int64)


def split_q8_8(master: I64) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """(w, fraction) of weights in Q8.8 within +-127: w is rounded half up."""
    w = (master + FRACTION // 2) // FRACTION
    return w.astype(np.int8), (master - w * FRACTION).astype(np.int8)


def power_of_two(exponent: int) -> np.float32:
    """2**exponent, the exponent within [-126, 127]."""
    return np.float32(2.0 ** max(-126, min(127, exponent)))
