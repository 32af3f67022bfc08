"""Runs a planned Plan as C on this computer, with a hook that overwrites dead memory between items."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.backends import c
from edgec.ir import Array
from edgec.passes.memory import Span, dead_spans
from edgec.plan import Arena, Plan, Target
from edgec.runtime_c import ROOT

Spans = dict[
    str, tuple[tuple[Span, ...], ...]
]  # by memory: the bytes to fill before each item, and at the end


def dead(plan: Plan) -> Spans:
    """What the planner says is dead in the Plan's first entry."""
    return {a.memory: dead_spans(plan, plan.entries[0].name, a.memory) for a in plan.arenas}


def fill_source(plan: Plan, spans: Spans) -> str:
    """C that the model calls after each item: it fills the spans before the next with `edgec_fill_byte`."""
    lines = ["#include <stdint.h>", "#include <string.h>", "unsigned char edgec_fill_byte;"]
    lines += [f"uint8_t *edgec_fill_arenas[{len(plan.arenas)}];", "uint32_t edgec_fill_calls;"]
    lines += [
        "void ec_profile(uint32_t item);",
        "void ec_profile(uint32_t item)",
        "{",
        "    edgec_fill_calls++;",
    ]
    for index, arena in enumerate(plan.arenas):
        for item, before_next in enumerate(spans[arena.memory][1:]):
            for span in before_next:
                where = f"edgec_fill_arenas[{index}] + {span.start}"
                fill = f"memset({where}, edgec_fill_byte, {span.end - span.start});"
                lines.append(f"    if (item == {item}u) {{ {fill} }}")
    return "\n".join([*lines, "}", ""])


class Program:
    """A Plan compiled into a shared library. One arena a memory, in numpy arrays with guard bytes on both sides."""

    def __init__(self, plan: Plan, target: Target, folder: Path, spans: Spans | None = None) -> None:
        self.plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in c.emit(plan, target, c.Origin("0", "test")).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        (folder / "src/fill.c").write_text(fill_source(plan, dead(plan) if spans is None else spans))
        sources = [str(ROOT / s) for s in c.sources(plan)]
        sources += [str(folder / "src" / f) for f in ("model.c", "weights.c", "fill.c")]
        library = folder / "plan.so"
        words = ["gcc", "-std=c99", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-DEC_PROFILE_ITEMS=1"]
        words += ["-I", str(ROOT / "include"), "-I", str(ROOT), "-I", str(folder / "src")]
        subprocess.run([*words, "-o", str(library), *sources, "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))

    def run(self, inputs: Mapping[str, Array], fill: int, status: int = 0) -> list[bytes]:
        """Bytes of each output. All memory that is dead, before and between the items, holds `fill`. `status`: what
        the invoke must return; nothing is read where that is an error."""
        ctypes.c_ubyte.in_dll(self.library, "edgec_fill_byte").value = fill
        calls = ctypes.c_uint32.in_dll(self.library, "edgec_fill_calls")
        calls.value = 0
        arenas = [np.full(a.bytes + 64, fill, np.uint8) for a in self.plan.arenas]
        starts = [(-(a.ctypes.data + 16)) % 16 + 16 for a in arenas]
        pointers = [ctypes.c_void_p(a.ctypes.data + s) for a, s in zip(arenas, starts, strict=True)]
        instance = ctypes.create_string_buffer(64)
        slots = (ctypes.c_void_p * len(pointers)).in_dll(self.library, "edgec_fill_arenas")
        slots[:] = [p.value for p in pointers]
        assert self.library.edgec_model_init(instance, *pointers) == 0
        at = {a.memory: (array, s) for a, array, s in zip(self.plan.arenas, arenas, starts, strict=True)}
        entry = self.plan.entries[0]
        for port in entry.inputs:
            b = self.plan.buffer(port.buffer)
            array, start = at[b.memory]
            raw = np.ascontiguousarray(inputs[port.port.ref]).tobytes()
            array[start + b.offset : start + b.offset + len(raw)] = np.frombuffer(raw, np.uint8)
        guards = [(a[:s].copy(), a[s + arena.bytes :].copy()) for a, s, arena in self._arenas(arenas, starts)]
        assert self.library.edgec_model_invoke(instance) == status
        if status:
            return []
        assert calls.value == len(entry.items)  # the hook ran after every item
        for (a, s, arena), (before, after) in zip(self._arenas(arenas, starts), guards, strict=True):
            assert (a[:s] == before).all()
            assert (a[s + arena.bytes :] == after).all()
        results = []
        for port in entry.outputs:
            b = self.plan.buffer(port.buffer)
            array, start = at[b.memory]
            results.append(array[start + b.offset : start + b.offset + port.type.bytes].tobytes())
        return results

    def _arenas(self, arrays: list[Array], starts: list[int]) -> list[tuple[Array, int, Arena]]:
        return list(zip(arrays, starts, self.plan.arenas, strict=True))
