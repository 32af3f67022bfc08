"""Recordings of a control loop: written through a ring in memory (ec_record.h holds the format), read as arrays."""

from __future__ import annotations

import ctypes
import math
import struct
import threading
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from edgec.control.core import CAxis, CConfig, CDelayConfig, aligned_bytes, c_config, check, library, pointer
from edgec.control.settings import BEYONDS, KINDS, LATES, MODES, Axis, Estimate, Settings
from edgec.errors import UserError, cannot_write
from edgec.ir import Array

Records = npt.NDArray[np.void]  # a structured array

VERSION: Final = 1
MAGIC: Final = b"EDGECREC"
_HEADER: Final = struct.Struct("<8sIIQ32sIIII")
# In the order of ec_record_type and ec_event, from 1.
TYPES: Final = ("observation", "question", "chunk", "action", "event")
EVENTS: Final = (
    *("asked-stop", "reset", "stop", "late", "dropped", "refused", "bad-observation", "beyond", "split"),
)
_POLL_S: Final = 0.02
_TAKE_BYTES: Final = 1 << 20
_SCAN_RECORDS: Final = 1 << 20


def scalars(structure: type[ctypes.Structure]) -> list[tuple[str, bool]]:
    """(name, whether it is real) of its numbers, in order."""
    real = (ctypes.c_float, ctypes.c_double)
    plain = (*real, ctypes.c_int, ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64)
    fields = [(entry[0], entry[1]) for entry in structure._fields_]
    return [(name, kind in real) for name, kind in fields if kind in plain]


def dtypes(axes: int, states: int, horizon: int) -> dict[str, np.dtype[Any]]:
    """The records of each of TYPES."""
    head = [("crc", "<u4"), ("bytes", "<u4"), ("number", "<u8"), ("tick", "<i8"), ("type", "<u4")]
    head.append(("flags", "<u4"))
    chunk = ("action", "<f4", (horizon, axes))
    content: dict[str, list[Any]] = {
        "observation": [
            *(("now", "<i8"), ("observed", "<i8"), ("lateness", "<i8"), ("frame", "<u8")),
            ("state", "<f4", (states,)),
        ],
        "question": [
            *(("sequence", "<u8"), ("handover", "<i8"), ("observed", "<i8"), ("asked", "<i8")),
            *(("delay", "<u4"), ("zero", "<u4"), ("state", "<f4", (states,))),
            ("prefix", "<f4", (horizon, axes)),
        ],
        "chunk": [("sequence", "<u8"), ("published", "<i8"), ("status", "<u4"), ("zero", "<u4"), chunk],
        "action": [
            *(("sequence", "<u8"), ("index", "<u4"), ("source", "<u4"), ("handover", "<u4")),
            *(("clipped", "<u4"), ("stop", "<u4"), ("zero", "<u4"), ("action", "<f4", (axes,))),
        ],
        "event": [("kind", "<u4"), ("value", "<u4"), ("sequence", "<u8")],
    }
    found = {}
    for name, fields in content.items():
        size = np.dtype(head + fields).itemsize
        pad = -size % 8
        found[name] = np.dtype(head + fields + ([("pad", f"V{pad}")] if pad else []))
    return found


def settings_hash(settings: Settings) -> int:
    """The hash that a recording with these settings carries."""
    return int(library().ec_settings_hash(c_config(settings)))


