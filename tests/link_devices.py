"""The one-layer network of tests/c/link as a device: in this process, as a program, on emulated boards."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgec import buildfiles
from edgec.link.host import LinkEnded
from edgec.runtime_c import ROOT as RUNTIME
from edgec.targets.load import load_target

SOURCES = Path(__file__).parent / "c" / "link"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-pedantic")
INCLUDES = tuple(
    f"-I{p}"
    for p in (RUNTIME / "include", RUNTIME / "link", RUNTIME / "ports" / "link", RUNTIME / "store", SOURCES)
)
COMMON = (
    RUNTIME / "link" / "ec_link.c",
    RUNTIME / "link" / "ec_link_frame.c",
    RUNTIME / "store" / "ec_crc32.c",
    RUNTIME / "ports" / "status.c",
    SOURCES / "link_model.c",
)
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MACHINES = {
    "mps2-an385": "cortex-m0",
    "mps2-an386": "cortex-m4",
    "mps2-an500": "cortex-m7",
    "mps2-an505": "cortex-m33",
    "mps3-an547": "cortex-m55",
}


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="edgec-link-tests-")


def built(name: str, sources: Sequence[Path], flags: Sequence[str], compiler: str = "gcc") -> Path:
    """What the sources make, under `name`."""
    out = Path(_folder().name) / name
    words = [compiler, *WARNINGS, "-O1", "-ffp-contract=off", *INCLUDES, *flags, *map(str, sources)]
    done = subprocess.run([*words, "-o", str(out), "-lm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@functools.cache
def fuzzer() -> Path:
    flags = (*SANITIZE, "-DFEATURES=4", "-DCLASSES=3")
    return built("link_fuzz", (*COMMON, SOURCES / "link_fuzz.c"), flags)


@functools.cache
def host_program() -> Path:
    sources = (*COMMON, SOURCES / "link_device.c", RUNTIME / "ports" / "link" / "stdio.c")
    return built("link_host", sources, SANITIZE)


@functools.cache
def firmware(machine: str) -> Path:
    """The same program for an emulated board."""
    target = load_target(MACHINES[machine])
    emulator = next(e for e in buildfiles.emulators(target) if e.machine == machine)
    script = Path(_folder().name) / f"{machine}.ld"
    script.write_text(buildfiles.link_script(target, emulator, ()))
    ports = [RUNTIME / "ports" / "qemu" / f"{n}.c" for n in ("semihost", "startup", "timer")]
    ports.append(RUNTIME / "ports" / "link" / "uart_cmsdk.c")
    flags = [*target.toolchain.cflags, *target.toolchain.ldflags, *buildfiles.port_defines(emulator)]
    flags += [f"-DEC_UART_BASE=0x{emulator.uart_base:08x}u", "-Wno-conversion", "-Wno-pedantic"]
    flags += ["-fno-math-errno", "-T", str(script)]
    return built(f"{machine}.elf", (*COMMON, SOURCES / "link_device.c", *ports), flags, target.toolchain.cc)


@functools.cache
def library() -> ctypes.CDLL:
    """The device of link_shared.c with 8 features and 3 classes."""
    flags = (
        "-fPIC",
        "-shared",
        "-DFEATURES=8",
        "-DCLASSES=3",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
    )
    made = ctypes.CDLL(str(built("link.so", (*COMMON, SOURCES / "link_shared.c"), flags)))
    made.link_device_new.restype = ctypes.c_void_p
    return made


SAMPLE_BYTES, LABEL_BYTES, WEIGHT_BYTES, PAYLOAD = 32, 4, 4 * (3 * 8 + 3 + 2), 160


class Device:
    """A device in this process: bytes in, bytes out."""

    def __init__(self, seed: int = 1, flags: int = 0) -> None:
        self.library = library()
        self._pointer = ctypes.c_void_p(self.library.link_device_new(seed, flags))
        self._room = ctypes.create_string_buffer(1 << 16)

    def __del__(self) -> None:
        self.library.link_device_free(self._pointer)

    def feed(self, data: bytes) -> bytes:
        """What the device sends while it takes `data`."""
        size = self.library.link_device_feed(self._pointer, data, len(data), self._room, len(self._room))
        return self._room.raw[:size]

    def cut_power(self, seed: int = 2) -> None:
        self.library.link_device_cut_power(self._pointer, seed)

    def kill_flash(self, dead: bool = True) -> None:
        self.library.link_device_kill_flash(self._pointer, int(dead))

    def state(self) -> tuple[int, int, int]:
        """CRC-32 of the weights, CRC-32 of those saved, calls of train_step."""
        names = ("weights", "saved", "calls")
        return tuple(  # type: ignore[return-value]
            getattr(self.library, f"link_device_{n}")(self._pointer) & 0xFFFFFFFF for n in names
        )


@dataclass
class Wire:
    """A transport to a Device in this process, which can be cut after so many bytes in each direction."""

    device: Device
    to_device: int = 1 << 30
    to_host: int = 1 << 30
    name: str = "/dev/board"
    cure: str = "check the cable of /dev/board, that it is powered, and that it speaks at 115200 baud"
    sent: bytearray = field(default_factory=bytearray)  # what the host wrote, all of it
    received: bytearray = field(default_factory=bytearray)  # what the device sent
    _waiting: bytearray = field(default_factory=bytearray)

    def read(self, timeout_s: float) -> bytes:
        data = bytes(self._waiting[: self.to_host])
        del self._waiting[:]
        self.to_host -= len(data)
        if not data and (self.to_host <= 0 or self.to_device <= 0):
            raise LinkEnded("device disconnected")
        return data

    def write(self, data: bytes) -> None:
        if self.to_device <= 0:
            raise LinkEnded("device disconnected")
        passed = data[: self.to_device]
        self.to_device -= len(passed)
        self.sent += data
        answer = self.device.feed(passed)
        self.received += answer
        self._waiting += answer

    def close(self) -> None:
        pass
