"""`edgec control`: what it prints, what it refuses, in full."""

from __future__ import annotations

import json

import pytest

from edgec.control.simulate import Case, simulate
from tests.cli_command import Command


def test_the_command_prints_the_score(edgec: Command) -> None:
    words = [
        "control",
        "simulate",
        "--task",
        "mole",
        "--action",
        "delta",
        "--mode",
        "vlash",
        "--delay",
        "4",
        "--seed",
        "7",
    ]
    found = json.loads(edgec.works(*words, "--json").out)
    wanted = simulate(Case("mole", "delta", "vlash", 4, seed=7))
    assert found["hit_percent"] == wanted.hit_percent and found["rmse"] == wanted.rmse
    assert found["reaction_steps"] == wanted.reaction_periods
    assert edgec.works(*words).out.startswith("vlash       delay 4, hits  ")


def test_the_plan_is_printed(edgec: Command) -> None:
    from tests.test_control_plan import TEXT

    (edgec.here / "robot.toml").write_text(TEXT, encoding="utf-8")
    words = ["control", "plan", "--settings", "robot.toml", "--latency", "64.1"]
    assert edgec.works(*words).out.splitlines()[:3] == [
        "delay           4 periods",
        "execute         8 actions of 16; 4 to 16 never wait",
        "worst reaction  240 ms; asked without a pause 160 ms",
    ]
    assert json.loads(edgec.works(*words, "--json").out)["delay"] == 4
    text = "EDGEC-E283: give --settings FILE.toml and --latency MS: a plan needs both"
    edgec.refused(2, text, "control", "plan")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--policy nobody", "EDGEC-E282: give --policy expert: nobody is no policy"),
        ("--steps 60", "EDGEC-E283: give --envs from 1 and --steps from 61 up: scores need both"),
        (
            "--delay 9",
            "EDGEC-E281: change the control settings: the delay is beyond the actions that are played, or beyond what "
            "the policy was trained for (mode vlash, horizon 16, execute 8, delay 9, 2 axes, 2 states)",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(edgec: Command, words: str, text: str) -> None:
    edgec.refused(2, text, "control", "simulate", *words.split())
