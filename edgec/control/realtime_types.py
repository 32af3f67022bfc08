"""What edgec.control.realtime is told and tells: options, C functions, grants, statistics; ec_threads.h in ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.control.core import COUNTS, CCounts, CHistogram, CTick, library
from edgec.control.settings import STOPS
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.control.faults import Faults
    from edgec.control.record import Recorder

# In the order of ec_end.
ENDS: Final = ("runs", "asked", "periods", "stopped", "act")
# In the order of ec_loop_histogram, then of ec_threads_histogram. seam_jump, roll_error: millionths of the user's unit;
# the others: ns.
HISTOGRAMS: Final = (
    *("seam_jump", "roll_error", "latency", "age"),
    *("lateness", "execution", "wake", "inference"),
)
GRANTS: Final = (
    *(
        "control_priority",
        "inference_priority",
        "control_cpu",
        "inference_cpu",
        "lock_memory",
        "stack",
        "slice",
    ),
)
NOT_ASKED, PENDING = -1, -2


@dataclass(frozen=True, slots=True)
class CFunction:
    """A C function and its `user` pointer, both as addresses; `keep` is what must live as long as they are used."""

    address: int
    user: int = 0
    keep: object = None


@dataclass(frozen=True, slots=True)
class CRobot:
    """A robot's driver in C: addresses of functions of ec_callbacks, with the same `user`. `payload`: where the policy
    reads one."""

    sense: int
    act: int
    user: int = 0
    payload: int = 0
    keep: object = None


@dataclass(frozen=True, slots=True)
class Payload:
    """What the policy reads beyond the state: an array such as a picture."""

    shape: tuple[int, ...]
    dtype: str = "uint8"

    @property
    def size_bytes(self) -> int:
        """Of one."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Observation:
    """What a robot's `sense` gives: state f32[S]; `observed_ns` of time.monotonic_ns(), None: when sense was called;
    `frame` changes with each picture, 0: there are none."""

    state: Array
    payload: Array | None = None
    observed_ns: int | None = None
    frame: int = 0


@dataclass(frozen=True, slots=True)
class RealTime:
    """What is asked of the system. Priorities of SCHED_FIFO, 1 to 99, 0: none; CPUs, None: any; `lock_memory`: of the
    whole process; `require`: do not run without all of it."""

    control_priority: int = 0
    inference_priority: int = 0
    control_cpu: int | None = None
    inference_cpu: int | None = None
    lock_memory: bool = False
    require: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """Of a run. `periods`: after which it stops, 0: never; `end_on_stop`: a loop that stops itself ends the run, else
    it rests until reset; `act_errors_max`: commands in a row that a C driver could not send and that end the run, 0:
    not watched; `recorder`: that a RecordingFile drains; `faults`: what goes wrong on purpose; `model`: a CModel, where
    an axis is of that kind; `sense_lead`: share of a period before its beginning at which a driver in Python is to
    sense; `patience_s`: how long the end waits for a policy's last answer."""

    realtime: RealTime = field(default_factory=RealTime)
    payload: Payload | None = None
    periods: int = 0
    end_on_stop: bool = True
    act_errors_max: int = 3
    heartbeat: CFunction | None = None
    heartbeat_periods: int = 0
    trace: CFunction | None = None
    recorder: Recorder | None = None
    faults: Faults | None = None
    model: Any = None
    sense_lead: float = 0.25
    patience_s: float = 5.0


class CSensed(ctypes.Structure):
    """ec_sensed"""

    _fields_ = (
        ("period", c_int64),
        ("deadline_ns", c_int64),
        ("now_ns", c_int64),
        ("state", POINTER(c_float)),
        ("observed_ns", c_int64),
        ("frame", c_uint64),
    )


class CSent(ctypes.Structure):
    """ec_sent"""

    _fields_ = (
        ("period", c_int64),
        ("deadline_ns", c_int64),
        ("next_ns", c_int64),
        ("action", POINTER(c_float)),
        ("result", CTick),
    )


class CCallbacks(ctypes.Structure):
    """ec_callbacks"""

    _fields_ = tuple(
        (name, c_void_p)
        for name in (
            *("sense", "act", "skip", "robot", "payload", "infer", "policy"),
            *("heartbeat", "heartbeat_user", "trace", "trace_user"),
        )
    )


class CRealTime(ctypes.Structure):
    """ec_realtime"""

    _fields_ = (
        ("control_priority", c_int32),
        ("inference_priority", c_int32),
        ("control_cpu", c_int32),
        ("inference_cpu", c_int32),
        ("lock_memory", c_uint32),
        ("require", c_uint32),
    )


