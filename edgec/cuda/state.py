"""What the GPU's driver and, on a Jetson, the system say of its clocks and power mode: figures mean little without.

Everything here is read, nothing is set.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

DEVFREQ: Final = Path("/sys/class/devfreq")
MEMORY_CLOCK: Final = Path("/sys/kernel/debug/bpmp/debug/clk/emc/rate")  # of a Jetson; root may read it
_QUERY: Final = (
    ("name", "name"),
    ("sm_mhz", "clocks.sm"),
    ("sm_max_mhz", "clocks.max.sm"),
    ("memory_mhz", "clocks.mem"),
    ("power_limit_w", "power.limit"),
    ("driver", "driver_version"),
)


def read(root: Path = Path("/")) -> dict[str, str]:
    """What is known, by name; a figure that cannot be read is absent."""
    return _tegra(root) if (root / "etc/nv_tegra_release").is_file() else _nvidia_smi()


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.stdout if done.returncode == 0 else ""


def _nvidia_smi() -> dict[str, str]:
    fields = ",".join(field for _, field in _QUERY)
    text = _output("nvidia-smi", "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    values = [v.strip() for v in text.strip().split(",")]
    if len(values) != len(_QUERY):
        return {}
    return {name: value for (name, _), value in zip(_QUERY, values, strict=True) if value}


def _tegra(root: Path) -> dict[str, str]:
    found = {"name": "Jetson"}
    release = re.search(
        r"R(\d+).*REVISION: ([\d.]+)", (root / "etc/nv_tegra_release").read_text(errors="replace")
    )
    if release:
        found["l4t"] = f"{release[1]}.{release[2]}"
    mode = re.search(r"NV Power Mode: *(.+)", _output("nvpmodel", "-q"))
    if mode:
        found["power_mode"] = mode[1].strip()
    for folder in sorted((root / DEVFREQ.relative_to("/")).glob("*gpu*")):
        for name, file in (("sm_mhz", "cur_freq"), ("sm_max_mhz", "max_freq")):
            found |= _megahertz(name, folder / file)
    return found | _megahertz("memory_mhz", root / MEMORY_CLOCK.relative_to("/"))


def _megahertz(name: str, path: Path) -> dict[str, str]:
    """A clock in Hz from a file of the kernel's; nothing where it cannot be read."""
    try:
        return {name: str(int(path.read_text()) // 1_000_000)}
    except (OSError, ValueError):
        return {}
