"""Armv7E-M kernels against the portable ones, both in one firmware on QEMU, on shapes drawn there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "runtime_c"
CFLAGS = [
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-pedantic",
    "-O2",
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfloat-abi=hard",
    "-mfpu=fpv4-sp-d16",
    "-ffunction-sections",
    "-fdata-sections",
]
FIRMWARE_SECONDS = 900


def firmware(folder: Path, source: str, defines: dict[str, str]) -> Path:
    """The ELF of one test source with the kernels, dead code dropped."""
    out = folder / f"{source}.elf"
    kernels = [*RUNTIME.glob("kernels/ec_*_s8.c"), *RUNTIME.glob("kernels/dsp/*.c")]
    sources = [ROOT / "tests/c" / f"{source}.c", ROOT / "tests/c/dsp_start.c", *sorted(kernels)]
    command = ["arm-none-eabi-gcc", *CFLAGS, *(f"-D{k}={v}" for k, v in defines.items())]
    command += [f"-I{RUNTIME / 'include'}", f"-I{ROOT / 'tests/c'}", *map(str, sources)]
    command += ["-nostartfiles", "-T", str(ROOT / "tests/c/dsp.ld"), "-Wl,--gc-sections", "-specs=nano.specs"]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def run(elf: Path) -> tuple[int, str]:
    """(exit code, text) of the firmware on the emulated Cortex-M4."""
    command = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FIRMWARE_SECONDS)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("count", "seed"),
    [(5_000, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)],
    ids=["5000 shapes", "100000 shapes"],
)
def test_dsp_equals_portable_on_drawn_shapes(tmp_path: Path, count: int, seed: int) -> None:
    elf = firmware(tmp_path, "dsp_conv", {"COUNT": str(count), "SEED": f"{seed}u", "KINDS": "3"})
    code, text = run(elf)
    assert code == 0, text
