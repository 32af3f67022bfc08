"""The link to real programs: on this computer, on emulated boards, behind a serial port (a pseudo-terminal here)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError, Exit, TargetError
from edgec.link import places as link_places
from edgec.link.host import Link, Patience, Transport
from tests import link_devices
from tests.link_devices import MACHINES

FEATURES = 64


def sample(seed: int) -> bytes:
    return np.random.default_rng(seed).normal(size=FEATURES).astype("<f4").tobytes()


def label(number: int) -> bytes:
    return number.to_bytes(4, "little")


def on_host() -> Transport:
    return link_places.on_host(link_devices.host_program(), Path(os.devnull))


def learnt(transport: Transport, steps: int) -> tuple[bytes, list[float]]:
    """Weights and losses after some steps, one on a replayed sample each."""
    with closing(transport):
        link = Link(transport)
        link.set_rate(0.01)
        link.keep(0, sample(99), label(9))
        link.set_replay(1)
        losses = [link.train(sample(i), label(i % 10)).loss for i in range(steps)]
        return link.pull(), losses


@pytest.mark.qemu
@pytest.mark.parametrize("machine", MACHINES)
def test_an_emulated_board_learns_what_the_host_learns_bit_for_bit(machine: str) -> None:
    board = link_places.on_qemu(machine, link_devices.firmware(machine))
    assert learnt(board, 20) == learnt(on_host(), 20)


def test_a_program_that_dies_is_told_with_its_last_words() -> None:
    words = "import sys; sys.stdin.buffer.read(1); print('fault pc=0x1', file=sys.stderr); sys.exit(3)"
    with closing(
        link_places.Program([sys.executable, "-c", words], "the host program", "report this")
    ) as program:
        with pytest.raises(TargetError) as error:
            Link(program).hello()
        assert str(error.value) == (
            "EDGEC-E821: report this, then run the command again: the link to the host program ended at hello (it "
            "ended with exit code 3: fault pc=0x1); its weights are as they were"
        )


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as error:
        link_places.on_host(tmp_path / "none", tmp_path / "flash")
    assert str(error.value) == f"EDGEC-E803: build the artifact again: {tmp_path}/none does not exist"


def test_a_program_that_is_killed_while_it_learns() -> None:
    transport = on_host()
    assert isinstance(transport, link_places.Program)
    with closing(transport):
        link = Link(transport)
        link.train(sample(0), label(0))
        transport._process.kill()
        transport._process.wait()
        with pytest.raises(TargetError) as error:
            link.train(sample(1), label(1))
        assert error.value.code == "EDGEC-E821"
        assert "ended at train (it was ended by signal 9); its last answer told of training step" in str(
            error.value
        )


@contextmanager
def plugged() -> Iterator[tuple[str, int, subprocess.Popen[bytes]]]:
    """A device behind a pseudo-terminal: the port's path, its own end, the program."""
    own, port = pty.openpty()
    tty.setraw(port, termios.TCSANOW)
    program = subprocess.Popen([link_devices.host_program()], stdin=own, stdout=own)
    try:
        yield os.ttyname(port), own, program
    finally:
        program.kill()
        program.wait()
        for end in (own, port):
            with suppress(OSError):
                os.close(end)


def test_a_device_behind_a_serial_port_learns_what_the_host_learns() -> None:
    with plugged() as (path, _, _):
        assert learnt(link_places.at_port(f"{path}@921600"), 30) == learnt(on_host(), 30)


def test_a_device_that_is_unplugged_while_it_learns() -> None:
    with plugged() as (path, own, program):
        port = link_places.at_port(path)
        with closing(port):
            link = Link(port, Patience(0.2, 0.2, 2))
            link.train(sample(0), label(0))
            program.kill()
            program.wait()
            os.close(own)
            with pytest.raises(TargetError) as error:
                link.train(sample(1), label(1))
            assert error.value.exit_code == Exit.DEVICE
            assert error.value.message.startswith(
                f"check the cable of {path}, that it is powered, and that it speaks at 115200 baud"
            )
            assert (
                "its last answer told of training step 1; weights saved before are safe"
                in error.value.message
            )


def refused(device: str) -> str:
    with pytest.raises(EdgecError) as error:
        link_places.at_port(device)
    return str(error.value)


def test_ports_that_cannot_be_opened(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "ttyACM7")) == (
        "EDGEC-E82C: plug the device in, or correct the name (ls /dev/ttyACM* /dev/ttyUSB*): "
        f"{tmp_path}/ttyACM7 cannot be opened: No such file or directory"
    )
    with plugged() as (path, _, _), closing(link_places.at_port(path)):
        assert refused(path).startswith(
            f"EDGEC-E82C: close the other program that uses the port: {path} cannot"
        )


def test_speeds_that_are_none() -> None:
    assert refused("/dev/ttyACM0@fast") == (
        "EDGEC-E264: give the speed as a number, as /dev/ttyACM0@115200: '/dev/ttyACM0@fast'"
    )


def test_without_pyserial_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    assert refused("/dev/ttyACM0") == (
        "EDGEC-EA07: run pip install 'edgec[device]': devices on serial ports need pyserial, which is not installed"
    )
