"""A trained character model with outlier channels: rounding to the nearest collapses, SmoothQuant and AWQ recover.

Cross-entropies are nats a character on held-out text, by the interpreter.
"""

from __future__ import annotations

import char_model
import pytest

from edgec.ir import Program
from edgec.passes.awq import awq
from edgec.passes.quantize_w4 import W4Scheme, quantize_w4
from edgec.passes.quantize_w8a8 import W8A8Scheme, quantize_w8a8
from edgec.passes.smooth import Smoothing, smooth

CALIBRATION = char_model.samples(4)


@pytest.fixture(scope="module")
def model() -> Program:
    return char_model.program_of(char_model.with_outliers(char_model.trained()))


@pytest.fixture(scope="module")
def exact(model: Program) -> float:
    return char_model.cross_entropy(model)


def test_the_model_has_learnt_and_outliers_leave_its_function(exact: float) -> None:
    clean = char_model.cross_entropy(char_model.program_of(char_model.trained()))
    assert clean < 2.2
    assert exact == pytest.approx(clean, abs=1e-4)


def test_int8_products_collapse_and_smoothquant_recovers(model: Program, exact: float) -> None:
    plain = char_model.cross_entropy(quantize_w8a8(model, W8A8Scheme()))
    smoothed, done = smooth(model, CALIBRATION, Smoothing())
    recovered = char_model.cross_entropy(quantize_w8a8(smoothed, W8A8Scheme()))
    print(f"W8A8: float {exact:.4f}, nearest {plain:.4f}, SmoothQuant {recovered:.4f}")
    assert all(d.site.why == "" for d in done), "every input folds: norms, v under grouped queries, up"
    assert plain > exact + 0.4
    assert recovered < exact + 0.005


@pytest.mark.parametrize(("group", "symmetric"), [(128, False), (64, False), (128, True)])
def test_4_bit_weights_collapse_and_awq_recovers(
    model: Program, exact: float, group: int, symmetric: bool
) -> None:
    scheme = W4Scheme(group, symmetric, fold_norm_gains=False)
    plain = char_model.cross_entropy(quantize_w4(model, scheme))
    after, _, _ = awq(model, CALIBRATION, scheme)
    recovered = char_model.cross_entropy(quantize_w4(after, scheme))
    kind = "symmetric" if symmetric else "asymmetric"
    print(f"W4A16 groups of {group} {kind}: float {exact:.4f}, nearest {plain:.4f}, AWQ {recovered:.4f}")
    assert plain > exact + 0.3
    assert recovered < exact + 0.015
