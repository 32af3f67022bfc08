"""One call of a PyTorch operator as the importers in torch_ops_*.py see it.

A tensor argument arrives as `Ref`, a reference of the Builder; every other argument as PyTorch has it. Importers
return one reference, or a tuple for operators with several outputs, None standing for an output that has no
counterpart (indices of a max pooling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.build import Builder
from edgec.ir import Array, DType, Type
from edgec.ops.emit import emit


class Ref(str):
    """Reference of the Builder; tells tensors from text arguments such as padding="same"."""

    __slots__ = ()


class Unsupported(Exception):
    """The operator is known, this use of it is not; the text says which use and what would be supported."""


Result = str | Sequence[str | None]
Importer = Callable[["Call"], Result]

_ORDER: Final = (DType.B8, DType.U8, DType.I8, DType.I16, DType.I32, DType.F32)


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments by the names of the operator's schema, defaults filled in. `out` is what PyTorch says of the
    outputs."""

    b: Builder
    name: str
    args: Mapping[str, Any]
    out: tuple[Type, ...]

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.args.get(name, default)

    def ref(self, name: str = "self") -> Ref:
        """A tensor argument that must be there."""
        value = self.args[name]
        if not isinstance(value, Ref):
            raise Unsupported(f"takes a tensor as {name}")
        return value

    def dims(self, ref: str) -> tuple[int, ...]:
        return self.b.types[ref].dims

    def emit(self, op: str, *inputs: str, **attrs: Any) -> Ref:
        """A new node of one output."""
        return Ref(emit(self.b, op, *inputs, **attrs))

    def constant(self, data: Any, stem: str = "c") -> Ref:
        return Ref(self.b.constant(data, stem))

    def data(self, ref: str) -> Array | None:
        """The content of a constant, None for anything else."""
        return self.b.constants[ref[1:]].data if ref[0] == "@" else None

    def full(self, value: float | bool, shape: Sequence[int] = (), dtype: DType = DType.F32) -> Ref:
        """A constant tensor of one value."""
        return self.constant(np.full(tuple(shape), value, dtype.numpy), "value")

    def cast(self, ref: str, dtype: DType) -> Ref:
        """`ref` in `dtype`; the same where it is so already."""
        if self.b.types[ref].dtype is dtype:
            return Ref(ref)
        held = self.data(ref)
        if held is not None:
            return self.constant(held.astype(dtype.numpy), ref[1:])
        return self.emit("cast", ref, dtype=dtype.value)

    def reshape(self, ref: str, shape: Sequence[int]) -> Ref:
        if self.dims(ref) == tuple(shape):
            return Ref(ref)
        held = self.data(ref)
        if held is not None:
            return self.constant(held.reshape(tuple(shape)), ref[1:])
        return self.emit("reshape", ref, shape=tuple(shape))

    def transpose(self, ref: str, perm: Sequence[int]) -> Ref:
        if tuple(perm) == tuple(range(len(perm))):
            return Ref(ref)
        held = self.data(ref)
        if held is not None:
            return self.constant(held.transpose(tuple(perm)), ref[1:])
        return self.emit("transpose", ref, perm=tuple(perm))

    def expand(self, ref: str, shape: Sequence[int]) -> Ref:
        return Ref(ref) if self.dims(ref) == tuple(shape) else self.emit("expand", ref, shape=tuple(shape))

    def channels_last(self, ref: str) -> Ref:
        """[N,C,...] -> [N,...,C]."""
        rank = len(self.dims(ref))
        return self.transpose(ref, (0, *range(2, rank), 1))

    def channels_first(self, ref: str) -> Ref:
        """[N,...,C] -> [N,C,...]."""
        rank = len(self.dims(ref))
        return self.transpose(ref, (0, rank - 1, *range(1, rank - 1)))

    def operand(self, value: Any, dtype: DType) -> Ref:
        """A tensor or a number as an operand of `dtype`."""
        return self.cast(value, dtype) if isinstance(value, Ref) else self.full(value, (), dtype)

    def common(self, *values: Any) -> DType:
        """The dtype in which tensors and numbers are compared."""
        found = [_dtype_of(self, v) for v in values]
        return max(found, key=_ORDER.index)

    def axis(self, dim: int, rank: int) -> int:
        return dim + rank if dim < 0 else dim

    def axes(self, dims: Any, rank: int) -> tuple[int, ...]:
        """Non-negative axes, ascending; all of them where `dims` is None or empty."""
        if dims is None or (isinstance(dims, Sequence) and not dims):
            return tuple(range(rank))
        listed = [dims] if isinstance(dims, int) else dims
        return tuple(sorted(self.axis(d, rank) for d in listed))


def _dtype_of(c: Call, value: Any) -> DType:
    if isinstance(value, Ref):
        return c.b.types[value].dtype
    # A number takes part with its kind alone: an integer does not widen an integer tensor.
    return DType.F32 if isinstance(value, float) else DType.B8


def pair(value: Any) -> tuple[int, int]:
    """Two numbers from one, from a list of one or from a list of two."""
    listed = [value] if isinstance(value, int) else list(value)
    return (int(listed[0]), int(listed[-1]))
