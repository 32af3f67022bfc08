"""Folding and fusion: before and after as graph text."""

# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder, constant
from edgec.ir import Array, Pass, Program
from edgec.match import rewrite
from edgec.passes.fold import fold
from edgec.passes.fuse import WITH_ACT, fuse
from edgec.passes.legalize import legalize
from edgec.passes.simplify import simplify
from edgec.text import read, show
from edgec.verify import verify

RNG = np.random.default_rng(0)


def program(text: str, **constants: Array) -> Program:
    """Program of the graph `text` in a body indented as below, with its constants."""
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def body(p: Program) -> list[str]:
    """Node lines of the only graph."""
    return [line.strip() for line in show(p.graphs[0]).splitlines()[1:-2]]


def f32(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def same_numbers(before: Program, after: Program, tolerance: float = 1e-5) -> None:
    verify(after)
    graph = before.graphs[0]
    inputs = {v.name: RNG.normal(size=v.type.dims).astype(np.float32) for v in graph.inputs}
    (a, _), (b, _) = (interp.run(p, p.graphs[0], inputs) for p in (before, after))
    for x, y in zip(graph.outputs, after.graphs[0].outputs, strict=True):
        np.testing.assert_allclose(b[y], a[x], atol=tolerance * np.abs(a[x]).max())


def check(p: Program, run: Pass, expected: list[str]) -> Program:
    after = run(p)
    assert body(after) == expected
    same_numbers(p, after)
    assert run(after) is after, "the pass must return the same object where nothing changes"
    return after


def test_nodes_of_constants_become_constants() -> None:
    p = program(
        "graph g(%x: f32[2]) { %c: f32[2] = add(@a, @b) %y: f32[2] = mul(%x, %c) return %y }",
        a=f32(2),
        b=f32(2),
    )
    check(p, fold, ["%y: f32[2] = mul(%x, @c)"])


def test_batch_norm_after_conv_goes_into_its_weights() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,3]) {
          %c: f32[1,3,3,4] = conv2d(%x, @w)
          %y: f32[1,3,3,4] = batch_norm(%c, @g, @b, @m, @v) {eps=0.001}
          return %y }""",
        w=f32(4, 3, 3, 3),
        g=f32(4),
        b=f32(4),
        m=f32(4),
        v=np.abs(f32(4)),
    )
    check(p, fold, ["%y: f32[1,3,3,4] = conv2d(%x, @w_1, @w.bias)"])


def test_batch_norm_before_a_grouped_conv_goes_into_its_weights() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,4]) {
          %n: f32[1,5,5,4] = batch_norm(%x, @g, @b, @m, @v) {eps=0.001}
          %y: f32[1,3,3,6] = conv2d(%n, @w, @bias) {groups=2}
          return %y }""",
        w=f32(6, 3, 3, 2),
        bias=f32(6),
        g=f32(4),
        b=f32(4),
        m=f32(4),
        v=np.abs(f32(4)),
    )
    check(p, fold, ["%y: f32[1,3,3,6] = conv2d(%x, @w_1, @bias_1) {groups=2}"])


def test_batch_norm_before_a_padded_conv_stays() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,4]) {
          %n: f32[1,5,5,4] = batch_norm(%x, @g, @g, @g, @v) {eps=0.001}
          %y: f32[1,5,5,6] = conv2d(%n, @w) {pad=(1,1,1,1)}
          return %y }""",
        w=f32(6, 3, 3, 4),
        g=f32(4),
        v=np.abs(f32(4)),
    )
    assert fold(p) is p


def test_factors_and_offsets_of_channels_go_into_the_weights() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,3]) {
          %c: f32[1,3,3,4] = conv2d(%x, @w)
          %s: f32[1,3,3,4] = mul(%c, @f)
          %t: f32[1,3,3,4] = sub(%s, @o)
          %y: f32[1,3,3,4] = div(%t, @two)
          return %y }""",
        w=f32(4, 3, 3, 3),
        f=f32(4),
        o=f32(1, 1, 1, 4),
        two=np.float32(2),
    )
    result = fold(p)
    assert [n.op for n in result.graphs[0].nodes] == ["conv2d"]
    same_numbers(p, result)


