"""stream: runs chains of row kernels row by row through small rings, so that wide maps never exist whole.

A chain is a run of calls each of which reads the one before it, and nothing else reads that: the wide part
of an inverted bottleneck, a first stage. The last call makes its rows one after another; before each, every
earlier call makes the rows that it needs. Nothing is computed twice, but kernels are called once a row, so
as little is streamed as the budget allows. A ring holds the rows between the first that is still read and
the last made.

The result of a stream may take over a map that it reads, behind the last row that is still needed (a residual
block in place). Plan -> Plan, before `plan_memory`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, Literal

from edgec.passes.inplace import share_buffers
from edgec.passes.lifetimes import root_of, touches, with_lifetimes
from edgec.passes.memory import arena_bytes, lay_out
from edgec.passes.offsets import align_up
from edgec.plan import ROW_BY_ROW, Buffer, BufferArg, Call, Entry, Item, Plan, Stream, Target, Use

Mode = Literal["auto", "all"]

_TRIES: Final = 24  # plans laid out; each costs a memory planning
_LONGEST: Final = 24  # calls in one stream


def stream(plan: Plan, target: Target, ram_budget: int | None = None, mode: Mode = "auto") -> Plan:
    """The Plan with streams. "auto": as little as makes it fit the budget (the target's RAM where that is
    None), nothing where it fits; "all": all that lowers the arena.

    Where nothing makes it fit, the smallest found is returned: `plan_memory` then says what is missing.
    """
    whole, free = lay_out(plan, target, ram_budget)
    if mode == "auto" and _fits(whole, free):
        return plan
    entries = [_Entry(plan, entry) for entry in plan.entries]
    limits = sorted({cost for e in entries for cost in e.costs()})
    feasible = [t for t in limits if all(e.choose(t) is not None for e in entries)]
    room = sum(free.values())
    if mode == "all":
        tried = feasible[:_TRIES]  # the estimate leaves out gaps, so the lowest limit is not always the best
    else:
        tried = [t for t in feasible if t <= room][::-1][:_TRIES] or feasible[:1]
    best, least = plan, arena_bytes(whole)
    seen: set[tuple[tuple[range, ...], ...]] = set()
    for limit in tried:
        chosen = tuple(e.choose(limit) or () for e in entries)
        if chosen in seen:
            continue
        seen.add(chosen)
        streamed = _streamed(plan, chosen)
        laid, free = lay_out(streamed, target, ram_budget)
        if mode == "auto" and _fits(laid, free):
            return streamed
        if arena_bytes(laid) < least:
            best, least = streamed, arena_bytes(laid)
    return best


def _fits(laid: Plan, free: dict[str, int]) -> bool:
    return all(a.bytes <= free[a.memory] for a in laid.arenas)


def ring_rows(consumer: Call, height: int) -> int:
    """Rows that the ring before `consumer` holds, of a map of `height` rows."""
    assert consumer.halo is not None
    rows, made = 1, 0
    for row in range(consumer.rows):
        made = max(made, min(consumer.halo.last(row) + 1, height))
        rows = max(rows, made - max(consumer.halo.first(row), 0))
    return rows


def made_before(calls: Sequence[Call], row: int) -> list[int]:
    """Rows that each call of a stream has made when the last one makes `row`."""
    made = [0] * len(calls)
    need = row + 1
    for index in range(len(calls) - 1, -1, -1):
        made[index] = max(min(need, calls[index].rows), 0)
        halo = calls[index].halo
        assert halo is not None
        # Asking is monotone, so the last row asked for is the one that the last row made needs.
        need = halo.last(made[index] - 1) + 1
    made[-1] = row
    return made


class _Entry:
    """An entry, its chains, and what each part of a chain costs as one stream."""

    def __init__(self, plan: Plan, entry: Entry) -> None:
        self.entry = entry
        self.buffers = {b.name: b for b in plan.buffers}
        self.align = max((b.align for b in plan.buffers), default=1)
        self.roots = list(_roots(plan, entry))
        self.links = links(entry, self.buffers)
        self.segments = self._segments()
        self.cost = {part: self._cost(part) for segment in self.segments for part in _parts(segment)}

    def _segments(self) -> list[range]:
        """Longest runs of items in which each is linked to the next; an item without links is one alone."""
        out: list[range] = []
        start = 0
        for i in range(len(self.entry.items)):
            if i not in self.links or i - start + 1 >= _LONGEST:
                out.append(range(start, i + 1))
                start = i + 1
        return out

    def costs(self) -> Iterator[int]:
        yield from self.cost.values()

    def _cost(self, part: range) -> int:
        """Bytes live while the part runs as one item: all that it meets, less what rings replace."""
        first, last = part[0], part[-1]
        calls = [c for c in self.entry.items[first : last + 1] if isinstance(c, Call)]
        inner = {c.outputs[0].buffer for c in calls[:-1]}
        scratch = {c.scratch.buffer: self.size(c.scratch.buffer) for c in calls if c.scratch is not None}
        live = sum(
            align_up(b.bytes, self.align)
            for b in self.roots
            if (b.use is Use.STATE or (b.first <= last and first <= b.last))
            and b.name not in inner
            and b.name not in scratch
        )
        live += max(scratch.values(), default=0)
        for maker, reader in pairwise(calls):
            row = self.buffers[maker.outputs[0].buffer].bytes // maker.rows
            live += align_up(row * ring_rows(reader, maker.rows), self.align)
        if calls and taken_over(calls, last, self.entry, self.buffers) is not None:
            live -= self.size(calls[-1].outputs[0].buffer)
        return live

    def size(self, name: str) -> int:
        return align_up(self.buffers[name].bytes, self.align)

    def choose(self, limit: int) -> tuple[range, ...] | None:
        """Parts to stream so that no item needs over `limit` bytes, by the fewest row calls; None: none do."""
        chosen: list[range] = []
        for segment in self.segments:
            best: dict[int, tuple[int, tuple[range, ...]]] = {segment.start: (0, ())}
            for end in range(segment.start + 1, segment.stop + 1):
                options = []
                for start in range(segment.start, end):
                    part = range(start, end)
                    if start in best and self.cost[part] <= limit:
                        calls, parts = best[start]
                        streamed = (part,) if len(part) > 1 else ()
                        options.append((calls + self.row_calls(part), (*parts, *streamed)))
                if options:
                    best[end] = min(options, key=lambda o: o[0])
            if segment.stop not in best:
                return None
            chosen += best[segment.stop][1]
        return tuple(chosen)

    def row_calls(self, part: range) -> int:
        """Kernel calls that streaming the part adds."""
        if len(part) == 1:
            return 0
        return sum(c.rows for c in self.entry.items[part.start : part.stop] if isinstance(c, Call))


def _roots(plan: Plan, entry: Entry) -> Iterator[Buffer]:
    """What takes memory of its own while the entry runs. What calls without rows make in place (a sum of gradients, a
    state's next content) takes none, and what they make it in lives as long."""
    shared = {b.name: b for b in share_buffers(plan).buffers}
    by_rows = {a.buffer for c in entry.calls if c.halo is not None for a in c.outputs}
    for b in plan.buffers:
        if b.inside is not None or not (b.entry == entry.name or b.use is Use.STATE):
            continue
        later = shared[b.name]
        if later.inside is None:
            yield replace(b, first=later.first, last=later.last)
        elif b.name in by_rows:
            yield b


def _parts(segment: range) -> Iterator[range]:
    for start in segment:
        for end in range(start + 1, segment.stop + 1):
            yield range(start, end)


def links(entry: Entry, buffers: dict[str, Buffer]) -> set[int]:
    """Items whose result only the next item reads, both by rows: the ring between them may be small."""
    accesses: dict[str, list[int]] = {}
    for touch in touches(entry):
        accesses.setdefault(touch.buffer, []).append(touch.time)
    aliased = {root_of(b) for b in buffers.values() if b.inside is not None}
    found = set()
    for i, (maker, reader) in enumerate(pairwise(entry.items)):
        if not (isinstance(maker, Call) and isinstance(reader, Call) and maker.halo and reader.halo):
            continue
        name = maker.outputs[0].buffer
        b = buffers[name]
        position = _position(reader, name)
        if (
            len(maker.outputs) == len(reader.outputs) == 1
            and accesses[name] == [i, i + 1]
            and b.use is Use.ACTIVATION
            and b.inside is None
            and name not in aliased
            and position is not None
            and {"ring_y", f"ring_{position}"} <= {*dict(maker.params), *dict(reader.params)}
            and dict(reader.params).get(f"ring_{position}") == maker.rows
            and _one_writer(reader)
        ):
            found.add(i)
    return found


def _position(reader: Call, name: str) -> int | None:
    """Which pointer of `reader` is the buffer, at its start."""
    for position, arg in enumerate(reader.inputs):
        if arg == BufferArg(name):
            return position
    return None


def _one_writer(reader: Call) -> bool:
    """Whether the reader makes all of its result: a batch's calls share one, and start within it."""
    out = reader.outputs[0]
    return out.at == 0 and reader.out_types[0].dims[0] == 1


def taken_over(calls: Sequence[Call], time: int, entry: Entry, buffers: dict[str, Buffer]) -> str | None:
    """The map whose memory the result of a stream may take: dead after item `time`, and always read ahead of
    where the result is written. For a single call, the operand that its kernel may overwrite."""
    result = buffers[calls[-1].outputs[0].buffer]
    if result.inside is not None or result.use in (Use.STATE, Use.INPUT) or calls[-1].outputs[0].at:
        return None
    for arg in dict.fromkeys(a for c in calls for a in c.inputs if isinstance(a, BufferArg)):
        b = buffers[arg.buffer]
        dying = b.last <= time and b.use is not Use.STATE and b.inside is None and b.bytes >= result.bytes
        inner = any(b.name == c.outputs[0].buffer for c in calls)
        if not dying or inner or arg.at:
            continue
        if len(calls) == 1:
            if b.bytes == result.bytes and calls[0].inputs.index(arg) in calls[0].in_place:
                return b.name
        elif _read_ahead(calls, arg, b):
            return b.name
    return None


def _read_ahead(calls: Sequence[Call], arg: BufferArg, b: Buffer) -> bool:
    """Whether no call of the stream reads `arg` where the result was written before."""
    last = calls[-1]
    out_row = last.out_types[0].bytes // last.rows
    readers = []
    for index, call in enumerate(calls):
        for position, other in enumerate(call.inputs):
            if isinstance(other, BufferArg) and other.buffer == arg.buffer:
                height = dict(call.params).get(f"ring_{position}")
                if not isinstance(height, int) or b.bytes % height or other != arg:
                    return False
                if (
                    call.halo == ROW_BY_ROW and height != call.rows
                ):  # a broadcast operand is read for every row
                    return False
                if index == len(calls) - 1 and (
                    position not in call.in_place or b.bytes != last.out_types[0].bytes
                ):
                    return False
                readers.append((index, b.bytes // height))
    for row in range(last.rows):
        made = made_before(calls, row)
        for index, row_bytes in readers:
            halo = calls[index].halo
            assert halo is not None
            following = made[index] + (index == len(calls) - 1)
            if (
                following < calls[index].rows
                and (row + 1) * out_row > max(halo.first(following), 0) * row_bytes
            ):
                return False
    return True


def _streamed(plan: Plan, chosen: Sequence[tuple[range, ...]]) -> Plan:
    """The Plan with the chosen parts of each entry as Streams."""
    buffers = {b.name: b for b in plan.buffers}
    entries = []
    for entry, parts in zip(plan.entries, chosen, strict=True):
        items: list[Item] = []
        at = 0
        for part in parts:
            items += entry.items[at : part.start]
            calls = tuple(c for c in entry.items[part.start : part.stop] if isinstance(c, Call))
            items.append(_form(calls, part[-1], entry, buffers))
            at = part.stop
        items += entry.items[at:]
        entries.append(replace(entry, items=tuple(items)))
    kept: dict[str, Buffer] = {b.name: b for b in buffers.values() if b.use is Use.STATE}
    for entry in entries:
        kept |= {b.name: b for b in with_lifetimes(entry, buffers)}
    ordered = tuple(kept[b.name] for b in plan.buffers if b.name in kept)
    return replace(plan, entries=tuple(entries), buffers=ordered)


def _form(calls: tuple[Call, ...], time: int, entry: Entry, buffers: dict[str, Buffer]) -> Stream:
    """One Stream of `calls`; shrinks the buffers between them to rings and shares one scratch."""
    taken = taken_over(calls, time, entry, buffers)
    if taken is not None:
        result = calls[-1].outputs[0].buffer
        for b in tuple(buffers.values()):
            if root_of(b) == result:
                buffers[b.name] = replace(b, inside=taken)
    rings: list[tuple[str, int]] = []
    out: list[Call] = list(calls)
    for i in range(len(calls) - 1):
        name = calls[i].outputs[0].buffer
        rows = ring_rows(calls[i + 1], calls[i].rows)
        b = buffers[name]
        buffers[name] = replace(b, bytes=b.bytes // calls[i].rows * rows, use=Use.RING)
        position = _position(calls[i + 1], name)
        out[i] = _with(out[i], "ring_y", rows)
        out[i + 1] = _with(out[i + 1], f"ring_{position}", rows)
        rings.append((name, rows))
    return Stream(calls[-1].rows, _one_scratch(out, buffers), tuple(rings))


def _with(call: Call, field: str, value: int) -> Call:
    return replace(call, params=tuple((n, value if n == field else v) for n, v in call.params))


def _one_scratch(calls: list[Call], buffers: dict[str, Buffer]) -> tuple[Call, ...]:
    """The calls with one scratch buffer between them: its content never outlives a call."""
    wanted = [c.scratch.buffer for c in calls if c.scratch is not None]
    if not wanted:
        return tuple(calls)
    size = max(buffers[name].bytes for name in wanted)
    buffers[wanted[0]] = replace(buffers[wanted[0]], bytes=size)
    shared = BufferArg(wanted[0])
    return tuple(replace(c, scratch=shared) if c.scratch is not None else c for c in calls)
