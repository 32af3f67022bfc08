"""place: which RAM each buffer lives in, before offsets are chosen.

The fastest RAM takes the buffers with the most traffic, as many as fit there; the others go to the next one.
Traffic is bytes times accesses, and a buffer's worth its traffic for each byte it occupies. Aliases have no
memory of their own, so they never cross memories. With one RAM there is nothing to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgec.passes.offsets import Block, align_up, live_bound, pack
from edgec.plan import Buffer, Memory, Target


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a RAM that arenas may use."""

    memory: Memory
    bytes: int


def rooms(target: Target, budget: int | None) -> tuple[Room, ...]:
    """The target's RAMs, fastest first, with what the arenas may take.

    The reserve (stack, C library, the user's data) comes off the slowest RAM, and off the next where that is
    too small. `budget` caps the sum over all RAMs, the fastest being used first.
    """
    reserve = target.reserve_ram_bytes
    free: list[Room] = []
    for memory in reversed(target.rams):
        taken = min(reserve, memory.bytes)
        reserve -= taken
        free.append(Room(memory, memory.bytes - taken))
    free.reverse()
    if budget is None:
        return tuple(free)
    capped = []
    for room in free:
        size = min(room.bytes, budget)
        budget -= size
        capped.append(Room(room.memory, size))
    return tuple(capped)


def place(roots: Iterable[Buffer], accesses: Mapping[str, int], free: tuple[Room, ...]) -> dict[str, str]:
    """Memory of each root buffer, by name. What fits nowhere goes to the largest RAM, which then
    overflows."""
    names: dict[str, str] = {}
    waiting = sorted(roots, key=lambda b: (-accesses.get(b.name, 0), -b.bytes, b.entry, b.first, b.name))
    for room in free if len(free) > 1 else ():
        stay = _fill(waiting, room)
        names.update((b.name, room.memory.name) for b in stay)
        waiting = [b for b in waiting if b.name not in names]
    if free:
        largest = max(free, key=lambda room: room.bytes)
        names.update((b.name, largest.memory.name) for b in waiting)
    return names


def _fill(waiting: list[Buffer], room: Room) -> list[Buffer]:
    """As many of `waiting`, in their order, as fit into the room together."""
    stay: list[Buffer] = []
    for buffer in waiting:
        tried = [*stay, buffer]
        if least_height(tried, room.memory.align) > room.bytes:
            continue
        if height(tried, room.memory.align, search=False)[0] <= room.bytes:
            stay = tried
    return stay


def height(roots: list[Buffer], align: int, search: bool = True) -> tuple[int, int, dict[str, int]]:
    """(bytes, persistent bytes, offset of each root) of one memory: state first, entries over each other."""
    offsets: dict[str, int] = {}
    top = 0
    for b in roots:
        if b.entry == "":
            offsets[b.name] = top
            top = align_up(top + b.bytes, align)
    persistent = most = top
    for entry in sorted({b.entry for b in roots if b.entry}):
        mine = [Block(b.name, b.bytes, b.first, b.last) for b in roots if b.entry == entry]
        for name, at in pack(mine, align, search).items():
            offsets[name] = persistent + at
        most = max([most, *(offsets[b.name] + align_up(b.bytes, align) for b in mine)])
    return most, persistent, offsets


def least_height(roots: list[Buffer], align: int) -> int:
    """Lower bound of `height`: state and the most live bytes of any entry."""
    persistent = sum(align_up(b.bytes, align) for b in roots if b.entry == "")
    bounds = [
        live_bound([Block(b.name, b.bytes, b.first, b.last) for b in roots if b.entry == entry], align)
        for entry in {b.entry for b in roots if b.entry}
    ]
    return persistent + max(bounds, default=0)
