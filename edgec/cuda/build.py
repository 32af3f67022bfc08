"""Builds a CUDA artifact: cubins by nvcc, kept in a cache by content, and the shared library by make.

`make` alone does the same on a machine without Python; here the cubins that other models have made already are put
in place first. The cache is $EDGEC_CACHE or ~/.cache/edgec; a cubin's key is everything that it is made from, and what
is damaged there is compiled again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgec import log
from edgec.cache import cache_folder
from edgec.errors import InternalError, TargetError, UserError
from edgec.plan import Target

CUBIN_FLAGS: Final = ("-std=c++17", "-O3", "-cubin", "-Wno-deprecated-gpu-targets", "-Xptxas=-v")
NVCC_CURE: Final = "install the CUDA toolkit 12.6 or later (developer.nvidia.com/cuda-downloads)"
INSTALLED_NVCC: Final = Path("/usr/local/cuda/bin/nvcc")
TWIN_COMPUTE: Final = 90  # what the x86-64 twin of a Jetson library runs on
_INCLUDE: Final = re.compile(r'^#include "([\w./-]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a kernel takes of an SM: registers a thread, static shared memory a block, bytes spilled to memory."""

    registers: int
    shared_bytes: int
    spilled_bytes: int


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library to build: for which machine, with kernels for which chip, by which C compiler."""

    machine: str  # as platform.machine() says it
    compute: int
    cc: str

    @property
    def folder(self) -> str:
        """Below build/."""
        return f"{self.machine}-sm_{self.compute}"


def libraries(target: Target) -> tuple[Library, ...]:
    """What an artifact for `target` builds: for a Jetson the aarch64 library, and a twin for x86-64 computers."""
    assert target.gpu is not None
    if target.toolchain.cc.startswith("aarch64"):
        cc = "gcc" if platform.machine() == "aarch64" else target.toolchain.cc
        jetson = Library("aarch64", target.gpu.compute, cc)
        return (
            (jetson, Library("x86_64", TWIN_COMPUTE, "gcc")) if platform.machine() == "x86_64" else (jetson,)
        )
    return (Library(platform.machine(), target.gpu.compute, target.toolchain.cc),)


def runnable(target: Target) -> Library:
    """The library for a program on this computer. Raises TargetError where there is none."""
    for library in libraries(target):
        if library.machine == platform.machine():
            return library
    raise TargetError(
        "EDGEC-E811",
        f"run it on the device: libraries for {target.name} are not built for {platform.machine()}",
    )


def find(tool: str) -> str | None:
    """Absolute path of a tool; nvcc also where CUDA's installer puts it. None where it is not installed."""
    path = shutil.which(tool)
    if path is None and tool == "nvcc" and INSTALLED_NVCC.is_file():
        return str(INSTALLED_NVCC)
    return path


def require(tool: str, cure: str) -> str:
    """Absolute path of a tool. Raises TargetError EDGEC-EA02."""
    path = find(tool)
    if path is None:
        raise TargetError("EDGEC-EA02", f"{cure}: {tool} is not on the PATH")
    return path


def nvcc() -> str:
    """Path of nvcc. Raises TargetError EDGEC-EA02."""
    return require("nvcc", NVCC_CURE)


