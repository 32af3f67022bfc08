"""A soak in real time: the threads of a run with faults for some minutes; the recording says whether anything drifts or
gets lost."""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgec.control.core import c_config, library, pointer
from edgec.control.faults import Faults, Script
from edgec.control.loop import Question
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import Observation, Options, RealTime, Statistics
from edgec.control.record import Recorder, RecordingFile, read
from edgec.control.replay import replay
from edgec.control.settings import Settings
from edgec.control.soak import STORM, count, memory_kib
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.control.settings import Floats

_LOOK_S: Final = 0.2  # between looks whether the loop has stopped
_WARM_SHARE: Final = 0.1  # of the time, before memory is measured
_LATENCY: Final = (0.5, 2.5)  # of the policy, periods
_BRAKE: Final = 0.2  # of the speed, by accelerations


@dataclass(frozen=True, slots=True)
class RealSoak:
    """What a soak in real time found."""

    seconds: float
    periods: int
    missed: int
    achieved_hz: float
    late_ms: dict[str, float]
    realtime: str
    grid_drift_ns: int  # of the last deadline from its place on the grid of the first
    records: int
    lost: int  # records that found no room
    faults: dict[str, int]
    counts: dict[str, int]  # by the loop
    drift: dict[str, tuple[int, int]]  # what the log counts otherwise: (loop, log)
    memory_first_kib: int  # of the process, after a tenth of the time
    memory_last_kib: int
    replayed: int  # periods that came out of a replay again
    difference: str | None  # the first that did not

    @property
    def good(self) -> bool:
        """Whether nothing was lost, the log says what the loop says, and a replay gives the same bits."""
        return not (self.lost or self.drift or self.grid_drift_ns) and self.difference is None


class _Robot:
    """Stands where its commands lead."""

    def __init__(self, settings: Settings) -> None:
        self._config = c_config(settings)
        self.state: Floats = np.zeros(settings.states, np.float32)
        self._frame = 0

    def sense(self) -> Observation:
        self._frame += 1
        return Observation(self.state.copy(), frame=self._frame)

    def act(self, action: Array) -> None:
        given = np.ascontiguousarray(action, np.float32)
        library().ec_roll(ctypes.byref(self._config), pointer(self.state), pointer(given))


class _Policy:
    """Random actions of the whole range, after a random time; accelerations also brake, so that speeds stay."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(seed)

    def __call__(self, question: Question, payload: Array | None) -> Array:
        settings, rng = self._settings, self._rng
        scale = np.array(settings.state_scale or np.ones(settings.states))
        chunk = np.empty((settings.horizon, len(settings.axes)), np.float32)
        for number, axis in enumerate(settings.axes):
            low, high = axis.action_range
            action = rng.uniform(low, high, settings.horizon)
            if axis.kind == "acceleration":
                action -= _BRAKE * scale[axis.velocity] * question.state[axis.velocity] / axis.gain
            elif axis.kind == "discrete":
                action = np.where(action > (low + high) / 2, high, low)
            chunk[:, number] = (action - axis.action_offset) / axis.action_scale
        time.sleep(rng.uniform(*_LATENCY) / settings.rate_hz)
        return chunk


def soak(
    settings: Settings, seconds: float, *, script: Script = STORM, realtime: RealTime | None = None
) -> RealSoak:
    """Run so long, with a robot and a policy in Python; after each stop the loop is reset. Raises UserError EDGEC-E281,
    E29E, and what RealtimeLoop raises."""
    recorder, faults = Recorder(settings), Faults(settings, script)
    options = Options(realtime=realtime or RealTime(), recorder=recorder, faults=faults, end_on_stop=False)
    loop = RealtimeLoop(settings, _Robot(settings), _Policy(settings, script.seed), options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "soak.rec"
        with RecordingFile(path, recorder):
            first_kib = _run(loop, seconds)
            found = loop.wait()
            last_kib = memory_kib()
        recording = read(path)
        seen: Counter[str] = Counter()
        records = count(recording, 0, seen)
        replayed = replay(recording)
    return RealSoak(
        seconds=seconds,
        periods=found.periods,
        missed=found.missed,
        achieved_hz=found.achieved_hz,
        late_ms=_late(found),
        realtime=loop.grants.status,
        grid_drift_ns=found.span_ns - (found.periods + found.missed - 1) * settings.period_ns,
        records=records,
        lost=recorder.dropped + recording.dropped,
        faults=faults.counts,
        counts=found.counts,
        drift={name: (of, seen[name]) for name, of in found.counts.items() if of != seen[name]},
        memory_first_kib=first_kib,
        memory_last_kib=last_kib,
        replayed=replayed.periods,
        difference=None if replayed.same else str(replayed.difference or f"a gap at {replayed.gap_at}"),
    )


def _run(loop: RealtimeLoop, seconds: float) -> int:
    """Run and stop. KiB of the process after a tenth of the time."""
    loop.start()
    first_kib, begin = 0, time.monotonic()
    while loop.running and time.monotonic() < begin + seconds:
        time.sleep(_LOOK_S)
        if loop.statistics().stop != "none":
            loop.reset()
        if not first_kib and time.monotonic() >= begin + _WARM_SHARE * seconds:
            first_kib = memory_kib()
    loop.stop()
    return first_kib


def _late(found: Statistics) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: found.quantile("lateness", share) / 1e6 for name, share in shares.items()}
