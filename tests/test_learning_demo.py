"""`make learning` does what it says: the board learns 8 and 9 and keeps 0 to 7."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.example_networks import emulated

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "on_device_learning" / "digits.py"
SHARES = re.compile(r"^(8 and 9|0 to 7)\s+(\d+\.\d+) % -> (\d+\.\d+) %", re.MULTILINE)


def ran(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, tuple[float, float]]]:
    """(the finished demo, shares of held-out digits before and after)."""
    command = [sys.executable, str(DEMO), "--output", "learning", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 6), done.stderr
    assert "Warning" not in done.stderr
    return done, {name: (float(a), float(b)) for name, a, b in SHARES.findall(done.stdout)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, tuple[float, float]]]:
    """(folder, what it printed, shares) of the demo with 60 new digits, seen once."""
    folder = tmp_path_factory.mktemp("demo")
    done, shares = ran(folder, "--pretrain-epochs", "6", "--epochs", "1", "--new-samples", "60")
    return folder / "learning", done.stdout, shares


@emulated
@pytest.mark.qemu
def test_some_eights_and_nines_are_learnt_on_the_board_and_the_rest_is_kept(
    small: tuple[Path, str, dict[str, tuple[float, float]]],
) -> None:
    folder, printed, shares = small
    assert shares["8 and 9"][0] == 0.0
    assert shares["8 and 9"][1] > 60.0
    assert shares["0 to 7"][0] - shares["0 to 7"][1] < 8.0
    assert "on QEMU's mps2-an500" in printed
    assert "8,704 B: 128 old digits in the firmware's RAM, batches of 5" in printed
    assert re.search(r"^steps +300 training steps", printed, re.MULTILINE)
    for name in ("learning.png", "learning.svg", "curve.json", "digits/Makefile"):
        assert (folder / name).stat().st_size > 0, name


@emulated
@pytest.mark.qemu
def test_without_replay_the_old_digits_are_forgotten(
    small: tuple[Path, str, dict[str, tuple[float, float]]],
) -> None:
    """What the replay buffer is for: the same digits without it, on this computer."""
    words = ("finetune", "digits", "--data", "new.npz", "--test", "test.npz", "--epochs", "3", "--lr", "0.01")
    command = [sys.executable, "-m", "edgec", *words, "--factory", "--curve", "alone.json"]
    done = subprocess.run(command, cwd=small[0], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    curve = json.loads((small[0] / "alone.json").read_text())
    known = [share for digit, share in curve["epochs"][-1]["by_class"].items() if int(digit) < 8]
    assert sum(known) / len(known) < 0.8


@emulated
@pytest.mark.qemu
@pytest.mark.slow
def test_the_demo_learns_95_percent_of_eights_and_nines_and_loses_at_most_two_points(tmp_path: Path) -> None:
    done, shares = ran(tmp_path)
    assert done.returncode == 0, done.stdout
    assert shares["8 and 9"][0] == 0.0
    assert shares["8 and 9"][1] >= 95.0
    assert shares["0 to 7"][0] - shares["0 to 7"][1] <= 2.0
