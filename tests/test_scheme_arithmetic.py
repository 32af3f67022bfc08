"""MCUNet's schemes: published labels, and a liveness model that was written apart from the planner, against Plans.

Where a figure is not the model's, the test says which buffers make the difference.
"""

from __future__ import annotations

import functools
import json
import warnings

import mcunet
import pytest
import scheme_arithmetic
import torch
from environment import RESULTS
from scheme_arithmetic import FUSED, MODEL, WHOLE, Front, Live
from schemes import MCUNET, MOBILENET

from edgec import pipeline
from edgec.frontends import LoadOptions, load
from edgec.passes.straight_through import Format
from edgec.passes.training_cost import TrainingCost, training_cost
from edgec.pipeline import Options
from edgec.training.options import TrainSpec
from edgec.tune.evolution import Choice
from examples.models.mobilenet_v2 import MobileNetV2
from examples.models.seeded import seeded

pytestmark = mcunet.needed

FORMATS: tuple[Format, ...] = ("int8", "fp32")
LABEL = 4  # the step takes one; the model does not count it
FLOAT_HEAD = 4 * 160 + 4 * 10  # features and logits in float, which the model leaves out
# The front of the Plan with int8 gradients: what two blocks leave is in memory beside the image, and no block's output
# in between. The model ends its first block in a whole map: 49,152 + 32,768 and a ring of 4,096.
FRONT = {"image": 49_152, "blocks.1.pointwise2": 16_384, "label": LABEL}
# The layers with the largest gradients to inputs: where the model has the peak of its backward part.
PEAKS = ("blocks.10.depthwise", "blocks.13.pointwise2")


@functools.cache
def live(scheme: int, gradients: Format, front: Front) -> Live:
    return Live(scheme_arithmetic.planned(scheme, gradients, front))


def total(of: Live) -> int:
    return max(of.bytes_at(time) for time in of.peaks()) + of.trained


@pytest.mark.parametrize("scheme", MCUNET)
def test_labels_are_those_published(scheme: int) -> None:
    ours = scheme_arithmetic.label_kib(MCUNET[scheme].scheme)
    assert ours == pytest.approx(MCUNET[scheme].kib, abs=0.055)  # published with one decimal


