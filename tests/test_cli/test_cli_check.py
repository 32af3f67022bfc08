"""check: verdicts that hold when the model is compiled, and proposals that work when they are applied."""

from __future__ import annotations

import json
import re

import pytest

from edgec import compiler, device, verdict
from edgec.artifact import Artifact
from edgec.pipeline import Options
from tests.cli_command import COMPILE, Command

WIDE = ("-", "--model", "tests.cli_models:wide_image")


def proposals(edgec: Command, *words: str) -> list[list[str]]:
    """The options that each proposal of a refused check begins with."""
    answer = edgec("check", "-q", *words, "--json")
    assert answer.code == 5, answer.err
    (row,) = json.loads(answer.out)
    assert row["fits"] is False
    return [text.split(":")[0].split() for text in row["proposals"]]


def test_a_model_too_large_for_ram_names_layer_excess_and_proposal(edgec: Command) -> None:
    answer = edgec("check", "-q", "net.pt2", "--target", "cortex-m0", "--ram", "256")
    assert answer.code == 5
    assert answer.err == (
        "EDGEC-E501: take a proposal above, or another target: the model does not fit cortex-m0\n"
    )
    row, proposal = answer.out.splitlines()
    need = re.search(r"(\d+) bytes over: EDGEC-E501: cortex-m0 needs (\d+) bytes of ram at layer conv", row)
    assert need is not None
    assert int(need[2]) - 256 == int(need[1])
    assert f"try --ram {need[2]}: cortex-m0 has room for an arena of 4,190,208 B" in proposal


def test_the_proposed_ram_is_enough_and_one_byte_less_is_not(edgec: Command) -> None:
    ((flag, size),) = proposals(edgec, "net.pt2", "--target", "cortex-m0", "--ram", "256")
    assert flag == "--ram"
    edgec.works(*COMPILE, "net.pt2", "--calib", "calib.npz", "--ram", size)
    least = str(int(size) - 16)
    assert edgec(*COMPILE, "net.pt2", "--calib", "calib.npz", "--ram", least).code == 5


@pytest.mark.qemu
def test_the_proposed_flash_holds_the_linked_image(edgec: Command) -> None:
    ((flag, size),) = proposals(edgec, "net.pt2", "--target", "cortex-m0", "--flash", "2K")
    assert flag == "--flash"
    words = ("compile", "-q", "net.pt2", "--calib", "calib.npz", "--target", "cortex-m0", "-o", "out")
    edgec.works(*words, "--flash", size)


def test_int8_is_proposed_for_a_float_model_and_fits(edgec: Command) -> None:
    words = ("net.pt2", "--target", "cortex-m0", "--ram", "1K")
    found = proposals(edgec, *words, "--precision", "fp32")
    assert ["--precision", "int8"] in found
    edgec.works("check", "-q", *words, "--precision", "int8")


def test_streaming_is_counted_where_ram_is_given(edgec: Command) -> None:
    edgec.works("check", "-q", *WIDE, "--target", "cortex-m0", "--ram", "8K")
    edgec.works(*COMPILE, *WIDE, "--calib", "random", "--ram", "8K")


def test_several_targets_are_judged_one_by_one(edgec: Command) -> None:
    words = ("check", "-q", "net.pt2", "--target", "cortex-m0", "--target", "host", "--ram", "256", "--json")
    answer = edgec(*words)
    assert answer.code == 5
    assert [row["target"] for row in json.loads(answer.out)] == ["cortex-m0", "host"]
    assert answer.err.startswith("EDGEC-E503: ")


def test_a_verdict_on_all_targets_is_no_failure(edgec: Command) -> None:
    rows = json.loads(edgec.works("check", "-q", "net.pt2", "--all-targets", "--ram", "256", "--json").out)
    assert not any(row["fits"] for row in rows)


def test_compile_refuses_what_check_refuses(edgec: Command) -> None:
    answer = edgec(*COMPILE, "net.pt2", "--calib", "calib.npz", "--ram", "256")
    assert answer.code == 5
    assert answer.err.startswith("EDGEC-E501: cortex-m0 needs ")
    answer = edgec(*COMPILE, "net.pt2", "--calib", "calib.npz", "--flash", "512")
    assert answer.code == 5
    assert answer.err.startswith("EDGEC-E502: cortex-m0 needs ")


@pytest.mark.qemu
def test_an_image_larger_than_flash_is_refused_with_a_size_that_is_enough(edgec: Command) -> None:
    words = (
        "compile",
        "-q",
        "net.pt2",
        "--calib",
        "calib.npz",
        "--target",
        "cortex-m0",
        "-o",
        "out",
        "--flash",
    )
    answer = edgec(*words, "4K")
    assert answer.code == 5
    cure = re.match(
        r"EDGEC-E505: give --flash (\d+) or use a smaller model: the image in out takes ", answer.err
    )
    assert cure is not None
    edgec.works(*words, cure[1])


EXAMPLES = (
    ("digits_cnn:factory", "cortex-m4"),
    ("mlperf_tiny:ds_cnn", "cortex-m0"),
    ("mlperf_tiny:autoencoder", "cortex-m33"),
)


@pytest.mark.qemu
@pytest.mark.parametrize(("model", "target"), EXAMPLES)
def test_the_flash_estimate_is_within_35_percent_of_the_linked_image_weights_left_out_too(
    edgec: Command, model: str, target: str
) -> None:
    request = compiler.Request(
        "-", target, Options(), "random", factory=f"examples.models.{model}", name="net"
    )
    compiled = compiler.plan(request)
    compiler.write(compiled, edgec.here / "out")
    image = device.sizes(Artifact(edgec.here / "out").built("qemu")).flash_bytes
    estimate = verdict.flash_estimate(compiled.plan)
    assert abs(estimate - image) < 0.35 * image
    constants = sum(c.data.nbytes for c in compiled.plan.constants)
    assert abs(estimate - image) < 0.35 * (image - constants)
