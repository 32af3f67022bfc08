"""`make demo` does what it says: within its time, on the emulated board, with the accuracy it promises."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.example_networks import emulated

ROOT = Path(__file__).parent.parent


@emulated
@pytest.mark.qemu
def test_demo_runs_the_digits_on_the_board_in_two_minutes(tmp_path: Path) -> None:
    begin = time.monotonic()
    command = [sys.executable, str(ROOT / "examples" / "digits_demo.py"), "--output", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 120
    points = [float(p) for p in re.findall(r"accuracy\s+(\d+\.\d+) %", done.stdout)]
    assert len(points) == 2 and min(points) >= 97
    assert "QEMU mps2-an386" in done.stdout
    assert "Warning" not in done.stderr
    for made in ("digits/Makefile", "digits/src/model.c", "report.html", "memory.png"):
        assert (tmp_path / "demo" / made).is_file(), made
