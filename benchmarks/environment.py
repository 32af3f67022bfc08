"""What every result file says of where and when it was measured, and how it is written."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import edgec

RESULTS = Path(__file__).parent / "results"


def version_of(*command: str) -> str:
    """First line that a tool prints of its version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not here"
    return done.stdout.splitlines()[0]


def processor() -> str:
    """The CPU's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Hardware, versions and date of a run."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "edgec": edgec.__version__,
        "arm_gcc": version_of("arm-none-eabi-gcc", "--version"),
        "qemu": version_of("qemu-system-arm", "--version"),
    }


def write(name: str, rows: Any, **more: Any) -> Path:
    """Write `rows` to results/<name>.json with the description of this machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, **describe(), **more, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
