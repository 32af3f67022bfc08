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
