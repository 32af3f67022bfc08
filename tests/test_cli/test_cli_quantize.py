"""`edgec quantize`: what rounding costs, by layer; and the options of w8a8 and w4a16."""

from __future__ import annotations

import json

import pytest

from tests.cli_command import Command

QUANTIZE = ("quantize", "-q", "net.pt2", "--calib", "calib.npz")


def test_each_layer_is_rounded_alone_and_the_worst_comes_first(edgec: Command) -> None:
    found = json.loads(edgec.works(*QUANTIZE, "--sensitivity", "--json").out)
    assert found["precision"] == "int8" and 20 < found["output_snr_db"] < 99
    whole, *rows = found["sensitivity"]
    assert (whole["layer"], whole["op"]) == ("", "all layers")
    assert {row["layer"] for row in rows} == {"conv", "conv2", "fc"}
    snrs = [row["network_snr_db"] for row in rows]
    assert snrs == sorted(snrs) and whole["network_snr_db"] <= snrs[0] + 1


def test_the_table_says_the_same_in_text(edgec: Command) -> None:
    lines = edgec.works(*QUANTIZE, "--sensitivity").out.splitlines()
    assert lines[0].startswith("int8: ") and "dB signal to noise at the outputs" in lines[0]
    assert " ".join(lines[1].split()) == "layer rounded alone op network dB its MSE own dB its MSE"
    assert lines[2].startswith("(all of them)")
    assert len(lines) == 6


def test_a_compiled_report_holds_it_where_asked(edgec: Command) -> None:
    words = (
        "compile",
        "-q",
        "--no-build",
        "net.pt2",
        "--calib",
        "calib.npz",
        "--target",
        "host",
        "-o",
        "out",
    )
    edgec.works(*words, "--sensitivity")
    report = json.loads(edgec.works("report", "-q", "out", "--json").out)
    assert [row["op"] for row in report["sensitivity"]].count("conv2d") == 2
    assert "layer rounded alone" in edgec.works("report", "-q", "out").out


def test_4_bit_weights_say_what_each_layer_became(edgec: Command) -> None:
    words = (*QUANTIZE, "--precision", "w4a16", "--quantize-head", "--target", "orin", "--json")
    (row,) = json.loads(edgec.works(*words).out)["linear_layers"]
    assert (row["entry"], row["layer"], row["became"]) == ("infer", "fc", "w4a16")
    assert row["why"].startswith("not scaled: ") or row["why"].startswith("AWQ exponent ")
    fp16, w4 = row["predicted_us"]
    assert 0 < w4 < fp16
    assert (
        json.loads(edgec.works(*words, "--no-awq").out)["linear_layers"][0]["why"] == "rounded to the nearest"
    )


def test_int8_products_that_would_be_slower_stay_in_float(edgec: Command) -> None:
    words = (*QUANTIZE, "--precision", "w8a8", "--quantize-head", "--target", "orin", "--json")
    (row,) = json.loads(edgec.works(*words).out)["linear_layers"]
    assert row["became"] == "float" and row["why"].startswith("predicted slower: 1.5")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--precision", "fp32", "--sensitivity"),
            "EDGEC-E20B: choose --precision int8, w8a8 or w4a16: fp32 rounds no layer for itself, there is no "
            "sensitivity to measure",
        ),
        (
            ("--precision", "w8a8", "--smooth", "2"),
            "EDGEC-E201: see `edgec quantize --help`: argument --smooth: give auto, off or an alpha from 0 "
            "to 1, not '2'",
        ),
        (
            ("--precision", "w8a8", "--awq"),
            "EDGEC-E207: give either --awq or --precision w8a8: together they contradict each other",
        ),
        (
            ("--group", "64"),
            "EDGEC-E207: give either --group or --precision int8: together they contradict each other",
        ),
        (
            ("--precision", "w4a16", "--smooth", "auto"),
            "EDGEC-E207: give either --smooth or --precision w4a16: together they contradict each other",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(edgec: Command, words: tuple[str, ...], text: str) -> None:
    edgec.refused(2, text, *QUANTIZE, *words)


def test_awq_without_a_calibration_is_refused(edgec: Command) -> None:
    text = (
        "EDGEC-E220: give --calib FILE.npz with typical inputs (image [1, 1, 8, 8]), or --no-awq, or --calib random "
        "for made-up ranges: w4a16 needs the ranges of activations"
    )
    edgec.refused(2, text, "quantize", "-q", "net.pt2", "--precision", "w4a16", "--awq")
    edgec.works("quantize", "-q", "net.pt2", "--precision", "w4a16")


def test_edgec_toml_may_turn_awq_off(edgec: Command) -> None:
    (edgec.here / "edgec.toml").write_text(
        '[quantize]\nawq = false\nprecision = "w4a16"\nquantize-head = true\n'
    )
    row = json.loads(edgec.works(*QUANTIZE, "--json").out)["linear_layers"][0]
    assert row["why"] == "rounded to the nearest"