class CThreadsConfig(ctypes.Structure):
    """ec_threads_config"""

    _fields_ = (
        ("callbacks", CCallbacks),
        ("now", c_void_p),
        ("sleep_until", c_void_p),
        ("clock_user", c_void_p),
        ("realtime", CRealTime),
        ("payload_bytes", c_size_t),
        ("periods", c_uint64),
        ("heartbeat_periods", c_uint32),
        ("end_on_stop", c_uint32),
        ("act_errors_max", c_uint32),
        ("inference_outside", c_uint32),
        ("recorder", c_void_p),
        ("faults", c_void_p),
    )


class CGrants(ctypes.Structure):
    """ec_grants"""

    _fields_ = tuple((name, c_int32) for name in GRANTS)


class CStatistics(ctypes.Structure):
    """ec_statistics"""

    _fields_ = (
        *((name, c_uint64) for name in ("periods", "missed", "sense_errors", "act_errors", "infer_errors")),
        ("first_ns", c_int64),
        ("last_ns", c_int64),
        ("delay", c_uint32),
        ("stop", c_int),
        ("end", c_int),
        ("counts", CCounts),
        ("histograms", CHistogram * len(HISTOGRAMS)),
    )


def granted_text(number: int) -> str:
    """What ec_grants says of one thing."""
    if number in (NOT_ASKED, PENDING):
        return "not asked" if number == NOT_ASKED else "pending"
    return "granted" if number == 0 else f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


@dataclass(frozen=True, slots=True)
class Grants:
    """Of each thing of GRANTS: "granted", "not asked", "pending", or the system's reason why not. The last two are
    asked for in any case: a stack that is there, and where there is no priority a short slice of time."""

    text: dict[str, str]

    @property
    def refused(self) -> dict[str, str]:
        """What was asked for and is not granted; where it is not empty, the loop is degraded."""
        good = ("granted", "not asked", "pending")
        return {name: text for name, text in self.text.items() if text not in good}

    @property
    def status(self) -> str:
        """One line for logs."""
        if self.refused:
            return f"rt=degraded({', '.join(f'{name} {text}' for name, text in self.refused.items())})"
        asked = [name for name in GRANTS[:-2] if self.text[name] == "granted"]
        return f"rt=granted({', '.join(asked)})" if asked else "rt=not asked"


class Statistics:
    """Of a run so far: `periods` that ran, `missed` deadlines that were left out, `commands_lost`: replaced by a newer
    one before a driver in Python took them; `stop` of STOPS, `end` of ENDS."""

    def __init__(self, found: CStatistics, commands_lost: int) -> None:
        self._found = found
        self.periods, self.missed = int(found.periods), int(found.missed)
        self.sense_errors, self.act_errors = int(found.sense_errors), int(found.act_errors)
        self.infer_errors, self.delay = int(found.infer_errors), int(found.delay)
        self.stop, self.end = STOPS[found.stop], ENDS[found.end]
        self.counts = {name: int(getattr(found.counts, name)) for name in COUNTS}
        self.commands_lost = commands_lost

    @property
    def span_ns(self) -> int:
        """From the deadline of the first period to that of the last."""
        return int(self._found.last_ns - self._found.first_ns)

    @property
    def achieved_hz(self) -> float:
        """Periods that ran over the time in which they did."""
        return (self.periods - 1) * 1e9 / self.span_ns if self.span_ns > 0 else 0.0

    def histogram(self, name: str) -> CHistogram:
        """Of HISTOGRAMS."""
        found: CHistogram = self._found.histograms[HISTOGRAMS.index(name)]
        return found

    def quantile(self, name: str, share: float) -> int:
        """Of HISTOGRAMS, within 1 %."""
        return int(library().ec_histogram_quantile(self.histogram(name), share))

    def json(self) -> dict[str, object]:
        """All numbers, for reports."""
        numbers = (
            "periods",
            "missed",
            "sense_errors",
            "act_errors",
            "infer_errors",
            "delay",
            "commands_lost",
        )
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {
            **{name: getattr(self, name) for name in numbers},
            "stop": self.stop,
            "end": self.end,
            "achieved_hz": self.achieved_hz,
            "counts": self.counts,
            "quantiles": {
                name: {label: self.quantile(name, share) for label, share in shares.items()}
                for name in HISTOGRAMS
            },
        }
