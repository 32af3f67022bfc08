"""Losses and optimisers in C have the interpreter's bits; max pooling's gradient takes NaN as PyTorch does."""

from __future__ import annotations

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c_train_f32 import KERNELS
from edgec.ir import Attrs
from edgec.ops import OPS
from edgec.ops.define import Arrays, Example
from edgec.ops.examples import float_node
from edgec.ops.loss import KlLogitsAttrs
from edgec.ops.optimizer import AdamAttrs, SgdAttrs, SgdMomentumAttrs

RECORDS = {k.op: k for k in KERNELS}
COUNT = 5000


def spread(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers of very different size, some of them 0."""
    x = rng.normal(size=shape) * np.exp2(rng.integers(-30, 8, shape))
    return np.where(rng.random(shape) < 0.05, 0.0, x).astype(np.float32)


def bits(op: str, attrs: Attrs, inputs: Arrays) -> None:
    """Fail unless the kernel's outputs are the op's, bit for bit."""
    node = float_node(OPS[op], Example("drawn", attrs, lambda rng: inputs, None))
    found = harness.run_whole(RECORDS[op], node.view(), node.inputs)
    for actual, expected in zip(found, node.expected, strict=True):
        np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("seed", range(4))
def test_losses_have_the_bits_of_the_op(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, teacher = spread(rng, 40, 37), spread(rng, 40, 37)
    label = rng.integers(-1, 38, 40).astype(np.int32)
    bits("cross_entropy", Attrs(), (logits, label))
    bits("cross_entropy_grad", Attrs(), (logits, label, np.array([0.3], np.float32)))
    bits("kl_logits", KlLogitsAttrs(3.0), (logits, teacher))
    bits("mse", Attrs(), (logits, teacher))
    bits("bce_logits", Attrs(), (logits, rng.random((40, 37)).astype(np.float32)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [0.01, 0.0])
def test_optimisers_have_the_bits_of_the_op(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    w, g, m, v = (spread(rng, COUNT) for _ in range(4))
    g[rng.integers(0, COUNT, 20)] = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32).repeat(5)
    by = np.array([rate], np.float32)
    bits("sgd", SgdAttrs(0.1), (w, g, by))
    bits("sgd_momentum", SgdMomentumAttrs(0.9, 0.01), (w, g, by, m))
    for step in (1, 2, 1000, 2**31 - 1):
        bits("adam", AdamAttrs(weight_decay=0.01), (w, g, by, m, np.abs(v), np.array([step], np.int32)))
    bits("accumulate", Attrs(), (w, g, by))


def test_a_logit_that_is_not_a_number_makes_the_loss_none() -> None:
    logits = np.zeros((1, 5), np.float32)
    logits[0, 2] = np.nan
    node = float_node(
        OPS["cross_entropy"], Example("nan", Attrs(), lambda rng: (logits, np.int32([1])), None)
    )
    (loss,) = harness.run_whole(RECORDS["cross_entropy"], node.view(), node.inputs)
    assert np.isnan(loss[0]) and np.isnan(node.expected[0][0])


@pytest.mark.parametrize("op", ["max_pool2d_grad", "adaptive_max_pool2d_grad"])
def test_a_gradient_goes_to_the_first_nan_of_a_window(op: str) -> None:
    example = OPS[op].examples[0]
    x, dy = example.make(np.random.default_rng(0))
    x[0, 0, 1, 0] = np.nan
    x[0, 1, 0, 0] = np.nan
    node = float_node(OPS[op], Example("nan", example.attrs, lambda rng: (x, dy), None))
    (found,) = harness.run_whole(RECORDS[op], node.view(), node.inputs)
    np.testing.assert_allclose(found, node.expected[0], rtol=1e-6)
    assert found[0, 0, 1, 0] != 0.0 and found[0, 1, 0, 0] == 0.0


@pytest.mark.parametrize("op", ["sgd_momentum", "adam"])
def test_state_is_renewed_in_place(op: str) -> None:
    kernel = RECORDS[op]
    for example in OPS[op].examples:
        node = float_node(OPS[op], example)
        launch = kernel.launch(node.view(), harness.host())
        given = [harness.of(x) for x in node.inputs]
        taken = [given[0], *(given[i] for _, i in kernel.renews)]
        harness.call(kernel, launch, None, given, taken, None)
        for own, expected in zip(taken, node.expected, strict=True):
            np.testing.assert_array_equal(own.array, expected)