def test_a_conv_that_others_read_keeps_its_weights() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,3]) {
          %c: f32[1,3,3,4] = conv2d(%x, @w)
          %y: f32[1,3,3,4] = mul(%c, @f)
          return %y, %c }""",
        w=f32(4, 3, 3, 3),
        f=f32(4),
    )
    assert fold(p) is p


@pytest.mark.parametrize(
    ("clamp", "act"),
    [("relu(%c)", "(0.0,inf)"), ("relu6(%c)", "(0.0,6.0)"), ("clamp(%c) {min=-1.0}", "(-1.0,inf)")],
)
def test_a_clamp_after_conv_becomes_its_act(clamp: str, act: str) -> None:
    p = program(
        f"""graph g(%x: f32[1,5,5,3]) {{
          %c: f32[1,3,3,4] = conv2d(%x, @w)
          %y: f32[1,3,3,4] = {clamp}
          return %y }}""",
        w=f32(4, 3, 3, 3),
    )
    check(p, fuse, [f"%y: f32[1,3,3,4] = conv2d(%x, @w) {{act={act}}}"])


def test_clamps_intersect() -> None:
    p = program(
        """graph g(%x: f32[4]) {
          %a: f32[4] = add(%x, @c)
          %b: f32[4] = clamp(%a) {min=-1.0, max=2.0}
          %y: f32[4] = relu6(%b)
          return %y }""",
        c=f32(4),
    )
    check(p, fuse, ["%y: f32[4] = add(%x, @c) {act=(0.0,2.0)}"])


def test_relu_after_max_pool_goes_before_it() -> None:
    p = program(
        """graph g(%x: f32[1,6,6,3]) {
          %c: f32[1,4,4,4] = conv2d(%x, @w)
          %m: f32[1,2,2,4] = max_pool2d(%c) {kernel=(2,2), stride=(2,2)}
          %y: f32[1,2,2,4] = relu(%m)
          return %y }""",
        w=f32(4, 3, 3, 3),
    )
    check(
        p,
        fuse,
        [
            "%c_1: f32[1,4,4,4] = conv2d(%x, @w) {act=(0.0,inf)}",
            "%y: f32[1,2,2,4] = max_pool2d(%c_1) {kernel=(2,2), stride=(2,2)}",
        ],
    )


def test_a_pad_by_zero_goes_into_the_conv() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,3]) {
          %p: f32[1,6,7,3] = pad(%x) {pads=((0,0),(0,1),(1,1),(0,0))}
          %y: f32[1,4,5,4] = conv2d(%p, @w)
          return %y }""",
        w=f32(4, 3, 3, 3),
    )
    check(p, fuse, ["%y: f32[1,4,5,4] = conv2d(%x, @w) {pad=(0,1,1,1)}"])


def test_a_pad_by_one_stays_outside_the_conv() -> None:
    p = program(
        """graph g(%x: f32[1,5,5,3]) {
          %p: f32[1,6,6,3] = pad(%x) {pads=((0,0),(0,1),(0,1),(0,0)), value=1.0}
          %y: f32[1,4,4,4] = conv2d(%p, @w)
          return %y }""",
        w=f32(4, 3, 3, 3),
    )
    assert fuse(p) is p


def test_a_pad_by_zero_before_max_pool_goes_in_only_after_relu() -> None:
    text = """graph g(%x: f32[1,4,4,3]) {{
          %r: f32[1,4,4,3] = {op}(%x)
          %p: f32[1,6,6,3] = pad(%r) {{pads=((0,0),(1,1),(1,1),(0,0))}}
          %y: f32[1,3,3,3] = max_pool2d(%p) {{kernel=(2,2), stride=(2,2)}}
          return %y }}"""
    check(
        program(text.format(op="relu")),
        fuse,
        [
            "%r: f32[1,4,4,3] = relu(%x)",
            "%y: f32[1,3,3,3] = max_pool2d(%r) {kernel=(2,2), stride=(2,2), pad=(1,1,1,1)}",
        ],
    )
    negative = program(text.format(op="neg"))
    assert fuse(negative) is negative


def test_a_pad_before_an_average_counts_its_zeros() -> None:
    p = program(
        """graph g(%x: f32[1,4,4,3]) {
          %p: f32[1,6,6,3] = pad(%x) {pads=((0,0),(1,1),(1,1),(0,0))}
          %y: f32[1,3,3,3] = avg_pool2d(%p) {kernel=(2,2), stride=(2,2), count_include_pad=False}
          return %y }""",
    )
    after = fuse(p)
    assert [n.op for n in after.graphs[0].nodes] == ["avg_pool2d"]
    same_numbers(p, after)


def test_every_op_that_takes_a_clamp_has_the_attribute_for_it() -> None:
    from edgec.ops import OPS

    assert all("act" in OPS[op].attrs.__dataclass_fields__ for op in WITH_ACT)


def test_conv1d_becomes_conv2d_over_one_column() -> None:
    p = program(
        """graph g(%x: f32[1,9,3]) {
          %y: f32[1,5,4] = conv1d(%x, @w, @b) {stride=2, pad=(1,1)}
          return %y }""",
        w=f32(4, 3, 3),
        b=f32(4),
    )
    check(
        p,
        legalize,
        [
            "%y.map: f32[1,9,1,3] = reshape(%x) {shape=(1,9,1,3)}",
            "%y.conv: f32[1,5,1,4] = conv2d(%y.map, @w_1, @b) {stride=(2,1), pad=(1,1,0,0)}",
            "%y: f32[1,5,4] = reshape(%y.conv) {shape=(1,5,4)}",
        ],
    )


