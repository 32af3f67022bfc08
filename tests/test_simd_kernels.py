"""Kernels for vectors of four floats: the bits of the portable kernels on drawn shapes."""

from __future__ import annotations

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends import kernels_c_simd
from edgec.backends.kernels_c import KERNELS
from edgec.ir import NO_ATTRS, Array, Attrs, Loc, Node, Value
from edgec.ops import OPS
from edgec.ops.examples import types_of
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.ops.optimizer import SgdAttrs
from edgec.plan import Kernel, NodeView
from edgec.targets.load import load_target

SIMD = harness.host("simd")
OPS_OF = {k.op: k for k in kernels_c_simd.KERNELS}


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.normal(size=shape), np.float32)


def drawn(op: str, rng: np.random.Generator) -> tuple[Attrs, list[Array]]:
    """Operands of 4 to 21 rows, other sizes from 1 to 40."""
    rows = int(rng.integers(4, 22))
    depth, columns = (int(n) for n in rng.integers(1, 41, 2))
    if op == "linear":
        clamp = (-1.0, 6.0) if rng.random() < 0.5 else None
        shapes = ((rows, depth), (columns, depth), (columns,))
        return LinearAttrs(clamp), [normal(rng, *s) for s in shapes]
    if op == "matmul":
        across, columns = bool(rng.random() < 0.5), columns + 3
        b = (columns, depth) if across else (depth, columns)
        return MatmulAttrs(across), [normal(rng, 2, 3, rows, depth), normal(rng, 3, *b)]
    x, dy = normal(rng, rows, depth), normal(rng, rows, columns)
    if op == "linear_weight_grad":
        return NO_ATTRS, [x, dy]
    rate = np.array([0.05], np.float32)
    return SgdAttrs(0.25), [normal(rng, columns, depth), x, dy, rate]


def view_of(op: str, attrs: Attrs, inputs: list[Array]) -> NodeView:
    types = types_of(tuple(inputs))
    outputs = OPS[op].infer(attrs, types)
    names = tuple(f"x{i}" for i in range(len(inputs)))
    values = tuple(Value(f"y{i}", t) for i, t in enumerate(outputs))
    return NodeView(Node(op, names, values, attrs, Loc("test")), types, outputs, (None,) * len(inputs))


@pytest.mark.parametrize("op", OPS_OF)
@pytest.mark.parametrize("seed", range(12))
def test_sums_have_the_bits_of_the_portable_kernel(op: str, seed: int) -> None:
    attrs, inputs = drawn(op, np.random.default_rng(seed))
    view = view_of(op, attrs, inputs)
    portable: Kernel = next(k for k in KERNELS if k.op == op and k.symbol == f"ec_{op}_f32")
    own = OPS_OF[op]
    assert own.accepts(view, SIMD)
    found, wanted = (harness.run_whole(k, view, inputs) for k in (own, portable))
    np.testing.assert_array_equal(found[0].view(np.int32), wanted[0].view(np.int32))


@pytest.mark.parametrize("op", OPS_OF)
def test_only_targets_with_vectors_take_them(op: str) -> None:
    view = view_of(op, *drawn(op, np.random.default_rng(0)))
    own = OPS_OF[op]
    assert own.accepts(view, load_target("host"))
    assert not own.accepts(view, load_target("cortex-m7"))


def test_a_weight_that_a_step_would_make_infinite_stays() -> None:
    w, x, dy = (np.ones((8, 8), np.float32) for _ in range(3))
    dy[:, 3] = np.float32(3e38)
    view = view_of("linear_weight_update", SgdAttrs(), [w, x, dy, np.ones(1, np.float32)])
    (found,) = harness.run_whole(OPS_OF["linear_weight_update"], view, [w, x, dy, np.ones(1, np.float32)])
    assert (found[3] == 1.0).all() and (np.delete(found, 3, 0) == -7.0).all()
