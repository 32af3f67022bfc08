"""How data movement is cut into units of up to 16 bytes, and divisions by sizes into multiplications."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from edgec.backends.kernel_record import Fields
from edgec.backends.kernels_c_shape import Axis

UNIT_MAX: Final = 16


def unit_bytes(element: int, *byte_counts: int) -> int:
    """The largest unit, at least an element of `element` bytes, that divides all of these byte counts."""
    unit = UNIT_MAX
    while unit > element and any(n % unit for n in byte_counts):
        unit //= 2
    return unit


def divider(size: int) -> tuple[int, int]:
    """(magic, shift) with n // size == ((n * magic >> 32) + n) >> shift for 0 <= n < 2**31.

    >>> magic, shift = divider(7)
    >>> all(((n * magic >> 32) + n) >> shift == n // 7 for n in (0, 6, 7, 2**31 - 1))
    True
    """
    shift = (size - 1).bit_length()
    return (1 << 32) * ((1 << shift) - size) // size + 1, shift


def divider_fields(sizes: Iterable[tuple[int, int]]) -> Fields:
    """size_i, magic_i and shift_i of (i, size)."""
    known = [(i, size, *divider(size)) for i, size in sizes]
    return (
        *((f"size_{i}", size) for i, size, _, _ in known),
        *((f"magic_{i}", magic) for i, _, magic, _ in known),
        *((f"shift_{i}", shift) for i, _, _, shift in known),
    )


def in_units(axes: Sequence[Axis], per_unit: int) -> tuple[Axis, ...]:
    """A walk over elements, its last axis dense, as one over units of `per_unit` elements."""
    if per_unit == 1:
        return tuple(axes)
    *outer, (size, _) = axes
    return (*((n, stride // per_unit) for n, stride in outer), (size // per_unit, 1))


def walk_unit(axes: Sequence[Axis], offset: int, element: int) -> int:
    """Bytes of the unit of a strided copy: more than an element only where the last axis is dense."""
    if not axes or axes[-1][1] != 1:
        return element
    return unit_bytes(element, *(n * element for n in (axes[-1][0], offset, *(s for _, s in axes[:-1]))))


def filled(axes: Sequence[Axis], count: int) -> tuple[Axis, ...]:
    """The axes with ones in front, `count` of them."""
    return (*((1, 0),) * (count - len(axes)), *axes)


def volume(axes: Sequence[Axis]) -> int:
    """Elements of a walk."""
    return math.prod(size for size, _ in axes)
