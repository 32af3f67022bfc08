"""Layout: transposes cancel, or move to the ports and into weights. Numbers are compared in the user's layout."""

# ruff: noqa: E501

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import interp
from edgec.build import Builder, constant
from edgec.ir import NO_ATTRS, Array, DType, Program, Type
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs
from edgec.ops.softmax import SoftmaxAttrs
from edgec.passes.layout import layout
from edgec.passes.simplify import simplify
from edgec.text import read
from edgec.verify import verify


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def f32(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def user_outputs(p: Program, seed: int = 3) -> dict[str, Array]:
    """Outputs by label in the user's layout, for seeded inputs in the user's layout."""
    g = p.graphs[0]
    rng = np.random.default_rng(seed)
    inputs = {}
    for value, port in zip(g.inputs, g.input_ports, strict=True):
        shape = [0] * len(port.axes)
        for mine, theirs in enumerate(port.axes):
            shape[theirs] = value.type.dims[mine]
        inputs[value.name] = rng.normal(size=shape).astype(np.float32).transpose(port.axes)
    outputs, _ = interp.run(p, g, inputs)
    return {p.label: outputs[p.ref].transpose(np.argsort(p.axes)) for p in g.output_ports}


def check(before: Program) -> Program:
    """The program after layout and simplify; numbers must be equal."""
    after = simplify(layout(before))
    verify(after)
    a, b = user_outputs(before), user_outputs(after)
    assert list(a) == list(b)
    for label in a:
        np.testing.assert_allclose(b[label], a[label], rtol=1e-4, atol=1e-5)
    return after


def ops(p: Program) -> list[str]:
    return [n.op for n in p.graphs[0].nodes]


CONV = """graph g(%x: f32[1,3,6,6]) {
  in %x "image" (0,1,2,3)
  %t: f32[1,6,6,3] = transpose(%x) {perm=(0,2,3,1)}
  %c: f32[1,4,4,5] = conv2d(%t, @w)
  %u: f32[1,5,4,4] = transpose(%c) {perm=(0,3,1,2)}
  REST
}"""


def conv(rest: str, **constants: Array) -> Program:
    return program(CONV.replace("REST", rest), w=f32(5, 3, 3, 3), **constants)


def test_transposes_at_the_boundary_become_the_axes_of_the_ports() -> None:
    after = check(conv('out %u "y" (0,1,2,3) return %u'))
    g = after.graphs[0]
    assert ops(after) == ["conv2d"]
    assert g.input_ports[0].axes == (0, 2, 3, 1)
    assert g.output_ports[0].axes == (0, 2, 3, 1)


def test_a_pair_cancels_through_elementwise_ops_and_constants_of_channels() -> None:
    after = check(
        conv(
            """%r: f32[1,5,4,4] = relu(%u)
            %m: f32[1,5,4,4] = mul(%r, @s)
            %v: f32[1,4,4,5] = transpose(%m) {perm=(0,2,3,1)}
            %y: f32[1,4,4,2] = conv2d(%v, @p)
            out %y "y" (0,1,2,3) return %y""",
            s=f32(5, 1, 1),
            p=f32(2, 1, 1, 5),
        )
    )
    assert ops(after) == ["conv2d", "relu", "mul", "conv2d"]


@pytest.mark.parametrize(
    "rest",
    [
        '%y: f32[1,5,1,1] = reduce_mean(%u) {axes=(2,3), keepdims=True} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,5] = reduce_mean(%u) {axes=(2,3)} out %y "y" (0,1) return %y',
        '%y: f32[1,4,4] = reduce_max(%u) {axes=(1,)} out %y "y" (0,1,2) return %y',
        '%y: i32[1,4,4] = argmax(%u) {axis=1} out %y "y" (0,1,2) return %y',
        '%y: f32[1,5,4,4] = softmax(%u) {axis=1} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,2,4,4] = slice(%u) {axis=1, start=1, stop=5, step=2} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,4,4] = select(%u) {axis=1, index=2} out %y "y" (0,1,2) return %y',
        '%y: f32[1,5,6,5] = pad(%u) {pads=((0,0),(0,0),(1,1),(0,1))} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,10,4,4] = concat(%u, %u) {axis=1} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,5,4,4] = roll(%u) {shifts=(1,2), axes=(2,3)} out %y "y" (0,1,2,3) return %y',
        '%a: f32[1,2,4,4], %y: f32[1,3,4,4] = split(%u) {axis=1, sizes=(2,3)} out %y "y" (0,1,2,3) return %y',
        '%y: f32[1,5,16] = reshape(%u) {shape=(1,5,16)} out %y "y" (0,1,2) return %y',
        '%a: f32[1,1,5,4,4] = reshape(%u) {shape=(1,1,5,4,4)} out %a "y" (0,1,2,3,4) return %a',
        '%c2: f32[1,4,4,5] = add(%c, %c) %y: f32[1,5,4,4] = transpose(%c2) {perm=(0,3,1,2)} %z: f32[1,5,4,4] = add(%y, %u) out %z "y" (0,1,2,3) return %z',
    ],
)  # fmt: skip
def test_movements_and_reductions_work_in_the_order_of_the_map(rest: str) -> None:
    assert "transpose" not in ops(check(conv(rest)))


def test_flatten_before_linear_goes_into_the_weights() -> None:
    after = check(
        conv(
            """%f: f32[1,80] = reshape(%u) {shape=(1,80)}
            %r: f32[1,80] = relu(%f)
            %y: f32[1,7] = linear(%r, @l, @b)
            out %y "y" (0,1) return %y""",
            l=f32(7, 80),
            b=f32(7),
        )
    )
    assert ops(after) == ["conv2d", "reshape", "relu", "linear"]


def test_a_channel_shuffle_stays_among_the_channels() -> None:
    after = check(
        conv(
            """%a: f32[1,10,4,4] = concat(%u, %u) {axis=1}
            %r: f32[1,2,5,4,4] = reshape(%a) {shape=(1,2,5,4,4)}
            %s: f32[1,5,2,4,4] = transpose(%r) {perm=(0,2,1,3,4)}
            %m: f32[1,10,4,4] = reshape(%s) {shape=(1,10,4,4)}
            %v: f32[1,4,4,10] = transpose(%m) {perm=(0,2,3,1)}
            %y: f32[1,4,4,2] = conv2d(%v, @p)
            out %y "y" (0,1,2,3) return %y""",
            p=f32(2, 1, 1, 10),
        )
    )
    assert ops(after).count("transpose") == 1
    (shuffle,) = [n for n in after.graphs[0].nodes if n.op == "transpose"]
    assert shuffle.attrs == TransposeAttrs((0, 1, 2, 4, 3))


def test_a_squeeze_and_excite_branch_leaves_no_transpose() -> None:
    after = check(
        conv(
            """%m: f32[1,5] = reduce_mean(%u) {axes=(2,3)}
            %l: f32[1,5] = linear(%m, @l)
            %e: f32[1,5,1,1] = reshape(%l) {shape=(1,5,1,1)}
            %y: f32[1,5,4,4] = mul(%u, %e)
            out %y "y" (0,1,2,3) return %y""",
            l=f32(5, 5),
        )
    )
    assert "transpose" not in ops(after)


def test_an_input_is_turned_also_behind_a_normalisation() -> None:
    p = program(
        """graph g(%x: f32[1,3,6,6]) {
          in %x "image" (0,1,2,3)
          %n: f32[1,3,6,6] = sub(%x, @mean)
          %t: f32[1,6,6,3] = transpose(%n) {perm=(0,2,3,1)}
          %y: f32[1,4,4,5] = conv2d(%t, @w)
          out %y "y" (0,1,2,3) return %y }""",
        w=f32(5, 3, 3, 3),
        mean=f32(1, 3, 1, 1),
    )
    assert ops(check(p)) == ["sub", "conv2d"]


def test_a_map_of_one_channel_is_turned_by_its_port_too() -> None:
    p = program(
        """graph g(%x: f32[1,1,6,6]) {
          in %x "image" (0,1,2,3)
          %p: f32[1,1,7,7] = pad(%x) {pads=((0,0),(0,0),(0,1),(0,1))}
          %t: f32[1,7,7,1] = reshape(%p) {shape=(1,7,7,1)}
          %y: f32[1,5,5,5] = conv2d(%t, @w)
          out %y "y" (0,1,2,3) return %y }""",
        w=f32(5, 3, 3, 1),
    )
    assert ops(check(p)) == ["pad", "conv2d"]


def test_keys_that_are_transposed_for_a_product_are_read_so() -> None:
    p = program(
        """graph g(%q: f32[2,4,8], %k: f32[2,5,8]) {
          in %q "q" (0,1,2) in %k "k" (0,1,2)
          %t: f32[2,8,5] = transpose(%k) {perm=(0,2,1)}
          %y: f32[2,4,5] = matmul(%q, %t)
          out %y "y" (0,1,2) return %y }"""
    )
    assert "transpose" not in ops(check(p)) or check(p).graphs[0].input_ports[1].axes != (0, 1, 2)


def test_an_op_that_needs_its_own_order_gets_it_once() -> None:
    p = conv(
        """%i: f32[1,5,4,4] = gather(%u, @i) {axis=3}
        %j: f32[1,5,4,4] = gather(%u, @i) {axis=2}
        %y: f32[1,5,4,4] = add(%i, %j)
        out %y "y" (0,1,2,3) return %y""",
        i=np.zeros((1, 5, 4, 4), np.int32),
    )
    assert ops(check(p)).count("transpose") == 1


def test_a_graph_without_transposes_is_the_same_object() -> None:
    p = program("graph g(%x: f32[4]) { %y: f32[4] = relu(%x) return %y }")
    assert layout(p) is p


PERMS = st.permutations(range(4)).map(tuple)


def grow(b: Builder, ref: str, draw: st.DrawFn) -> str:
    """One more random op on a rank-4 value; the result has rank 4."""
    dims = b.types[ref].dims
    kind = draw(
        st.sampled_from(
            ["transpose", "unary", "add", "mean", "split", "pad", "concat", "softmax", "re", "conv", "select"]
        )
    )
    axis = draw(st.integers(0, 3))
    if kind == "transpose":
        return b.call("transpose", ref, attrs=TransposeAttrs(draw(PERMS)))
    if kind == "unary":
        return b.call("relu", ref)
    if kind == "add":
        other = [r for r, t in b.types.items() if r[0] != "@" and t.dims == dims]
        shape = [d if draw(st.booleans()) else 1 for d in dims]
        operand = draw(st.sampled_from([*other, b.constant(f32(*shape))]))
        return b.call("add", ref, operand, attrs=b_attrs("add"))
    if kind == "mean":
        return b.call("reduce_mean", ref, attrs=ReduceAttrs((axis,), keepdims=True))
    if kind == "split" and dims[axis] > 1:
        return b.node("split", (ref,), SplitAttrs(axis, (1, dims[axis] - 1)))[1]
    if kind == "pad":
        return b.call("pad", ref, attrs=PadAttrs(tuple((0, int(i == axis)) for i in range(4))))
    if kind == "concat":
        return b.call("concat", ref, ref, attrs=ConcatAttrs(axis))
    if kind == "softmax":
        return b.call("softmax", ref, attrs=SoftmaxAttrs(axis))
    if kind == "re":
        flat = b.call("reshape", ref, attrs=ReshapeAttrs((dims[0] * dims[1], dims[2], dims[3])))
        return b.call("reshape", flat, attrs=ReshapeAttrs((1, dims[0] * dims[1], dims[2], dims[3])))
    if kind == "conv":
        w = b.constant(f32(2, 1, 1, dims[3]))
        return b.call("conv2d", ref, w, attrs=Conv2dAttrs())
    if kind == "select":
        one = b.call("select", ref, attrs=SelectAttrs(axis, 0))
        left = b.types[one].dims
        return b.call("reshape", one, attrs=ReshapeAttrs((left[0], left[1], 1, left[2])))
    return b.call("slice", ref, attrs=SliceAttrs(axis, 0, dims[axis]))


def b_attrs(op: str):  # type: ignore[no-untyped-def]
    from edgec.ops import OPS

    return OPS[op].attrs()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_graphs_keep_their_numbers(data: st.DataObject) -> None:
    b = Builder("g")
    ref = b.input("x", Type((1, 2, 3, 4), DType.F32))
    refs = [ref]
    for _ in range(data.draw(st.integers(2, 9))):
        ref = grow(b, data.draw(st.sampled_from(refs[-2:])), data.draw)
        if b.types[ref].size > 4000 or math.prod(b.types[ref].dims) == 0:
            break
        refs.append(ref)
    b.output(b.call("tanh", refs[-1], attrs=NO_ATTRS), "y")
    b.output(b.call("abs", refs[len(refs) // 2], attrs=NO_ATTRS), "z")
    check(b.program())
