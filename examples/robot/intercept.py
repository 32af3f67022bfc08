"""A two-joint arm catches balls that bounce around its table, in MuJoCo; its policy takes longer than a control period.

    python -m examples.robot.intercept [--delay 4] [--seed 0] [--frames FILE.svg]

The policy is learned first: an expert that sees the ball and knows mechanics is imitated from pictures of the ball and
the arm's state, with the offsets of edgec.control.training. Then every mode of the control loop plays 64 tables. Needs
mujoco (`pip install mujoco`); takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgec.control.settings import MODES, Axis, Mode, Settings
from edgec.control.training import Episode, OffsetDataset
from edgec.control.virtual import VirtualLoops

Floats = NDArray[np.float32]
LINKS: Final = (0.35, 0.30)
LOW, HIGH = np.array([-0.35, 0.20]), np.array([0.35, 0.50])  # corners of the table; the shoulder is at 0, 0
HAND, BALL = 0.04, 0.03  # radii
SPEED: Final = (0.3, 0.6)  # m/s of a new ball
RATE_HZ, SUBSTEPS = 50, 5
STEP: Final = 0.08  # rad a period, the most that a joint is told to turn
LIFE: Final = 30  # periods until a ball that is not caught is replaced
HORIZON, EXECUTE, DELAY_MAX = 16, 8, 8
LOOK_AHEAD: Final = 20  # periods, of the expert
TEST_TABLES, TEST_PERIODS = 64, 400

BOUNCE: Final = 'solref="-2000 0"'  # nothing is lost
WALLS: Final = "".join(
    f'<geom type="plane" pos="{x} {y} 0" zaxis="{dx} {dy} 0" size="2 2 0.1" contype="1" conaffinity="2" {BOUNCE}/>'
    for x, y, dx, dy in ((LOW[0], 0, 1, 0), (HIGH[0], 0, -1, 0), (0, LOW[1], 0, 1), (0, HIGH[1], 0, -1))
)
MODEL: Final = f"""
<mujoco>
  <option timestep="{1 / RATE_HZ / SUBSTEPS}" gravity="0 0 0" integrator="implicitfast"/>
  <worldbody>
    <body name="upper">
      <joint name="shoulder" axis="0 0 1" damping="0.4"/>
      <geom type="capsule" fromto="0 0 0 {LINKS[0]} 0 0" size="0.02" mass="0.3" contype="0" conaffinity="0"/>
      <body name="lower" pos="{LINKS[0]} 0 0">
        <joint name="elbow" axis="0 0 1" damping="0.3"/>
        <geom type="capsule" fromto="0 0 0 {LINKS[1]} 0 0" size="0.02" mass="0.2" contype="0" conaffinity="0"/>
        <geom name="hand" type="cylinder" pos="{LINKS[1]} 0 0" size="{HAND} 0.03" mass="0.1" conaffinity="2"/>
      </body>
    </body>
    <body name="ball">
      <joint name="ball_x" type="slide" axis="1 0 0"/>
      <joint name="ball_y" type="slide" axis="0 1 0"/>
      <geom name="ball" type="sphere" size="{BALL}" mass="0.05" contype="2" conaffinity="1" {BOUNCE}/>
    </body>
    {WALLS}
  </worldbody>
  <actuator>
    <position joint="shoulder" kp="60" kv="4"/>
    <position joint="elbow" kp="40" kv="2.5"/>
  </actuator>
