"""pack: offsets for blocks that live in intervals of time, so that the memory's height is small.

Two blocks whose times overlap may not overlap in memory. Heuristics place one block after another, in
several orders, into the lowest gap that fits; a branch and bound then looks for less. For up to
EXACT_BLOCKS blocks its search is complete, so the height is the least possible; beyond that it stops after
a fixed number of steps, so that the result depends on the input alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXACT_BLOCKS: Final = 8
_STEPS: Final = (
    20_000  # about 0.3 s; all orders of 8 blocks are 109,601 steps, which no bound ever lets happen
)


@dataclass(frozen=True, slots=True)
class Block:
    """`bytes` needed during `first`..`last`, both inclusive."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Block) -> bool:
        """Whether both live at some time."""
        return self.first <= other.last and other.first <= self.last


def align_up(value: int, align: int) -> int:
    """The least multiple of `align` that is not below `value`."""
    return -(-value // align) * align


def live_bound(blocks: Sequence[Block], align: int) -> int:
    """Most bytes live at one time, sizes rounded up to `align`: no packing is lower."""
    steps: dict[int, int] = {}
    for b in blocks:
        steps[b.first] = steps.get(b.first, 0) + align_up(b.bytes, align)
        steps[b.last + 1] = steps.get(b.last + 1, 0) - align_up(b.bytes, align)
    live = most = 0
    for time in sorted(steps):
        live += steps[time]
        most = max(most, live)
    return most


def pack(blocks: Sequence[Block], align: int, search: bool = True) -> dict[str, int]:
    """Offset of each block, by name; all are multiples of `align`. Without `search`, by the heuristics alone."""
    rounded = [Block(b.name, align_up(b.bytes, align), b.first, b.last) for b in blocks]
    bound = live_bound(blocks, align)
    best: dict[str, int] = {}
    height = -1
    for order in _orders(rounded):
        offsets = _first_fit(order)
        reached = _height(rounded, offsets)
        if height < 0 or reached < height:
            best, height = offsets, reached
        if height <= bound:
            return best
    return _Search(rounded, best, height, bound).run() if search else best


def _height(blocks: Sequence[Block], offsets: dict[str, int]) -> int:
    return max((offsets[b.name] + b.bytes for b in blocks), default=0)


def _orders(blocks: list[Block]) -> list[list[Block]]:
    """Orders that first-fit does well with; ties go by time and name."""

    def life(b: Block) -> int:
        return b.last - b.first + 1

    return [
        sorted(blocks, key=lambda b: (-b.bytes, -life(b), b.first, b.name)),
        sorted(blocks, key=lambda b: (-b.bytes * life(b), b.first, b.name)),
        sorted(blocks, key=lambda b: (-life(b), -b.bytes, b.first, b.name)),
        sorted(blocks, key=lambda b: (b.first, -b.bytes, b.name)),
        sorted(blocks, key=lambda b: (b.last, -b.bytes, b.name)),
        sorted(blocks, key=lambda b: (-b.first, -b.bytes, b.name)),
        _by_pressure(blocks),
    ]


def _by_pressure(blocks: list[Block]) -> list[Block]:
    """Blocks of the fullest time first, then of the next fullest."""
    times = sorted({b.first for b in blocks})
    full = {t: sum(b.bytes for b in blocks if b.first <= t <= b.last) for t in times}

    def worst(b: Block) -> int:
        return max(full[t] for t in times if b.first <= t <= b.last)

    return sorted(blocks, key=lambda b: (-worst(b), -b.bytes, b.first, b.name))


def _first_fit(order: Sequence[Block]) -> dict[str, int]:
    """Each block into the lowest gap between those placed before."""
    offsets: dict[str, int] = {}
    placed: list[Block] = []
    for block in order:
        at = 0
        for other in sorted((p for p in placed if p.meets(block)), key=lambda p: offsets[p.name]):
            if offsets[other.name] - at >= block.bytes:
                break
            at = max(at, offsets[other.name] + other.bytes)
        offsets[block.name] = at
        placed.append(block)
    return offsets


class _Search:
    """Branch and bound over the orders in which blocks are put on top of what they meet.

    Any packing can be pushed down until every block rests on 0 or on one that it meets; placing its blocks by
    ascending offset then gives no higher one. So orders whose offsets ascend contain an optimum.
    """

    def __init__(self, blocks: list[Block], best: dict[str, int], height: int, bound: int) -> None:
        self.blocks = sorted(blocks, key=lambda b: (-b.bytes, b.first, b.name))
        self.best, self.height, self.bound = best, height, bound
        self.left = _STEPS if len(blocks) > EXACT_BLOCKS else -1  # -1: no limit
        count = len(blocks)
        self.meets = [
            [j for j in range(count) if j != i and self.blocks[j].meets(self.blocks[i])] for i in range(count)
        ]
        self.cliques = self._cliques()

    def _cliques(self) -> list[tuple[int, ...]]:
        """Blocks live together, for each time at which one begins."""
        found = {
            tuple(i for i, b in enumerate(self.blocks) if b.first <= t <= b.last)
            for t in {b.first for b in self.blocks}
        }
        return sorted(found)

    def run(self) -> dict[str, int]:
        self._place([-1] * len(self.blocks), [0] * len(self.blocks), (0, -1), 0)
        return self.best

    def _place(self, offsets: list[int], floor: list[int], low: tuple[int, int], top: int) -> None:
        """`floor[i]`: offset of block i on top of the placed ones that it meets; `low`: last (offset,
        block)."""
        if self.height <= self.bound or self.left == 0:
            return
        self.left -= 1 if self.left > 0 else 0
        waiting = [i for i, at in enumerate(offsets) if at < 0]
        if not waiting:
            if top < self.height:
                self.height = top
                self.best = {b.name: at for b, at in zip(self.blocks, offsets, strict=True)}
            return
        if self._hopeless(offsets, floor, low[0]):
            return
        for i in sorted(waiting, key=lambda i: (floor[i], i)):
            at = floor[i]
            end = at + self.blocks[i].bytes
            if (at, i) < low or end >= self.height:
                continue
            offsets[i] = at
            raised = list(floor)
            for j in self.meets[i]:
                raised[j] = max(raised[j], end)
            self._place(offsets, raised, (at, i), max(top, end))
            offsets[i] = -1

    def _hopeless(self, offsets: list[int], floor: list[int], low: int) -> bool:
        """Whether the waiting blocks of some time cannot be stacked below the best height.

        None of them will go below its floor, nor below `low`.
        """
        for clique in self.cliques:
            waiting = [i for i in clique if offsets[i] < 0]
            if waiting:
                base = min(floor[i] for i in waiting)
                if max(base, low) + sum(self.blocks[i].bytes for i in waiting) >= self.height:
                    return True
        return False
