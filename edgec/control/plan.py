"""What a policy's latency means for a control loop: delay, how many actions to play, worst reaction, memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgec.control.core import c_config, library
from edgec.control.settings import ESTIMATED, Settings
from edgec.errors import UserError


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """`delay`: periods from an observation to the first action of its chunk. `execute_least`, `execute_most`: between
    which numbers of played actions the robot never waits. A reaction is the time from an event to the first action
    that knows of it, at worst: the event comes just behind an observation. `continuous`: the policy is asked again as
    soon as its chunk is taken up. `loop_bytes`: all memory of the loop in C."""

    delay: int
    execute_least: int
    execute_most: int
    reaction_s: float
    reaction_continuous_s: float
    wait_s: float
    loop_bytes: int

    def json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def plan(settings: Settings, latency_s: float) -> ControlPlan:
    """The plan for a policy that answers `latency_s` seconds after its observation at worst. Raises UserError
    EDGEC-E287 where the robot would wait, or where the delay is beyond what the policy was trained for."""
    period = 1.0 / settings.rate_hz
    if not (math.isfinite(latency_s) and latency_s >= 0.0):
        raise UserError("EDGEC-E287", f"give a latency in seconds from 0 up, not {latency_s}")
    delay = math.ceil((latency_s + settings.estimate.guard * period) / period - 1e-9)
    aligned = settings.mode in ("aligned", "ensemble", "rtc-prefix")
    most = settings.horizon - delay if aligned else settings.horizon
    _refuse(settings, delay, most, latency_s)
    played = math.ceil(settings.execute / settings.quantum)
    waits = delay if settings.mode == "sync" else 0
    fixed = replace(settings, delay=0 if settings.mode == "sync" else delay)
    return ControlPlan(
        delay=delay,
        execute_least=max(delay * settings.quantum, 1) if settings.mode != "sync" else 1,
        execute_most=most if settings.mode != "sync" else settings.horizon,
        reaction_s=(played + delay + waits) * period,
        reaction_continuous_s=(max(delay, 1) + delay) * period,
        wait_s=waits * period,
        loop_bytes=int(library().ec_loop_bytes(c_config(replace(fixed, delay=ESTIMATED)))),
    )


def _refuse(settings: Settings, delay: int, most: int, latency_s: float) -> None:
    if settings.mode == "sync":
        return
    said = f"{1e3 * latency_s:.1f} ms at {settings.rate_hz:g} Hz are a delay of {delay} periods"
    played = math.ceil(settings.execute / settings.quantum)
    if delay > played:
        rate = settings.rate_hz * played / delay
        raise UserError(
            "EDGEC-E287",
            f"play at least {delay * settings.quantum} actions of a chunk (execute), or control at {rate:.3g} Hz: "
            f"{said}, and the {played} that are played would be used up before",
        )
    if settings.execute > most:
        raise UserError(
            "EDGEC-E287",
            f"play at most {most} actions of a chunk (execute): {said}, and mode {settings.mode} begins behind them in "
            f"{settings.horizon} actions",
        )
    if settings.delay_trained is not None and delay > settings.delay_trained:
        raise UserError(
            "EDGEC-E287",
            f"train the policy for a delay of {delay} periods, or make it faster: {said}, and it was trained for "
            f"{settings.delay_trained}",
        )
