"""A recording through the loop again: every action must come out bit for bit; else the first difference is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.control.core import CReplayed, aligned_bytes, c_config, library, pointer
from edgec.control.record import TYPES, Recording, dtypes, scalars
from edgec.control.settings import Settings
from edgec.errors import InternalError, UserError
from edgec.ir import Array

# In the order of ec_replay_status.
_STATUS: Final = ("same", "differs", "gap", "bad", "memory")
_HEAD: Final = ("crc", "bytes", "number", "pad", "zero")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that is not the same: `recorded` and `replayed` hold the fields that differ, or None where only
    the other one has a record there."""

    tick: int
    record: str  # of TYPES
    recorded: dict[str, Any] | None
    replayed: dict[str, Any] | None

    def __str__(self) -> str:
        if self.recorded is None or self.replayed is None:
            where = "the recording" if self.replayed is None else "the replay"
            return f"period {self.tick}: only {where} has this {self.record}"
        parts = (f"{name} {value} but {self.replayed[name]}" for name, value in self.recorded.items())
        return f"period {self.tick}, {self.record}: recorded {', '.join(parts)} in the replay"


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found: so many periods are the same; then a difference, or a gap in the recording, or the end."""

    periods: int
    records: int
    difference: Difference | None
    gap_at: int | None  # period from which on records are missing

    @property
    def same(self) -> bool:
        """Whether all that was recorded came out again."""
        return self.difference is None and self.gap_at is None


def replay(recording: Recording, *, settings: Settings | None = None, model: Any = None) -> Replay:
    """Replay with the recording's own settings, or with `settings`, which must be the same.

    `model`: a CModel, where the recording's robot has one. Raises UserError EDGEC-E29B, E29C.
    """
    given = recording.settings if settings is None else settings
    config = c_config(given, model)
    if recording.has_model and model is None:
        raise UserError(
            "EDGEC-E29C", "give the robot's model: the recording was made with one, and holds no function"
        )
    c = library()
    hashed = int(c.ec_settings_hash(config))
    if hashed != recording.settings_hash:
        raise UserError(
            "EDGEC-E29B",
            f"replay with the settings of the recording: its hash is {recording.settings_hash:016x}, that of these "
            f"settings {hashed:016x}{_first_difference(recording.settings, given)}",
        )
    memory = aligned_bytes(c.ec_replay_bytes(config))
    records = np.frombuffer(recording.records, np.uint8)
    replayed = np.zeros(c.ec_replay_record_bytes(config), np.uint8)
    found = CReplayed()
    status = c.ec_replay(
        config, pointer(records), len(records), pointer(memory), len(memory), pointer(replayed), found
    )
    name = _STATUS[status]
    if name in ("bad", "memory"):
        raise InternalError(f"ec_replay: {name} at byte {found.recorded}")
    difference = None
    if name == "differs":
        difference = _difference(recording, found, replayed)
    return Replay(found.periods, found.records, difference, found.tick if name == "gap" else None)


def _numbers(settings: Settings) -> dict[str, float]:
    """All numbers of the settings, as C has them."""
    config = c_config(settings)
    places: list[tuple[str, Any]] = [("", config), ("estimate ", config.estimate)]
    places += [(f"axis {i} ", config.axis[i]) for i in range(config.axes)]
    found = {f"{at}{name}": getattr(c, name) for at, c in places for name, _ in scalars(type(c))}
    for name in ("state_scale", "state_offset"):
        values = getattr(settings, name) or ()
        found |= {f"{name} {i}": x for i, x in enumerate(np.asarray(values, np.float32).tolist())}
    return found


def _first_difference(recorded: Settings, given: Settings) -> str:
    one, other = _numbers(recorded), _numbers(given)
    for name in one | other:
        if one.get(name) != other.get(name):
            return f"; first, {name} {one.get(name)} is {other.get(name)}"
    return ""


def _record(recording: Recording, raw: Array) -> tuple[str, dict[str, Any]]:
    """(type, fields) of a record's bytes."""
    settings = recording.settings
    name = TYPES[int(raw[24:28].view("<u4")[0]) - 1]
    kind = dtypes(len(settings.axes), settings.states, settings.horizon)[name]
    row = raw[: kind.itemsize].view(kind)[0]
    return name, {field: row[field] for field in kind.names or () if field not in _HEAD}


def _difference(recording: Recording, found: CReplayed, raw: Array) -> Difference:
    bytes_left = np.frombuffer(recording.records, np.uint8)[found.recorded :]
    name, recorded = _record(recording, bytes_left)
    tick = int(recorded["tick"])
    if not found.replayed_bytes:
        return Difference(tick, name, recorded, None)
    other, replayed = _record(recording, raw)
    if other != name:
        return Difference(tick, other, None, replayed)
    unlike = [k for k in recorded if np.asarray(recorded[k]).tobytes() != np.asarray(replayed[k]).tobytes()]
    return Difference(
        tick,
        name,
        {k: np.asarray(recorded[k]).tolist() for k in unlike},
        {k: np.asarray(replayed[k]).tolist() for k in unlike},
    )
