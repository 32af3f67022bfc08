"""`edgec control`: what it prints, what it refuses, in full."""

from __future__ import annotations

import json
import sys

import numpy as np
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
    edgec.refused(2, "EDGEC-E283: give --latency MS: a plan needs it", "control", "plan")
    edgec.refused(2, "EDGEC-E283: give --settings FILE.toml: soak needs it", "control", "soak")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "--policy nobody",
            "EDGEC-E282: give --policy expert, an .onnx file or the folder of an artifact: nobody is none of them",
        ),
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


def test_a_recording_is_replayed_and_reported(edgec: Command) -> None:
    from tests.test_control_record import recorded

    (edgec.here / "run.rec").write_bytes(recorded())
    assert edgec.works("control", "replay", "run.rec").out == "60 periods are the same bit for bit\n"
    found = json.loads(edgec.works("control", "report", "run.rec", "--json").out)
    assert found["periods"] == 60 and found["rate_hz"] == 100.0 and found["mode"] == "vlash"
    assert sum(found["sources"].values()) == 60 and found["stops"] == [{"tick": 40, "cause": "asked"}]
    assert found["latency_ms"]["p50"] == pytest.approx(20.0, abs=0.01)
    assert set(found["advice"]) == {"delta", "absolute"} and found["advice"]["absolute"].startswith("aligned")
    out = edgec.works("control", "report", "run.rec", "--html", "run.html").out
    assert "stopped in period 40: asked" in out and "60 periods in mode vlash, 100.00 Hz" in out
    page = (edgec.here / "run.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and "stopped in period 40" in page


def test_a_report_has_pictures_that_are_the_same_each_time(edgec: Command) -> None:
    from matplotlib.image import imread

    from tests.test_control_record import recorded

    (edgec.here / "run.rec").write_bytes(recorded())
    for name in ("one", "two"):
        edgec.works("control", "report", "run.rec", "--html", f"{name}.html", "--png", f"{name}.png")
    for kind in ("html", "png"):
        first, second = ((edgec.here / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
        assert first == second
    picture = imread(edgec.here / "one.png")
    assert picture.shape[:2] == (1650, 990)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 10  # bars and lines, not a blank sheet


def test_what_the_pictures_show_is_of_the_recording() -> None:
    from edgec.control.report import latencies, roll_errors, seams
    from edgec.control.report_pictures import figure
    from tests.test_control_record import PATH, parse, recorded

    recording = parse(recorded(), PATH)
    late, latency, seam, error, chunks, actions = figure(recording).axes
    counts = [sum(bar.get_height() for bar in panel.patches) for panel in (late, latency, seam, error)]
    shown = (recording.periods["lateness"], latencies(recording), seams(recording), roll_errors(recording))
    assert counts == [int(np.isfinite(values).sum()) for values in shown] and min(counts) > 0
    bars = [(bar.get_x(), bar.get_width()) for bar in chunks.patches]
    questions = {int(q["sequence"]): int(q["tick"]) for q in recording.questions}
    came = {int(c["sequence"]): int(c["tick"]) for c in recording.chunks}
    waits = [(tick, max(came[s] - tick, 1)) for s, tick in questions.items() if s in came]
    assert waits and set(waits) <= set(bars) and len(bars) > len(questions)
    assert len(actions.lines) >= len(recording.settings.axes)


@pytest.mark.parametrize("option", ["--html", "--png"])
def test_pictures_without_matplotlib_are_refused(
    edgec: Command, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    from tests.test_control_record import recorded

    (edgec.here / "run.rec").write_bytes(recorded())
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = "EDGEC-EA04: run pip install 'edgec[report]': pictures need matplotlib, which is not installed"
    edgec.refused(10, text, "control", "report", "run.rec", option, "run.out")


def test_recordings_that_are_none_are_told(edgec: Command) -> None:
    edgec.refused(2, "EDGEC-E283: give a recording: replay needs one", "control", "replay")
    text = "EDGEC-E288: give a recording that can be read: none.rec: No such file or directory"
    edgec.refused(2, text, "control", "report", "none.rec")


def test_a_report_that_cannot_be_written_is_told(edgec: Command) -> None:
    from tests.test_control_record import recorded

    (edgec.here / "run.rec").write_bytes(recorded())
    text = "EDGEC-EB0B: choose a place that can be written: nowhere/run.html: No such file or directory"
    edgec.refused(11, text, "control", "report", "run.rec", "--html", "nowhere/run.html")


def test_a_recording_of_another_loop_differs(edgec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.control import replay as replays
    from edgec.control.replay import Difference, Replay
    from tests.test_control_record import recorded

    (edgec.here / "run.rec").write_bytes(recorded())
    difference = Difference(3, "action", {"index": 1}, {"index": 2})
    monkeypatch.setattr(replays, "replay", lambda recording: Replay(3, 9, difference, None))
    text = (
        "EDGEC-E902: run it with the edgec that recorded it, or report a bug: period 3, action: recorded index 1 but 2 "
        "in the replay"
    )
    edgec.refused(9, text, "control", "replay", "run.rec")


def test_a_soak_is_told(edgec: Command) -> None:
    from tests.test_control_plan import TEXT

    (edgec.here / "robot.toml").write_text(TEXT, encoding="utf-8")
    words = ["control", "soak", "--settings", "robot.toml", "--periods", "2000"]
    first, second = (edgec.works(*words).out.splitlines() for _ in range(2))
    assert first[0].startswith("periods    2,000, ") and first[0].endswith("none lost")
    assert first[-1] == second[-1] and first[-1].startswith("log        ")


def test_a_soak_in_real_time_is_told(edgec: Command) -> None:
    from tests.test_control_plan import TEXT

    (edgec.here / "robot.toml").write_text(TEXT, encoding="utf-8")
    words = ["control", "soak", "--settings", "robot.toml", "--seconds", "2"]
    lines = edgec.works(*words).out.splitlines()
    assert lines[0].startswith("periods    ") and lines[0].endswith(", no drift of deadlines")
    assert lines[1].startswith("woken late p50 ") and lines[1].endswith("; rt=not asked")
    assert " none lost, " in lines[2] and lines[2].endswith(" periods the same bit for bit in a replay")
    assert lines[-1].startswith("memory     ") and lines[-1].endswith(" at the end")
    text = "EDGEC-E283: give --periods or --seconds, not both: a soak is in virtual or in real time"
    edgec.refused(2, text, *words, "--periods", "9")
    edgec.refused(2, "EDGEC-E283: give --seconds from 1 up, not 0.5", *words[:-1], "0.5")


ROBOT = """
import numpy as np
from edgec.control.realtime_types import Observation

class Robot:
    def __init__(self):
        self.state = np.zeros(2, np.float32)
    def sense(self):
        return Observation(self.state.copy())
    def act(self, action):
        self.state += action

def policy():
    return lambda question, payload: np.full((16, 2), 0.01, np.float32)

def broken():
    raise RuntimeError("no arm on the bus")
"""


def test_a_robot_and_a_policy_run_and_are_recorded(edgec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_control_plan import TEXT

    (edgec.here / "robot.toml").write_text(TEXT, encoding="utf-8")
    (edgec.here / "my_robot_of_a_test.py").write_text(ROBOT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(edgec.here))
    words = "control run --settings robot.toml --robot my_robot_of_a_test:Robot --policy my_robot_of_a_test:policy"
    found = json.loads(edgec.works(*words.split(), "--seconds", "0.5", "--record", "run.rec", "--json").out)
    assert found["periods"] > 5 and found["counts"]["asked"] > 0 and found["sense_errors"] == 0
    assert "the same bit for bit" in edgec.works("control", "replay", "run.rec").out
    out = edgec.works(*words.split(), "--seconds", "0.2").out
    assert out.splitlines()[0].endswith(" left out; rt=not asked") and "woken late p50 " in out
    refused = (
        (
            "control run --settings robot.toml",
            "EDGEC-E283: give --robot PACKAGE.MODULE:FUNCTION: run needs it",
        ),
        (
            words.replace(":Robot", ":broken"),
            "EDGEC-E289: mend my_robot_of_a_test:broken or put its folder on PYTHONPATH: RuntimeError: no arm on "
            "the bus",
        ),
        (
            words.replace(":policy", ""),
            "EDGEC-E289: write --policy as package.module:function, an .onnx file or the folder of an artifact, not "
            "'my_robot_of_a_test'",
        ),
    )
    for slip, text in refused:
        edgec.refused(2, text, *slip.split())
