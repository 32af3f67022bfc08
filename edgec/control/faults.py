"""Faults on purpose (ec_faults.h), trials with them in virtual time, and the bounds within which a loop reacts."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from edgec.control.core import COUNTS, aligned_bytes, c_config, check, library, pointer
from edgec.control.record import Recording, parse, take
from edgec.control.settings import Settings
from edgec.errors import UserError
from edgec.ir import Array

# Of a chunk; for a time; once.
ChunkFault = Literal["nan", "infinite", "range", "late", "lost", "duplicate", "reorder"]
LastingFault = Literal["dead", "dropped", "frozen", "stale", "state-nan", "spike", "overrun"]
Fault = Literal[ChunkFault, LastingFault, "jump", "forward", "backward"]
# In the order of ec_fault.
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
CHUNK_FAULTS: Final[tuple[ChunkFault, ...]] = get_args(ChunkFault)


class _CRate(ctypes.Structure):
    """ec_fault_rate"""

    _fields_ = (("rate", ctypes.c_double), ("least", ctypes.c_uint32), ("most", ctypes.c_uint32))


class _CPlan(ctypes.Structure):
    """ec_fault_plan"""

    _fields_ = (("tick", ctypes.c_int64), ("fault", ctypes.c_int), ("periods", ctypes.c_uint32))


class _CScript(ctypes.Structure):
    """ec_fault_script"""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("size", ctypes.c_float),
        ("rate", _CRate * len(FAULTS)),
        ("plan", ctypes.POINTER(_CPlan)),
        ("plans", ctypes.c_uint32),
    )


class _CTrial(ctypes.Structure):
    """ec_trial_config"""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("latency_least_ns", ctypes.c_int64),
        ("latency_most_ns", ctypes.c_int64),
        ("excess", ctypes.c_float),
        ("noise", ctypes.c_float),
        ("reset_after", ctypes.c_uint32),
        ("stop_every", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a fault happens, of a chunk or a period, and how many periods it takes, `least` to `most`."""

    rate: float
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that begins in a period."""

    tick: int
    fault: Fault
    periods: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    """What goes wrong: at random by `rates`, and as `plan` says. `size`: how far off numbers are."""

    seed: int = 0
    rates: Mapping[Fault, Rate] = field(default_factory=dict)
    plan: tuple[Planned, ...] = ()
    size: float = 10.0


def c_script(script: Script) -> Any:
    """The same for C; it keeps what it points to. Raises UserError EDGEC-E29E."""
    plan = sorted(script.plan, key=lambda p: p.tick)
    rates = [script.rates.get(fault, Rate(0.0)) for fault in FAULTS]
    unknown = sorted({*script.rates, *(p.fault for p in plan)} - set(FAULTS))
    bad = [f for f, r in zip(FAULTS, rates, strict=True) if not (0 <= r.rate <= 1 and 0 <= r.least <= r.most)]
    if unknown or bad:
        raise UserError(
            "EDGEC-E29E",
            f"give rates from 0 to 1 and periods from least to most, of {', '.join(FAULTS)}: {(unknown or bad)[0]} is "
            f"{'no fault' if unknown else 'out of range'}",
        )
    return _CScript(
        seed=script.seed,
        size=script.size,
        rate=(_CRate * len(FAULTS))(*(_CRate(r.rate, r.least, r.most) for r in rates)),
        plan=(_CPlan * max(1, len(plan)))(*(_CPlan(p.tick, FAULTS.index(p.fault), p.periods) for p in plan)),
        plans=len(plan),
    )


class Faults:
    """What goes wrong in a run in real time, by a script. Raises UserError EDGEC-E281, E29E."""

    def __init__(self, settings: Settings, script: Script, model: Any = None) -> None:
        self._c = library()
        self._config = c_config(settings, model)
        check(self._c.ec_control_check(self._config), settings)
        self._script = c_script(script)
        needed = self._c.ec_faults_bytes(self._config)
        self._memory = aligned_bytes(needed)
        self.handle = ctypes.c_void_p()
        status = self._c.ec_faults_init(
            self._config, ctypes.byref(self._script), pointer(self._memory), needed, self.handle
        )
        check(status, settings)

    @property
    def counts(self) -> dict[str, int]:
        """How often each has happened; to be read after the run."""
        return _counts(self.handle)


def _counts(faults: ctypes.c_void_p) -> dict[str, int]:
    found = library().ec_faults_counts(faults)
    return {name: int(found[i]) for i, name in enumerate(FAULTS)}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A trial's robot and policy (ec_trial.h): latency in periods, from least to most."""

    seed: int = 0
    latency: tuple[float, float] = (1.0, 1.0)
    excess: float = 1.0
    noise: float = 0.0
    reset_after: int = 0
    stop_every: int = 0


