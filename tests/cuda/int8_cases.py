"""Quantised inputs of the int8 kernels' cases: random, and the extremes all -128 and all 127."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir import Array, DType, Quant, Type

KINDS = ("random", "lowest", "highest")


def ints(rng: np.random.Generator, shape: Sequence[int], kind: str = "random") -> Array:
    """int8 of the whole range, or all at one end of it."""
    if kind == "random":
        return rng.integers(-128, 128, tuple(shape)).astype(np.int8)
    return np.full(tuple(shape), -128 if kind == "lowest" else 127, np.int8)


def s8(shape: Sequence[int], scale: float, zero: int) -> Type:
    """A per-tensor int8 type."""
    return Type(tuple(shape), DType.I8, Quant((scale,), (zero,)))


def weights(
    rng: np.random.Generator, shape: Sequence[int], x_scale: float, axis: int = 0
) -> tuple[tuple[Array, Array], tuple[Type, Type]]:
    """Random per-channel weights within +-127 and an int32 bias, with their types."""
    w = rng.integers(-127, 128, tuple(shape)).astype(np.int8)
    count = shape[axis]
    scale = tuple(float(s) for s in rng.uniform(0.002, 0.02, count))
    bias = rng.integers(-5000, 5000, count).astype(np.int32)
    zeros = (0,) * count
    w_type = Type(tuple(shape), DType.I8, Quant(scale, zeros, axis))
    b_type = Type((count,), DType.I32, Quant(tuple(x_scale * s for s in scale), zeros, 0))
    return (w, bias), (w_type, b_type)
