"""Heads inside a larger value: where q, k or v of an attention stands in the output of a projection.

A place is (offset, batch step, head step, token step) in elements of the value's memory; the channels of a head
follow one another. One packed projection holds q, k and v at three places, so that no kernel cuts it apart.
"""

from __future__ import annotations

import numpy as np

from edgec.ir import Array, Type
from edgec.ops.define import require

Place = tuple[int, int, int, int]


def check_place(place: Place, x: Type, sizes: tuple[int, int, int, int]) -> None:
    """TypeRule unless heads of `sizes` [N, A, T, D] at `place` lie within x."""
    require(len(place) == 4 and all(s >= 0 for s in place), f"the place {place} has a negative step")
    require(min(sizes) > 0, f"heads of shape {sizes} are empty")
    last = place[0] + sum((n - 1) * s for n, s in zip(sizes, (*place[1:], 1), strict=True))
    require(not x.bounds and last < x.size, f"heads {sizes} at {place} reach beyond {x.size} elements")


def heads_at(x: Array, place: Place, sizes: tuple[int, int, int, int]) -> Array:
    """[N, A, T, D]: the heads at `place` of x, a view."""
    flat = np.ascontiguousarray(x).reshape(-1)[place[0] :]
    steps = tuple(s * flat.itemsize for s in (*place[1:], 1))
    return np.lib.stride_tricks.as_strided(flat, sizes, steps, writeable=False)


def dense_place(dims: tuple[int, ...]) -> Place:
    """The place of a whole value of shape [N, A, T, D]."""
    _, a, t, d = dims
    return 0, a * t * d, t * d, d
