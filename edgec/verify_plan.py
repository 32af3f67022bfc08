"""The verifier of Plans: what holds once memory is planned. A breach is our bug and names its invariant.

1. Names of entries, buffers and constants are unique; arguments, ports and copies name buffers of their entry or
   of the state, and constants of the Plan.
2. Every buffer has a RAM of the target and a multiple of its alignment there; arenas fit their memories.
3. An alias lies inside its root, in the same memory, and the root's lifetime covers its own.
4. Roots that live at one time share no byte. State lies in the persistent section, nothing else does.
5. Every access lies inside the buffer and inside its lifetime.
6. What is read was written before, and nothing else was written over it since.
7. A call's outputs and scratch overlap its inputs only where the kernel works in place.
8. In a Stream every row that a call reads is still in its ring, and nothing was written over it.
9. A call's kernel is one for its op; scratch and rows are there where the kernel asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgec.errors import InternalError
from edgec.ir import Type
from edgec.plan import Argument, Buffer, BufferArg, Call, Entry, Plan, Stream, Target, Use

COUNT_BYTES: Final = 4  # of an int32 scalar


class PlanError(InternalError):
    """A Plan breaks invariant `invariant` of this file's list."""

    def __init__(self, invariant: int, message: str) -> None:
        super().__init__(f"plan invariant {invariant} is broken: {message}")
        self.invariant = invariant


def verify_plan(plan: Plan, target: Target) -> None:
    """Raise PlanError where the planned `plan` breaks one of the invariants above."""
    for kind, names in (
        ("entries", [e.name for e in plan.entries]),
        ("buffers", [b.name for b in plan.buffers]),
        ("constants", [c.name for c in plan.constants]),
    ):
        if len(set(names)) != len(names):
            raise PlanError(1, f"two {kind} have one name")
    buffers = {b.name: b for b in plan.buffers}
    for entry in plan.entries:
        _names(plan, entry, buffers)
    _memories(plan, target)
    for b in plan.buffers:
        if b.inside is not None:
            _alias(b, buffers)
    _disjoint(plan)
    for entry in plan.entries:
        _Contents(entry, buffers).check()


def _arguments(call: Call) -> tuple[Argument, ...]:
    extra = tuple(a for a in (call.scratch, call.count) if a is not None)
    return (*call.inputs, *call.constants, *call.outputs, *extra)


def _names(plan: Plan, entry: Entry, buffers: dict[str, Buffer]) -> None:
    constants = {c.name for c in plan.constants}
    used = [p.buffer for p in (*entry.inputs, *entry.outputs)]
    for call in entry.calls:
        if call.kernel.op != call.op:
            raise PlanError(
                9, f"{call.name} is a {call.op}, its kernel {call.kernel.symbol} is one for {call.kernel.op}"
            )
        if call.kernel.bounded < (call.count is not None):
            raise PlanError(9, f"{call.name} has a count, which {call.kernel.symbol} does not take")
        if (call.scratch is None) != (call.kernel.scratch is None) or (call.halo is None) != (call.rows == 0):
            raise PlanError(9, f"{call.name} lacks scratch or rows that {call.kernel.symbol} asks for")
        if (call.counters is None) != (call.kernel.counters is None):
            raise PlanError(9, f"{call.name} lacks the counters that {call.kernel.symbol} asks for")
        for arg in _arguments(call):
            if isinstance(arg, BufferArg):
                used.append(arg.buffer)
            elif arg.constant not in constants:
                raise PlanError(1, f"{call.name} names the constant {arg.constant}, which is not there")
    for to, source, _ in entry.updates:
        used.append(to)
        if source[0] != "@":
            used.append(source)
        elif source[1:] not in constants:
            raise PlanError(1, f"a copy to {to} names the constant {source[1:]}, which is not there")
    for name in used:
        if name not in buffers or buffers[name].entry not in ("", entry.name):
            raise PlanError(1, f"entry {entry.name} uses the buffer {name}, which is not its own")


