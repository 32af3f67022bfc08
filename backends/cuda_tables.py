"""The host side's tables of a CUDA model: model.h (entries, ports, functions) and model.c (every launch with its
literal sizes)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgec.backends.c_names import Names, names_of
from edgec.backends.ctext import comment_safe, literal, shape_text, wrapped
from edgec.ir import Array, Persistence
from edgec.plan import Argument, Buffer, BufferArg, Call, Entry, Grid, Plan, PlanPort, Target, Use
from edgec.runtime_c import ROOT

Launches = Mapping[tuple[str, str], tuple[tuple[str, Grid], ...]]
OVERLAPPING: Final = 90  # compute capability of GPUs that start a kernel while the one before it runs
CACHED: Final = 8  # one kernel in so many that reads through L1 makes the L1 larger for all


@dataclass(frozen=True, slots=True)
class Weights:
    """weights.bin: `bytes` long, `offsets` by "@constant" or state buffer, `pieces` as (offset, array)."""

    bytes: int
    offsets: Mapping[str, int]
    pieces: tuple[tuple[int, Array], ...]
    checksum: int


@dataclass(frozen=True, slots=True)
class Tables:
    """What the tables are printed from. `launches`: (kernel instance, grid) of each launch by (entry, call)."""

    plan: Plan
    target: Target
    weights: Weights
    launches: Launches

    @property
    def names(self) -> Names:
        return names_of(self.plan)

    @property
    def functions(self) -> tuple[str, ...]:
        """Kernel instances in the order of the function table."""
        return tuple(sorted({name for calls in self.launches.values() for name, _ in calls}))


_API: Final = (
    ("load", "ec_cuda_status", "const char *weights, int ordinal, ec_cuda_loaded **out"),
    ("unload", "void", "ec_cuda_loaded *loaded"),
    ("create", "ec_cuda_status", "ec_cuda_loaded *loaded, ec_cuda_instance **out"),
    ("destroy", "void", "ec_cuda_instance *m"),
    ("port_address", "uint64_t", "const ec_cuda_instance *m, uint32_t entry, uint32_t port"),
    (
        "bind",
        "ec_cuda_status",
        "ec_cuda_instance *m, uint32_t entry, uint32_t port, uint64_t address, uint64_t bytes",
    ),
    ("invoke", "ec_cuda_status", "ec_cuda_instance *m, uint32_t entry, void *stream"),
    ("reset", "ec_cuda_status", "ec_cuda_instance *m, void *stream"),
    (
        "write",
        "ec_cuda_status",
        "ec_cuda_instance *m, uint32_t entry, uint32_t port, const void *from, void *stream",
    ),
    (
        "read",
        "ec_cuda_status",
        "ec_cuda_instance *m, uint32_t entry, uint32_t port, void *to, void *stream",
    ),
    ("wait", "ec_cuda_status", "ec_cuda_instance *m, void *stream"),
    (
        "host_allocate",
        "ec_cuda_status",
        "ec_cuda_loaded *loaded, uint64_t bytes, void **host, uint64_t *device",
    ),
    ("host_free", "void", "ec_cuda_loaded *loaded, void *host"),
    ("copy_rate", "ec_cuda_status", "ec_cuda_loaded *loaded, uint64_t bytes, double *rate"),
    ("fill", "ec_cuda_status", "ec_cuda_instance *m, uint8_t byte"),
    ("time", "ec_cuda_status", "ec_cuda_instance *m, uint32_t entry, uint32_t runs, float *times"),
    ("profile", "ec_cuda_status", "ec_cuda_instance *m, uint32_t entry, uint32_t repeats, float *times"),
    ("error", "const char *", "void"),
)


def header(tables: Tables) -> str:
    """model.h: numbers of entries and ports, and the functions of ec_cuda.h under the model's name."""
    names = tables.names
    guard, upper = f"{names.prefix.upper()}_H", names.prefix.upper()
    lines = [f"#ifndef {guard}\n#define {guard}\n", '#include "cuda/host/ec_cuda.h"\n']
    lines.append("#ifdef __cplusplus\n" + 'extern "C" {\n' + "#endif\n")
    lines.append("/* Entries, and the ports of each: inputs first, then outputs. */\nenum {")
    for index, entry in enumerate(tables.plan.entries):
        lines.append(f"    {upper}_{names.invokes[entry.name].upper()} = {index},")
    for entry in tables.plan.entries:
        for index, port in enumerate((*entry.inputs, *entry.outputs)):
            (name,) = (n.name for n in names.ports if n.port is port)
            shape = comment_safe(shape_text(port.type))
            lines.append(f"    {upper}_{name.upper()} = {index}, /* {shape}, {port.type.bytes} bytes */")
    lines.append("};\n\n/* As the ec_cuda_ functions of ec_cuda.h, for this model. */")
    for name, result, arguments in _API:
        space = "" if result.endswith("*") else " "
        lines.append(wrapped(f"{result}{space}{names.prefix}_{name}({arguments});", ""))
    lines.append("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n")
    return "\n".join(lines)


