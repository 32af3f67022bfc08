"""Drivers around other projects' robots: what goes in and comes out, and a run of the loop with each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgec.control.loop import Question
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import Options
from edgec.control.robots import GymnasiumRobot, LeRobotRobot, as_robot
from edgec.control.settings import Axis, Settings
from edgec.errors import UserError
from edgec.ir import Array

SETTINGS = Settings(
    "vlash",
    100.0,
    8,
    4,
    2,
    tuple(Axis("delta", (-0.1, 0.1), position=i) for i in range(2)),
    delay=1,
    stop_after=50,
)


class Arm:
    """The part of LeRobot's Robot class that drivers use: names, get_observation, send_action."""

    def __init__(self) -> None:
        self.place = {"shoulder.pos": 0.0, "elbow.pos": 0.5}
        self.sent: list[dict[str, float]] = []

    @property
    def observation_features(self) -> dict[str, Any]:
        return {"shoulder.pos": float, "elbow.pos": float, "front": (4, 6, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        return {"shoulder.pos": float, "elbow.pos": float}

    def get_observation(self) -> dict[str, Any]:
        return {**self.place, "front": np.full((4, 6, 3), 7, np.uint8)}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.sent.append(action)
        self.place = {name: self.place[name] + turn for name, turn in action.items()}
        return action


def policy(question: Question, payload: Array | None) -> Array:
    return np.full((8, 2), 0.01, np.float32)


def test_a_lerobot_arm_is_sensed_and_moved_by_name() -> None:
    arm = Arm()
    robot = LeRobotRobot(arm, ("elbow.pos", "shoulder.pos"), ("elbow.pos", "shoulder.pos"), "front")
    seen = robot.sense()
    assert seen.state.tolist() == [0.5, 0.0] and seen.payload is not None and seen.payload.shape == (4, 6, 3)
    robot.act(np.array([0.25, -0.5], np.float32))
    assert arm.sent == [{"elbow.pos": 0.25, "shoulder.pos": -0.5}]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"state": ("wrist.pos",), "action": ()},
            "EDGEC-E29F: name an observation that the robot has, of shoulder.pos, elbow.pos, front: it has "
            "no wrist.pos",
        ),
        (
            {"state": (), "action": ("front",)},
            "EDGEC-E29F: name an action that the robot has, of shoulder.pos, elbow.pos: it has no front",
        ),
    ],
)
def test_names_that_an_arm_does_not_have_are_told(words: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        LeRobotRobot(Arm(), **words)
    assert str(caught.value) == text


def test_the_loop_moves_an_arm() -> None:
    arm = Arm()
    names = ("shoulder.pos", "elbow.pos")
    statistics = RealtimeLoop(SETTINGS, as_robot(arm, names, names), policy, Options(periods=30)).run()
    assert statistics.counts["taken"] > 0 and arm.sent
    assert all(abs(turn) <= np.float32(0.1) for sent in arm.sent for turn in sent.values())


def test_the_loop_steps_a_gymnasium_environment() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    robot = as_robot(gymnasium.make("Pendulum-v1"))
    assert isinstance(robot, GymnasiumRobot)
    axes = (Axis("model", (-2.0, 2.0)),)
    settings = replace(SETTINGS, mode="aligned", states=3, axes=(replace(axes[0], kind="delta"),))

    def torque(question: Question, payload: Array | None) -> Array:
        assert question.state.shape == (3,)
        return np.full((8, 1), 0.5, np.float32)

    before = robot.sense().state.copy()
    statistics = RealtimeLoop(settings, robot, torque, Options(periods=40)).run()
    assert statistics.counts["taken"] > 0 and robot.returned < 0
    assert not np.array_equal(before, robot.sense().state)


def test_an_episode_that_ends_begins_anew() -> None:
    class Short:
        """Ends after two steps."""

        class action_space:  # noqa: N801
            dtype = np.float32

        steps = 0

        def reset(self, seed: int | None = None) -> tuple[Array, dict[str, Any]]:
            self.steps = 0
            return np.zeros(2), {}

        def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
            self.steps += 1
            return np.full(2, self.steps), 1.0, False, self.steps == 2, {}

    robot = GymnasiumRobot(Short())
    seen = []
    for _ in range(4):
        robot.act(np.zeros(2, np.float32))
        seen.append(robot.sense().state.tolist())
    assert seen == [[1, 1], [0, 0], [1, 1], [0, 0]] and robot.episodes == 2 and robot.returned == 4.0


def test_what_is_no_robot_is_told() -> None:
    with pytest.raises(UserError) as caught:
        as_robot(7)
    assert str(caught.value) == (
        "EDGEC-E29F: give an object with sense() and act(action), a LeRobot robot or a Gymnasium environment, not a int"
    )