def _memories(plan: Plan, target: Target) -> None:
    rams = {m.name: m for m in target.rams}
    arenas = {a.memory: a for a in plan.arenas}
    for arena in plan.arenas:
        if arena.memory not in rams or arena.bytes > rams[arena.memory].bytes:
            raise PlanError(2, f"an arena of {arena.bytes} bytes does not fit {arena.memory}")
    for b in plan.buffers:
        if b.memory not in arenas or b.offset < 0 or b.offset + b.bytes > arenas[b.memory].bytes:
            raise PlanError(2, f"{b.name} lies outside the arena of {b.memory or 'no memory'}")
        if b.inside is None and b.offset % max(b.align, rams[b.memory].align):
            raise PlanError(2, f"{b.name} at {b.offset} is not aligned to {b.align}")


def _alias(b: Buffer, buffers: dict[str, Buffer]) -> None:
    root = buffers.get(b.inside or "")
    if root is None or root.inside is not None:
        raise PlanError(3, f"{b.name} lies inside {b.inside}, which is not a root")
    if b.at < 0 or b.at + b.bytes > root.bytes or (b.memory, b.offset) != (root.memory, root.offset + b.at):
        raise PlanError(3, f"{b.name} does not lie inside {root.name}")
    if root.use is not Use.STATE and not root.first <= b.first <= b.last <= root.last:
        raise PlanError(
            3, f"{b.name} lives {b.first}..{b.last}, its root {root.name} {root.first}..{root.last}"
        )


def _disjoint(plan: Plan) -> None:
    roots = sorted((b for b in plan.buffers if b.inside is None), key=lambda b: (b.memory, b.offset))
    persistent = {a.memory: a.persistent_bytes for a in plan.arenas}
    for i, a in enumerate(roots):
        inside = a.offset + a.bytes <= persistent[a.memory]
        if a.use is Use.STATE and not inside:
            raise PlanError(4, f"the state {a.name} lies outside the persistent section")
        if a.use is not Use.STATE and a.offset < persistent[a.memory] and a.bytes:
            raise PlanError(4, f"{a.name} lies in the persistent section")
        for b in roots[i + 1 :]:
            if b.memory != a.memory or b.offset >= a.offset + a.bytes:
                break
            both_state = a.use is Use.STATE and b.use is Use.STATE
            together = a.entry == b.entry and a.first <= b.last and b.first <= a.last
            if (both_state or together) and a.bytes and b.bytes:
                raise PlanError(4, f"{a.name} and {b.name} live at one time and share bytes")


@dataclass(frozen=True, slots=True)
class _Region:
    """Bytes of a root buffer."""

    root: str
    start: int
    end: int

    def overlaps(self, other: _Region) -> bool:
        return self.root == other.root and self.start < other.end and other.start < self.end


