"""One control loop, stepped by whoever holds the clock: a test, a replay, a simulator."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.control.core import (
    COUNTS,
    CHistogram,
    CObservation,
    aligned_bytes,
    c_config,
    check,
    library,
    pointer,
)
from edgec.control.record import Recorder
from edgec.control.settings import SOURCES, STOPS, Settings
from edgec.ir import Array

# In the order of ec_loop_histogram.
STATISTICS: Final = ("seam_jump", "roll_error", "latency", "age")


@dataclass(frozen=True, slots=True)
class Question:
    """What the policy is asked: the state f32[S] that it is told, the committed actions prefix f32[delay,A]; periods
    count from 0."""

    sequence: int
    tick: int
    handover: int
    delay: int
    state: Array
    prefix: Array


@dataclass(frozen=True, slots=True)
class Action:
    """The action f32[A] of a period, where it comes from (SOURCES), and why the loop stops, if it does (STOPS)."""

    values: Array | None
    source: str
    sequence: int
    index: int
    handover: bool
    clipped: int
    stop: str


class Loop:
    """`recorder`: of these settings, and of no other loop. `model`: a CModel, of axes of that kind.

    Raises UserError EDGEC-E281 where the settings cannot be.
    """

    def __init__(self, settings: Settings, *, recorder: Recorder | None = None, model: Any = None) -> None:
        self.settings = settings
        self._c = library()
        self._config = c_config(settings, model)
        self._recorder = recorder.handle if recorder is not None else None
        self._kept = (recorder, model)
        check(self._c.ec_control_check(self._config), settings)
        self._memory = aligned_bytes(self._c.ec_loop_bytes(self._config))
        self._loop = ctypes.c_void_p()
        size = len(self._memory)
        check(self._c.ec_loop_init(self._config, pointer(self._memory), size, self._loop), settings)

    def begin(
        self,
        now_ns: int,
        state: Array,
        *,
        observed_ns: int | None = None,
        frame: int = 0,
        overrun: bool = False,
        lateness_ns: int = 0,
    ) -> Question | None:
        """A period begins. What to ask the policy, if anything."""
        given = np.ascontiguousarray(state, np.float32)
        assert given.shape == (self.settings.states,)
        observation = CObservation(
            now_ns=now_ns,
            observed_ns=now_ns if observed_ns is None else observed_ns,
            frame=frame,
            state=given.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            overrun=overrun,
        )
        found = self._c.ec_recorded_begin(self._recorder, self._loop, observation, lateness_ns)
        if not found:
            return None
        request = found.contents
        axes = len(self.settings.axes)
        prefix = np.ctypeslib.as_array(request.prefix, (max(request.delay, 1), axes))[: request.delay]
        return Question(
            request.sequence,
            request.tick,
            request.handover,
            request.delay,
            np.ctypeslib.as_array(request.state, (self.settings.states,)).copy(),
            prefix.copy(),
        )

    def deliver(self, sequence: int, chunk: Array, published_ns: int) -> bool:
        """The policy's chunk f32[H,A]. Whether the loop takes it."""
        given = np.ascontiguousarray(chunk, np.float32)
        assert given.shape == (self.settings.horizon, len(self.settings.axes)), given.shape
        status = self._c.ec_recorded_deliver(
            self._recorder, self._loop, sequence, pointer(given), published_ns
        )
        return bool(status == 0)

    def end(self) -> Action:
        """The action of this period."""
        action = np.zeros(len(self.settings.axes), np.float32)
        found = self._c.ec_recorded_end(self._recorder, self._loop, pointer(action))
        source = SOURCES[found.source]
        return Action(
            None if source == "nothing" else action,
            source,
            found.sequence,
            found.index,
            bool(found.handover),
            found.clipped,
            STOPS[found.stop],
        )

    def stop(self) -> None:
        """Come to rest, and stay until reset."""
        self._c.ec_recorded_stop(self._recorder, self._loop, STOPS.index("asked"))

    def reset(self) -> None:
        """Leave the rest."""
        self._c.ec_recorded_reset(self._recorder, self._loop)

    @property
    def delay(self) -> int:
        """Periods, of the next question."""
        return int(self._c.ec_loop_delay(self._loop))

    @property
    def counts(self) -> dict[str, int]:
        """What happened so far."""
        found = self._c.ec_loop_counts(self._loop).contents
        return {name: getattr(found, name) for name in COUNTS}

    def quantile(self, statistic: str, share: float) -> int:
        """Of STATISTICS: jumps and errors in millionths of the user's unit, times in ns."""
        found: ctypes._Pointer[CHistogram] = self._c.ec_loop_statistics(
            self._loop, STATISTICS.index(statistic)
        )
        return int(self._c.ec_histogram_quantile(found, share))
