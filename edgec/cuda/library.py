"""Runs CUDA artifacts in this process: the shared library through ctypes, arrays without a copy where they are on the
GPU.

    library = Library(folder)          # kernels and weights on the GPU; builds the library where it is not yet
    model = library.instance()         # an arena and captured graphs of its own
    outputs = model.run("infer", {"x": numpy_array})
    model.bind("infer", "x", torch_tensor)      # reads the tensor's own memory from now on
    model.invoke("infer", stream=torch.cuda.current_stream().cuda_stream)

Inputs and outputs here are as the device holds them: NHWC, the types of the manifest (`ports`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec import artifact
from edgec.cuda import build as cuda_build
from edgec.cuda.arrays import Seen, host_array, seen
from edgec.errors import TargetError, UserError
from edgec.ir import Array, Port, Type
from edgec.targets.load import load_target

# (error code, what to do) by ec_cuda_status.
_FAILURES: Final = {
    1: ("EDGEC-E812", "install NVIDIA's driver, or run it on a machine with a CUDA GPU"),
    2: ("EDGEC-E813", "update NVIDIA's driver"),
    3: ("EDGEC-E814", "choose a GPU that exists"),
    4: ("EDGEC-E815", "compile for this chip (edgec targets lists them)"),
    5: ("EDGEC-E816", "compile the model again"),
    6: ("EDGEC-E817", "free memory on the GPU, or compile a smaller model"),
    7: ("EDGEC-E237", "correct the call"),
    8: ("EDGEC-E238", "give memory on the GPU, aligned to 16 bytes"),
    9: ("EDGEC-E818", "report this with the artifact"),
}


@dataclass(frozen=True, slots=True)
class PortInfo:
    """A port of an entry: its index among the entry's ports (inputs first), the user's view, the device's type."""

    index: int
    port: Port
    type: Type


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """An entry of the manifest."""

    index: int
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]

    def find(self, label: str) -> PortInfo:
        """The port with this label or value name. Raises UserError EDGEC-E237."""
        for p in (*self.inputs, *self.outputs):
            if label in (p.port.label, p.port.ref):
                return p
        names = ", ".join(p.port.label for p in (*self.inputs, *self.outputs))
        raise UserError("EDGEC-E237", f"choose a port of the entry: {names}; there is no {label!r}")


