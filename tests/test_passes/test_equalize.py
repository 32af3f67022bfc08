"""Equalisation keeps the function and restores badly scaled channels; bias correction moves means back."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import constant
from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import Array, Program
from edgec.passes.bias_correct import bias_correct
from edgec.passes.calibrate import calibrate
from edgec.passes.equalize import Relu6, equalize
from edgec.passes.quantize import Scheme, quantize
from edgec.text import read
from edgec.verify import verify

RNG = np.random.default_rng(0)


def triple(act: str, dtype: str = "f64", bad: float = 1.0) -> Program:
    """pointwise, depthwise, pointwise, pool, flatten, linear; `bad`: spread of the hidden channels' scales, which
    leaves the function as it is."""
    rng = np.random.default_rng(5)
    s1, s2 = (np.exp(rng.uniform(-1, 1, 8) * np.log(bad)) for _ in range(2))
    weights = {
        "w1": rng.normal(size=(8, 1, 1, 3)) * s1[:, None, None, None],
        "b1": rng.normal(size=8) * s1,
        "w2": rng.normal(size=(8, 3, 3, 1)) / 3 * (s2 / s1)[:, None, None, None],
        "b2": rng.normal(size=8) * s2,
        "w3": rng.normal(size=(6, 1, 1, 8)) / s2 / 3,
        "w4": rng.normal(size=(4, 54)) / 7,
    }
    text = f"""graph g(%x: {dtype}[1,8,8,3]) {{
      %a: {dtype}[1,8,8,8] = conv2d(%x, @w1, @b1) {{act={act}}}
      %d: {dtype}[1,6,6,8] = conv2d(%a, @w2, @b2) {{groups=8, act={act}}}
      %c: {dtype}[1,6,6,6] = conv2d(%d, @w3) {{act=(0.0,inf)}}
      %p: {dtype}[1,3,3,6] = max_pool2d(%c) {{kernel=(2,2), stride=(2,2)}}
      %f: {dtype}[1,54] = reshape(%p) {{shape=(1,54)}}
      %y: {dtype}[1,4] = linear(%f, @w4)
      return %y }}"""
    numpy = {"f64": np.float64, "f32": np.float32}[dtype]
    return Program((read(text),), {n: constant(w.astype(numpy)) for n, w in weights.items()}, {})


def run(p: Program, x: Array) -> Array:
    g = p.graphs[0]
    types = p.type_of(g)
    quant, out = g.inputs[0].type.quant, types[g.outputs[0]].quant
    y = interp.run(p, g, {"x": quantize_array(x, quant) if quant else x})[0][g.outputs[0]]
    return dequantize_array(y, out) if out else y


def images(count: int = 16) -> list[Array]:
    return [RNG.normal(size=(1, 8, 8, 3)).astype(np.float32) for _ in range(count)]


def snr_db(p: Program, q: Program, data: list[Array]) -> float:
    a, b = (np.array([run(each, x) for x in data], np.float64) for each in (p, q))
    return 10 * float(np.log10((a**2).sum() / ((a - b) ** 2).sum()))


@pytest.mark.parametrize("act", ["(0.0,inf)", "(0.0,6.0)", "None"])
def test_equalisation_keeps_the_function_exactly(act: str) -> None:
    p = triple(act, bad=30.0)
    after = equalize(p)
    verify(after)
    assert after is not p
    for x in images(4):
        x64 = x.astype(np.float64)
        np.testing.assert_allclose(run(after, x64), run(p, x64), rtol=0, atol=1e-10)


def test_equalisation_restores_a_net_whose_channels_were_scaled_badly() -> None:
    good, bad = triple("(0.0,inf)", "f32"), triple("(0.0,inf)", "f32", bad=100.0)
    data = images()
    samples = [{"x": x} for x in data]
    tensor = Scheme(weights="tensor")

    def quality(p: Program) -> float:
        return snr_db(good, quantize(p, calibrate(p, samples), tensor), data)

    assert quality(bad) < 12, "one scale a tensor must fail where channels differ by 10,000"
    assert quality(equalize(bad)) > quality(good) - 3


def test_an_upper_clamp_becomes_one_of_its_own_for_each_channel() -> None:
    ops = [n.op for n in equalize(triple("(0.0,6.0)", bad=10.0)).graphs[0].nodes]
    assert ops == ["conv2d", "minimum", "conv2d", "minimum", "conv2d", "max_pool2d", "reshape", "linear"]


@pytest.mark.parametrize(("relu6", "count"), [("relu", 0), ("keep", 0)])
def test_an_upper_clamp_may_also_go_or_stay(relu6: Relu6, count: int) -> None:
    after = equalize(triple("(0.0,6.0)", bad=10.0), relu6)
    assert [n.op for n in after.graphs[0].nodes].count("minimum") == count
    acts = [getattr(n.attrs, "act", None) for n in after.graphs[0].nodes[:2]]
    assert acts == [(0.0, np.inf if relu6 == "relu" else 6.0)] * 2


def test_an_equal_net_is_the_same_object() -> None:
    once = equalize(triple("(0.0,inf)", bad=10.0))
    assert equalize(once) is once


def test_a_layer_that_two_others_read_keeps_its_scales() -> None:
    text = """graph g(%x: f32[1,3]) {
      %a: f32[1,4] = linear(%x, @v)
      %b: f32[1,2] = linear(%a, @w)
      %y: f32[1,2] = linear(%a, @u)
      return %b, %y }"""
    shapes = {"v": (4, 3), "w": (2, 4), "u": (2, 4)}
    constants = {n: constant(RNG.normal(size=s).astype(np.float32)) for n, s in shapes.items()}
    p = Program((read(text),), constants, {})
    assert equalize(p) is p


def test_bias_correction_brings_the_means_of_channels_back() -> None:
    w = RNG.normal(size=(6, 48)).astype(np.float32)
    w[0] *= 200  # one scale for all: the other channels keep a step or two
    text = "graph g(%x: f32[1,48]) { %y: f32[1,6] = linear(%x, @w, @b) return %y }"
    p = Program((read(text),), {"w": constant(w), "b": constant(np.ones(6, np.float32))}, {})
    data = [(RNG.normal(size=(1, 48)) + 1).astype(np.float32) for _ in range(32)]
    samples = [{"x": x} for x in data]
    quantized = quantize(p, calibrate(p, samples), Scheme(weights="tensor"))
    corrected = bias_correct(p, quantized, samples)
    verify(corrected)

    def integers(q: Program) -> Array:
        """Mean of sum((x - Z) w) + b in real numbers, before the output is rounded."""
        (node,) = q.graphs[0].nodes
        kept = [q.constants[r[1:]] for r in node.inputs[1:]]
        weight, bias = (dequantize_array(c.data, c.type.quant) for c in kept if c.type.quant)
        return np.mean([x[0] @ weight.T + bias for x in data], axis=0)

    wanted = np.mean([run(p, x)[0] for x in data], axis=0)
    before, after = (np.abs(integers(q) - wanted)[1:].max() for q in (quantized, corrected))
    assert before > 1.0
    assert after < 0.1  # half a step of the bias


def test_bias_correction_gives_a_layer_without_bias_one() -> None:
    p = triple("(0.0,inf)", "f32")
    samples = [{"x": x} for x in images(4)]
    corrected = bias_correct(p, quantize(p, calibrate(p, samples)), samples)
    assert [len(n.inputs) for n in corrected.graphs[0].nodes if n.op == "linear"] == [3]