</mujoco>
"""


def hand_of(joints: Floats) -> Floats:
    """[N,2] -> where the hand is."""
    first, both = joints[:, 0], joints[:, 0] + joints[:, 1]
    x = LINKS[0] * np.cos(first) + LINKS[1] * np.cos(both)
    y = LINKS[0] * np.sin(first) + LINKS[1] * np.sin(both)
    return np.stack([x, y], 1).astype(np.float32)


def joints_of(place: Floats) -> Floats:
    """[N,2] -> the joints that bring the hand there or as near as can be, the elbow bent to the left."""
    a, b = LINKS
    distance = np.clip(np.hypot(place[:, 0], place[:, 1]), abs(a - b) + 0.01, a + b - 0.005)
    elbow = np.arccos(np.clip((distance**2 - a * a - b * b) / (2 * a * b), -1, 1))
    shoulder = np.arctan2(place[:, 1], place[:, 0]) - np.arctan2(b * np.sin(elbow), a + b * np.cos(elbow))
    return np.stack([shoulder, elbow], 1).astype(np.float32)


def bounced(place: Floats, velocity: Floats, periods: Floats) -> Floats:
    """Where balls [N,2] will be: they bounce off the walls."""
    low, width = LOW + BALL, HIGH - LOW - 2 * BALL
    folded = np.mod(place + velocity * (periods / RATE_HZ) - low, 2 * width)
    return (np.where(folded > width, 2 * width - folded, folded) + low).astype(np.float32)


def expert_target(joints: Floats, ball: Floats, velocity: Floats) -> Floats:
    """The joints at the place where hand and ball will meet."""
    ahead = np.zeros((len(ball), 1), np.float32)
    for _ in range(8):
        wanted = joints_of(bounced(ball, velocity, ahead))
        needed = np.abs(wanted - joints).max(1, keepdims=True) / STEP
        ahead = 0.5 * ahead + 0.5 * np.minimum(needed, LOOK_AHEAD)
    return wanted


def expert(joints: Floats, ball: Floats, velocity: Floats) -> Floats:
    """The turn [N,2] of both joints in a period."""
    return np.clip(expert_target(joints, ball, velocity) - joints, -STEP, STEP).astype(np.float32)


class Tables:
    """`count` tables with an arm and a ball each. With `through` the hand passes through the ball: it is not caught,
    and the arm learns to stay with it."""

    def __init__(self, count: int, seed: int, through: bool = False) -> None:
        self.model = mujoco.MjModel.from_xml_string(MODEL)
        self.through = through
        if through:
            self.model.geom("hand").conaffinity[:] = 0
            self.model.geom("hand").contype[:] = 0
        self.data = [mujoco.MjData(self.model) for _ in range(count)]
        self.rng = np.random.default_rng(seed)
        self.age = np.zeros(count, int)
        self.caught = self.missed = 0
        for i, data in enumerate(self.data):
            data.qpos[:2] = joints_of(self.rng.uniform(LOW, HIGH)[None])[0]
            data.ctrl[:] = data.qpos[:2]
            self._new_ball(i)

    def _new_ball(self, i: int) -> None:
        """Away from the hand."""
        data = self.data[i]
        mujoco.mj_forward(self.model, data)
        hand = hand_of(data.qpos[None, :2])[0]
        while True:
            place = self.rng.uniform(LOW + 0.05, HIGH - 0.05)
            if np.hypot(*(place - hand)) > 0.25:
                break
        angle, speed = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(*SPEED)
        data.qpos[2:], data.qvel[2:] = place, (speed * np.cos(angle), speed * np.sin(angle))
        self.age[i] = 0

    @property
    def joints(self) -> Floats:
        """f32[N,2]: where the joints are told to be, which is what turns add to."""
        return np.array([d.ctrl for d in self.data], np.float32)

    @property
    def ball(self) -> tuple[Floats, Floats]:
        """(place, velocity), f32[N,2] each."""
        return (
            np.array([d.qpos[2:] for d in self.data], np.float32),
            np.array([d.qvel[2:] for d in self.data], np.float32),
        )

    @property
    def hand(self) -> Floats:
        """f32[N,2], by the physics."""
        return hand_of(np.array([d.qpos[:2] for d in self.data], np.float32))

    def turn(self, action: Floats) -> Floats:
        """A period passes; which balls were caught: touched by the hand."""
        touched = np.zeros(len(self.data), bool)
        for i, data in enumerate(self.data):
            data.ctrl[:] += action[i]
            for _ in range(SUBSTEPS):
                mujoco.mj_step(self.model, data)
                gap = np.hypot(*(hand_of(data.qpos[None, :2])[0] - data.qpos[2:]))
                touched[i] |= gap <= HAND + BALL + 0.002
            touched[i] &= not self.through
            self.age[i] += 1
            if touched[i] or self.age[i] >= LIFE:
                self.caught += int(touched[i])
                self.missed += int(not touched[i])
                self._new_ball(i)
        return touched

    def picture(self) -> Floats:
        """f32[N,6]: ball, its velocity, and the hand as the camera sees it."""
        place, velocity = self.ball
        return np.concatenate([place, velocity, self.hand], 1)


class Net(nn.Module):
    """picture f32[N,6], joints f32[N,2], delay in periods [N] -> turns f32[N,16,2]."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (6 + 2 + 1, 160, 160, 160)
        layers = [x for a, b in pairwise(sizes) for x in (nn.Linear(a, b), nn.ReLU())]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], 2 * HORIZON))

    def forward(self, picture: Tensor, joints: Tensor, delay: Tensor) -> Tensor:
        given = torch.cat([4 * picture, joints, delay[:, None].float() / DELAY_MAX], 1)
        return STEP * self.body(given).view(-1, HORIZON, 2)


