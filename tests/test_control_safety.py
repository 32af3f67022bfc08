"""What a loop does where robots get hurt: jumps, stale states, clocks, angles, ends of travel, dead policies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgec.control.loop import Action, Loop, Question
from edgec.control.settings import MODES, Axis, Estimate, Mode, Settings
from edgec.errors import UserError
from edgec.ir import Array

PERIOD = 10_000_000
DELTA = Axis("delta", (-1.0, 1.0), position=0)
ANGLE = Axis("absolute", (-math.pi, math.pi), position=0, wraps=True)
BASE = Settings("sync", 100.0, horizon=8, execute=4, states=1, axes=(DELTA,), delay=0)


def plays(given: Settings, wanted: list[float], state: float = 0.0) -> list[float]:
    """Actions of a loop whose policy answers at once: `wanted`, then its last; the robot stands still."""
    loop, sent = Loop(given), []
    for tick in range(len(wanted)):
        question = loop.begin(tick * PERIOD, np.array([state], np.float32))
        if question is not None:
            rest = wanted[tick : tick + given.horizon]
            chunk = np.array(rest + [rest[-1]] * (given.horizon - len(rest)), np.float32)
            loop.deliver(question.sequence, chunk[:, None], tick * PERIOD)
        action = loop.end()
        assert action.values is not None
        sent.append(float(action.values[0]))
    return sent


def test_an_angle_goes_the_short_way() -> None:
    axis = replace(ANGLE, motion_max=0.05)
    found = plays(replace(BASE, axes=(axis,)), [3.1] * 4 + [-3.1] * 4, state=3.1)
    assert found[:4] == pytest.approx([3.1] * 4)
    assert found[4] == pytest.approx(3.15 - 2 * math.pi, abs=1e-5)
    assert found[5:] == pytest.approx([-3.1] * 3, abs=1e-5)


def test_a_blend_of_angles_goes_the_short_way() -> None:
    loop = Loop(replace(BASE, axes=(ANGLE,), blend=3))
    sent = []
    for tick in range(8):
        question = loop.begin(tick * PERIOD, np.array([3.1], np.float32))
        if question is not None:
            loop.deliver(question.sequence, np.full((8, 1), 3.1 if tick == 0 else -3.1, np.float32), 0)
        action = loop.end()
        assert action.values is not None
        sent.append(abs(float(action.values[0])))
    assert min(sent) > 3.09


def test_speeds_of_an_axis_that_wraps_are_no_angles() -> None:
    axis = Axis("velocity", (-10.0, 10.0), position=0, gain=0.01, wraps=True)
    for mode, wanted in (("sync", [4.0, 0.0, -4.0]), ("ensemble", [0.0, 0.0, 0.0])):
        blend = 3 if mode == "sync" else 0
        given = replace(BASE, mode=mode, axes=(axis,), blend=blend, ensemble_decay=0.0)
        loop, sent = Loop(given), []
        for tick in range(7):
            question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
            if question is not None:
                loop.deliver(question.sequence, np.full((8, 1), -8.0 if tick else 8.0, np.float32), 0)
            action = loop.end()
            assert action.values is not None
            sent.append(float(action.values[0]))
        assert sent == pytest.approx([8.0] * 4 + wanted, abs=1e-5)


def test_an_ensemble_of_switches_is_a_switch_and_of_angles_an_angle() -> None:
    switch = Axis("discrete", (0.0, 1.0), position=1)
    given = replace(BASE, mode="ensemble", states=2, axes=(ANGLE, switch), continuous=True)
    loop = Loop(given)
    seen = []
    for tick in range(6):
        question = loop.begin(tick * PERIOD, np.array([3.1, 0.0], np.float32))
        if question is not None:
            row = (3.1, 0.0) if tick % 2 else (-3.1, 1.0)
            loop.deliver(question.sequence, np.tile(np.array(row, np.float32), (8, 1)), tick * PERIOD)
        action = loop.end()
        assert action.values is not None
        seen.append(action.values.tolist())
    assert [switch for _, switch in seen] == [1.0, 0.0] * 3
    assert min(abs(angle) for angle, _ in seen) > 3.09


def test_a_jerk_limit_arrives_without_overshoot_and_never_goes_back() -> None:
    axis = replace(DELTA, jerk_max=0.01, change_max=0.04)
    sent = np.array(plays(replace(BASE, axes=(axis,)), [0.5] * 40))
    assert np.diff(sent).min() > -1e-6 and sent.max() <= 0.5 + 1e-6 and sent[-1] == pytest.approx(0.5)
    assert np.abs(np.diff(np.diff(np.concatenate([[0.0, 0.0], sent])))).max() <= 0.01 + 1e-6


def test_after_a_hold_a_motion_starts_again_from_rest() -> None:
    axis = replace(DELTA, jerk_max=0.01)
    loop = Loop(replace(BASE, axes=(axis,)))
    sent = []
    for tick in range(30):
        question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
        if question is not None and tick not in (12, 13, 14):  # the policy thinks
            loop.deliver(question.sequence, np.full((8, 1), 0.3, np.float32), tick * PERIOD)
        elif tick == 15:
            loop.deliver(4, np.full((8, 1), 0.3, np.float32), tick * PERIOD)
        action = loop.end()
        assert action.values is not None
        sent.append(float(action.values[0]))
    assert sent[12:15] == [0.0] * 3
    assert min(sent) >= 0.0 and 0 < sent[15] <= 0.01 + 1e-7


def test_a_position_outside_is_neither_left_further_nor_jerked_back() -> None:
    axis = replace(DELTA, position_range=(-1.0, 1.0), motion_max=0.1)
    given = replace(BASE, axes=(axis,))
    assert plays(given, [0.05] * 4, state=3.0) == [0.0] * 4
    assert plays(given, [-0.05] * 4, state=3.0) == pytest.approx([-0.05] * 4)
    assert plays(given, [0.05] * 4, state=0.98) == pytest.approx([0.02] * 4, abs=1e-6)


def test_a_target_starts_from_where_the_robot_is() -> None:
    axis = Axis("absolute", (-5.0, 5.0), position=0, position_range=(-1.0, 1.0), motion_max=0.25)
    found = plays(replace(BASE, axes=(axis,)), [0.0] * 8, state=2.0)
    assert found == pytest.approx([1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_nothing_is_sent_to_a_robot_that_lies_out_of_reach() -> None:
    axis = Axis("absolute", (-1.0, 1.0), position=0, motion_max=0.1)
    loop = Loop(replace(BASE, axes=(axis,)))
    for tick, place in enumerate((1.2, 1.11, 1.09)):
        loop.begin(tick * PERIOD, np.array([place], np.float32))
        action = loop.end()
        assert (action.source == "nothing") == (place > 1.1)
    assert action.values is not None and action.values[0] == 1.0
    assert loop.counts["bad_observations"] == 2


def test_a_limit_holds_from_the_first_command_on() -> None:
    found = plays(replace(BASE, axes=(replace(DELTA, change_max=0.1),)), [1.0] * 4)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4])


class Cart:
    """A loop that accelerates a cart with speed 1 and whose policy never answers; states reach it `age` periods old."""

    def __init__(self, age: int, blind_from: int = 10**9, brake: float = 1.0) -> None:
        axis = Axis("acceleration", (-2.0, 2.0), velocity=0, brake=brake)
        self.loop = Loop(replace(BASE, axes=(axis,)))
        self.speeds = [np.float32(1.0)]
        for tick in range(12):
            seen = max(0, tick - age)
            state = math.nan if tick >= blind_from else float(self.speeds[seen])
            self.loop.begin(tick * PERIOD, np.array([state], np.float32), observed_ns=seen * PERIOD)
            action = self.loop.end()
            assert action.values is not None
            self.speeds.append(np.float32(self.speeds[-1] + action.values[0]))


@pytest.mark.parametrize("age", [0, 1, 3, 6])
@pytest.mark.parametrize("brake", [1.0, 0.5])
def test_a_brake_by_old_states_does_not_swing(age: int, brake: float) -> None:
    speeds = Cart(age, brake=brake).speeds
    assert [float(s) for s in speeds] == pytest.approx([(1 - brake) ** i for i in range(13)], abs=1e-6)


@pytest.mark.parametrize(("age", "wanted"), [(0.4, 0.5), (0.6, 0.375), (1.4, 0.375), (1.6, 0.125)])
def test_ages_count_in_whole_periods(age: float, wanted: float) -> None:
    """A brake takes half of the speed: of 1 as observed, less what the last 0, 1 or 2 periods took."""
    axis = Axis("acceleration", (-2.0, 2.0), velocity=0, brake=0.5)
    loop = Loop(replace(BASE, axes=(axis,)))
    for tick in range(3):
        loop.begin(tick * PERIOD, np.ones(1, np.float32), observed_ns=round((tick - age) * PERIOD))
        action = loop.end()
    assert action.values is not None and -float(action.values[0]) == wanted


@pytest.mark.parametrize("blind_from", [1, 2, 4])
def test_a_brake_without_states_does_not_run_away(blind_from: int) -> None:
    assert float(Cart(0, blind_from, brake=0.5).speeds[-1]) == pytest.approx(0.5**12, abs=1e-6)


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    """The same periods, with and without an hour less on the clock from period 7 on."""
    runs = []
    for jump in (0, -3600 * 100 * PERIOD):
        given = replace(BASE, mode="vlash", delay=-1, stall_s=0.05, age_max_s=0.03, stop_after=3)
        loop, sent = Loop(replace(given, estimate=Estimate(warm_up=0, guard=0.0))), []
        due: tuple[int, Question] | None = None
        for tick in range(40):
            now = tick * PERIOD + (jump if tick >= 7 else 0)
            if due is not None and tick >= due[0]:
                loop.deliver(due[1].sequence, np.full((8, 1), 0.01 * tick, np.float32), now)
                due = None
            question = loop.begin(now, np.zeros(1, np.float32))
            due = (tick + 2, question) if question is not None else due
            action = loop.end()
            assert action.values is not None
            sent.append((action.source, action.stop, float(action.values[0])))
        assert loop.counts["bad_observations"] == 0 and loop.counts["stops"] == 0
        runs.append(sent)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("jump", [-(10**15), 0])
def test_a_dead_policy_is_noticed_though_the_clock_is_set_back(jump: int) -> None:
    loop = Loop(replace(BASE, stall_s=0.05))
    stops = []
    for tick in range(10):
        loop.begin(tick * PERIOD + (jump if tick >= 3 else 0), np.zeros(1, np.float32))
        stops.append(loop.end().stop)
    assert stops == ["none"] * 6 + ["stall"] * 4


def test_a_clock_that_jumps_forward_does_not_spoil_the_delay() -> None:
    loop = Loop(replace(BASE, mode="vlash", delay=-1, estimate=Estimate(warm_up=0, guard=0.0)))
    question = loop.begin(0, np.zeros(1, np.float32))
    loop.end()
    assert question is not None
    loop.deliver(question.sequence, np.zeros((8, 1), np.float32), 10**15)
    assert loop.delay == 2


@pytest.mark.parametrize("times", [(-(2**63), 0), (0, 2**63 - 1), (2**63 - 1, -(2**63))])
def test_times_at_the_end_of_their_range_do_not_overflow(times: tuple[int, int]) -> None:
    loop = Loop(replace(BASE, mode="vlash", delay=-1, stall_s=0.05, age_max_s=0.02))
    for now in (*times, *times):
        for observed in times:
            question = loop.begin(now, np.zeros(1, np.float32), observed_ns=observed)
            if question is not None:
                loop.deliver(question.sequence, np.zeros((8, 1), np.float32), observed)
            loop.end()
    assert 0 <= loop.delay <= 4


def test_an_answer_that_waits_for_its_period_is_no_stall() -> None:
    loop = Loop(replace(BASE, mode="vlash", delay=4, stall_s=0.02))
    for tick in range(5):
        question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
        if question is not None:
            loop.deliver(question.sequence, np.zeros((8, 1), np.float32), tick * PERIOD)
        assert loop.end().stop == "none"


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_that_never_answers_well_stops_the_loop(mode: Mode) -> None:
    loop = Loop(replace(BASE, mode=mode, stop_after=3))
    found = []
    for tick in range(6):
        question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
        if question is not None:
            loop.deliver(question.sequence, np.full((8, 1), np.nan, np.float32), tick * PERIOD)
        found.append(loop.end().stop)
    assert found == ["none"] * 3 + ["chunk"] * 3


def test_a_policy_that_is_always_late_stops_the_loop_even_before_its_first_chunk() -> None:
    loop = Loop(replace(BASE, mode="vlash", delay=1, stop_after=2))
    stops, due = [], (10**9, 0)
    for tick in range(12):
        if tick >= due[0]:
            loop.deliver(due[1], np.zeros((8, 1), np.float32), tick * PERIOD)
            due = (10**9, 0)
        question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
        due = (tick + 3, question.sequence) if question is not None else due
        stops.append(loop.end().stop)
    assert loop.counts["dropped"] == 2
    assert stops == ["none"] * 6 + ["chunk"] * 6


def test_a_chunk_that_comes_after_a_stop_or_a_reset_is_refused() -> None:
    loop = Loop(replace(BASE, stop_periods=1))
    zero, chunk = np.zeros(1, np.float32), np.full((8, 1), 0.5, np.float32)
    question = loop.begin(0, zero)
    loop.end()
    assert question is not None
    loop.stop()
    assert not loop.deliver(question.sequence, chunk, PERIOD)
    loop.reset()
    assert not loop.deliver(question.sequence, chunk, PERIOD)
    loop.begin(PERIOD, zero)
    assert not loop.deliver(question.sequence, chunk, PERIOD)
    assert loop.end().source == "hold"


def late_handover(words: dict[str, object]) -> list[Action]:
    """Chunks of 0.1, 0.2, ...; the third comes two periods late, while the second has actions left."""
    given = replace(BASE, mode="vlash", delay=1, late="play", late_tolerance=9, stop_after=9, **words)  # type: ignore[arg-type]
    loop, found, due = Loop(given), [], (10**9, 0)
    for tick in range(20):
        if tick >= due[0]:
            loop.deliver(due[1], np.full((8, 1), 0.1 * due[1], np.float32), tick * PERIOD)
            due = (10**9, 0)
        question = loop.begin(tick * PERIOD, np.zeros(1, np.float32))
        if question is not None:
            due = (tick + (3 if question.sequence == 3 else 1), question.sequence)
        found.append(loop.end())
    return found


def test_after_a_hold_no_old_chunk_fades_out() -> None:
    found = late_handover({"blend": 3})
    resumes = next(i for i, a in enumerate(found) if a.sequence == 3)
    assert found[resumes - 1].source == "hold"
    values = [float(a.values[0]) for a in found[resumes : resumes + 3] if a.values is not None]
    assert values == pytest.approx([0.3] * 3)


@pytest.mark.parametrize(
    "axis",
    [
        replace(ANGLE, action_range=(-3.0, 3.0)),
        replace(ANGLE, position_range=(-3.0, 3.0)),
        replace(DELTA, wraps=True, position_range=(-1.0, math.inf)),
    ],
)
def test_angles_with_limits_are_refused(axis: Axis) -> None:
    with pytest.raises(UserError, match=r"^EDGEC-E281: .*a limit is absent, not finite or inverted"):
        Loop(replace(BASE, axes=(axis,)))


def test_a_state_beside_the_limits_of_numbers_sends_nothing_odd() -> None:
    axes = (
        DELTA,
        Axis("acceleration", (-1.0, 1.0), velocity=1, position=2),
        Axis("lag", (-1.0, 1.0), position=3),
    )
    loop = Loop(replace(BASE, mode="vlash", delay=2, states=4, axes=axes))
    huge: Array = np.array([3e38, -3e38, 3e38, -3e38], np.float32)
    for tick in range(20):
        question = loop.begin(tick * PERIOD, huge if tick % 2 else -huge)
        if question is not None:
            loop.deliver(question.sequence, np.full((8, 3), 3e38, np.float32), tick * PERIOD)
        action = loop.end()
        assert action.values is not None and (np.abs(action.values) <= 1).all()


@pytest.mark.parametrize("mode", MODES)
def test_without_roll_forward_the_policy_is_told_what_was_observed(mode: Mode) -> None:
    """A servo that does not follow: its place two periods ago, not where it was sent."""
    axis = Axis("absolute", (-1.0, 1.0), position=0)
    loop = Loop(replace(BASE, mode=mode, axes=(axis,), execute=1))
    for tick in range(8):
        place = np.array([0.01 * max(0, tick - 2)], np.float32)
        question = loop.begin(tick * PERIOD, place, observed_ns=max(0, tick - 2) * PERIOD)
        assert question is not None and question.state.tobytes() == place.tobytes()
        loop.deliver(question.sequence, np.full((8, 1), 0.9, np.float32), tick * PERIOD)
        loop.end()
