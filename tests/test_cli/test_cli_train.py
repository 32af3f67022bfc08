"""`edgec compile --train`: an artifact that learns, its report, and what is refused, in full."""

from __future__ import annotations

import json
import math

import pytest

from tests.cli_command import COMPILE, Command

FP32 = (*COMPILE, "net.pt2", "--precision", "fp32")


def test_the_report_says_what_learns(edgec: Command) -> None:
    edgec.works(*FP32, "--train", "head", "--optimizer", "adam", "--learning-rate", "0.001")
    report = json.loads(edgec.works("report", "out", "--json").out)
    learns = report["training"]
    assert (learns["mode"], learns["optimizer"], learns["loss"]) == ("head", "adam", "cross-entropy")
    assert learns["optimizer_bytes"] == 2 * learns["trainable_bytes"] > 0
    assert [e["name"] for e in report["entries"]] == ["infer", "train_step", "evaluate"]
    assert "learns: head, cross-entropy, adam" in edgec.works("report", "out").out
    manifest = json.loads((edgec.here / "out/manifest.json").read_text())
    assert manifest["options"]["train"]["rate"] == 0.001


def test_the_passes_keep_the_numbers(edgec: Command) -> None:
    (edgec.here / "scheme.toml").write_text("biases = 1\n[[weights]]\nconv = 0\nratio = 1\n")
    edgec.works(*FP32, "--train", "sparse", "--scheme", "scheme.toml", "--check", "--stages", "stages")
    assert any("train" in p.name for p in (edgec.here / "stages").iterdir())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--train", "most"),
            "EDGEC-E246: give --train none, head, bias, last:N, sparse, full or lora:R: 'most' is none of them",
        ),
        (("--train", "sparse"), "EDGEC-E246: give --scheme FILE.toml with --train sparse"),
        (("--train", "head", "--momentum", "1"), "EDGEC-E246: give --momentum from 0 to below 1"),
    ],
)
def test_wrong_options_are_refused(edgec: Command, words: tuple[str, ...], text: str) -> None:
    edgec.refused(2, text, *FP32, *words)


def test_a_gpu_does_not_learn(edgec: Command) -> None:
    edgec.refused(
        2,
        "EDGEC-E24A: compile with --precision int8 or fp32 for a microcontroller or the host, or without --train: "
        "fp16 does not learn on a GPU",
        *("compile", "-q", "--no-build", "--target", "orin", "-o", "out", "net.pt2", "--train", "head"),
    )


def test_the_command_has_it_and_the_artifact_checks(edgec: Command) -> None:
    edgec.works(*COMPILE, "net.pt2", "--calib", "random", "--train", "head", "--head", "int8")
    manifest = json.loads((edgec.here / "out/manifest.json").read_text())
    assert manifest["options"]["train"]["head"] == "int8"
    report = json.loads(edgec.works("report", "out", "--json").out)
    assert {row["of_bytes"] for row in report["training"]["trainables"]} == {
        row["bytes"] for row in report["training"]["trainables"]
    }
    assert report["training"]["trainables"][0]["state"].endswith(".q.rows.trained")


def test_integers_learn_by_momentum_and_in_q8_8(edgec: Command) -> None:
    words = ("--train", "full", "--optimizer", "momentum", "--weight-decay", "0.01", "--accumulate", "4")
    edgec.works(*COMPILE, "net.pt2", "--calib", "random", *words, "--rounding", "q8.8")
    learns = json.loads(edgec.works("report", "out", "--json").out)["training"]
    manifest = json.loads((edgec.here / "out/manifest.json").read_text())
    assert manifest["options"]["train"]["rounding"] == "q8.8"
    rows = learns["trainables"]
    weights = [r for r in rows if len(r["shape"]) == 4]  # int8; then biases int32 and a float head
    assert [len(r["shape"]) for r in rows] == [4, 1, 4, 1, 2, 1]
    elements = sum(math.prod(r["shape"]) for r in rows)
    assert learns["optimizer_bytes"] == 2 * 4 * elements + sum(r["bytes"] for r in weights)


def test_integers_do_not_learn_by_adam(edgec: Command) -> None:
    edgec.refused(
        2,
        "EDGEC-E248: give --optimizer sgd or momentum, or --precision fp32, or train a float head alone: int8 layers "
        "do not learn by Adam, which fp32 has",
        *(*COMPILE, "net.pt2", "--calib", "random", "--train", "full", "--optimizer", "adam"),
    )
