"""The example networks import whole and compute in numpy what they compute in PyTorch, within 1e-4 relative."""

from __future__ import annotations

import importlib
import time

import pytest
import torch

from edgec.cost import cost
from edgec.frontends import LoadOptions, load
from examples.models import digits_cnn
from tests.test_frontend import assert_same, ops_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

# network, multiply-accumulates in millions (rounded to three figures)
NETWORKS = {
    "digits_cnn:factory": 0.341,
    "mlperf_tiny:ds_cnn": 2.66,
    "mlperf_tiny:mobilenet_v1_025": 7.49,
    "mlperf_tiny:resnet8": 12.5,
    "mlperf_tiny:autoencoder": 0.264,
    "mobilenet_v2:width_035": 10.66,
    "mcunet_like:factory": 11.58,
    "audio_transformer:factory": 4.05,
}
LARGE = {"mobilenet_v2:width_100": 301.0, "resnet18:factory": 1814.0, "vit_tiny:factory": 1254.0}


def check_network(name: str, macs: float) -> None:
    module_name, _, function = name.partition(":")
    module, inputs = getattr(importlib.import_module(f"examples.models.{module_name}"), function)()
    program = load(module, LoadOptions(example_inputs=inputs))
    assert_same(program, module, inputs)
    assert cost(program, program.graphs[0]).macs / 1e6 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_computes_what_pytorch_computes(name: str) -> None:
    check_network(name, NETWORKS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_network_computes_what_pytorch_computes(name: str) -> None:
    check_network(name, LARGE[name])


def test_transformer_keeps_linear_and_attention_whole() -> None:
    module, inputs = importlib.import_module("examples.models.audio_transformer").factory()
    ops = ops_of(load(module, LoadOptions(example_inputs=inputs)))
    assert ops.count("attention") == 2
    assert "matmul" not in ops


def test_digits_train_to_97_percent_in_a_minute() -> None:
    digits = digits_cnn.load()
    began = time.monotonic()
    net = digits_cnn.train(digits)
    assert time.monotonic() - began < 60
    with torch.no_grad():
        logits = net(torch.from_numpy(digits.held_out_x)).numpy()
    assert digits_cnn.accuracy(logits, digits.held_out_y) >= 0.97
