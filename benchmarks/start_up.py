"""What a base installation of edgec costs: bytes on disk, files, and seconds to start.

    python benchmarks/start_up.py

Installs the project without extras (so without torch) into a fresh virtual environment, from the package index that
pip is set up with, and writes results/start_up.json. Sizes are of what pip put there, bytecode included; pip and
setuptools, which the environment begins with, are left out.
Fails with exit code 1 where a budget is exceeded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import environment
import numpy as np

ROOT = Path(__file__).parent.parent
STARTS = 9
MOST_SECONDS = 0.5
MOST_BYTES = 150 * 10**6
OF_THE_ENVIRONMENT = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils")


def install(folder: Path) -> Path:
    """A virtual environment in `folder` with the project in it; its bin folder."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--compile", ROOT], check=True)
    return folder / "bin"


def sizes(folder: Path) -> dict[str, int]:
    """Bytes by distribution below site-packages; what numpy and others bring beside their package is theirs."""
    (site,) = folder.glob("lib/python3*/site-packages")
    found: dict[str, int] = {}
    for path in site.rglob("*"):
        top = path.relative_to(site).parts[0].split("-")[0].split(".")[0]
        if path.is_file() and top not in OF_THE_ENVIRONMENT:
            found[top] = found.get(top, 0) + path.stat().st_size
    return found


def seconds(command: list[str], folder: Path) -> float:
    """Median seconds of a command in a process of its own, away from the checkout."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    taken = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run(command, cwd=folder, env=clean, check=True, capture_output=True)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        edgec = str(install(folder / "venv") / "edgec")
        by_package = sizes(folder / "venv")
        rows: list[dict[str, Any]] = [
            {
                "what": "edgec --version, s",
                "value": seconds([edgec, "--version"], folder),
                "limit": MOST_SECONDS,
            },
            {"what": "edgec targets, s", "value": seconds([edgec, "targets"], folder), "limit": None},
            {"what": "installed, bytes", "value": sum(by_package.values()), "limit": MOST_BYTES},
            *(
                {"what": f"of these {k}, bytes", "value": v, "limit": None}
                for k, v in sorted(by_package.items())
            ),
        ]
    for row in rows:
        print(
            f"{row['what']:<28} {row['value']:>14,.3f}" + (f"  of {row['limit']:,}" if row["limit"] else "")
        )
    print(f"wrote {environment.write('start_up', rows)}")
    return int(any(row["limit"] is not None and row["value"] > row["limit"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
