"""Faults between robot, policy and loop: nothing outside the limits is sent, the loop stops or recovers in time."""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from control_rules import broken

from edgec.control.core import CModel
from edgec.control.faults import (
    FAULTS,
    Fault,
    Faults,
    Planned,
    Rate,
    Script,
    Surroundings,
    Trial,
    bound,
    trial,
)
from edgec.control.loop import Question
from edgec.control.realtime import Observation, Options, RealtimeLoop
from edgec.control.record import Recorder, Recording, parse
from edgec.control.replay import replay
from edgec.control.settings import MODES, SOURCES, STOPS, Axis, Estimate, Mode, Settings
from edgec.errors import UserError
from edgec.ir import Array

PERIOD = 10_000_000
ALL_KINDS = (
    Axis("delta", (-0.3, 0.2), position=0, position_range=(-2.0, 2.0), motion_max=0.25),
    Axis("delta", (-0.3, 0.3), position=1, change_max=0.07, action_scale=0.5, action_offset=0.01),
    Axis("absolute", (-9.0, 9.0), position=2, motion_max=0.2, change_max=0.05, position_range=(-4.0, 4.0)),
    Axis(
        "absolute", (-math.pi, math.pi), position=3, wraps=True, motion_max=0.3, change_max=0.1, jerk_max=0.04
    ),
    Axis("lag", (-9.0, 9.0), position=4, alpha=0.4, rate=0.2, motion_max=0.3, position_range=(-4.0, 4.0)),
    Axis("velocity", (-1.0, 1.0), position=5, gain=0.1, jerk_max=0.05, change_max=0.2),
    Axis("velocity", (-1.0, 1.0), position=6, gain=0.1, wraps=True, jerk_max=0.1),
    Axis("acceleration", (-0.5, 0.5), position=7, velocity=8, brake=0.7, motion_max=0.4),
    Axis("discrete", (0.0, 1.0), position=9),
)
JOINED = tuple(axis for axis in ALL_KINDS if axis.kind != "acceleration")
BASE = Settings(
    "vlash",
    100.0,
    horizon=12,
    execute=6,
    states=10,
    axes=ALL_KINDS,
    delay=3,
    extra=2,
    stop_after=4,
    stop_periods=3,
    stall_s=0.12,
    age_max_s=0.035,
    frozen_max=4,
    overrun_max=3,
    absurd=4.0,
)
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"late": "play", "late_tolerance": 3, "blend": 3, "blend_quintic": True},
    {"delay": -1, "estimate": Estimate(window=8, warm_up=1, calm=2), "late": "play", "late_tolerance": 9},
    {"axes": JOINED, "quantum": 2, "delay": 2, "state_scale": (2.0,) * 10, "state_offset": (0.1,) * 10},
    {"delay": -1, "beyond": "lengthen", "delay_trained": 2, "stop_after": 7, "stop_periods": 0},
    {"continuous": True, "delay": 2, "stall_s": 0.0},
)
RATES: dict[Fault, Rate] = {
    **dict.fromkeys(FAULTS[:7], Rate(0.05, 1, 20)),
    **dict.fromkeys(("dropped", "frozen", "stale", "state-nan", "overrun"), Rate(0.03, 1, 6)),
    **dict.fromkeys(("forward", "backward"), Rate(0.02, 1, 40)),
    "spike": Rate(0.03, 1, 2),
    "jump": Rate(0.03),
    "dead": Rate(0.01, 1, 20),
}
AROUND = Surroundings(seed=5, latency=(0.0, 3.0), excess=1.3, noise=0.01, reset_after=2, stop_every=997)


def fitting(mode: Mode, words: dict[str, object]) -> Settings:
    made = replace(BASE, **words)  # type: ignore[arg-type]
    if mode == "sync":
        made = replace(made, continuous=False)
    return replace(made, mode=mode, blend=0 if mode == "ensemble" else made.blend)


def storm(periods: int, seed: int) -> tuple[int, int, set[str]]:
    """(faults, periods in which chunks played, causes of stops) over all modes and variants."""
    faults = played = 0
    causes: set[str] = set()
    for number, mode in enumerate(MODES):
        for variant, words in enumerate(VARIANTS):
            settings = fitting(mode, words)
            script = Script(seed=seed + 100 * number + variant, rates=RATES, size=1.5)
            recording, counts = trial(settings, replace(AROUND, seed=seed), script, periods)
            assert broken(recording) == [], (mode, words)
            faults += sum(counts.values())
            assert min(counts.values()) > 0, counts
            played += int((recording.periods["source"] == 0).sum())
            causes |= {STOPS[e] for e in np.unique(recording.happened("stop")["value"])}
    return faults, played, causes


def test_a_hundred_thousand_faults_break_no_rule() -> None:
    faults, played, causes = storm(12_000, seed=11)
    assert faults >= 100_000 and played >= 50_000
    assert causes == set(STOPS) - {"none", "beyond"}


@pytest.mark.slow
def test_a_million_faults_break_no_rule() -> None:
    assert sum(storm(26_000, seed)[0] for seed in (21, 22, 23, 24)) >= 1_000_000


