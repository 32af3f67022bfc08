"""doctor: which tools are here, in which version, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import asdict, dataclass
from typing import Any, Final

from edgec.cuda import build as cuda_build


@dataclass(frozen=True, slots=True)
class Finding:
    """One tool. `required`: without it no target can be built; the others are needed for some work only."""

    tool: str
    found: bool
    version: str
    needed_for: str
    cure: str
    required: bool

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


# (program, arguments that print a version, what for, cure, required)
_PROGRAMS: Final = (
    ("gcc", "--version", "the host target", "apt-get install gcc", True),
    ("make", "--version", "building artifacts", "apt-get install make", True),
    (
        "arm-none-eabi-gcc",
        "--version",
        "Cortex-M targets",
        "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
        False,
    ),
    (
        "qemu-system-arm",
        "--version",
        "running Cortex-M artifacts without a board",
        "apt-get install qemu-system-arm",
        False,
    ),
    ("nvcc", "--version", "GPU targets", cuda_build.NVCC_CURE, False),
    (
        "aarch64-linux-gnu-gcc",
        "--version",
        "Jetson targets on another computer",
        "apt-get install gcc-aarch64-linux-gnu",
        False,
    ),
    ("cmake", "--version", "using an artifact's CMakeLists.txt", "apt-get install cmake", False),
)
_PACKAGES: Final = (
    ("numpy", "everything", "pip install numpy", True),
    ("torch", "importing PyTorch models", "pip install 'edgec[torch]'", False),
    ("transformers", "language models", "pip install 'edgec[lm]'", False),
    ("ml_dtypes", "bf16", "pip install 'edgec[bf16]'", False),
    ("matplotlib", "report pictures", "pip install 'edgec[report]'", False),
    ("tqdm", "progress bars", "pip install 'edgec[progress]'", False),
    ("pyserial", "fine-tuning behind a serial port", "pip install 'edgec[device]'", False),
)


def examine() -> tuple[Finding, ...]:
    """Every tool that edgec can use."""
    python = Finding("python", True, platform.python_version(), "everything", "", True)
    return (python, *(_program(*row) for row in _PROGRAMS), *(_package(*row) for row in _PACKAGES))


def _program(name: str, flag: str, needed_for: str, cure: str, required: bool) -> Finding:
    path = cuda_build.find(name)
    version = ""
    if path is not None:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=30, check=False)
        # nvcc's first line names no version
        told = [line for line in done.stdout.splitlines() if name != "nvcc" or "release" in line]
        version = told[0] if told else path
    return Finding(name, path is not None, version, needed_for, f"{cure} (for {needed_for})", required)


def _package(name: str, needed_for: str, cure: str, required: bool) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "", needed_for, f"{cure} (for {needed_for})", required)
    return Finding(name, True, version, needed_for, cure, required)
