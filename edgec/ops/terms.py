"""Arithmetic on references, so that a VJP reads as its formula: `dy * 0.5 / y` appends a mul and a div node.

Also the broadcasting rule and its transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from edgec.ir import NO_ATTRS, Attrs, Dim
from edgec.ops.define import OPS, require
from edgec.ops.emit import sum_to

if TYPE_CHECKING:
    from edgec.build import Builder


@dataclass(frozen=True, slots=True)
class Term:
    """A reference whose operators append nodes to `builder`; a Python number becomes a scalar constant."""

    builder: Builder
    ref: str

    def scalar(self, value: float) -> Term:
        """A constant of shape [] and of this term's dtype."""
        dtype = self.builder.types[self.ref].dtype.numpy
        return Term(self.builder, self.builder.constant(np.asarray(value, dtype), "scalar"))

    def op(self, name: str, *others: Term | float, attrs: Attrs = NO_ATTRS) -> Term:
        """`name(self, *others)`, the gradient's own dtype kept."""
        refs = tuple(o.ref if isinstance(o, Term) else self.scalar(o).ref for o in others)
        if name in ("add", "sub", "mul"):
            attrs = OPS[name].attrs()  # no clamp
        return Term(self.builder, self.builder.call(name, self.ref, *refs, attrs=attrs))

    def __add__(self, other: Term | float) -> Term:
        return self.op("add", other)

    def __sub__(self, other: Term | float) -> Term:
        return self.op("sub", other)

    def __rsub__(self, other: float) -> Term:
        return self.scalar(other).op("sub", self)

    def __mul__(self, other: Term | float) -> Term:
        return self.op("mul", other)

    def __truediv__(self, other: Term | float) -> Term:
        return self.op("div", other)

    def __neg__(self) -> Term:
        return self.op("neg")

    def where(self, yes: Term, no: Term | float) -> Term:
        """yes where this boolean term holds, else no."""
        other = no if isinstance(no, Term) else yes.scalar(no)
        return self.op("where", yes, other)


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The numpy broadcast of shapes; a Bound meets only itself or 1. Raises TypeRule."""
    result: list[Dim] = []
    for sizes in zip_longest(*(tuple(reversed(s)) for s in shapes), fillvalue=1):
        other = {d for d in sizes if d != 1}
        require(len(other) <= 1, f"shapes {[list(s) for s in shapes]} do not broadcast")
        result.append(other.pop() if other else 1)
    return tuple(reversed(result))


def unbroadcast(builder: Builder, gradient: str, ref: str) -> str:
    """`gradient`, summed over the axes along which `ref` was broadcast, in the shape of `ref`."""
    return sum_to(builder, gradient, builder.types[ref].dims)
