"""Kernels for vectors of floats: the bits of the portable kernels on drawn shapes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends import kernels_c_simd
from edgec.backends.kernels_c import KERNELS
from edgec.ir import NO_ATTRS, Array, Attrs, Loc, Node, Value
from edgec.ops import OPS
from edgec.ops.attention import AttentionAttrs
from edgec.ops.examples import types_of
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.ops.optimizer import SgdAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.plan import Kernel, NodeView
from edgec.targets.load import load_target

SIMD = harness.host("simd")
KERNELS_BY = {k.symbol if k.op == "attention" else k.op: k for k in kernels_c_simd.KERNELS}


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.normal(size=shape), np.float32)


def attention(mask: str, rng: np.random.Generator) -> tuple[Attrs, list[Array]]:
    """2 images, 4 heads on 2 of keys; one image's mask forbids the first query everything."""
    queries = int(rng.integers(4, 22))
    keys, depth, width = (int(n) for n in rng.integers(1, 41, 3))
    inputs = [
        normal(rng, 2, 4, queries, depth),
        normal(rng, 2, 2, keys, depth),
        normal(rng, 2, 2, keys, width),
    ]
    if mask == "bias":
        inputs.append(normal(rng, 4, queries, keys))
    if mask == "mask":
        allowed = rng.random((2, 1, queries, keys)) < 0.7
        allowed[0, 0, 0] = False
        inputs.append(allowed)
    return AttentionAttrs(0.3, bool(rng.random() < 0.5)), inputs


def drawn(name: str, rng: np.random.Generator) -> tuple[Attrs, list[Array]]:
    """Operands of 4 to 21 rows, other sizes from 1 to 40."""
    op = KERNELS_BY[name].op
    if op == "attention":
        return attention(name.split("_")[2], rng)
    if op in ("reduce_sum", "reduce_mean"):
        axes = tuple(sorted(rng.choice(4, size=int(rng.integers(1, 4)), replace=False).tolist()))
        return ReduceAttrs(axes), [normal(rng, *(int(n) for n in rng.integers(1, 24, 4)))]
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


def view_of(name: str, attrs: Attrs, inputs: list[Array]) -> NodeView:
    op = KERNELS_BY[name].op
    types = types_of(tuple(inputs))
    outputs = OPS[op].infer(attrs, types)
    names = tuple(f"x{i}" for i in range(len(inputs)))
    values = tuple(Value(f"y{i}", t) for i, t in enumerate(outputs))
    return NodeView(Node(op, names, values, attrs, Loc("test")), types, outputs, (None,) * len(inputs))


@pytest.mark.parametrize("name", KERNELS_BY)
@pytest.mark.parametrize("seed", range(12))
def test_sums_have_the_bits_of_the_portable_kernel(name: str, seed: int) -> None:
    attrs, inputs = drawn(name, np.random.default_rng(seed))
    view = view_of(name, attrs, inputs)
    own = KERNELS_BY[name]
    symbol = own.symbol.removesuffix("_simd")
    portable: Kernel = next(k for k in KERNELS if k.op == own.op and k.symbol == symbol)
    assert own.accepts(view, SIMD)
    found, wanted = (harness.run_whole(k, view, inputs) for k in (own, portable))
    np.testing.assert_array_equal(found[0].view(np.int32), wanted[0].view(np.int32))


@pytest.mark.parametrize("name", KERNELS_BY)
def test_only_targets_with_vectors_take_them(name: str) -> None:
    view = view_of(name, *drawn(name, np.random.default_rng(0)))
    own = KERNELS_BY[name]
    assert own.accepts(view, load_target("host"))
    assert not own.accepts(view, load_target("cortex-m7"))


def test_every_instruction_set_has_the_bits_of_a_loop(tmp_path: Path) -> None:
    """Those of this processor; one that it lacks is not tested here."""
    program = tmp_path / "tile"
    flags = ("-std=c99", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined")
    source, include = harness.RUNTIME.parent / "tests/c/tile_f32.c", harness.RUNTIME / "include"
    subprocess.run(["gcc", *flags, f"-I{include}", str(source), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    wider = [name for name in ("avx2", "avx512f") if name in known]
    assert done.stdout.split() == ["4x8", "row", "add", *wider]


def test_a_weight_that_a_step_would_make_infinite_stays() -> None:
    w, x, dy = (np.ones((8, 8), np.float32) for _ in range(3))
    dy[:, 3] = np.float32(3e38)
    operands = [w, x, dy, np.ones(1, np.float32)]
    view = view_of("linear_weight_update", SgdAttrs(), operands)
    (found,) = harness.run_whole(KERNELS_BY["linear_weight_update"], view, operands)
    assert (found[3] == 1.0).all() and (np.delete(found, 3, 0) == -7.0).all()
