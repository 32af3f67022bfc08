"""Random inputs for the examples of ops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ops.define import Arrays

Shape = tuple[int, ...]
Make = Callable[[np.random.Generator], Arrays]


def normal(*shapes: Shape, std: float = 1.0) -> Make:
    """Float32 arrays of these shapes, normal with mean 0."""
    return lambda rng: tuple(np.asarray(std * rng.normal(size=s), np.float32) for s in shapes)


def uniform(low: float, high: float, *shapes: Shape) -> Make:
    """Float32 arrays of these shapes in [low, high)."""
    return lambda rng: tuple(np.asarray(rng.uniform(low, high, s), np.float32) for s in shapes)


def integers(low: int, high: int, dtype: str, *shapes: Shape) -> Make:
    """Integer arrays of these shapes in [low, high)."""
    return lambda rng: tuple(np.asarray(rng.integers(low, high, s), dtype) for s in shapes)


def bits(*shapes: Shape) -> Make:
    """Boolean arrays of these shapes."""
    return lambda rng: tuple(np.asarray(rng.integers(0, 2, s), np.bool_) for s in shapes)
