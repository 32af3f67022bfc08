"""The CUDA backend: prints a planned Plan as CUDA kernels, tables in C for the host side, and a weights file.

Files of an artifact's `src/`: `units/` (one translation unit a kernel instance: the kernel's source with its template
arguments, and its epilogue), `cuda/` (those sources), `host/` (runtime_c/cuda/host), `model.h` (the API) and `model.c`
(the tables that it walks); `weights.bin` beside them. It decides nothing. Same Plan, same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgec.backends import cuda_tables
from edgec.backends.ctext import comment_safe
from edgec.backends.cuda_tables import Tables, Weights
from edgec.ir import Array
from edgec.plan import BufferArg, Call, ConstantArg, Grid, Plan, Target
from edgec.runtime_c import ROOT

WEIGHT_ALIGN: Final = 256  # bytes; of device allocations, so that every vector load of a weight is aligned


@dataclass(frozen=True, slots=True)
class Unit:
    """One compiled kernel: its name, and the CUDA text of the file that makes it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Emitted:
    """`files`: path below the artifact to text; `weights`: the content of weights.bin, piece by piece; `launches`: by
    entry, what each launch in order is, for the manifest."""

    files: Mapping[str, str]
    weights: Weights
    units: tuple[Unit, ...]
    launches: Mapping[str, list[dict[str, str | int]]]


def emit(plan: Plan, target: Target, head: str) -> Emitted:
    """The artifact's sources. `head`: the comment that each generated file begins with. Pure."""
    units = _Units(target)
    launches: dict[tuple[str, str], tuple[tuple[str, Grid], ...]] = {}
    for entry in plan.entries:
        for call in entry.calls:
            launches[entry.name, call.name] = units.of(call)
    weights = _weights(plan)
    tables = Tables(plan, target, weights, launches)
    made = tuple(Unit(name, head + text) for name, text in sorted(units.texts.items()))
    files = {
        "src/model.h": head + cuda_tables.header(tables),
        "src/model.c": head + cuda_tables.source(tables),
        "src/cubins.S": cuda_tables.cubins(tables),
        **{f"src/units/{u.name}.cu": u.text for u in made},
        **{f"src/{s}": (ROOT / s).read_text(encoding="utf-8") for s in sources(plan)},
    }
    return Emitted(files, weights, made, _described(plan, launches))


def _described(plan: Plan, launches: cuda_tables.Launches) -> dict[str, list[dict[str, str | int]]]:
    """By entry, each launch as the manifest has it."""
    sizes = {c.name: c.data.nbytes for c in plan.constants}
    found: dict[str, list[dict[str, str | int]]] = {}
    for entry in plan.entries:
        found[entry.name] = rows = []
        for item, call in enumerate(entry.calls):
            for index, (name, _) in enumerate(launches[entry.name, call.name]):
                work = {"macs": 0, "bytes": 0} if index else {"macs": call.macs, "bytes": _bytes(call, sizes)}
                what = {"item": item, "kernel": name, "op": call.title, "layer": call.loc.layer}
                rows.append({**what, **work})
    return found


def _bytes(call: Call, constants: Mapping[str, int]) -> int:
    """Least bytes that a call moves: each input, constant (of these sizes) and output once."""
    inputs = sum(
        t.bytes for t, a in zip(call.in_types, call.inputs, strict=False) if isinstance(a, BufferArg)
    )
    named = [a.constant for a in (*call.inputs, *call.constants) if isinstance(a, ConstantArg)]
    return inputs + sum(constants[n] for n in named) + sum(t.bytes for t in call.out_types)


def sources(plan: Plan) -> tuple[str, ...]:
    """Files below runtime_c/ that the artifact holds: the kernels used, what they include, the host side."""
    used = {c.kernel.source for e in plan.entries for c in e.calls if c.kernel.source}
    shared = {str(p.relative_to(ROOT)) for p in (ROOT / "cuda").iterdir() if p.suffix in (".cuh", ".h")}
    host = {str(p.relative_to(ROOT)) for p in (ROOT / "cuda" / "host").iterdir() if p.suffix in (".c", ".h")}
    return tuple(sorted(used | shared | host))


