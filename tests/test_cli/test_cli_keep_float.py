"""--keep-float: a layer stays in float in an int8 network, the report says so, and the artifact still checks."""

from __future__ import annotations

import json

from tests.cli_command import Command

COMPILE = ("compile", "-q", "net.pt2", "--calib", "calib.npz", "--target", "host", "-o", "kept")


def test_a_kept_layer_runs_in_float_and_the_report_names_it(edgec: Command) -> None:
    made = json.loads(edgec.works(*COMPILE, "--keep-float", "fc", "--json").out)
    assert made["checked"] == ["host"]
    report = json.loads(edgec.works("report", "-q", "kept", "--json").out)
    kept = [island for island in report["float_islands"] if island["why"] == "kept in float by request"]
    assert [island["op"] for island in kept] == ["linear"]


def test_a_layer_that_does_not_exist_is_refused_with_near_ones(edgec: Command) -> None:
    text = "EDGEC-E236: name a layer of the model for --keep-float, such as conv, conv2: 'conv3' is none"
    edgec.refused(2, text, *COMPILE, "--keep-float", "conv3")


def test_keeping_layers_of_a_float_network_is_a_contradiction(edgec: Command) -> None:
    text = "EDGEC-E207: give either --keep-float or --precision fp32: together they contradict each other"
    edgec.refused(2, text, *COMPILE, "--keep-float", "fc", "--precision", "fp32")
