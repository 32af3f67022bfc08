"""Layers that do not train themselves but let a gradient pass."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from edgec import pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.frontends import LoadOptions, load
from edgec.pipeline import Options
from edgec.targets.load import load_target
from edgec.training.options import TrainSpec


def test_a_frozen_transposed_convolution_reads_its_weight_as_a_constant() -> None:
    """Its gradient takes the weight in another order, which is no work for the device."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 3, stride=2),
        nn.Flatten(),
        nn.Linear(50, 3),
    )
    x = torch.zeros(1, 2, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(net, LoadOptions(example_inputs=(x,)))
    options = Options(precision="fp32", train=TrainSpec("bias"))
    program = pipeline.run(program, pipeline.graph_steps(options, {}), options, {}).program
    step = program.graph("train_step")
    assert not [n for n in step.nodes if n.op in ("reshape", "transpose") and n.inputs[0][0] == "@"]
    pipeline.lower(program, load_target("host"), options, KERNELS, "model")
