"""Gates and norms inside of 4-bit layers."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder
from edgec.ir import NO_ATTRS, DType, Program, Type
from edgec.ops.binary import BinaryAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.norm import RmsNormAttrs
from edgec.ops.slicing import SplitAttrs
from edgec.passes.fuse_w4 import fuse_w4
from edgec.passes.quantize_w4 import W4Scheme, quantize_w4
from edgec.verify import verify


def gated_mlp(rows: int) -> Program:
    """x + down(silu(g) u), g and u of one layer behind an RMS norm, in 4 bits."""
    rng = np.random.default_rng(2)
    b = Builder("mlp")
    x = b.input("x", Type((rows, 64), DType.F32))
    gain = b.constant(rng.uniform(0.5, 2, 64).astype(np.float32), "gain")
    w, down = (b.constant(rng.normal(size=s).astype(np.float32) / 8, "w") for s in ((256, 64), (64, 128)))
    both = b.call("linear", b.call("rms_norm", x, gain, attrs=RmsNormAttrs(1e-5)), w, attrs=LinearAttrs())
    gate, up = b.node("split", (both,), SplitAttrs(1, (128, 128)))
    product = b.call("mul", b.call("silu", gate, attrs=NO_ATTRS), up, attrs=BinaryAttrs())
    b.output(b.call("add", x, b.call("linear", product, down, attrs=LinearAttrs()), attrs=BinaryAttrs()), "y")
    return quantize_w4(b.program(), W4Scheme(group=64, head=True))


@pytest.mark.parametrize(("rows", "ops"), [(3, ["linear_w4", "linear_w4", "add"]), (17, ["rms_norm"])])
def test_the_gate_and_the_norm_of_few_rows_become_part_of_the_layer(rows: int, ops: list[str]) -> None:
    before = gated_mlp(rows)
    after = fuse_w4(before)
    verify(after)
    assert [n.op for n in after.graphs[0].nodes][: len(ops)] == ops
    assert "split" not in [n.op for n in after.graphs[0].nodes]
    x = {"x": np.random.default_rng(3).normal(size=(rows, 64)).astype(np.float32)}
    (expected,), (actual,) = (interp.run(p, p.graphs[0], x)[0].values() for p in (before, after))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def test_programs_without_4_bit_layers_are_the_same_object() -> None:
    b = Builder("g")
    b.output(b.call("relu", b.input("x", Type((2, 2), DType.F32)), attrs=NO_ATTRS), "y")
    program = b.program()
    assert fuse_w4(program) is program
