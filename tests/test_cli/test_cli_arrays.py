"""Calibration and input arrays that do not fit the model: refused with exit code 2, what is wrong, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.cli_command import COMPILE, Command


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file of arrays and the answer; WHAT stands for its role."""

    file: str
    text: str
    cure: str = "calib.npz"


ARRAYS = (
    Wrong("nan.npz", "EDGEC-E229: remove NaN and infinity from image: WHAT holds 1"),
    Wrong("infinite.npz", "EDGEC-E229: remove NaN and infinity from image: WHAT holds 2"),
    Wrong(
        "narrow.npz",
        "EDGEC-E227: give image the shape [1, 1, 8, 8], or (N, ...) for N samples: WHAT has [8, 1, 8, 7]",
        "samples_first.npz",
    ),
    Wrong("misnamed.npz", "EDGEC-E226: add an array named image: WHAT holds picture"),
    Wrong("extra.npz", "EDGEC-E225: name the arrays after the model's inputs (image): WHAT also holds label"),
    Wrong("none.npz", "EDGEC-E232: give at least one sample: WHAT has none", "one.npz"),
    Wrong("words.npz", "EDGEC-E228: give image as numbers: WHAT has dtype <U1"),
    Wrong("complex.npz", "EDGEC-E228: give image as numbers: WHAT has dtype complex64"),
    Wrong(
        "unnamed.npy",
        "EDGEC-E221: save with numpy.savez(file, name=array): WHAT file unnamed.npy holds one unnamed array",
    ),
    Wrong("absent.npz", "EDGEC-E222: check the path: WHAT file absent.npz does not exist"),
    Wrong(
        "objects.npz",
        "EDGEC-E223: save the arrays with numpy.savez: WHAT file objects.npz is not a readable .npz (Object arrays "
        "cannot be loaded when allow_pickle=False)",
    ),
    Wrong(
        "short.npz",
        "EDGEC-E223: save the arrays with numpy.savez: WHAT file short.npz is not a readable .npz (File is not a zip "
        "file)",
    ),
    Wrong(
        "flipped.npz",
        "EDGEC-E223: save the arrays with numpy.savez: WHAT file flipped.npz is not a readable .npz (Bad CRC-32 for "
        "file 'image.npy')",
    ),
    Wrong(
        "folder.pt2",
        "EDGEC-E223: save the arrays with numpy.savez: WHAT file folder.pt2 is not a readable .npz ([Errno 21] Is a "
        "directory: 'folder.pt2')",
    ),
)


def told(text: str, role: str) -> str:
    """The text with the role of the arrays: `the calibration` in memory, `calibration file` on disk."""
    return text.replace("WHAT file", f"{role} file").replace("WHAT", f"the {role}")


@pytest.mark.parametrize("wrong", ARRAYS, ids=lambda w: w.file)
def test_calibration_that_does_not_fit_is_refused_and_what_the_text_asks_for_compiles(
    edgec: Command, wrong: Wrong
) -> None:
    edgec.refused(2, told(wrong.text, "calibration"), *COMPILE, "net.pt2", "--calib", wrong.file)
    edgec.works(*COMPILE, "net.pt2", "--calib", wrong.cure)


@pytest.mark.parametrize("wrong", ARRAYS, ids=lambda w: w.file)
def test_input_that_does_not_fit_is_refused(edgec: Command, made: Path, wrong: Wrong) -> None:
    edgec.refused(
        2, told(wrong.text, "input"), "run", made / "host", "--input", wrong.file, "--output", "y.npz"
    )


@pytest.mark.parametrize("cure", [("--calib", "calib.npz"), ("--precision", "fp32"), ("--calib", "random")])
def test_missing_calibration_is_told_with_three_cures_that_work(
    edgec: Command, cure: tuple[str, str]
) -> None:
    text = (
        "EDGEC-E220: give --calib FILE.npz with typical inputs (image [1, 1, 8, 8]), or --precision fp32, or --calib "
        "random for made-up ranges: int8 needs the ranges of activations"
    )
    edgec.refused(2, text, *COMPILE, "net.pt2")
    edgec.works(*COMPILE, "net.pt2", *cure)


def test_calibration_beyond_float32_is_refused(edgec: Command) -> None:
    text = "EDGEC-E229: scale image to float32: the calibration holds 64 values outside its range"
    edgec.refused(2, text, *COMPILE, "net.pt2", "--calib", "beyond_float32.npz")


def test_unequal_sample_counts_are_listed(edgec: Command) -> None:
    model = ("-", "--model", "tests.cli_models:two_inputs")
    text = "EDGEC-E224: give every input the same number of samples: the calibration has left: 4, right: 3"
    edgec.refused(2, text, *COMPILE, *model, "--calib", "unequal.npz")
    edgec.works(*COMPILE, *model, "--calib", "equal.npz")


def test_an_index_input_takes_whole_numbers_alone(edgec: Command) -> None:
    model = ("-", "--model", "tests.cli_models:index")
    for file, value in (("fractions.npz", "1.5"), ("past_int32.npz", str(1 << 40))):
        given = f"the calibration has others, from {value} to {value}"
        text = f"EDGEC-E233: give input as whole numbers that i32 holds: {given}"
        edgec.refused(2, text, *COMPILE, *model, "--calib", file)
    edgec.works(*COMPILE, *model, "--calib", "wholes.npz")


def test_a_sample_axis_may_replace_the_batch_axis_or_stand_before_it(edgec: Command, made: Path) -> None:
    edgec.works("run", made / "host", "--input", "calib.npz", "--output", "a.npz")
    edgec.works("run", made / "host", "--input", "samples_first.npz", "--output", "b.npz")
    assert (edgec.here / "a.npz").read_bytes() == (edgec.here / "b.npz").read_bytes()
    with np.load(edgec.here / "a.npz") as found:
        assert found["output"].shape == (8, 3)


def test_an_unknown_entry_is_told_with_those_that_exist(edgec: Command, made: Path) -> None:
    words = ("run", made / "host", "--input", "calib.npz", "--entry")
    edgec.refused(
        2, f"EDGEC-E230: choose an entry of {made}/host: infer; there is no 'train'", *words, "train"
    )
    edgec.works(*words, "infer")
