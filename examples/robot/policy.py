"""A learned policy for the tasks of edgec.control.worlds: a small network that imitates the expert, with offsets or
without.

    python -m examples.robot.policy --out policy [--action delta] [--moving] [--no-offsets] [--seed 0]
    edgec control simulate --policy policy --mode all

It sees the target, its velocity and where the camera sees the robot, and is told the robot's state. Trained without
offsets it may believe either; trained with offsets only the state says where the robot will be.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import edgec
from edgec.artifact import Artifact
from edgec.control import worlds
from edgec.control.settings import Actuation
from edgec.control.simulate import Policy

HORIZON, DELAY_MAX = 16, 8
WINDOWS, STEPS, BATCH, RATE = 30_000, 2500, 512, 1e-3
VELOCITY_SCALE = {"picture": 20.0, "state": 10.0}  # so that all inputs are of one size
Floats = NDArray[np.float32]


class Net(nn.Module):
    """picture f32[N,6], state f32[N,S] -> chunk f32[N,16,2]."""

    def __init__(self, states: int) -> None:
        super().__init__()
        sizes = (6 + states, 128, 128, 128)
        layers = [x for a, b in pairwise(sizes) for x in (nn.Linear(a, b), nn.ReLU())]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], 2 * HORIZON))

    def forward(self, picture: Tensor, state: Tensor) -> Tensor:
        return self.body(torch.cat([picture, state], 1)).view(-1, HORIZON, 2)


@dataclass(frozen=True, slots=True)
class Windows:
    """Demonstrations of HORIZON + DELAY_MAX periods: `picture` f32[N,T,6], `state` f32[N,T,S], `action` f32[N,T,2]."""

    picture: Tensor
    state: Tensor
    action: Tensor


def picture_of(target: Floats, velocity: Floats, place: Floats) -> Floats:
    """[N,6]"""
    return np.concatenate([target, VELOCITY_SCALE["picture"] * velocity, place], 1).astype(np.float32)


def state_of(actuation: Actuation, state: Floats) -> Floats:
    """The state as the network takes it."""
    scaled = state.copy()
    scaled[:, 2:] *= VELOCITY_SCALE["state"]
    return scaled


def demonstrations(actuation: Actuation, moving: bool, seed: int, windows: int = WINDOWS) -> Windows:
    """The expert's, from anywhere; targets move evenly or stand: nothing happens that it could not foresee."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(-1, 1, (windows, 2)).astype(np.float32)
    near = rng.random((windows, 1)) < 0.5
    way = rng.normal(0, 1, (windows, 2)) * np.where(near, 0.06, 0.6)
    state = np.zeros((windows, worlds.STATES[actuation]), np.float32)
    state[:, :2] = np.clip(target + way, -1.3, 1.3)
    state[:, 2:] = rng.normal(0, 0.03, state[:, 2:].shape)
    velocity = np.zeros_like(target)
    if moving:
        angle = rng.uniform(0, 2 * np.pi, windows)
        speed = worlds.SPEED * rng.uniform(0.0, 1.3, windows)
        velocity = (speed * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    rows: list[tuple[Floats, Floats, Floats]] = []
    for _ in range(HORIZON + DELAY_MAX):
        action = worlds.expert(actuation, state, target, velocity)
        rows.append((picture_of(target, velocity, state[:, :2]), state_of(actuation, state), action))
        state = worlds.moved(actuation, state, action)
        state[:, :2] += rng.normal(0, worlds.NOISE, target.shape).astype(np.float32)
        target = target + velocity
    return Windows(*(torch.from_numpy(np.stack(x, 1)) for x in zip(*rows, strict=True)))


def train(windows: Windows, offsets: bool, seed: int, steps: int = STEPS) -> Net:
    """Imitate the windows, with offsets up to DELAY_MAX or without."""
    torch.manual_seed(seed)
    net = Net(windows.state.shape[-1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(seed)
    ahead = torch.arange(HORIZON)
    for _ in range(steps):
        rows = torch.randint(0, len(windows.state), (BATCH,), generator=rng)
        delay = torch.randint(0, DELAY_MAX + 1 if offsets else 1, (BATCH,), generator=rng)
        found = net(windows.picture[rows, 0], windows.state[rows, delay])
        wanted = windows.action[rows[:, None], delay[:, None] + ahead]
        loss = nn.functional.mse_loss(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False)


def policy_of(net: Net, actuation: Actuation) -> Policy:
    """The network as a simulation asks it."""

    def answer(told, target, velocity, place, delay, prefix):  # type: ignore[no-untyped-def]
        picture = torch.from_numpy(picture_of(target, velocity, place))
        return net(picture, torch.from_numpy(state_of(actuation, told))).numpy()

    return answer


class Asked(nn.Module):
    """A network with the inputs that edgec.control.simulate_model knows, in the units of the tasks."""

    def __init__(self, net: Net, actuation: Actuation) -> None:
        super().__init__()
        self.net = net
        states = worlds.STATES[actuation]
        self.register_buffer("scale", torch.tensor([1.0, 1.0, *[VELOCITY_SCALE["state"]] * (states - 2)]))

    def forward(self, state: Tensor, target: Tensor, velocity: Tensor, place: Tensor) -> Tensor:
        picture = torch.cat([target, VELOCITY_SCALE["picture"] * velocity, place], 1)
        return self.net(picture, state * self.scale)


def save(net: Net, actuation: Actuation, out: Path, robots: int = 128) -> Artifact:
    """Compile the network for this computer, for so many robots at once: `edgec control simulate --policy OUT`."""
    sizes = (worlds.STATES[actuation], 2, 2, 2)
    inputs = tuple(torch.zeros(robots, size) for size in sizes)
    return edgec.compile(Asked(net, actuation).eval(), inputs, target="host", precision="fp32", out=out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    parser.add_argument("--action", choices=get_args(Actuation), default="delta")
    parser.add_argument("--moving", action="store_true", help="learn from targets that move, as a ball's")
    parser.add_argument("--no-offsets", action="store_true", help="learn from ordinary samples")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    windows = demonstrations(given.action, given.moving, given.seed)
    net = train(windows, not given.no_offsets, given.seed)
    print(f"wrote {save(net, given.action, given.out).folder}")


if __name__ == "__main__":
    main()