class Recorder:
    """Memory into which a Loop records; who holds it takes the bytes out. `policy`: its SHA-256; `model`: a CModel, of
    axes of that kind.

    It belongs to one loop from that loop's first period on. Raises UserError EDGEC-E281, E29D.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: bytes = bytes(32),
        model: Any = None,
        ring_bytes: int | None = None,
    ) -> None:
        self.settings = settings
        self._c = library()
        self._config = c_config(settings, model)
        check(self._c.ec_control_check(self._config), settings)
        least = self._c.ec_recorder_least(self._config)
        size = max(1 << (least - 1).bit_length(), 1 << 20) if ring_bytes is None else ring_bytes
        needed = self._c.ec_recorder_bytes(self._config, size)
        if not needed or len(policy) != 32:
            raise UserError(
                "EDGEC-E29D",
                f"give a ring that is a power of two of at least {least} bytes, and a hash of 32 bytes: not "
                f"{size} and {len(policy)} bytes",
            )
        self._memory = aligned_bytes(needed)
        self.handle = ctypes.c_void_p()
        status = self._c.ec_recorder_init(
            self._config, policy, size, pointer(self._memory), needed, self.handle
        )
        check(status, settings)

    @property
    def dropped(self) -> int:
        """Records that found no room in the ring."""
        return int(self._c.ec_recorder_dropped(self.handle))

    def take(self) -> bytes:
        """What was recorded since the last call."""
        return take(self.handle)


def take(recorder: ctypes.c_void_p) -> bytes:
    """All that is in the ring of an ec_recorder."""
    c, parts = library(), []
    room = np.empty(_TAKE_BYTES, np.uint8)
    while count := c.ec_recorder_take(recorder, pointer(room), len(room)):
        parts.append(room[:count].tobytes())
    return b"".join(parts)


class RecordingFile:
    """Writes a Recorder's bytes to a file while it is open, from a thread of its own.

    Raises UserError EDGEC-EB0A where the file cannot be written: at once, or at the end for what failed meanwhile.
    """

    def __init__(self, path: Path, recorder: Recorder) -> None:
        self.path, self._recorder = path, recorder
        self._end = threading.Event()
        self._error: OSError | None = None
        try:
            self._file: BinaryIO = path.open("wb")
        except OSError as error:
            raise cannot_write("EDGEC-EB0A", path, error) from error
        self._thread = threading.Thread(target=self._write, name="edgec-record", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            last = False
            while not last:
                last = self._end.wait(_POLL_S)
                self._file.write(self._recorder.take())
                self._file.flush()
            self._file.close()
        except OSError as error:
            self._error = error

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._error is not None:
            raise cannot_write("EDGEC-EB0A", self.path, self._error) from self._error


@dataclass(frozen=True)
class Recording:
    """A recording as arrays, one a type of record, with the fields of `dtypes`; `records`: their bytes in order."""

    settings: Settings
    has_model: bool  # of the robot, a callback
    settings_hash: int
    policy: bytes  # its SHA-256
    records: bytes = field(repr=False)
    observations: Records = field(repr=False)
    questions: Records = field(repr=False)
    chunks: Records = field(repr=False)
    actions: Records = field(repr=False)
    events: Records = field(repr=False)
    dropped: int  # records that are missing
    torn_bytes: int  # at the end, that are no whole record

    @cached_property
    def periods(self) -> Records:
        """Observation and action of each period that has both: fields of both, and the observation's overrun."""
        tick, first, second = np.intersect1d(
            self.observations["tick"], self.actions["tick"], assume_unique=True, return_indices=True
        )
        seen, done = self.observations[first], self.actions[second]
        taken = ("now", "observed", "lateness", "frame", "state")
        played = ("sequence", "index", "source", "handover", "clipped", "stop", "action")
        fields: list[Any] = [("tick", "<i8"), ("overrun", "?")]
        fields += [(name, seen.dtype[name]) for name in taken]
        fields += [(name, done.dtype[name]) for name in played]
        made = np.empty(len(tick), np.dtype(fields))
        made["tick"], made["overrun"] = tick, seen["flags"] & 1 != 0
        for names, rows in ((taken, seen), (played, done)):
            for name in names:
                made[name] = rows[name]
        return made

    def happened(self, event: str) -> Records:
        """The records of one of EVENTS."""
        found: Records = self.events[self.events["kind"] == EVENTS.index(event) + 1]
        return found


def _torn(path: Path, at: int, records: int, tick: int) -> UserError:
    return UserError(
        "EDGEC-E29A",
        f"read {path} with torn=True to have what is whole: from byte {at} on it is damaged or cut short, after "
        f"{records} records (period {tick})",
    )


def read(path: Path, *, torn: bool = False) -> Recording:
    """The recording in a file. `torn`: take what is whole of a file that was cut short.

    Raises UserError EDGEC-E298 (no recording), E299 (another version), E29A (torn), OSError.
    """
    return parse(path.read_bytes(), path, torn=torn)


