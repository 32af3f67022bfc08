"""Constants that are made when they are read and then forgotten: large weights stay in their file, and what is
joined or converted from them exists for one layer at a time.

A digest here stands for how the content is made; where that is by reading bytes, they are hashed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from edgec.ir import Array, Constant, Type


def digest_of(*parts: object) -> str:
    """sha256 of the parts' texts."""
    return hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest()


def described(t: Type, load: Callable[[], Array], *key: object) -> Constant:
    """The constant of type `t` that `load` makes; `key` tells its content from every other."""
    return Constant(t, load, digest_of(t.dtype.value, t.shape, *key))


def zeros(t: Type) -> Constant:
    """Zeros that take no memory before they are read."""
    return described(t, lambda: np.zeros(t.dims, t.dtype.numpy), "zeros")


def joined(parts: Sequence[Constant], axis: int = 0) -> Constant:
    """The concatenation of `parts`, of one dtype and without quantisation, along `axis`."""
    held = tuple(parts)
    first = held[0].type
    size = sum(c.type.dims[axis] for c in held)
    shape = (*first.dims[:axis], size, *first.dims[axis + 1 :])

    def load() -> Array:
        return np.asarray(np.concatenate([c.data for c in held], axis))

    return described(Type(shape, first.dtype), load, "joined", axis, *(c.digest for c in held))
