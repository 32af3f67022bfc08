"""Golden vectors of training steps end where the numbers hang on the last bit."""

from __future__ import annotations

import numpy as np

from edgec.build import Builder, constant
from edgec.ir import DType, Persistence, Program, Type
from edgec.ops.binary import BinaryAttrs
from edgec.training.stability import stable_steps


def counter(kink: float) -> Program:
    """y = 1000 [total > kink] + total, total := total + x: at a total of `kink` the last bit of x decides."""
    b = Builder("step")
    x = b.input("x", Type((1,), DType.F32))
    total = b.add_state("total", constant(np.zeros(1, np.float32)), Persistence.KEPT)
    new = b.call("add", total, x, attrs=BinaryAttrs())
    above = b.call("gt", new, b.constant(np.array([kink], np.float32)))
    high = b.call("where", above, b.constant(np.array([1000], np.float32)), new)
    b.updates.append(("total", new))
    b.output(high, "y")
    return b.program()


def steps(kink: float) -> int:
    program = counter(kink)
    samples = [{"x": np.ones(1, np.float32)}] * 4
    return stable_steps(program, program.graphs[0], samples, None)


def test_steps_far_from_a_kink_are_stable() -> None:
    assert steps(2.5) == 4


def test_steps_end_before_the_kink() -> None:
    assert steps(3.0) == 2


def test_one_step_always_stays() -> None:
    assert steps(1.0) == 1
