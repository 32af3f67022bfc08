"""What a choice of trained parts costs: the published labels of MCUNet's schemes, and the rules on small networks."""

from __future__ import annotations

import mcunet
import pytest
from training_networks import network

from benchmarks.schemes import MCUNET
from edgec.errors import UserError
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.passes.training_cost import TrainingCost, training_cost
from edgec.training.options import Scheme, WeightSlice
from edgec.tune.evolution import HEAD_ONLY, Choice

# Multiply-accumulates of the backward pass in millions: gradients of inputs, of weights.
BACKWARD = {49: (9.15, 0.77), 74: (9.41, 1.88), 99: (9.82, 2.47), 124: (10.73, 2.61), 148: (10.23, 3.21)}
FLOAT_HEAD = 3 * 160  # the label counts the head's input in int8


def choice_of(scheme: Scheme) -> Choice:
    return Choice(scheme.biases, tuple((w.conv or 0, w.ratio) for w in scheme.weights if w.ratio))


@pytest.fixture(scope="module")
def mcu() -> TrainingCost:
    program = import_mcu_pickle(mcunet.FILE, Head(10, seed=1))
    return training_cost(program, program.graphs[0])


@mcunet.needed
@pytest.mark.parametrize("label", MCUNET)
def test_schemes_cost_what_is_published(label: int, mcu: TrainingCost) -> None:
    choice = choice_of(MCUNET[label].scheme)
    assert (mcu.extra_bytes(choice) - FLOAT_HEAD) / 1024 == pytest.approx(MCUNET[label].kib, abs=0.06)
    assert mcu.macs(choice) / 1e6 == pytest.approx(sum(BACKWARD[label]), abs=0.011)
    assert mcu.instructions(choice) == 4 * mcu.macs(choice)


def digits() -> TrainingCost:
    program = network("digits").program
    return training_cost(program, program.graphs[0])


def test_backward_stops_at_the_first_layer_that_trains() -> None:
    cost = digits()
    stem, wide, deep, head = cost.layers
    assert cost.macs(HEAD_ONLY) == head.macs
    assert cost.macs(Choice(1)) == 2 * head.macs
    assert cost.macs(Choice(2)) == 2 * head.macs + deep.macs
    assert cost.macs(Choice(0, ((1, 0.25),))) == 2 * head.macs + deep.macs + wide.macs // 4
    assert cost.macs(Choice(3, ((0, 1.0),))) == 2 * head.macs + deep.macs + wide.macs + stem.macs


def test_a_slice_trains_its_bias_once() -> None:
    cost = digits()
    biases = cost.extra_bytes(Choice(2))
    part = cost.layers[2].slice_bytes(0.5)
    assert cost.extra_bytes(Choice(2, ((2, 0.5),))) == biases + part
    assert cost.extra_bytes(Choice(1, ((1, 0.5),))) == biases + cost.layers[1].slice_bytes(0.5)
    # 12 of 24 input channels [2,4,4] in float, and as many columns of a weight [32,3,3,24].
    assert part == 12 * (2 * 4 * 4 * 4) + 12 * 32 * 9 * 4


def test_a_slice_has_a_channel_at_least() -> None:
    assert digits().layers[0].trained_channels(0.125) == 1
    assert digits().layers[1].trained_channels(0.125) == 2


def test_the_scheme_names_layers() -> None:
    choice = Choice(2, ((1, 0.25), (2, 1.0)))
    assert digits().scheme(choice) == Scheme(
        2, (WeightSlice("wide.0", None, 0.25), WeightSlice("deep.0", None, 1.0))
    )


def test_layers_side_by_side_do_not_feed_each_other() -> None:
    program = network("llama").program
    cost = training_cost(program, program.graphs[0])
    at = {layer.title: i for i, layer in enumerate(cost.layers)}
    masks = {title: cost.layers[i].before for title, i in at.items()}
    assert masks["query"] == masks["key"] == masks["value"] == 0
    assert masks["out"] == 1 << at["query"] | 1 << at["key"] | 1 << at["value"]
    assert masks["gate"] == masks["up"]
    # The gate's own slice: gradients of the inputs of what it feeds, not of the branch beside it.
    layers = cost.layers
    fed = layers[at["down"]].macs + 2 * layers[at["head"]].macs
    assert cost.macs(Choice(0, ((at["gate"], 1.0),))) == fed + layers[at["gate"]].macs


def test_unknown_layers_are_refused_with_their_like() -> None:
    with pytest.raises(UserError) as caught:
        digits().numbers(("wide.0", "deep.1"))
    assert str(caught.value) == (
        "EDGEC-E274: name a layer before the head for --layer, such as deep.0, wide.0, stem.0: 'deep.1' is none whose "
        "weights could train"
    )
    assert digits().numbers(("deep.0", "stem.0", "deep.0")) == (0, 2)