class _Contents:
    """Runs an entry, keeping for each written region which buffer's content stands there."""

    def __init__(self, entry: Entry, buffers: dict[str, Buffer]) -> None:
        self.entry, self.buffers = entry, buffers
        self.written: list[tuple[_Region, str]] = []
        self.writers = {a.buffer for c in entry.calls for a in c.outputs}
        self.writers |= {to for to, _, _ in entry.updates} | {p.buffer for p in entry.inputs}
        for b in buffers.values():
            if b.use is Use.STATE:
                self.written.append((self.region(BufferArg(b.name), b.bytes), b.name))

    def region(self, arg: BufferArg, size: int) -> _Region:
        b = self.buffers[arg.buffer]
        if arg.at < 0 or arg.at + size > b.bytes:
            raise PlanError(5, f"{size} bytes at {arg.at} lie outside {b.name}, which has {b.bytes}")
        start = arg.at + (b.at if b.inside is not None else 0)
        return _Region(b.inside if b.inside is not None else b.name, start, start + size)

    def check(self) -> None:
        for port in self.entry.inputs:
            self.write(-1, BufferArg(port.buffer), port.type.bytes)
        for time, item in enumerate(self.entry.items):
            if isinstance(item, Stream):
                self.stream(time, item)
            else:
                self.call(time, item)
        end = len(self.entry.items)
        for to, source, size in self.entry.updates:
            if source[0] != "@":
                self.read(end, BufferArg(source), size)
            self.write(end, BufferArg(to), size)
        for port in self.entry.outputs:
            self.read(end, BufferArg(port.buffer), port.type.bytes)

    def alive(self, time: int, b: Buffer) -> None:
        if b.use is not Use.STATE and not b.first <= time <= b.last:
            raise PlanError(5, f"{b.name} lives {b.first}..{b.last} and is used at {time}")

    def read(self, time: int, arg: BufferArg, size: int) -> None:
        self.alive(time, self.buffers[arg.buffer])
        region = self.region(arg, size)
        found = [name for other, name in self.written if other.overlaps(region)]
        covered = sum(
            min(o.end, region.end) - max(o.start, region.start) for o, _ in self.written if o.overlaps(region)
        )
        strangers = {n for n in found if n != arg.buffer} if arg.buffer in self.writers else set()
        if covered < size or strangers:
            by = f"; {sorted(strangers)[0]} was written over it" if strangers else ""
            raise PlanError(6, f"{arg.buffer} is read at item {time} without being there{by}")

    def write(self, time: int, arg: BufferArg, size: int) -> None:
        self.alive(time, self.buffers[arg.buffer])
        region = self.region(arg, size)
        kept: list[tuple[_Region, str]] = []
        for other, name in self.written:
            if not other.overlaps(region):
                kept.append((other, name))
                continue
            if other.start < region.start:
                kept.append((_Region(other.root, other.start, region.start), name))
            if other.end > region.end:
                kept.append((_Region(other.root, region.end, other.end), name))
        self.written = [*kept, (region, arg.buffer)]

    def call(self, time: int, call: Call) -> None:
        if call.count is not None:
            self.read(time, call.count, COUNT_BYTES)
        reads = list(_reads(call))
        for position, arg, t in reads:
            self.read(time, arg, _passed(arg, t, self.buffers))
            inside = self.region(arg, 0)
            for index, out in enumerate((*call.outputs, *((call.scratch,) if call.scratch else ()))):
                start = self.region(out, 0)
                same = (start.root, start.start) == (inside.root, inside.start)
                same &= position in call.in_place or (index, position) in call.renews
                mine = self.region(arg, _passed(arg, t, self.buffers))
                if self.output_region(call, out).overlaps(mine) and not same:
                    raise PlanError(7, f"{call.name} writes over its input {arg.buffer}")
        for out in call.outputs:
            region = self.output_region(call, out)
            self.write(time, out, region.end - region.start)
        if call.scratch is not None:
            self.alive(time, self.buffers[call.scratch.buffer])

    def output_region(self, call: Call, out: BufferArg) -> _Region:
        if out is call.scratch:
            return self.region(out, self.buffers[out.buffer].bytes - out.at)
        return self.region(out, call.out_types[call.outputs.index(out)].bytes)

    def stream(self, time: int, stream: Stream) -> None:
        """Invariants 5 to 8 for a Stream: rows run in the order in which the device pulls them."""
        rings = dict(stream.rings)
        made = {a.buffer for c in stream.calls for a in c.outputs}
        for call in stream.calls:
            for _, arg, t in _reads(call):
                self.alive(time, self.buffers[arg.buffer])
                if arg.buffer not in made:
                    self.read(time, arg, _passed(arg, t, self.buffers))
        _Rows(self, stream, rings).run()
        last = stream.calls[-1]
        self.write(time, last.outputs[0], last.out_types[0].bytes)


def _reads(call: Call) -> Iterator[tuple[int, BufferArg, Type | None]]:
    """(position, argument, type) of each buffer that a call reads; the type where the node's inputs say it."""
    by_position = call.in_types if len(call.in_types) == len(call.inputs) else ()
    for position, arg in enumerate(call.inputs):
        if isinstance(arg, BufferArg):
            yield position, arg, by_position[position] if by_position else None