@functools.cache
def nvcc_version(path: str) -> str:
    """The release line of nvcc."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace")
    found = re.search(r"release .*", done.stdout)
    return found[0] if found else done.stdout.strip()


def build(artifact: Path, name: str, library: Library) -> Path:
    """Make libedgec_<name>.so in the build folder. Raises TargetError EA02, UserError EB05, InternalError."""
    compiler = require("make", "install make"), nvcc()
    cc = require(library.cc, _cure(library.cc))
    folder = artifact / "build" / library.folder
    units = sorted((artifact / "src" / "units").glob("*.cu"))
    made = compile_units(artifact / "src", units, folder, library.compute)
    command = [
        *(compiler[0], "-s", "library", f"CC={cc}", f"NVCC={compiler[1]}"),
        *(f"COMPUTE={library.compute}", f"MACHINE={library.machine}"),
    ]
    drop = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in drop} | {"LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=artifact, capture_output=True, text=True, errors="replace", env=environment
    )
    if done.returncode != 0:
        raise _build_error(done.stdout + done.stderr, "the library does not build")
    log.say(f"{len(units)} kernels for sm_{library.compute}, {made} compiled now")
    return folder / f"libedgec_{name}.so"


def build_all(artifact: Path, name: str, target: Target) -> list[str]:
    """Build every library of the artifact whose tools are here; say what was left out. The folders of those built."""
    done = []
    for library in libraries(target):
        try:
            with log.step(f"build {library.folder}") as notes:
                path = build(artifact, name, library)
                notes.append(f"{path.stat().st_size:,} B")
            done.append(library.folder)
        except TargetError as error:
            if error.code[len("EDGEC-E")] != "A":
                raise
            log.say(f"not built for {library.folder}: {error}")
    return done


def _cure(cc: str) -> str:
    if cc.startswith("aarch64"):
        return "install the cross compiler: apt install gcc-aarch64-linux-gnu (Debian, Ubuntu)"
    return f"install a C compiler: apt install {cc} (Debian, Ubuntu)"


def _build_error(text: str, what: str) -> TargetError | UserError | InternalError:
    for reason in ("No space left on device", "Permission denied", "Read-only file system"):
        if reason in text:
            return UserError(
                "EDGEC-EB05", f"free space or copy the artifact elsewhere: make could not write ({reason})"
            )
    return InternalError(f"{what}:\n" + "\n".join(text.strip().splitlines()[-15:]))


def compile_units(source: Path, units: Sequence[Path], folder: Path, compute: int) -> int:
    """Put the cubin of each unit into `folder`; the number that had to be compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = nvcc()
    texts: dict[Path, str] = {}
    wanted = {u: folder / f"{u.stem}.cubin" for u in units}
    keys = {u: _key(u, source / "cuda", compute, nvcc_version(tool), texts) for u in units}
    missing = [u for u in units if not _from_cache(keys[u], wanted[u])]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [pool.submit(_compile, tool, u, source, wanted[u], compute) for u in missing]
        try:
            for unit, job in log.progress(list(zip(missing, jobs, strict=True)), "nvcc", len(jobs)):
                job.result()
                _into_cache(keys[unit], wanted[unit])
        finally:  # after an error or an interrupt nothing more is begun
            pool.shutdown(wait=False, cancel_futures=True)
    return len(missing)


def _key(unit: Path, folder: Path, compute: int, version: str, texts: dict[Path, str]) -> str:
    """sha256 of the unit, of all that it includes, and of how it is compiled."""
    digest = hashlib.sha256(" ".join((*CUBIN_FLAGS, architecture(compute), version)).encode())
    waiting, seen = [unit], set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        if path not in texts:
            texts[path] = path.read_text(encoding="utf-8")
        waiting += [folder / name for name in _INCLUDE.findall(texts[path])]
    for path in sorted(seen):
        digest.update(texts[path].encode() + b"\0")
    return digest.hexdigest()


def _from_cache(key: str, to: Path) -> bool:
    """Whether the cache has this cubin, whole; then it and its .txt stand at `to`."""
    kept = cache_folder() / "cubins" / key[:2] / key
    try:
        text = kept.with_suffix(".txt").read_bytes()
        digest, _, cubin = kept.read_bytes().partition(b"\n")
        if digest.decode(errors="replace") != _digest(text, cubin):
            return False
        _put(to.with_suffix(".txt"), text)
        _put(to, cubin)
    except OSError:
        return False
    return True


