"""What the user reads when a Plan does not fit: the peak, the layer, the largest buffers and what would
help."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgec.errors import TargetError
from edgec.ir import DType
from edgec.passes.lifetimes import calls_of
from edgec.passes.placement import rooms
from edgec.plan import Arena, Buffer, Entry, Plan, Target, Use
from edgec.training.ram import kept_bytes


def check_training_ram(plan: Plan, target: Target, total: int, what_fits: Callable[[], str]) -> None:
    """Raise TargetError EDGEC-E508 where a firmware that learns needs more than `total` bytes of RAM. `plan` has
    offsets; `what_fits` says what less to train would fit, "" for nothing."""
    kept = kept_bytes(target)
    needed = sum(a.bytes for a in plan.arenas) + kept
    if needed <= total:
        return
    largest_arena = max(plan.arenas, key=lambda a: a.bytes)
    at, live = peak(plan, largest_arena.memory)
    where = f" at layer {at}" if at else ""
    fits = what_fits()
    less = f", or {fits}" if fits else ""
    largest = ", ".join(f"{_called(plan, b)} {kib(b.bytes)}" for b in live[:3])
    raise TargetError(
        "EDGEC-E508",
        f"give --train-ram {-(-needed // 1024)}K{less}: the firmware that learns needs {kib(needed)} of RAM{where} "
        f"({kib(kept)} of it stack, link and data), {kib(needed - total)} more than the {kib(total)} given. "
        f"Largest buffers: {largest}",
    )


def does_not_fit(plan: Plan, target: Target, arena: Arena, budget: int | None) -> TargetError:
    """EDGEC-E501 for an arena that is larger than its memory. `plan` has offsets."""
    needed = sum(a.bytes for a in plan.arenas)
    available = sum(room.bytes for room in rooms(target, budget))
    at, live = peak(plan, arena.memory)
    where = f" at layer {at}" if at else ""
    (memory,) = (m for m in target.rams if m.name == arena.memory)
    if budget is not None:
        limit = f"{kib(available)} are given by --ram"
    else:
        kept = kib(target.reserve_ram_bytes)
        limit = f"{kib(available)} exist ({memory.source}; {kept} are kept for stack and data)"
    named = memory.name if len(target.rams) == 1 else f"RAM ({memory.name} overflows)"
    largest = ", ".join(f"{_called(plan, b)} {kib(b.bytes)}" for b in live[:3])
    return TargetError(
        "EDGEC-E501",
        f"{target.name} needs {kib(needed)} of {named}{where}, {limit}. "
        f"Try {' or '.join(_cures(plan, needed, available, budget is not None))}. Largest buffers: {largest}",
    )


def check_flash(target: Target, needed: int, largest: Sequence[tuple[str, int]], budget: int | None) -> None:
    """Raise TargetError EDGEC-E502 where code and weights (`needed` bytes) exceed the flash.

    `largest`: (name, bytes) of the largest constants, for the message.
    """
    available = budget if budget is not None else target.flash_bytes
    if needed <= available:
        return
    source = "given by --flash" if budget is not None else "exist"
    names = ", ".join(f"{name} {kib(size)}" for name, size in largest[:3])
    raise TargetError(
        "EDGEC-E502",
        f"{target.name} needs {kib(needed)} of flash, {kib(available)} {source}. Try --precision int8 where it "
        "is fp32, a narrower network, or a target with more flash (`edgec targets`). "
        f"Largest constants: {names}",
    )


def check_device_memory(target: Target, arena: int, weights: int) -> None:
    """Raise TargetError EDGEC-E507 where a GPU's memory does not hold arena and weights together."""
    (memory,) = target.rams
    available = memory.bytes - target.reserve_ram_bytes
    if arena + weights > available:
        kept = kib(target.reserve_ram_bytes)
        raise TargetError(
            "EDGEC-E507",
            f"{target.name} needs {kib(arena + weights)} of device memory ({kib(weights)} of weights, {kib(arena)} of "
            f"activations and state), {kib(available)} exist ({memory.source}; {kept} are kept for everything else). "
            "Try --precision fp16 where it is fp32, 4-bit weights, or a target with more memory (`edgec targets`)",
        )


def peak(plan: Plan, memory: str) -> tuple[str, tuple[Buffer, ...]]:
    """(layer, buffers live there, largest first) of the item with the most live bytes in `memory`.

    The layer is "" where an entry has no items.
    """
    roots = [b for b in plan.buffers if b.inside is None and b.memory == memory]
    best: tuple[int, str, tuple[Buffer, ...]] = (-1, "", ())
    for entry in plan.entries:
        for time in range(-1, len(entry.items) + 1):
            live = [
                b
                for b in roots
                if b.use is Use.STATE or (b.entry == entry.name and b.first <= time <= b.last)
            ]
            total = sum(b.bytes for b in live)
            if total > best[0]:
                best = (total, _layer(entry, time), tuple(sorted(live, key=lambda b: (-b.bytes, b.name))))
    return best[1], best[2]


def _layer(entry: Entry, time: int) -> str:
    if not entry.items:
        return ""
    calls = calls_of(entry.items[min(max(time, 0), len(entry.items) - 1)])
    first, last = calls[0].loc, calls[-1].loc
    return str(first) if first == last else f"{first} to {last}"


def _called(plan: Plan, buffer: Buffer) -> str:
    """The layer that makes the buffer, its own name where no layer does (an input, a state)."""
    for call in (c for e in plan.entries if e.name == buffer.entry for c in e.calls):
        if any(a.buffer == buffer.name for a in call.outputs):
            return call.loc.layer or buffer.name
        if call.scratch is not None and call.scratch.buffer == buffer.name:
            return f"scratch of {call.loc.layer or call.name}"
    return buffer.name


def _cures(plan: Plan, needed: int, available: int, budgeted: bool) -> list[str]:
    """Changes of the model that would help, with the RAM they are likely to take."""
    cures = []
    ports = [p for e in plan.entries for p in e.inputs]
    if any(p.type.dtype is DType.F32 for p in ports) and not any(
        c.in_types and c.in_types[0].dtype is DType.I8 for e in plan.entries for c in e.calls
    ):
        cures.append(f"--precision int8 (about {kib(needed // 4)})")
    maps = [p.type for p in ports if len(p.type.shape) == 4]
    if maps:
        # Activations shrink with the area of the input.
        height, width = max(t.dims[1:3] for t in maps)
        for step in range(15, 3, -1):
            size = height * step // 16 // 8 * 8, width * step // 16 // 8 * 8
            smaller = needed * size[0] * size[1] // (height * width)
            if 0 < smaller <= available:
                cures.append(f"an input of {size[0]}x{size[1]} (about {kib(smaller)})")
                break
    more = (
        f"--ram {-(-needed // 1024)}K"
        if budgeted
        else f"a target with {kib(needed)} of RAM (`edgec targets`)"
    )
    return [*cures, more]


def kib(size: int) -> str:
    """Bytes for people: whole KiB, or bytes below 10 KiB."""
    return f"{size} bytes" if size < 10 * 1024 else f"{-(-size // 1024)} KiB"
