"""What Artifact does with a CUDA artifact: runs raw samples through its library, and times it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec import log
from edgec.cuda_library import Instance, Library
from edgec.device import Steps

if TYPE_CHECKING:
    from edgec.artifact import Artifact

WARM_UP_RUNS = 20


def output(folder: Path, data: bytes, steps: Steps) -> bytes:
    """Raw outputs of `steps` (entry, samples) on one instance, whose state lives on from call to call."""
    library = Library(folder)
    instance = library.instance()
    try:
        out, at = b"", 0
        names = list(library.entries)
        for index, count in steps:
            entry = library.entries[names[index]]
            for _ in range(count):
                for p in entry.inputs:
                    array = np.frombuffer(data, p.type.dtype.numpy, p.type.size, at).reshape(p.type.dims)
                    instance.write(names[index], p.port.label, array)
                    at += p.type.bytes
                instance.invoke(names[index])
                out += b"".join(instance.read(names[index], p.port.label).tobytes() for p in entry.outputs)
        return out
    finally:
        instance.close()
        library.close()


def bench(artifact: Artifact, runs: int) -> dict[str, Any]:
    """Median device time of the first entry's graph and of each of its launches, and its memory."""
    library = Library(artifact.folder)
    instance = library.instance()
    try:
        (name, info), *_ = library.entries.items()
        rng = np.random.default_rng(0)
        for p in info.inputs:
            instance.write(name, p.port.label, _made_up(rng, p.type.dims, p.type.dtype.numpy))
        with log.waiting("timing"):
            times = instance.times_ms(name, WARM_UP_RUNS + max(runs, 10))[WARM_UP_RUNS:]
            alone = instance.profile_ms(name)
        return _result(artifact, instance, name, times, alone)
    finally:
        instance.close()
        library.close()


def _made_up(rng: np.random.Generator, dims: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iub":
        return rng.integers(0, 2, dims).astype(dtype)
    return rng.normal(size=dims).astype(dtype)


def _result(artifact: Artifact, instance: Instance, name: str, times: Any, alone: Any) -> dict[str, Any]:
    manifest = artifact.manifest
    launches = next(e for e in manifest["entries"] if e["name"] == name)["launches"]
    library = next((artifact.folder / "build").glob("*/lib*.so"), None)
    layers = [
        {**launch, "microseconds": round(1000.0 * float(ms), 3)}
        for launch, ms in zip(launches, alone, strict=True)
    ]
    return {
        "target": artifact.target.name,
        "machine": "cuda",
        "instructions": None,
        "milliseconds": float(np.median(times)),
        "macs": sum(layer["macs"] for layer in launches),
        "arena_bytes": sum(a["bytes"] for a in manifest["arenas"]),
        "library_bytes": library.stat().st_size if library is not None else None,
        "constant_bytes": manifest["constant_bytes"],
        "layers": layers,
    }
