"""Where a training firmware answers: a program on this computer, an emulated board, a serial port.

Each is a link.Transport. Programs get argument lists, never a shell; they are ended by their own handle.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edgec.device import QEMU, require_tool
from edgec.errors import TargetError, UserError
from edgec.link.host import LinkEnded

BAUD: Final = 115_200
_READ_BYTES: Final = 65_536
_TAIL_LINES: Final = 4


class Program:
    """A program whose standard input and output are the link; what it writes to standard error goes into errors."""

    def __init__(
        self, command: Sequence[str], name: str, cure: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.cure = name, cure
        self._errors = tempfile.TemporaryFile(prefix="edgec-link-")  # noqa: SIM115, close() does
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=None if environment is None else {**os.environ, **environment},
            )
        except FileNotFoundError:
            self._errors.close()
            raise TargetError(
                "EDGEC-E803", f"build the artifact again: {command[0]} does not exist"
            ) from None

    def read(self, timeout_s: float) -> bytes:
        """See link.Transport."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, timeout_s))
        if not ready:
            return b""
        data = os.read(self._process.stdout.fileno(), _READ_BYTES)
        if not data:
            raise LinkEnded(self._why())
        return data

    def write(self, data: bytes) -> None:
        """See link.Transport."""
        assert self._process.stdin is not None
        left = memoryview(data)
        try:
            while left:
                left = left[self._process.stdin.write(left) :]
        except (BrokenPipeError, ValueError):
            raise LinkEnded(self._why()) from None

    def close(self) -> None:
        """End the program."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(0.2 if self.name.startswith("QEMU") else 2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _why(self) -> str:
        """How the program ended, and its last words."""
        try:
            code = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        words = "; ".join(line.strip() for line in lines[-_TAIL_LINES:])
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"
        return f"{how}: {words}" if words else how


def on_host(program: Path, flash: Path) -> Program:
    """The training program of an artifact, on this computer. `flash`: the file where it saves."""
    words = {"EDGEC_FLASH": str(flash)}
    return Program([str(program)], "the host program", "report this with the artifact", words)


def on_qemu(machine: str, firmware: Path) -> Program:
    """Firmware on an emulated board; its first UART is the link. Not under -icount: only benches count."""
    command = [
        require_tool(QEMU), "-M", machine, "-display", "none", "-monitor", "none", "-parallel", "none",
        "-chardev", "stdio,id=link,signal=off", "-serial", "chardev:link",
        "-semihosting-config", "enable=on,target=native,arg=firmware", "-kernel", str(firmware),
    ]  # fmt: skip
    return Program(command, f"QEMU's {machine}", "report this with the artifact")


class Port:
    """A serial port, by pyserial."""

    def __init__(self, path: str, baud: int = BAUD) -> None:
        self.name = path
        self.cure = f"check the cable of {path}, that it is powered, and that it speaks at {baud} baud"
        self._serial = _open(path, baud)

    def read(self, timeout_s: float) -> bytes:
        """See link.Transport."""
        end = time.monotonic() + timeout_s
        try:
            while True:
                self._serial.timeout = min(0.2, max(0.0, end - time.monotonic()))
                data: bytes = self._serial.read(max(1, self._serial.in_waiting))
                if data or time.monotonic() >= end:
                    return data
        except (OSError, TypeError) as error:  # pyserial's SerialException is an OSError
            raise LinkEnded(_reason(error)) from None

    def write(self, data: bytes) -> None:
        """See link.Transport."""
        try:
            self._serial.write(data)
            self._serial.flush()
        except (OSError, TypeError) as error:
            raise LinkEnded(_reason(error)) from None

    def close(self) -> None:
        """Let go of the port."""
        self._serial.close()


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or "the port is gone"


def _open(path: str, baud: int) -> Any:
    """The open port. Raises TargetError EA07 without pyserial, E82C where it cannot be opened."""
    try:
        import serial
    except ImportError:
        raise TargetError(
            "EDGEC-EA07",
            "run pip install 'edgec[device]': devices on serial ports need pyserial, which is not installed",
        ) from None
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=10, exclusive=True)
    except ValueError as error:
        raise UserError("EDGEC-E264", f"give a speed that the port has: {path}@{baud} ({error})") from None
    except OSError as error:
        text = str(error).lower()
        if error.errno == 2 or "no such file" in text or "cannot find" in text:
            cure = "plug the device in, or correct the name (ls /dev/ttyACM* /dev/ttyUSB*)"
        elif error.errno == 13 or "permission" in text or "access is denied" in text:
            cure = "add yourself to the port's group (sudo usermod -a -G dialout $USER) and log in again"
        elif error.errno in (11, 16) or "lock" in text or "busy" in text:
            cure = "close the other program that uses the port"
        else:
            cure = "check the port"
        raise TargetError("EDGEC-E82C", f"{cure}: {path} cannot be opened: {_reason(error)}") from None


def at_port(device: str) -> Port:
    """The port that `--on` names: PATH or PATH@BAUD. Raises UserError E264."""
    path, at, baud = device.rpartition("@")
    if not at:
        return Port(device)
    if not (baud.isdecimal() and baud.isascii() and int(baud) > 0):
        raise UserError("EDGEC-E264", f"give the speed as a number, as /dev/ttyACM0@115200: {device!r}")
    return Port(path, int(baud))
