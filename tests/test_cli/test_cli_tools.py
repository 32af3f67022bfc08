"""Tools that are not installed, and artifacts that are damaged or for another place."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from edgec.artifact import FORMAT
from tests.cli_command import Command

NO_MAKE = "EDGEC-EA02: install it: apt install make (Debian, Ubuntu): make is not on the PATH"


@pytest.fixture
def copy(edgec: Command, made: Path) -> Path:
    """An artifact of this test alone, without its builds."""
    shutil.copytree(made / "m0", edgec.here / "art", ignore=shutil.ignore_patterns("build"))
    return edgec.here / "art"


def path_with(here: Path, *tools: str) -> str:
    """A PATH on which only `tools` are found."""
    folder = here / "bin"
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return str(folder)


def test_without_tools_compile_writes_the_artifact_and_says_what_was_left_out(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    words = ("compile", "net.pt2", "--calib", "calib.npz", "--target", "cortex-m0", "-o", "out", "--json")
    answer = edgec.works(*words)
    assert f"not built for host: {NO_MAKE}\nnot built for qemu: {NO_MAKE}\n" in answer.err
    assert json.loads(answer.out)["checked"] == []
    edgec.works("report", "out")


def test_a_command_that_needs_make_ends_with_10(
    edgec: Command, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    edgec.refused(10, NO_MAKE, "run", "art", "--input", "calib.npz")
    monkeypatch.undo()
    os.chdir(edgec.here)
    edgec.works("run", "art", "--input", "calib.npz")


def test_a_missing_cross_compiler_is_told_with_its_packages(
    edgec: Command, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(edgec.here, "make"))
    text = (
        "EDGEC-EA02: install it: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi (Debian, Ubuntu): "
        "arm-none-eabi-gcc is not on the PATH"
    )
    edgec.refused(10, text, "bench", "art")


@pytest.mark.qemu
def test_a_missing_qemu_is_told_with_its_package(
    edgec: Command, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = ("make", "mkdir", "dirname", "sh", "arm-none-eabi-gcc", "arm-none-eabi-size", "gcc")
    monkeypatch.setenv("PATH", path_with(edgec.here, *(t for t in tools if shutil.which(t))))
    text = "EDGEC-EA01: install it: apt install qemu-system-arm (Debian, Ubuntu): qemu-system-arm is not on the PATH"
    edgec.refused(10, text, "run", "art", "--input", "calib.npz", "--on", "qemu")


def test_without_matplotlib_pictures_are_refused_with_what_to_install(
    edgec: Command, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = "EDGEC-EA04: run pip install 'edgec[report]': pictures need matplotlib, which is not installed"
    edgec.refused(10, text, "report", made / "host", "--png", "r.png")


def test_doctor_lists_what_is_missing_and_ends_with_10(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    answer = edgec("doctor", "--json")
    assert (answer.code, answer.err) == (
        10,
        "EDGEC-EA03: install what the list above says: gcc, make missing\n",
    )
    rows = {row["tool"]: row for row in json.loads(answer.out)}
    assert not rows["qemu-system-arm"]["found"]
    assert rows["gcc"]["cure"] == "apt-get install gcc (for the host target)"
    assert rows["numpy"]["found"]


def test_a_target_without_emulated_board_says_to_use_the_host(edgec: Command, made: Path) -> None:
    text = "EDGEC-E231: use --on host: target host has no emulated board"
    words = ("run", made / "host", "--input", "calib.npz", "--on")
    edgec.refused(2, text, *words, "qemu")
    edgec.refused(2, text, "bench", made / "host")
    edgec.works(*words, "host")
    edgec.works("bench", made / "host", "--on", "host")


@pytest.mark.parametrize("name", ["nothing", "folder.pt2", "net.pt2"])
@pytest.mark.parametrize("command", ["run", "bench", "report"])
def test_what_is_no_artifact_is_refused(edgec: Command, command: str, name: str) -> None:
    words = (command, name, *(("--input", "calib.npz") if command == "run" else ()))
    edgec.refused(
        3, f"EDGEC-E361: give a folder that `edgec compile -o` wrote: {name} has no manifest.json", *words
    )


def test_a_changed_or_missing_file_is_named_and_compiling_again_cures_it(edgec: Command, copy: Path) -> None:
    with open(copy / "src" / "model.c", "a") as file:
        file.write("/* mine */\n")
    text = "EDGEC-E364: compile the model again. Missing or changed since: art/src/model.c"
    edgec.refused(3, text, "report", "art")
    (copy / "golden" / "in.bin").unlink()
    text = "EDGEC-E364: compile the model again. Missing or changed since: art/golden/in.bin, art/src/model.c"
    edgec.refused(3, text, "report", "art")
    words = (
        "compile",
        "-q",
        "--no-build",
        "net.pt2",
        "--calib",
        "calib.npz",
        "--target",
        "cortex-m0",
        "-o",
        "art",
    )
    edgec.works(*words)
    edgec.works("report", "art")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            '{"format": 0, "files": {}}',
            f"EDGEC-E363: compile the model again: art has artifact format 0, this edgec reads {FORMAT}",
        ),
        (
            f'{{"format": {FORMAT}, "files": []}}',
            "EDGEC-E362: compile the model again: art/manifest.json is damaged (AttributeError(\"'list' object has no "
            "attribute 'items'\"))",
        ),
        (
            f'{{"format": {FORMAT}, "files": {{}}, "target": "host"}}',
            "EDGEC-E362: compile the model again: art/manifest.json is damaged (it lacks name, options, macs, arenas, "
            "constant_bytes, golden_steps, machine, entries, target.toml)",
        ),
        ("[]", "EDGEC-E362: compile the model again: art/manifest.json is damaged (it holds no object)"),
        (
            "{",
            "EDGEC-E362: compile the model again: art/manifest.json is damaged (JSONDecodeError('Expecting property "
            "name enclosed in double quotes: line 1 column 2 (char 1)'))",
        ),
    ],
)
def test_a_damaged_manifest_is_told(edgec: Command, copy: Path, content: str, text: str) -> None:
    (copy / "manifest.json").write_text(content)
    edgec.refused(3, text, "report", "art")
