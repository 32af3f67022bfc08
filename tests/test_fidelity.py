"""Fidelity: programs in fp32 compute what PyTorch computes; int8 keeps the digits, however it is calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgec import compiler, interp, samples
from edgec.pipeline import Options
from examples.models import digits_cnn
from tests.example_networks import (
    FACTORIES,
    LARGE,
    artifact,
    calibration_inputs,
    compiled,
    emulated,
    network,
    transformed,
)

# Relative to the largest output. Sums of up to 4,608 products in another order than PyTorch's move the
# result by about sqrt(4608) * 2**-24 = 4e-6 of it a layer.
TOLERANCE = 1e-4
NAMES = [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in ("digits", *FACTORIES)]


def assert_fp32_is_pytorch(folder: Path, name: str, target: str, on: str) -> None:
    module, (example,) = network(name)
    with torch.no_grad():
        want = module(example).numpy()
    made = artifact(folder / "artifact", compiled(name, target, precision="fp32"))
    (found,) = made.run({"x": example.numpy()}, on=on).values()  # type: ignore[arg-type]
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= TOLERANCE * np.abs(want).max()


@pytest.mark.parametrize("name", NAMES)
def test_fp32_on_the_host_is_within_1e4_of_pytorch(tmp_path: Path, name: str) -> None:
    assert_fp32_is_pytorch(tmp_path, name, "host", "host")


@emulated
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("name", "core"),
    [("digits", "cortex-m0"), ("kws", "cortex-m4"), ("audio_transformer", "cortex-m4"), ("ad", "cortex-m7")],
)
def test_fp32_on_a_core_is_within_1e4_of_pytorch(tmp_path: Path, name: str, core: str) -> None:
    assert_fp32_is_pytorch(tmp_path, name, core, "qemu")


def accuracy_in_int8(options: Options) -> float:
    """Of the interpreter on the held-out digits."""
    net, inputs = network("digits")
    request = compiler.Request(net, "host", options, calibration_inputs("digits"), inputs)
    program = compiler.transform(request).program
    graph = program.graphs[0]
    digits = digits_cnn.load()
    types = program.type_of(graph)
    sets = samples.to_device({"x": digits.held_out_x}, graph.input_ports, types, "the digits")
    logits = [interp.run(program, graph, one)[0][graph.outputs[0]] for one in sets]
    return digits_cnn.accuracy(np.concatenate(logits), digits.held_out_y)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("options", "points"),
    [
        (Options(calibration="minmax"), 0.5),
        (Options(calibration="percentile"), 0.5),
        (Options(calibration="mse"), 0.5),
        (Options(calibration="entropy"), 1.5),  # clips more than a network as small as this one likes
        (Options(equalize=True), 0.5),
        (Options(bias_correct=True), 0.5),
    ],
    ids=["minmax", "percentile", "mse", "entropy", "equalize", "bias correct"],
)
def test_int8_keeps_the_digits(options: Options, points: float) -> None:
    net, digits = network("digits")[0], digits_cnn.load()
    with torch.no_grad():
        reference = digits_cnn.accuracy(net(torch.from_numpy(digits.held_out_x)).numpy(), digits.held_out_y)
    assert accuracy_in_int8(options) >= reference - points / 100


# Not the two deep ones: with random weights they turn noise 40 dB below their input into noise 4 dB (MobileNetV2)
# and 11 dB (MCUNet-like) below their features, in float.
@pytest.mark.parametrize("name", ["kws", "vww", "ic", "ad", "audio_transformer"])
def test_int8_outputs_stay_20_db_above_their_error(name: str) -> None:
    """Random weights are harder on int8 than trained ones; still the error has a tenth of the signal's size."""
    one = transformed(name)
    errors, signals = [], []
    for program in (one.done.trace.reference, one.program):
        graph = program.graphs[0]
        types = program.type_of(graph)
        given = samples.to_device(calibration_inputs(name), graph.input_ports, types, "the calibration")
        found = [interp.run(program, graph, x)[0][graph.outputs[0]] for x in given]
        port = graph.output_ports[0]
        values = np.stack([samples.value_to_user(y, port, types[port.ref], raw=False) for y in found])
        errors.append(values.astype(np.float64))
        signals.append(float(np.square(values).sum()))
    noise = float(np.square(errors[0] - errors[1]).sum())
    assert 10 * np.log10(signals[0] / noise) >= 20