def source(tables: Tables) -> str:
    """model.c: the tables and the functions of model.h."""
    names, plan = tables.names, tables.plan
    lines = ['#include "model.h"\n', *(f'#include "cuda/{h}"' for h in _params_headers(plan)), ""]
    lines += [f"extern const unsigned char ec_cubin_{f}[];" for f in tables.functions]
    lines += ["", "static const ec_cuda_function functions[] = {"]
    shared = dict.fromkeys(tables.functions, 0)
    for calls in tables.launches.values():
        for name, grid in calls:
            shared[name] = max(shared[name], grid.shared_bytes)
    lines += [f'    {{"{f}", ec_cubin_{f}, {n}u}},' for f, n in shared.items()]
    lines += ["    {0, 0, 0}};\n"]
    for entry in plan.entries:
        lines += _Entry(tables, entry).text()
    lines += ["static const ec_cuda_entry entries[] = {"]
    for entry in plan.entries:
        stem = names.invokes[entry.name]
        count = sum(len(tables.launches[entry.name, c.name]) for c in entry.calls)
        sizes = f"{len(entry.inputs)}u, {len(entry.outputs)}u"
        lines.append(f'    {{"{entry.name}", launches_{stem}, {count}u, copies_{stem},')
        lines.append(f"     {len(entry.updates)}u, ports_{stem}, {sizes}}},")
    lines += ["};\n", *_states(tables), *_model(tables)]
    return "\n".join(lines)


def _params_headers(plan: Plan) -> tuple[str, ...]:
    """Headers below runtime_c/cuda that define the params of the plan's calls."""
    structs = {c.struct for e in plan.entries for c in e.calls if c.struct}
    found: dict[str, str] = {}
    for path in sorted((ROOT / "cuda").glob("*_params.h")):
        text = path.read_text(encoding="utf-8")
        found |= {s: path.name for s in structs if re.search(rf"}} {s};", text)}
    assert found.keys() == structs, f"params without a header: {structs - found.keys()}"
    return tuple(sorted(set(found.values())))


def _states(tables: Tables) -> list[str]:
    lines = ["static const ec_cuda_state states[] = {"]
    for state in tables.plan.state:
        at, initial = tables.plan.buffer(state.buffer).offset, tables.weights.offsets[state.buffer]
        reset = int(state.persistence is Persistence.RESET)
        lines.append(f"    {{{at}u, {initial}u, {state.data.nbytes}u, {reset}}},")
    return [*lines, "    {0, 0, 0, 0}};\n"]


def _model(tables: Tables) -> list[str]:
    plan, prefix = tables.plan, tables.names.prefix
    arena = sum(a.bytes for a in plan.arenas)
    lines = [
        "static const ec_cuda_model model = {",
        f'    "{plan.name}", EC_CUDA_COMPUTE, {arena}u, {tables.weights.bytes}u,',
        f"    {tables.weights.checksum}u, functions, {len(tables.functions)}u,",
        f"    entries, {len(plan.entries)}u, states, {len(plan.state)}u, {shared_percent(tables)}u}};\n",
        '#define EXPORTED __attribute__((visibility("default")))\n',
    ]
    for name, result, arguments in _API:
        passed = [a.rpartition(" ")[2].lstrip("*") for a in arguments.split(", ") if a != "void"]
        passed = ["&model", *passed] if name == "load" else passed
        space = "" if result.endswith("*") else " "
        lines.append(wrapped(f"EXPORTED {result}{space}{prefix}_{name}({arguments}) {{", ""))
        back = "" if result == "void" else "return "
        lines.append(f"    {back}ec_cuda_{name}({', '.join(passed)});\n}}")
    return [*lines, ""]


def shared_percent(tables: Tables) -> int:
    """Percent of an SM's memory that every kernel has as shared memory; 0 where the driver is to decide.

    A kernel that asks for another part than the one before it waits until the SM is empty and its memory divided anew.
    So all have one part: the whole, so that the next kernel's weights fit beside this one's, and half of it where many
    kernels read neighbours again through L1. Known of GPUs whose kernels overlap, of networks of one entry, and of
    language models whose 4-bit layers take the whole for themselves."""
    gpu = tables.target.gpu
    if gpu is None or gpu.compute != OVERLAPPING:
        return 0
    grids = [grid for calls in tables.launches.values() for _, grid in calls]
    if len(tables.plan.entries) > 1:
        return 100 if any(grid.body == "ec_linear_w4_stream_body" for grid in grids) else 0
    return 50 if CACHED * sum(grid.cached for grid in grids) >= len(grids) else 100


