"""Runs a C artifact in this process: the host's shared library through ctypes, so that state lives on between calls.

The library holds one instance with its arenas (the descriptor of runtime_c/include/edgec.h); opening it again starts
afresh.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec import device, samples
from edgec.artifact import port_from_json
from edgec.errors import TargetError
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.artifact import Artifact


class _Port(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("pointer", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)),
        ("bytes", ctypes.c_uint32),
    )


class _Entry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("invoke", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
        ("inputs", ctypes.POINTER(_Port)),
        ("outputs", ctypes.POINTER(_Port)),
        ("input_count", ctypes.c_uint32),
        ("output_count", ctypes.c_uint32),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("init", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
        ("instance", ctypes.c_void_p),
        ("instance_bytes", ctypes.c_uint32),
        ("entries", ctypes.POINTER(_Entry)),
        ("arenas", ctypes.c_void_p),
        ("entry_count", ctypes.c_uint32),
        ("arena_count", ctypes.c_uint32),
    )


def linked(folder: Path, name: str) -> Path:
    """The host's objects in a built folder, with the descriptor, as one library. Raises TargetError EDGEC-EA02,
    E803."""
    path = folder / f"lib{name}_instance.so"
    temporary = folder / f".lib{name}_instance.{os.getpid()}.so"
    compiler = shutil.which("gcc") or shutil.which("cc") or device.require_tool("gcc")
    parts = [str(folder / "src" / "model_desc.o"), str(folder / f"lib{name}.so")]
    command = [compiler, "-shared", "-o", str(temporary), *parts, "-Wl,-rpath,$ORIGIN"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise TargetError("EDGEC-E803", f"build the artifact again: {path} cannot be linked\n{done.stderr}")
    temporary.replace(path)
    return path


class HostModel:
    """The one instance in a library that `linked` made, as the device sees it: entries by number, raw bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = _Model.in_dll(ctypes.CDLL(str(path)), "ec_model")
        self.check(self._model.init(self._model.instance))

    def check(self, status: int) -> None:
        """Raise TargetError EDGEC-E804 where a call failed."""
        if status:
            raise TargetError("EDGEC-E804", f"check the inputs: {self.path.name} returned status {status}")

    def call(self, entry: int, inputs: Sequence[bytes]) -> list[bytes]:
        """Outputs of one call; state lives on."""
        own = self._model.entries[entry]
        for port, content in zip(own.inputs[: own.input_count], inputs, strict=True):
            ctypes.memmove(port.pointer(self._model.instance), content, len(content))
        self.check(own.invoke(self._model.instance))
        outputs = own.outputs[: own.output_count]
        return [ctypes.string_at(port.pointer(self._model.instance), port.bytes) for port in outputs]


class HostInstance:
    """The model of a C artifact in this process."""

    def __init__(self, artifact: Artifact) -> None:
        folder = artifact.built("host").program.parent
        self.artifact = artifact
        self._model = HostModel(linked(folder, artifact.manifest["name"]))

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one call by label, in the user's layout and float; state lives on."""
        index, ports = self.artifact.entry(entry)
        given = [port_from_json(j) for j in ports["inputs"]]
        types = {p.ref: t for p, t in given}
        sample = samples.to_device(inputs, [p for p, _ in given], types, "the input")[0] if given else {}
        found = self._model.call(index, [sample[port.ref].tobytes() for port, _ in given])
        outputs = {}
        for (port, t), raw in zip(map(port_from_json, ports["outputs"]), found, strict=True):
            array = np.frombuffer(raw, t.dtype.numpy).reshape(t.dims)
            outputs[port.label] = samples.value_to_user(array, port, t, raw=False)
        return outputs

    def close(self) -> None:
        """Nothing to free: the library's memory is static."""
