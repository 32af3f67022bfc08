"""Lifetimes: between which items of an entry the content of each buffer matters.

Time -1 is before the first item, when inputs are written; time len(items) is after the last, when outputs are
read and `Entry.updates` copies. A Stream is one item: all that it touches lives through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from edgec.plan import Argument, Buffer, BufferArg, Call, Entry, Item, Stream, Use

Time = int


@dataclass(frozen=True, slots=True)
class Touch:
    """One access to a buffer at an item."""

    time: Time
    buffer: str
    write: bool


def calls_of(item: Item) -> tuple[Call, ...]:
    """The calls of an item in order."""
    return item.calls if isinstance(item, Stream) else (item,)


def buffers_in(args: tuple[Argument, ...]) -> tuple[BufferArg, ...]:
    """The arguments that are buffers, constants left out."""
    return tuple(a for a in args if isinstance(a, BufferArg))


def touches(entry: Entry) -> Iterator[Touch]:
    """Every access of the entry, in order of time; at one item reads come before writes."""
    for port in entry.inputs:
        yield Touch(-1, port.buffer, True)
    for time, item in enumerate(entry.items):
        for call in calls_of(item):
            for arg in (*buffers_in(call.inputs), *((call.count,) if call.count else ())):
                yield Touch(time, arg.buffer, False)
            for arg in (*call.outputs, *((call.scratch,) if call.scratch else ())):
                yield Touch(time, arg.buffer, True)
    end = len(entry.items)
    for to, source, _ in entry.updates:
        if source[0] != "@":
            yield Touch(end, source, False)
        yield Touch(end, to, True)
    for port in entry.outputs:
        yield Touch(end, port.buffer, False)


def root_of(buffer: Buffer) -> str:
    """Name of the buffer whose memory this one uses."""
    return buffer.inside if buffer.inside is not None else buffer.name


def with_lifetimes(entry: Entry, buffers: Mapping[str, Buffer]) -> tuple[Buffer, ...]:
    """The entry's buffers with `first` and `last` from what the items touch; unused ones are dropped.

    A root lives as long as its aliases. An alias begins with its first write, a view with its root. A value
    that sizes other tensors (a Bound's name) is touched by the calls that these tensors pass.
    """
    own: dict[str, list[Time]] = {}
    written: dict[str, Time] = {}
    for touch in touches(entry):
        own.setdefault(touch.buffer, []).append(touch.time)
        if touch.write:
            written.setdefault(touch.buffer, touch.time)
    for time, name in bound_uses(entry, buffers):
        own.setdefault(name, []).append(time)
    mine = [b for b in buffers.values() if b.entry == entry.name and b.use is not Use.STATE]
    group: dict[str, list[Time]] = {}
    for b in mine:
        group.setdefault(root_of(b), []).extend(own.get(b.name, ()))
    out: list[Buffer] = []
    for b in mine:
        times = group[root_of(b)]
        if b.inside is None:
            if times:
                out.append(replace(b, first=min(times), last=max(times)))
        elif b.name in own:
            first = written.get(b.name, min(times))
            out.append(replace(b, first=first, last=max(own[b.name])))
    return tuple(out)


def bound_uses(entry: Entry, buffers: Mapping[str, Buffer]) -> Iterator[tuple[Time, str]]:
    """(time, buffer) where a call passes a tensor whose size that buffer holds."""
    for time, item in enumerate(entry.items):
        for call in calls_of(item):
            for t in (*call.in_types, *call.out_types):
                for bound in t.bounds:
                    for name in (bound.name, f"{entry.name}.{bound.name}"):
                        if name in buffers and buffers[name].entry == entry.name:
                            yield time, name
