"""Runs a C artifact in this process: the host's shared library through ctypes, so that state lives on between calls.

The library holds one instance with its arenas (the descriptor of runtime_c/include/edgec.h); opening it again starts
afresh.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
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


def _linked(artifact: Artifact) -> Path:
    """The host's objects with the descriptor as one library. Raises TargetError EDGEC-EA02, E803."""
    folder = artifact.built("host").program.parent
    name = artifact.manifest["name"]
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


class HostInstance:
    """The model of a C artifact in this process."""

    def __init__(self, artifact: Artifact) -> None:
        self.path = _linked(artifact)
        self.artifact = artifact
        self._model = _Model.in_dll(ctypes.CDLL(str(self.path)), "ec_model")
        self.check(self._model.init(self._model.instance))

    def check(self, status: int) -> None:
        """Raise TargetError EDGEC-E804 where a call failed."""
        if status:
            raise TargetError("EDGEC-E804", f"check the inputs: {self.path.name} returned status {status}")

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one call by label, in the user's layout and float; state lives on."""
        index, ports = self.artifact.entry(entry)
        own = self._model.entries[index]
        given = [port_from_json(j) for j in ports["inputs"]]
        types = {p.ref: t for p, t in given}
        sample = samples.to_device(inputs, [p for p, _ in given], types, "the input")[0] if given else {}
        for i, (port, _) in enumerate(given):
            array = np.ascontiguousarray(sample[port.ref])
            ctypes.memmove(own.inputs[i].pointer(self._model.instance), array.ctypes.data, array.nbytes)
        self.check(own.invoke(self._model.instance))
        outputs = {}
        for i, (port, t) in enumerate(port_from_json(j) for j in ports["outputs"]):
            raw = ctypes.string_at(own.outputs[i].pointer(self._model.instance), t.bytes)
            array = np.frombuffer(raw, t.dtype.numpy).reshape(t.dims)
            outputs[port.label] = samples.value_to_user(array, port, t, raw=False)
        return outputs

    def close(self) -> None:
        """Nothing to free: the library's memory is static."""
