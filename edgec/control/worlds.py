"""Two-dimensional tasks that tell the modes of a control loop apart: many robots at once, all in control periods.

Actuations: `delta` (p += clip(a, 0.30)), `accel` (v += clip(a, 0.06), p += v), `lag` (an absolute target behind a
servo, p += clip(0.5 (a - p), 0.12)). Tasks: `mole`, a target that jumps 0.5 to 0.9 away every 20 periods, unannounced,
and is hit where the robot is within 0.08 of it for 3 periods; `ball`, a target that moves and turns at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgec.control.settings import Actuation, Axis, Task

if TYPE_CHECKING:
    from edgec.control.settings import Floats

NEAR, HIT_PERIODS, LIFE, SETTLE = 0.08, 3, 20, 40
REACH: Final = 0.9  # targets of `mole` are within it
JUMP: Final = (0.5, 0.9)
SPEED, TURN = 0.035, 0.04  # of `ball`: units a period, chance of a new heading
NOISE: Final = 0.005
MOVES: Final = 0.03  # towards the target in a period, the robot has reacted
STATES: Final = {"delta": 2, "lag": 2, "accel": 4}
_LIMIT: Final = {"delta": 0.30, "accel": 0.06, "lag": 4.0}


def axes(actuation: Actuation) -> tuple[Axis, ...]:
    """The robot's two axes, for a control loop."""
    limit = _LIMIT[actuation]
    if actuation == "accel":
        return tuple(
            Axis("acceleration", (-limit, limit), position=i, velocity=2 + i, brake=0.5, brake_max=0.03)
            for i in range(2)
        )
    if actuation == "lag":
        return tuple(Axis("lag", (-limit, limit), position=i, alpha=0.5, rate=0.12) for i in range(2))
    return tuple(Axis("delta", (-limit, limit), position=i) for i in range(2))


def moved(actuation: Actuation, state: Floats, action: Floats) -> Floats:
    """The robots' states f32[N,S] a period later, without noise."""
    state = state.copy()
    limit = np.float32(_LIMIT[actuation])
    action = np.clip(action.astype(np.float32), -limit, limit)
    if actuation == "accel":
        state[:, 2:] += action
        state[:, :2] += state[:, 2:]
    elif actuation == "lag":
        state[:, :2] += np.clip(
            np.float32(0.5) * (action - state[:, :2]), np.float32(-0.12), np.float32(0.12)
        )
    else:
        state[:, :2] += action
    return state


def shortened(x: Floats, most: float) -> Floats:
    """The vectors [N,2], none longer than `most`."""
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    return np.asarray(x * np.minimum(1.0, most / np.maximum(length, 1e-9)), np.float32)


def expert(actuation: Actuation, state: Floats, target: Floats, velocity: Floats) -> Floats:
    """The action [N,2] of one who sees the target [N,2] and how it moves."""
    place = state[:, :2]
    if actuation == "accel":
        return shortened(0.10 * (target - place) + 0.55 * (velocity - state[:, 2:]), 0.03)
    if actuation == "lag":
        return np.asarray(place + shortened(1.4 * (target + velocity - place), 0.20), np.float32)
    return shortened(0.7 * (target + velocity - place), 0.10)


def expert_chunk(
    actuation: Actuation, state: Floats, target: Floats, velocity: Floats, horizon: int
) -> Floats:
    """[N,horizon,2]: the expert's actions for a target that goes on as it does."""
    chunk = np.zeros((len(state), horizon, 2), np.float32)
    for step in range(horizon):
        chunk[:, step] = expert(actuation, state, target, velocity)
        state = moved(actuation, state, chunk[:, step])
        target = target + velocity
    return chunk


@dataclass(slots=True)
class World:
    """`count` robots, each with its target. `state` f32[N,S], `target` and `velocity` f32[N,2]. Targets
    of mole jump every `life` periods, each at its own `phase`."""

    task: Task
    actuation: Actuation
    rng: np.random.Generator
    state: Floats
    target: Floats
    velocity: Floats
    phase: Floats
    noise: float
    life: int

    @classmethod
    def made(
        cls,
        task: Task,
        actuation: Actuation,
        count: int,
        seed: int,
        noise: float = NOISE,
        life: int = LIFE,
    ) -> World:
        """At its start."""
        rng = np.random.default_rng(seed)
        velocity = np.zeros((count, 2), np.float32)
        if task == "ball":
            velocity = _headed(rng, SPEED * rng.uniform(0.7, 1.3, count))
        target = rng.uniform(-0.8, 0.8, (count, 2)).astype(np.float32)
        state = np.zeros((count, STATES[actuation]), np.float32)
        phase = rng.integers(0, life, count)
        return cls(task, actuation, rng, state, target, velocity, phase, noise, life)

    def jumps(self, period: int) -> Floats:
        """Which targets [N] go elsewhere as the period begins; they do."""
        due = (period + self.phase) % self.life == 0
        if self.task != "mole":
            return np.zeros(len(due), bool)
        waiting = np.flatnonzero(due)
        length = self.rng.uniform(*JUMP, len(waiting))
        while len(waiting):
            new = self.target[waiting] + _headed(self.rng, length)
            fits = np.abs(new).max(1) <= REACH
            self.target[waiting[fits]] = new[fits]
            waiting, length = waiting[~fits], length[~fits]
        return np.asarray(due)

    def move(self, action: Floats) -> None:
        """The robots move; so they stand to the targets that they aimed at."""
        self.state = moved(self.actuation, self.state, action)
        self.state[:, :2] += self.rng.normal(0.0, self.noise, self.target.shape).astype(np.float32)

    def roll_on(self) -> None:
        """The balls move."""
        if self.task != "ball":
            return
        self.target += self.velocity
        outside = np.abs(self.target) > 1.0
        self.velocity[outside] *= -1.0
        self.target = np.clip(self.target, -1.0, 1.0)
        turns = self.rng.random(len(self.target)) < TURN
        speed = np.sqrt((self.velocity**2).sum(1))
        self.velocity = np.where(turns[:, None], _headed(self.rng, speed), self.velocity)


def _headed(rng: np.random.Generator, length: Floats) -> Floats:
    """Vectors [N,2] of these lengths, in any direction."""
    angle = rng.uniform(0.0, 2 * np.pi, len(length))
    return np.asarray(length[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), np.float32)
