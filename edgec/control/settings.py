"""What a control loop is told: the actions of the robot with their limits, the chunks of the policy, what to do late.

The meaning of each field is that of ec_control.h, which checks them all; docs/control.md says when to use which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]  # arithmetic on numbers whose dtype the docstring says

Mode = Literal["sync", "naive", "aligned", "ensemble", "rtc-prefix", "vlash"]
Kind = Literal["delta", "absolute", "lag", "velocity", "acceleration", "discrete", "model"]
Late = Literal["drop", "play"]
Beyond = Literal["clamp", "lengthen", "stop"]
# Of simulations (worlds.py).
Task = Literal["mole", "ball"]
Actuation = Literal["delta", "accel", "lag"]
# In the order of the C enums.
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LATES: Final[tuple[Late, ...]] = get_args(Late)
BEYONDS: Final[tuple[Beyond, ...]] = get_args(Beyond)
# Why a loop stops, in the order of ec_stop.
STOPS: Final = ("none", "asked", "late", "stall", "observation", "frozen", "overrun", "beyond", "chunk")
# Where an action comes from, in the order of ec_source.
SOURCES: Final = ("chunk", "extra", "hold", "stop", "rest", "nothing")
ESTIMATED: Final = -1
INFINITE: Final = math.inf


@dataclass(frozen=True, slots=True)
class Axis:
    """One number of an action: what it does in a control period, and its limits. Units are the user's, a period.

    `action_range`: what the actuator takes; nothing outside is ever sent. `position`, `velocity`: places in the state.
    """

    kind: Kind
    action_range: tuple[float, float]
    position: int = -1
    velocity: int = -1
    gain: float = 1.0
    travel: float = 1.0
    brake: float = 1.0
    brake_max: float = INFINITE
    alpha: float = 1.0
    rate: float = INFINITE
    hold_action: float = 0.0
    position_range: tuple[float, float] = (-INFINITE, INFINITE)
    motion_max: float = INFINITE
    change_max: float = INFINITE
    jerk_max: float = INFINITE
    wraps: bool = False
    action_scale: float = 1.0
    action_offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """How the delay is estimated from latencies (ec_delay.h)."""

    window: int = 64
    warm_up: int = 2
    calm: int = 8
    share: float = 0.99
    guard: float = 0.1  # periods
    first: int = 1  # periods, before the first answer that counts


@dataclass(frozen=True, slots=True)
class Settings:
    """A control loop. `delay`: periods, or ESTIMATED; `rate_hz`: periods a second; `_s`: seconds, 0 is not watched."""

    mode: Mode
    rate_hz: float
    horizon: int
    execute: int
    states: int
    axes: tuple[Axis, ...]
    delay: int = ESTIMATED
    delay_min: int = 0
    delay_trained: int | None = None  # None: execute
    beyond: Beyond = "clamp"
    quantum: int = 1
    continuous: bool = False
    ensemble_decay: float = 0.01
    blend: int = 0
    blend_quintic: bool = False
    extra: int = 0
    stop_after: int = 5
    stop_periods: int = 10
    late: Late = "drop"
    late_tolerance: int = 0
    stall_s: float = 0.0
    age_max_s: float = 0.0
    frozen_max: int = 0
    overrun_max: int = 0
    absurd: float = 0.0
    estimate: Estimate = field(default_factory=Estimate)
    state_scale: tuple[float, ...] | None = None
    state_offset: tuple[float, ...] | None = None

    @property
    def period_ns(self) -> int:
        """Nanoseconds of a period."""
        return round(1e9 / self.rate_hz)
