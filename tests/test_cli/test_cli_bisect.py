"""bisect: finds a pass that was made wrong, and finds nothing in a healthy compiler."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgec import pipeline
from edgec.build import constant
from edgec.ir import Program
from edgec.passes.fuse import fuse
from tests.cli_command import Command


def wrong_fuse(program: Program) -> Program:
    """fuse that also scales the weights of the second convolution by 1.5."""
    fused = fuse(program)
    _, node = [n for n in fused.graphs[0].nodes if n.op == "conv2d"]
    name = node.inputs[1][1:]
    weights = fused.constants[name]
    return replace(fused, constants={**fused.constants, name: constant(weights.data * 1.5)})


def test_a_wrong_pass_and_its_first_wrong_node_are_found(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fuse", wrong_fuse)
    words = ("bisect", "-q", "net.pt2", "--precision", "fp32", "--input", "one.npz")
    found = json.loads(edgec.works(*words, "--json").out)
    assert (found["step"], found["op"]) == ("fuse", "conv2d")
    assert found["where"].startswith("conv2 (")
    lines = edgec.works(*words).out.splitlines()
    assert lines[-2] == "numbers leave after fuse"
    assert lines[-1].startswith("first at conv2d %")


def test_healthy_float_passes_stay_within_rounding(edgec: Command) -> None:
    words = ("bisect", "-q", "net.pt2", "--precision", "fp32", "--calib", "calib.npz", "--tolerance", "1e-5")
    found = json.loads(edgec.works(*words, "--json").out)
    assert (found["step"], found["node"], found["op"], found["where"], found["distance"]) == (
        "",
        "",
        "",
        "",
        0.0,
    )
    assert {row["step"] for row in found["steps"]} >= {"legalize", "fuse"}
    assert edgec.works(*words).out.endswith("every pass stays within the tolerance\n")


def test_int8_leaves_at_quantize_alone_and_a_wider_tolerance_takes_it(edgec: Command) -> None:
    words = ("bisect", "-q", "net.pt2", "--calib", "calib.npz")
    assert json.loads(edgec.works(*words, "--json").out)["step"] == "quantize"
    assert edgec.works(*words, "--tolerance", "0.05").out.endswith("every pass stays within the tolerance\n")


def test_inputs_that_do_not_fit_are_refused(edgec: Command) -> None:
    text = "EDGEC-E226: add an array named image: the input holds picture"
    edgec.refused(2, text, "bisect", "-q", "net.pt2", "--precision", "fp32", "--input", "misnamed.npz")
