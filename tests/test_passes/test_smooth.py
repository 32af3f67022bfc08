"""SmoothQuant: the formula, the search for alpha, and what stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import constant
from edgec.ir import Array, Program
from edgec.passes.calibrate import calibrate
from edgec.passes.quantize import quantize
from edgec.passes.quantize_w8a8 import W8A8Scheme, quantize_w8a8
from edgec.passes.smooth import Smoothing, smooth, smooth_scales
from edgec.text import read
from edgec.verify import verify

CHANNELS, SPIKE = 32, 300.0


def network(middle: str = "rms_norm(%x, @g) {eps=1e-05}") -> Program:
    """Two layers and a head behind a norm, four of whose gains are SPIKE times the others."""
    rng = np.random.default_rng(2)
    gain = np.ones(CHANNELS)
    gain[[3, 9, 17, 30]] = SPIKE
    weights = {
        "g": gain,
        "w": rng.normal(size=(48, CHANNELS)) / gain,
        "u": rng.normal(size=(48, CHANNELS)) / gain,
    }
    weights["h"] = rng.normal(size=(5, 48))
    graph = read(f"""graph g(%x: f32[1,12,{CHANNELS}]) {{
        %n: f32[1,12,{CHANNELS}] = {middle}
        %a: f32[1,12,48] = linear(%n, @w)  // up
        %b: f32[1,12,48] = linear(%n, @u)  // side
        %s: f32[1,12,48] = sigmoid(%a)
        %m: f32[1,12,48] = mul(%s, %b)
        %y: f32[1,12,5] = linear(%m, @h)  // head
        return %y }}""")
    used = {r[1:] for n in graph.nodes for r in n.inputs if r[0] == "@"}
    return Program((graph,), {n: constant(w.astype(np.float32)) for n, w in weights.items() if n in used}, {})


def samples(seed: int = 0, count: int = 4) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(1, 12, CHANNELS)).astype(np.float32)} for _ in range(count)]


def noise(p: Program, q: Program) -> float:
    """Relative squared error of the output on other samples than the calibration's."""
    ys = [
        np.concatenate(
            [interp.run(each, each.graphs[0], s)[0][each.graphs[0].outputs[0]] for s in samples(1)]
        )
        for each in (p, q)
    ]
    return float(np.square(ys[0] - ys[1]).sum() / np.square(ys[0]).sum())


def test_the_scale_is_the_formula_of_the_paper() -> None:
    x, w = np.array([4.0, 100.0, 0.0, 2.0]), np.array([0.25, 0.01, 3.0, 0.0])
    np.testing.assert_allclose(smooth_scales(x, w, 0.5), [4.0, 100.0, 1.0, 1.0])
    np.testing.assert_allclose(smooth_scales(x, w, 1.0), [4.0, 100.0, 1.0, 1.0])
    np.testing.assert_allclose(smooth_scales(x, w, 0.0), [4.0, 100.0, 1.0, 1.0])
    np.testing.assert_allclose(smooth_scales(np.array([8.0]), np.array([0.5]), 0.75), [8**0.75 / 0.5**0.25])


@pytest.mark.parametrize("alpha", ["auto", 0.5, 0.85])
def test_smoothing_rescues_int8_products_from_outlier_channels(alpha: float) -> None:
    p = network()
    after, done = smooth(p, samples(), Smoothing(alpha))  # type: ignore[arg-type]
    verify(after)
    assert noise(p, after) < 1e-10, "smoothing alone changes nothing"
    plain, smoothed = (noise(p, quantize_w8a8(each, W8A8Scheme())) for each in (p, after))
    assert plain > 0.1
    assert smoothed < 1e-3
    assert done[0].alpha is not None and done[0].after < done[0].before / 100


def test_the_search_is_at_least_as_good_as_any_alpha_of_the_grid() -> None:
    p = network()
    found = smooth(p, samples(), Smoothing())[1][0].after
    for alpha in (0.0, 0.3, 0.5, 0.7, 1.0):
        assert found <= smooth(p, samples(), Smoothing(alpha))[1][0].after


def test_a_layer_without_a_fold_stays_or_gets_a_product() -> None:
    p = network("softmax(%x) {axis=2}")
    kept = frozenset({"head"})
    same, done = smooth(p, samples(), Smoothing(0.5, keep=kept))
    assert same is p
    assert (done[0].alpha, done[0].why) == (None, "softmax does not scale with its input")
    after, _ = smooth(p, samples(), Smoothing(0.5, unfoldable="mul", keep=kept))
    assert [n.op for n in after.graphs[0].nodes][:4] == ["softmax", "mul", "linear", "linear"]
    assert noise(p, after) < 1e-10


def test_layers_that_stay_in_float_are_not_smoothed_for_their_sake() -> None:
    _, done = smooth(network(), samples(), Smoothing(keep=frozenset({"up", "side", "head"})))
    assert [d.why for d in done] == ["its layers stay in float"] * 2


def test_smoothing_serves_static_int8_too() -> None:
    p = network()
    after, _ = smooth(p, samples(), Smoothing(rows="tensor"))
    x = samples(1)[0]["x"]
    exact = interp.run(p, p.graphs[0], {"x": x})[0]["y"]
    errors = []
    for each in (p, after):
        q = quantize(each, calibrate(each, samples()))
        graph = q.graphs[0]
        quant, out = graph.inputs[0].type.quant, q.type_of(graph)["y"].quant
        assert quant is not None and out is not None
        scale, zero = quant.per_tensor
        xq = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
        y = (interp.run(q, graph, {"x": xq})[0]["y"].astype(np.float64) - out.per_tensor[1]) * out.per_tensor[
            0
        ]
        errors.append(float(np.square(y - exact).sum() / np.square(exact).sum()))
    assert errors[0] > 0.1 and errors[1] < 0.01
