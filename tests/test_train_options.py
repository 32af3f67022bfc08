"""What the user says of training: modes on the command line, and scheme files with what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import UserError
from edgec.training.options import Scheme, TrainSpec, WeightSlice, check_spec, parse_mode, read_scheme


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", ("none", 0)), ("sparse", ("sparse", 0)), ("last:4", ("last", 4)), ("lora:8", ("lora", 8))],
)
def test_modes(text: str, expected: tuple[str, int]) -> None:
    assert parse_mode(text) == expected
    assert TrainSpec(*parse_mode(text)).title == text


@pytest.mark.parametrize(
    "text", ["", "some", "last", "last:", "last:0", "last:-1", "last:x", "full:3", "lora:²"]
)
def test_other_modes_are_refused(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_mode(text)
    assert str(error.value) == (
        f"EDGEC-E246: give --train none, head, bias, last:N, sparse, full or lora:R: {text!r} is none of them"
    )


def test_a_scheme_file(tmp_path: Path) -> None:
    path = tmp_path / "scheme.toml"
    path.write_text(
        'biases = 22\ncriterion = "random"\nseed = 3\n[[weights]]\nconv = 21\n'
        '[[weights]]\nlayer = "features.7.0"\nratio = "1/8"\n[[weights]]\nconv = 24\nratio = 0.5\n'
    )
    assert read_scheme(path) == Scheme(
        22,
        (WeightSlice(None, 21, 1.0), WeightSlice("features.7.0", None, 0.125), WeightSlice(None, 24, 0.5)),
        "random",
        3,
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("bias = 3", "the file may hold biases, weights, criterion, seed, not bias"),
        ("biases = -1", "biases is a whole number from 0 on, not -1"),
        ("biases = true", "biases is a whole number from 0 on, not True"),
        ("weights = 3", "weights are tables, [[weights]]"),
        ('criterion = "best"', "criterion is magnitude+, first, random, not 'best'"),
        ("[[weights]]\nratio = 1", "[[weights]] number 1 names a layer or a conv, one of them"),
        ("[[weights]]\nconv = 1\nlayer = 'a'", "[[weights]] number 1 names a layer or a conv, one of them"),
        ("[[weights]]\nlayer = 3", "layer of [[weights]] number 1 is a name, not 3"),
        (
            "[[weights]]\nconv = 1\nratio = 1.5",
            "ratio of [[weights]] number 1 is 0 to 1, such as 0.25 or '1/8', not 1.5",
        ),
        (
            "[[weights]]\nconv = 1\nratio = true",
            "ratio of [[weights]] number 1 is 0 to 1, such as 0.25 or '1/8', not True",
        ),
        (
            "[[weights]]\nconv = 1\nratio = '1/0'",
            "ratio of [[weights]] number 1 is 0 to 1, such as 0.25 or '1/8', not '1/0'",
        ),
    ],
)
def test_a_wrong_scheme_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "scheme.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_scheme(path)
    assert str(error.value) == f"EDGEC-E247: correct the scheme {path}: {wrong}"


def test_a_scheme_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^EDGEC-E247: give a scheme in TOML: .* cannot be read \(.*\)$"):
        read_scheme(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[[")
    with pytest.raises(UserError, match=r"^EDGEC-E247: give a scheme in TOML: .* cannot be read \(.*\)$"):
        read_scheme(tmp_path / "broken.toml")


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        (TrainSpec("sparse"), "--scheme FILE.toml with --train sparse"),
        (TrainSpec("full", scheme=Scheme(1)), "--scheme with --train sparse alone"),
        (TrainSpec("last"), "--train N or R from 1 up"),
        (TrainSpec("full", rate=float("nan")), "--learning-rate as a number from 0 up"),
        (TrainSpec("full", momentum=1.0), "--momentum from 0 to below 1"),
        (TrainSpec("full", weight_decay=-1.0), "--weight-decay as a number from 0 up"),
        (TrainSpec("full", accumulate=0), "--accumulate from 1 up"),
        (TrainSpec("full", temperature=0.0), "--temperature as a number above 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(spec: TrainSpec, cure: str) -> None:
    with pytest.raises(UserError) as error:
        check_spec(spec)
    assert str(error.value) == f"EDGEC-E246: give {cure}"
