"""The host's side of the link to a training firmware: requests, repetitions, and errors that say what to do.

with places.opened("/dev/ttyACM0") as transport:
    link = Link(transport)
    print(link.hello().name)
    step = link.train(sample, label)

Every request carries a sequence number and is repeated until it is answered; the device answers a repetition from
memory, so a training step is never applied twice. Frames and numbers: edgec/link/frame.py, docs/protocol.md.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Any, Final, Protocol

from edgec.errors import TargetError, UserError
from edgec.link import errors as link_errors
from edgec.link.errors import Situation
from edgec.link.frame import ANSWER, HASH_BYTES, VERSION, Decoder, Frame, Request, Status, encode

_HELLO: Final = struct.Struct(f"<HHII{HASH_BYTES}s{HASH_BYTES}sIIIIIIII")
_STATS: Final = struct.Struct("<IIfIIIIII")
_STEP, _SCORE, _COUNT = struct.Struct("<fiIf"), struct.Struct("<fi"), struct.Struct("<I")
LEAST_PAYLOAD: Final = 128  # of a frame: EC_LINK_PAYLOAD_MIN
CAN_SAVE, CAN_RECEIVE, CAN_EVALUATE = 1, 2, 4
# Requests that the device answers at once; the others compute or write flash.
_QUICK: Final = frozenset(
    {Request.HELLO, Request.INPUT, Request.OUTPUT, Request.RATE, Request.WEIGHTS_READ, Request.REPLAY_STEPS}
)


class LinkEnded(Exception):
    """The transport gives no more bytes; the text says what it knows of the reason."""


class Transport(Protocol):
    """A stream of bytes to a device. `name` is what errors call it; `cure`: what to do where it is silent or gone."""

    name: str
    cure: str

    def read(self, timeout_s: float) -> bytes:
        """What has arrived, b"" after `timeout_s` without any. Raises LinkEnded."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises LinkEnded."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds until a request is sent again, for those answered at once and for those that compute; `tries`: how
    often it is sent in all."""

    quick_s: float = 2.0
    work_s: float = 60.0
    tries: int = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """What a device says of itself. Sizes in bytes; `classes` is 0 where labels are no classes; `replay`: samples
    that its replay buffer holds."""

    version: int
    payload: int
    session: int
    nonce: int
    graph_hash: bytes
    layout_hash: bytes
    input_bytes: int
    label_bytes: int
    output_bytes: int
    weight_bytes: int
    classes: int
    flags: int
    steps: int
    replay: int
    name: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of a device. `crc`: of its weights; `frames` arrived whole, `damaged` not; `repeated` answers."""

    steps: int
    crc: int
    rate: float
    frames: int
    damaged: int
    repeated: int
    refused: int
    replay_kept: int
    replay_steps: int


@dataclass(frozen=True, slots=True)
class Step:
    """A training step: loss and whether the largest output was the label's, both before it; steps so far; mean loss
    of the replayed samples, 0 where there are none."""

    loss: float
    correct: int
    steps: int
    replay_loss: float


