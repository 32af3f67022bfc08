"""Runs a planned Plan as C on this computer, with a hook that overwrites dead memory between items."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.backends import c
from edgec.ir import Array
from edgec.passes.memory import dead_spans
from edgec.plan import Arena, Plan, Target
from edgec.runtime_c import ROOT


def fill_hook(plan: Plan, target: Target, entry: str) -> str:
    """C header: EC_PROFILE(i) fills what is dead after item i with `edgec_fill_byte`, in each memory."""
    lines = ["#include <string.h>", "extern unsigned char edgec_fill_byte;", "#define EC_PROFILE(i) \\"]
    for arena in plan.arenas:
        for item, spans in enumerate(dead_spans(plan, entry, arena.memory)[1:]):
            for span in spans:
                size = span.end - span.start
                lines.append(
                    f"    if ((i) == {item}) memset(m->{arena.memory} + {span.start}, edgec_fill_byte, {size}); \\"
                )
    return "\n".join([*lines, "    (void)0", ""])


class Program:
    """A Plan compiled into a shared library. One arena a memory, in numpy arrays with guard bytes on both sides."""

    def __init__(self, plan: Plan, target: Target, folder: Path) -> None:
        self.plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in c.emit(plan, target, c.Origin("0", "test")).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        (folder / "src/fill.h").write_text(fill_hook(plan, target, plan.entries[0].name))
        (folder / "src/fill.c").write_text("unsigned char edgec_fill_byte;\n")
        sources = [str(ROOT / s) for s in c.sources(plan)]
        sources += [str(folder / "src" / f) for f in ("model.c", "weights.c", "fill.c")]
        library = folder / "plan.so"
        words = ["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "-include", str(folder / "src/fill.h")]
        words += ["-I", str(ROOT / "include"), "-I", str(ROOT), "-I", str(folder / "src")]
        subprocess.run([*words, "-o", str(library), *sources, "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))

    def run(self, inputs: Mapping[str, Array], fill: int) -> list[bytes]:
        """Bytes of each output. All memory that is dead, before and between the items, holds `fill`."""
        ctypes.c_ubyte.in_dll(self.library, "edgec_fill_byte").value = fill
        arenas = [np.full(a.bytes + 64, fill, np.uint8) for a in self.plan.arenas]
        starts = [(-(a.ctypes.data + 16)) % 16 + 16 for a in arenas]
        pointers = [ctypes.c_void_p(a.ctypes.data + s) for a, s in zip(arenas, starts, strict=True)]
        instance = ctypes.create_string_buffer(64)
        assert self.library.edgec_model_init(instance, *pointers) == 0
        at = {a.memory: (array, s) for a, array, s in zip(self.plan.arenas, arenas, starts, strict=True)}
        entry = self.plan.entries[0]
        for port in entry.inputs:
            b = self.plan.buffer(port.buffer)
            array, start = at[b.memory]
            raw = np.ascontiguousarray(inputs[port.port.ref]).tobytes()
            array[start + b.offset : start + b.offset + len(raw)] = np.frombuffer(raw, np.uint8)
        guards = [(a[:s].copy(), a[s + arena.bytes :].copy()) for a, s, arena in self._arenas(arenas, starts)]
        assert self.library.edgec_model_invoke(instance) == 0
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
