"""The arm of examples/robot: its mechanics, its expert, and that the loop moves it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from examples.robot import intercept


def test_joints_bring_the_hand_there() -> None:
    places = np.random.default_rng(0).uniform(intercept.LOW, intercept.HIGH, (100, 2)).astype(np.float32)
    assert np.abs(intercept.hand_of(intercept.joints_of(places)) - places).max() < 1e-5


def test_a_foreseen_ball_is_where_the_physics_brings_it() -> None:
    tables = intercept.Tables(16, 3, through=True)
    place, velocity = tables.ball
    joints = tables.joints
    for period in range(1, 25):
        tables.turn(np.zeros((16, 2), np.float32))
        ahead = np.full((16, 1), period, np.float32)
        assert (
            np.abs(tables.ball[0] - intercept.bounced(place, velocity, ahead)).max() < 0.04
        )  # contacts are soft
    assert np.array_equal(joints, tables.joints)


def test_an_expert_that_looks_each_period_catches_all() -> None:
    tables = intercept.Tables(16, 1)
    for _ in range(150):
        tables.turn(intercept.expert(tables.joints, *tables.ball))
    assert tables.caught > 100 and tables.missed == 0


def test_an_arm_that_stays_catches_few() -> None:
    tables = intercept.Tables(16, 1)
    for _ in range(150):
        tables.turn(np.zeros((16, 2), np.float32))
    assert tables.caught < 0.5 * (tables.caught + tables.missed)


def test_the_loop_plays_with_a_network() -> None:
    torch.manual_seed(0)
    net = intercept.Net().requires_grad_(False)
    games = [intercept.play(net, "vlash", 4, 0, tables=4, periods=60) for _ in range(2)]
    assert games[0] == games[1] and games[0].balls > 0
