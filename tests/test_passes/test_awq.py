"""AWQ: scales and clips lower the error that they are judged by, and the network's."""

from __future__ import annotations

import numpy as np
import pytest
from test_smooth import CHANNELS, noise, samples

from edgec.build import constant
from edgec.ir import Program
from edgec.ops.linear_w4 import unpack_weights
from edgec.passes.awq import awq, awq_scales, clamped, clip_limits, score_rows
from edgec.passes.blocks import block_of
from edgec.passes.quantize_w4 import KERNEL_GROUPS, W4Scheme, quantize_groups, quantize_w4
from edgec.text import read
from edgec.verify import verify

SCHEME = W4Scheme(group=32, fold_norm_gains=False)
TEXT = f"""graph g(%x: f32[1,12,{CHANNELS}]) {{
    %n: f32[1,12,{CHANNELS}] = rms_norm(%x, @g) {{eps=1e-05}}
    %q: f32[1,12,32] = linear(%n, @wq)  // q
    %k: f32[1,12,16] = linear(%n, @wk)  // k
    %v: f32[1,12,16] = linear(%n, @wv)  // v
    %q4: f32[1,12,4,8] = reshape(%q) {{shape=(1,12,4,8)}}
    %k4: f32[1,12,2,8] = reshape(%k) {{shape=(1,12,2,8)}}
    %v4: f32[1,12,2,8] = reshape(%v) {{shape=(1,12,2,8)}}
    %qh: f32[1,4,12,8] = transpose(%q4) {{perm=(0,2,1,3)}}
    %kh: f32[1,2,12,8] = transpose(%k4) {{perm=(0,2,1,3)}}
    %vh: f32[1,2,12,8] = transpose(%v4) {{perm=(0,2,1,3)}}
    %o: f32[1,4,12,8] = attention(%qh, %kh, %vh) {{scale=0.3, causal=True}}
    %ot: f32[1,12,4,8] = transpose(%o) {{perm=(0,2,1,3)}}
    %of: f32[1,12,32] = reshape(%ot) {{shape=(1,12,32)}}
    %p: f32[1,12,{CHANNELS}] = linear(%of, @wo)  // o
    %r: f32[1,12,{CHANNELS}] = add(%x, %p)
    %m: f32[1,12,{CHANNELS}] = rms_norm(%r, @g2) {{eps=1e-05}}
    %u: f32[1,12,64] = linear(%m, @wu)  // up
    %a: f32[1,12,64] = relu(%u)
    %d: f32[1,12,{CHANNELS}] = linear(%a, @wd)  // down
    %s: f32[1,12,{CHANNELS}] = add(%r, %d)
    %y: f32[1,12,5] = linear(%s, @wh)  // head
    return %y }}"""


def network(spike: float = 100.0) -> Program:
    """A transformer layer and a head; eight gains of each norm are `spike` times the others."""
    rng = np.random.default_rng(2)
    gain = np.ones(CHANNELS)
    gain[::4] = spike
    shapes = {
        "wq": (32, 32),
        "wk": (16, 32),
        "wv": (16, 32),
        "wo": (32, 32),
        "wu": (64, 32),
        "wd": (32, 64),
        "wh": (5, 32),
    }
    weights = {n: rng.normal(size=s) / np.sqrt(s[1]) for n, s in shapes.items()}
    for name in ("wq", "wk", "wv", "wu"):
        weights[name] /= gain
    weights |= {"g": gain, "g2": gain}
    return Program((read(TEXT),), {n: constant(w.astype(np.float32)) for n, w in weights.items()}, {})


def test_scales_are_powers_of_the_mean_activation() -> None:
    np.testing.assert_allclose(awq_scales(np.array([1.0, 16.0]), 0.5), [0.5, 2.0])
    np.testing.assert_array_equal(awq_scales(np.array([1.0, 0.0]), 0.0), [1.0, 1.0])
    np.testing.assert_allclose(awq_scales(np.array([1.0, 0.0]), 0.5), [100.0, 0.01])  # 1e-4 at least


def test_awq_rescues_4_bit_weights_from_outlier_channels() -> None:
    p = network()
    after, scaled, clipped = awq(p, samples(), SCHEME)
    verify(after)
    plain, better = (noise(p, quantize_w4(each, SCHEME)) for each in (p, after))
    assert plain > 0.1
    assert better < 0.02
    assert [d.why for d in scaled] == ["", "", "", "", "its layers stay in float"]
    assert all(d.after < d.before for d in scaled[:4])
    assert all(c.after <= c.before for c in clipped)


def test_scales_alone_fold_exactly() -> None:
    p = network()
    after, _, clipped = awq(p, samples(), SCHEME)
    unclipped = awq(
        p, samples(), W4Scheme(group=32, fold_norm_gains=False, keep=frozenset(c.layer for c in clipped))
    )
    assert noise(p, unclipped[0]) < 1e-10
    assert 0 < noise(p, after) < 0.01, "clips are no identity"


def test_layers_that_no_group_of_the_kernels_divides_stay_as_they_are() -> None:
    """A GPU's kernels take groups of 128 and 64; only `down` has so many channels."""
    scheme = W4Scheme(group=128, fold_norm_gains=False, groups=KERNEL_GROUPS)
    p = network()
    after, scaled, clipped = awq(p, samples(), scheme)
    assert [c.layer for c in clipped] == ["down"]
    assert [d.why == "its layers stay in float" for d in scaled] == [True, True, True, False, True]
    changed = {n for n in ("wq", "wk", "wv", "wo", "wh") if p.constants[n] is not after.constants.get(n)}
    assert changed == set()


def test_q_and_k_are_scores_and_are_not_clipped() -> None:
    p = network()
    assert {
        n
        for n, count in (("q", 32), ("k", 16), ("v", 16), ("u", 64))
        if score_rows(p.graphs[0], n, count).any()
    } == {*("q", "k")}
    _, _, clipped = awq(p, samples(), SCHEME)
    assert [c.layer for c in clipped] == ["v", "o", "up", "down"]


def test_the_block_of_q_k_and_v_ends_with_the_output_projection() -> None:
    graph = network().graphs[0]
    nodes = {n.outputs[0].name: n for n in graph.nodes}
    block = block_of(graph, [nodes[r] for r in "qkv"])
    assert (block.output, block.given) == ("p", ("n",))
    alone = block_of(graph, [nodes["u"]])
    assert (alone.output, alone.given) == ("u", ("m",))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_clip_lowers_the_error_of_every_group(symmetric: bool) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_t(3, size=(24, 64)).astype(np.float32)
    x = rng.normal(size=(100, 64)).astype(np.float32)
    limit, share, (before, after) = clip_limits(w, x, 32, symmetric)

    def group_errors(weights: np.ndarray) -> np.ndarray:
        d = unpack_weights(*quantize_groups(weights, 32, symmetric), 32) - w
        return np.stack([np.square(x[:, i : i + 32] @ d[:, i : i + 32].T).sum(axis=0) for i in (0, 32)], 1)

    new = np.asarray(clamped(constant(w), limit, 32).data)
    assert np.all(group_errors(new) <= group_errors(w) * 1.0001)
    assert after < before and 0.2 < share <= 1.0
    top = np.abs(w).reshape(24, 2, 32).max(axis=2)
    assert np.all(limit >= 0.5499 * top) and np.all(limit <= top)


def test_gains_that_hold_the_scales_are_not_folded_into_the_weights() -> None:
    with pytest.raises(AssertionError, match="would take the scales back"):
        awq(network(), samples(), W4Scheme(group=32))
