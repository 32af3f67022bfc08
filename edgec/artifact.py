"""The artifact: a folder with everything that one compiled network needs, and the hashes to prove it whole.

    manifest.json   versions, target, ports, arenas, calls, sha256 of every file
    src/            model.c, model.h, weights.c, the kernels used, start-up code
    golden/         inputs and the outputs that every build must give, raw, in the device's layout
    report.json     memory, layers, accuracy
    Makefile, CMakeLists.txt

Written under a temporary name and renamed, so that a half-written one is never seen. Same compile, same
bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.errors import UserError
from edgec.ir import Array, DType, Port, Quant, Type
from edgec.plan import PlanPort

FORMAT: Final = 1
Json = dict[str, Any]


def write(out: Path, files: Mapping[str, str | bytes], manifest: Json) -> None:
    """Write `files` and manifest.json to the folder `out`, whole or not at all.

    Replaces an artifact that stands there; refuses to replace a folder that is not one. Raises UserError.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not _is_artifact(out):
        raise UserError(
            "EDGEC-EB01", f"choose another -o, or remove it first: {out} exists and is not an edgec artifact"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise _cannot_write(out, error) from error
    try:
        digests = {}
        for name in sorted(files):
            content = files[name]
            data = content.encode() if isinstance(content, str) else content
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            digests[name] = hashlib.sha256(data).hexdigest()
        whole = {"format": FORMAT, **manifest, "files": digests}
        (staging / "manifest.json").write_text(json_text(whole), encoding="utf-8")
        staging.chmod(0o755)
        _swap(staging, out)
    except OSError as error:
        raise _cannot_write(out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def json_text(content: Json) -> str:
    """JSON as it stands in an artifact: stable order, one field a line."""
    return json.dumps(content, indent=1) + "\n"


def _is_artifact(path: Path) -> bool:
    return path.is_dir() and ((path / "manifest.json").is_file() or not any(path.iterdir()))


def _swap(staging: Path, out: Path) -> None:
    """Put `staging` in the place of `out`; the old one goes only when the new one stands."""
    if not out.exists():
        staging.rename(out)
        return
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _cannot_write(out: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError("EDGEC-EB02", f"free space or choose another -o: {out} cannot be written ({reason})")


def read_manifest(folder: Path) -> Json:
    """manifest.json of an artifact whose files are all whole. Raises UserError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(
            "EDGEC-E301", f"give a folder that `edgec compile -o` wrote: {folder} has no manifest.json"
        )
    try:
        manifest: Json = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"]
        files: dict[str, str] = manifest["files"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError("EDGEC-E302", f"compile the model again: {path} is damaged ({error})") from None
    if found != FORMAT:
        raise UserError(
            "EDGEC-E303",
            f"compile the model again: {folder} has artifact format {found}, this edgec reads {FORMAT}",
        )
    for name, digest in files.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise UserError("EDGEC-E304", f"compile the model again: {file} is missing or was changed")
    return manifest


def port_json(port: PlanPort) -> Json:
    """A port as the manifest holds it."""
    quant = port.type.quant
    return {
        "label": port.port.label,
        "value": port.port.ref,
        "axes": list(port.port.axes),
        "shape": list(port.type.dims),
        "dtype": port.type.dtype.value,
        "scale": None if quant is None else quant.per_tensor[0],
        "zero": None if quant is None else quant.per_tensor[1],
    }


def port_from_json(j: Json) -> tuple[Port, Type]:
    """The port and its type back from the manifest."""
    quant = None if j["scale"] is None else Quant((float(j["scale"]),), (int(j["zero"]),))
    t = Type(tuple(int(d) for d in j["shape"]), DType(j["dtype"]), quant)
    return Port(j["value"], j["label"], tuple(int(a) for a in j["axes"])), t


def pack(arrays: list[Array]) -> bytes:
    """Raw bytes of arrays one after the other: the form in which the firmware reads inputs and writes
    outputs."""
    return b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


def unpack(data: bytes, types: list[Type]) -> list[list[Array]]:
    """One list of arrays a sample. `types`: the ports in order."""
    size = sum(t.bytes for t in types)
    samples = []
    for begin in range(0, len(data) - size + 1, max(size, 1)):
        at, one = begin, []
        for t in types:
            one.append(np.frombuffer(data, t.dtype.numpy, t.size, at).reshape(t.dims))
            at += t.bytes
        samples.append(one)
    return samples
