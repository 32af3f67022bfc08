"""join_loops: consecutive generated pointwise calls become one loop, so that what stands between them is a local
variable and no buffer.

A call joins the one before it where nothing else reads that one's result, and both write as many elements of
the same shape. The loop does the same operations in the same order: results keep every bit. Plan -> Plan, after
`choose_kernels`, before streams and offsets are chosen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edgec.ir import Type
from edgec.passes.lifetimes import bound_uses, root_of, touches, with_lifetimes
from edgec.plan import Argument, Buffer, BufferArg, Call, Entry, Item, LoopStep, Plan, Use

MOST_STEPS: Final = 16
MOST_INPUTS: Final = 6  # pointers that an Arm core keeps in registers beside the counters

Operand = tuple[Argument, Type]


def join_loops(plan: Plan) -> Plan:
    """The Plan with joined loops and without the buffers between them; same object where there are none."""
    buffers = {b.name: b for b in plan.buffers}
    entries = tuple(_entry(entry, buffers) for entry in plan.entries)
    if all(a is b for a, b in zip(entries, plan.entries, strict=True)):
        return plan
    kept = {b.name: b for b in plan.buffers if b.use is Use.STATE}
    for entry in entries:
        kept |= {b.name: b for b in with_lifetimes(entry, buffers)}
    ordered = tuple(kept[b.name] for b in plan.buffers if b.name in kept)
    return replace(plan, entries=entries, buffers=ordered)


def _entry(entry: Entry, buffers: dict[str, Buffer]) -> Entry:
    private = _private(entry, buffers)
    items: list[Item] = []
    for item in entry.items:
        items.append(item)
        while len(items) > 1:
            joined = _join(items[-2], items[-1], private)
            if joined is None:
                break
            items[-2:] = [joined]
    return entry if len(items) == len(entry.items) else replace(entry, items=tuple(items))


def _private(entry: Entry, buffers: dict[str, Buffer]) -> frozenset[str]:
    """Buffers that one item writes and one item reads, and that nothing else lies in or stands for."""
    writers: dict[str, set[int]] = {}
    readers: dict[str, set[int]] = {}
    for touch in touches(entry):
        (writers if touch.write else readers).setdefault(touch.buffer, set()).add(touch.time)
    shared = {root_of(b) for b in buffers.values() if b.inside is not None}
    shared |= {name for _, name in bound_uses(entry, buffers)}
    return frozenset(
        name
        for name, times in writers.items()
        if len(times) == 1
        and len(readers.get(name, ())) == 1
        and name not in shared
        and buffers[name].use is Use.ACTIVATION
        and buffers[name].inside is None
    )


def _join(maker: Item, reader: Item, private: frozenset[str]) -> Call | None:
    """One call that does what both do, None where they stay two."""
    if not (isinstance(maker, Call) and isinstance(reader, Call)):
        return None
    if maker.kernel.source or reader.kernel.source or (maker.halo is None) != (reader.halo is None):
        return None
    (between,), (made,), (result,) = maker.outputs, maker.out_types, reader.out_types
    if between.buffer not in private or between not in reader.inputs or made.dims != result.dims:
        return None
    again = [(a, t) for a, t in _operands(reader) if isinstance(a, BufferArg) and a.buffer == between.buffer]
    if any(a != between or t != made for a, t in again):
        return None
    operands = list(dict.fromkeys((*_operands(maker), *(o for o in _operands(reader) if o[0] != between))))
    loop = (*_steps(maker, operands, 0), *_steps(reader, operands, len(_loop(maker)), between))
    if len(operands) > MOST_INPUTS or len(loop) > MOST_STEPS:
        return None
    return replace(
        reader,
        params=_rings(maker, reader, operands),
        inputs=tuple(a for a, _ in operands),
        macs=maker.macs + reader.macs,
        in_types=tuple(t for _, t in operands),
        in_place=tuple(
            k for k, (_, t) in enumerate(operands) if (t.dims, t.dtype) == (result.dims, result.dtype)
        ),
        loop=loop,
    )


def _operands(call: Call) -> tuple[Operand, ...]:
    return tuple(zip(call.inputs, call.in_types, strict=True))


def _loop(call: Call) -> tuple[LoopStep, ...]:
    """The call's steps; of one that is not joined yet, itself."""
    if call.loop:
        return call.loop
    fields = tuple(f for f in call.params if not f[0].startswith("ring_"))
    return (LoopStep(call.op, fields, tuple(range(len(call.inputs))), call.out_types[0].dtype),)


def _steps(
    call: Call, operands: list[Operand], first: int, between: BufferArg | None = None
) -> tuple[LoopStep, ...]:
    """The steps of `call` over `operands`; they stand at `first` of the joined loop, and what they read in
    `between` is the result of the step before."""

    def place(operand: int) -> int:
        if operand < 0:
            return operand - first
        argument = call.inputs[operand]
        return -first if argument == between else operands.index((argument, call.in_types[operand]))

    return tuple(replace(s, operands=tuple(place(k) for k in s.operands)) for s in _loop(call))


def _rings(maker: Call, reader: Call, operands: list[Operand]) -> tuple[tuple[str, int | float], ...]:
    """Rows of each buffer, where the calls take row ranges."""
    if reader.halo is None:
        return ()
    rows: dict[Operand, int | float] = {}
    for call in (maker, reader):
        fields = dict(call.params)
        rows |= {o: fields[f"ring_{k}"] for k, o in enumerate(_operands(call))}
    return (
        *((f"ring_{k}", rows[o]) for k, o in enumerate(operands)),
        ("ring_y", dict(reader.params)["ring_y"]),
    )
