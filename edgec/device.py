"""Builds an artifact and runs it: as a program on this computer, or as firmware on an emulated board (QEMU).

Inputs and outputs are raw bytes in the device's own layout (artifact.pack, artifact.unpack). Programs get
argument lists, never a shell; they run in a temporary folder that holds in.bin and receives out.bin and
stats.json, so that no path of the user's reaches the firmware.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edgec import log
from edgec.buildfiles import qemu_arguments, step_words
from edgec.errors import InternalError, TargetError, UserError
from edgec.plan import Target

Place = Literal["host", "qemu", "cuda"]
Steps = tuple[tuple[int, int], ...]  # (entry, samples), in order, on one instance

QEMU: Final = "qemu-system-arm"
# Debian and Ubuntu package of each tool.
PACKAGES: Final[Mapping[str, str]] = {
    "make": "make",
    "gcc": "gcc",
    "size": "binutils",
    "cmake": "cmake",
    QEMU: "qemu-system-arm",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "arm-none-eabi-addr2line": "binutils-arm-none-eabi",
}

_WRITE_FAILURES: Final = (
    "No space left on device",
    "Permission denied",
    "Read-only file system",
    "Not a directory",
    "File exists",
)
# Exit codes of ports/main.c (ec_port.h).
_EXIT_STATUS: Final = 64
_EXIT_FAULT: Final = 120
# CFSR bits, Arm DDI 0403E B3.2.15 and DDI 0553 D1.2.13 (STKOF).
_CFSR: Final = (
    (0, "instruction fetched from memory that may not be executed"),
    (1, "access to memory that may not be accessed"),
    (4, "no room on the stack to enter an exception"),
    (8, "bus error at an instruction fetch"),
    (9, "bus error at a data access"),
    (10, "imprecise bus error"),
    (12, "bus error while entering an exception"),
    (16, "undefined instruction"),
    (17, "invalid state: a jump to an even address"),
    (19, "floating-point instruction while the FPU is off"),
    (20, "stack overflow"),
    (24, "unaligned access"),
    (25, "division by zero"),
)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """`name` of the model; `machine`: the QEMU machine, "" for the host; `profile`: firmware with per-item
    hooks; `sanitize`: host program with sanitizers; `learn`: the training program (ports/train_main.c) with room for
    so many replayed samples, instead of the one that runs files."""

    name: str
    machine: str = ""
    profile: bool = False
    sanitize: bool = False
    learn: int | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A program that `run` can start."""

    place: Place
    program: Path
    machine: str


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`reset`: state returns to its initial content before every sample; else it lives on between samples.
    `fill`: byte that the arenas hold before init. `timeout_s`: of the whole run."""

    reset: bool = False
    fill: int = 0
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """`output`: raw outputs, sample after sample. `instructions`: one count a sample; empty on the host and
    `stack_bytes` None. `items`: instructions by item, summed over all samples, of a profile build."""

    output: bytes
    instructions: tuple[int, ...]
    stack_bytes: int | None
    items: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of an ELF file's sections. `arenas`: by memory. `stack`: reserved, not measured."""

    text: int
    rodata: int
    weights: int
    data: int
    bss: int
    stack: int
    arenas: Mapping[str, int]

    @property
    def flash_bytes(self) -> int:
        """What the image occupies in flash, initial values of variables included."""
        return self.text + self.rodata + self.weights + self.data

    @property
    def ram_bytes(self) -> int:
        """Static RAM: arenas, variables; not the stack."""
        return sum(self.arenas.values()) + self.data + self.bss


def require_tool(tool: str) -> str:
    """Absolute path of a tool. Raises TargetError EA01 (QEMU) or EA02 (compilers and build tools)."""
    path = shutil.which(tool)
    if path is None:
        package = PACKAGES.get(tool)
        cure = f"install it: apt install {package}" if package else "install it, or correct toolchain.cc"
        code = "EDGEC-EA01" if tool == QEMU else "EDGEC-EA02"
        raise TargetError(code, f"{cure} (Debian, Ubuntu): {tool} is not on the PATH")
    return path


