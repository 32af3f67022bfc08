"""Random graphs through every float pass and quantisation: always sound, always near float where nothing is
lost."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec import interp
from edgec.build import Builder, constant
from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import NO_ATTRS, Array, DType, Node, Persistence, Program, Type
from edgec.ops import OPS
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.ops.slicing import SplitAttrs
from edgec.ops.softmax import SoftmaxAttrs
from edgec.passes.calibrate import METHODS, calibrate
from edgec.passes.equalize import equalize
from edgec.passes.fold import fold
from edgec.passes.fuse import fuse
from edgec.passes.layout import layout
from edgec.passes.legalize import legalize
from edgec.passes.quantize import Scheme, float_islands, quantize
from edgec.passes.simplify import simplify
from edgec.text import read_program, show
from edgec.verify import verify

UNARY = ("relu", "relu6", "sigmoid", "tanh", "hardswish", "abs", "neg", "exp", "silu")
KINDS = (
    *(
        "unary",
        "unary",
        "conv",
        "conv",
        "depthwise",
        "binary",
        "binary",
        "constant",
        "concat",
        "split",
        "pool",
    ),
    *(
        "global",
        "mean",
        "softmax",
        "transpose",
        "reshape",
        "pad",
        "where",
        "log_softmax",
        "div",
        "state",
        "norm",
    ),
)


def f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def grow(b: Builder, ref: str, kind: str, draw: st.DrawFn, rng: np.random.Generator) -> str:
    """One more op on a rank-4 value; the result has rank 4."""
    dims = b.types[ref].dims
    axis = draw(st.integers(1, 3))
    peers = [r for r, t in b.types.items() if r[0].isalpha() and t.dims == dims and t.dtype is DType.F32]
    other = draw(st.sampled_from(peers))
    match kind:
        case "conv":
            w = b.constant(
                f32(rng, draw(st.integers(1, 5)), 1, 1, dims[3])
                * draw(st.sampled_from([0.0, 1e-9, 1.0, 50.0]))
            )
            return b.call("conv2d", ref, w, b.constant(f32(rng, b.types[w].dims[0])), attrs=Conv2dAttrs())
        case "depthwise":
            w = b.constant(f32(rng, dims[3], 3, 3, 1))
            return b.call("conv2d", ref, w, attrs=Conv2dAttrs(pad=(1, 1, 1, 1), groups=dims[3]))
        case "binary":
            op = draw(st.sampled_from(["add", "sub", "mul", "minimum", "maximum"]))
            return b.call(op, ref, other, attrs=OPS[op].attrs())
        case "constant":
            c = f32(rng, *(d if draw(st.booleans()) else 1 for d in dims))
            return b.call(draw(st.sampled_from(["add", "mul"])), ref, b.constant(c), attrs=OPS["add"].attrs())
        case "concat":
            return b.call("concat", ref, other, attrs=ConcatAttrs(axis))
        case "split" if dims[axis] > 1:
            return b.node("split", (ref,), SplitAttrs(axis, (1, dims[axis] - 1)))[1]
        case "pool":
            return b.call("max_pool2d", ref, attrs=MaxPool2dAttrs((2, 2), (1, 1), (1, 0, 1, 0)))
        case "global":
            return b.call("adaptive_avg_pool2d", ref, attrs=AdaptiveAvgPool2dAttrs((1, 1)))
        case "mean":
            return b.call("reduce_mean", ref, attrs=ReduceAttrs((axis,), keepdims=True))
        case "softmax" | "log_softmax":
            return b.call(kind, ref, attrs=OPS[kind].attrs(3) if kind != "softmax" else SoftmaxAttrs(3))
        case "transpose":
            return b.call("transpose", ref, attrs=TransposeAttrs(tuple(draw(st.permutations(range(4))))))
        case "reshape":
            return b.call("reshape", ref, attrs=ReshapeAttrs((1, dims[0] * dims[1], dims[3], dims[2])))
        case "pad":
            return b.call(
                "pad",
                ref,
                attrs=PadAttrs(((0, 0), (1, 0), (0, 1), (0, 0)), draw(st.sampled_from([0.0, 2.0]))),
            )
        case "where":
            mask = b.constant(rng.integers(0, 2, (1, 1, 1, dims[3])).astype(bool))
            return b.call("where", mask, ref, draw(st.sampled_from([other, b.constant(np.float32(-3))])))
        case "div":
            return b.call("div", ref, b.call("exp", other))
        case "state":
            name = b.add_state("s", constant(np.zeros(dims, np.float32)), Persistence.KEPT)
            kept = b.call("add", ref, name, attrs=OPS["add"].attrs())
            b.updates.append((name[1:], kept))
            return kept
        case "norm":
            parameters = [b.constant(np.abs(f32(rng, dims[3])) + 0.5) for _ in range(4)]
            return b.call("batch_norm", ref, *parameters, attrs=OPS["batch_norm"].attrs(1e-3))
        case _:
            return b.call(draw(st.sampled_from(UNARY)), ref)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b = Builder("infer")
    refs = [b.input("x", Type((1, 4, 3, 4), DType.F32))]
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=10)):
        ref = grow(b, draw(st.sampled_from(refs[-3:])), kind, draw, rng)
        if b.types[ref].size > 3000:
            break
        refs.append(ref)
    b.output(b.call("relu", refs[-1], attrs=NO_ATTRS), "y")
    b.output(b.call("neg", draw(st.sampled_from(refs)), attrs=NO_ATTRS), "z")
    return b.program()


def run(p: Program, x: Array) -> list[Array]:
    """Real outputs for x in the user's layout."""
    g = p.graphs[0]
    (value,), (port,) = g.inputs, g.input_ports
    moved = x.transpose(port.axes)
    given = quantize_array(moved, value.type.quant) if value.type.quant else moved
    found, _ = interp.run(p, g, {value.name: given})
    types = p.type_of(g)
    real = []
    for port in g.output_ports:
        quant = types[port.ref].quant
        y = dequantize_array(found[port.ref], quant) if quant else found[port.ref]
        real.append(y.transpose(np.argsort(port.axes)))
    return real


