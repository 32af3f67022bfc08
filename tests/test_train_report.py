"""The report's section on learning: what trains, in how many bytes, and what a step keeps."""

from __future__ import annotations

from typing import Any

from edgec import pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Program
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.plan import Plan
from edgec.targets.load import load_target
from edgec.training import report as train_report
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from tests.training_networks import network


def section(spec: TrainSpec) -> tuple[dict[str, Any], Plan]:
    program: Program = train(network("digits").program, spec)
    plan = pipeline.lower(program, load_target("cortex-m7"), Options(precision="fp32"), KERNELS, "m")
    found = train_report.build(plan, program, spec)
    assert found is not None
    return found, plan


def test_a_slice_is_shown_with_the_whole_weight() -> None:
    found, _ = section(
        TrainSpec("sparse", scheme=Scheme(0, (WeightSlice("wide.0", None, 0.25),)), optimizer="adam")
    )
    rows = [(r["layer"], r["shape"], r["bytes"], r["of_bytes"]) for r in found["trainables"]]
    assert rows == [
        ("wide.0", [24, 3, 3, 4], 3456, 13824),
        ("wide.0", [24], 96, 96),
        ("head", [10, 32], 1280, 1280),
        ("head", [10], 40, 40),
    ]
    assert found["trainable_bytes"] == 3456 + 96 + 1280 + 40
    assert found["optimizer_bytes"] == 2 * found["trainable_bytes"]


def test_a_step_keeps_what_its_backward_part_reads() -> None:
    head, _ = section(TrainSpec("head"))
    kept = [b["bytes"] for b in head["saved_activations"]]
    assert kept == [4 * 2 * 32, 4 * 2 * 10]  # the pooled features, and the logits
    full, _ = section(TrainSpec("full"))
    # The image, and the outputs of three convolutions with the masks of their clamps in them.
    assert full["saved_activation_bytes"] > 4 * 2 * (64 * 16 + 64 * 24 + 16 * 24)
    assert full["macs_forward"] < full["macs_backward"]
    assert head["macs_backward"] == 2 * 32 * 10


def test_the_section_as_text() -> None:
    found, _ = section(TrainSpec("last", 1))
    assert train_report.text(found) == [
        "\nlearns: last:1, cross-entropy, sgd",
        "trained 1,320 B, optimiser 0 B, kept from forward to backward 336 B",
        f"a step: {found['macs_forward']:,} MACs forward, 640 backward",
        "  layer                                shape                 bytes         of",
        "  head                                 10x32                 1,280      1,280",
        "  head                                 10                       40         40",
    ]


def test_a_network_that_does_not_learn_has_none() -> None:
    program = network("digits").program
    plan = pipeline.lower(program, load_target("cortex-m7"), Options(precision="fp32"), KERNELS, "m")
    assert train_report.build(plan, program, TrainSpec()) is None