def test_a_robot_with_a_model_of_its_own_keeps_the_rules() -> None:
    @CModel
    def model(
        _: object, state: ctypes._Pointer[ctypes.c_float], action: ctypes._Pointer[ctypes.c_float]
    ) -> None:
        state[0] = 0.9 * state[0] + action[0]

    axes = (Axis("model", (-0.5, 0.5), position=0),)
    for mode in MODES:
        settings = replace(BASE, mode=mode, axes=axes, states=1)
        made = Trial(settings, AROUND, Script(seed=3, rates=RATES, size=1.0), model)
        assert broken(parse(made.run(2_000), Path("trial"))) == []


# One fault at a time, in period 40 or the first chunk after it.
BEGIN = 40
CALM = Surroundings(seed=2, latency=(2.0, 2.0))


def one_fault(settings: Settings, fault: Fault, periods: int) -> Recording:
    """A fault that lasts so many periods (of chunks: of all that are published in them)."""
    plan = [Planned(BEGIN, fault, periods)]
    if fault in FAULTS[:7]:
        plan = [Planned(BEGIN + i, fault, 60 if fault == "late" else 1) for i in range(periods)]
    recording, counts = trial(settings, CALM, Script(seed=1, plan=tuple(plan), size=20.0), BEGIN + 400)
    assert counts[fault] > 0
    assert broken(recording) == []
    return recording


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_fault_that_goes_on_stops_the_loop_within_its_bound(mode: Mode, fault: Fault) -> None:
    settings = replace(BASE, mode=mode, absurd=4.0)
    declared = bound(settings, fault, latency=2)
    recording = one_fault(settings, fault, 300)
    stops = recording.happened("stop")
    if declared.stops is None:
        assert len(stops) == 0 or STOPS[int(stops[0]["value"])] in declared.causes
        return
    assert len(stops) == 1, fault
    first = BEGIN
    if fault in FAULTS[:7]:  # from the first chunk that it befell
        first = int(recording.questions["tick"][recording.questions["tick"] >= BEGIN - 2][0]) + 2
    assert int(stops[0]["tick"]) <= first + declared.stops
    assert STOPS[int(stops[0]["value"])] in declared.causes


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_short_fault_is_over_within_its_bound(mode: Mode, fault: Fault) -> None:
    settings = replace(BASE, mode=mode, stop_after=20, late="drop")
    periods = 8 if fault in FAULTS[:7] or fault == "dead" else 2
    declared = bound(settings, fault, latency=2)
    recording = one_fault(settings, fault, periods)
    p = recording.periods
    stops = recording.happened("stop")
    if len(stops):
        assert STOPS[int(stops[0]["value"])] in declared.causes
        return
    end = BEGIN + periods
    after = p["source"][end : end + declared.recovers + 1]
    assert "chunk" in {SOURCES[s] for s in after}, after
    assert {SOURCES[s] for s in p["source"][end + 100 :]} <= {"chunk", "hold" if mode == "sync" else "chunk"}


@pytest.mark.parametrize("fault", ["lost", "reorder"])
def test_an_answer_that_never_comes_stops_the_loop(fault: Fault) -> None:
    """However short the fault is: the policy is not asked a second time while it may still compute."""
    for mode in MODES:
        recording = one_fault(replace(BASE, mode=mode, stop_after=20, late="drop"), fault, 8)
        assert STOPS[int(recording.happened("stop")[0]["value"])] in ("late", "stall")


def test_every_fault_has_its_row_in_the_manual() -> None:
    text = (Path(__file__).parent.parent / "docs" / "control-faults.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip().strip("`") for line in text.splitlines() if line.startswith("| `")}
    assert set(FAULTS) <= rows


def test_the_same_script_is_the_same_recording() -> None:
    one, other = (Trial(BASE, AROUND, Script(seed=4, rates=RATES)).run(3_000) for _ in range(2))
    assert one == other
    assert one != Trial(BASE, AROUND, Script(seed=5, rates=RATES)).run(3_000)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (Script(rates={"nan": Rate(1.5)}), "nan is out of range"),
        (Script(rates={"late": Rate(0.5, 3, 2)}), "late is out of range"),
        (Script(plan=(Planned(3, "fire"),)), "fire is no fault"),  # type: ignore[arg-type]
    ],
)
def test_scripts_that_cannot_be_are_refused(script: Script, text: str) -> None:
    listed = ", ".join(FAULTS)
    wanted = f"^EDGEC-E29E: give rates from 0 to 1 and periods from least to most, of {listed}: {text}$"
    with pytest.raises(UserError, match=wanted):
        Trial(BASE, AROUND, script)


class Rig:
    """A robot of two delta axes, and a policy that moves it to and fro."""

    def __init__(self) -> None:
        self.place = np.zeros(2, np.float32)
        self.commands: list[Array] = []

    def sense(self) -> Observation:
        return Observation(self.place.copy())

    def act(self, action: Array) -> None:
        self.place = self.place + action
        self.commands.append(action)

    def policy(self, question: Question, payload: Array | None) -> Array:
        sign = 1 if question.sequence % 2 else -1
        return np.full((8, 2), 0.05 * sign, np.float32)


