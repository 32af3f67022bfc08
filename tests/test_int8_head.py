"""--head int8: where the head learns in integers, and what is refused, in full."""

from __future__ import annotations

import int8_linear_networks as networks
import mcunet
import numpy as np
import pytest

from edgec import interp, pipeline
from edgec.errors import UserError
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle, read_tree
from edgec.passes.straight_through import integers
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.training.options import TrainSpec, check_spec

INT8 = TrainSpec("head", head="int8")


def test_a_head_in_fp32_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        pipeline.graph_steps(Options(precision="fp32", train=INT8), {})
    assert str(refused.value) == (
        "EDGEC-E24A: give --precision int8 with --head int8, or leave --head out: in fp32 no layer has integers"
    )


def test_a_head_without_training_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        check_spec(TrainSpec(head="int8"))
    assert str(refused.value) == "EDGEC-E246: give --head with --train alone"


def test_a_float_head_is_refused() -> None:
    """As of MCUNet's importer, or of --keep-float."""
    with pytest.raises(UserError) as refused:
        train(networks.chain(), INT8, integers())
    assert str(refused.value) == (
        "EDGEC-E248: give --head fp32, or no --keep-float for the last layer: it runs in float (head)"
    )


def test_bytes_of_a_head() -> None:
    """A byte a weight for four; biases are as large."""
    found = {
        head: [networks.trained("mlp", TrainSpec("head", head=head)).state[name].type.bytes for name in names]
        for head, names in (
            ("fp32", ("head.weight.trained", "head.bias.trained")),
            ("int8", ("head.weight.q.rows.trained", "head.bias.q.trained")),
        )
    }
    assert found == {"fp32": [4 * 39, 12], "int8": [39, 12]}


@mcunet.needed
def test_a_new_head_of_mcunet_has_the_scales_of_its_classifier() -> None:
    program = import_mcu_pickle(mcunet.FILE, Head(10, 3, "int8"))
    floats = import_mcu_pickle(mcunet.FILE, Head(10, 3))
    params = read_tree(mcunet.FILE)["classifier"]["params"]
    (logits,) = program.graphs[0].outputs
    quant = program.type_of(program.graphs[0])[logits].quant
    assert quant is not None
    assert quant.per_tensor == (np.float32(params["y_scale"]), params["y_zero"])
    for name in ("classifier.w", "classifier.b"):
        drawn, of = program.constants[name], program.constants[name].type.quant
        assert of is not None
        real = drawn.data * np.asarray(of.scale, np.float32).reshape(-1, *[1] * (drawn.data.ndim - 1))
        np.testing.assert_allclose(real, floats.constants[name].data, atol=0.51 * max(of.scale))
    image = {"image": mcunet.golden_image()}
    ints, _ = interp.run(program, program.graphs[0], image)
    reals, _ = interp.run(floats, floats.graphs[0], image)
    found = (ints[logits].astype(np.float64) - quant.zero[0]) * quant.scale[0]
    # Half a step of the logits, and of 160 weights with their features.
    assert np.abs(found - reals["logits"]).max() < 0.5 * quant.scale[0] + 0.1


@mcunet.needed
def test_a_new_head_of_mcunet_learns_in_integers() -> None:
    program = import_mcu_pickle(mcunet.FILE, Head(10, 3, "int8"))
    learner = train(program, TrainSpec("head", rate=0.01, head="int8"), integers(seed=1))
    graph = learner.graph("train_step")
    given = {"image": mcunet.golden_image(), "label": np.int32([7])}
    state, losses = None, []
    for _ in range(20):
        outputs, state = interp.run(learner, graph, given, state)
        losses.append(float(outputs["loss"][0]))
    assert state is not None
    assert losses[-1] < 0.1 < losses[0]
    assert state["classifier.w.rows.trained"].dtype == np.int8
