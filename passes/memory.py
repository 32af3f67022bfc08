"""plan_memory: shares buffers, places them in RAMs and gives them offsets. Plan -> Plan, the last pass.

Every RAM that is used becomes an Arena: the state of all entries first, which persists, then the
activations of the entries, which overlap each other because only one entry runs at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from edgec.passes.fit import does_not_fit
from edgec.passes.inplace import share_buffers
from edgec.passes.lifetimes import root_of, touches
from edgec.passes.offsets import align_up
from edgec.passes.placement import height, least_height, place, rooms
from edgec.plan import Arena, Buffer, Plan, Target, Use


def plan_memory(plan: Plan, target: Target, ram_budget: int | None = None) -> Plan:
    """The Plan with memories and offsets. `ram_budget` caps the bytes of all arenas together.

    Raises TargetError EDGEC-E501 where it does not fit.
    """
    planned, free = lay_out(plan, target, ram_budget)
    for arena in planned.arenas:
        if arena.bytes > free.get(arena.memory, 0):
            raise does_not_fit(planned, target, arena, ram_budget)
    return planned


def lay_out(plan: Plan, target: Target, ram_budget: int | None) -> tuple[Plan, dict[str, int]]:
    """(the Plan with memories and offsets whether it fits or not, bytes free for the arena of each RAM)."""
    plan = share_buffers(plan, keep_inputs=target.family == "cuda")
    free = rooms(target, ram_budget)
    roots = [b for b in plan.buffers if b.inside is None]
    where = place(roots, _accesses(plan), free)
    offsets: dict[str, int] = {}
    arenas = []
    for room in free:
        mine = [b for b in roots if where[b.name] == room.memory.name]
        if mine:
            used, persistent, at = height(mine, room.memory.align)
            offsets |= at
            arenas.append(Arena(room.memory.name, used, persistent))
    buffers = tuple(_placed(b, where, offsets) for b in plan.buffers)
    return replace(plan, buffers=buffers, arenas=tuple(arenas)), {r.memory.name: r.bytes for r in free}


def _placed(b: Buffer, where: dict[str, str], offsets: dict[str, int]) -> Buffer:
    root = root_of(b)
    return replace(b, memory=where[root], offset=offsets[root] + (b.at if b.inside is not None else 0))


def _accesses(plan: Plan) -> Counter[str]:
    """Reads and writes of each root buffer, counted over all entries."""
    roots = {b.name: root_of(b) for b in plan.buffers}
    return Counter(roots[t.buffer] for entry in plan.entries for t in touches(entry))


def arena_bytes(plan: Plan) -> int:
    """RAM of all arenas of a planned Plan."""
    return sum(a.bytes for a in plan.arenas)


def live_lower_bound(plan: Plan, target: Target) -> int:
    """Most bytes live at one time, over all memories: no offsets need less."""
    align = max((m.align for m in target.rams), default=1)
    return least_height([b for b in plan.buffers if b.inside is None], align)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes start <= i < end of an arena."""

    start: int
    end: int


def dead_spans(plan: Plan, entry: str, memory: str) -> tuple[tuple[Span, ...], ...]:
    """For each item of the entry, and for the end: the bytes of the arena that nothing needs just before it
    runs.

    Whatever is written there must not change any result: a test fills them with two patterns and compares.
    """
    (arena,) = (a for a in plan.arenas if a.memory == memory)
    (items,) = (e.items for e in plan.entries if e.name == entry)
    roots = [b for b in plan.buffers if b.inside is None and b.memory == memory]
    out = []
    for time in range(len(items) + 1):
        live = [b for b in roots if b.use is Use.STATE or (b.entry == entry and b.first < time <= b.last)]
        out.append(_gaps([Span(b.offset, b.offset + b.bytes) for b in live], arena.bytes))
    return tuple(out)


def _gaps(live: list[Span], size: int) -> tuple[Span, ...]:
    """What `live` leaves of 0..size."""
    out, at = [], 0
    for span in sorted(live, key=lambda s: s.start):
        if span.start > at:
            out.append(Span(at, span.start))
        at = max(at, span.end)
    return (*out, Span(at, size)) if at < size else tuple(out)


__all__ = ["Span", "align_up", "arena_bytes", "dead_spans", "lay_out", "live_lower_bound", "plan_memory"]
