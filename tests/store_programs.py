"""Builds the C programs that test runtime_c/store/, of its sources or of broken copies of them."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

STORE = Path(__file__).resolve().parent.parent / "runtime_c" / "store"
TESTS_C = Path(__file__).resolve().parent / "c"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-pedantic")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True, slots=True)
class Program:
    """A test program: its own sources, the drivers it uses and what it includes first."""

    sources: tuple[str, ...]
    drivers: tuple[str, ...]
    options: tuple[str, ...] = ()


CUTS = Program(("store_cuts.c", "store_flash.c"), ())
FAULTS = Program(("store_faults.c",), ("ec_store_status.c", "ec_flash_ram.c", "ec_flash_file.c"))
STM32 = Program(("store_stm32.c",), ("ec_flash_stm32.c",), ("-include", str(TESTS_C / "store_stm32_io.h")))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="edgec-store-")


@functools.cache
def build(program: Program, flags: tuple[str, ...] = SANITIZED, store: str | None = None) -> Path:
    """The program; `store` is the text of another ec_store.c."""
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    source = STORE / "ec_store.c"
    if store is not None:
        source = folder / "ec_store.c"
        source.write_text(store, encoding="utf-8")
    parts = [*(TESTS_C / s for s in program.sources), *(STORE / d for d in program.drivers)]
    command = ["gcc", *WARNINGS, *flags, *program.options, f"-I{STORE}", *map(str, parts)]
    command += [str(source), str(STORE / "ec_crc32.c"), "-o", str(folder / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *words], capture_output=True, text=True, check=False, timeout=900)


def cuts(*words: str) -> int:
    """Number of power cuts that a campaign of store_cuts.c made; fails where the store did."""
    done = run(build(CUTS), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.split()[0])
