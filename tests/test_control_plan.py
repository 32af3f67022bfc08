"""What a latency asks of a control loop, and settings from a file."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edgec.control.plan import plan
from edgec.control.settings import Axis, Estimate, Settings
from edgec.control.settings_file import read_settings
from edgec.errors import UserError

EXACT = Estimate(guard=0.0)
LOOP = Settings("vlash", 50.0, 50, 25, 1, (Axis("delta", (-1.0, 1.0), position=0),), estimate=EXACT)
TEXT = """
mode = "vlash"
rate_hz = 50
horizon = 16
execute = 8
state = ["x", "grip"]
stop_after = 3
state_scale = [0.5, 1]

[[axes]]
name = "x"
kind = "delta"
limits = [-0.02, 0.02]
position = "x"
wraps = true

[[axes]]
kind = "discrete"
limits = [0, 1]
position = "grip"

[estimate]
window = 32
share = 0.95
"""


@pytest.mark.parametrize(
    ("latency_ms", "delay", "sync_ms", "async_ms"),
    [(30.4, 2, 580, 540), (36.1, 2, 580, 540), (64.1, 4, 660, 580)],
)
def test_delay_and_reaction(latency_ms: float, delay: int, sync_ms: int, async_ms: int) -> None:
    found = plan(LOOP, latency_ms / 1e3)
    assert found.delay == delay and found.wait_s == 0.0
    assert found.reaction_s == pytest.approx(async_ms / 1e3)
    assert found.reaction_continuous_s == pytest.approx(2 * delay * 0.02)
    assert (found.execute_least, found.execute_most) == (delay, 50)
    waiting = plan(replace(LOOP, mode="sync"), latency_ms / 1e3)
    assert waiting.reaction_s == pytest.approx(sync_ms / 1e3) and waiting.wait_s == pytest.approx(
        delay * 0.02
    )


def test_a_reaction_of_the_plan_is_that_of_the_loop() -> None:
    """An event just behind the observation of period 4: the loop's first action that knows of it."""
    from tests.test_control_loop import Robot

    loop = replace(LOOP, rate_hz=100.0, horizon=8, execute=4, delay=2)
    robot = Robot(loop, 2)
    robot.run(14)
    asked = [q.tick for q in robot.questions]
    worst = max(b - a + 2 for a, b in pairwise(asked[1:]))
    assert plan(loop, 0.02).reaction_s == pytest.approx(worst * 0.01)


@pytest.mark.parametrize(
    ("words", "latency_ms", "text"),
    [
        (
            {"execute": 4},
            103,
            "play at least 6 actions of a chunk (execute), or control at 33.3 Hz: 103.0 ms at 50 Hz are a delay of 6 "
            "periods, and the 4 that are played would be used up before",
        ),
        (
            {"mode": "aligned", "execute": 48},
            64.1,
            "play at most 46 actions of a chunk (execute): 64.1 ms at 50 Hz are a delay of 4 periods, and mode aligned "
            "begins behind them in 50 actions",
        ),
        (
            {"delay_trained": 3},
            64.1,
            "train the policy for a delay of 4 periods, or make it faster: 64.1 ms at 50 Hz are a delay of 4 periods, "
            "and it was trained for 3",
        ),
        ({}, -1, "give a latency in seconds from 0 up, not -0.001"),
    ],
)
def test_what_cannot_work_is_refused(words: dict[str, object], latency_ms: float, text: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(replace(LOOP, **words), latency_ms / 1e3)  # type: ignore[arg-type]
    assert str(caught.value) == f"EDGEC-E287: {text}"


def test_a_file_can_turn_watches_off(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_text("stall_s = 0\nage_max_s = 0.1\n" + TEXT, encoding="utf-8")
    found = read_settings(path)
    assert (found.stall_s, found.age_max_s) == (0.0, 0.1)


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(TEXT, encoding="utf-8")
    axes = (
        Axis("delta", (-0.02, 0.02), position=0, wraps=True),
        Axis("discrete", (0.0, 1.0), position=1),
    )
    assert read_settings(path) == Settings(
        "vlash",
        50.0,
        16,
        8,
        2,
        axes,
        stop_after=3,
        stall_s=2.0,
        age_max_s=0.5,
        state_scale=(0.5, 1.0),
        estimate=Estimate(window=32, share=0.95),
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "limits = [0, 1]",
            "",
            "EDGEC-E284: give limits = [least, most], the commands that the actuator takes: robot.toml, axis 1 has "
            "none, and nothing is sent to a robot without",
        ),
        (
            "[-0.02, 0.02]",
            "[1, 0]",
            "EDGEC-E285: give limits = [least, most], not [1, 0]: robot.toml, axis 0 (x)",
        ),
        (
            'position = "grip"',
            'position = "girp"',
            "EDGEC-E285: give position as a name of state, not 'girp' (grip?): robot.toml, axis 1",
        ),
        ("stop_after", "stop_aftr", "EDGEC-E285: remove stop_aftr: robot.toml has no such key; stop_after?"),
        (
            "stop_after = 3",
            "stop_after = 0.5",
            "EDGEC-E285: give stop_after as a whole number, not 0.5: robot.toml",
        ),
        (
            "wraps = true",
            "wraps = 1",
            "EDGEC-E285: give wraps as true or false, not 1: robot.toml, axis 0 (x)",
        ),
        (
            '"vlash"',
            '"vlsh"',
            "EDGEC-E285: give mode as one of sync, naive, aligned, ensemble, rtc-prefix, vlash, not 'vlsh': robot.toml",
        ),
        ("rate_hz = 50\n", "", "EDGEC-E285: give rate_hz: robot.toml has no such key"),
        (
            "[0.5, 1]",
            '"0.5"',
            "EDGEC-E285: give state_scale as a number for each of state, not '0.5': robot.toml",
        ),
        (
            'kind = "discrete"',
            "",
            "EDGEC-E285: give kind, one of delta, absolute, lag, velocity, acceleration, discrete, model: robot.toml, "
            "axis 1",
        ),
        (
            '["x", "grip"]',
            '"x"',
            'EDGEC-E285: give state as names, each once, such as ["x", "y"]: robot.toml',
        ),
    ],
)
def test_settings_that_are_none_are_told(
    old: str, new: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in TEXT
    monkeypatch.chdir(tmp_path)
    Path("robot.toml").write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_settings(Path("robot.toml"))
    assert str(caught.value) == text


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert (
        str(caught.value)
        == f"EDGEC-E286: give a TOML file with control settings: {path}: No such file or directory"
    )
