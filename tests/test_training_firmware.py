"""Firmware that learns on an emulated board: all of its RAM is --train-ram, and its steps are the interpreter's."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

import mcunet
import numpy as np
import pytest
import torch
from artifacts import Calls, interpreted

from edgec import compiler, device
from edgec.artifact import Artifact, pack
from edgec.compiler import Request
from edgec.errors import TargetError, UserError
from edgec.ir import Program
from edgec.pipeline import Options
from edgec.training.options import Scheme, TrainSpec, WeightSlice, check_spec
from edgec.training.ram import lesser
from examples.on_device_learning.digits import LearningCnn
from tests.example_networks import emulated

LAST = TrainSpec("last", 2, rate=0.01)
LIMIT = 48 << 10
SLICES = Scheme(2, (WeightSlice("deep.0", None, 0.5),))


def request(spec: TrainSpec) -> Request:
    """To compile the network of the demo, with random weights, for the discovery board."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = LearningCnn().eval()
    images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    options = Options(train=spec)
    return Request(net, "stm32f746-disco", options, {"x": images}, (torch.zeros(1, 1, 8, 8),), name="demo")


@cache
def plan(spec: TrainSpec) -> compiler.Compiled:
    return compiler.plan(request(spec))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The demo's artifact in LIMIT bytes of RAM."""
    folder = tmp_path_factory.mktemp("firmware") / "demo"
    compiler.write(plan(replace(LAST, ram_bytes=LIMIT)), folder)
    return Artifact(folder)


def drawn(program: Program, entries: list[str], classes: int) -> Calls:
    """Calls of these entries with images and labels of classes."""
    rng = np.random.default_rng(0)
    calls = []
    for entry in entries:
        image, *label = program.graph(entry).inputs
        inputs = {image.name: rng.integers(-128, 128, image.type.dims).astype(np.int8)}
        for value in label:
            inputs[value.name] = rng.integers(0, classes, value.type.dims).astype(np.int32)
        calls.append((entry, inputs))
    return calls


def ran(own: Artifact, program: Program, calls: Calls, on: device.Place = "host") -> bytes:
    """Raw outputs of the calls by the built program, arenas filled with 165 before."""
    names = [g.name for g in program.graphs]
    steps = tuple((names.index(entry), len(list(group))) for entry, group in groupby(e for e, _ in calls))
    data = pack([inputs[v.name] for entry, inputs in calls for v in program.graph(entry).inputs])
    return device.run(own.built(on), data, steps, device.RunOptions(fill=165)).output


ENTRIES = ["evaluate", *["train_step"] * 20, "evaluate", "infer"]


def test_steps_of_the_host_program_are_the_interpreters_bit_by_bit(made: Artifact) -> None:
    program = plan(replace(LAST, ram_bytes=LIMIT)).done.program
    calls = drawn(program, ENTRIES, 10)
    assert ran(made, program, calls) == interpreted(program, calls)


@emulated
@pytest.mark.qemu
def test_steps_of_the_firmware_are_the_interpreters_bit_by_bit(made: Artifact) -> None:
    program = plan(replace(LAST, ram_bytes=LIMIT)).done.program
    calls = drawn(program, ENTRIES, 10)
    assert ran(made, program, calls, "qemu") == interpreted(program, calls)


@pytest.mark.parametrize("spec", [LAST, TrainSpec("sparse", scheme=SLICES), TrainSpec("bias")])
def test_make_check_holds_training_steps_byte_by_byte(spec: TrainSpec, tmp_path: Path) -> None:
    compiler.write(plan(spec), tmp_path / "demo")
    makefile = (tmp_path / "demo" / "Makefile").read_text()
    assert "keep 0 0:4 2:4 1:4" in makefile
    own = Artifact(tmp_path / "demo")
    found = ran_golden(own)
    assert found == (own.folder / "golden" / "out.bin").read_bytes()


def ran_golden(own: Artifact) -> bytes:
    data = (own.folder / "golden" / "in.bin").read_bytes()
    return device.run(own.built("host"), data, own.golden_steps(), device.RunOptions()).output


def test_the_linker_script_has_no_more_ram_than_was_given(made: Artifact) -> None:
    script = (made.folder / "src" / "port" / "mps2-an500.ld").read_text()
    assert re.findall(r"ram : ORIGIN = \w+, LENGTH = (\d+)", script) == [str(LIMIT)]


