"""`edgec tune --train`: what it finds on a small network, which choices it refuses, in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.training.options import Scheme, WeightSlice, read_scheme
from tests.cli_command import Answer, Command

NET = ("tune", "net.pt2", "--train", "--data", "shapes.npz", "--on", "interpreter", "--ratio", "1/2")
FLOAT = (*NET, "--precision", "fp32", "--learning-rate", "0.05", "--memory", "16K")


@pytest.fixture
def tune(edgec: Command) -> Command:
    """The command line with images of bright corners, whose class is the corner."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 60)
    image = rng.normal(0, 0.5, (60, 1, 8, 8)).astype(np.float32)
    for x, y in zip(image, label, strict=True):
        x[0, 4 * (y // 2) :][:4, 4 * (y % 2) :][:, :4] += 1.0
    np.savez(edgec.here / "shapes.npz", image=image, label=label)
    np.savez(edgec.here / "without.npz", image=image)
    np.savez(edgec.here / "beyond.npz", image=image, label=label + 1)
    return edgec


def found(answer: Answer) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(answer.out)
    return result


def test_what_is_found_is_written_and_told(tune: Command) -> None:
    result = found(tune.works(*FLOAT, "-q", "--json", "-o", "s.toml", "--png", "s.png"))
    parts = [(row["part"], row["ratio"]) for row in result["contributions"]]
    assert parts == [
        ("biases of the last 1", None), ("biases of the last 2", None), ("conv", "1/2"), ("conv2", "1/2"),
    ]  # fmt: skip
    rows = {(row["part"], row["ratio"]): row for row in result["contributions"]}
    best = max(0.0, *(r["contribution"] for key, r in rows.items() if key[1] is None))
    gains = [r["contribution"] for key, r in rows.items() if key[1] is not None and r["contribution"] > 0]
    assert result["sum_of_contributions"] == pytest.approx(best + sum(gains))
    assert result["accuracy"] > 0.5
    assert rows["biases of the last 2", None]["accuracy"] == result["accuracy_biases"]
    scheme = read_scheme(tune.here / "s.toml")
    assert scheme == Scheme(
        result["biases"],
        tuple(WeightSlice(row["layer"], None, 0.5) for row in result["weights"]),
    )
    assert (tune.here / "s.png").read_bytes().startswith(b"\x89PNG")


def test_two_workers_and_a_resumed_run_write_the_same_bytes(tune: Command) -> None:
    one = tune.works(*FLOAT, "-q", "-o", "one.toml")
    two = tune.works(*FLOAT, "-q", "--workers", "2", "-o", "two.toml")
    assert one.out == two.out
    written = (tune.here / "one.toml").read_bytes()
    assert (tune.here / "two.toml").read_bytes() == written
    journal = tune.here / "three.toml.journal"
    lines = (tune.here / "one.toml.journal").read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # what a kill leaves
    again = tune.works(*FLOAT, "--resume", "-o", "three.toml")
    assert "2 of 5 fine-tunings are in three.toml.journal" in again.err
    assert again.out == one.out
    assert (tune.here / "three.toml").read_bytes() == written


def test_another_budget_takes_what_was_measured(tune: Command) -> None:
    tune.works(*FLOAT, "-q", "-o", "s.toml")
    least = tune.works(*FLOAT, "--resume", "-o", "s.toml", "--memory", "600", "--instructions", "1600")
    assert "5 of 5 fine-tunings are in s.toml.journal" in least.err
    assert read_scheme(tune.here / "s.toml") == Scheme(0, ())


def test_the_planned_memory_is_that_of_the_compiled_firmware(tune: Command) -> None:
    words = ("-q", "--json", "--target", "cortex-m4", "--memory", "12K", "-o", "s.toml")
    result = found(tune.works(*NET, *words))
    assert result["memory_bytes"] <= 12 * 1024
    compiled = found(
        tune.works(
            "compile", "-q", "--json", "--no-build", "net.pt2", "--target", "cortex-m4", "--calib", "calib.npz",
            "--train", "sparse", "--scheme", "s.toml", "-o", "out",
        )
    )  # fmt: skip
    assert sum(compiled["arena_bytes"].values()) == result["memory_bytes"]


@pytest.mark.slow
def test_c_on_the_host_learns_what_the_interpreter_learns(tune: Command) -> None:
    """int8 training is bit for bit the same in both."""
    words = ("--memory", "16K", "-q", "--json")
    interpreted = found(tune.works(*NET, *words, "-o", "a.toml"))
    built = found(tune.works(*NET, *words, "--on", "host", "-o", "b.toml"))
    assert built == interpreted


def test_what_cannot_learn_is_left_out_and_told(tune: Command) -> None:
    rng = np.random.default_rng(0)
    np.savez(tune.here / "points.npz", x=rng.normal(size=(20, 4)).astype(np.float32), label=np.arange(20) % 3)
    words = ("--model", "tests.cli_models:twice", "--data", "points.npz", "--memory", "16K", "--biases", "1")
    answer = tune.works("tune", "-", "--train", *words, "--on", "interpreter", "--json", "-o", "s.toml")
    result = found(answer)
    assert result["contributions"] == []
    told = result["left_out"][0]
    assert told == (
        "biases of the last 1 layers: train other layers, or compile with --precision fp32: several layers share the "
        "int8 parameter fc.bias, whose steps would have to be one"
    )
    assert f"left out: {told}\n" in answer.err


def test_layers_of_one_name_are_left_out_of_the_slices(tune: Command) -> None:
    rng = np.random.default_rng(0)
    np.savez(tune.here / "points.npz", x=rng.normal(size=(20, 4)).astype(np.float32), label=np.arange(20) % 3)
    words = (
        "--model",
        "tests.cli_models:twice",
        "--data",
        "points.npz",
        "--memory",
        "16K",
        "--precision",
        "fp32",
    )
    result = found(
        tune.works("tune", "-", "--train", *words, "--on", "interpreter", "--json", "-o", "s.toml")
    )
    assert {row["ratio"] for row in result["contributions"]} == {None}
    assert len(result["left_out"]) == 2
    assert all(text.endswith(": several layers have this name") for text in result["left_out"])


def test_missing_words_are_told_together(tune: Command) -> None:
    tune.refused(
        2,
        "EDGEC-E276: give --train, --data FILE, --memory SIZE, -o FILE.toml, too: `edgec tune` searches what learns "
        "on a device",
        "tune",
        "net.pt2",
    )


def test_a_budget_below_the_head_is_refused_before_measuring(tune: Command) -> None:
    answer = tune(*FLOAT, "-q", "--memory", "500", "-o", "s.toml")
    assert answer.code == 5
    assert answer.err == (
        "EDGEC-E511: give --memory 512 to train the head alone, 1056 to train a bias or a slice beside it: the head "
        "takes 512 bytes, 12 more than --memory 500 allows\n"
    )
    assert not (tune.here / "s.toml").exists()
    assert not (tune.here / "s.toml.journal").exists()


def test_a_budget_below_the_planned_head_names_the_plan(tune: Command) -> None:
    answer = tune(*NET, "-q", "--target", "cortex-m4", "--memory", "1K", "-o", "s.toml")
    assert answer.code == 5
    assert answer.err.startswith("EDGEC-E511: give --memory ")
    least = int(answer.err.split()[3])
    assert f"the head takes {least:,} bytes, {least - 1024:,} more than --memory 1024 allows" in answer.err
    tune.works(*NET, "-q", "--target", "cortex-m4", "--memory", least, "-o", "s.toml")
    assert (
        tune(*NET, "-q", "--resume", "--target", "cortex-m4", "--memory", least - 1, "-o", "s.toml").code == 5
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--layer", "conv3"),
            "EDGEC-E274: name a layer before the head for --layer, such as conv, conv2: 'conv3' is none whose weights "
            "could train",
        ),
        (
            ("--biases", "1", "--biases", "4"),
            "EDGEC-E275: give --biases from 1 to 2, the layers before the head: 4 is out of range",
        ),
        (
            ("--ratio", "0"),
            "EDGEC-E201: see `edgec tune --help`: argument --ratio: give a share above 0 and up to 1, such as 1/8, not "
            "'0'",
        ),
        (
            ("--data", "without.npz"),
            "EDGEC-E262: add an array named label, one entry a sample: without.npz holds image",
        ),
        (
            ("--data", "absent.npz"),
            "EDGEC-E222: check the path: data absent.npz does not exist",
        ),
        (("--learning-rate", "-1"), "EDGEC-E246: give --learning-rate as a number from 0 up"),
    ],
)  # fmt: skip
def test_wrong_words_change_nothing(tune: Command, words: tuple[str, ...], text: str) -> None:
    tune.refused(2, text, *FLOAT, "-q", "-o", "s.toml", *words)