def in_real_time(
    script: Script, words: dict[str, object], periods: int
) -> tuple[Recording, dict[str, int], Rig]:
    axes = tuple(Axis("delta", (-0.1, 0.1), position=i, position_range=(-1.0, 1.0)) for i in range(2))
    made = Settings(
        "vlash", 200.0, horizon=8, execute=6, states=2, axes=axes, delay=4, stop_after=3, absurd=5.0
    )
    made = replace(made, stop_periods=3, **{"late": "play", "late_tolerance": 50, **words})  # type: ignore[arg-type]
    recorder, faults, rig = Recorder(made), Faults(made, script), Rig()
    options = Options(periods=periods, recorder=recorder, faults=faults)
    RealtimeLoop(made, rig, rig.policy, options).run()
    assert recorder.dropped == 0
    return parse(recorder.take(), Path("run")), faults.counts, rig


@pytest.mark.parametrize(
    ("fault", "words", "cause"),
    [
        ("nan", {}, {"late", "chunk"}),
        ("infinite", {}, {"late", "chunk"}),
        ("range", {}, {"late", "chunk"}),  # ten times the actuator's
        ("late", {"late": "drop", "late_tolerance": 0}, {"late", "chunk"}),
        ("lost", {}, {"late"}),
        ("reorder", {}, {"late"}),
        ("dead", {}, {"late"}),
        ("dead", {"stall_s": 0.06, "stop_after": 99}, {"stall"}),
        ("dropped", {"age_max_s": 0.06}, {"observation", "late"}),
        ("stale", {"age_max_s": 0.06}, {"observation", "late"}),
        ("state-nan", {"age_max_s": 0.06}, {"observation", "late"}),
        ("frozen", {"frozen_max": 10}, {"frozen", "late"}),
        ("overrun", {"overrun_max": 3}, {"overrun", "late"}),
    ],
)
def test_the_same_faults_stop_the_threads_of_a_run_in_real_time(
    fault: Fault, words: dict[str, object], cause: set[str]
) -> None:
    of_chunks = fault in FAULTS[:7]
    lasts = 40 if fault == "late" else 201  # at which old observations are 16 periods old
    plan = tuple(Planned(60 + i, fault, lasts) for i in range(200 if of_chunks else 1))
    recording, counts, rig = in_real_time(Script(plan=plan), {"stop_after": 20, **words}, 400)
    assert counts[fault] > 0
    stop = recording.happened("stop")[0]
    assert STOPS[int(stop["value"])] in cause and 60 <= int(stop["tick"]) <= 60 + 60
    assert broken(recording) == [] and replay(recording).same
    assert all((np.abs(command) <= np.float32(0.1)).all() for command in rig.commands)
    assert not rig.commands[-1].any()


@pytest.mark.parametrize(
    ("fault", "periods", "size", "told"),
    [
        ("late", 6, 10.0, "late"),
        ("duplicate", 2, 10.0, "refused"),
        ("nan", 1, 10.0, "refused"),
        ("range", 1, 2.0, "clipped"),
        ("range", 1, 10.0, "refused"),
        ("dropped", 8, 10.0, None),
        ("frozen", 8, 10.0, None),
        ("spike", 3, 0.5, None),
    ],
)
def test_short_faults_are_told_and_stop_no_run_in_real_time(
    fault: Fault, periods: int, size: float, told: str | None
) -> None:
    """Of chunks: those that come in ten periods; late ones by more than the delay."""
    many = 10 if fault in FAULTS[:7] else 1
    script = Script(plan=tuple(Planned(30 + i, fault, periods) for i in range(many)), size=size)
    recording, counts, rig = in_real_time(script, {"stop_after": 60, "age_max_s": 0.2}, 150)
    assert counts[fault] > 0
    assert [STOPS[e] for e in recording.happened("stop")["value"]] == ["asked"]  # by the end of the run
    p = recording.periods
    after = (p["tick"] >= 30) & (p["tick"] < 150)
    if told == "clipped":
        assert p["clipped"][after].sum() > 0
    elif told is not None:
        assert (recording.happened(told)["tick"] >= 30).any()
    assert (p["source"][p["tick"] >= 100] == SOURCES.index("chunk")).any()  # the policy plays again
    assert broken(recording) == [] and replay(recording).same
    assert all((np.abs(command) <= np.float32(0.1)).all() for command in rig.commands)


def test_a_clock_that_jumps_stops_no_run_in_real_time() -> None:
    plan = (Planned(30, "backward", 10**6), Planned(60, "forward", 10**5))
    recording, counts, _ = in_real_time(Script(plan=plan), {"stop_after": 60, "age_max_s": 0.2}, 150)
    assert (counts["backward"], counts["forward"]) == (1, 1)
    assert (np.diff(recording.periods["now"]) < 0).sum() == 1
    assert [STOPS[e] for e in recording.happened("stop")["value"]] == ["asked"]  # by the end of the run
    assert broken(recording) == [] and replay(recording).same