def build(artifact: Path, target: Target, options: BuildOptions) -> Built:
    """Run make in the artifact for the host program, or for the firmware of `options.machine`.

    Raises TargetError: EA02 tool missing, E510 the image does not fit its memories. UserError EB05: results
    cannot be written. InternalError where the C does not compile.
    """
    make = require_tool("make")
    if options.machine:
        compiler = require_tool(target.toolchain.cc)
        goal, folder = "firmware", options.machine + ("-profile" if options.profile else "")
        variables = [f"CROSS_CC={compiler}", f"MACHINE={options.machine}", f"PROFILE={int(options.profile)}"]
        program = "firmware.elf"
    else:
        compiler = shutil.which("gcc") or shutil.which("cc") or require_tool("gcc")
        goal, folder = "host", "host-sanitize" if options.sanitize else "host"
        variables = [f"HOST_CC={compiler}", f"SANITIZE={int(options.sanitize)}"]
        program = options.name
    if options.learn is not None:
        goal = "learner-firmware" if options.machine else "learner"
        program = (
            f"learner-{options.learn}.elf" if options.machine else f"{options.name}-learner-{options.learn}"
        )
        variables.append(f"REPLAY={options.learn}")
    jobs = str(os.cpu_count() or 1)
    makefile = () if options.learn is None else ("-f", "learner.mk")
    command = [make, "-s", "-j", jobs, *makefile, goal, "BUILD=build", *variables]
    with log.waiting(f"building {goal}"):
        done = subprocess.run(
            command, cwd=artifact, capture_output=True, text=True, errors="replace", env=_environment()
        )
    if done.returncode != 0:
        raise _build_error(done.stdout + done.stderr, target, options)
    path = Path(os.path.abspath(artifact)) / "build" / folder / program
    return Built("qemu" if options.machine else "host", path, options.machine)


def _environment() -> dict[str, str]:
    """The user's environment with messages in English and without make's own variables."""
    drop = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    return {k: v for k, v in os.environ.items() if k not in drop} | {"LC_ALL": "C"}


def _build_error(text: str, target: Target, options: BuildOptions) -> TargetError | UserError | InternalError:
    over = re.findall(r"region `(\w+)' overflowed by (\d+) bytes", text)
    if over:
        regions = ", ".join(f"{name} by {size} bytes" for name, size in over)
        if options.learn:
            return TargetError(
                "EDGEC-E510",
                f"give a smaller --replay-samples: the firmware that learns with room for {options.learn} of them on "
                f"{options.machine} exceeds {regions} ({target.name}, --train-ram)",
            )
        return TargetError(
            "EDGEC-E510",
            f"compile with a smaller --ram or --flash, or a smaller model: the firmware for {target.name} on "
            f"{options.machine} exceeds {regions} (targets/machines.toml)",
        )
    for reason in _WRITE_FAILURES:
        if reason in text:
            return UserError(
                "EDGEC-EB05", f"free space or copy the artifact elsewhere: make could not write ({reason})"
            )
    return InternalError("the artifact does not build:\n" + _tail(text, 15))


def _tail(text: str, lines: int) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def run(built: Built, data: bytes, steps: Steps, options: RunOptions) -> RunResult:
    """Run `steps` on the raw inputs `data`.

    Raises TargetError: EA01 QEMU missing, E801 fault, E802 timeout, E803 unexpected end, E804 the model
    returned a status.
    """
    words = ("reset" if options.reset else "keep", str(options.fill), *step_words(steps))
    if built.place == "host":
        command = [str(built.program), *words]
    else:
        command = [require_tool(QEMU), *qemu_arguments(built.machine, words), "-kernel", str(built.program)]
    try:
        with tempfile.TemporaryDirectory(prefix="edgec-run-") as folder:
            (Path(folder) / "in.bin").write_bytes(data)
            done = _execute(command, folder, built, options.timeout_s)
            if done.returncode != 0:
                raise _run_error(built, done.returncode, done.stdout + done.stderr)
            return _result(Path(folder), built)
    except OSError as error:
        reason = f"{error.filename or 'the inputs'}: {error.strerror}"
        raise UserError(
            "EDGEC-EB06",
            f"free space, or set TMPDIR to a folder that can be written: the run failed at {reason}",
        ) from None


def _execute(
    command: list[str], folder: str, built: Built, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        with log.waiting(f"running {_where(built)}"):
            return subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                env=_environment(),
            )
    except FileNotFoundError:
        raise TargetError("EDGEC-E803", f"build the artifact again: {command[0]} does not exist") from None
    except subprocess.TimeoutExpired:
        raise TargetError(
            "EDGEC-E802", f"give more time or fewer samples: {_where(built)} ran longer than {timeout_s:g} s"
        ) from None


def _where(built: Built) -> str:
    return "the host program" if built.place == "host" else f"the firmware on QEMU's {built.machine}"


