"""The build of CUDA artifacts among several processes and after errors, with a shell script in nvcc's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.cuda import build as cuda_build
from edgec.errors import InternalError

# Writes its output in two halves; a unit with `wrong` in it fails. Each call leaves a line in $CALLS.
NVCC = """#!/bin/sh
[ "$1" = --version ] && { echo release 13.0; exit; }
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
echo "$1" >> "$CALLS"
sleep 0.2
grep -q wrong "$1" && { echo broken >&2; exit 1; }
printf 'first half, ' > "$out"
sleep 0.2
printf 'second half' >> "$out"
"""
COMPILE = """
import sys
from pathlib import Path
from edgec.cuda import build as cuda_build
source = Path(sys.argv[1])
cuda_build.compile_units(source, sorted(source.glob("units/*.cu")), Path(sys.argv[2]), 90)
"""


@pytest.fixture(autouse=True)
def nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script on the PATH, and an empty cache; the file of its calls."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvcc").write_text(NVCC)
    (tools / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def units(folder: Path, *texts: str) -> list[Path]:
    (folder / "units").mkdir(parents=True)
    made = []
    for n, text in enumerate(texts):
        made.append(folder / "units" / f"k{n}.cu")
        made[-1].write_text(text)
    return made


def test_two_processes_may_build_one_artifact(tmp_path: Path) -> None:
    units(tmp_path / "src", "one")
    command = [sys.executable, "-c", COMPILE, str(tmp_path / "src"), str(tmp_path / "out")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(p.communicate()[1].count("Traceback"), p.returncode) for p in running] == [(0, 0)] * 3
    assert (tmp_path / "out" / "k0.cubin").read_text() == "first half, second half"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["k0.cubin", "k0.txt"]
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert sorted(p.suffix for p in kept) == ["", ".txt"]


def test_a_cubin_comes_from_the_cache_the_next_time(tmp_path: Path, nvcc: Path) -> None:
    made = units(tmp_path / "src", "one", "two")
    assert cuda_build.compile_units(tmp_path / "src", made, tmp_path / "a", 90) == 2
    assert cuda_build.compile_units(tmp_path / "src", made, tmp_path / "b", 90) == 0
    assert (tmp_path / "b" / "k1.cubin").read_text() == "first half, second half"
    assert len(nvcc.read_text().splitlines()) == 2


DAMAGES = {
    "a byte": ("", lambda whole: whole[:-1] + b"x"),
    "cut": ("", lambda whole: whole[:-3]),
    "empty": ("", lambda whole: b""),
    "kept by another edgec": ("", lambda whole: whole.partition(b"\n")[2]),
    "text": (".txt", lambda whole: b"Used 2 registers"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cubin_in_the_cache_is_compiled_again(tmp_path: Path, nvcc: Path, damage: str) -> None:
    suffix, change = DAMAGES[damage]
    made = units(tmp_path / "src", "one")
    cuda_build.compile_units(tmp_path / "src", made, tmp_path / "a", 90)
    (kept,) = (p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix == suffix)
    kept.write_bytes(change(kept.read_bytes()))
    assert cuda_build.compile_units(tmp_path / "src", made, tmp_path / "b", 90) == 1
    assert (tmp_path / "b" / "k0.cubin").read_text() == "first half, second half"
    assert cuda_build.compile_units(tmp_path / "src", made, tmp_path / "c", 90) == 0
    assert (tmp_path / "c" / "k0.txt").read_text() == (tmp_path / "a" / "k0.txt").read_text()
    assert len(nvcc.read_text().splitlines()) == 2


def test_after_an_error_no_kernel_is_begun_and_no_part_of_one_stays(tmp_path: Path, nvcc: Path) -> None:
    made = units(tmp_path / "src", "wrong", *(f"{n}" for n in range(1000)))
    with pytest.raises(InternalError, match=r"nvcc does not compile k0\.cu:\nbroken"):
        cuda_build.compile_units(tmp_path / "src", made, tmp_path / "out", 90)
    assert len(nvcc.read_text().splitlines()) < 1000
    assert not list((tmp_path / "out").glob("*.tmp*"))