class Library:
    """An artifact's library with its weights on a GPU. Raises UserError and TargetError."""

    def __init__(self, folder: str | Path, device: int = 0) -> None:
        self.folder = Path(folder)
        self.manifest = artifact.read_manifest(self.folder)
        self.entries = {e["name"]: _entry(i, e) for i, e in enumerate(self.manifest["entries"])}
        target = load_target(str(self.folder / "target.toml"))
        self.name: str = self.manifest["name"]
        built = cuda_build.runnable(target)
        path = cuda_build.library_path(self.folder, self.name, built)
        if not path.is_file():
            path = cuda_build.build(self.folder, self.name, built)
        self._library = ctypes.CDLL(str(path.resolve()))
        self._prefix = self.manifest["prefix"]
        self.function("error").restype = ctypes.c_char_p
        self.function("port_address").restype = ctypes.c_uint64
        self.handle = ctypes.c_void_p()
        self._instances: weakref.WeakSet[Instance] = weakref.WeakSet()
        self.call("load", str(self.folder / "weights.bin").encode(), device, ctypes.byref(self.handle))

    def function(self, name: str) -> Any:
        """The library's function edgec_<model>_<name>."""
        return getattr(self._library, f"{self._prefix}_{name}")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that returns a status; raise what a failure means."""
        status = self.function(name)(*arguments)
        if status:
            code, cure = _FAILURES[status]
            text = self.function("error")().decode(errors="replace")
            kind = UserError if code.startswith("EDGEC-E2") else TargetError
            raise kind(code, f"{cure}: {text}")

    def instance(self) -> Instance:
        """A new instance, with an arena and state of its own."""
        made = Instance(self)
        self._instances.add(made)
        return made

    def copy_rate(self, size: int) -> float:
        """Bytes a second that a copy of `size` bytes on the device moves, read and written ones counted."""
        rate = ctypes.c_double()
        self.call("copy_rate", self.handle, ctypes.c_uint64(size), ctypes.byref(rate))
        return rate.value

    def close(self) -> None:
        """Close the instances and free the weights."""
        for instance in list(self._instances):
            instance.close()
        if self.handle:
            self.function("unload")(self.handle)
            self.handle = ctypes.c_void_p()


def _entry(index: int, j: Mapping[str, Any]) -> EntryInfo:
    ports = [artifact.port_from_json(p) for p in (*j["inputs"], *j["outputs"])]
    infos = tuple(PortInfo(i, port, t) for i, (port, t) in enumerate(ports))
    count = len(j["inputs"])
    return EntryInfo(index, infos[:count], infos[count:])


class Instance:
    """One running model: its arena, its state, its captured graphs."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.handle = ctypes.c_void_p()
        self._kept: dict[tuple[str, str], Seen | None] = {}  # what is bound, so that its memory lives
        self._mapped: list[ctypes.c_void_p] = []
        library.call("create", library.handle, ctypes.byref(self.handle))

    def close(self) -> None:
        """Free the arena and the graphs."""
        if self.handle:
            self.library.function("destroy")(self.handle)
            for host in self._mapped:
                self.library.function("host_free")(self.library.handle, host)
            self._mapped.clear()
            self.handle = ctypes.c_void_p()

    def entry(self, name: str) -> EntryInfo:
        """The entry of this name. Raises UserError EDGEC-E230."""
        if name not in self.library.entries:
            names = ", ".join(self.library.entries)
            raise UserError(
                "EDGEC-E230", f"choose an entry of {self.library.folder}: {names}; there is no {name!r}"
            )
        return self.library.entries[name]

    def invoke(self, entry: str, stream: int = 0) -> None:
        """Launch the entry's graph in a CUDA stream (its handle as a number; 0 is the default stream)."""
        self.library.call("invoke", self.handle, self.entry(entry).index, ctypes.c_void_p(stream))

    def bind(self, entry: str, label: str, tensor: Any) -> None:
        """Let a port use the memory of `tensor`, a contiguous array on the GPU with __cuda_array_interface__
        (CuPy, Numba) or of PyTorch or any with __dlpack__, of the port's shape and type. None returns it to the
        arena."""
        info = self.entry(entry).find(label)
        held = None if tensor is None else seen(tensor, info.type, info.port.label)
        address, size = (0, 0) if held is None else (held.address, info.type.bytes)
        index = self.entry(entry).index
        self.library.call(
            "bind", self.handle, index, info.index, ctypes.c_uint64(address), ctypes.c_uint64(size)
        )
        self._kept[entry, label] = held

    def mapped(self, entry: str, label: str) -> Array:
        """An array on the host that the GPU uses in place: the port is bound to it until this instance is closed.

        On a Jetson, whose CPU and GPU share their memory, the input or output then needs no copy.
        """
        info = self.entry(entry).find(label)
        host, device = ctypes.c_void_p(), ctypes.c_uint64()
        size = ctypes.c_uint64(info.type.bytes)
        library = self.library
        library.call("host_allocate", library.handle, size, ctypes.byref(host), ctypes.byref(device))
        self._mapped.append(host)
        library.call("bind", self.handle, self.entry(entry).index, info.index, device, size)
        assert host.value is not None
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * info.type.bytes).from_address(host.value))
        mapped: Array = raw.view(info.type.dtype.numpy).reshape(info.type.dims)
        return mapped

    def write(self, entry: str, label: str, array: Array, stream: int = 0) -> None:
        """Copy a host array of the port's shape and type to the device."""
        info = self.entry(entry).find(label)
        raw = host_array(array, info.type, info.port.label)
        self.library.call(
            "write", self.handle, self.entry(entry).index, info.index, _pointer(raw), ctypes.c_void_p(stream)
        )
        self.library.call("wait", self.handle, ctypes.c_void_p(stream))  # pinned memory is read later

    def read(self, entry: str, label: str, stream: int = 0) -> Array:
        """Wait for the stream and copy a port's content to the host."""
        info = self.entry(entry).find(label)
        out = np.empty(info.type.dims, info.type.dtype.numpy)
        self.library.call(
            "read", self.handle, self.entry(entry).index, info.index, _pointer(out), ctypes.c_void_p(stream)
        )
        return out

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one call by label, from host arrays to host arrays."""
        info = self.entry(entry)
        for label, array in inputs.items():
            self.write(entry, label, array)
        self.invoke(entry)
        return {p.port.label: self.read(entry, p.port.label) for p in info.outputs}

    def reset(self, stream: int = 0) -> None:
        """State that is reset between sequences returns to its initial content."""
        self.library.call("reset", self.handle, ctypes.c_void_p(stream))

    def fill(self, byte: int) -> None:
        """Fill the activations with a byte, as tests do before a run."""
        self.library.call("fill", self.handle, ctypes.c_uint8(byte))

    def times_ms(self, entry: str, runs: int) -> Array:
        """Device milliseconds of `runs` launches of the entry's graph, one after the other."""
        times = np.zeros(runs, np.float32)
        self.library.call("time", self.handle, self.entry(entry).index, runs, _pointer(times))
        return times

    def profile_ms(self, entry: str, repeats: int = 20) -> Array:
        """Device milliseconds of each kernel launch of the entry alone (`repeats` in one graph, divided)."""
        launches = self.library.manifest["entries"][self.entry(entry).index]["launches"]
        times = np.zeros(len(launches) + 1, np.float32)
        self.library.call("profile", self.handle, self.entry(entry).index, repeats, _pointer(times))
        return times[:-1]


def _pointer(array: Array) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
