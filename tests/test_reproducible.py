"""Same model, same bytes: in another process, with another hash seed, with another Python. And no Python to build."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.example_networks import artifact, calibration_inputs, compiled, transformed
from tests.stored_program import store

ROOT = Path(__file__).parent.parent
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
NETWORKS = ("digits", "mcunet_like", "audio_transformer")


def files_of(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def assert_same_bytes(one: Path, other: Path) -> None:
    assert files_of(one) == files_of(other)
    different = [str(p) for p in files_of(one) if not filecmp.cmp(one / p, other / p, shallow=False)]
    assert different == []


def compile_by_command(out: Path, hash_seed: str) -> None:
    """`edgec compile` of a network from its factory, in a process of its own."""
    words = (
        "compile - --model examples.models.mlperf_tiny:ds_cnn --target cortex-m4 --calib random --no-build"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "edgec", *words.split(), "-o", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    compile_by_command(tmp_path / "a", "1")
    compile_by_command(tmp_path / "b", "2")
    assert_same_bytes(tmp_path / "a", tmp_path / "b")


def other_pythons() -> list[str]:
    """Interpreters of another version than this one that have numpy; EDGEC_OTHER_PYTHON names one more."""
    found = []
    for name in (os.environ.get("EDGEC_OTHER_PYTHON", ""), *PYTHONS):
        path = shutil.which(name) if name else None
        if path is None:
            continue
        code = "import numpy, sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() != f"{sys.version_info[0]}.{sys.version_info[1]}":
            found.append(path)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_another_python_version_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no Python of another version has numpy: set EDGEC_OTHER_PYTHON to one that does")
    imported = transformed(name).done.trace.after[0][1]
    store(imported, calibration_inputs(name), tmp_path / "stored")
    for path, out in ((sys.executable, "this"), (others[0], "other")):
        script = str(ROOT / "tests" / "stored_program.py")
        command = [path, script, str(tmp_path / "stored"), "cortex-m4", str(tmp_path / out)]
        subprocess.run(command, check=True, capture_output=True)
    assert_same_bytes(tmp_path / "this", tmp_path / "other")


def test_artifact_builds_and_passes_its_golden_vectors_without_python(tmp_path: Path) -> None:
    artifact(tmp_path / "made", compiled("digits", "cortex-m4"))
    copy, tools = tmp_path / "somewhere else" / "copy", tmp_path / "tools"
    shutil.copytree(tmp_path / "made", copy)
    tools.mkdir()
    for tool in ("make", "gcc", "cc", "as", "ld", "ar", "sh", "mkdir", "rm", "cp", "cmp", "cat", "echo"):
        path = shutil.which(tool)
        assert path is not None, tool
        (tools / tool).symlink_to(path)
    done = subprocess.run(
        ["make", "check"], cwd=copy, env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
