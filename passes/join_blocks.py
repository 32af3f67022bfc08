"""join_blocks: several calls become fewer that a backend knows how to do together.

A backend looks for them (`find`): it is given the calls of an entry and who reads what they make, and names the calls
that go, those that come and the memory between these. Here the Plan is put together: the values that only went between
calls that are gone lose their buffers, constants that nobody reads go. This runs after join_epilogues, so that a call
carries the pointwise steps that follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgec.passes.lifetimes import bound_uses, root_of, touches, with_lifetimes
from edgec.plan import Block, Buffer, BufferArg, Call, ConstantArg, Entry, Flow, Item, Plan, PlanConstant, Use

Find = Callable[[Flow], Sequence[Block]]


@dataclass(frozen=True, slots=True)
class _Joined:
    """An entry with its blocks, and the buffers and constants that they brought."""

    entry: Entry
    buffers: tuple[Buffer, ...]
    constants: tuple[PlanConstant, ...]


def join_blocks(plan: Plan, find: Find) -> Plan:
    """The Plan with the calls that `find` makes; same object where it finds none."""
    buffers = {b.name: b for b in plan.buffers}
    constants = {c.name: c for c in plan.constants}
    done = [_entry(entry, buffers, constants, find) for entry in plan.entries]
    if all(d.entry is entry for d, entry in zip(done, plan.entries, strict=True)):
        return plan
    kept = {b.name: b for b in plan.buffers if b.use is Use.STATE}
    for d in done:
        kept |= {b.name: b for b in with_lifetimes(d.entry, buffers | {b.name: b for b in d.buffers})}
    names = [b.name for b in plan.buffers] + [b.name for d in done for b in d.buffers]
    entries = tuple(d.entry for d in done)
    used = _constants(entries)
    packed = (*plan.constants, *(c for d in done for c in d.constants))
    return replace(
        plan,
        entries=entries,
        buffers=tuple(kept[name] for name in names if name in kept),
        constants=tuple(c for c in packed if c.name in used),
    )


def _constants(entries: Sequence[Entry]) -> frozenset[str]:
    """Names of the constants that calls or copies read."""
    arguments = (a for e in entries for c in e.calls for a in (*c.inputs, *c.constants))
    copied = (source[1:] for e in entries for _, source, _ in e.updates if source[0] == "@")
    return frozenset((*(a.constant for a in arguments if isinstance(a, ConstantArg)), *copied))


def _entry(
    entry: Entry, buffers: Mapping[str, Buffer], constants: Mapping[str, PlanConstant], find: Find
) -> _Joined:
    calls = tuple(item for item in entry.items if isinstance(item, Call))
    if len(calls) != len(entry.items):
        return _Joined(entry, (), ())
    blocks = find(Flow(calls, *_links(entry, buffers), buffers, constants))
    if not blocks:
        return _Joined(entry, (), ())
    gone = {index for block in blocks for index in block.gone}
    made = {index: call for block in blocks for index, call in block.calls}
    items: list[Item] = []
    for index, call in enumerate(calls):
        if index in made:
            items.append(made[index])
        elif index not in gone:
            items.append(call)
    return _Joined(
        replace(entry, items=tuple(items)),
        tuple(b for block in blocks for b in block.buffers),
        tuple(c for block in blocks for c in block.constants),
    )


def _links(entry: Entry, buffers: Mapping[str, Buffer]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """(the one call that writes a buffer, the calls that read it) of buffers that hold one value between calls."""
    writers: dict[str, list[int]] = {}
    readers: dict[str, list[int]] = {}
    for touch in touches(entry):
        found = (writers if touch.write else readers).setdefault(touch.buffer, [])
        if touch.time not in found:
            found.append(touch.time)
    shared = {root_of(b) for b in buffers.values() if b.inside is not None}
    shared |= {name for _, name in bound_uses(entry, buffers)}
    shared |= {a.buffer for c in entry.calls for a in c.inputs if isinstance(a, BufferArg) and a.at}
    free = [
        name
        for name, times in writers.items()
        if len(times) == 1
        and name not in shared
        and buffers[name].use is Use.ACTIVATION
        and buffers[name].inside is None
    ]
    return {name: writers[name][0] for name in free}, {name: tuple(readers.get(name, ())) for name in free}
