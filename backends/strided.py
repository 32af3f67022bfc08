"""Broadcasting and reduction as sizes and strides, worked out on the host so that kernels only add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RANK: Final = 6  # axes that the strided kernels take


@dataclass(frozen=True, slots=True)
class Strided:
    """Sizes of the merged axes, and each operand's stride in elements along them (0 repeats)."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    def padded(self, rank: int = RANK) -> Strided:
        """The same with leading axes of size 1, up to `rank`."""
        extra = rank - len(self.sizes)
        strides = tuple((0,) * extra + s for s in self.strides)
        return Strided((1,) * extra + self.sizes, strides)


def natural(dims: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense tensor, the last axis contiguous."""
    strides = [1] * len(dims)
    for i in range(len(dims) - 2, -1, -1):
        strides[i] = strides[i + 1] * dims[i + 1]
    return tuple(strides)


def strides_to(out: Sequence[int], dims: Sequence[int]) -> tuple[int, ...]:
    """Strides by which a dense operand of shape `dims` is read along the axes of `out`."""
    dense = natural(dims)
    lead = len(out) - len(dims)
    return (0,) * lead + tuple(0 if d == 1 else s for d, s in zip(dims, dense, strict=True))


def merged(out: Sequence[int], operands: Sequence[Sequence[int]]) -> Strided:
    """The fewest axes over which operands of these strides run along `out`: size 1 dropped, neighbours
    joined where every operand runs on. At least one axis."""
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for axis, size in enumerate(out):
        if size == 1:
            continue
        here = [o[axis] for o in operands]
        if sizes and all(s[-1] == h * size for s, h in zip(strides, here, strict=True)):
            sizes[-1] *= size
            for s, h in zip(strides, here, strict=True):
                s[-1] = h
        else:
            sizes.append(size)
            for s, h in zip(strides, here, strict=True):
                s.append(h)
    if not sizes:
        return Strided((1,), tuple((0,) for _ in operands))
    return Strided(tuple(sizes), tuple(tuple(s) for s in strides))


def broadcast(out: Sequence[int], operands: Sequence[Sequence[int]]) -> Strided:
    """How dense operands of these shapes are read to make a dense output of shape `out`."""
    return merged(out, [strides_to(out, d) for d in operands])


def split_axes(dims: Sequence[int], axes: Sequence[int]) -> tuple[Strided, Strided]:
    """(kept, reduced) axes of a dense tensor, merged; each has one operand, the tensor."""
    dense = natural(dims)
    kept = [i for i in range(len(dims)) if i not in axes]

    def part(chosen: Sequence[int]) -> Strided:
        return merged([dims[i] for i in chosen], [[dense[i] for i in chosen]])

    return part(kept), part(sorted(axes))