def test_labels_that_are_no_class_are_refused(tune: Command) -> None:
    answer = tune(*FLOAT, "-q", "-o", "s.toml", "--data", "beyond.npz")
    assert answer.code == 2
    assert answer.err.startswith(
        "EDGEC-E265: give whole numbers from 0 to 2 as label, the network has 3 classes"
    )


def test_a_journal_of_other_data_is_refused_and_kept(tune: Command) -> None:
    tune.works(*FLOAT, "-q", "-o", "s.toml")
    tune.refused(
        2,
        "EDGEC-E270: give --resume to go on with s.toml.journal, or delete it to measure anew: it holds the results "
        "of an earlier run",
        *FLOAT,
        "-q",
        "-o",
        "s.toml",
    )
    tune.refused(
        2,
        "EDGEC-E272: give another -o, or delete s.toml.journal to measure anew: it was measured with other options",
        *FLOAT, "-q", "-o", "s.toml", "--resume", "--epochs", "2",
    )  # fmt: skip
    with np.load(tune.here / "shapes.npz") as data:
        np.savez(tune.here / "fewer.npz", image=data["image"][:50], label=data["label"][:50])
    tune.refused(
        2,
        "EDGEC-E272: give another -o, or delete s.toml.journal to measure anew: it was measured with other data",
        *FLOAT, "-q", "-o", "s.toml", "--resume", "--data", "fewer.npz",
    )  # fmt: skip


def test_names_of_layers_are_written_so_that_they_read_back(tmp_path: Path) -> None:
    from edgec.tune.search import _toml

    for name in ('a "b"\\c', "tab\t", "line\nend", "\x7f", "ä.😀", ""):
        path = tmp_path / "s.toml"
        path.write_text(f"biases = 0\n[[weights]]\nlayer = {_toml(name)}\n", encoding="utf-8")
        assert read_scheme(path).weights[0].layer == name


def test_the_place_is_checked_before_anything_is_measured(tune: Command) -> None:
    tune.refused(
        11,
        "EDGEC-EB09: choose a place that can be written: nowhere/s.toml.journal: No such file or directory",
        *FLOAT,
        "-q",
        "-o",
        "nowhere/s.toml",
    )


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (64, 64), (65, 64), (1000, 64)])
def test_few_samples_calibrate(count: int, kept: int) -> None:
    from edgec.tune.search import _calibrating

    arrays = {"x": np.arange(count), "y": -np.arange(count), "label": np.arange(count)}
    found = _calibrating(arrays, count)
    assert set(found) == {"x", "y"}
    assert len(np.unique(found["x"])) == kept
    assert np.array_equal(found["y"], -found["x"])  # the same samples of every input