def _digest(text: bytes, cubin: bytes) -> str:
    """What the first line of a kept cubin says of it and its .txt."""
    return hashlib.sha256(hashlib.sha256(text).digest() + cubin).hexdigest()


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process writes to."""
    return path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")


def _put(to: Path, content: bytes) -> None:
    """A file with this content, whole or not at all."""
    temporary = _temporary(to)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, to)
    finally:
        temporary.unlink(missing_ok=True)


def usage(cubin: Path) -> Usage:
    """What the compiler said of the kernel in `cubin`."""
    text = cubin.with_suffix(".txt").read_text(encoding="utf-8")
    registers = max((int(n) for n in re.findall(r"Used (\d+) registers", text)), default=0)
    shared = max((int(n) for n in re.findall(r"(\d+) bytes smem", text)), default=0)
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", text))
    return Usage(registers, shared, spilled)


def _into_cache(key: str, cubin: Path) -> None:
    """Keep a cubin for other models; a cache that cannot be written only costs time."""
    kept = cache_folder() / "cubins" / key[:2] / key
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        text, code = cubin.with_suffix(".txt").read_bytes(), cubin.read_bytes()
        _put(kept.with_suffix(".txt"), text)
        _put(kept, _digest(text, code).encode() + b"\n" + code)
    except OSError as error:
        log.say(f"kernel not kept in {kept.parent}: {error.strerror}")


def architecture(compute: int) -> str:
    """What nvcc compiles for: on Hopper with the instructions that it alone has."""
    return f"sm_{compute}a" if compute == 90 else f"sm_{compute}"


def _compile(tool: str, unit: Path, source: Path, cubin: Path, compute: int) -> None:
    temporary = _temporary(cubin)
    command = [
        tool,
        *CUBIN_FLAGS,
        f"-arch={architecture(compute)}",
        f"-I{source / 'cuda'}",
        "-o",
        str(temporary),
        str(unit),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=os.environ | {"LC_ALL": "C"}
        )
        if done.returncode != 0:
            raise _build_error(done.stdout + done.stderr, f"nvcc does not compile {unit.name}")
        cubin.with_suffix(".txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        os.replace(temporary, cubin)
    finally:
        temporary.unlink(missing_ok=True)


def makefile(name: str, target: Target) -> str:
    """The artifact's Makefile: `make` on the device builds the library with the nvcc that is there."""
    assert target.gpu is not None
    flags = " ".join(CUBIN_FLAGS)
    return f"""# Builds libedgec_{name}.so. On the device: make.
# Elsewhere: make CC=aarch64-linux-gnu-gcc MACHINE=aarch64
#   COMPUTE=87      the chip's compute capability without the dot
#   NVCC=nvcc       CUDA toolkit 12.6 or later
NAME := {name}
COMPUTE ?= {target.gpu.compute}
MACHINE ?= $(shell uname -m)
NVCC ?= nvcc
CC ?= gcc
OUT := build/$(MACHINE)-sm_$(COMPUTE)
UNITS := $(wildcard src/units/*.cu)
CUBINS := $(UNITS:src/units/%.cu=$(OUT)/%.cubin)
HOST := src/model.c $(wildcard src/cuda/host/*.c)
CFLAGS := -std=gnu99 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror -DEC_CUDA_COMPUTE=$(COMPUTE) -Isrc -Isrc/cuda

.DELETE_ON_ERROR:
.PHONY: library clean
library: $(OUT)/libedgec_$(NAME).so

$(OUT)/%.cubin: src/units/%.cu
\t@mkdir -p $(@D)
\t$(NVCC) {flags} -arch=sm_$(COMPUTE:90=90a) -Isrc/cuda -o $@ $<

$(OUT)/libedgec_$(NAME).so: $(HOST) src/cubins.S $(CUBINS)
\t@mkdir -p $(@D)
\t$(CC) $(CFLAGS) -Wa,-I$(OUT) -shared -o $@.$$$$.tmp $(HOST) src/cubins.S -ldl -lpthread && mv $@.$$$$.tmp $@

clean:
\trm -rf build
"""


def library_path(artifact: Path, name: str, library: Library) -> Path:
    """Where `build` puts the library."""
    return artifact / "build" / library.folder / f"libedgec_{name}.so"


__all__ = ["CUBIN_FLAGS", "Library", "build", "compile_units", "libraries", "makefile", "runnable"]
