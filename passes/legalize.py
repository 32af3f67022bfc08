"""Legalisation: composite and special forms become the few ops that have kernels, and patterns that an op of
ours computes in one go become that op.

conv1d becomes conv2d over [N,L,1,C]; a batch norm that could not fold becomes mul and add; squares, roots and
divisions by constants become cheaper ops; a product with a constant matrix becomes linear; x * sigmoid(x)
becomes silu and x * rsqrt(mean(x**2) + eps) rms_norm; a split or unbind into many becomes slices or selects,
and a concat of many a tree of concats; float masks become boolean (masks.py). Results agree to float rounding,
not bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.ir import NO_ATTRS, Node, Program
from edgec.match import Rewrite, attr, rewrite
from edgec.ops import OPS
from edgec.ops.conv import Conv1dAttrs
from edgec.ops.joining import ConcatAttrs
from edgec.ops.norm import RmsNormAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.shape import ReshapeAttrs
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs, UnbindAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.fold import batch_norm_affine, fold
from edgec.passes.masks import boolean_attention, masked_choice, masked_sum
from edgec.passes.simplify import simplify

MAX_ROUNDS: Final = 4
SMALLEST_DIVISOR: Final = 1e-30  # 1 / x still is a normal float32
PIECES: Final = (2, 3, 4)  # outputs that a split kernel has
PARTS_MAX: Final = 8  # operands that a concat kernel takes
POWERS: Final[dict[float, str]] = {0.5: "sqrt", -0.5: "rsqrt"}


def legalize(program: Program, folded: Callable[[Program], Program] = fold) -> Program:
    """`program` in the ops that backends have. Same object where it is so already. `folded`: the pass that folds."""
    # First, so that a batch norm goes into a conv1d beside it while it still is one.
    program = folded(simplify(program))
    for _ in range(MAX_ROUNDS):
        before = program
        program = rewrite(program, _visit)
        if program is before:
            break
        program = remove_dead(program)
    return program


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op in ("split", "unbind"):
        return _pieces(at, node)
    rule = {
        "conv1d": _conv1d,
        "batch_norm": _batch_norm,
        "pow_scalar": _power,
        "div": _divide,
        "matmul": _matmul,
        "mul": _product,
        "concat": _concat,
        "add": masked_sum,
        "where": masked_choice,
        "attention": boolean_attention,
    }.get(node.op)
    ref = rule(at, node) if rule is not None else None
    return None if ref is None else (ref,)


def _name(node: Node) -> str:
    return node.outputs[0].name


def _reshaped(at: Rewrite, ref: str, shape: tuple[int, ...], name: str) -> str:
    """`ref` in another shape; a constant is reshaped here and now."""
    data = at.data(ref)
    if data is not None:
        return at.builder.constant(data.reshape(shape), ref[1:])
    return at.builder.call("reshape", ref, attrs=ReshapeAttrs(shape), name=name)


def _conv1d(at: Rewrite, node: Node) -> str | None:
    x, w = at.type(node.inputs[0]), at.type(node.inputs[1])
    if x.bounds:
        return None
    (n, length, c), (o, k, i) = x.dims, w.dims
    assert isinstance(node.attrs, Conv1dAttrs)
    attrs = node.attrs.as_2d
    wide = _reshaped(at, node.inputs[0], (n, length, 1, c), _name(node) + ".map")
    weight = _reshaped(at, node.inputs[1], (o, k, 1, i), _name(node) + ".kernel")
    y = at.builder.call("conv2d", wide, weight, *node.inputs[2:], attrs=attrs, name=_name(node) + ".conv")
    return _reshaped(at, y, node.outputs[0].type.dims, _name(node))


def _batch_norm(at: Rewrite, node: Node) -> str | None:
    affine = batch_norm_affine(at, node)
    if affine is None:
        return None
    dtype = at.type(node.inputs[0]).dtype.numpy
    factor = at.builder.constant(affine[0].astype(dtype), _name(node) + ".factor")
    offset = at.builder.constant(affine[1].astype(dtype), _name(node) + ".offset")
    scaled = at.builder.call(
        "mul", node.inputs[0], factor, attrs=OPS["mul"].attrs(), name=_name(node) + ".scaled"
    )
    return at.builder.call("add", scaled, offset, attrs=OPS["add"].attrs(), name=_name(node))


def _power(at: Rewrite, node: Node) -> str | None:
    x, exponent = node.inputs[0], float(attr(node, "exponent", object))  # type: ignore[arg-type]
    if exponent == 2.0:
        return at.builder.call("mul", x, x, attrs=OPS["mul"].attrs(), name=_name(node))
    op = POWERS.get(exponent)
    return at.builder.call(op, x, attrs=NO_ATTRS, name=_name(node)) if op is not None else None


def _divide(at: Rewrite, node: Node) -> str | None:
    """x / c becomes x * (1 / c), at one more rounding of the constant."""
    x, c = node.inputs
    data = at.data(c)
    if data is None or not at.type(c).dtype.is_float:
        return None
    divisor = np.asarray(data, np.float64)
    if not np.all(np.abs(divisor) > SMALLEST_DIVISOR):
        return None
    reciprocal = (1.0 / divisor).astype(data.dtype)
    factor = at.builder.constant(reciprocal, c[1:])
    return at.builder.call("mul", x, factor, attrs=OPS["mul"].attrs(), name=_name(node))


def _matmul(at: Rewrite, node: Node) -> str | None:
    """x[...,M,K] times a constant [K,N] is linear."""
    x, b = node.inputs
    data = at.data(b)
    if data is None or data.ndim != 2 or len(at.type(x).shape) < 2:
        return None
    weight = data if attr(node, "transpose_b", bool) else data.T
    w = at.builder.constant(np.ascontiguousarray(weight), b[1:])
    return at.builder.call("linear", x, w, attrs=OPS["linear"].attrs(), name=_name(node))


def _product(at: Rewrite, node: Node) -> str | None:
    if getattr(node.attrs, "act", None) is not None:
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        maker = at.maker(gate, "sigmoid")
        if maker is not None and maker.inputs[0] == x:
            return at.builder.call("silu", x, name=_name(node))
        eps = _root_mean_square(at, x, gate)
        if eps is not None:
            return at.builder.call("rms_norm", x, attrs=RmsNormAttrs(eps), name=_name(node))
    return None


def _pieces(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """A slice or select for each output. They are as good as one split where all are views, too."""
    if len(node.outputs) in PIECES or at.type(node.inputs[0]).bounds:
        return None
    attrs, made, start = node.attrs, [], 0
    for index, value in enumerate(node.outputs):
        if isinstance(attrs, SplitAttrs):
            stop = start + attrs.sizes[index]
            cut: SliceAttrs | SelectAttrs = SliceAttrs(attrs.axis, start, stop)
            start = stop
        else:
            assert isinstance(attrs, UnbindAttrs)
            cut = SelectAttrs(attrs.axis, index)
        op = "slice" if isinstance(cut, SliceAttrs) else "select"
        made.append(at.builder.call(op, node.inputs[0], attrs=cut, name=value.name))
    return tuple(made)


def _concat(at: Rewrite, node: Node) -> str | None:
    """Neighbours first, so that each operand is copied once a level; as few levels as the kernel allows."""
    refs, attrs = list(node.inputs), node.attrs
    if len(refs) <= PARTS_MAX:
        return None
    assert isinstance(attrs, ConcatAttrs)
    while len(refs) > PARTS_MAX:
        groups = [refs[i : i + PARTS_MAX] for i in range(0, len(refs), PARTS_MAX)]
        refs = [
            at.builder.call("concat", *g, attrs=attrs, name=_name(node) + ".part") if len(g) > 1 else g[0]
            for g in groups
        ]
    return at.builder.call("concat", *refs, attrs=attrs, name=_name(node))


def _root_mean_square(at: Rewrite, x: str, gate: str) -> float | None:
    """eps where gate = rsqrt(mean(x * x, last axis) + eps)."""
    root = at.maker(gate, "rsqrt")
    total = at.maker(root.inputs[0], "add") if root is not None else None
    if total is None:
        return None
    eps = at.data(total.inputs[1])
    mean = at.maker(total.inputs[0], "reduce_mean")
    if mean is None or eps is None or eps.size != 1:
        return None
    square = at.maker(mean.inputs[0], "mul", "pow_scalar")
    last = len(at.type(x).shape) - 1
    whole = isinstance(mean.attrs, ReduceAttrs) and mean.attrs.axes == (last,) and mean.attrs.keepdims
    if square is None or not whole or any(r != x for r in square.inputs):
        return None
    if square.op == "pow_scalar" and attr(square, "exponent", object) != 2.0:
        return None
    return float(eps.reshape(-1)[0])