class Link:
    """A session with one device. Raises TargetError E821 to E82B; none of them leaves the device half changed."""

    def __init__(
        self, transport: Transport, patience: Patience | None = None, nonce: int | None = None
    ) -> None:
        self.transport = transport
        self.patience = patience or Patience()
        self.steps: int | None = None  # training steps of the device, as last told
        self._decoder = Decoder()
        self._waiting: list[Frame] = []
        self._session = 0
        self._sequence = 0
        self._payload = 0
        self._nonce = int.from_bytes(os.urandom(4), "little") if nonce is None else nonce
        self._device: Hello | None = None

    @property
    def device(self) -> Hello:
        """What the device said; asks it where it has not been asked."""
        return self._device or self.hello()

    def hello(self) -> Hello:
        """Begin a session. Whatever an earlier one left half sent is forgotten by the device."""
        self._session, self._device = 0, None
        self._nonce = (self._nonce + 1) & 0xFFFFFFFF
        payload = self.request(Request.HELLO, struct.pack("<HI", VERSION, self._nonce))
        name = payload[_HELLO.size :].decode("utf-8", "replace")
        told = Hello(*(*self._unpacked(Request.HELLO, _HELLO, payload[: _HELLO.size]), name))
        if told.payload < LEAST_PAYLOAD:
            raise link_errors.strange(self._situation(Request.HELLO), f"frames of {told.payload} bytes")
        self._session, self._payload = told.session, told.payload
        self._device, self.steps = told, told.steps
        return told

    def stats(self) -> Stats:
        """Counters, learning rate and the CRC-32 of the weights."""
        stats = Stats(*self._asked(Request.STATS, _STATS))
        self.steps = stats.steps
        return stats

    def set_rate(self, rate: float) -> None:
        """Set the learning rate."""
        self.request(Request.RATE, struct.pack("<f", rate))

    def infer(self, sample: bytes) -> bytes:
        """The outputs of one sample, raw."""
        self.request(Request.INFER, self._all_but_the_tail(Request.INFER, sample, 0))
        size = self.device.output_bytes
        parts = []
        for at in range(0, size, self._payload):
            parts.append(self.request(Request.OUTPUT, struct.pack("<IH", at, min(self._payload, size - at))))
        return b"".join(parts)

    def train(self, sample: bytes, label: bytes) -> Step:
        """One training step."""
        tail = self._all_but_the_tail(Request.TRAIN, sample, len(label))
        step = Step(*self._asked(Request.TRAIN, _STEP, label + tail))
        self.steps = step.steps
        return step

    def evaluate(self, sample: bytes, label: bytes) -> tuple[float, int]:
        """(loss, correct) of one sample; nothing changes."""
        tail = self._all_but_the_tail(Request.EVALUATE, sample, len(label))
        loss, correct = self._asked(Request.EVALUATE, _SCORE, label + tail)
        return loss, correct

    def save(self) -> int:
        """Save the weights where they outlive a power cut; returns the steps they have learnt."""
        return self._simple(Request.SAVE)

    def load(self) -> int:
        """Back to the weights saved last, or the factory's."""
        return self._simple(Request.LOAD)

    def reset(self) -> int:
        """Back to the factory weights; what was saved stays until the next save."""
        return self._simple(Request.RESET)

    def keep(self, slot: int, sample: bytes, label: bytes) -> int:
        """Put a sample into place `slot` of the replay buffer; returns how many it holds."""
        head = struct.pack("<I", slot) + label
        tail = self._all_but_the_tail(Request.TRAIN, sample, len(head))
        kept: int = self._asked(Request.REPLAY_KEEP, _COUNT, head + tail)[0]
        return kept

    def set_replay(self, steps: int) -> None:
        """How many kept samples each training step repeats."""
        self.request(Request.REPLAY_STEPS, struct.pack("<I", steps))

    def pull(self) -> bytes:
        """The trained weights, whole: their CRC-32 equals what the device says of its own."""
        size, parts = self.device.weight_bytes, []
        for at in range(0, size, self._payload):
            count = min(self._payload, size - at)
            parts.append(self.request(Request.WEIGHTS_READ, struct.pack("<IH", at, count)))
        weights = b"".join(parts)
        if zlib.crc32(weights) != self.stats().crc:
            raise TargetError(
                "EDGEC-E82B",
                f"pull the weights again, with no other program on {self.transport.name}: they changed while "
                "they were read",
            )
        return weights

    def push(self, weights: bytes, graph_hash: bytes, layout_hash: bytes) -> int:
        """Give the device all of its trained weights; returns their steps. Until all have come and their CRC-32 is
        right it goes on with those it has."""
        begin = struct.pack("<II", len(weights), zlib.crc32(weights)) + graph_hash + layout_hash
        self.request(Request.WEIGHTS_BEGIN, begin)
        room = self._payload - 4
        for at in range(0, len(weights), room):
            self.request(Request.WEIGHTS_CHUNK, struct.pack("<I", at) + weights[at : at + room])
        return self._simple(Request.WEIGHTS_COMMIT)

    def _asked(self, kind: Request, form: struct.Struct, payload: bytes = b"") -> tuple[Any, ...]:
        """What an answer of fixed length holds."""
        return self._unpacked(kind, form, self.request(kind, payload))

    def _unpacked(self, kind: Request, form: struct.Struct, answer: bytes) -> tuple[Any, ...]:
        if len(answer) != form.size:
            told = f"an answer of {len(answer)} bytes, not {form.size}"
            raise link_errors.strange(self._situation(kind), told)
        return form.unpack(answer)

    def _simple(self, kind: Request) -> int:
        steps: int = self._asked(kind, _COUNT)[0]
        self.steps = steps
        return steps

    def _all_but_the_tail(self, use: Request, sample: bytes, beside: int) -> bytes:
        """Send what of the sample does not fit beside `beside` other bytes of the request `use`; returns the rest."""
        device = self.device
        if len(sample) != device.input_bytes:
            raise UserError(
                "EDGEC-E263",
                f"give a sample of {device.input_bytes:,} bytes, as {self.transport.name} takes them: this one has "
                f"{len(sample):,}",
            )
        room = self._payload - beside
        at = 0
        while len(sample) - at > room:
            part = sample[at : at + min(self._payload - 5, len(sample) - at - 1)]
            self.request(Request.INPUT, struct.pack("<BI", use, at) + part)
            at += len(part)
        return sample[at:]

    def request(self, kind: Request, payload: bytes = b"") -> bytes:
        """The answer's payload. Sends the same frame again while no answer comes."""
        if kind is not Request.HELLO and self._session == 0:
            self.hello()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        asked = Frame(kind, 0, self._sequence, self._session, payload)
        wait_s = self.patience.quick_s if kind in _QUICK else self.patience.work_s
        wire = encode(asked)
        try:
            for _ in range(self.patience.tries):
                self.transport.write(wire)
                answer = self._answer_to(asked, wait_s)
                if answer is not None:
                    break
            else:
                raise link_errors.silent(
                    self._situation(kind), self.patience.tries, wait_s, self._decoder.bad
                )
        except LinkEnded as ended:
            raise link_errors.ended(self._situation(kind), str(ended)) from None
        if answer.status != Status.OK:
            raise link_errors.refused(self._situation(kind), answer)
        return answer.payload

    def _answer_to(self, asked: Frame, wait_s: float) -> Frame | None:
        """The answer, or None after `wait_s`. Answers to earlier requests, which a repetition brought, are dropped."""
        end = time.monotonic() + wait_s
        while True:
            while self._waiting:
                frame = self._waiting.pop(0)
                if self._answers(frame, asked):
                    return frame
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._waiting += self._decoder.feed(self.transport.read(left))

    def _answers(self, frame: Frame, asked: Frame) -> bool:
        """Whether `frame` answers this request, and not one of before that came late."""
        if frame.kind != asked.kind | ANSWER or frame.sequence != asked.sequence:
            return False
        if asked.kind != Request.HELLO:
            return frame.session == asked.session
        return frame.status != Status.OK or frame.payload[8:12] == asked.payload[2:6]

    def _situation(self, kind: Request) -> Situation:
        graph = self._device.graph_hash.hex() if self._device is not None else "?"
        layout = self._device.layout_hash.hex() if self._device is not None else "?"
        return Situation(self.transport.name, self.transport.cure, kind, self.steps, graph, layout)
