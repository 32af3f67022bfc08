"""Writes the artifact of a CUDA target: sources, weights.bin, golden vectors, report, Makefile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from edgec import __version__, artifact, compiler, log
from edgec.backends import cuda
from edgec.backends.c_names import names_of
from edgec.cuda import build as cuda_build
from edgec.ir import Array

# What the interpreter is asked to compute for golden vectors and fidelity: larger networks have none, and the log
# says so.
MOST_GOLDEN_MACS: Final = 20_000_000_000
MOST_GOLDEN_BYTES: Final = 2_000_000_000
GOLDEN_SAMPLES: Final = 1


def write(compiled: compiler.Compiled, out: Path) -> None:
    """Generate code, golden vectors and report, and write the artifact folder."""
    plan = compiled.plan
    with log.step("emit") as notes:
        command = f"edgec compile --target {compiled.target.name}"
        head = cuda.file_head(__version__, plan.name, compiled.target.name, command)
        emitted = cuda.emit(plan, compiled.target, head)
        files: dict[str, artifact.Content] = dict(emitted.files)
        files["weights.bin"] = _writer(emitted)
        steps: tuple[tuple[int, int], ...] = ()
        if _small_enough(compiled):
            vectors = compiler.golden(compiled, GOLDEN_SAMPLES)
            files["golden/in.bin"], files["golden/out.bin"] = vectors.inputs, vectors.outputs
            steps = vectors.steps
        else:
            notes.append("no golden vectors: too large for the interpreter")
        files["Makefile"] = cuda_build.makefile(plan.name, compiled.target)
        files["target.toml"] = compiled.target_text
        files["report.json"] = artifact.json_text(compiler.make_report(compiled, fidelity=bool(steps)))
        artifact.write(out, files, _manifest(compiled, emitted, steps))
        notes.append(f"{len(emitted.units)} kernels, weights {emitted.weights.bytes:,} B")


def _small_enough(compiled: compiler.Compiled) -> bool:
    macs = sum(call.macs for entry in compiled.plan.entries for call in entry.calls)
    weights = sum(c.data.nbytes for c in compiled.plan.constants)
    return macs <= MOST_GOLDEN_MACS and weights <= MOST_GOLDEN_BYTES


def _writer(emitted: cuda.Emitted) -> artifact.Content:
    """Writes weights.bin piece by piece, so that it never stands in memory twice."""

    def write_pieces(file: BinaryIO) -> None:
        at = 0
        for begin, data in emitted.weights.pieces:
            file.write(bytes(begin - at))
            file.write(_raw(data))
            at = begin + data.nbytes
        file.write(bytes(emitted.weights.bytes - at))

    return write_pieces


def _raw(data: Array) -> memoryview:
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data


def _manifest(
    compiled: compiler.Compiled, emitted: cuda.Emitted, steps: tuple[tuple[int, int], ...]
) -> dict[str, Any]:
    """manifest.json without the files' hashes."""
    plan = compiled.plan
    options = {k: v for k, v in asdict(compiled.options).items() if k not in ("stages", "check", "train")}
    return {
        **compiler.chosen_layers(compiled),
        "edgec": __version__,
        "name": plan.name,
        "prefix": names_of(plan).prefix,
        "target": compiled.target.name,
        "options": options,
        "calibration": "made up" if compiled.done.made_up else "given",
        "model_sha256": compiled.source_hash,
        "macs": sum(call.macs for entry in plan.entries for call in entry.calls),
        "arenas": [
            {"memory": a.memory, "bytes": a.bytes, "persistent_bytes": a.persistent_bytes}
            for a in plan.arenas
        ],
        "constant_bytes": emitted.weights.bytes,
        "golden_steps": [list(step) for step in steps],
        "machine": None,
        "entries": [
            {
                "name": e.name,
                "inputs": [artifact.port_json(p) for p in e.inputs],
                "outputs": [artifact.port_json(p) for p in e.outputs],
                "launches": emitted.launches[e.name],
            }
            for e in plan.entries
        ],
    }
