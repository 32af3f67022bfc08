"""Bit-exactness and memory of the example networks: interpreter = host C = emulated Cortex-M, streamed or not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from edgec import device
from edgec.artifact import Artifact
from edgec.passes.memory import arena_bytes, live_lower_bound
from edgec.pipeline import Options
from edgec.targets.load import load_target
from tests import artifacts
from tests.example_networks import (
    CORES,
    LARGE,
    ON_DEVICE,
    artifact,
    compiled,
    emulated,
    every_value_out,
    expected,
)

FAST = ("digits", "kws", "ad", "audio_transformer")  # on every core in `make test`; all networks on M4
STREAMED = ("mobilenet_v2_035", "mcunet_like")
FILLS = (0x00, 0xA5)
OWN_TARGETS = ("cortex-m7", "cortex-m33", "cortex-m55", "stm32f746-disco", "nucleo-h743")

ON_CORES = [
    pytest.param(name, core, marks=() if name in FAST or core == "cortex-m4" else pytest.mark.slow)
    for name in ON_DEVICE
    for core in CORES
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@cache
def made(folder: Path, name: str, target: str, stream: str) -> Artifact:
    return artifact(folder / f"{name}-{target}-{stream}", compiled(name, target, stream))


def assert_bit_exact(name: str, program: device.Built, every_value: bool = False) -> None:
    """Every output byte equals the interpreter's, whatever the arena held before."""
    want = expected(name, every_value)
    for fill in FILLS:
        options = device.RunOptions(fill=fill)
        assert device.run(program, want.inputs, ((0, want.count),), options).output == want.outputs


@pytest.mark.parametrize("kernels", ["host", "cortex-m4"])
@pytest.mark.parametrize("stream", ["off", "all"])
@pytest.mark.parametrize("name", ON_DEVICE)
def test_host_equals_interpreter(folder: Path, name: str, stream: str, kernels: str) -> None:
    """Under sanitizers; with the portable kernels, and with Cortex-M4's on emulated instructions."""
    assert_bit_exact(name, made(folder, name, kernels, stream).built("host", sanitize=True))


def every_layer(folder: Path, name: str, target: str) -> Artifact:
    """A plan in which each layer's result is an output."""
    place = folder / f"{name}-{target}-layers"
    return artifacts.artifact(every_value_out(name), target, place, name, Options(stream="off"))


@pytest.mark.parametrize("name", ON_DEVICE)
def test_every_layer_on_the_host_equals_interpreter(folder: Path, name: str) -> None:
    assert_bit_exact(name, every_layer(folder, name, "host").built("host"), every_value=True)


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize("name", ON_DEVICE)
@pytest.mark.parametrize(
    "core", [c if c == "cortex-m4" else pytest.param(c, marks=pytest.mark.slow) for c in CORES]
)
def test_every_layer_on_a_core_equals_interpreter(folder: Path, name: str, core: str) -> None:
    assert_bit_exact(name, every_layer(folder, name, core).built("qemu"), every_value=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_host_equals_interpreter_on_large_networks(folder: Path, name: str) -> None:
    assert_bit_exact(name, made(folder, name, "host", "off").built("host"))


@pytest.mark.parametrize("target", OWN_TARGETS)
def test_artifact_of_a_target_with_kernels_of_its_own_passes_its_check_on_the_host(
    folder: Path, target: str
) -> None:
    kws = made(folder, "kws", target, "off")
    own = "mve" if target == "cortex-m55" else "dsp"
    assert any((kws.folder / "src/kernels" / own).iterdir())
    assert kws.places() == ("host", "qemu")
    kws.check("host", sanitize=True)


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize(("name", "core"), ON_CORES)
def test_core_equals_interpreter(folder: Path, name: str, core: str) -> None:
    assert_bit_exact(name, made(folder, name, core, "off").built("qemu"))


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize("name", [n for n in ON_DEVICE if n not in ("ad", "audio_transformer")])
def test_streamed_on_m4_equals_interpreter(folder: Path, name: str) -> None:
    assert_bit_exact(name, made(folder, name, "cortex-m4", "all").built("qemu"))


@emulated
@pytest.mark.qemu
def test_digits_runs_in_the_microbits_16_kb(folder: Path) -> None:
    digits = made(folder, "digits", "cortex-m0", "off")
    found = digits.bench(on="qemu", runs=1)
    assert digits.machine() == "microbit"
    assert found["arena_bytes"] <= 6 * 1024
    assert found["flash_bytes"] < 60 * 1024


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize("stream", ["off", "all"])
@pytest.mark.parametrize("name", ON_DEVICE)
def test_arena_is_within_15_percent_of_the_live_bound(name: str, core: str, stream: str) -> None:
    plan = compiled(name, core, stream).plan
    assert arena_bytes(plan) <= 1.15 * live_lower_bound(plan, load_target(core))


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize("name", STREAMED)
def test_streaming_takes_the_arena_to_0_6_for_10_percent_of_instructions(folder: Path, name: str) -> None:
    whole = made(folder, name, "cortex-m4", "off").bench(on="qemu", runs=1)
    fitted = compiled(name, "cortex-m4", stream="auto", ram=int(0.6 * whole["arena_bytes"]))
    rows = artifact(folder / f"{name}-0.6", fitted).bench(on="qemu", runs=1)
    assert rows["arena_bytes"] <= 0.6 * whole["arena_bytes"]
    assert rows["instructions"] <= 1.1 * whole["instructions"]


@pytest.mark.parametrize("name", STREAMED)
def test_streaming_all_takes_the_least_memory(name: str) -> None:
    whole = arena_bytes(compiled(name, "cortex-m4").plan)
    fitted = compiled(name, "cortex-m4", stream="auto", ram=int(0.6 * whole))
    assert arena_bytes(compiled(name, "cortex-m4", "all").plan) <= arena_bytes(fitted.plan)


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize("name", STREAMED)
def test_a_ram_budget_below_the_arena_streams_as_little_as_it_needs(folder: Path, name: str) -> None:
    whole = arena_bytes(compiled(name, "cortex-m4").plan)
    budget = int(0.75 * whole)
    fitted = compiled(name, "cortex-m4", stream="auto", ram=budget)
    assert arena_bytes(fitted.plan) <= budget
    assert_bit_exact(name, artifact(folder / f"{name}-budget", fitted).built("qemu"))


def test_a_depthwise_convolution_of_stride_1_takes_its_operands_buffer() -> None:
    plan = compiled("mcunet_like", "cortex-m4").plan
    depthwise = [c for c in plan.entries[0].calls if c.kernel.symbol.startswith("ec_depthwise")]
    shared = [
        c
        for c in depthwise
        if plan.buffer(c.outputs[0].buffer).offset == plan.buffer(c.inputs[0].buffer).offset
    ]  # type: ignore[union-attr]
    same = [c for c in depthwise if c.in_types[0].shape == c.out_types[0].shape]
    assert same
    assert shared == same
