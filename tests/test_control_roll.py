"""Roll-forward is a simulator's state bit for bit, no delay is sync, no quantum is the policy's own actions.

The simulator here is written again, in float32 NumPy scalars, from the formulas in ec_control.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.control.core import CModel
from edgec.control.loop import Action, Loop, Question
from edgec.control.settings import KINDS, Axis, Kind, Mode, Settings
from edgec.ir import Array

PERIOD = 10_000_000
PI = np.float32(3.14159265358979)
F = np.float32


def wrapped(axis: Axis, x: np.float32) -> np.float32:
    if not axis.wraps or -PI < x <= PI:
        return x
    turn = F(2) * PI
    return F(x - turn * np.ceil(F(F(x - PI) / turn)))


def simulate(axes: tuple[Axis, ...], state: Array, action: Array) -> Array:
    """The state f32[S] a period later."""
    s, gain = state.copy(), [F(axis.gain) for axis in axes]
    for i, (axis, a) in enumerate(zip(axes, action, strict=True)):
        p = axis.position
        match axis.kind:
            case "delta" | "velocity":
                s[p] = wrapped(axis, F(s[p] + F(gain[i] * a)))
            case "absolute" | "discrete":
                s[p] = wrapped(axis, a)
            case "lag":
                way = wrapped(axis, F(a - s[p]))
                step = np.clip(F(F(axis.alpha) * way), -F(axis.rate), F(axis.rate))
                s[p] = wrapped(axis, F(s[p] + step))
            case "acceleration":
                s[axis.velocity] = F(s[axis.velocity] + F(gain[i] * a))
                s[p] = wrapped(axis, F(s[p] + F(F(axis.travel) * s[axis.velocity])))
            case "model":
                s[p] = F(F(s[p] * F(0.75)) + F(a * F(0.5)))
    return s


def model_of(axes: tuple[Axis, ...]) -> object:
    """The same for C, of all axes of kind model."""
    modelled = [(i, axis.position) for i, axis in enumerate(axes) if axis.kind == "model"]
    if not modelled:
        return None

    @CModel
    def model(
        _: object, state: ctypes._Pointer[ctypes.c_float], action: ctypes._Pointer[ctypes.c_float]
    ) -> None:
        for i, p in modelled:
            state[p] = float(F(F(F(state[p]) * F(0.75)) + F(F(action[i]) * F(0.5))))

    return model


@st.composite
def axis_of(draw: st.DrawFn, kind: Kind, number: int) -> Axis:
    """An axis with places of its own in the state: 2 `number` and the next."""
    real = lambda low, high: float(F(draw(st.floats(low, high, width=32))))
    wraps = kind in ("delta", "absolute", "lag", "velocity", "acceleration") and draw(st.booleans())
    most = 4.0 if wraps else real(0.5, 3.0)
    limited = not wraps and draw(st.booleans())
    return Axis(
        kind,
        (-most, most),
        position=2 * number,
        velocity=2 * number + 1 if kind == "acceleration" else -1,
        gain=real(0.125, 2.0),
        travel=real(0.125, 2.0),
        brake=real(0.25, 1.0),
        alpha=real(0.125, 1.0),
        rate=real(0.0625, 2.0),
        position_range=(-2.5, 2.5) if limited else (-np.inf, np.inf),
        motion_max=real(0.25, 2.0) if draw(st.booleans()) else np.inf,
        change_max=real(0.125, 1.0) if draw(st.booleans()) else np.inf,
        jerk_max=real(0.0625, 0.5) if draw(st.booleans()) else np.inf,
        wraps=wraps,
        action_scale=real(0.5, 2.0),
        action_offset=real(-0.25, 0.25),
    )


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[Kind, ...] = KINDS) -> Settings:
    """Settings with two axes of any kinds."""
    axes = tuple(draw(axis_of(draw(st.sampled_from(kinds)), i)) for i in range(2))
    execute = draw(st.integers(1, 5))
    joins = not any(axis.kind in ("acceleration", "model") for axis in axes)
    quantum = draw(st.integers(1, min(3, execute))) if joins else 1
    delay = draw(st.integers(0, -(-execute // quantum)))
    return Settings(
        "vlash",
        100.0,
        horizon=execute + draw(st.integers(0, 4)),
        execute=execute,
        states=4,
        axes=axes,
        delay=delay,
        quantum=quantum,
        blend=draw(st.integers(0, execute)),
        blend_quintic=draw(st.booleans()),
        extra=draw(st.integers(0, 2)),
        continuous=draw(st.booleans()),
        stop_after=50,
    )


class Bench:
    """A loop with the simulator above, and a policy with random actions that answers `latency` periods later; its
    observations are `age` periods old."""

    def __init__(self, made: Settings, seed: int, latency: int, age: int = 0) -> None:
        self.loop = Loop(made, model=model_of(made.axes))
        self.random, self.latency, self.made = np.random.default_rng(seed), latency, made
        self.age = age
        self.states = [self.random.uniform(-2, 2, made.states).astype(F)]
        self.questions: list[Question] = []
        self.actions: list[Action] = []
        self.chunks: dict[int, Array] = {}
        self.due = (10**9, 0)

    def deliver(self, tick: int) -> None:
        if tick >= self.due[0]:
            shape = (self.made.horizon, len(self.made.axes))
            chunk = self.random.uniform(-1.5, 1.5, shape).astype(F)
            self.chunks[self.due[1]] = chunk
            assert self.loop.deliver(self.due[1], chunk, tick * PERIOD)
            self.due = (10**9, 0)

    def run(self, periods: int) -> None:
        for tick in range(periods):
            self.deliver(tick)
            seen = max(0, tick - self.age)
            question = self.loop.begin(tick * PERIOD, self.states[seen], observed_ns=seen * PERIOD)
            if question is not None:
                self.questions.append(question)
                self.due = (tick + self.latency, question.sequence)
                self.deliver(tick)
            action = self.loop.end()
            self.actions.append(action)
            sent = np.zeros(len(self.made.axes), F) if action.values is None else action.values
            moved = simulate(self.made.axes, self.states[-1], sent)
            self.states.append(self.states[-1] if action.values is None else moved)


def reachable(made: Settings) -> Settings:
    """With actuators that reach every start in [-2, 2], so that something is sent from the first period on."""
    targets = ("absolute", "lag", "discrete")
    axes = tuple(replace(a, action_range=(-4.0, 4.0)) if a.kind in targets else a for a in made.axes)
    return replace(made, axes=axes)


@settings(max_examples=300, deadline=None)
@given(made=cases(), seed=st.integers(0, 2**32 - 1), early=st.integers(0, 3), age=st.integers(0, 5))
def test_the_state_that_the_policy_is_told_is_the_simulators_at_the_hand_over(
    made: Settings, seed: int, early: int, age: int
) -> None:
    made = reachable(made)
    bench = Bench(made, seed, max(0, made.delay - early), age if made.delay > 0 else 0)
    bench.run(40)
    assert len(bench.questions) > 4
    for question in bench.questions:
        if question.handover < len(bench.states):
            assert question.state.tobytes() == bench.states[question.handover].tobytes()
    assert bench.loop.quantile("roll_error", 1.0) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_axis_rolls_as_it_moves(kind: Kind) -> None:
    """The same, with a case of each kind that surely moves."""
    first = Axis(
        kind, (-4.0, 4.0), position=0, velocity=1 if kind == "acceleration" else -1, alpha=0.3, rate=0.4
    )
    made = Settings(
        "vlash", 100.0, horizon=8, execute=4, states=2, axes=(replace(first, gain=0.3, travel=0.7),), delay=3
    )
    bench = Bench(made, 3, 3)
    bench.run(60)
    late = [q for q in bench.questions if q.handover < 60]
    assert all(q.state.tobytes() == bench.states[q.handover].tobytes() for q in late)
    assert any(q.state.tobytes() != bench.states[q.tick].tobytes() for q in late)


@settings(max_examples=100, deadline=None)
@given(made=cases(), seed=st.integers(0, 2**32 - 1))
def test_the_prefix_is_what_is_sent_until_the_hand_over(made: Settings, seed: int) -> None:
    axes = tuple(replace(axis, action_scale=1.0, action_offset=0.0) for axis in reachable(made).axes)
    bench = Bench(replace(made, mode="naive", axes=axes), seed, made.delay)
    bench.run(40)
    for question in bench.questions:
        for step, row in enumerate(question.prefix):
            tick = question.tick + step
            values = bench.actions[tick].values if tick < len(bench.actions) else row
            assert values is not None and row.tobytes() == values.tobytes()


@settings(max_examples=100, deadline=None)
@given(made=cases(), seed=st.integers(0, 2**32 - 1))
def test_without_delay_all_modes_are_sync(made: Settings, seed: int) -> None:
    sent = {}
    modes: tuple[Mode, ...] = ("sync", "naive", "aligned", "rtc-prefix", "vlash")
    for mode in modes:
        given = replace(reachable(made), mode=mode, delay=0, continuous=False, extra=0)
        bench = Bench(given, seed, 0)
        bench.run(30)
        told = b"".join(q.state.tobytes() for q in bench.questions)
        sent[mode] = (told, b"".join(a.values.tobytes() for a in bench.actions if a.values is not None))
    assert len(set(sent.values())) == 1


@settings(max_examples=100, deadline=None)
@given(made=cases(), seed=st.integers(0, 2**32 - 1))
def test_without_a_quantum_and_limits_the_policys_actions_are_played(made: Settings, seed: int) -> None:
    free = {"motion_max": np.inf, "change_max": np.inf, "jerk_max": np.inf, "wraps": False}
    axes = tuple(
        replace(axis, action_range=(-9.0, 9.0), position_range=(-np.inf, np.inf), **free)
        for axis in made.axes
    )
    bench = Bench(replace(made, axes=axes, quantum=1, blend=0), seed, made.delay)
    bench.run(40)
    scale, offset = (np.array([getattr(a, f"action_{n}") for a in axes], F) for n in ("scale", "offset"))
    played = 0
    for action in bench.actions:
        if action.source == "chunk":
            assert action.values is not None
            wanted = scale * bench.chunks[action.sequence][action.index] + offset
            assert action.values.tobytes() == wanted.astype(F).tobytes()
            played += 1
    assert played > 20


@settings(max_examples=100, deadline=None)
@given(quantum=st.integers(1, 4), execute=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_joined_deltas_reach_what_single_ones_reach(quantum: int, execute: int, seed: int) -> None:
    """Where the actuator can do them: the sum over a chunk is the same, in fewer periods."""
    axis = Axis("delta", (-99.0, 99.0), position=0)
    made = Settings("sync", 100.0, horizon=8, execute=execute, states=1, axes=(axis,), delay=0)
    bench = Bench(replace(made, quantum=min(quantum, execute)), seed, 0)
    periods = -(-execute // min(quantum, execute))
    bench.run(periods)
    total = sum(float(a.values[0]) for a in bench.actions if a.values is not None)
    assert [a.sequence for a in bench.actions] == [1] * periods
    assert total == pytest.approx(float(bench.chunks[1][:execute].sum(dtype=np.float64)), abs=1e-5)


def test_the_state_is_told_in_the_policys_units() -> None:
    axis = Axis("delta", (-1.0, 1.0), position=0)
    made = Settings("vlash", 100.0, horizon=8, execute=4, states=1, axes=(axis,), delay=2)
    plain = Bench(made, 1, 2)
    scaled = Bench(replace(made, state_scale=(0.25,), state_offset=(0.5,)), 1, 2)
    plain.run(20)
    scaled.run(20)
    for one, other in zip(plain.questions, scaled.questions, strict=True):
        assert other.state.tobytes() == ((one.state - F(0.5)) / F(0.25)).tobytes()
