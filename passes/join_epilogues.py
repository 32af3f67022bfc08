"""join_epilogues: pointwise calls that follow a product, a convolution or the like become its epilogue.

A call whose kernel takes epilogues (`Kernel.epilogue`) and whose result has a single reader, a generated pointwise call
of the same shape and element type (int8: a call of a kernel with `Kernel.step` of the same shape), is done with the
reader's steps: the value between them stays in registers. The
joined call stands where the reader stood, so its other operands are there; it repeats until nothing joins. Operands may
broadcast to the output in any way. This runs after join_loops, whose loops read a value once that several of their
steps use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from edgec.ir import OF_NUMPY, DType, Type
from edgec.passes.lifetimes import bound_uses, root_of, touches, with_lifetimes
from edgec.plan import Argument, Buffer, BufferArg, Call, Entry, Item, LoopStep, Plan, Use

MOST_STEPS: Final = 16
MOST_OPERANDS: Final = 6  # pointers beyond the kernel's own

Buffers = dict[str, Buffer]


def join_epilogues(plan: Plan) -> Plan:
    """The Plan with joined calls and without the buffers between them; same object where there are none."""
    buffers = {b.name: b for b in plan.buffers}
    constants = {
        c.name: Type(c.data.shape, OF_NUMPY[c.data.dtype.name])
        for c in plan.constants
        if c.data.dtype.name in OF_NUMPY
    }
    entries = tuple(_entry(entry, buffers, constants) for entry in plan.entries)
    if all(a is b for a, b in zip(entries, plan.entries, strict=True)):
        return plan
    kept = {b.name: b for b in plan.buffers if b.use is Use.STATE}
    for entry in entries:
        kept |= {b.name: b for b in with_lifetimes(entry, buffers)}
    ordered = tuple(kept[b.name] for b in plan.buffers if b.name in kept)
    return replace(plan, entries=entries, buffers=ordered)


def _entry(entry: Entry, buffers: Buffers, constants: Mapping[str, Type]) -> Entry:
    private = _private(entry, buffers)
    items: list[Item] = []
    for item in entry.items:
        reader = _as_step(item, constants)
        at = _maker(items, reader, private, buffers)
        if at is None:
            items.append(item)
            continue
        maker = items.pop(at)
        assert isinstance(maker, Call) and isinstance(reader, Call)
        items.append(_joined(maker, reader, buffers))
    return entry if len(items) == len(entry.items) else replace(entry, items=tuple(items))


def _as_step(item: Item, constants: Mapping[str, Type]) -> Item:
    """A call of a kernel with `step` as the generated call that a chain takes: its constants are operands too."""
    if not isinstance(item, Call) or not item.kernel.step:
        return item
    types = (*item.in_types[: len(item.inputs)], *(constants[c.constant] for c in item.constants))
    return replace(item, inputs=(*item.inputs, *item.constants), in_types=types, constants=(), grids=())


def _private(entry: Entry, buffers: Buffers) -> frozenset[str]:
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


def _maker(items: list[Item], reader: Item, private: frozenset[str], buffers: Buffers) -> int | None:
    """The place of the latest call that `reader` can be the epilogue of, None where there is none."""
    if not isinstance(reader, Call) or reader.grids or reader.halo is not None:
        return None
    if reader.kernel.source and not reader.kernel.step:
        return None
    for at in reversed(range(len(items))):
        maker = items[at]
        if not isinstance(maker, Call) or not maker.kernel.epilogue or len(maker.outputs) != 1:
            continue
        if maker.outputs[0] in reader.inputs and maker.outputs[0].buffer in private:
            moves = at + 1 < len(items)
            return at if _can_join(maker, reader) and not (moves and _reads_state(maker, buffers)) else None
    return None


def _reads_state(call: Call, buffers: Buffers) -> bool:
    """Whether it reads what another call may write in place."""
    read = (buffers[a.buffer] for a in call.inputs if isinstance(a, BufferArg))
    return any(buffers[root_of(b)].use is Use.STATE for b in read)


def _can_join(maker: Call, reader: Call) -> bool:
    (between,), (made,), (result,) = maker.outputs, maker.out_types, reader.out_types
    if made.bounds or made.dims != result.dims or made.dtype is not result.dtype:
        return False
    if not (made.dtype is DType.I8 and reader.kernel.step) and not made.dtype.is_float:
        return False
    for argument, t in zip(reader.inputs, reader.in_types, strict=True):
        same = isinstance(argument, BufferArg) and argument.buffer == between.buffer
        if same and (argument != between or t != made):
            return False
        if (t.dtype is not DType.I8 if reader.kernel.step else not t.dtype.is_float) or t.bounds:
            return False
    extra = len(_others(maker, reader)) + len(maker.inputs) - len(_own(maker).operands)
    steps = max(1, len(maker.loop)) + max(1, len(reader.loop))
    return extra <= MOST_OPERANDS and steps <= MOST_STEPS


def _own(call: Call) -> LoopStep:
    """The step that stands for the kernel itself. Its fields are in the params."""
    if call.loop:
        return call.loop[0]
    return LoopStep(call.op, (), tuple(range(len(call.inputs))), call.out_types[0].dtype)


def _others(maker: Call, reader: Call) -> tuple[int, ...]:
    """Operands of the reader beyond the value between."""
    return tuple(k for k, a in enumerate(reader.inputs) if a != maker.outputs[0])


def _joined(maker: Call, reader: Call, buffers: Buffers) -> Call:
    """The one call. The kernel passes its first operands, whose types come first."""
    others = _others(maker, reader)
    inputs = (*maker.inputs, *(reader.inputs[k] for k in others))
    types = (*maker.in_types[: len(maker.inputs)], *(reader.in_types[k] for k in others))
    before = maker.loop or (_own(maker),)
    result = -len(before)  # of the maker, as an operand

    def place(operand: int) -> int:
        if operand < 0:
            return operand - len(before)
        return len(maker.inputs) + others.index(operand) if operand in others else result

    after = reader.loop or (
        LoopStep(reader.op, reader.params, tuple(range(len(reader.inputs))), reader.out_types[0].dtype),
    )
    loop = (*before, *(replace(s, operands=tuple(place(k) for k in s.operands)) for s in after))
    own = {_root(a, buffers) for a in inputs[: len(before[0].operands)]}
    y = reader.out_types[0]
    free = tuple(
        k
        for k in range(len(before[0].operands), len(inputs))
        if (types[k].dims, types[k].dtype) == (y.dims, y.dtype) and _root(inputs[k], buffers) not in own
    )
    kept = tuple(k for k in maker.in_place if k < len(before[0].operands))
    return replace(
        maker,
        name=reader.name,
        inputs=inputs,
        in_types=types,
        outputs=reader.outputs,
        out_types=reader.out_types,
        macs=maker.macs + reader.macs,
        in_place=(*kept, *free),
        loop=loop,
    )


def _root(argument: Argument, buffers: Buffers) -> str:
    return root_of(buffers[argument.buffer]) if isinstance(argument, BufferArg) else "@" + argument.constant
