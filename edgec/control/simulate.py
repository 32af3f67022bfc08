"""Scores of the modes on the tasks of worlds.py, through the C loop in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgec.control import worlds
from edgec.control.settings import Actuation, Mode, Settings, Task
from edgec.control.virtual import VirtualLoops
from edgec.control.worlds import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgec.control.settings import Floats

# (told state f32[M,S], measured target f32[M,2], its velocity f32[M,2], measured position f32[M,2], delay i64[M],
# prefix f32[M,H,2]) -> chunk f32[M,H,2]
Policy: TypeAlias = "Callable[[Floats, Floats, Floats, Floats, Floats, Floats], Floats]"


@dataclass(frozen=True, slots=True)
class Case:
    """A simulation. `delay`: periods that the policy takes, all known to the loop; `knows_age`: the expert moves the
    target on by the delay."""

    task: Task
    actuation: Actuation
    mode: Mode
    delay: int
    horizon: int = 16
    execute: int = 8
    quantum: int = 1
    robots: int = 128
    periods: int = 240
    seed: int = 7
    noise: float = worlds.NOISE
    knows_age: bool = False
    life: int = worlds.LIFE  # periods from jump to jump


@dataclass(frozen=True, slots=True)
class Score:
    """`hit_percent` of targets (mole); `rmse` of the distance in hundredths and `in_percent` of periods within 0.08
    (ball); mean change of an action from one period to the next; mean periods from a jump to a move towards the target
    of those that moved, and to a hit of those that were hit; chunks and periods counted by the loops."""

    hit_percent: float | None
    rmse: float
    in_percent: float
    action_change: float
    reaction_periods: float | None
    hit_periods: float | None
    counts: dict[str, int]


def settings_of(case: Case) -> Settings:
    """Of the loops of a simulation."""
    return Settings(
        mode=case.mode,
        rate_hz=100.0,
        horizon=case.horizon,
        execute=case.execute,
        states=worlds.STATES[case.actuation],
        axes=worlds.axes(case.actuation),
        delay=case.delay,
        quantum=case.quantum,
        stop_after=10**6,
    )


def expert_policy(case: Case) -> Policy:
    """The analytic expert. In mode rtc-prefix it begins with the committed actions, as such a policy does."""

    def answer(
        told: Floats, target: Floats, velocity: Floats, place: Floats, delay: Floats, prefix: Floats
    ) -> Floats:
        age = delay[:, None].astype(np.float32) if case.knows_age else np.float32(0)
        target = target + velocity * age
        if case.mode != "rtc-prefix":
            return worlds.expert_chunk(case.actuation, told, target, velocity, case.horizon)
        chunk = prefix.copy()
        for step in range(case.delay):
            told = worlds.moved(case.actuation, told, chunk[:, step])
            target = target + velocity
        rest = case.horizon - case.delay
        chunk[:, case.delay :] = worlds.expert_chunk(case.actuation, told, target, velocity, rest)
        return chunk

    return answer


def simulate(case: Case, policy: Policy | None = None) -> Score:
    """Run a simulation. Raises UserError EDGEC-E281 where delay, execute and horizon do not go together."""
    settings = settings_of(case)
    policy = policy or expert_policy(case)
    world = World.made(case.task, case.actuation, case.robots, case.seed, case.noise, case.life)
    loops = VirtualLoops(settings, case.robots)
    tally = _Tally(case.robots)
    for period in range(case.periods):
        tally.jumped(world.jumps(period), period)
        asked = loops.begin(world.state)
        if len(asked.who):
            at = asked.who
            seen = world.target[at], world.velocity[at], world.state[at, :2]
            chunks = policy(asked.state, *seen, asked.delay, asked.prefix)
            loops.answer(at, chunks, np.full(len(at), case.delay * settings.period_ns / 1e9))
        action, _ = loops.end()
        before = world.state[:, :2].copy()
        world.move(action)
        tally.period(world, before, action, period)
        world.roll_on()
    total = [loops.counts(i) for i in range(case.robots)]
    return tally.score(case.task, {name: sum(c[name] for c in total) for name in total[0]})


class _Tally:
    """What a simulation has come to so far."""

    def __init__(self, robots: int) -> None:
        self.near = np.zeros(robots, int)  # periods in a row
        self.hit = np.zeros(robots, bool)
        self.since = np.full(robots, -1)  # period of the last jump, -1 once answered
        self.jump = np.full(robots, -1)  # the same, -1 once hit
        self.times: list[Floats] = []
        self.hits = self.targets = 0
        self.squares: list[Floats] = []
        self.within: list[Floats] = []
        self.changes: list[Floats] = []
        self.reactions: list[Floats] = []
        self.action: Floats | None = None

    def jumped(self, jumps: Floats, period: int) -> None:
        if period > worlds.SETTLE:
            self.hits += int(self.hit[jumps].sum())
            self.targets += int(jumps.sum())
            self.since[jumps] = self.jump[jumps] = period
        self.hit[jumps] = False
        self.near[jumps] = 0

    def period(self, world: World, before: Floats, action: Floats, period: int) -> None:
        way = world.state[:, :2] - world.target
        distance = np.sqrt((way**2).sum(1))
        inside = distance < worlds.NEAR
        self.near = np.where(inside, self.near + 1, 0)
        self.hit |= self.near >= worlds.HIT_PERIODS
        hits = self.hit & (self.jump >= 0)
        self.times.append(period + 1 - self.jump[hits])
        self.jump[hits] = -1
        if period >= worlds.SETTLE:
            self.squares.append(distance**2)
            self.within.append(inside)
            if self.action is not None:
                change = action - self.action
                self.changes.append(np.sqrt((change**2).sum(1)))
        closer = np.sqrt(((before - world.target) ** 2).sum(1)) - distance
        reacts = (self.since >= 0) & (closer >= worlds.MOVES)
        self.reactions.append(period - self.since[reacts])
        self.since[reacts] = -1
        self.action = action

    def score(self, task: Task, counts: dict[str, int]) -> Score:
        reactions, times = np.concatenate(self.reactions), np.concatenate(self.times)
        return Score(
            hit_percent=100.0 * self.hits / self.targets if task == "mole" else None,
            rmse=100.0 * float(np.sqrt(np.mean(np.array(self.squares)))),
            in_percent=100.0 * float(np.mean(np.array(self.within))),
            action_change=float(np.mean(np.array(self.changes))),
            reaction_periods=float(reactions.mean()) if task == "mole" and len(reactions) else None,
            hit_periods=float(times.mean()) if task == "mole" and len(times) else None,
            counts=counts,
        )