def largest(p: Program, x: Array) -> float:
    """Largest magnitude of any value, infinite where one is not a number."""
    sizes = [0.0]

    def observe(node: Node, outputs: tuple[Array, ...]) -> None:
        sizes.extend(
            float(np.nan_to_num(np.abs(y), nan=np.inf).max(initial=0)) for y in outputs if y.dtype.kind == "f"
        )

    interp.run(p, p.graphs[0], {"x": x}, observe=observe)
    return max(sizes)


@settings(max_examples=200, deadline=None)
@given(programs(), st.sampled_from(METHODS), st.booleans())
def test_every_random_graph_becomes_a_sound_int8_graph(p: Program, method: str, equal: bool) -> None:
    verify(p)
    x = np.random.default_rng(0).normal(size=(1, 4, 3, 4)).astype(np.float32)
    with np.errstate(all="ignore"):
        assume(largest(p, x) < 1e6)  # an exp of an exp says nothing of the passes
    expected = run(p, x)
    q = p
    for step in (legalize, fold, layout, simplify, fold, fuse, *([equalize] if equal else [])):
        q = step(q)
        verify(q)
    for a, b in zip(expected, run(q, x), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(a).max(initial=0))))
    (value,) = q.graphs[0].inputs
    sample = {value.name: x.transpose(q.graphs[0].input_ports[0].axes)}
    int8 = quantize(q, calibrate(q, [sample], method), Scheme())  # type: ignore[arg-type]
    verify(int8)
    assert read_program(show(int8)) == int8
    for a, b in zip(expected, run(int8, x), strict=True):
        assert a.shape == b.shape
        assert np.isfinite(b).all()
    assert all(island.why for island in float_islands(int8))
