"""Frames of the link to a training firmware: what runtime_c/link/ec_link.h defines, on the host's side.

    00  COBS(header, payload, CRC-32)  00

Header, little-endian: type u8, status u8, length u16, sequence u32, session u32. A 00 always ends a frame, so that a
receiver is in step again at the next one, whatever came before. docs/protocol.md holds the tables.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHII")
FRAME_BYTES: Final = HEADER.size + 4
ANSWER: Final = 0x80
HASH_BYTES: Final = 8
_BLOCK: Final = 254


class Request(IntEnum):
    """What a request asks; its answer's type has the highest bit set."""

    HELLO = 1
    STATS = 2
    RATE = 3
    INPUT = 4
    INFER = 5
    OUTPUT = 6
    TRAIN = 7
    EVALUATE = 8
    SAVE = 9
    LOAD = 10
    RESET = 11
    WEIGHTS_READ = 12
    WEIGHTS_BEGIN = 13
    WEIGHTS_CHUNK = 14
    WEIGHTS_COMMIT = 15
    WEIGHTS_ABORT = 16
    REPLAY_KEEP = 17
    REPLAY_STEPS = 18


class Status(IntEnum):
    """What an answer says. STATUS_TEXT has it in words."""

    OK = 0
    BAD_TYPE = 1
    BAD_LENGTH = 2
    BAD_VERSION = 3
    BAD_SESSION = 4
    BAD_SEQUENCE = 5
    BAD_ARGUMENT = 6
    BAD_OFFSET = 7
    INCOMPLETE = 8
    NO_OUTPUT = 9
    STAGED = 10
    NOT_STAGED = 11
    BAD_GRAPH = 12
    BAD_LAYOUT = 13
    BAD_CRC = 14
    UNSUPPORTED = 15
    MODEL = 16


STATUS_TEXT: Final = {
    Status.OK: "done",
    Status.BAD_TYPE: "this firmware does not know the request",
    Status.BAD_LENGTH: "the payload's length is not that of the request",
    Status.BAD_VERSION: "the two sides speak different versions of the protocol",
    Status.BAD_SESSION: "no session, or another: the device started anew",
    Status.BAD_SEQUENCE: "neither the next request nor a repetition of the last",
    Status.BAD_ARGUMENT: "a value outside of its range",
    Status.BAD_OFFSET: "a part that does not continue the one before, or exceeds the whole",
    Status.INCOMPLETE: "parts are missing",
    Status.NO_OUTPUT: "no outputs are there: the sample has changed since infer",
    Status.STAGED: "weights are on their way: commit or abort them first",
    Status.NOT_STAGED: "no weights are on their way",
    Status.BAD_GRAPH: "the weights belong to another network",
    Status.BAD_LAYOUT: "the weights belong to another choice of what trains",
    Status.BAD_CRC: "the weights came damaged; they were forgotten",
    Status.UNSUPPORTED: "this firmware cannot do that",
    Status.MODEL: "the model refused: its ec_status and the text follow",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `status` is 0 in requests; `kind` is a Request, with ANSWER set in answers."""

    kind: int
    status: int
    sequence: int
    session: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """The frame as it goes over the wire."""
    head = HEADER.pack(frame.kind, frame.status, len(frame.payload), frame.sequence, frame.session)
    body = head + frame.payload
    return wrap(body + zlib.crc32(body).to_bytes(4, "little"))


def wrap(data: bytes) -> bytes:
    """COBS of any bytes, between two zeros."""
    out = bytearray(b"\0")
    at, more = 0, True
    while more:
        end = data.find(0, at, at + _BLOCK)
        if end < 0:
            end = min(at + _BLOCK, len(data))
        run = data[at:end]
        out.append(len(run) + 1)
        out += run
        at, more = end, end < len(data)
        if more and len(run) < _BLOCK:
            at += 1  # the zero that the next block stands for
    return bytes(out) + b"\0"


def unwrap(block: bytes) -> bytes | None:
    """The bytes behind what stands between two zeros; None where it is cut short."""
    out = bytearray()
    at = 0
    while at < len(block):
        code = block[at]
        run = block[at + 1 : at + code]
        if len(run) != code - 1:
            return None
        out += run
        at += code
        if code <= _BLOCK and at < len(block):
            out.append(0)
    return bytes(out)


def parse(data: bytes) -> Frame | None:
    """The frame of unwrapped bytes; None where length or CRC are wrong."""
    if len(data) < FRAME_BYTES:
        return None
    kind, status, length, sequence, session = HEADER.unpack_from(data)
    body, crc = data[:-4], data[-4:]
    if length != len(data) - FRAME_BYTES or zlib.crc32(body) != int.from_bytes(crc, "little"):
        return None
    return Frame(kind, status, sequence, session, body[HEADER.size :])


class Decoder:
    """Bytes into frames. `bad` counts those that did not arrive whole; `limit`: longest frame in bytes."""

    def __init__(self, limit: int = 65_535) -> None:
        self.limit = limit
        self.bad = 0
        self._open = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        frames = []
        *ended, rest = data.split(b"\0")
        for part in ended:
            self._take(part)
            frame = self._end()
            if frame is not None:
                frames.append(frame)
        self._take(rest)
        return frames

    def _take(self, part: bytes) -> None:
        """Bytes within a frame; of one that is too long none are kept."""
        self._open += part
        if len(self._open) > self.limit + self.limit // _BLOCK + 2:
            self._lost = True
            self._open.clear()

    def _end(self) -> Frame | None:
        if not self._open and not self._lost:
            return None  # two zeros in a row
        data = None if self._lost else unwrap(bytes(self._open))
        frame = parse(data) if data is not None and len(data) <= self.limit else None
        self._open.clear()
        self._lost = False
        self.bad += frame is None
        return frame