def _passed(arg: BufferArg, t: Type | None, buffers: dict[str, Buffer]) -> int:
    """Bytes that a call may read through `arg`."""
    rest = buffers[arg.buffer].bytes - arg.at
    return min(t.bytes, rest) if t is not None else rest


class _Rows:
    """The pull of a Stream: which row stands in each slot of each ring, and what the result has written over."""

    def __init__(self, contents: _Contents, stream: Stream, rings: dict[str, int]) -> None:
        self.contents, self.stream, self.rings = contents, stream, rings
        self.done = [0] * len(stream.calls)
        self.slots: dict[str, list[int]] = {name: [-1] * rows for name, rows in rings.items()}
        self.producer = {c.outputs[0].buffer: i for i, c in enumerate(stream.calls)}
        self.result = stream.calls[-1]

    def run(self) -> None:
        for index, call in enumerate(self.stream.calls):
            name = call.outputs[0].buffer
            if call.halo is None or len(call.outputs) != 1:
                raise PlanError(8, f"{call.name} cannot run row by row")
            if index + 1 < len(self.stream.calls) and name not in self.rings:
                raise PlanError(8, f"{name} is neither a ring nor the result of its stream")
            if dict(call.params).get("ring_y", call.rows) != self.rings.get(name, call.rows):
                raise PlanError(8, f"{call.name} and its ring {name} disagree on the ring's rows")
        self.pull(len(self.stream.calls) - 1, self.stream.rows)

    def pull(self, index: int, need: int) -> None:
        call = self.stream.calls[index]
        assert call.halo is not None
        for row in range(self.done[index], need):
            for arg in call.inputs:
                maker = self.producer.get(arg.buffer) if isinstance(arg, BufferArg) else None
                if maker is not None:
                    self.pull(maker, min(call.halo.last(row) + 1, self.stream.calls[maker].rows))
            for position, arg in enumerate(call.inputs):
                if isinstance(arg, BufferArg):
                    self.read(call, position, arg, row)
            slots = self.slots.get(call.outputs[0].buffer)
            if slots is not None:
                slots[row % len(slots)] = row
            self.done[index] = row + 1

    def read(self, call: Call, position: int, arg: BufferArg, row: int) -> None:
        assert call.halo is not None
        if arg.buffer in self.slots:
            slots = self.slots[arg.buffer]
            rows = range(
                max(call.halo.first(row), 0),
                min(call.halo.last(row) + 1, self.stream.calls[self.producer[arg.buffer]].rows),
            )
            lost = [r for r in rows[:: call.halo.dilation] if slots[r % len(slots)] != r]
            if lost and call.halo.first(row) >= 0:
                raise PlanError(
                    8, f"{call.name} row {row} reads row {lost[0]} of {arg.buffer}, which is gone"
                )
            return
        self.read_map(call, position, arg, row)

    def read_map(self, call: Call, position: int, arg: BufferArg, row: int) -> None:
        """A whole map may be taken over by the result, behind the last row that is still read."""
        out = self.contents.region(self.result.outputs[0], 0)
        mine = self.contents.region(arg, 0)
        if out.root != mine.root:
            return
        index = call.inputs.index(arg)
        height = dict(call.params).get(f"ring_{index}")
        assert call.halo is not None and isinstance(height, int)
        row_bytes = self.contents.buffers[arg.buffer].bytes // height
        first = mine.start + max(call.halo.first(row), 0) * row_bytes
        out_bytes = self.result.out_types[0].bytes // self.result.rows
        written = out.start + self.done[-1] * out_bytes
        writing = out_bytes if call is self.result and position not in call.in_place else 0
        if first < written + writing:
            raise PlanError(
                8, f"{call.name} row {row} reads {arg.buffer} where the result was written over it"
            )
