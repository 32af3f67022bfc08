"""What Artifact does with a CUDA artifact: runs raw samples through its library, and times it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec import log, samples
from edgec.cuda import build as cuda_build
from edgec.cuda import state as gpu_state
from edgec.cuda.library import Instance, Library
from edgec.device import Steps
from edgec.ir import Array, DType, Type

if TYPE_CHECKING:
    from edgec.artifact import Artifact

WARM_UP_RUNS: Final = 20
COPY_BYTES: Final = 256 << 20  # beyond every L2


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
    """Median device time of the first entry's graph and of each of its launches, against what the GPU reaches.

    The bandwidth that copies reach is measured in the same run; `share` is the time that the bytes which must move
    would take at that rate, over the time that was taken.
    """
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
            rate = library.copy_rate(COPY_BYTES)
        return _result(artifact, name, float(np.median(np.asarray(times, np.float64))), alone, rate)
    finally:
        instance.close()
        library.close()


class UserInstance:
    """A model on the GPU as host_library.HostInstance is one on this computer: arrays in the user's layout."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one call by label, in the user's layout and float; state lives on."""
        info = self.instance.entry(entry)
        types = {p.port.ref: p.type for p in info.inputs}
        ports = [p.port for p in info.inputs]
        given = samples.to_device(inputs, ports, types, "the input")[0] if ports else {}
        found = self.instance.run(entry, {p.label: given[p.ref] for p in ports})
        return {
            p.port.label: samples.value_to_user(found[p.port.label], p.port, p.type, raw=False)
            for p in info.outputs
        }


def artifact_port(j: dict[str, Any]) -> Type:
    """The type of a port of the manifest."""
    return Type(tuple(j["shape"]), DType(j["dtype"]))


def _made_up(rng: np.random.Generator, dims: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iub":
        return rng.integers(0, 2, dims).astype(dtype)
    return rng.normal(size=dims).astype(dtype)


def _result(artifact: Artifact, name: str, ms: float, alone: Any, rate: float) -> dict[str, Any]:
    manifest = artifact.manifest
    launches = next(e for e in manifest["entries"] if e["name"] == name)["launches"]
    built = cuda_build.runnable(artifact.target)
    library = cuda_build.library_path(artifact.folder, manifest["name"], built)
    layers = [
        {**launch, "microseconds": round(1000.0 * float(one), 3)}
        for launch, one in zip(launches, alone, strict=True)
    ]
    moved = manifest["constant_bytes"] + sum(
        artifact_port(j).bytes
        for e in manifest["entries"]
        if e["name"] == name
        for j in (*e["inputs"], *e["outputs"])
    )
    return {
        "target": artifact.target.name,
        "machine": "cuda",
        "gpu": gpu_state.read(),
        "instructions": None,
        "milliseconds": ms,
        "macs": sum(layer["macs"] for layer in launches),
        "least_bytes": moved,
        "copy_bytes_per_s": rate,
        "share_of_bandwidth": moved / rate / (1e-3 * ms),
        "arena_bytes": sum(a["bytes"] for a in manifest["arenas"]),
        "library_bytes": library.stat().st_size,
        "constant_bytes": manifest["constant_bytes"],
        "layers": layers,
    }