class Trial:
    """A loop with a random policy and faults in virtual time, recorded. Raises UserError EDGEC-E281, E29E."""

    RING_BYTES: Final = 1 << 22

    def __init__(
        self, settings: Settings, surroundings: Surroundings, script: Script, model: Any = None
    ) -> None:
        self.settings = settings
        self._c = library()
        self._config = c_config(settings, model)
        check(self._c.ec_control_check(self._config), settings)
        least, most = (round(x * settings.period_ns) for x in surroundings.latency)
        self._trial = _CTrial(
            seed=surroundings.seed,
            latency_least_ns=least,
            latency_most_ns=most,
            excess=surroundings.excess,
            noise=surroundings.noise,
            reset_after=surroundings.reset_after,
            stop_every=surroundings.stop_every,
        )
        self._script = c_script(script)
        needed = self._c.ec_trial_bytes(self._config, self.RING_BYTES)
        self._memory = aligned_bytes(needed)
        self._made = ctypes.c_void_p()
        status = self._c.ec_trial_init(
            self._config,
            ctypes.byref(self._trial),
            ctypes.byref(self._script),
            self.RING_BYTES,
            pointer(self._memory),
            needed,
            self._made,
        )
        check(status, settings)
        self._recorder = ctypes.c_void_p(self._c.ec_trial_recorder(self._made))
        chunk = 4 * settings.horizon * len(settings.axes)
        # What a period records at most, several chunks included.
        self._at_once = max(1, self.RING_BYTES // (8 * (chunk + 4 * settings.states + 128)))

    @property
    def state(self) -> Array:
        """The robot's, f32[S]; writing moves it."""
        return np.ctypeslib.as_array(self._c.ec_trial_state(self._made), (self.settings.states,))

    def run(self, periods: int) -> bytes:
        """Run so many periods; what they recorded."""
        parts = []
        while periods > 0:
            now = min(periods, self._at_once)
            self._c.ec_trial_run(self._made, now)
            parts.append(take(self._recorder))
            periods -= now
        return b"".join(parts)

    @property
    def counts(self) -> dict[str, int]:
        """What the loop has counted."""
        found = self._c.ec_loop_counts(self._c.ec_trial_loop(self._made)).contents
        return {name: getattr(found, name) for name in COUNTS}

    @property
    def faults(self) -> dict[str, int]:
        """How often each fault has happened."""
        return _counts(ctypes.c_void_p(self._c.ec_trial_faults(self._made)))

    @property
    def dropped(self) -> int:
        """Records that found no room."""
        return int(self._c.ec_recorder_dropped(self._recorder))


def trial(
    settings: Settings, surroundings: Surroundings, script: Script, periods: int
) -> tuple[Recording, dict[str, int]]:
    """(the recording, how often each fault happened) of so many periods."""
    made = Trial(settings, surroundings, script)
    return parse(made.run(periods), Path("trial")), made.faults


@dataclass(frozen=True, slots=True)
class Bound:
    """How a loop reacts to a fault. `stops`: periods from its beginning within which a fault that goes on has stopped
    the loop, for one of `causes`; None: it does not stop. `recovers`: periods after the end of a fault that has not
    stopped it within which the policy's actions play again."""

    stops: int | None
    causes: tuple[str, ...]
    recovers: int


def bound(settings: Settings, fault: Fault, latency: int) -> Bound:
    """What docs/control-faults.md declares, of a policy that takes `latency` periods, at most the delay."""
    sync = settings.mode == "sync"
    ahead = 0 if sync else settings.delay
    stall = _periods(settings, settings.stall_s)
    age = _periods(settings, settings.age_max_s)
    again = ahead + latency + 1
    starved = None if sync else ahead + settings.stop_after + 1
    missing = _least(starved, None if stall is None else latency + stall + 1)
    late: tuple[str, ...] = ("late", "stall", "chunk")
    if fault in ("nan", "infinite", "range"):
        asked = settings.stop_after * (latency + 1) + settings.execute + 1
        return Bound(asked if missing is None else max(asked, missing), late, again)
    if fault in ("late", "lost", "reorder"):
        return Bound(missing, late, again + latency)
    if fault == "dead":
        stops = None if missing is None else settings.execute + missing
        return Bound(stops, late, again + latency)
    if fault in ("dropped", "state-nan", "stale"):
        return Bound(age, ("observation", "frozen", *late), again + latency)
    if fault == "frozen":
        return Bound(settings.frozen_max or None, ("frozen",), again)
    if fault == "overrun":
        return Bound(settings.overrun_max or None, ("overrun",), 0)
    if fault == "forward":
        return Bound(None, ("stall",), again)
    return Bound(None, (), again)


def _periods(settings: Settings, seconds: float) -> int | None:
    """The first whole number of periods that is more."""
    nanoseconds = round(1e9 * seconds)
    return nanoseconds // settings.period_ns + 1 if nanoseconds else None


def _least(*periods: int | None) -> int | None:
    return min((p for p in periods if p is not None), default=None)
