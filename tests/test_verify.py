"""The verifier: one broken program an invariant, and a sound one that passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.build import constant
from edgec.ir import Array, DType, Loc, Node, Persistence, Port, Program, State, Type, Value, per_tensor
from edgec.ops.conv2d import Conv2dAttrs
from edgec.text import read
from edgec.verify import GraphError, verify


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def f32(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def broken(p: Program) -> GraphError:
    with pytest.raises(GraphError) as error:
        verify(p)
    return error.value


def graph(body: str, inputs: str = "%x: f32[2,4]") -> Program:
    return program(f"graph g({inputs}) {{ {body} }}", w=f32(3, 4))


INT8 = """graph g(%x: i8[1,4] q(scale=0.5, zero=3)) {
  %y: i8[1,3] q(scale=0.25, zero=0) = linear(%x, @w, @b)
  return %y
}"""


def int8(text: str = INT8, w_zero: int = 0, bias_scale: float = 0.05) -> Program:
    weight = constant(np.zeros((3, 4), np.int8), per_tensor(0.1, w_zero))
    bias = constant(np.zeros(3, np.int32), per_tensor(bias_scale, 0))
    return Program((read(text),), {"w": weight, "b": bias}, {})


def test_sound_programs_pass() -> None:
    verify(graph("%y: f32[2,3] = linear(%x, @w) return %y"))
    verify(int8())


@pytest.mark.parametrize("name", ["", "1a", "a b", "a*/", 'a"', "a\n", "é", "_a"])
def test_1_names_are_safe(name: str) -> None:
    p = graph("return %x")
    g = replace(p.graphs[0], inputs=(Value(name, Type((2,), DType.F32)),), outputs=(name,))
    assert broken(Program((g,), {}, {})).invariant == 1


def test_1_names_are_unique() -> None:
    p = graph("%y: f32[2,4] = relu(%x) %y: f32[2,4] = neg(%x) return %y")
    error = broken(p)
    assert error.invariant == 1
    assert "the name y stands twice" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        "%y: f32[2,4] = relu(%z) return %y",
        "%y: f32[2,4] = add(%x, @absent) return %y",
        "%y: f32[2,4] = add(%x, $absent) return %y",
        "%y: f32[2,4] = relu(%z) %z: f32[2,4] = relu(%x) return %y",
        "return %y",
        "update $absent = %x return %x",
    ],
)
def test_2_references_are_defined_before_use(body: str) -> None:
    assert broken(graph(body)).invariant == 2


def test_3_the_op_is_in_the_table() -> None:
    p = graph("%y: f32[2,4] = relu(%x) return %y")
    g = p.graphs[0]
    unknown = replace(g, nodes=(replace(g.nodes[0], op="conv9d"),))
    assert broken(Program((unknown,), {}, {})).invariant == 3


def test_3_attributes_are_of_the_op() -> None:
    p = graph("%y: f32[2,4] = relu(%x) return %y")
    g = p.graphs[0]
    wrong = replace(g, nodes=(replace(g.nodes[0], attrs=Conv2dAttrs()),))
    assert broken(Program((wrong,), {}, {})).invariant == 3


def test_3_attributes_hold_plain_values() -> None:
    y = Value("y", Type((1, 1, 1, 1), DType.F32))
    attrs = Conv2dAttrs(groups=np.int64(1))  # type: ignore[arg-type]
    p = program("graph g(%x: f32[1,1,1,1]) { return %x }", w=f32(1, 1, 1, 1))
    g = replace(p.graphs[0], nodes=(Node("conv2d", ("x", "@w"), (y,), attrs, Loc("c")),), outputs=("y",))
    assert "groups of conv2d at c holds a int64" in str(broken(replace(p, graphs=(g,))))


@pytest.mark.parametrize(
    "body",
    [
        "%y: f32[2,5] = relu(%x) return %y",
        "%y: i32[2,4] = relu(%x) return %y",
        "%y: f32[2,3] = linear(%x, @w, @w) return %y",
    ],
)
def test_4_stated_types_are_the_inferred_ones(body: str) -> None:
    assert broken(graph(body)).invariant == 4


@pytest.mark.parametrize(
    "t",
    [
        "i8[2,4] q(scale=0.0, zero=0)",
        "i8[2,4] q(scale=-0.5, zero=0)",
        "i8[2,4] q(scale=inf, zero=0)",
        "i8[2,4] q(scale=nan, zero=0)",
        "i8[2,4] q(scale=0.5, zero=128)",
        "f32[2,4] q(scale=0.5, zero=0)",
        "i8[2,4] q(axis=2, scale=[0.5,0.5,0.5,0.5])",
        "i8[2,4] q(axis=1, scale=[0.5,0.5])",
        "i8[2,4] q(axis=0, scale=[0.5,0.5], zero=[0,1])",
        "i8[2,4] q(scale=[0.5,0.5])",
    ],
)
def test_5_quantisations_are_well_formed(t: str) -> None:
    assert broken(graph("return %x", f"%x: {t}")).invariant == 5


@pytest.mark.parametrize(
    "p",
    [
        int8(w_zero=1),
        int8(bias_scale=0.06),
        int8(INT8.replace("i8[1,3] q(scale=0.25, zero=0)", "f32[1,3]").replace("[1,4] q(scale=0.5, zero=3)", "[1,4]")),
        int8(INT8.replace("linear(%x, @w, @b)", "linear(%x, @w)").replace("q(scale=0.5, zero=3)", "")),
    ],
    ids=["weight with zero", "bias at another scale", "float output", "input without scale"],
)  # fmt: skip
def test_6_integer_nodes_have_their_roles(p: Program) -> None:
    assert broken(p).invariant in (4, 6, 7)


def test_6_shared_inputs_have_the_scale_of_the_output() -> None:
    text = """graph g(%x: i8[2] q(scale=0.5, zero=0), %z: i8[2] q(scale=0.25, zero=0)) {
      %y: i8[4] q(scale=0.5, zero=0) = concat(%x, %z) {axis=0}
      return %y }"""
    error = broken(program(text))
    assert error.invariant == 6
    assert "input 1 of concat" in str(error)


def test_6_fixed_output_scales_are_kept() -> None:
    text = """graph g(%x: i8[2] q(scale=0.5, zero=0)) {
      %y: i8[2] q(scale=0.5, zero=0) = sigmoid(%x)
      return %y }"""
    assert broken(program(text)).invariant == 6


def test_6_an_op_without_integer_form_meets_no_integers() -> None:
    text = """graph g(%x: i8[2] q(scale=0.5, zero=0)) {
      %y: i8[2] q(scale=0.5, zero=0) = div(%x, %x)
      return %y }"""
    assert broken(program(text)).invariant == 6


@pytest.mark.parametrize(
    ("node", "before", "after"),
    [
        ("quantize", "f32[2]", "f32[2]"),
        ("dequantize", "f32[2]", "f32[2]"),
        ("requantize", "f32[2]", "f32[2]"),
    ],
)
def test_6_casts_change_what_their_names_say(node: str, before: str, after: str) -> None:
    assert broken(graph(f"%y: {after} = {node}(%x) return %y", f"%x: {before}")).invariant == 6


def test_7_bytes_without_scale_are_not_computed_with() -> None:
    assert broken(graph("%y: i8[2,4] = mul(%x, %x) return %y", "%x: i8[2,4]")).invariant == 7


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("%x: f32[n<=5,4]", "return %x"),
        ("%n: f32[], %x: f32[n<=5,4]", "return %x"),
        ("%n: i32[1], %x: f32[n<=5,4]", "return %x"),
        ("%n: i32[], %x: f32[n<=5,4], %z: f32[n<=6,4]", "return %x"),
    ],
)
def test_8_bounds_name_an_integer_that_is_there(inputs: str, body: str) -> None:
    assert broken(graph(body, inputs)).invariant == 8


def with_state(updates: tuple[tuple[str, str], ...], initial: Array) -> Program:
    g = replace(
        read("graph g(%x: f32[2,4]) { %y: f32[4,2] = reshape(%x) {shape=(4,2)} return %x }"), updates=updates
    )
    state = State(Type((2, 4), DType.F32), constant(initial), Persistence.KEPT)
    return Program((g,), {}, {"s": state})


@pytest.mark.parametrize(
    "p",
    [
        with_state((("s", "y"),), f32(2, 4)),
        with_state((("s", "x"), ("s", "x")), f32(2, 4)),
        with_state((), f32(2, 5)),
    ],
    ids=["update of another type", "updated twice", "initial content of another type"],
)
def test_9_updates_have_the_type_of_their_state(p: Program) -> None:
    assert broken(p).invariant == 9


def test_9_a_sound_update_passes() -> None:
    verify(with_state((("s", "x"),), f32(2, 4)))


@pytest.mark.parametrize(
    "ports",
    [
        (Port("y", "image", (0, 1)),),
        (Port("x", "image", (0, 1)), Port("x", "mask", (0, 1))),
        (Port("x", "image", (0, 0)),),
        (Port("x", "image", (0,)),),
    ],
)
def test_10_ports_are_the_inputs_in_order(ports: tuple[Port, ...]) -> None:
    p = graph("return %x")
    assert broken(replace(p, graphs=(replace(p.graphs[0], input_ports=ports),))).invariant == 10


def test_10_labels_are_distinct() -> None:
    p = graph("return %x, %z", "%x: f32[2], %z: f32[2]")
    ports = (Port("x", "a", (0,)), Port("z", "a", (0,)))
    assert broken(replace(p, graphs=(replace(p.graphs[0], output_ports=ports),))).invariant == 10


def test_the_error_shows_ten_lines_round_the_fault() -> None:
    chain = " ".join(f"%v{i + 1}: f32[2,4] = relu(%v{i})" for i in range(20))
    wrong = "%y: f32[2,5] = neg(%v20)  // head net.py:9\n"
    text = str(broken(graph(f"{chain} {wrong} return %y", "%v0: f32[2,4]")))
    shown = [line for line in text.splitlines() if "= relu" in line or "= neg" in line or "return" in line]
    assert 8 <= len(shown) <= 10
    assert ">   22   %y: f32[2,5] = neg(%v20)  // head net.py:9" in text
    assert "invariant 4 is broken: graph g: neg makes f32[2,4], stated is f32[2,5] at head (net.py:9)" in text
