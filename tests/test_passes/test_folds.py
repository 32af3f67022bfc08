"""Every fold is an identity: with random scales, in float64, the network's outputs stay the same to 1e-10."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from entry_programs import PROMPT, Decoder

from edgec import interp
from edgec.build import Builder, constant
from edgec.ir import Array, Constant, DType, Persistence, Program, Type, Value
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.shape import ReshapeAttrs
from edgec.passes.folds import Site, Unfoldable, apply_scales, find_sites
from edgec.text import read
from edgec.verify import verify

SHAPES = {
    "w": (6, 8),
    "u": (6, 8),
    "d": (5, 6),
    "wide": (24, 8),
    "square": (8, 8),
    "k": (4, 8),
    "v": (4, 8),
    "conv": (8, 1, 1, 3),
}


def program(body: str, results: str = "%y", x: str = "2,3,8") -> Program:
    """A graph over x: f64[x] whose constants are drawn by name: @w, @w2 ... of SHAPES["w"], @g* and @b* vectors."""
    rng = np.random.default_rng(3)
    graph = read(f"graph g(%x: f64[{x}]) {{\n{body}\nreturn {results} }}")
    found = {}
    for ref in (r for n in graph.nodes for r in n.inputs if r[0] == "@"):
        name, _, size = ref[1:].partition(".")
        sizes = (int(size),) if size else SHAPES[name.rstrip("0123456789")]
        found[ref[1:]] = constant(rng.normal(size=sizes))
    return Program((graph,), found, {})


def outputs(p: Program, seed: int = 0) -> list[Array]:
    graph = p.graphs[0]
    rng = np.random.default_rng(seed)
    inputs = {v.name: rng.normal(size=v.type.dims) for v in graph.inputs}
    found, _ = interp.run(p, graph, inputs)
    return [found[r] for r in graph.outputs]


def scales(sites: tuple[Site, ...]) -> list[tuple[Site, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(s, s.together(np.exp(rng.normal(size=s.channels)))) for s in sites]


def hold(p: Program, unfoldable: Unfoldable = "skip") -> tuple[Site, ...]:
    """Check the identity and give the sites."""
    verify(p)
    sites = find_sites(p)
    after = apply_scales(p, scales(sites), unfoldable)
    verify(after)
    for a, b in zip(outputs(p), outputs(after), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10 * max(1.0, float(np.abs(a).max())))
    return sites


def reasons(sites: tuple[Site, ...]) -> list[str]:
    return [s.why for s in sites]


def producers(p: Program, site: Site) -> set[str]:
    """Constants that hold 1/s."""
    nodes = {n.outputs[0].name: n for n in p.graphs[0].nodes}
    return {nodes[e.node].inputs[e.operand] for e in site.groups[0].edits}


@pytest.mark.parametrize(
    ("norm", "kept"),
    [
        ("rms_norm(%x, @g.8) {eps=1e-05}", {"@g.8"}),
        ("layer_norm(%x, @g.8, @b.8) {axes_from_end=1, eps=1e-05}", {"@g.8", "@b.8"}),
        ("mul(%x, @g.8)", {"@g.8"}),
        ("linear(%x, @square, @b.8) {act=(0.0,inf)}", {"@square", "@b.8"}),
    ],
)
def test_what_comes_before_two_layers_takes_their_scales(norm: str, kept: set[str]) -> None:
    p = program(f"""%n: f64[2,3,8] = {norm}
        %a: f64[2,3,6] = linear(%n, @w)
        %b: f64[2,3,6] = linear(%n, @u, @b.6)
        %y: f64[2,3,6] = mul(%a, %b)""")
    site = next(s for s in hold(p) if len(s.layers) == 2)
    assert site.why == "" and producers(p, site) == kept


def test_down_folds_into_up_and_not_into_the_gate() -> None:
    p = program("""%g: f64[2,3,6] = linear(%x, @w)
        %u: f64[2,3,6] = linear(%x, @u)
        %s: f64[2,3,6] = silu(%g)
        %m: f64[2,3,6] = mul(%s, %u)
        %y: f64[2,3,5] = linear(%m, @d)""")
    first, second = hold(p)
    assert first.why == "the scaled value is an input of the network"
    assert second.why == "" and producers(p, second) == {"@u"}


@pytest.mark.parametrize(("op", "folds"), [("relu", True), ("gelu", False)])
def test_relu_lets_scales_through_and_gelu_does_not(op: str, folds: bool) -> None:
    p = program(f"""%a: f64[2,3,6] = linear(%x, @w, @b.6)
        %r: f64[2,3,6] = {op}(%a)
        %y: f64[2,3,5] = linear(%r, @d)""")
    site = hold(p)[1]
    assert (site.why == "") is folds
    if not folds:
        assert site.why == "gelu does not scale with its input"


def test_a_layer_without_a_fold_gets_a_product_of_its_own_where_asked() -> None:
    p = program(
        """%a: f64[2,3,6] = gelu(%x6)
        %y: f64[2,3,5] = linear(%a, @d)""".replace("%x6", "%x"),
        x="2,3,6",
    )
    hold(p, "mul")
    ops = [n.op for n in apply_scales(p, scales(find_sites(p)), "mul").graphs[0].nodes]
    assert ops == ["gelu", "mul", "linear"]
    assert apply_scales(p, scales(find_sites(p)), "skip") is p


ATTENTION = """%q: f64[2,3,8] = linear(%x, @square)
    %k: f64[2,3,4] = linear(%x, @k)
    %v: f64[2,3,4] = linear(%x, @v)
    %qh: f64[2,3,4,2] = reshape(%q) {shape=(2,3,4,2)}
    %kh: f64[2,3,2,2] = reshape(%k) {shape=(2,3,2,2)}
    %vh: f64[2,3,2,2] = reshape(%v) {shape=(2,3,2,2)}
    %qt: f64[2,4,3,2] = transpose(%qh) {perm=(0,2,1,3)}
    %kt: f64[2,2,3,2] = transpose(%kh) {perm=(0,2,1,3)}
    %vt: f64[2,2,3,2] = transpose(%vh) {perm=(0,2,1,3)}
    """
MERGE = """%ot: f64[2,3,4,2] = transpose(%o) {perm=(0,2,1,3)}
    %of: f64[2,3,8] = reshape(%ot) {shape=(2,3,8)}
    %y: f64[2,3,6] = linear(%of, @w)"""


def test_attention_folds_the_output_projection_into_v_one_factor_a_group_of_heads() -> None:
    p = program(ATTENTION + "%o: f64[2,4,3,2] = attention(%qt, %kt, %vt) {scale=0.5, causal=True}\n" + MERGE)
    site = hold(p)[1]
    assert site.why == "" and producers(p, site) == {"@v"}
    assert site.classes == (0, 1, 0, 1, 4, 5, 4, 5)
    np.testing.assert_array_equal(site.together(np.arange(8.0)), [2, 3, 2, 3, 6, 7, 6, 7])


def test_attention_made_of_products_and_repeated_heads_folds_too() -> None:
    repeat = "".join(
        f"""%{h}5: f64[2,2,1,3,2] = reshape(%{h}t) {{shape=(2,2,1,3,2)}}
        %{h}e: f64[2,2,2,3,2] = expand(%{h}5) {{shape=(2,2,2,3,2)}}
        %{h}r: f64[2,4,3,2] = reshape(%{h}e) {{shape=(2,4,3,2)}}
        """
        for h in "kv"
    )
    p = program(
        ATTENTION
        + repeat
        + """%s: f64[2,4,3,3] = matmul(%qt, %kr) {transpose_b=True}
        %p: f64[2,4,3,3] = softmax(%s) {axis=3}
        %o: f64[2,4,3,2] = matmul(%p, %vr)
        """
        + MERGE
    )
    site = hold(p)[1]
    assert site.why == "" and site.classes == (0, 1, 0, 1, 4, 5, 4, 5)


@pytest.mark.parametrize(
    "cut",
    [
        """%q: f64[2,3,8], %k: f64[2,3,8], %v: f64[2,3,8] = split(%a) {axis=2, sizes=(8,8,8)}""",
        """%q: f64[2,3,8] = slice(%a) {axis=2, start=0, stop=8}
        %k: f64[2,3,8] = slice(%a) {axis=2, start=8, stop=16}
        %v: f64[2,3,8] = slice(%a) {axis=2, start=16, stop=24}""",
    ],
)
def test_packed_projections_scale_their_part_alone(cut: str) -> None:
    p = program(
        f"""%a: f64[2,3,24] = linear(%x, @wide, @b.24)
        {cut}
        %g: f64[2,3,8] = sigmoid(%q)
        %h: f64[2,3,8] = mul(%g, %k)
        %z: f64[2,3,8] = linear(%h, @square)
        %y: f64[2,3,8] = linear(%v, @square2)""",
        "%y, %z",
    )
    sites = hold(p)
    assert reasons(sites)[1:] == ["", ""]
    channels = [s.groups[0].edits[0].channels for s in sites[1:]]
    assert sorted(tuple(i for i, c in enumerate(one) if c >= 0) for one in channels) == [
        tuple(range(8, 16)),
        tuple(range(16, 24)),
    ]


def test_a_convolution_folds_through_pooling_and_flattening() -> None:
    p = program(
        """%c: f64[1,4,4,8] = conv2d(%x, @conv, @b.8) {act=(0.0,inf)}
        %p: f64[1,2,2,8] = max_pool2d(%c) {kernel=(2,2), stride=(2,2)}
        %f: f64[1,8] = reduce_mean(%p) {axes=(1,2)}
        %y: f64[1,6] = linear(%f, @w)""".replace("%f: f64[1,8]", "%f: f64[1,8]").replace(
            "%y: f64[1,6]", "%y: f64[1,6]"
        ),
        x="1,4,4,3",
    )
    (site,) = hold(p)
    assert site.why == "" and producers(p, site) == {"@conv", "@b.8"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "%n: f64[2,3,8] = rms_norm(%x, @g.8) {eps=1e-05}\n%z: f64[2,3,8] = sigmoid(%n)\n",
            "other nodes read",
        ),
        ("%n: f64[2,3,8] = linear(%x, @square) {act=(0.0,6.0)}\n", "does not scale"),
        ("%n: f64[2,3,8] = rms_norm(%x) {eps=1e-05}\n", "rms_norm has no gain"),
        ("%n: f64[2,3,8] = softmax(%x) {axis=2}\n", "softmax does not scale"),
    ],
)
def test_what_cannot_fold_says_why(body: str, why: str) -> None:
    tail = "%y: f64[2,3,6] = linear(%n, @w)"
    p = program(body + tail, "%y, %z" if "%z" in body else "%y")
    site = next(s for s in hold(p) if s.layers[0].inputs[1] == "@w")
    assert why in site.why
    hold(p, "mul")


@pytest.mark.parametrize(
    ("body", "folds"),
    [
        ("%m: f64[2,3,8] = mul(%n, %n)", False),
        ("%m: f64[2,3,8] = div(%n, %n)", False),
        ("%m: f64[2,3,8] = add(%n, %n)", False),
        ("%m: f64[2,3,8] = abs(%n)", True),
        ("%m: f64[2,3,8] = neg(%n)", True),
        ("%m: f64[2,3,8] = add(%n, @b.8) {act=(-inf,0.0)}", True),
        (
            "%r: f64[2,3,1] = reduce_mean(%n) {axes=(2,), keepdims=True} "
            "%m: f64[2,3,8] = expand(%r) {shape=(2,3,8)}",
            True,  # with one factor for all channels
        ),
        (
            "%a: f64[2,2,8] = slice(%n) {axis=1, start=0, stop=2} %b: f64[2,2,8] = slice(%n) {axis=1, start=1, "
            "stop=3} %p: f64[2,2,8] = mul(%a, %b) %m: f64[2,3,8] = pad(%p) {pads=((0,0),(0,1),(0,0)), value=0.0}",
            False,
        ),
    ],
)
def test_values_that_are_read_twice_do_not_fold_and_signs_do(body: str, folds: bool) -> None:
    p = program(f"%n: f64[2,3,8] = rms_norm(%x, @g.8) {{eps=1e-05}} {body} %y: f64[2,3,6] = linear(%m, @w)")
    (site,) = hold(p)
    assert (site.why == "") is folds
    hold(p, "mul")


def test_layers_that_share_a_weight_keep_it() -> None:
    p = program("""%a: f64[2,3,8] = rms_norm(%x, @g.8) {eps=1e-05}
        %b: f64[2,3,8] = layer_norm(%x, @g2.8, @b.8) {axes_from_end=1, eps=1e-05}
        %c: f64[2,3,6] = linear(%a, @w)
        %d: f64[2,3,6] = linear(%b, @w)
        %y: f64[2,3,6] = add(%c, %d)""")
    assert find_sites(p) == ()


def test_a_gain_that_two_norms_share_becomes_two() -> None:
    p = program("""%a: f64[2,3,8] = rms_norm(%x, @g.8) {eps=1e-05}
        %b: f64[2,3,8] = rms_norm(%x, @g.8) {eps=1e-03}
        %c: f64[2,3,6] = linear(%a, @w)
        %d: f64[2,3,6] = linear(%b, @u)
        %y: f64[2,3,6] = add(%c, %d)""")
    assert reasons(hold(p)) == ["", ""]


def in_float64(p: Program) -> Program:
    """Every float32 as float64."""

    def wide(t: Type) -> Type:
        return replace(t, dtype=DType.F64) if t.dtype is DType.F32 else t

    def values(given: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(Value(v.name, wide(v.type)) for v in given)

    def constant64(c: Constant) -> Constant:
        return constant(c.data.astype(np.float64)) if c.type.dtype is DType.F32 else c

    graphs = tuple(
        replace(
            g, inputs=values(g.inputs), nodes=tuple(replace(n, outputs=values(n.outputs)) for n in g.nodes)
        )
        for g in p.graphs
    )
    state = {n: replace(s, type=wide(s.type), initial=constant64(s.initial)) for n, s in p.state.items()}
    return Program(graphs, {n: constant64(c) for n, c in p.constants.items()}, state)


def test_prefill_and_decode_share_scaled_weights_and_a_scaled_cache() -> None:
    p = in_float64(Decoder(quantised=False).program())
    sites = find_sites(p)
    attended = next(s for s in sites if s.groups[0].states)
    assert attended.why == "" and len(attended.groups) == 2
    after = apply_scales(p, scales(sites))
    verify(after)
    assert len(after.constants) == len(p.constants), "both graphs read the same scaled weights"
    before_state = after_state = None
    rng = np.random.default_rng(0)
    for name, count in (("prefill", PROMPT), ("decode", 1), ("decode", 1)):
        tokens = {"tokens": rng.integers(0, 11, count)}
        y, before_state = interp.run(p, p.graph(name), tokens, before_state)
        z, after_state = interp.run(after, after.graph(name), tokens, after_state)
        for ref in y:
            np.testing.assert_allclose(z[ref], y[ref], rtol=0, atol=1e-10)
    assert before_state is not None and after_state is not None
    assert not np.allclose(before_state["values"], after_state["values"]), "the cache holds scaled values"


def packed_decoder(tokens: int) -> Program:
    """[1, tokens, 8] -> one projection of 4 query heads, 2 key heads and 2 value heads of 3 channels -> attention over
    a cache -> the output projection."""
    b = Builder("infer")
    rng = np.random.default_rng(4)
    x = b.input("x", Type((1, tokens, 8), DType.F64))
    blank = constant(np.zeros((1, 2, 9, 3)))
    caches = [b.add_state(name, blank, Persistence.RESET) for name in ("keys", "values")]
    packed = b.call("linear", x, b.constant(rng.normal(size=(24, 8)), "qkv"), attrs=LinearAttrs())
    steps = (tokens * 24, 3, 24)
    places = ((0, *steps), (12, *steps), (18, *steps))
    attrs = CachedAttentionAttrs(0.5, 1, tokens, 4, 2, 3, 3, *places)
    position = b.input("position", Type((), DType.I32))
    y, *caches_after = b.node("cached_attention", (packed, packed, packed, *caches, position), attrs)
    b.updates += zip(("keys", "values"), caches_after, strict=True)
    flat = b.call("reshape", y, attrs=ReshapeAttrs((1, tokens, 12)))
    b.output(b.call("linear", flat, b.constant(rng.normal(size=(5, 12)), "o"), attrs=LinearAttrs()), "y")
    return b.program()


def test_a_packed_projection_over_a_cache_scales_its_value_rows_alone() -> None:
    p = packed_decoder(3)
    site = find_sites(p)[1]
    assert site.why == "" and site.classes == (0, 1, 2, 0, 1, 2, 6, 7, 8, 6, 7, 8)
    (edit,) = site.groups[0].edits
    assert edit.channels == (*[-1] * 18, 0, 1, 2, 6, 7, 8)
    after = apply_scales(p, scales((site,)))
    verify(after)
    x, first = np.random.default_rng(0).normal(size=(1, 3, 8)), np.int32(0)
    states: list[dict[str, Array] | None] = [None, None]
    for _ in range(2):
        results = []
        for i, each in enumerate((p, after)):
            found, states[i] = interp.run(each, each.graphs[0], {"x": x, "position": first}, states[i])
            results.append(found[each.graphs[0].outputs[0]])
        np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-10)
        first = np.int32(3)


def test_a_cache_that_is_an_output_too_keeps_its_values() -> None:
    p = packed_decoder(1)
    graph = p.graphs[0]
    shown = replace(graph, outputs=(*graph.outputs, dict(graph.updates)["values"]), output_ports=())
    assert find_sites(replace(p, graphs=(shown,)))[1].why == "the cache is read elsewhere, too"