def demonstrations(count: int, periods: int, seed: int) -> list[Episode]:
    """Episodes of the expert, who looks each period and stays with the ball; a new ball is a surprise."""
    tables = Tables(count, seed, through=True)
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    new = np.ones(count, bool)
    for _ in range(periods):
        joints = tables.joints
        action = expert(joints, *tables.ball)
        rows.append((tables.picture(), joints, action, new))
        # It strays now and then, so that the policy sees how to come back.
        strays = rng.random((count, 1)) < 0.15
        told = np.where(strays, rng.uniform(-STEP, STEP, action.shape), action)
        before = tables.age.copy()
        tables.turn(told.astype(np.float32))
        new = tables.age <= before
    picture, joints, action, fresh = (torch.from_numpy(np.stack(x, 1)) for x in zip(*rows, strict=True))
    return [Episode(*parts) for parts in zip(picture, joints, action, fresh, strict=True)]


def train(episodes: list[Episode], steps: int, seed: int) -> Net:
    """Imitate them with offsets from 0 to DELAY_MAX."""
    torch.manual_seed(seed)
    data = OffsetDataset(episodes, HORIZON, DELAY_MAX, seed)
    rows = [data[i] for i in range(len(data))]
    data.set_epoch(1)
    rows += [data[i] for i in range(len(data))]
    columns = {k: torch.stack([r[k] for r in rows]) for k in rows[0]}
    kept = (columns["weight"] > 0) & ~columns["pad"].any(1)
    columns = {k: v[kept] for k, v in columns.items()}
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(0, len(columns["pad"]), (512,), generator=rng)
        found = net(columns["picture"][at], columns["state"][at], columns["delay"][at])
        loss = nn.functional.smooth_l1_loss(found / STEP, columns["action"][at] / STEP, beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Game:
    """`percent` of the balls that were caught; `change`: mean of a turn from one period to the next, rad."""

    percent: float
    change: float
    balls: int


def play(
    net: Net, mode: Mode, delay: int, seed: int, tables: int = TEST_TABLES, periods: int = TEST_PERIODS
) -> Game:
    """The loop in this mode with a policy that takes `delay` periods."""
    axes = tuple(Axis("delta", (-STEP, STEP), position=i) for i in range(2))
    settings = Settings(mode, RATE_HZ, HORIZON, EXECUTE, 2, axes, delay=delay, stop_after=10**6)
    loops, world = VirtualLoops(settings, tables), Tables(tables, 1000 + seed)
    changes, last = [], np.zeros((tables, 2), np.float32)
    for _ in range(periods):
        asked = loops.begin(world.joints)
        if len(asked.who):
            picture = torch.from_numpy(world.picture()[asked.who])
            age = torch.full((len(asked.who),), delay if mode == "vlash" else 0)
            chunks = net(picture, torch.from_numpy(asked.state), age).numpy()
            loops.answer(asked.who, chunks, np.full(len(asked.who), delay / RATE_HZ))
        action, _ = loops.end()
        world.turn(action)
        changes.append(np.abs(action - last).mean())
        last = action
    balls = world.caught + world.missed
    return Game(100 * world.caught / balls, float(np.mean(changes)), balls)


def frames(net: Net, delay: int, seed: int, path: Path) -> None:
    """Two seconds of one table, in mode vlash and in mode naive, as a strip."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "edgec"
    import matplotlib.pyplot as plt

    shots = 8
    modes: tuple[Mode, ...] = ("vlash", "naive")
    figure, panels = plt.subplots(2, shots, figsize=(14, 3.8), layout="constrained")
    for mode, row in zip(modes, panels, strict=True):
        axes = tuple(Axis("delta", (-STEP, STEP), position=i) for i in range(2))
        loops = VirtualLoops(
            Settings(mode, RATE_HZ, HORIZON, EXECUTE, 2, axes, delay=delay, stop_after=10**6), 1
        )
        world = Tables(1, seed)
        trail: list[Floats] = []
        for period in range(12 * shots):
            asked = loops.begin(world.joints)
            if len(asked.who):
                age = torch.tensor([delay if mode == "vlash" else 0])
                picture = torch.from_numpy(world.picture())
                chunks = net(picture, torch.from_numpy(asked.state), age).numpy()
                loops.answer(asked.who, chunks, np.full(1, delay / RATE_HZ))
            world.turn(loops.end()[0])
            trail = [*trail[-24:], world.hand[0]]
            if period % 12 == 11:
                _draw(row[period // 12], world, np.array(trail), f"{mode}, {(period + 1) / RATE_HZ:.2f} s")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw(panel: Any, world: Tables, trail: Floats, title: str) -> None:
    joints = np.array([world.data[0].qpos[:2]], np.float32)
    elbow = (LINKS[0] * np.cos(joints[0, 0]), LINKS[0] * np.sin(joints[0, 0]))
    hand, ball = world.hand[0], world.ball[0][0]
    panel.plot([0, elbow[0], hand[0]], [0, elbow[1], hand[1]], "-o", color="0.4", linewidth=3)
    panel.plot(*trail.T, color="tab:blue", linewidth=0.8)
    panel.add_patch(_circle(hand, HAND, "tab:blue"))
    panel.add_patch(_circle(ball, BALL, "tab:orange"))
    panel.set(xlim=(LOW[0], HIGH[0]), ylim=(-0.05, HIGH[1]), xticks=[], yticks=[], aspect="equal")
    panel.set_title(f"{title}, caught {world.caught}", fontsize="small")


def _circle(center: Floats, radius: float, color: str) -> Any:
    from matplotlib.patches import Circle

    return Circle((float(center[0]), float(center[1])), radius, color=color)


def learned(seed: int) -> Net:
    """The policy of a seed."""
    return train(demonstrations(48, 600, seed), 3000, seed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--delay", type=int, default=4, help="periods that the policy takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=Path, help="write a strip of pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = learned(given.seed)
    ideal = play(net, "vlash", 0, given.seed)
    print(f"{'no delay':<12} {ideal.percent:5.1f} % of {ideal.balls} balls caught")
    for mode in MODES:
        game = play(net, mode, given.delay, given.seed)
        print(f"{mode:<12} {game.percent:5.1f} % at a delay of {given.delay}", flush=True)
    if given.frames is not None:
        frames(net, given.delay, given.seed, given.frames)


if __name__ == "__main__":
    main()
