"""What language models are joined into: gains, rotations, merged projections, attention on the projections' memory."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import constant
from edgec.ir import Array, Pass, Program
from edgec.passes.cache_places import cache_places
from edgec.passes.dead import remove_dead
from edgec.passes.merge_linears import merge_linears, merged_name
from edgec.passes.norm_gain import norm_gain
from edgec.passes.rotary import rotary
from edgec.text import read, show
from edgec.verify import verify

FREQUENCY = np.float32([1.0, 0.3, 0.05, 0.004])
HALVES = (
    "%a: f32[1,2,3,4] = slice(%x) {axis=3, start=0, stop=4} "
    "%b: f32[1,2,3,4] = slice(%x) {axis=3, start=4, stop=8} %n: f32[1,2,3,4] = neg(%b) "
    "%t: f32[1,2,3,8] = concat(%n, %a) {axis=3} "
)
TABLES = (
    '%i: i32[1,1,3] = reshape(%p) {shape=(1,1,3)} %f: f32[1,1,3] = cast(%i) {dtype="f32"} '
    "%m: f32[1,4,3] = matmul(@freq, %f) %mt: f32[1,3,4] = transpose(%m) {perm=(0,2,1)} "
    "%e: f32[1,3,8] = concat(%mt, %mt) {axis=2} "
    "%c: f32[1,3,8] = cos(%e) %s: f32[1,3,8] = sin(%e) "
    "%ch: f32[1,1,3,8] = reshape(%c) {shape=(1,1,3,8)} %sh: f32[1,1,3,8] = reshape(%s) {shape=(1,1,3,8)} "
)
SUM = (
    "%u: f32[1,2,3,8] = mul(%x, %ch) %v: f32[1,2,3,8] = mul(%t, %sh) %y: f32[1,2,3,8] = add(%u, %v) return %y"
)
ROTATED = "graph g(%x: f32[1,2,3,8], %p: i32[3]) {" + TABLES + HALVES + SUM + "}"


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def body(p: Program) -> list[str]:
    """Node lines of the only graph, without their places."""
    return [line.split("  //")[0].strip() for line in show(p.graphs[0]).splitlines()[1:-2]]


def outputs(p: Program) -> list[Array]:
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for v in p.graphs[0].inputs:
        plain = rng.normal(size=v.type.dims).astype(np.float32)
        whole = np.arange(5, 5 + v.type.size, dtype=np.int32).reshape(v.type.dims)
        inputs[v.name] = plain if v.type.dtype.is_float else whole
    found, _ = interp.run(p, p.graphs[0], inputs)
    return [found[r] for r in p.graphs[0].outputs]


def changed(p: Program, change: Pass) -> Program:
    """After the pass, with the same numbers."""
    after = remove_dead(change(p))
    verify(after)
    for a, b in zip(outputs(p), outputs(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert change(after) is after
    return after


def test_a_gain_goes_into_its_norm() -> None:
    text = "graph g(%x: f32[2,4]) { %n: f32[2,4] = rms_norm(%x) {eps=1e-05} %y: f32[2,4] = mul(@g, %n) return %y }"
    after = changed(program(text, g=np.float32([1, 2, 3, 4])), norm_gain)
    assert body(after) == ["%y: f32[2,4] = rms_norm(%x, @g) {eps=1e-05}"]


def test_a_norm_that_is_read_twice_keeps_its_product() -> None:
    text = (
        "graph g(%x: f32[2,4]) { %n: f32[2,4] = rms_norm(%x) {eps=1e-05} %y: f32[2,4] = mul(%n, @g) "
        "%z: f32[2,4] = add(%y, %n) return %z }"
    )
    p = program(text, g=np.float32([1, 2, 3, 4]))
    assert norm_gain(p) is p


def test_turned_halves_become_rope() -> None:
    after = changed(program(ROTATED, freq=FREQUENCY.reshape(1, 4, 1)), rotary)
    assert body(after) == ["%y: f32[1,2,3,8] = rope(%x, %p, @freq_1) {axis=2}"]
    assert after.constants["freq_1"].data.shape == (4,)


def test_a_scaled_rotation_with_tokens_first_becomes_rope() -> None:
    text = (
        "graph g(%x: f32[1,3,2,8], %p: i32[3]) {"
        + TABLES.replace("[1,1,3,8]", "[1,3,1,8]").replace("(1,1,3,8)", "(1,3,1,8)")
        + "%cs: f32[1,3,1,8] = mul(%ch, @k) %ss: f32[1,3,1,8] = mul(%sh, @k) "
        + HALVES.replace("[1,2,3,", "[1,3,2,")
        + SUM.replace("%ch", "%cs").replace("%sh", "%ss").replace("[1,2,3,", "[1,3,2,")
        + "}"
    )
    after = changed(program(text, freq=FREQUENCY.reshape(1, 4, 1), k=np.float32(1.25)), rotary)
    assert body(after) == ["%y: f32[1,3,2,8] = rope(%x, %p, @freq_1) {axis=1, scale=1.25}"]


def test_a_table_that_ends_at_some_position_is_no_rope() -> None:
    """The numbers are the same up to position 4000."""
    ends = TABLES.replace("matmul(@freq, %f)", "matmul(@freq, %g)").replace(
        "%m: ", "%g: f32[1,1,3] = clamp(%f) {min=0.0, max=4000.0} %m: "
    )
    text = "graph g(%x: f32[1,2,3,8], %p: i32[3]) {" + ends + HALVES + SUM + "}"
    p = program(text, freq=FREQUENCY.reshape(1, 4, 1))
    assert rotary(p) is p


def test_turned_neighbours_become_interleaved_rope() -> None:
    twice = TABLES.replace(
        "%e: f32[1,3,8] = concat(%mt, %mt) {axis=2} ",
        "%w: f32[1,3,4,1] = reshape(%mt) {shape=(1,3,4,1)} %ww: f32[1,3,4,2] = concat(%w, %w) {axis=3} "
        "%e: f32[1,3,8] = reshape(%ww) {shape=(1,3,8)} ",
    )
    neighbours = (
        "%a: f32[1,2,3,4] = slice(%x) {axis=3, start=0, stop=8, step=2} "
        "%b: f32[1,2,3,4] = slice(%x) {axis=3, start=1, stop=8, step=2} %n: f32[1,2,3,4] = neg(%b) "
        "%n5: f32[1,2,3,4,1] = reshape(%n) {shape=(1,2,3,4,1)} %a5: f32[1,2,3,4,1] = reshape(%a) {shape=(1,2,3,4,1)} "
        "%t5: f32[1,2,3,4,2] = concat(%n5, %a5) {axis=4} %t: f32[1,2,3,8] = reshape(%t5) {shape=(1,2,3,8)} "
    )
    text = "graph g(%x: f32[1,2,3,8], %p: i32[3]) {" + twice + neighbours + SUM + "}"
    after = changed(program(text, freq=FREQUENCY.reshape(1, 4, 1)), rotary)
    assert body(after) == ["%y: f32[1,2,3,8] = rope(%x, %p, @freq_1) {axis=2, interleaved=True}"]


def test_a_rotation_of_the_first_channels_becomes_one_rope() -> None:
    text = (
        "graph g(%x: f32[1,2,3,12], %p: i32[3]) { %a: f32[1,2,3,8] = slice(%x) {axis=3, start=0, stop=8} "
        "%b: f32[1,2,3,4] = slice(%x) {axis=3, start=8, stop=12} "
        "%r: f32[1,2,3,8] = rope(%a, %p, @freq) {axis=2} %y: f32[1,2,3,12] = concat(%r, %b) {axis=3} return %y }"
    )
    after = changed(program(text, freq=FREQUENCY), rotary)
    assert body(after) == ["%y: f32[1,2,3,12] = rope(%x, %p, @freq) {axis=2}"]


@pytest.mark.parametrize("what", ["another sign", "sine of another angle"])
def test_what_is_no_rotation_stays(what: str) -> None:
    text = (
        ROTATED.replace("neg(%b)", "abs(%b)")
        if what == "another sign"
        else ROTATED.replace("sin(%e)", "cos(%e)")
    )
    p = program(text, freq=FREQUENCY.reshape(1, 4, 1))
    assert rotary(p) is p


# A decoder's layer: x[1,2,6] -> q of 2 heads, k and v of 1, depth 4.
PROJECTIONS = (
    "%lq: f32[1,2,8] = linear(%x, @l.q.w) "
    "%lk: f32[1,2,4] = linear(%x, @l.k.w) "
    "%lv: f32[1,2,4] = linear(%x, @l.v.w) "
)
HEADS = (
    "%rq: f32[1,2,2,4] = reshape(%lq) {shape=(1,2,2,4)} %q: f32[1,2,2,4] = transpose(%rq) {perm=(0,2,1,3)} "
    "%rk: f32[1,2,1,4] = reshape(%lk) {shape=(1,2,1,4)} %k: f32[1,1,2,4] = transpose(%rk) {perm=(0,2,1,3)} "
    "%rv: f32[1,2,1,4] = reshape(%lv) {shape=(1,2,1,4)} %v: f32[1,1,2,4] = transpose(%rv) {perm=(0,2,1,3)} "
)
TURNED = (
    "%at: i32[2] = add(%p, @steps) %qr: f32[1,2,2,4] = rope(%q, %at, @f) {axis=2} "
    "%kr: f32[1,1,2,4] = rope(%k, %at, @f) {axis=2} "
)
ATTENTION = (
    "%y: f32[1,2,2,4], %nk: f32[1,1,9,4], %nv: f32[1,1,9,4] = cached_attention(%qr, %kr, %v, %keys, %values, %p) "
    "{scale=0.5, batch=1, tokens=2, heads=2, kv_heads=1, depth=4, value_depth=4, "
    "q=(0,16,8,4), k=(0,8,8,4), v=(0,8,8,4)} return %y, %nk, %nv"
)
LAYER = (
    "graph g(%x: f32[1,2,6], %keys: f32[1,1,9,4], %values: f32[1,1,9,4], %p: i32[1]) {"
    + PROJECTIONS + HEADS + TURNED + ATTENTION + "}"
)  # fmt: skip


def layer(text: str = LAYER, steps: tuple[int, int] = (0, 1)) -> Program:
    rng = np.random.default_rng(2)
    weights = {f"l.{n}.w": rng.normal(size=(8 if n == "q" else 4, 6)).astype(np.float32) for n in "qkv"}
    return program(text, **weights, f=np.float32([1.0, 0.2]), steps=np.int32(steps))


def test_projections_of_one_value_become_one() -> None:
    after = changed(layer(), merge_linears)
    assert body(after)[:2] == [
        "%lq.merged: f32[1,2,16] = linear(%x, @l.q_k_v.w)",
        "%lq: f32[1,2,8], %lk: f32[1,2,4], %lv: f32[1,2,4] = split(%lq.merged) {axis=2, sizes=(8,4,4)}",
    ]
    assert "l.q.w" not in after.constants
    assert after.constants["l.q_k_v.w"].type.dims == (16, 6)


def test_attention_reads_its_heads_inside_the_projection() -> None:
    merged = remove_dead(merge_linears(layer()))
    after = changed(merged, cache_places)
    assert body(after)[1:] == [
        "%y: f32[1,2,2,4], %y_1: f32[1,1,9,4], %y_2: f32[1,1,9,4] = cached_attention(%lq.merged, %lq.merged, "
        "%lq.merged, %keys, %values, %p, @f) {scale=0.5, batch=1, tokens=2, heads=2, kv_heads=1, depth=4, "
        'value_depth=4, q=(0,32,4,16), k=(8,32,4,16), v=(12,32,4,16), rotary="half"}'
    ]


def test_rotation_at_other_positions_stays_outside() -> None:
    after = changed(layer(steps=(0, 2)), cache_places)
    assert [line.count("= rope(") for line in body(after)].count(1) == 2


def test_other_networks_keep_their_linear_layers() -> None:
    text = "graph g(%x: f32[1,2,6]) {" + PROJECTIONS + "return %lq, %lk, %lv }"
    p = layer(text)
    assert merge_linears(p) is p


def test_layers_that_share_a_weight_and_no_input_stay() -> None:
    shared = PROJECTIONS.replace("linear(%x, @l.v.w)", "linear(%z, @l.k.w)")
    text = LAYER.replace(PROJECTIONS, shared).replace("(%x: f32[1,2,6],", "(%x: f32[1,2,6], %z: f32[1,2,6],")
    after = changed(layer(text), merge_linears)
    assert body(after)[0] == "%lq.merged: f32[1,2,12] = linear(%x, @l.q_k.w)"
    assert "%lv: f32[1,2,4] = linear(%z, @l.k.w)" in body(after)


def test_a_merged_layer_is_named_after_its_parts() -> None:
    assert merged_name(["a.0.gate.weight", "a.0.up.weight"]) == "a.0.gate_up.weight"
    assert merged_name(["a", "b.c"]) == "a_b.c"