@dataclass(slots=True)
class _Entry:
    """Prints the tables of one entry."""

    tables: Tables
    entry: Entry

    def text(self) -> list[str]:
        names, stem = self.tables.names, self.tables.names.invokes[self.entry.name]
        before: list[str] = []
        launches = [f"static const ec_cuda_launch launches_{stem}[] = {{"]
        for item, call in enumerate(self.entry.calls):
            params = "0"
            if call.struct:
                params = f"&{names.call(self.entry, call)}"
                fields = ", ".join(f".{name} = {literal(value)}" for name, value in call.params)
                text = f"static const {call.struct} {params[1:]} = {{{fields}}};"
                before.append(wrapped(text, ""))
            arguments = self.arguments(call)
            before.append(
                wrapped(f"static const ec_cuda_arg a_{stem}_{item}[] = {{{', '.join(arguments)}}};", "")
            )
            launches.append(f"    /* {_note(item, call)} */")
            for name, grid in self.tables.launches[self.entry.name, call.name]:
                index = self.tables.functions.index(name)
                blocks = ", ".join(f"{b}u" for b in grid.blocks)
                layer = comment_safe(call.loc.layer).replace('"', "'")
                launches.append(
                    f"    {{{index}u, {{{blocks}}}, {grid.threads}u, {grid.shared_bytes}u, {params},"
                )
                launches.append(f'     a_{stem}_{item}, {len(arguments)}u, {item}u, "{layer}"}},')
        copies = [f"static const ec_cuda_copy copies_{stem}[] = {{"]
        for to, source, size in self.entry.updates:
            copies.append(f"    {{{self.buffer(to, 0)}, {self.source(source)}, {size}u}},")
        end = "    {{0, 0, 0, 0}, {0, 0, 0, 0}, 0}};\n"
        launches.append("    {0, {0, 0, 0}, 0, 0, 0, 0, 0, 0, 0}};\n")
        return [*before, "", *launches, *copies, end, *self.ports(stem)]

    def arguments(self, call: Call) -> list[str]:
        """The pointers in the order of the kernel's parameters."""
        pointers: list[Argument] = [*call.inputs, *call.constants, *call.outputs]
        pointers += [a for a in (call.scratch, call.counters) if a is not None]
        return [self.pointer(a) for a in pointers]

    def pointer(self, argument: Argument) -> str:
        if isinstance(argument, BufferArg):
            return self.buffer(argument.buffer, argument.at)
        return f"{{1, 0, {self.tables.weights.offsets['@' + argument.constant]}u, 0}}"

    def buffer(self, name: str, at: int) -> str:
        buffer = self.tables.plan.buffer(name)
        root = buffer.inside or buffer.name
        port = inside = 0
        for index, one in enumerate((*self.entry.inputs, *self.entry.outputs)):
            held = self.tables.plan.buffer(one.buffer)
            if (held.inside or held.name) == root:
                port = index + 1
                inside = buffer.offset + at - held.offset
        return (
            f"{{0, {port}, {buffer.offset + at}u, {inside if port else 0}u}}"
            if inside >= 0
            else (f"{{0, 0, {buffer.offset + at}u, 0}}")
        )

    def source(self, ref: str) -> str:
        if ref[0] == "@":
            return f"{{1, 0, {self.tables.weights.offsets[ref]}u, 0}}"
        return self.buffer(ref, 0)

    def ports(self, stem: str) -> list[str]:
        """The shapes, then the ports."""
        shapes, lines = [], [f"static const ec_cuda_port ports_{stem}[] = {{"]
        for index, port in enumerate((*self.entry.inputs, *self.entry.outputs)):
            dims = ", ".join(str(d) for d in port.type.dims) or "1"
            shapes.append(f"static const int64_t s_{stem}_{index}[] = {{{dims}}};")
            at = self.tables.plan.buffer(port.buffer).offset
            label = comment_safe(port.port.label).replace('"', "'")
            lines.append(
                f'    {{"{label}", "{port.type.dtype.value}", s_{stem}_{index}, {len(port.type.dims)}u, '
                f"{int(self.copied(port))}u, {at}u, {port.type.bytes}u}},"
            )
        return [*shapes, *lines, "    {0, 0, 0, 0, 0, 0, 0}};\n"]

    def copied(self, port: PlanPort) -> bool:
        """Whether the port's memory cannot simply be the caller's: it holds more, or another port."""
        held = self.tables.plan.buffer(port.buffer)
        root = self.tables.plan.buffer(held.inside or held.name)
        both = (*self.entry.inputs, *self.entry.outputs)
        sharing = [p for p in both if _root(self.tables.plan.buffer(p.buffer)) == root.name]
        return root.bytes != port.type.bytes or len(sharing) > 1 or root.use is Use.STATE


def _root(buffer: Buffer) -> str:
    return buffer.inside or buffer.name


def _note(index: int, call: Call) -> str:
    layer = comment_safe(call.loc.layer)
    shapes = " -> ".join(shape_text(t) for t in (*call.in_types[:1], call.out_types[0]))
    macs = f", {call.macs:,} MACs" if call.macs else ""
    return comment_safe(f"{index}: {layer + ', ' if layer else ''}{call.title} {shapes}{macs}")


def cubins(tables: Tables) -> str:
    """cubins.S: every compiled kernel as bytes of the library."""
    lines = [
        "/* The compiled kernels; -Wa,-I names the folder of those for one chip. */",
        "    .section .rodata",
    ]
    for name in tables.functions:
        lines += [f"    .balign 64\n    .globl ec_cubin_{name}\n    .hidden ec_cubin_{name}"]
        lines += [f'ec_cubin_{name}:\n    .incbin "{name}.cubin"']
    return "\n".join([*lines, '    .section .note.GNU-stack,"",%progbits', ""])
