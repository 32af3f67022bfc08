"""The artifact: a folder with everything that one compiled network needs, and the hashes to prove it whole.

    manifest.json   versions, target, ports, arenas, calls, sha256 of every file
    target.toml     the target it was compiled for
    src/            model.c, model.h, weights.c, the kernels used, start-up code
    golden/         inputs and the outputs that every build must give, raw, in the device's layout
    report.json     memory, layers, accuracy
    Makefile, CMakeLists.txt

Written under a temporary name and renamed, so that a half-written one is never seen. Same compile, same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from edgec import device, samples
from edgec.device import Place
from edgec.errors import TargetError, UserError, cannot_write
from edgec.ir import Array, DType, Port, Quant, Type
from edgec.plan import PlanPort
from edgec.training import bench as training_bench

if TYPE_CHECKING:
    from edgec.link.finetune import Curve, Data

FORMAT: Final = 1
FLOAT_TOLERANCE: Final = (
    1e-4  # of an output's largest magnitude: C sums and rounds in another order than numpy
)
# Likewise on GPUs, by precision: both round every layer to 16 bits, and w8a8 rounds what was rounded.
GPU_TOLERANCE: Final = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 8e-2, "w8a8": 8e-2, "w4a16": 2e-2}
_KEYS: Final = (
    "name", "target", "options", "macs", "arenas", "constant_bytes", "golden_steps", "machine", "entries",
)  # fmt: skip
Json = dict[str, Any]
Content = str | bytes | Callable[[BinaryIO], None]  # the last writes a file too large to hold
WEIGHTS: Final = "weights.bin"  # of a CUDA artifact; its library checks the sum of it


def write(out: Path, files: Mapping[str, Content], manifest: Json) -> None:
    """Write `files` and manifest.json to the folder `out`, whole or not at all.

    Replaces an artifact that stands there; refuses to replace a folder that is not one. Raises UserError.
    """
    out = Path(os.path.abspath(out))
    refuse_unless_free(out)
    missing = [p for p in (out.parent, *out.parent.parents) if not p.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", dir=out.parent))
    except OSError as error:
        _remove_empty(missing)
        raise cannot_write("EDGEC-EB02", out, error) from error
    try:
        digests = {}
        for name in sorted(files):
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_file(path, files[name])
            digests[name] = _digest(path)
        whole = {"format": FORMAT, **manifest, "files": digests}
        (staging / "manifest.json").write_text(json_text(whole), encoding="utf-8")
        staging.chmod(0o755)
        _swap(staging, out)
    except OSError as error:
        raise cannot_write("EDGEC-EB02", out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(missing)


def _write_file(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


def refuse_unless_free(out: Path) -> None:
    """Raise UserError EB01 where `out` holds something that is not an artifact, EB02 where nothing can be written."""
    try:
        taken = out.exists() and not _is_artifact(out)
        parent = next(p for p in Path(os.path.abspath(out)).parents if p.exists())
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
    except OSError as error:
        raise cannot_write("EDGEC-EB02", out, error) from error
    if taken:
        raise UserError(
            "EDGEC-EB01", f"choose another -o, or remove it first: {out} exists and is not an edgec artifact"
        )


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders`, inner ones first, that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def json_text(content: Json) -> str:
    """JSON as it stands in an artifact: stable order, one field a line."""
    return json.dumps(content, indent=1) + "\n"


def _is_artifact(path: Path) -> bool:
    """Whether `path` is an empty folder or an artifact; other programs write files named manifest.json too."""
    if not path.is_dir():
        return False
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        return isinstance(manifest, dict) and {"format", "edgec", "files"} <= manifest.keys()
    except (OSError, ValueError):
        return not any(path.iterdir())


def _swap(staging: Path, out: Path) -> None:
    """Put `staging` in the place of `out`; the old one goes only when the new one stands."""
    if not out.exists():
        staging.rename(out)
        return
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    out.rename(old)
    try:
        staging.rename(out)
    except BaseException:  # Ctrl-C too
        if not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def read_manifest(folder: Path) -> Json:
    """manifest.json of an artifact whose files are all whole. Raises UserError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(
            "EDGEC-E361", f"give a folder that `edgec compile -o` wrote: {folder} has no manifest.json"
        )
    try:
        manifest: Json = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise UserError("EDGEC-E362", f"compile the model again: {path} is damaged (it holds no object)")
        found = manifest["format"]
        files: dict[str, str] = manifest["files"]
        digests = [(folder / name, digest) for name, digest in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError("EDGEC-E362", f"compile the model again: {path} is damaged ({error!r})") from None
    if found != FORMAT:
        raise UserError(
            "EDGEC-E363",
            f"compile the model again: {folder} has artifact format {found}, this edgec reads {FORMAT}",
        )
    wrong = [
        str(p) for p, digest in digests if not p.is_file() or (p.name != WEIGHTS and _digest(p) != digest)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more files" if len(wrong) > 3 else ""
        raise UserError(
            "EDGEC-E364", f"compile the model again. Missing or changed since: {', '.join(wrong[:3])}{more}"
        )
    absent = [key for key in _KEYS if key not in manifest]
    if "target.toml" not in files:
        absent.append("target.toml")
    if absent:
        raise UserError(
            "EDGEC-E362", f"compile the model again: {path} is damaged (it lacks {', '.join(absent)})"
        )
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def port_json(port: PlanPort) -> Json:
    """A port as the manifest holds it."""
    quant = port.type.quant
    return {
        "label": port.port.label,
        "value": port.port.ref,
        "axes": list(port.port.axes),
        "shape": list(port.type.dims),
        "bounds": [bound.name for bound in port.type.bounds],
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


def _close(found: Array, expected: Array, tolerance: float) -> bool:
    """Whether integers are equal, floats as near; `tolerance` is of the largest."""
    if expected.dtype.kind in "iub":
        return np.array_equal(found, expected)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    largest = float(np.abs(expected).max(initial=0.0))
    return np.allclose(found, expected, rtol=0.0, atol=tolerance * largest, equal_nan=True)


class Artifact:
    """A compiled network in its folder: runs, benches and reports it.

    Programs are built into `build/` of the folder when they are first needed. Raises UserError where the folder
    is not whole.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from edgec.targets.load import load_target

        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.target = replace(load_target(str(self.folder / "target.toml")), name=self.manifest["target"])

    def places(self) -> tuple[Place, ...]:
        """Where it can run on this machine, tools permitting."""
        if self.target.family == "cuda":
            return ("cuda",)
        return ("host", "qemu") if self.target.emulator is not None else ("host",)

    def entry(self, name: str) -> tuple[int, Json]:
        """(index, manifest of) the entry `name`."""
        names = [e["name"] for e in self.manifest["entries"]]
        if name not in names:
            raise UserError(
                "EDGEC-E230", f"choose an entry of {self.folder}: {', '.join(names)}; there is no {name!r}"
            )
        return names.index(name), self.manifest["entries"][names.index(name)]

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        on: Place | None = None,
        raw: bool = False,
        entry: str = "infer",
    ) -> dict[str, Array]:
        """Outputs by name in the PyTorch layout, one sample or many (samples.to_device says how they stack).

        `inputs`: floats, or int8 as the model's own integers. Outputs are float32, or the device's integers with
        `raw`. State starts at its initial value and lives on from sample to sample. `on`: where None, this computer,
        or its GPU for a CUDA target.
        """
        return self.sequence(((entry, inputs),), on=on, raw=raw)[0]

    def sequence(
        self, calls: Sequence[tuple[str, Mapping[str, Array]]], *, on: Place | None = None, raw: bool = False
    ) -> list[dict[str, Array]]:
        """Outputs of each (entry, inputs) in turn, as `run` gives them. All of them share one instance, so state
        lives on from one call to the next. An entry without inputs runs once."""
        data, steps = b"", []
        for entry, inputs in calls:
            index, ports = self.entry(entry)
            sized = [j["label"] for j in (*ports["inputs"], *ports["outputs"]) if j["bounds"]]
            if sized:
                raise UserError(
                    "EDGEC-E234",
                    f"call {entry} through model.h: {', '.join(sized)} has a size known only at run time, and "
                    "arrays here have fixed ones",
                )
            given = [port_from_json(j) for j in ports["inputs"]]
            types = {p.ref: t for p, t in given}
            sets = samples.to_device(inputs, [p for p, _ in given], types, "the input") if given else [{}]
            data += pack([one[p.ref] for one in sets for p, _ in given])
            steps.append((index, len(sets)))
        output = self._output(self._place(on, "host"), data, tuple(steps))
        results = []
        for (entry, _), (_, count) in zip(calls, steps, strict=True):
            made = [port_from_json(j) for j in self.entry(entry)[1]["outputs"]]
            size = count * sum(t.bytes for _, t in made)
            rows = unpack(output[:size], [t for _, t in made])
            output = output[size:]
            results.append(
                {
                    p.label: samples.stack([samples.value_to_user(row[i], p, t, raw) for row in rows])
                    for i, (p, t) in enumerate(made)
                }
            )
        return results

    def _place(self, on: Place | None, default: Place) -> Place:
        """`on`, or where it belongs: `default` where that is not a GPU. Raises UserError EDGEC-E239."""
        gpu = self.target.family == "cuda"
        place: Place = on or ("cuda" if gpu else default)
        if (place == "cuda") != gpu:
            places = " or ".join(self.places())
            raise UserError("EDGEC-E239", f"use --on {places}: {self.folder} is for {self.target.name}")
        return place

    def _output(self, on: Place, data: bytes, steps: device.Steps, sanitize: bool = False) -> bytes:
        """Raw outputs of `steps` on one instance."""
        if self._place(on, on) == "cuda":
            from edgec.cuda import run as cuda_run

            return cuda_run.output(self.folder, data, steps)
        return device.run(self.built(on, sanitize=sanitize), data, steps, device.RunOptions()).output

    @property
    def entry_names(self) -> list[str]:
        """Names of the entries, in order."""
        return [e["name"] for e in self.manifest["entries"]]

    def generate(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[int] = (),
        on: Place | None = None,
    ) -> Iterator[int]:
        """The token ids that follow those of `prompt`, as they come, of a language model (generate.tokens)."""
        from edgec import generate

        sampling = generate.Sampling(temperature, top_k, top_p, seed)
        with generate.opened(self, on) as runner:
            yield from generate.tokens(
                runner, self.entry_names, prompt, max_tokens, sampling, frozenset(stop)
            )

    def finetune(
        self,
        data: Data,
        *,
        test: Data | None = None,
        on: str = "host",
        epochs: int = 1,
        lr: float | None = None,
        replay: Data | None = None,
        replay_samples: int = 64,
        replay_steps: int = 1,
        factory: bool = False,
        save: bool = True,
        push: str | os.PathLike[str] | None = None,
        pull: str | os.PathLike[str] | None = None,
        curve: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> Curve:
        """Train the firmware of an artifact that was compiled with --train, as `edgec finetune` does: on the host, on
        QEMU or behind a serial port. `data`, `test`, `replay`: arrays by input name with `label`, or paths."""
        from edgec.link import finetune

        options = finetune.Options(epochs, lr, seed, replay_steps, save, factory)
        files = finetune.Files(*(None if p is None else Path(p) for p in (push, pull, curve, plot)))
        return finetune.finetune(self, finetune.Sets(data, test, replay, replay_samples), on, options, files)

    def built(self, on: Place, profile: bool = False, sanitize: bool = False) -> device.Built:
        """The program for `on`, built where it is not yet."""
        machine = ""
        if on == "qemu":
            machine = self.machine()
        options = device.BuildOptions(self.manifest["name"], machine, profile, sanitize)
        return device.build(self.folder, self.target, options)

    def machine(self) -> str:
        """The QEMU machine that the artifact's firmware is for."""
        machine: str | None = self.manifest["machine"]
        if machine is None:
            raise UserError("EDGEC-E231", f"use --on host: target {self.target.name} has no emulated board")
        return machine

    def golden_steps(self) -> device.Steps:
        """(entry, samples) pairs that the golden vectors hold."""
        return tuple((int(entry), int(count)) for entry, count in self.manifest["golden_steps"])

    def check(self, on: Place, sanitize: bool = False) -> None:
        """Hold the program on `on` against the golden vectors: integers exactly, floats within FLOAT_TOLERANCE or
        GPU_TOLERANCE of the largest. What a GPU's network of floats chooses, such as a token, is left out: of two that
        are nearly equal, either may be the larger. Raises TargetError E901 where an output differs."""
        if not self.golden_steps():
            return
        data = (self.folder / "golden" / "in.bin").read_bytes()
        expected = (self.folder / "golden" / "out.bin").read_bytes()
        found = self._output(on, data, self.golden_steps(), sanitize)
        problem = "" if found == expected else self._difference(found, expected)
        if problem:
            raise TargetError(
                "EDGEC-E901",
                f"report this with the artifact {self.folder}: {problem} on {on} differs from the interpreter's "
                "(golden/out.bin)",
            )

    def _difference(self, found: bytes, expected: bytes) -> str:
        """The first output of the golden steps that differs, "" where all are close enough."""
        precision = self.manifest["options"]["precision"] if self.target.family == "cuda" else ""
        tolerance = GPU_TOLERANCE.get(precision, FLOAT_TOLERANCE)
        chosen = ("i4", "i8") if precision in GPU_TOLERANCE else ()
        if len(found) != len(expected):
            return f"the number of output bytes ({len(found)}, not {len(expected)})"
        for index, count in self.golden_steps():
            entry = self.manifest["entries"][index]
            ports = [port_from_json(j) for j in entry["outputs"]]
            size = count * sum(t.bytes for _, t in ports)
            pairs = zip(
                *(unpack(raw[:size], [t for _, t in ports]) for raw in (found, expected)), strict=True
            )
            for sample, (made, wanted) in enumerate(pairs):
                for (port, _), a, b in zip(ports, made, wanted, strict=True):
                    if b.dtype.str[1:] not in chosen and not _close(a, b, tolerance):
                        return f"output {port.label} of {entry['name']}, sample {sample},"
            found, expected = found[size:], expected[size:]
        return ""

    def bench(self, *, on: Place | None = None, runs: int = 3) -> Json:
        """Instructions of one inference (median), by layer, and the image's memory: of the first entry.
        Instructions and stack are None on the host, whose time says nothing of the device. `on`: where None, the
        emulated board, or this computer's GPU for a CUDA target, which gives times."""
        on = self._place(on, "qemu")
        if on == "cuda":
            from edgec.cuda import run as cuda_run

            return cuda_run.bench(self, runs)
        count = self.golden_steps()[0][1]
        sample = sum(port_from_json(j)[1].bytes for j in self.manifest["entries"][0]["inputs"])
        data = (self.folder / "golden" / "in.bin").read_bytes()[: count * sample]
        built = self.built(on)
        result = device.run(built, data * runs, ((0, count),) * runs, device.RunOptions())
        sizes = device.sizes(built)
        arena = sum(a["bytes"] for a in self.manifest["arenas"])
        layers: list[Json] = []
        if on == "qemu":
            profile = device.run(self.built(on, profile=True), data, ((0, count),), device.RunOptions())
            layers = self._layers(profile.items, count)
        learning = training_bench.measure(self, on) if "training" in self.manifest else None
        return {
            **({} if learning is None else {"training": learning}),
            "target": self.target.name,
            "machine": built.machine or "host",
            "instructions": int(np.median(result.instructions)) if result.instructions else None,
            "macs": sum(layer["macs"] for layer in self.report()["entries"][0]["layers"]),
            "arena_bytes": arena,
            "ram_bytes": sizes.ram_bytes,
            "flash_bytes": sizes.flash_bytes,
            "stack_bytes": result.stack_bytes,
            "text_bytes": sizes.text,
            "constant_bytes": self.manifest["constant_bytes"],
            "layers": layers,
        }

    def _layers(self, items: Mapping[int, int], count: int) -> list[Json]:
        rows: dict[int, Json] = {}
        for layer in self.report()["entries"][0]["layers"]:
            row = rows.setdefault(
                layer["item"], {"item": layer["item"], "layer": layer["layer"], "op": layer["op"], "macs": 0}
            )
            if layer["streamed"] and row["op"] != layer["op"]:
                row["op"] = "stream"
            row["macs"] += layer["macs"]
        return [{**row, "instructions": items.get(i, 0) // count} for i, row in rows.items()]

    def report(self) -> Json:
        """The report made at compile time (report.build)."""
        content: Json = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return content

    def sizes(self) -> Json | None:
        """ram_bytes and flash_bytes of the firmware, None where it has not been built."""
        machine = self.manifest["machine"]
        program = self.folder / "build" / str(machine) / "firmware.elf"
        if machine is None or not program.is_file():
            return None
        found = device.sizes(device.Built("qemu", program, machine))
        return {"ram_bytes": found.ram_bytes, "flash_bytes": found.flash_bytes}

    def summary(self) -> Json:
        """What `edgec compile --json` says of it."""
        m = self.manifest
        arenas = {a["memory"]: a["bytes"] for a in m["arenas"]}
        return {
            "name": m["name"],
            "target": m["target"],
            "macs": m["macs"],
            "arena_bytes": arenas,
            "constant_bytes": m["constant_bytes"],
            "precision": m["options"]["precision"],
        }


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` to an .npz under a temporary name, then rename it. Same arrays, same bytes.

    Not numpy.savez: it takes names as keywords, and an output may be called `file`.
    """
    path = Path(os.path.abspath(path))
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:  # Ctrl-C too leaves nothing
            os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write("EDGEC-EB08", path, error) from error