@dataclass(slots=True)
class _Units:
    """The kernel instances of a plan, each once: `texts` by name."""

    target: Target
    texts: dict[str, str] = field(default_factory=dict)

    def of(self, call: Call) -> tuple[tuple[str, Grid], ...]:
        """(name, launch) of each launch of a call."""
        if not call.kernel.source:
            from edgec.backends.cuda_pointwise import emit_loop

            symbol, text, grid = emit_loop(call, self.target)
            self.texts[symbol] = text
            return ((symbol, grid),)
        return tuple((self._instance(call, grid), grid) for grid in call.grids)

    def _instance(self, call: Call, grid: Grid) -> str:
        text = instance_text("NAME", call, grid)
        name = f"{grid.body.removesuffix('_body')}_{zlib.crc32(text.encode()):08x}"
        self.texts[name] = instance_text(name, call, grid)
        return name


def instance_text(name: str, call: Call, grid: Grid) -> str:
    """The translation unit of one instance of a kernel."""
    own = len(call.loop[0].operands) if call.loop else len(call.inputs)
    inputs = [f"x{i}" for i in range(len(call.inputs))]
    constants = [f"c{i}" for i in range(len(call.constants))]
    outputs = [f"y{i}" for i in range(len(call.outputs))]
    written = [*outputs, *(["scratch"] if call.scratch else []), *(["counters"] if call.counters else [])]
    parameters = [f"const __grid_constant__ {call.struct} p"] if call.struct else []
    parameters += [f"const void *{n}" for n in (*inputs, *constants)] + [f"void *{n}" for n in written]
    arguments = [*(["p"] if call.struct else []), *inputs[:own], *constants, *written]
    template, before = list(grid.template), ""
    lines = [] if grid.waits else ["    ec_wait_previous();", "    ec_launch_next();"]
    if call.kernel.epilogue:
        epilogue = "ec_no_epilogue"
        if len(call.loop) > 1:
            from edgec.backends.cuda_epilogue import emit_epilogue

            epilogue, before = emit_epilogue(call)
        template.append(epilogue)
        arguments.append(f"{epilogue}{{{', '.join(inputs[own:])}}}")
    angle = f"<{', '.join(template)}>" if template else ""
    lines.append(f"    {grid.body}{angle}(\n        {', '.join(arguments)});")
    body = "\n".join(lines)
    cluster = f"__cluster_dims__({grid.cluster}, 1, 1) " if grid.cluster > 1 else ""
    joined = ",\n    ".join(parameters)
    return (
        f'#include "{call.kernel.source.removeprefix("cuda/")}"\n\n{before}'
        f'extern "C" __global__ void {cluster}__launch_bounds__({grid.threads}, {grid.min_blocks})\n'
        f"{name}(\n    {joined})\n{{\n{body}\n}}\n"
    )


def _weights(plan: Plan) -> Weights:
    """Every constant and initial state in order, each at a multiple of WEIGHT_ALIGN."""
    at, pieces, offsets = 0, [], {}
    listed = [("@" + c.name, c.data) for c in plan.constants] + [(s.buffer, s.data) for s in plan.state]
    for name, data in listed:
        offsets[name] = at
        pieces.append((at, data))
        at += -(-data.nbytes // WEIGHT_ALIGN) * WEIGHT_ALIGN
    return Weights(at, offsets, tuple(pieces), checksum(tuple(pieces)))


def checksum(pieces: tuple[tuple[int, Array], ...]) -> int:
    """What ec_cuda_checksum gives for a weights file: the sum of word i times 2 i + 1, modulo 2**64.

    >>> checksum(((0, np.array([1, 2], np.uint64)),))
    7
    """
    total = 0
    for at, data in pieces:
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        for begin in range(0, raw.size, _CHUNK):
            part = raw[begin : begin + _CHUNK]
            words = np.zeros(-(-part.size // 8), np.uint64)
            words.view(np.uint8)[: part.size] = part
            first = (at + begin) // 8
            odd = 2 * np.arange(first, first + words.size, dtype=np.uint64) + np.uint64(1)
            total += int(np.sum(words * odd, dtype=np.uint64))
    return total % 2**64


_CHUNK: Final = 1 << 25


def file_head(version: str, name: str, target: str, command: str) -> str:
    """The comment at the head of each generated file."""
    name, target, command = comment_safe(name), comment_safe(target), comment_safe(command)
    return f"/* {name} for {target}. Generated by edgec {comment_safe(version)}: {command} */\n"
