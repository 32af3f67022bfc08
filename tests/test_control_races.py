"""The slots between the control thread and the inference thread: a model of all interleavings, real exchanges with
checksums, ThreadSanitizer, ASan and UBSan."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from control_programs import (
    MEMORY_SANITIZER,
    PLAIN,
    THREAD_SANITIZER,
    build,
    needs_aarch64,
    run,
    run_aarch64,
    values,
)

MODEL = Path(__file__).parent / "models" / "slot.pml"
EXCHANGE = ("control_exchange.c",)
THREADS = ("control_threads.c", "control_robot.c")

needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None,
    reason="LEFT OUT, the model of the slots is not checked: spin is not installed",
)


def check_model(folder: Path, *defines: str) -> str:
    """What the checker says of the model."""
    generate = ["spin", *(f"-D{define}" for define in defines), "-a", str(MODEL)]
    compile_it = ["gcc", "-w", "-O2", "-DSAFETY", "-o", "pan", "pan.c"]
    for command in (generate, compile_it):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["./pan", "-m100000"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout


@needs_spin
@pytest.mark.parametrize("defines", [(), ("WOKEN",)])
def test_no_interleaving_races_or_mixes(tmp_path: Path, defines: tuple[str, ...]) -> None:
    found = check_model(tmp_path, *defines)
    assert "errors: 0" in found
    assert "truncated" not in found and "max search depth too small" not in found
    states = re.search(r"(\d+) states, stored", found)
    assert states is not None and int(states[1]) > 10_000
    assert found.count("(0 of ") == 3, found  # nothing of the three processes is unreached


@needs_spin
@pytest.mark.parametrize(
    ("define", "assertion"),
    [
        ("WRITER_NO_RELEASE", "r_of_w>=written_at"),
        ("READER_NO_ACQUIRE", "r_of_w>=written_at"),
        ("READER_NO_RELEASE", "w_of_r>=read_at"),
        ("WRITER_NO_ACQUIRE", "w_of_r>=read_at"),
        ("TORN", "r_of_w>=written_at"),
        ("TWO_SLOTS", "w_of_r>=read_at"),
    ],
)
def test_the_model_misses_none_of_its_orders(tmp_path: Path, define: str, assertion: str) -> None:
    found = check_model(tmp_path, define)
    assert "errors: 1" in found
    assert f"assertion violated ({assertion}" in found


def exchanged(flags: tuple[str, ...], count: int) -> None:
    done = run(build(EXCHANGE, flags), count)
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(done.stdout)
    assert found["wrong"] == 0
    assert found["taken"] >= count
    assert found["taken"] + found["lost"] == found["published"]


def test_a_million_exchanges_keep_their_checksums() -> None:
    exchanged(PLAIN, 1_000_000)


@pytest.mark.slow
def test_ten_million_exchanges_keep_their_checksums() -> None:
    exchanged(PLAIN, 10_000_000)


@needs_aarch64
def test_exchanges_on_an_aarch64_processor_keep_their_checksums() -> None:
    """Its instructions, in the memory order of the processor below."""
    done = run_aarch64(EXCHANGE, 20_000)
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(done.stdout)
    assert found["wrong"] == 0 and found["taken"] >= 20_000


@pytest.mark.parametrize("flags", [THREAD_SANITIZER, MEMORY_SANITIZER], ids=["thread", "memory"])
def test_sanitizers_find_nothing_in_the_slots(flags: tuple[str, ...]) -> None:
    exchanged(flags, 20_000)


@pytest.mark.parametrize("flags", [THREAD_SANITIZER, MEMORY_SANITIZER], ids=["thread", "memory"])
@pytest.mark.parametrize(
    "scenario", ["works", "hangs", "exits", "fails", "statistics", "mailbox", "mailbox_old"]
)
def test_sanitizers_find_nothing_in_the_threads(flags: tuple[str, ...], scenario: str) -> None:
    done = run(build(THREADS, flags), scenario, 100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert values(done.stdout)["wrong"] == 0
