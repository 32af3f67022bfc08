"""Fidelity and histograms speak of finite elements: masks hold minus infinity."""

from __future__ import annotations

import numpy as np

from edgec.build import constant
from edgec.ir import Program
from edgec.report import fidelity, histogram
from edgec.text import read

MASK = np.array([[0.0, -np.inf, 0.0]], np.float32)


def test_a_histogram_leaves_out_minus_infinity() -> None:
    counts, low, high = histogram(np.array([-np.inf, 1.0, 2.0, 3.0]))
    assert (sum(counts), low, high) == (3, 1.0, 3.0)


def test_a_value_with_minus_infinity_has_the_fidelity_of_its_finite_elements() -> None:
    graph = read("graph infer(%x: f32[1,3]) { %s: f32[1,3] = add(%x, @mask) return %s }")
    program = Program((graph,), {"mask": constant(MASK)}, {})
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    found = fidelity(program, program, "infer", [({"x": x}, {"x": x * np.float32(1.1)})])["s"]
    assert found.snr_db is not None
    assert np.isclose(found.snr_db, 20.0, atol=1e-3)  # noise of a tenth
    assert sum(found.histogram[0]) == 2
