"""Builds the C programs that test the control loop's slots and threads, and runs them."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTROL = ROOT / "runtime_c" / "control"
TESTS_C = Path(__file__).resolve().parent / "c"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-pedantic")
PLAIN = ("-O2",)
THREAD_SANITIZER = ("-O1", "-g", "-fsanitize=thread")
MEMORY_SANITIZER = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CROSS = "aarch64-linux-gnu-gcc"
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
needs_aarch64 = pytest.mark.skipif(
    EMULATOR is None or shutil.which(CROSS) is None,
    reason=f"LEFT OUT, what an aarch64 processor does: {CROSS} or qemu-aarch64 is not installed",
)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="edgec-control-")


@functools.cache
def build(names: tuple[str, ...], flags: tuple[str, ...] = PLAIN, compiler: str = "gcc") -> Path:
    """A program of these files of tests/c/ and the whole of runtime_c/control/."""
    to = Path(tempfile.mkdtemp(dir=_folder().name)) / "program"
    parts = [*(TESTS_C / name for name in names), *sorted(CONTROL.glob("*.c"))]
    command = [compiler, *WARNINGS, *flags, "-ffp-contract=off", "-pthread", f"-I{CONTROL}", f"-I{TESTS_C}"]
    done = subprocess.run(
        [*command, *map(str, parts), "-lm", "-o", str(to)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return to


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


def run_aarch64(names: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    """Compiled for an aarch64 processor, under qemu's user mode."""
    assert EMULATOR is not None
    program = build(names, ("-O2", "-static"), CROSS)
    command = [EMULATOR, str(program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


def values(text: str) -> dict[str, float]:
    """The numbers name=number that a program printed."""
    pairs: Sequence[list[str]] = [word.split("=") for word in text.split()]
    return {name: float(number) for name, number in pairs}
