"""Results that cannot be written, and interruptions: the right code, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgec import artifact
from tests.cli_command import Command

ROOT = Path(__file__).parents[2]
COMPILE = ("compile", "-q", "--no-build", "net.pt2", "--calib", "calib.npz", "--target", "cortex-m0")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk on which no file can grow beyond `size` bytes: writing fails as on a full one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_neither_artifact_nor_parents_and_space_cures_it(edgec: Command) -> None:
    with files_of_at_most(3000):
        text = "EDGEC-EB02: free space or choose another place: HERE/new/out: File too large"
        edgec.refused(11, text, *COMPILE, "-o", "new/out")
    edgec.works(*COMPILE, "-o", "new/out")


def test_a_full_disk_keeps_the_artifact_that_stood_there(edgec: Command) -> None:
    edgec.works(*COMPILE, "-o", "out")
    with files_of_at_most(3000):
        text = "EDGEC-EB02: free space or choose another place: HERE/out: File too large"
        edgec.refused(11, text, *COMPILE, "-o", "out", "--name", "other")
    edgec.works("report", "out")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("report", "ART", "--html", "r.html"), "EDGEC-EB04"),
        (("report", "ART", "--png", "r.png"), "EDGEC-EB04"),
        (("run", "ART", "--input", "one.npz", "--output", "y.npz"), "EDGEC-EB08"),
    ],
)
def test_a_full_disk_leaves_no_result_of_other_commands(
    edgec: Command, made: Path, words: tuple[str, ...], code: str
) -> None:
    given = [str(made / "host") if w == "ART" else w for w in words]
    edgec.works("run", made / "host", "--input", "calib.npz")  # builds it before the disk is full
    (edgec.here / "matplotlib").mkdir()
    with files_of_at_most(200):
        text = f"{code}: free space or choose another place: HERE/{words[-1]}: File too large"
        edgec.refused(11, text, *given)
    edgec.works(*given)


def test_a_full_temporary_folder_is_told(edgec: Command, made: Path) -> None:
    edgec.works("run", made / "host", "--input", "calib.npz")
    with files_of_at_most(200):
        text = (
            "EDGEC-EB06: free space, or set TMPDIR to a folder that can be written: the run failed at the inputs: File "
            "too large"
        )
        edgec.refused(11, text, "run", made / "host", "--input", "calib.npz")


def test_an_output_folder_that_holds_something_else_is_kept(edgec: Command) -> None:
    (edgec.here / "out").mkdir()
    (edgec.here / "out" / "manifest.json").write_text(json.dumps({"name": "a web page"}))
    text = "EDGEC-EB01: choose another -o, or remove it first: HERE/out exists and is not an edgec artifact"
    edgec.refused(11, text.replace("HERE/out", "out"), *COMPILE, "-o", "out")
    edgec.works(*COMPILE, "-o", "other")


def test_an_output_that_is_a_file_is_kept(edgec: Command) -> None:
    (edgec.here / "out").write_text("precious")
    text = "EDGEC-EB01: choose another -o, or remove it first: out exists and is not an edgec artifact"
    edgec.refused(11, text, *COMPILE, "-o", "out")


def test_an_output_below_a_file_is_refused_before_the_model_is_read(edgec: Command) -> None:
    words = ("compile", "-q", "absent.pt2", "--target", "host", "-o", "text.pt2/out")
    text = "EDGEC-EB02: choose a place that can be written: text.pt2/out: HERE/text.pt2 is not a folder"
    edgec.refused(11, text, *words)


def test_an_output_whose_name_is_too_long_is_refused(edgec: Command) -> None:
    name = "x" * 300
    text = f"EDGEC-EB02: choose a place that can be written: {name}: File name too long"
    edgec.refused(11, text, *COMPILE, "-o", name)


def test_an_empty_output_folder_is_filled(edgec: Command) -> None:
    (edgec.here / "out").mkdir()
    edgec.works(*COMPILE, "-o", "out")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("report", "ART", "--html", "text.pt2/r.html"),
            "EDGEC-EB04: choose a place that can be written: HERE/text.pt2/r.html: Not a directory",
        ),
        (
            ("run", "ART", "--input", "calib.npz", "--output", "nowhere/y.npz"),
            "EDGEC-EB08: choose a place that can be written: HERE/nowhere/y.npz: No such file or directory",
        ),
        (
            (*COMPILE, "-o", "out", "--stages", "text.pt2/s"),
            "EDGEC-EB03: choose another folder for --stages: text.pt2/s cannot be written ([Errno 20] Not a "
            "directory: 'text.pt2/s')",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_named(
    edgec: Command, made: Path, words: tuple[str, ...], text: str
) -> None:
    edgec.refused(11, text, *[str(made / "host") if w == "ART" else w for w in words])


def run_edgec(here: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgec", *words]
    return subprocess.Popen(command, cwd=here, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("moment", ["import", "plan", "emit"])
def test_control_c_leaves_nothing_and_ends_with_130(edgec: Command, moment: str) -> None:
    before = edgec.tree()
    words = ("compile", "net.pt2", "--calib", "calib.npz", "--target", "cortex-m0", "-o", "out")
    with run_edgec(edgec.here, *words, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        seen = ""
        while moment != "import" and not seen.startswith(moment):
            seen = process.stderr.readline()
        process.send_signal(signal.SIGINT) if moment != "import" else _after_start(process)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.endswith("interrupted: nothing half-written is left\n")
    assert "Traceback" not in rest
    after = edgec.tree()
    whole = {
        k for k in after if k == "out" or k.startswith("out/")
    }  # a whole artifact may stand before it is built
    assert set(after) - whole == set(before)
    assert not whole or "out/manifest.json" in whole


def _after_start(process: subprocess.Popen[str]) -> None:
    """Interrupt while PyTorch is being imported: when its library has been mapped."""
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text(encoding="utf-8"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)


def test_an_interruption_between_two_files_leaves_nothing(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = artifact._write_file, iter(range(1000))

    def interrupted(path: Path, content: artifact.Content) -> None:
        if next(count) == 5:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(artifact, "_write_file", interrupted)
    edgec.refused(130, "interrupted: nothing half-written is left", *COMPILE, "-o", "new/out")


def test_a_reader_that_leaves_is_no_error(edgec: Command) -> None:
    with run_edgec(edgec.here, "ops", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_full_disk_behind_stdout_is_told(edgec: Command) -> None:
    with open("/dev/full", "w") as full, run_edgec(edgec.here, "targets", stdout=full) as process:
        assert process.stderr is not None
        text = process.stderr.read()
    assert process.returncode == 11
    assert text == "EDGEC-EB07: free space or choose another place: the result: No space left on device\n"