def test_a_batch_norm_that_cannot_fold_becomes_mul_and_add() -> None:
    p = program(
        "graph g(%x: f32[2,4]) { %y: f32[2,4] = batch_norm(%x, @g, @g, @g, @v) {eps=0.001} return %y }",
        g=f32(4),
        v=np.abs(f32(4)),
    )
    check(
        p, legalize, ["%y.scaled: f32[2,4] = mul(%x, @y.factor)", "%y: f32[2,4] = add(%y.scaled, @y.offset)"]
    )


def test_a_product_with_a_constant_matrix_becomes_linear() -> None:
    p = program(
        "graph g(%x: f32[2,5,4]) { %y: f32[2,5,3] = matmul(%x, @b) return %y }",
        b=f32(4, 3),
    )
    check(p, legalize, ["%y: f32[2,5,3] = linear(%x, @b_1)"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("%y: f32[2,4] = pow_scalar(%x) {exponent=2.0}", "%y: f32[2,4] = mul(%x, %x)"),
        ("%s: f32[2,4] = sigmoid(%x) %y: f32[2,4] = mul(%s, %x)", "%y: f32[2,4] = silu(%x)"),
        ("%y: f32[2,4] = div(%x, @c)", "%y: f32[2,4] = mul(%x, @c_1)"),
        (
            "%q: f32[2,4] = pow_scalar(%x) {exponent=2.0} "
            "%m: f32[2,1] = reduce_mean(%q) {axes=(1,), keepdims=True} "
            "%e: f32[2,1] = add(%m, @eps) %r: f32[2,1] = rsqrt(%e) %y: f32[2,4] = mul(%x, %r)",
            "%y: f32[2,4] = rms_norm(%x) {eps=0.5}",
        ),
    ],
)
def test_special_forms_become_one_op(before: str, after: str) -> None:
    p = program(f"graph g(%x: f32[2,4]) {{ {before} return %y }}", c=f32(4), eps=np.float32(0.5))
    check(p, legalize, [after])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("%a: f32[12] = reshape(%x) {shape=(12,)} %b: f32[3,4] = reshape(%a) {shape=(3,4)} %y: f32[3,4] = relu(%b)", "relu(%x)"),
        ("%a: f32[4,3] = transpose(%x) {perm=(1,0)} %b: f32[3,4] = transpose(%a) {perm=(1,0)} %y: f32[3,4] = relu(%b)", "relu(%x)"),
        ("%a: f32[3,4] = slice(%x) {axis=0, start=0, stop=3} %y: f32[3,4] = relu(%a)", "relu(%x)"),
        ("%a: f32[3,4] = add(%x, @zero) %b: f32[3,4] = mul(%a, @one) %y: f32[3,4] = relu(%b)", "relu(%x)"),
        ("%a: f32[3,4] = cast(%x) {dtype=\"f32\"} %y: f32[3,4] = neg(%a)", "neg(%x)"),
        ("%a: f32[3,4] = pad(%x) {pads=((0,0),(0,0))} %y: f32[3,4] = relu(%a)", "relu(%x)"),
        ("%a: f32[3,4] = expand(%x) {shape=(3,4)} %y: f32[3,4] = relu(%a)", "relu(%x)"),
        ("%a: f32[3,4] = expand(@one) {shape=(3,4)} %y: f32[3,4] = sub(%x, %a)", "sub(%x, @one)"),
        ("%a: f32[3,4] = where(@yes, %x, @zero) %y: f32[3,4] = relu(%a)", "relu(%x)"),
        ("%a: f32[3,4] = neg(%x) %b: f32[3,4] = neg(%x) %y: f32[3,4] = mul(%a, %b)", "mul(%a, %a)"),
    ],
)  # fmt: skip
def test_what_changes_nothing_goes(before: str, after: str) -> None:
    p = program(
        f"graph g(%x: f32[3,4]) {{ {before} return %y }}",
        zero=np.float32(0),
        one=np.float32(1),
        yes=np.ones((3, 4), bool),
    )
    result = simplify(p)
    assert body(result)[-1] == f"%y: f32[3,4] = {after}"
    assert len(result.graphs[0].nodes) == (2 if after == "mul(%a, %a)" else 1)
    same_numbers(p, result)


def test_equal_constants_become_one() -> None:
    c = f32(4)
    p = program(
        "graph g(%x: f32[4]) { %a: f32[4] = add(%x, @c) %y: f32[4] = mul(%a, @d) return %y }", c=c, d=c.copy()
    )
    result = simplify(p)
    assert list(result.constants) == ["c"]
    same_numbers(p, result)


def test_an_output_never_becomes_an_input() -> None:
    p = program("graph g(%x: f32[4]) { %y: f32[4] = add(%x, @zero) return %y }", zero=np.float32(0))
    assert simplify(p) is p


def test_rewriting_with_no_change_returns_the_same_object() -> None:
    b = Builder("g")
    b.output(b.call("relu", b.input("x", constant(f32(3)).type)), "y")
    p = b.program()
    assert rewrite(p, lambda at, node: None) is p