class Tiny(torch.nn.Module):
    """MobileNetV2 of width 0.35 as the published schemes number it: without the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        net = MobileNetV2(0.35, classes=10)
        self.features, self.head = net.features[:-1], torch.nn.Linear(112, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


@functools.cache
def mobilenet_cost() -> TrainingCost:
    """Of the int8 network: random weights, calibrated on noise, which change no byte."""
    module, inputs = seeded(Tiny, (1, 3, 128, 128))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(module, LoadOptions(example_inputs=inputs))
    (port,) = program.graphs[0].input_ports
    options = Options(train=TrainSpec("head"))
    arrays = {port.label: inputs[0].numpy()}
    steps = [step for step in pipeline.graph_steps(options, arrays) if step.name not in ("train", "schedule")]
    quantized = pipeline.run(program, steps, options, arrays).program
    return training_cost(quantized, quantized.graphs[0])


@pytest.mark.parametrize("scheme", MOBILENET)
def test_labels_of_another_network_are_those_published(scheme: int) -> None:
    published, cost = MOBILENET[scheme], mobilenet_cost()
    slices = tuple((w.conv or 0, w.ratio) for w in published.scheme.weights if w.ratio)
    ours = (
        cost.extra_bytes(Choice(published.scheme.biases, slices)) - 3 * 112
    )  # the label has the head in int8
    assert ours / 1024 == pytest.approx(published.kib, abs=0.055)


@pytest.mark.parametrize("gradients", FORMATS)
@pytest.mark.parametrize("scheme", MODEL)
def test_a_step_on_whole_maps_takes_what_the_model_says(scheme: int, gradients: Format) -> None:
    own, model = live(scheme, gradients, "off"), MODEL[scheme]
    assert own.trained == model.trained
    assert own.kept == model.kept + FLOAT_HEAD
    assert own.bytes_at(own.peaks()[0]) == WHOLE + LABEL
    assert total(own) == model.total(gradients, "off") + LABEL
    assert own.plan.arenas[0].bytes == pytest.approx(model.total(gradients, "off"), rel=0.001)


@pytest.mark.parametrize("scheme", MODEL)
def test_a_streamed_step_with_float_gradients_takes_what_the_model_says(scheme: int) -> None:
    own, wanted = live(scheme, "fp32", "all"), MODEL[scheme].total("fp32", "all")
    forward, backward = own.peaks()
    assert own.bytes_at(forward) < own.bytes_at(backward)  # the backward part decides, here as in the model
    assert total(own) == pytest.approx(wanted, rel=0.005)
    assert own.plan.arenas[0].bytes == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize("scheme", MODEL)
def test_a_streamed_step_with_int8_gradients_has_a_smaller_front_than_the_model(scheme: int) -> None:
    own, model = live(scheme, "int8", "all"), MODEL[scheme]
    forward, backward = own.peaks()
    assert {b.name: b.bytes for b in own.at(forward)} == FRONT
    assert own.bytes_at(backward) < own.bytes_at(forward) == sum(FRONT.values()) == 65_540 < FUSED == 86_016
    ours, wanted = total(own), model.total("int8", "all")
    assert ours == wanted - FUSED + 65_540  # the model's total with this front
    assert 0.83 * wanted < ours < 0.91 * wanted
    assert own.plan.arenas[0].bytes == pytest.approx(ours, rel=0.001)


def at_gradient_of(own: Live, layer: str) -> int:
    """Live bytes while the gradient to the input of a layer is made, without what the model leaves out: the layer's own
    mask, which ours reads just there, and a few scalars."""
    here = own.at(own.gradient_of(layer))
    mask = next(b for b in here if b.name == f"{layer}.mask")
    scalars = [b for b in here if b.bytes <= 4]
    assert len(scalars) <= 5
    return sum(b.bytes for b in here) - mask.bytes - sum(b.bytes for b in scalars)


@pytest.mark.parametrize("front", ["off", "all"])
@pytest.mark.parametrize("gradients", FORMATS)
@pytest.mark.parametrize("scheme", MODEL)
def test_the_backward_part_takes_what_the_model_says(scheme: int, gradients: Format, front: Front) -> None:
    own = live(scheme, gradients, front)
    assert max(at_gradient_of(own, layer) for layer in PEAKS) == MODEL[scheme].backward[gradients]


@pytest.mark.parametrize("scheme", MODEL)
def test_int8_gradients_of_depthwise_layers_stand_in_two_maps(scheme: int) -> None:
    """So the backward part has its peak there, above the model's, which has them in place; the front is above both."""
    own = live(scheme, "int8", "all")
    forward, backward = own.peaks()
    first, second = own.at(backward)[:2]
    assert first.bytes == second.bytes == 9216
    assert own.bytes_at(backward) - second.bytes < MODEL[scheme].backward["int8"] < own.bytes_at(backward)
    assert own.bytes_at(backward) < own.bytes_at(forward)


def test_the_figures_that_are_written_down_are_these() -> None:
    written = json.loads((RESULTS / "scheme_arithmetic.json").read_text(encoding="utf-8"))
    assert len(written["rows"]) == 4 * len(MODEL)
    for row in written["rows"]:
        front: Front = "off" if row["front"] == "whole" else "all"
        own = live(row["scheme"], row["gradients"], front)
        assert row["total"] == [MODEL[row["scheme"]].total(row["gradients"], front), total(own)]
        assert row["arena_bytes"] == own.plan.arenas[0].bytes
    assert {int(n): p for n, (p, _) in written["labels_kib"].items()} == {n: s.kib for n, s in MCUNET.items()}
