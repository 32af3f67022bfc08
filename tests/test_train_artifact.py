"""Artifacts that learn: the training step in C on the host, with sanitizers, against the interpreter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import artifact as written
from artifacts import drawn, interpreted, ran

from edgec import pipeline
from edgec.artifact import unpack
from edgec.backends.kernels_c import KERNELS
from edgec.errors import TargetError, UserError
from edgec.ir import Array, Program
from edgec.passes.memory import arena_bytes
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.targets.load import load_target
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from tests.training_networks import MAKERS, network

FP32 = Options(precision="fp32")
SPARSE = Scheme(2, (WeightSlice("wide.0", None, 0.25), WeightSlice("deep.0", None, 0.5)))
SPECS = {
    "full": TrainSpec("full", rate=0.05),
    "momentum": TrainSpec("full", rate=0.05, optimizer="momentum", weight_decay=0.01),
    "adam": TrainSpec("full", rate=0.01, optimizer="adam"),
    "sparse": TrainSpec("sparse", scheme=SPARSE, rate=0.05),
    "head": TrainSpec("head"),
    "lora": TrainSpec("lora", 2),
    "mse": TrainSpec("full", loss="mse"),
    "bce": TrainSpec("last", 2, loss="bce"),
    "kl": TrainSpec("bias", loss="kl", temperature=2.0),
}


def calls(program: Program, entries: list[str], seed: int = 0) -> list[tuple[str, dict[str, Array]]]:
    """Calls of these entries; labels are those of classes that exist."""
    made = drawn(program, entries, seed)
    for entry, inputs in made:
        for value in program.graph(entry).inputs:
            if value.type.dtype.value == "i32":
                inputs[value.name] = inputs[value.name] % 3
    return made


def assert_close(program: Program, made: list[tuple[str, dict[str, Array]]], found: bytes) -> None:
    """Each output within 1e-4 of its largest magnitude: sums are in another order."""
    wanted = interpreted(program, made)
    at = 0
    for entry, _ in made:
        graph = program.graph(entry)
        types = [program.type_of(graph)[ref] for ref in graph.outputs]
        size = sum(t.bytes for t in types)
        (a,), (b,) = (unpack(data[at : at + size], types) if size else ([],) for data in (wanted, found))
        for expected, actual in zip(a, b, strict=True):
            scale = max(1e-6, float(np.abs(expected).max()))
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)
        at += size


@pytest.mark.parametrize("name", SPECS)
def test_steps_in_c_are_those_of_the_interpreter(name: str, tmp_path: Path) -> None:
    program = train(network("digits").program, SPECS[name])
    made = calls(program, ["infer", *["train_step"] * 6, "evaluate", "infer"])
    own = written(program, "host", tmp_path / "artifact", options=FP32)
    assert_close(program, made, ran(own, program, made))


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "digits"])
def test_a_step_of_each_network_in_c_is_that_of_the_interpreter(name: str, tmp_path: Path) -> None:
    program = train(network(name, whole=True).program, TrainSpec("full", rate=0.01))
    made = calls(program, ["train_step", "train_step", "infer"])
    own = written(program, "host", tmp_path / "artifact", options=FP32)
    assert_close(program, made, ran(own, program, made))


def test_accumulated_steps_in_c_are_those_of_the_interpreter(tmp_path: Path) -> None:
    spec = TrainSpec("full", rate=0.05, optimizer="momentum", accumulate=3)
    program = train(network("digits").program, spec)
    made = calls(program, [*(["train_step"] * 3 + ["apply"]) * 2, "evaluate", "infer"])
    own = written(program, "host", tmp_path / "artifact", options=FP32)
    assert_close(program, made, ran(own, program, made))


def lowered(program: Program) -> Any:
    return pipeline.lower(program, load_target("host"), FP32, KERNELS, "model")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_every_update_is_in_place(name: str, optimizer: Any) -> None:
    program = train(network(name, whole=True).program, TrainSpec("full", optimizer=optimizer))
    plan = lowered(program)
    assert [e.updates for e in plan.entries] == [(), (), ()]


@pytest.mark.parametrize("name", ["digits", "mobilenet", "vit"])
def test_early_updates_and_masks_take_less_memory_than_updates_at_the_end(name: str) -> None:
    from dataclasses import replace

    program = train(network(name, whole=True).program, TrainSpec("full", optimizer="momentum"))
    step = program.graph("train_step")
    late = sorted(step.nodes, key=lambda n: n.op == "sgd_momentum")
    graphs = tuple(replace(g, nodes=tuple(late)) if g is step else g for g in program.graphs)
    ordered, naive = (arena_bytes(lowered(p)) for p in (program, replace(program, graphs=graphs)))
    assert ordered < naive


def test_a_fused_update_has_no_gradient_of_a_whole_weight() -> None:
    program = train(network("mobilenet").program, TrainSpec("full"))
    plan = lowered(program)
    largest = max(b.bytes for b in plan.buffers if b.name.startswith("state."))
    entry = next(e for e in plan.entries if e.name == "train_step")
    activations = max(t.bytes for n in program.graph("infer").nodes for t in (n.outputs[0].type,))
    assert largest > activations
    assert max(b.bytes for b in plan.buffers if b.entry == entry.name and b.inside is None) <= activations


def test_a_budget_that_training_exceeds_is_refused_with_what_it_needs() -> None:
    program = train(network("digits").program, SPECS["full"])
    with pytest.raises(TargetError, match=r"^EDGEC-E501: ") as refused:
        pipeline.lower(
            program, load_target("cortex-m4"), Options(precision="fp32", ram_bytes=32 << 10), KERNELS, "m"
        )
    assert "train_step" in str(refused.value) or "KiB" in str(refused.value)


@pytest.mark.parametrize(("precision", "where"), [("fp16", "a device"), ("w4a16", "a device")])
def test_other_precisions_do_not_learn(precision: Any, where: str) -> None:
    options = Options(precision=precision, train=TrainSpec("head"))
    with pytest.raises(UserError) as refused:
        pipeline.graph_steps(options, {})
    assert str(refused.value) == (
        "EDGEC-E24A: compile with --precision int8 or fp32 for a microcontroller or the host, or without --train: "
        f"{precision} does not learn on {where}"
    )


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
def test_a_board_learns_as_the_host_does_bit_for_bit(tmp_path: Path) -> None:
    spec = TrainSpec("full", rate=0.05, optimizer="adam")
    program = train(network("digits").program, spec)
    made = calls(program, ["train_step"] * 5 + ["evaluate", "infer"])
    board = written(program, "cortex-m7", tmp_path / "board", options=FP32)
    assert ran(board, program, made) == ran(board, program, made, on="qemu")
