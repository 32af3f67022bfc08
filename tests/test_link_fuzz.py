"""Damaged frames by the million: tests/c/link/link_fuzz.c under sanitizers, which holds what its head comment says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import link_devices
from tests.link_devices import COMMON, SANITIZE, SOURCES


def fuzz(program: Path, frames: int, seed: int) -> dict[str, int]:
    done = subprocess.run([program, str(frames), str(seed)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: int(n) for name, n in (word.split("=") for word in done.stdout.split())}


def test_a_million_damaged_frames_leave_the_device_whole() -> None:
    counts = fuzz(link_devices.fuzzer(), 1_000_000, 1)
    assert counts["fed"] >= 1_000_000
    # of every kind of event many, or the fuzzing would not reach what it is to test
    for event in ("dropped", "answered", "repeated", "steps", "commits", "refusals", "revivals", "resets"):
        assert counts[event] > 5_000, counts


@pytest.mark.slow
def test_ten_million_damaged_frames_leave_the_device_whole() -> None:
    assert fuzz(link_devices.fuzzer(), 10_000_000, 2)["fed"] >= 10_000_000


MISTAKES = {
    "a damaged frame is taken": ("frame->crc != ec_crc32(0, at, in->used - 4u)", "0"),
    "a wrong length is believed": ("frame->length != in->used - EC_LINK_FRAME_BYTES", "0"),
    "a frame runs over the buffer": ("in->used == in->capacity", "in->used == in->capacity + 9u"),
    "the receiver stays out of step": ("    in->lost = 0;\n", ""),
    "a repetition is not answered": (
        "request->sequence == link->sequence && request->crc == link->request_crc) {\n        link->repeated++;",
        "0) {\n        link->repeated++;",
    ),
    "any sequence is taken": ("request->sequence != link->sequence + 1u", "0"),
    "damaged weights are used": ("link->staged_crc != link->expected_crc", "0"),
    "a repetition trains again": (
        "        link->repeated++;\n        ec_link_emit",
        "        run(link, request, &to);\n        ec_link_emit",
    ),
    "the replay buffer overflows": ("slot >= link->replay_capacity || ", ""),
    "weights that are on their way go on in a new session": (
        "    drop_staged(link);\n    link->input_bytes = 0;\n    link->has_output = 0;\n    link->replay_steps",
        "    link->replay_steps",
    ),
    "a label is not looked at": ("ec_link_get32(label + at) >= classes", "0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_fuzzing_finds(mistake: str, tmp_path: Path) -> None:
    """Each of these mistakes, put into the sources, is found within 200,000 frames."""
    old, new = MISTAKES[mistake]
    sources, changed = [], 0
    for source in COMMON:
        text = source.read_text(encoding="utf-8")
        if source.name.startswith("ec_link"):
            changed += text.count(old)
            text = text.replace(old, new)
        (tmp_path / source.name).write_text(text, encoding="utf-8")
        sources.append(tmp_path / source.name)
    assert changed == 1
    flags = (*SANITIZE, "-DFEATURES=4", "-DCLASSES=3", "-Wno-error", "-w")
    program = link_devices.built(f"fuzz-{mistake[:24]}", (*sources, SOURCES / "link_fuzz.c"), flags)
    done = subprocess.run([program, "200000", "3"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