@emulated
@pytest.mark.qemu
def test_bench_counts_all_ram_of_a_training_step(made: Artifact) -> None:
    found = made.bench(on="qemu", runs=1)["training"]
    parts = ("arena_bytes", "data_bytes", "bss_bytes", "stack_bytes")
    assert found["sram_bytes"] == sum(found[p] for p in parts)
    assert found["sram_bytes"] + found["link_bytes"] <= found["ram_limit_bytes"] == LIMIT
    assert found["trainable_bytes"] == 24 * 9 * 24 + 4 * 24 + 4 * (10 * 384 + 10)
    assert 0 < found["scratch_bytes"] < found["arena_bytes"] - found["trainable_bytes"]
    assert 0 < found["stack_bytes"] < 2048
    assert found["instructions_infer"] < found["instructions_evaluate"] < found["instructions_train_step"]


@emulated
@pytest.mark.qemu
def test_more_replayed_samples_than_ram_are_refused(made: Artifact) -> None:
    options = device.BuildOptions("demo", machine=made.machine(), learn=2000)
    with pytest.raises(TargetError) as refused:
        device.build(made.folder, made.target, options)
    assert re.fullmatch(
        r"EDGEC-E510: give a smaller --replay-samples: the firmware that learns with room for 2000 of them on "
        r"mps2-an500 exceeds ram by \d+ bytes \(stm32f746-disco, --train-ram\)",
        str(refused.value),
    )


def test_a_budget_that_is_too_small_says_by_how_much_and_what_would_fit() -> None:
    with pytest.raises(TargetError) as refused:
        compiler.plan(request(replace(LAST, ram_bytes=38 << 10)))
    assert re.fullmatch(
        r"EDGEC-E508: give --train-ram 42K, or --train head \(35 KiB\): the firmware that learns needs 42 KiB of RAM "
        r"at layer [^(]+\(.*digits\.py:\d+\)( to [^(]+\(.*digits\.py:\d+\))? \(16 KiB of it stack, link and data\), "
        r"\d+ bytes more than the 38 KiB given\. Largest buffers: state\.head\.weight_1\.trained 15 KiB, "
        r"state\.deep\.0\.weight_1_1\.q\.trained 5184 bytes, .*",
        str(refused.value),
    )


def test_a_budget_below_stack_and_data_is_refused() -> None:
    with pytest.raises(TargetError, match=r"^EDGEC-E508: give --train-ram \d+K: the firmware"):
        compiler.plan(request(replace(LAST, ram_bytes=1 << 10)))


def test_ram_of_training_without_training_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        check_spec(TrainSpec(ram_bytes=LIMIT))
    assert str(refused.value) == "EDGEC-E246: give --train-ram with --train alone"


@pytest.mark.parametrize(
    ("spec", "titles"),
    [
        (TrainSpec("full"), ["--train last:4", "--train last:2", "--train head"]),
        (TrainSpec("last", 5), ["--train last:2", "--train head"]),
        (TrainSpec("bias", gradients="fp32"), ["--gradients int8", "--train head"]),
        (TrainSpec("lora", 4), ["--train lora:2", "--train lora:1"]),
        (
            TrainSpec("sparse", scheme=SLICES, optimizer="adam"),
            [
                "--optimizer sgd",
                "a scheme with half of each slice",
                "a scheme of biases alone",
                "--train head",
            ],
        ),
        (
            TrainSpec("bias", optimizer="momentum", accumulate=4, rounding="q8.8"),
            ["--accumulate 1", "--rounding stochastic", "--optimizer sgd", "--train head"],
        ),
        (TrainSpec("head"), []),
    ],
)
def test_what_is_tried_instead(spec: TrainSpec, titles: list[str]) -> None:
    assert [title for title, _ in lesser(spec, 8)] == titles


@emulated
@mcunet.needed
@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["99", "148"])
def test_mcunet_trains_on_the_board_in_256_kb_as_on_the_host(scheme: str, tmp_path: Path) -> None:
    own, program = mcunet.learning_artifact(scheme, tmp_path / "mcunet")
    measured = own.bench(on="qemu", runs=1)["training"]
    assert measured["sram_bytes"] + measured["link_bytes"] <= 256 << 10
    calls = drawn(program, [*["train_step"] * 20, "evaluate"], 10)
    assert ran(own, program, calls, "qemu") == ran(own, program, calls)
