"""4-bit weights by rounding, and int8 products with dynamic scales: errors, sharing between graphs, what stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder
from edgec.ir import NO_ATTRS, DType, Program, Type
from edgec.ops.binary import BinaryAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.linear_w4 import LinearW4Attrs, unpack_nibbles, unpack_weights
from edgec.ops.norm import RmsNormAttrs
from edgec.passes.quantize_w4 import W4Scheme, quantize_groups, quantize_w4
from edgec.passes.quantize_w8a8 import W8A8Scheme, quantize_w8a8
from edgec.verify import verify


def network() -> Program:
    """Two entries of different lengths over the same weights: RMS norm, two layers beside each other, a head."""
    rng = np.random.default_rng(5)
    shapes = {"a": (96, 128), "b": (96, 128), "head": (10, 96)}
    weights = {n: rng.normal(size=s).astype(np.float32) / 11 for n, s in shapes.items()}
    gain = rng.uniform(0.5, 2, 128).astype(np.float32)
    graphs, constants = [], {}
    for tokens in (1, 3):
        b = Builder(f"run_{tokens}", constants)
        x = b.input("x", Type((tokens, 128), DType.F32))
        n = b.call("rms_norm", x, b.constant(gain, "gain"), attrs=RmsNormAttrs(1e-5))
        left, right = (b.call("linear", n, b.constant(weights[w], w), attrs=LinearAttrs()) for w in "ab")
        y = b.call(
            "linear",
            b.call("add", left, right, attrs=BinaryAttrs()),
            b.constant(weights["head"], "head"),
            attrs=LinearAttrs(),
        )
        b.output(y, "y")
        graphs.append(b.graph())
        constants = b.constants
    return Program(tuple(graphs), constants, {})


def outputs(program: Program, tokens: int) -> np.ndarray:
    x = np.random.default_rng(6).normal(size=(tokens, 128)).astype(np.float32)
    graph = program.graph(f"run_{tokens}")
    found, _ = interp.run(program, graph, {graph.inputs[0].name: x})
    return np.asarray(found[graph.outputs[0]])


# Signal-to-noise of 4-bit rounding of Gaussian numbers in groups: measured over 10^6 values, +-0.05 dB.
@pytest.mark.parametrize(
    ("group", "symmetric", "decibels"), [(128, True, 19.10), (128, False, 19.94), (64, False, 20.81)]
)
def test_rounding_of_gaussian_weights_has_the_known_error(
    group: int, symmetric: bool, decibels: float
) -> None:
    w = np.random.default_rng(1).normal(size=(1024, 1024)).astype(np.float32)
    q, scale, zero = quantize_groups(w, group, symmetric)
    error = unpack_weights(q, scale, zero, group) - w
    assert 10 * np.log10((w**2).mean() / (error**2).mean()) == pytest.approx(decibels, abs=0.05)


def test_zeros_stay_zero_and_extremes_fit() -> None:
    w = np.zeros((3, 64), np.float32)
    w[1] = np.linspace(3, 4, 64)  # no zero within its range
    w[2, 0] = -1e4
    for symmetric in (True, False):
        q, scale, zero = quantize_groups(w, 64, symmetric, DType.F16)
        again = unpack_weights(q, scale, zero, 64)
        assert scale.dtype == np.float16 and not again[0].any()
        steps = scale.astype(np.float32).max(axis=1)
        assert (np.abs(again - w).max(axis=1) <= 0.51 * steps + (0.001 * np.abs(w)).max(axis=1)).all()
    assert unpack_nibbles(q).max() <= 15


def test_graphs_share_the_quantised_weights_and_the_head_stays() -> None:
    before = network()
    after = quantize_w4(before, W4Scheme(group=64))
    verify(after)
    ops = [[n.op for n in g.nodes] for g in after.graphs]
    assert ops[0] == ops[1] and ops[0].count("linear_w4") == 2 and ops[0].count("linear") == 1
    assert sorted(after.constants) == ["a.q", "a.scale", "a.zero", "b.q", "b.scale", "b.zero", "head"]
    for tokens in (1, 3):
        expected, actual = outputs(before, tokens), outputs(after, tokens)
        assert np.linalg.norm(actual - expected) < 0.25 * np.linalg.norm(expected)


def test_layers_that_are_kept_and_networks_without_linear_layers_are_the_same_object() -> None:
    program = network()
    assert quantize_w4(program, W4Scheme(keep=frozenset({""}))) is program
    b = Builder("g")
    b.output(b.call("relu", b.input("x", Type((2, 2), DType.F32)), attrs=NO_ATTRS), "y")
    assert quantize_w4(b.program(), W4Scheme()) is not None


def test_the_head_is_quantised_when_asked() -> None:
    after = quantize_w4(network(), W4Scheme(group=32, head=True))
    attrs = [n.attrs for n in after.graphs[0].nodes if n.op == "linear_w4"]
    assert [a.group for a in attrs if isinstance(a, LinearW4Attrs)] == [32, 32, 32]


def test_w8a8_shares_the_rows_of_one_input_and_stays_close() -> None:
    before = network()
    after = quantize_w8a8(before, W8A8Scheme())
    verify(after)
    ops = [n.op for n in after.graphs[0].nodes]
    assert ops.count("quantize_rows") == 1 and ops.count("linear_w8a8") == 2
    for tokens in (1, 3):
        expected, actual = outputs(before, tokens), outputs(after, tokens)
        assert np.linalg.norm(actual - expected) < 0.02 * np.linalg.norm(expected)