def parse(data: bytes, path: Path, *, torn: bool = False, first: int = 0) -> Recording:
    """The recording in `data`; `path` is named in errors. `first`: number of the first record, of a part of one."""
    if data[: len(MAGIC)] != MAGIC:
        raise UserError("EDGEC-E298", f"give a recording of a control loop: {path} is none")
    if len(data) >= 12 and (version := struct.unpack_from("<I", data, 8)[0]) != VERSION:
        raise UserError(
            "EDGEC-E299",
            f"read {path} with the edgec that wrote it: its version is {version}, this edgec reads {VERSION}",
        )
    size = struct.unpack_from("<I", data, 12)[0] if len(data) >= _HEADER.size else 0
    crc = struct.unpack_from("<I", data, size - 4)[0] if _HEADER.size < size <= len(data) else None
    if crc != zlib.crc32(data[: size - 4]):
        raise _torn(path, 0, 0, 0)
    _, _, _, hashed, policy, axes, states, horizon, words = _HEADER.unpack_from(data)
    settings, has_model = _settings(data[_HEADER.size : _HEADER.size + 8 * words])
    kinds = dtypes(axes, states, horizon)
    raw = np.frombuffer(data, np.uint8)
    offsets, types, end, number = _scan(raw, size, first, kinds)
    if end < len(data) and not torn:
        last = int(raw[offsets[-1] + 16 : offsets[-1] + 24].view("<i8")[0]) if len(offsets) else 0
        raise _torn(path, end, len(offsets), last)
    arrays = {
        name + "s": _gather(raw, offsets[types == n], kinds[name]) for n, name in enumerate(TYPES, start=1)
    }
    return Recording(
        settings=settings,
        has_model=has_model,
        settings_hash=hashed,
        policy=policy,
        records=data[size:end],
        dropped=number - first - len(offsets),
        torn_bytes=len(data) - end,
        **arrays,
    )


def _scan(
    raw: Array, begin: int, first: int, kinds: dict[str, np.dtype[Any]]
) -> tuple[Array, Array, int, int]:
    """(offsets and types of whole records, their end, number after the last one)."""
    sizes = np.array([0, *(kinds[name].itemsize for name in TYPES)], np.uint64)
    at, number = ctypes.c_uint64(begin), ctypes.c_uint64(first)
    offsets, types = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
    found = -1
    while found:
        some, kind = np.empty(_SCAN_RECORDS, np.uint64), np.empty(_SCAN_RECORDS, np.uint8)
        found = library().ec_record_scan(
            pointer(sizes), pointer(raw), len(raw), at, number, pointer(some), pointer(kind), len(some)
        )
        offsets.append(some[:found])
        types.append(kind[:found])
    return np.concatenate(offsets), np.concatenate(types), int(at.value), int(number.value)


def _gather(raw: Array, offsets: Array, kind: np.dtype[Any]) -> Records:
    rows = np.empty((len(offsets), kind.itemsize), np.uint8)
    places = offsets.astype(np.int64)
    step = max(1, (1 << 22) // kind.itemsize)
    for first in range(0, len(offsets), step):
        part = places[first : first + step, None] + np.arange(kind.itemsize)
        rows[first : first + step] = raw[part]
    return rows.reshape(-1).view(kind)


def _settings(stored: bytes) -> tuple[Settings, bool]:
    """(settings, whether there was a model) of the words of a header."""
    at = 0

    def numbers(names: list[tuple[str, bool]]) -> dict[str, Any]:
        nonlocal at
        found = {}
        for name, real in names:
            found[name] = struct.unpack_from("<d" if real else "<q", stored, at)[0]
            at += 8
        return found

    config = numbers(scalars(CConfig))
    estimate = numbers(scalars(CDelayConfig))
    flags = numbers([("model", False), ("scale", False), ("offset", False)])
    axes = tuple(_axis(numbers(scalars(CAxis))) for _ in range(config.pop("axes")))
    names = [(str(i), True) for i in range(config["states"])]
    scale = tuple(numbers(names).values()) if flags["scale"] else None
    offset = tuple(numbers(names).values()) if flags["offset"] else None
    period = config.pop("period_ns")
    guard = estimate.pop("guard_ns") / period
    words = {
        "mode": MODES[config.pop("mode")],
        "rate_hz": 1e9 / period,
        "beyond": BEYONDS[config.pop("beyond")],
        "late": LATES[config.pop("late")],
        "ensemble_decay": -math.log(ratio) if (ratio := config.pop("ensemble_ratio")) > 0 else math.inf,
        "stall_s": config.pop("stall_ns") / 1e9,
        "age_max_s": config.pop("age_max_ns") / 1e9,
        "continuous": bool(config.pop("continuous")),
        "blend_quintic": bool(config.pop("blend_quintic")),
    }
    settings = Settings(
        **words,
        **config,
        axes=axes,
        estimate=Estimate(**estimate, guard=guard),
        state_scale=scale,
        state_offset=offset,
    )
    return settings, bool(flags["model"])


def _axis(found: dict[str, Any]) -> Axis:
    return Axis(
        kind=KINDS[found.pop("kind")],
        action_range=(found.pop("action_min"), found.pop("action_max")),
        position_range=(found.pop("position_min"), found.pop("position_max")),
        wraps=bool(found.pop("wraps")),
        **found,
    )
