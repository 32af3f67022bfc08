"""Hours of a control loop with faults, in virtual time: nothing drifts, leaks or gets lost, each run is the same."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from control_programs import MEMORY_SANITIZER, build, needs_aarch64, run, run_aarch64

from edgec.control import soak_realtime
from edgec.control.faults import FAULTS, Fault, Rate, Script
from edgec.control.settings import MODES, Axis, Mode, Settings
from edgec.control.soak import PERIODS, soak

AXES = (
    Axis("delta", (-0.1, 0.1), position=0, position_range=(-1.0, 1.0)),
    Axis("acceleration", (-0.5, 0.5), position=1, velocity=2, change_max=0.3),
    Axis("discrete", (0.0, 1.0)),
)
BASE = Settings(
    "vlash",
    100.0,
    horizon=10,
    execute=6,
    states=3,
    axes=AXES,
    delay=-1,
    extra=2,
    late="play",
    late_tolerance=2,
    stall_s=0.2,
    age_max_s=0.05,
    frozen_max=4,
    overrun_max=3,
    absurd=4.0,
)


@pytest.mark.parametrize("mode", MODES)
def test_a_quarter_of_an_hour_is_the_same_twice_and_loses_nothing(mode: Mode) -> None:
    one, other = (soak(replace(BASE, mode=mode), 90_000) for _ in range(2))
    assert one.good, one.drift
    assert one.log == other.log and one.counts == other.counts
    assert one.counts["ticks"] == 90_000 and one.replayed == 30_000
    assert min(one.faults.values()) > 0 and one.counts["stops"] > 100 and one.counts["taken"] > 5_000
    assert soak(replace(BASE, mode=mode, extra=1 + BASE.extra), 1_000).log != one.log


def test_a_soak_that_lost_something_is_not_good() -> None:
    found = soak(BASE, 1_000)
    assert found.good
    assert not replace(found, lost=1).good
    assert not replace(found, drift={"late": (3, 2)}).good


@pytest.mark.slow
def test_five_hours_in_which_nothing_drifts_leaks_or_gets_lost() -> None:
    found = soak(BASE, PERIODS)
    assert found.good, found.drift
    assert found.counts["ticks"] == 1_800_000
    assert found.memory_kib < 32 * 1024  # one part's arrays; C has the caller's memory alone


def test_a_soak_in_real_time_loses_nothing_and_comes_back_after_each_stop() -> None:
    rates: dict[Fault, Rate] = dict.fromkeys(FAULTS, Rate(0.01, 1, 10))
    # Python may be late by as much in a busy computer, and the loop stops for it.
    settings = replace(BASE, age_max_s=0.2, stall_s=0.5, stop_after=30)
    found = soak_realtime.soak(settings, 4.0, script=Script(seed=2, rates=rates, size=2.0))
    assert found.good, found
    assert (
        found.periods == found.counts["ticks"] == found.replayed > 100 and found.records > 2 * found.periods
    )
    assert sum(found.faults.values()) > 10 and found.counts["stops"] > 1 and found.counts["taken"] > 5
    assert found.memory_last_kib > 0 and found.memory_first_kib > 0 and found.realtime == "rt=not asked"
    for wrong in ({"lost": 1}, {"drift": {"late": (3, 2)}}, {"grid_drift_ns": 1}, {"difference": "period 3"}):
        assert not replace(found, **wrong).good  # type: ignore[arg-type]


LOG = "control_log.c"


@cache
def log_of(*flags: str) -> str:
    done = run(build((LOG,), flags))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("flags", [("-O0",), ("-O3", "-march=native"), MEMORY_SANITIZER])
def test_the_log_is_the_same_however_the_loop_is_compiled(flags: tuple[str, ...]) -> None:
    assert re.fullmatch(r"\d{4} stops, 0 dropped, [0-9a-f]{16}\n", log_of("-O2"))
    assert log_of(*flags) == log_of("-O2")


@needs_aarch64
def test_the_log_of_an_aarch64_processor_is_the_same() -> None:
    done = run_aarch64((LOG,))
    assert done.returncode == 0, done.stderr
    assert done.stdout == log_of("-O2")
