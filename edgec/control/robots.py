"""Robots of other projects as drivers for edgec.control.realtime: LeRobot's Robot class, Gymnasium's environments.

Both are taken as they are: nothing of either project is imported here, and nothing is pickled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgec.control.realtime import Robot
from edgec.control.realtime_types import Observation
from edgec.errors import UserError
from edgec.ir import Array


class LeRobotRobot:
    """A connected robot of LeRobot: `get_observation()` gives numbers by name, such as "elbow.pos", and a picture
    u8[H,W,3] for each camera; `send_action` takes numbers by name.

    `state`, `action`: the names of the measured numbers and of the commands, in the order of the loop's settings;
    `camera`: whose picture is the payload. Raises UserError EDGEC-E29F for a name that the robot does not have.
    """

    def __init__(
        self, robot: Any, state: Sequence[str], action: Sequence[str], camera: str | None = None
    ) -> None:
        self.robot, self.state, self.action, self.camera = robot, tuple(state), tuple(action), camera
        wanted = (*self.state, *(() if camera is None else (camera,)))
        _refuse_unknown(wanted, robot.observation_features, "observation")
        _refuse_unknown(self.action, robot.action_features, "action")

    def sense(self) -> Observation:
        """What the robot measures now."""
        observed = time.monotonic_ns()
        found = self.robot.get_observation()
        state = np.array([found[name] for name in self.state], np.float32)
        picture = None if self.camera is None else np.ascontiguousarray(found[self.camera])
        return Observation(state, picture, observed)

    def act(self, action: Array) -> None:
        """Send the commands."""
        self.robot.send_action({name: float(x) for name, x in zip(self.action, action, strict=True)})


def _refuse_unknown(names: Sequence[str], known: Mapping[str, Any], what: str) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(
            "EDGEC-E29F",
            f"name an {what} that the robot has, of {', '.join(known)}: it has no {', '.join(missing)}",
        )


class GymnasiumRobot:
    """An environment of Gymnasium whose observation is the state, as an array or under `state_key` of a dict; a step is
    a period. An episode that ends is begun anew; `episodes` counts those, `returned` sums the rewards."""

    def __init__(
        self, environment: Any, *, state_key: str | None = None, payload_key: str | None = None, seed: int = 0
    ) -> None:
        self.environment, self.state_key, self.payload_key = environment, state_key, payload_key
        self.episodes, self.returned = 0, 0.0
        self._seen = self._observation(environment.reset(seed=seed)[0])

    def _observation(self, found: Any) -> Observation:
        state = found if self.state_key is None else found[self.state_key]
        payload = None if self.payload_key is None else np.ascontiguousarray(found[self.payload_key])
        return Observation(np.asarray(state, np.float32).reshape(-1), payload, time.monotonic_ns())

    def sense(self) -> Observation:
        """What the last step led to."""
        return self._seen

    def act(self, action: Array) -> None:
        """A step of the environment."""
        found, reward, terminated, truncated, _ = self.environment.step(
            action.astype(self.environment.action_space.dtype)
        )
        self.returned += float(reward)
        if terminated or truncated:
            self.episodes += 1
            found = self.environment.reset()[0]
        self._seen = self._observation(found)


def as_robot(found: Any, state: Sequence[str] = (), action: Sequence[str] = ()) -> Robot:
    """`found` as a driver: one already, a LeRobot robot (with the names of the settings) or a Gymnasium environment.
    Raises UserError EDGEC-E29F for anything else."""
    if hasattr(found, "sense") and hasattr(found, "act"):
        driver: Robot = found
        return driver
    if hasattr(found, "get_observation") and hasattr(found, "send_action"):
        return LeRobotRobot(found, state, action)
    if hasattr(found, "reset") and hasattr(found, "step"):
        return GymnasiumRobot(found)
    raise UserError(
        "EDGEC-E29F",
        "give an object with sense() and act(action), a LeRobot robot or a Gymnasium environment, not a "
        f"{type(found).__name__}",
    )
