"""The control loop, period by period: what each mode asks and plays, limits, late chunks, stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.control.loop import Action, Loop, Question
from edgec.control.settings import Axis, Estimate, Settings
from edgec.errors import UserError
from edgec.ir import Array

PERIOD = 10_000_000
DELTA = Axis("delta", (-1.0, 1.0), position=0)


def settings(**words: object) -> Settings:
    base = Settings("vlash", 100.0, horizon=8, execute=4, states=1, axes=(DELTA,), delay=2)
    return replace(base, **words)  # type: ignore[arg-type]


class Robot:
    """A loop with a robot that moves as its axes say; a policy that answers so many periods later."""

    def __init__(self, given: Settings, latency: int) -> None:
        self.loop, self.latency = Loop(given), latency
        self.state = np.zeros(given.states, np.float32)
        self.tick = 0
        self.under_way: tuple[int, Question] | None = None
        self.questions: list[Question] = []
        self.answers = 0

    def chunk(self, question: Question) -> Array:
        """Action i of chunk n is n/100 + i/1000: tells where an action comes from."""
        given = self.loop.settings
        number = question.sequence / 100 + np.arange(given.horizon)[:, None] / 1000
        return np.repeat(number, len(given.axes), 1).astype(np.float32)

    def deliver(self) -> None:
        if self.under_way is not None and self.tick >= self.under_way[0]:
            due, question = self.under_way
            self.under_way = None
            self.answers += self.loop.deliver(question.sequence, self.chunk(question), due * PERIOD)

    def period(self) -> Action:
        self.deliver()
        question = self.loop.begin(self.tick * PERIOD, self.state)
        if question is not None:
            self.questions.append(question)
            self.under_way = (self.tick + self.latency, question)
            self.deliver()
        action = self.loop.end()
        assert action.values is not None
        for axis, value in zip(self.loop.settings.axes, action.values, strict=True):
            if axis.kind == "delta":
                self.state[axis.position] += np.float32(axis.gain) * value
        self.tick += 1
        return action

    def run(self, periods: int) -> list[Action]:
        return [self.period() for _ in range(periods)]


def played(actions: list[Action]) -> list[tuple[str, int, int]]:
    return [(a.source, a.sequence, a.index) for a in actions]


HOLD = ("hold", 0, 0)


def test_sync_holds_while_the_policy_thinks() -> None:
    robot = Robot(settings(mode="sync"), 2)
    found = played(robot.run(12))
    chunk = [[("chunk", n, i) for i in range(4)] for n in (1, 2)]
    assert found == [HOLD, HOLD, *chunk[0], HOLD, HOLD, *chunk[1]]


@pytest.mark.parametrize("mode", ["naive", "vlash"])
def test_a_chunk_begins_with_its_first_action_where_the_last_one_ends(mode: str) -> None:
    robot = Robot(settings(mode=mode), 2)
    found = played(robot.run(10))
    assert found == [HOLD, HOLD, *(("chunk", n, i) for n in (1, 2) for i in range(4))]
    assert [q.tick for q in robot.questions] == [0, 4, 8]
    assert [q.handover for q in robot.questions] == [2, 6, 10]


@pytest.mark.parametrize("mode", ["aligned", "rtc-prefix"])
def test_aligned_chunks_begin_with_the_action_of_their_period(mode: str) -> None:
    found = played(Robot(settings(mode=mode), 2).run(10))
    assert found == [HOLD, HOLD, *(("chunk", n, i) for n in (1, 2) for i in range(2, 6))]


def test_vlash_is_told_the_state_that_the_committed_actions_bring_about() -> None:
    robot = Robot(settings(), 2)
    seen = {}
    for _ in range(10):
        before = robot.state.copy()
        robot.period()
        seen[robot.tick - 1] = before
    for question in robot.questions[:-1]:
        assert question.state.tobytes() == seen[question.handover].tobytes()


def test_others_are_told_the_measured_state_and_the_prefix() -> None:
    robot = Robot(settings(mode="rtc-prefix"), 2)
    actions = robot.run(10)
    question = robot.questions[1]
    assert question.state[0] == np.float32(
        sum(float(a.values[0]) for a in actions[:4] if a.values is not None)
    )
    wanted = np.array([a.values for a in actions[4:6]], np.float32)
    assert question.prefix.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("mode", ["naive", "aligned", "rtc-prefix", "vlash"])
def test_without_delay_every_mode_is_sync(mode: str) -> None:
    wanted = Robot(settings(mode="sync", delay=0), 0).run(20)
    found = Robot(settings(mode=mode, delay=0), 0).run(20)
    assert played(found) == played(wanted)
    assert [a.values.tobytes() for a in found if a.values is not None] == [
        a.values.tobytes() for a in wanted if a.values is not None
    ]


def test_the_ensemble_is_the_weighted_mean_of_what_speaks_of_a_period() -> None:
    robot = Robot(settings(mode="ensemble", delay=0, ensemble_decay=0.5), 0)
    actions = robot.run(6)
    old, new = np.float32(0.01 + 0.005), np.float32(0.02 + 0.001)
    weight = np.exp(-0.5)
    assert actions[5].values is not None
    assert actions[5].values[0] == pytest.approx((old + weight * new) / (1 + weight), rel=1e-6)


def test_a_late_chunk_is_waited_for_with_extra_actions_then_with_holds() -> None:
    robot = Robot(settings(extra=1, stop_after=9, late="play", late_tolerance=9), 2)
    robot.run(6)
    robot.latency = 5  # asked in period 4 for period 6... and from 8 on for 10
    found = played(robot.run(8))
    assert found[:4] == [("chunk", 2, i) for i in range(4)]
    assert found[4:] == [("extra", 2, 4), HOLD, HOLD, ("chunk", 3, 0)]
    assert robot.loop.counts["late"] == 1


def test_a_dropped_chunk_is_asked_for_again() -> None:
    robot = Robot(settings(stop_after=50), 2)
    robot.run(6)
    robot.latency = 4
    robot.run(4)
    robot.latency = 2
    found = played(robot.run(5))
    assert found == [HOLD, HOLD, HOLD, HOLD, ("chunk", 4, 0)]
    assert robot.loop.counts["dropped"] == 1


def test_a_held_delta_moves_nothing() -> None:
    robot = Robot(settings(stop_after=50), 2)
    robot.run(6)
    robot.latency = 10**6
    robot.run(4)
    place = robot.state.copy()
    for action in robot.run(5):
        assert action.source == "hold" and action.values is not None and action.values[0] == 0.0
    assert robot.state.tobytes() == place.tobytes()


def test_the_loop_comes_to_rest_and_stays_until_reset() -> None:
    robot = Robot(settings(stop_after=2, stop_periods=4), 2)
    robot.run(6)
    robot.latency = 10**6
    found = robot.run(12)
    sources = [a.source for a in found]
    assert sources == ["chunk"] * 4 + ["hold"] * 2 + ["stop"] * 4 + ["rest"] * 2
    assert {a.stop for a in found[6:]} == {"late"}
    robot.under_way, robot.latency = None, 2
    robot.loop.reset()
    assert "chunk" in [a.source for a in robot.run(4)]


def test_a_stop_slows_a_motion_down_in_equal_parts() -> None:
    robot = Robot(settings(stop_periods=4), 2)
    robot.run(4)
    last = robot.period().values
    robot.loop.stop()
    assert last is not None
    values = [a.values[0] for a in robot.run(5) if a.values is not None]
    assert values == pytest.approx([last[0] * share for share in (0.75, 0.5, 0.25, 0, 0)], rel=1e-6)


def test_nothing_outside_the_limits_is_sent() -> None:
    axis = replace(DELTA, action_range=(-0.012, 0.012), position_range=(-1.0, 0.05), change_max=0.004)
    robot = Robot(settings(axes=(axis,)), 2)
    values = np.array([a.values for a in robot.run(30)], np.float32)
    assert values.max() <= np.float32(0.012) and robot.state[0] <= np.float32(0.05) + 1e-7
    assert np.abs(np.diff(values[:4, 0])).max() <= 0.004 + 1e-7
    assert robot.loop.counts["clipped"] > 0


def test_numbers_that_are_none_never_reach_the_robot() -> None:
    robot = Robot(settings(stop_after=3, stop_periods=2), 2)
    robot.run(6)
    robot.chunk = lambda question: np.full((8, 1), np.nan, np.float32)  # type: ignore[method-assign]
    found = robot.run(14)
    assert all(np.isfinite(a.values).all() for a in found if a.values is not None)
    assert found[-1].stop == "late" and robot.loop.counts["refused"] > 0


def test_absurd_chunks_are_refused_and_smaller_excess_is_cut() -> None:
    robot = Robot(settings(absurd=3.0), 2)
    robot.chunk = lambda question: np.full((8, 1), 2.0, np.float32)  # type: ignore[method-assign]
    assert {float(a.values[0]) for a in robot.run(8)[2:] if a.values is not None} == {1.0}
    robot = Robot(settings(absurd=1.5), 2)
    robot.chunk = lambda question: np.full((8, 1), 2.0, np.float32)  # type: ignore[method-assign]
    assert {a.source for a in robot.run(8)} == {"hold"}


def test_before_the_first_good_observation_nothing_is_sent() -> None:
    loop = Loop(settings())
    assert loop.begin(0, np.array([np.nan], np.float32)) is None
    found = loop.end()
    assert found.values is None and found.source == "nothing"
    assert loop.begin(PERIOD, np.zeros(1, np.float32)) is not None


def test_old_and_frozen_observations_stop_the_loop() -> None:
    loop = Loop(settings(age_max_s=0.025, stop_periods=1))
    zero = np.zeros(1, np.float32)
    stops = []
    for tick in range(6):
        loop.begin(tick * PERIOD, zero, observed_ns=min(tick, 1) * PERIOD)
        stops.append(loop.end().stop)
    assert stops == ["none"] * 4 + ["observation"] * 2
    loop = Loop(settings(frozen_max=3))
    found = []
    for tick in range(6):
        loop.begin(tick * PERIOD, zero, frame=7)
        found.append(loop.end().stop)
    assert found == ["none"] * 3 + ["frozen"] * 3


def test_a_policy_that_never_answers_stops_the_loop() -> None:
    robot = Robot(settings(mode="sync", stall_s=0.05), 10**6)
    assert [a.stop for a in robot.run(8)] == ["none"] * 6 + ["stall"] * 2


def test_periods_that_take_too_long_stop_the_loop() -> None:
    loop = Loop(settings(overrun_max=2))
    found = []
    for tick, overrun in enumerate((False, True, False, True, True)):
        loop.begin(tick * PERIOD, np.zeros(1, np.float32), overrun=overrun)
        found.append(loop.end().stop)
    assert found == ["none"] * 4 + ["overrun"]


def test_the_delay_is_the_latency_rounded_up_and_forgets_outliers() -> None:
    estimate = Estimate(window=4, warm_up=1, calm=1, guard=0.0, first=1)
    robot = Robot(settings(delay=-1, estimate=estimate, horizon=16, execute=8, stop_after=99, extra=8), 20)
    robot.run(20)  # the warm-up
    robot.latency = 3
    robot.run(30)
    assert robot.loop.delay == 3
    robot.latency = 6
    robot.run(20)
    assert robot.loop.delay == 6
    robot.latency = 3
    robot.run(100)
    assert robot.loop.delay == 3


def test_joined_deltas_add_up_and_targets_are_the_last() -> None:
    axes = (DELTA, Axis("absolute", (-1.0, 1.0), position=1), Axis("discrete", (0.0, 1.0), position=2))
    robot = Robot(settings(mode="sync", delay=0, states=3, axes=axes, quantum=2, execute=4), 0)
    chunk = np.array([[1, 1, 0], [2, 2, 1], [3, 3, 0], [4, 4, 0]] + [[0, 0, 0]] * 4, np.float32) / [10, 10, 1]
    robot.chunk = lambda question: chunk.astype(np.float32)  # type: ignore[method-assign]
    values = np.array([a.values for a in robot.run(2)])
    assert values[:, 0] == pytest.approx([0.3, 0.7], rel=1e-6)
    assert values[:, 1] == pytest.approx([0.2, 0.4], rel=1e-6)
    assert values[:, 2].tolist() == [1.0, 0.0]


def test_a_sum_beyond_the_range_is_split_not_cut() -> None:
    robot = Robot(settings(mode="sync", delay=0, quantum=4, horizon=8, execute=8), 0)
    robot.chunk = lambda question: np.full((8, 1), 0.4, np.float32)  # type: ignore[method-assign]
    values = [float(a.values[0]) for a in robot.run(4) if a.values is not None]
    assert values == pytest.approx([0.8] * 4, rel=1e-6)
    assert robot.loop.counts["split"] == 3 and robot.loop.counts["clipped"] == 0


def test_a_quantum_of_one_is_no_quantum() -> None:
    one, none = (Robot(settings(quantum=1), 2).run(20) for _ in range(2))
    assert [a.values.tobytes() for a in one if a.values is not None] == [
        a.values.tobytes() for a in none if a.values is not None
    ]


def test_a_blend_leads_from_the_old_chunk_to_the_new() -> None:
    robot = Robot(settings(blend=3), 2)
    values = [float(a.values[0]) for a in robot.run(10) if a.values is not None]
    old, new = [0.014, 0.015, 0.016], [0.020, 0.021, 0.022]
    wanted = [(1 - w) * a + w * b for a, b, w in zip(old, new, (0.25, 0.5, 0.75), strict=True)]
    assert values[6:9] == pytest.approx(wanted, rel=1e-5)


def test_continuous_asks_again_as_soon_as_a_chunk_is_taken_up() -> None:
    robot = Robot(settings(continuous=True), 2)
    found = played(robot.run(8))
    assert found[2:] == [("chunk", n, i) for n in (1, 2, 3) for i in range(2)]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"delay": 5},
            "the delay is beyond the actions that are played, or beyond what the policy was trained for",
        ),
        ({"execute": 9}, "axes, states, horizon or execute out of range"),
        ({"axes": (replace(DELTA, position=3),)}, "an axis names no place in the state"),
        (
            {"axes": (replace(DELTA, action_range=(0.0, float("inf"))),)},
            "a limit is absent, not finite or inverted",
        ),
        ({"axes": (Axis("acceleration", (-1.0, 1.0), velocity=0),), "quantum": 2}, "cannot be joined"),
        ({"stop_after": 0}, "an option is out of its range"),
    ],
)
def test_settings_that_cannot_be_are_refused(words: dict[str, object], text: str) -> None:
    with pytest.raises(UserError, match=f"^EDGEC-E281: change the control settings: .*{text}"):
        Loop(settings(**words))
