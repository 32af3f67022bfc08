"""MCUNet learns the shapes over the link on the emulated board: after any number of steps its states are the host's."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import mcunet
import numpy as np
import pytest
import shapes

from edgec.artifact import Artifact
from edgec.ir import Program
from edgec.link.host import Link
from edgec.training import firmware
from tests.example_networks import emulated

pytestmark = [emulated, mcunet.needed, pytest.mark.qemu]

COMPARED = 20  # the states are read after so many steps each


@dataclass(frozen=True)
class Boards:
    """A session with the program on this computer and one with the board, of the same artifact."""

    host: Link
    board: Link
    state_bytes: int

    def states(self) -> tuple[bytes, bytes]:
        """All that either has learnt, the step counter and the rate with it."""
        return self.host.pull(), self.board.pull()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Program]:
    return mcunet.learning_artifact("99", tmp_path_factory.mktemp("board") / "mcunet")


@pytest.fixture
def boards(built: tuple[Artifact, Program]) -> Iterator[Boards]:
    made, program = built
    (made.folder / "build" / "host" / "edgec.flash").unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(contextlib.closing(firmware.opened(made, on, 0))) for on in ("host", "qemu")
        ]
        host, board = (Link(transport) for transport in opened)
        assert host.hello().layout_hash == board.hello().layout_hash
        yield Boards(host, board, sum(s.type.bytes for s in program.state.values()))


def learn_alike(boards: Boards, steps: int) -> None:
    """`steps` training steps on both. Losses are equal at each of them, the states now and then and at the end."""
    factory, other = boards.states()
    assert factory == other and len(factory) >= boards.state_bytes
    images, labels = shapes.dataset(steps, 7)
    seen = {factory}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        sample, answer = image.tobytes(), struct.pack("<i", label)
        told = boards.host.train(sample, answer)
        assert told == boards.board.train(sample, answer), f"step {index}"
        assert told.steps == index + 1 and np.isfinite(told.loss)
        if (index + 1) % COMPARED == 0 or index + 1 == steps:
            mine, theirs = boards.states()
            assert mine == theirs, f"after step {index + 1}"
            assert mine not in seen  # every stretch of steps has moved something
            seen.add(mine)


def test_states_of_the_board_are_the_hosts_after_5_steps(boards: Boards) -> None:
    learn_alike(boards, 5)


@pytest.mark.slow
def test_states_of_the_board_are_the_hosts_after_200_steps(boards: Boards) -> None:
    learn_alike(boards, 200)


def test_one_other_bit_of_a_state_is_seen(boards: Boards) -> None:
    """What the comparison is worth: a board that begins with one weight a step away ends elsewhere."""
    weights = bytearray(boards.board.pull())
    weights[len(weights) // 2] ^= 1
    device = boards.board.device
    boards.board.push(bytes(weights), device.graph_hash, device.layout_hash)
    image, label = (a[0] for a in shapes.dataset(10, 7))
    for link in (boards.host, boards.board):
        link.train(image.tobytes(), struct.pack("<i", label))
    mine, theirs = boards.states()
    assert mine != theirs
