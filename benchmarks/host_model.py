"""A Program compiled for this computer and called in this process: states can be read and written between calls."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from edgec import pipeline
from edgec.backends import c, c_names
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Program
from edgec.plan import Plan
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target

FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC")


class HostModel:
    """The generated C as a shared library in `folder`; its one arena is an array of this process."""

    def __init__(self, program: Program, folder: Path, stream: Literal["auto", "off", "all"] = "off") -> None:
        target = load_target("host")
        self.plan: Plan = pipeline.lower(program, target, pipeline.Options(stream=stream), KERNELS, "model")
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in c.emit(self.plan, target, c.Origin("0", "benchmark")).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        sources = [str(ROOT / s) for s in c.sources(self.plan)]
        sources += [str(folder / "src" / f) for f in ("model.c", "weights.c")]
        include = ["-I", str(ROOT / "include"), "-I", str(ROOT), "-I", str(folder / "src")]
        library = folder / "model.so"
        subprocess.run(["gcc", *FLAGS, *include, "-o", str(library), *sources, "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))
        self.invokes = c_names.names_of(self.plan).invokes
        (arena,) = self.plan.arenas
        self.memory = np.zeros(arena.bytes + 64, np.uint8)
        self.start = -self.memory.ctypes.data % 64
        self.instance = ctypes.create_string_buffer(64)
        self.reset()

    def reset(self) -> None:
        """Every state has its initial content again."""
        pointer = ctypes.c_void_p(self.memory.ctypes.data + self.start)
        assert self.library.edgec_model_init(self.instance, pointer) == 0

    def bytes_at(self, buffer: str) -> Array:
        """A view of a buffer's bytes."""
        b = self.plan.buffer(buffer)
        return self.memory[self.start + b.offset : self.start + b.offset + b.bytes]

    def write(self, buffer: str, content: Array) -> None:
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self.bytes_at(buffer)[: len(raw)] = raw

    def call(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by label."""
        planned = next(e for e in self.plan.entries if e.name == entry)
        for port in planned.inputs:
            self.write(port.buffer, inputs[port.port.ref])
        status = getattr(self.library, f"edgec_model_{self.invokes[entry]}")(self.instance)
        assert status == 0, f"{entry} returned {status}"
        found = {}
        for port in planned.outputs:
            raw = self.bytes_at(port.buffer)[: port.type.bytes]
            found[port.port.label] = raw.copy().view(port.type.dtype.numpy).reshape(port.type.dims)
        return found
