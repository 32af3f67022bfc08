"""How VJPs append ops by name: attrs are made from keyword fields, so that no op file imports another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgec.ir import Attrs
from edgec.ops.define import OPS

if TYPE_CHECKING:
    from edgec.build import Builder


def emit(b: Builder, op: str, *inputs: str, **fields: object) -> str:
    """Append one-output `op` whose attrs have these fields; returns its reference."""
    make: Callable[..., Attrs] = OPS[op].attrs
    return b.call(op, *inputs, attrs=make(**fields))


def zeros(b: Builder, shape: Sequence[int], like: str) -> str:
    """Zeros of `shape` in the dtype of `like`, spread from one constant element."""
    one = b.constant(np.zeros((1,) * len(shape), b.types[like].dtype.numpy), "zero")
    return one if all(d == 1 for d in shape) else emit(b, "expand", one, shape=tuple(shape))


def scalar(b: Builder, value: float, like: str) -> str:
    """Constant [1] in the dtype of `like`; broadcasts against anything."""
    return b.constant(np.array([value], b.types[like].dtype.numpy), "k")


def sum_to(b: Builder, ref: str, shape: Sequence[int]) -> str:
    """Sum `ref` over the axes along which a tensor of `shape` was broadcast; the result has `shape`."""
    dims = b.types[ref].dims
    shape = tuple(shape)
    lead = len(dims) - len(shape)
    axes = tuple(i for i, d in enumerate(dims) if i < lead or (shape[i - lead] == 1 and d != 1))
    if axes:
        ref = emit(b, "reduce_sum", ref, axes=axes, keepdims=True)
    return ref if b.types[ref].dims == shape else emit(b, "reshape", ref, shape=shape)
