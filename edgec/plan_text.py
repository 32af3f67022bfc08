"""The text form of Plans: `show_plan` writes it, `read_plan` reads it back, `arena_map` is for people.

    plan "digits" {
      arena "sram": 4096 bytes, 0 persistent
      constant @conv.w: int8[8,3,3,1] "ohwi" sha256 "5f2c..."
      buffer %x: 64 bytes, align 16, input infer, items -1..0, "sram" + 0
      buffer %y: 64 bytes, align 1, activation infer, items 0..1, "sram" + 0, inside %x + 0
      state %state.count: kept float32[64] sha256 "9a01..."
      entry infer {
        in %x: i8[1,8,8,1] q(scale=0.0625, zero=0) "image" x (0,2,3,1)
        call conv: conv2d "ec_conv2d_s8" 100 (%x + 0) (@conv.w, @conv.b) -> (%y + 0) scratch (%s + 0) ...
        stream 8 rows, rings (%conv 3) { call ... call ... }
        copy %state.count = %y 256
        out %y: ...
      }
    }

A Plan reads back with the kernel table that it was made with, and its arrays by digest: `arrays_of(plan)`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edgec.errors import UserError
from edgec.ir import Array, DType, Loc, Persistence, Type
from edgec.plan import (
    Arena,
    Argument,
    Buffer,
    BufferArg,
    Call,
    ConstantArg,
    Entry,
    Grid,
    Halo,
    Item,
    Kernel,
    LoopStep,
    Plan,
    PlanConstant,
    PlanPort,
    PlanState,
    Stream,
    Use,
)
from edgec.text import Reader, quoted, show_item, show_loc, show_port, show_type

_DTYPE: Final = re.compile(r"[a-z]+[0-9]*")
_PERSISTENCE: Final = re.compile("|".join(p.value for p in Persistence))


def show_plan(plan: Plan) -> str:
    """The text of a Plan, planned or not, ending in a newline."""
    lines = [f"plan {quoted(plan.name)} {{"]
    lines += [
        f"  arena {quoted(a.memory)}: {a.bytes} bytes, {a.persistent_bytes} persistent" for a in plan.arenas
    ]
    lines += [
        f"  constant @{c.name}: {_array(c.data)} {quoted(c.layout)} {_sum(c.data)}" for c in plan.constants
    ]
    lines += [f"  buffer {_buffer(b)}" for b in plan.buffers]
    lines += [
        f"  state %{s.buffer}: {s.persistence.value} {_array(s.data)} {_sum(s.data)}" for s in plan.state
    ]
    for entry in plan.entries:
        lines += ["  " + line for line in _entry(entry)]
    return "\n".join([*lines, "}"]) + "\n"


def read_plan(text: str, kernels: Sequence[Kernel], arrays: Mapping[str, Array]) -> Plan:
    """The Plan that `text` shows. Raises UserError EDGEC-E371 where it is none, or names a kernel or array
    that is not given."""
    reader = _PlanReader(text, kernels, arrays)
    plan = reader.plan()
    reader.end()
    return plan


def arrays_of(plan: Plan) -> dict[str, Array]:
    """Content of constants and states by digest, as `read_plan` takes it."""
    data = [c.data for c in plan.constants] + [s.data for s in plan.state]
    return {_digest(d): d for d in data}


def arena_map(plan: Plan) -> str:
    """Where each buffer of a planned Plan lies and when it lives, by memory, entry and offset."""
    lines: list[str] = []
    for arena in plan.arenas:
        lines.append(f"{arena.memory}: {arena.bytes:,} bytes, {arena.persistent_bytes:,} of them persistent")
        mine = [b for b in plan.buffers if b.memory == arena.memory]
        for b in sorted(mine, key=lambda b: (b.entry, b.offset, b.first, b.name)):
            life = "always" if b.use is Use.STATE else f"{b.entry} {b.first}..{b.last}"
            within = f" in {b.inside}" if b.inside is not None else ""
            lines.append(
                f"  {b.offset:>9,} .. {b.offset + b.bytes:>9,}  {b.bytes:>9,} B  {life:<14} "
                f"{b.use.value:<10} {b.name}{within}"
            )
    return "\n".join(lines) + "\n"


def _digest(data: Array) -> str:
    head = f"{data.dtype.name}{data.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(data).tobytes()).hexdigest()


def _sum(data: Array) -> str:
    return f"sha256 {quoted(_digest(data))}"


def _array(data: Array) -> str:
    return f"{data.dtype.name}[{','.join(map(str, data.shape))}]"


def _buffer(b: Buffer) -> str:
    text = (
        f"%{b.name}: {b.bytes} bytes, align {b.align}, {b.use.value} {quoted(b.entry)}, "
        f"items {b.first}..{b.last}, {quoted(b.memory)} + {b.offset}"
    )
    return text if b.inside is None else f"{text}, inside %{b.inside} + {b.at}"


def _entry(entry: Entry) -> list[str]:
    lines = [f"entry {entry.name} {{"]
    lines += [f"  in {_plan_port(p)}" for p in entry.inputs]
    for item in entry.items:
        if isinstance(item, Stream):
            rings = ", ".join(f"%{name} {rows}" for name, rows in item.rings)
            lines.append(f"  stream {item.rows} rows, rings ({rings}) {{")
            lines += [f"    {_call(c)}" for c in item.calls]
            lines.append("  }")
        else:
            lines.append(f"  {_call(item)}")
    lines += [
        f"  copy %{to} = {source if source[0] == '@' else '%' + source} {size}"
        for to, source, size in entry.updates
    ]
    lines += [f"  out {_plan_port(p)}" for p in entry.outputs]
    return [*lines, "}"]


def _plan_port(p: PlanPort) -> str:
    return f"%{p.buffer}: {show_type(p.type)} {show_port(p.port)}"


def _argument(arg: Argument) -> str:
    return f"@{arg.constant}" if isinstance(arg, ConstantArg) else f"%{arg.buffer} + {arg.at}"


def _list(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)})"


def _types(types: tuple[Type, ...]) -> str:
    return _list([show_type(t) for t in types])


def _call(c: Call) -> str:
    inputs, constants, outputs = (
        _list([_argument(a) for a in part]) for part in (c.inputs, c.constants, c.outputs)
    )
    text = (
        f"call {c.name}: {c.op} {quoted(c.kernel.symbol)} {c.kernel.rank} {inputs} {constants} -> {outputs}"
    )
    if c.count is not None:
        text += f" count ({_argument(c.count)})"
    if c.scratch is not None:
        text += f" scratch ({_argument(c.scratch)})"
    if c.counters is not None:
        text += f" counters ({_argument(c.counters)})"
    text += f" {quoted(c.struct)} {{{', '.join(f'{n}={show_item(v)}' for n, v in c.params)}}} rows {c.rows}"
    if c.halo is not None:
        text += f" halo ({c.halo.kernel},{c.halo.stride},{c.halo.pad},{c.halo.dilation})"
    text += f" macs {c.macs} in_place {_list([str(p) for p in c.in_place])}"
    if c.renews:
        text += f" renews {_list([str(n) for pair in c.renews for n in pair])}"
    if c.loop:
        text += f" loop {_list([_loop_step(s) for s in c.loop])}"
    if c.grids:
        text += f" grids {_list([_grid(g) for g in c.grids])}"
    text += f" {_types(c.in_types)} -> {_types(c.out_types)}"
    loc = show_loc(c.loc)
    return f"{text}  // {loc}" if loc else text


def _loop_step(s: LoopStep) -> str:
    fields = ", ".join(f"{n}={show_item(v)}" for n, v in s.fields)
    return f"{s.op} {_list([str(k) for k in s.operands])} {{{fields}}} {s.result.value}"


def _grid(g: Grid) -> str:
    numbers = (*g.blocks, g.threads, g.shared_bytes, g.min_blocks, int(g.waits), g.cluster, int(g.cached))
    return f"{g.body} {_list([quoted(t) for t in g.template])} {_list([str(n) for n in numbers])}"


class _PlanReader(Reader):
    """Recursive descent, one method a rule of the form in the head comment."""

    def __init__(self, text: str, kernels: Sequence[Kernel], arrays: Mapping[str, Array]) -> None:
        super().__init__(text, {})
        self.kernels = {(k.op, k.symbol, k.rank): k for k in reversed(kernels)}
        self.arrays = arrays

    def words(self, *words: str) -> None:
        for word in words:
            self.expect(word)

    def plan(self) -> Plan:
        self.words("plan")
        name = self.string_here()
        self.words("{")
        arenas: list[Arena] = []
        constants: list[PlanConstant] = []
        buffers: list[Buffer] = []
        state: list[PlanState] = []
        entries: list[Entry] = []
        while not self.accept("}"):
            if self.accept("arena "):
                arenas.append(self.arena())
            elif self.accept("constant "):
                constants.append(self.plan_constant())
            elif self.accept("buffer "):
                buffers.append(self.buffer())
            elif self.accept("state "):
                owner = self.sigil("%")
                self.words(":")
                kind = Persistence(self.token(_PERSISTENCE, "reset, kept or saved"))
                state.append(PlanState(owner, self.array(), kind))
            else:
                entries.append(self.entry())
        return Plan(name, tuple(entries), tuple(buffers), tuple(constants), tuple(state), tuple(arenas))

    def string_here(self) -> str:
        self.accept("")
        return self.string()

    def sized(self) -> int:
        size = self.integer()
        self.words("bytes", ",")
        return size

    def arena(self) -> Arena:
        memory = self.string_here()
        self.words(":")
        size, persistent = self.sized(), self.integer()
        self.words("persistent")
        return Arena(memory, size, persistent)

    def array(self, layout: list[str] | None = None) -> Array:
        """An array by its digest; `layout` receives the string before that."""
        self.token(_DTYPE, "a dtype")
        self.words("[")
        self.several(self.integer, "]")
        if layout is not None:
            layout.append(self.string_here())
        self.words("sha256")
        digest = self.string_here()
        if digest not in self.arrays:
            raise UserError(
                "EDGEC-E371",
                f"give the arrays of the plan along with its text: sha256 {digest[:12]} is missing",
            )
        return self.arrays[digest]

    def plan_constant(self) -> PlanConstant:
        name = self.sigil("@")
        self.words(":")
        layout: list[str] = []
        data = self.array(layout)
        return PlanConstant(name, layout[0], data)

    def buffer(self) -> Buffer:
        name = self.sigil("%")
        self.words(":")
        size = self.sized()
        self.words("align")
        align = self.integer()
        self.words(",")
        use = self.name()
        if use not in Use._value2member_map_:
            self.fail("what the buffer is for")
        entry = self.string_here()
        self.words(",", "items")
        first = self.integer()
        self.words("..")
        last = self.integer()
        self.words(",")
        memory = self.string_here()
        self.words("+")
        offset = self.integer()
        inside, at = None, 0
        if self.accept(","):
            self.words("inside")
            inside, at = self.place()
        return Buffer(name, size, align, Use(use), entry, first, last, memory, offset, inside, at)

    def place(self) -> tuple[str, int]:
        name = self.sigil("%")
        self.words("+")
        return name, self.integer()

    def buffer_arg(self) -> BufferArg:
        return BufferArg(*self.place())

    def constant_arg(self) -> ConstantArg:
        return ConstantArg(self.sigil("@"))

    def argument(self) -> Argument:
        self.accept("")
        return self.constant_arg() if self.text.startswith("@", self.at) else self.buffer_arg()

    def entry(self) -> Entry:
        self.words("entry")
        name = self.name()
        self.words("{")
        inputs: list[PlanPort] = []
        outputs: list[PlanPort] = []
        items: list[Item] = []
        copies: list[tuple[str, str, int]] = []
        while not self.accept("}"):
            if self.accept("in "):
                inputs.append(self.plan_port())
            elif self.accept("out "):
                outputs.append(self.plan_port())
            elif self.accept("stream "):
                items.append(self.stream())
            elif self.accept("copy "):
                to = self.sigil("%")
                self.words("=")
                copies.append((to, self.ref(), self.integer()))
            else:
                items.append(self.call())
        return Entry(name, tuple(inputs), tuple(outputs), tuple(items), tuple(copies))

    def plan_port(self) -> PlanPort:
        buffer = self.sigil("%")
        self.words(":")
        t = self.tensor_type()
        return PlanPort(self.port(), t, buffer)

    def stream(self) -> Stream:
        rows = self.integer()
        self.words("rows", ",", "rings", "(")
        rings = self.several(lambda: (self.sigil("%"), self.integer()), ")")
        self.words("{")
        calls: list[Call] = []
        while not self.accept("}"):
            calls.append(self.call())
        return Stream(rows, tuple(calls), rings)

    def kernel(self, op: str) -> Kernel:
        symbol, rank = self.string_here(), self.integer()
        found = self.kernels.get((op, symbol, rank))
        return found if found is not None else self.fail(f"a kernel of {op} in the table, not {symbol}")

    def named_buffer(self, name: str) -> BufferArg | None:
        """A buffer in brackets behind `name`, None where that is not next."""
        if not self.accept(name):
            return None
        self.words("(")
        found = self.buffer_arg()
        self.words(")")
        return found

    def call(self) -> Call:
        self.words("call")
        name = self.name()
        self.words(":")
        op = self.name()
        kernel = self.kernel(op)
        self.words("(")
        inputs = self.several(self.argument, ")")
        self.words("(")
        constants = self.several(self.constant_arg, ")")
        self.words("->", "(")
        outputs = self.several(self.buffer_arg, ")")
        count, scratch, counters = (self.named_buffer(n) for n in ("count", "scratch", "counters"))
        struct = self.string_here()
        self.words("{")
        params = self.several(self.param, "}")
        self.words("rows")
        rows = self.integer()
        halo = Halo(*self.ints()) if self.accept("halo") else None
        self.words("macs")
        macs = self.integer()
        self.words("in_place")
        in_place = self.ints()
        renews = self.ints() if self.accept("renews") else ()
        loop: tuple[LoopStep, ...] = ()
        if self.accept("loop"):
            self.words("(")
            loop = self.several(self.loop_step, ")")
        grids: tuple[Grid, ...] = ()
        if self.accept("grids"):
            self.words("(")
            grids = self.several(self.grid, ")")
        self.words("(")
        in_types = self.several(self.tensor_type, ")")
        self.words("->", "(")
        out_types = self.several(self.tensor_type, ")")
        loc: Loc = self.loc()
        return Call(
            kernel, name, struct, params, inputs, constants, outputs, scratch, rows, halo, macs, op, loc,
            in_types, out_types, in_place, loop, count, grids, counters,
            renews=tuple(zip(renews[::2], renews[1::2], strict=True)),
        )  # fmt: skip

    def grid(self) -> Grid:
        body = self.name()
        self.words("(")
        template = self.several(self.string_here, ")")
        x, y, z, threads, shared, blocks, waits, cluster, cached = self.ints()
        numbers = (threads, shared, blocks, bool(waits), cluster, bool(cached))
        return Grid(body, template, (x, y, z), *numbers)

    def loop_step(self) -> LoopStep:
        op, operands = self.name(), self.ints()
        self.words("{")
        fields = self.several(self.param, "}")
        return LoopStep(op, fields, operands, DType(self.token(_DTYPE, "a dtype")))

    def param(self) -> tuple[str, int | float]:
        name = self.name()
        self.words("=")
        return name, self.number()