def _run_error(built: Built, code: int, text: str) -> TargetError:
    fault = re.search(r"^fault ((?:\w+=0x[0-9a-f]{8} ?)+)$", text, re.MULTILINE)
    if code == _EXIT_FAULT and fault is not None:
        registers = {k: int(v, 16) for k, v in (pair.split("=") for pair in fault[1].split())}
        return TargetError("EDGEC-E801", f"{_fault_text(built, registers)}")
    if _EXIT_STATUS <= code < _EXIT_FAULT:
        status = code - _EXIT_STATUS
        return TargetError(
            "EDGEC-E804", f"check the inputs: {_where(built)} returned status {status} ({_tail(text, 1)})"
        )
    if "unsupported machine type" in text:
        return TargetError(
            "EDGEC-EA01", f"install QEMU 7.2 or later: this {QEMU} has no machine {built.machine}"
        )
    if code < 0:
        return TargetError(
            "EDGEC-E803",
            f"report this with the artifact: {_where(built)} was ended by signal {-code}\n{_tail(text, 8)}",
        )
    return TargetError("EDGEC-E803", f"{_where(built)} ended with exit code {code}\n{_tail(text, 8)}")


def _fault_text(built: Built, registers: Mapping[str, int]) -> str:
    """What the processor says of a fault, in words."""
    cfsr = registers.get("cfsr", 0)
    causes = [words for bit, words in _CFSR if cfsr >> bit & 1]
    if registers["sp"] <= registers["stack"] and "stack overflow" not in causes:
        causes.insert(0, "stack overflow")
    address = ""
    if cfsr >> 7 & 1:
        address = f" at address 0x{registers['mmfar']:08x}"
    elif cfsr >> 15 & 1:
        address = f" at address 0x{registers['bfar']:08x}"
    cause = (
        ", ".join(causes)
        or "HardFault (Armv6-M does not tell the cause; an unaligned access is the usual one)"
    )
    place = f"pc 0x{registers['pc']:08x}{_source_line(built, registers['pc'])}"
    cure = (
        "raise reserve_ram of the target"
        if causes[:1] == ["stack overflow"]
        else "report this with the artifact"
    )
    return f"{cure}: {_where(built)} took a fault: {cause}{address}; {place}, sp 0x{registers['sp']:08x}"


def _source_line(built: Built, pc: int) -> str:
    tool = shutil.which("arm-none-eabi-addr2line")
    if tool is None or pc == 0:
        return ""
    command = [tool, "-f", "-s", "-e", str(built.program), f"0x{pc:x}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_environment())
    lines = done.stdout.split("\n")
    return "" if done.returncode != 0 or lines[0] in ("", "??") else f" in {lines[0]} ({lines[1]})"


def _result(folder: Path, built: Built) -> RunResult:
    try:
        stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        instructions = tuple(int(n) for n in stats["instructions"])
        stack = None if stats["stack_bytes"] is None else int(stats["stack_bytes"])
        output = (folder / "out.bin").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError("EDGEC-E803", f"{_where(built)} ended without results ({error})") from None
    items: dict[int, int] = {}
    if (folder / "profile.bin").is_file():
        for item, count in struct.iter_unpack("<IQ", (folder / "profile.bin").read_bytes()):
            items[item] = items.get(item, 0) + count
    return RunResult(output, instructions, stack, items)


def sizes(built: Built) -> Sizes:
    """Section sizes of the program, by binutils' size. On the host the arenas are part of `bss`."""
    tool = require_tool("size" if built.place == "host" else "arm-none-eabi-size")
    command = [tool, "-A", "-d", str(built.program)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_environment())
    if done.returncode != 0:
        raise TargetError(
            "EDGEC-E803", f"build the artifact again: {built.program} is not a program\n{done.stderr}"
        )
    sections = {m[1]: int(m[2]) for m in re.finditer(r"^(\.\S+)\s+(\d+)\s+\d+$", done.stdout, re.MULTILINE)}

    def total(*names: str) -> int:
        return sum(sections.get(n, 0) for n in names)

    prefix = ".arena."
    return Sizes(
        text=total(".vectors", ".text", ".ARM.extab", ".ARM.exidx"),
        rodata=total(".rodata"),
        weights=total(".weights"),
        data=total(".data"),
        bss=total(".bss"),
        stack=total(".stack"),
        arenas={n.removeprefix(prefix): size for n, size in sections.items() if n.startswith(prefix)},
    )
