"""The text form: what is shown reads back equal, whatever the user called things."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.build import Builder, constant
from edgec.errors import UserError
from edgec.ir import (
    Bound,
    DType,
    Graph,
    Loc,
    Node,
    Persistence,
    Port,
    Program,
    Quant,
    State,
    Type,
    Value,
    per_channel,
    per_tensor,
)
from edgec.ops.conv2d import Conv2dAttrs
from edgec.text import read, read_program, show, show_type

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,8}", fullmatch=True)
REFS = st.one_of(NAMES, NAMES.map("@{}".format), NAMES.map("${}".format))
SCALES = st.floats(2.0**-60, 2.0**60, width=32)
QUANTS = st.one_of(
    st.none(),
    st.builds(per_tensor, SCALES, st.integers(-128, 127)),
    st.builds(per_channel, st.lists(SCALES, min_size=1, max_size=4), st.integers(0, 3)),
    st.lists(st.tuples(SCALES, st.integers(-128, 127)), max_size=3).map(
        lambda pairs: Quant(tuple(s for s, _ in pairs), tuple(z for _, z in pairs), 0)
    ),
)
DIMS = st.one_of(st.integers(0, 10**9), st.builds(Bound, NAMES, st.integers(0, 10**6)))
TYPES = st.builds(Type, st.lists(DIMS, max_size=4).map(tuple), st.sampled_from(DType), QUANTS)
VALUES = st.builds(Value, NAMES, TYPES)
LOCS = st.builds(Loc, st.text(max_size=20), st.text(max_size=20), st.integers(0, 10**5))
REALS = st.floats(allow_nan=False)
ATTRS = st.builds(
    Conv2dAttrs,
    stride=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    groups=st.integers(1, 64),
    act=st.one_of(st.none(), st.tuples(REALS, REALS)),
)
NODES = st.builds(
    Node,
    st.just("conv2d"),
    st.lists(REFS, max_size=3).map(tuple),
    st.lists(VALUES, max_size=2).map(tuple),
    ATTRS,
    LOCS,
)
PORTS = st.builds(Port, NAMES, st.text(max_size=12), st.permutations(range(3)).map(tuple))
GRAPHS = st.builds(
    Graph,
    NAMES,
    st.lists(VALUES, max_size=3).map(tuple),
    st.lists(NODES, max_size=4).map(tuple),
    st.lists(REFS, max_size=3).map(tuple),
    st.lists(st.tuples(NAMES, REFS), max_size=2).map(tuple),
    st.lists(PORTS, max_size=2).map(tuple),
    st.lists(PORTS, max_size=2).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(GRAPHS)
def test_what_is_shown_reads_back_equal(graph: Graph) -> None:
    assert read(show(graph)) == graph


def test_a_graph_looks_as_the_design_says() -> None:
    b = Builder("infer")
    x = b.input("image", Type((1, 8, 8, 3), DType.I8, per_tensor(0.0078125, 0)))
    w = b.constant(np.zeros((4, 3, 3, 3), np.int8), "stem.w", per_channel([0.5, 1, 2, 4], 0))
    b.loc = Loc("stem.conv", "net.py", 41)
    quants = [per_tensor(0.0234375, -128)]
    (y,) = b.node("conv2d", (x, w), Conv2dAttrs((2, 2), (0, 1, 0, 1), act=(0.0, np.inf)), quants=quants)
    b.output(y, "logits", (0, 3, 1, 2))
    assert show(b.graph()) == (
        "graph infer(%image: i8[1,8,8,3] q(scale=0.0078125, zero=0)) {\n"
        '  in %image "image" (0,1,2,3)\n'
        "  %conv2d: i8[1,4,4,4] q(scale=0.0234375, zero=-128) = conv2d(%image, @stem.w) "
        "{stride=(2,2), pad=(0,1,0,1), act=(0.0,inf)}  // stem.conv net.py:41\n"
        '  out %conv2d "logits" (0,3,1,2)\n'
        "  return %conv2d\n"
        "}\n"
    )


def test_program_headers_name_constants_and_states_by_digest() -> None:
    zero = constant(np.zeros((1, 4), np.float32))
    graph = Graph("decode", (Value("x", zero.type),), (), ("$cache",), (("cache", "x"),))
    state = {"cache": State(zero.type, zero, Persistence.SAVED)}
    program = Program((graph,), {"w": constant(np.arange(6).reshape(2, 3))}, state)
    again = read_program(show(program), {c.digest: c for c in program.constants.values()})
    assert again == program
    assert np.array_equal(again.constants["w"].data, np.arange(6).reshape(2, 3))


def test_a_constant_whose_content_is_not_given_says_so_when_read() -> None:
    program = Program((), {"w": constant(np.ones(3, np.float32))}, {})
    with pytest.raises(UserError, match="give the constants of the program") as error:
        _ = read_program(show(program)).constants["w"].data
    assert error.value.code == "EDGEC-E372"


@pytest.mark.parametrize("layer", ['a"b', "a\nb", "*/ x", "// y", "\u2028", "%a = conv2d()", "a\\", "é"])
def test_hostile_layer_names_stay_on_their_line_and_in_their_comment(layer: str) -> None:
    node = Node(
        "conv2d", ("x", "@w"), (Value("y", Type((1,), DType.F32)),), Conv2dAttrs(), Loc(layer, layer, 3)
    )
    text = show(Graph("g", (), (node,), ("y",)))
    assert len(text.splitlines()) == 4
    assert "*/" not in text
    assert read(text).nodes == (node,)


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 1e-38, 3.4028234e38, 2.0**-149])
def test_scales_print_exactly(scale: float) -> None:
    t = Type((2,), DType.I8, per_tensor(scale, 5))
    text = f"graph g(%x: {show_type(t)}) {{ return %x }}"
    assert read(text).inputs[0].type == t


def test_an_error_names_line_and_column() -> None:
    with pytest.raises(UserError) as error:
        read("graph g(%x: f32[1]) {\n  %y: f32[1] = conv3d(%x)\n  return %y\n}\n")
    assert str(error.value) == (
        "EDGEC-E371: correct line 2 of the graph text: expected the name of an op "
        "in column 16 of '  %y: f32[1] = conv3d(%x)'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("graph", "a name"),
        ("graph g(", "a name that starts with %"),
        ("graph g() { return } x", "the end of the text"),
        ("graph g(%x: f7[1]) { return }", "an element type"),
        ("graph g(%x: f32[1.5]) { return }", "an integer"),
        ("graph g() { conv2d(%x) {size=1} return }", "one of the attributes stride"),
    ],
)
def test_broken_text_says_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"expected {expected}"):
        read(text)


def test_reading_a_large_graph_is_linear() -> None:
    t = Type((1, 4, 4, 8), DType.F32)
    nodes = tuple(
        Node("conv2d", (f"v{i}", "@w"), (Value(f"v{i + 1}", t),), Conv2dAttrs(), Loc("a b", "n.py", i))
        for i in range(3000)
    )
    graph = Graph("g", (Value("v0", t),), nodes, ("v3000",))
    assert read(show(graph)) == graph
