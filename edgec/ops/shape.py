"""Ops that move or rename data without cutting or joining: reshape, transpose, expand, roll, pixel_shuffle,
arange.

They work on every dtype; quantised tensors keep their quantisation and the integer form is the same movement.
Axes in attrs are non-negative. The ops that cut (slice, select, split, unbind) are in `slicing`, those that
join (concat, pad) in `joining`; their attrs can be imported from here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.ir import Array, Attrs, Bound, Dim, DType, Type
from edgec.ops.define import (
    Arrays,
    Example,
    NoGrad,
    NoQuant,
    Op,
    Types,
    define,
    no_cost,
    require,
)
from edgec.ops.emit import emit, sum_to
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.movement import normal, same_movement
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs, UnbindAttrs

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class ReshapeAttrs(Attrs):
    """New shape; one entry may be -1: the axis that takes what is left, and that keeps a Bound."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TransposeAttrs(Attrs):
    """Axis i of the output is axis perm[i] of the input."""

    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExpandAttrs(Attrs):
    """New shape, to which the input broadcasts; -1 keeps the input's size (and its Bound)."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RollAttrs(Attrs):
    """Element i along axes[k] moves to (i + shifts[k]) mod size."""

    shifts: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PixelShuffleAttrs(Attrs):
    """Upscaling factor r."""

    factor: int


@dataclass(frozen=True, slots=True)
class ArangeAttrs(Attrs):
    """start, start + step, ... before stop; `dtype` as it is written in the IR ("i32", "f32")."""

    start: float
    stop: float
    step: float
    dtype: str


def infer_reshape(attrs: ReshapeAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    wild = [i for i, d in enumerate(attrs.shape) if d == -1]
    require(len(wild) <= 1, f"at most one -1 in {attrs.shape}")
    known = math.prod(d for d in attrs.shape if d != -1)
    shape: list[Dim] = list(attrs.shape)
    require(len(x.bounds) <= len(wild), "a Bound needs the axis written as -1")
    if wild:
        require(known > 0 and x.size % known == 0, f"{x.size} elements do not divide into {attrs.shape}")
        left = x.size // known
        if x.bounds:
            require(x.bounds[0].max == left, f"the Bound {x.bounds[0]} does not stand alone in {attrs.shape}")
        shape[wild[0]] = x.bounds[0] if x.bounds else left
    else:
        require(known == x.size, f"{x.size} elements do not fill {attrs.shape}")
    return (Type(tuple(shape), x.dtype, x.quant),)


def vjp_reshape(b: Builder, node: Node, grads: Grads) -> Grads:
    x = b.types[node.inputs[0]]
    shape = tuple(-1 if isinstance(d, Bound) else d for d in x.shape)
    return (None if grads[0] is None else emit(b, "reshape", grads[0], shape=shape),)


def infer_transpose(attrs: TransposeAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    require(sorted(attrs.perm) == list(range(len(x.shape))), f"perm {attrs.perm} for {len(x.shape)} axes")
    return (Type(tuple(x.shape[p] for p in attrs.perm), x.dtype, x.quant),)


def vjp_transpose(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, TransposeAttrs)
    back = tuple(node.attrs.perm.index(i) for i in range(len(node.attrs.perm)))
    return (None if grads[0] is None else emit(b, "transpose", grads[0], perm=back),)


def infer_expand(attrs: ExpandAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    lead = len(attrs.shape) - len(x.shape)
    require(lead >= 0, f"{len(x.shape)} axes do not broadcast to {attrs.shape}")
    shape: list[Dim] = []
    for i, d in enumerate(attrs.shape):
        old = x.shape[i - lead] if i >= lead else None
        require(d == -1 or old is None or old in (1, d), f"axis {i}: {old} does not broadcast to {d}")
        require(d != -1 or old is not None, f"axis {i} is new and needs a size")
        shape.append(old if d == -1 and old is not None else d)
    return (Type(tuple(shape), x.dtype, x.quant),)


def expand(attrs: ExpandAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    lead = len(attrs.shape) - x.ndim
    shape = tuple(x.shape[i - lead] if d == -1 else d for i, d in enumerate(attrs.shape))
    return (np.broadcast_to(x, shape),)


def vjp_expand(b: Builder, node: Node, grads: Grads) -> Grads:
    return (None if grads[0] is None else sum_to(b, grads[0], b.types[node.inputs[0]].dims),)


def infer_roll(attrs: RollAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    require(len(attrs.shifts) == len(attrs.axes) > 0, "as many shifts as axes")
    require(len(set(attrs.axes)) == len(attrs.axes), f"axes {attrs.axes} repeat")
    for axis in attrs.axes:
        require(0 <= axis < len(x.shape) and isinstance(x.shape[axis], int), f"axis {axis} of {x.shape}")
    return (x,)


def vjp_roll(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, RollAttrs)
    back = tuple(-s for s in node.attrs.shifts)
    return (None if grads[0] is None else emit(b, "roll", grads[0], shifts=back, axes=node.attrs.axes),)


def infer_pixel_shuffle(attrs: PixelShuffleAttrs, types: Types) -> Types:
    require(len(types) == 1 and len(types[0].shape) == 4, "takes one input with 4 axes")
    x, r = types[0], attrs.factor
    h, w, c = x.dims[1:]
    require(r > 0 and c % (r * r) == 0, f"{c} channels do not divide by {r} * {r}")
    return (Type((x.shape[0], h * r, w * r, c // (r * r)), x.dtype, x.quant),)


def pixel_shuffle(attrs: PixelShuffleAttrs, inputs: Arrays) -> Arrays:
    """y[n, h r + i, w r + j, c] = x[n, h, w, (c r + i) r + j]."""
    x, r = inputs[0], attrs.factor
    n, h, w, c = x.shape
    cells = x.reshape(n, h, w, c // (r * r), r, r).transpose(0, 1, 4, 2, 5, 3)
    return (cells.reshape(n, h * r, w * r, c // (r * r)),)


def vjp_pixel_shuffle(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, PixelShuffleAttrs)
    if grads[0] is None:
        return (None,)
    r, (n, h, w, c) = node.attrs.factor, b.types[node.inputs[0]].dims
    cells = emit(b, "reshape", grads[0], shape=(n, h, r, w, r, c // (r * r)))
    cells = emit(b, "transpose", cells, perm=(0, 1, 3, 5, 2, 4))
    return (emit(b, "reshape", cells, shape=(n, h, w, c)),)


def infer_arange(attrs: ArangeAttrs, types: Types) -> Types:
    require(not types, "takes no input")
    require(attrs.step != 0, "step is not 0")
    count = math.ceil((attrs.stop - attrs.start) / attrs.step)
    require(count >= 0, f"{attrs.start} to {attrs.stop} by {attrs.step} is empty")
    return (Type((count,), DType(attrs.dtype)),)


def arange(attrs: ArangeAttrs, inputs: Arrays) -> Arrays:
    count = infer_arange(attrs, ())[0].size
    values: Array = attrs.start + attrs.step * np.arange(count, dtype=np.float64)
    return (values.astype(DType(attrs.dtype).numpy),)


def _move(
    name: str,
    doc: str,
    attrs: type[Attrs],
    infer: Callable[[Any, Types], Types],
    ref: Callable[[Any, Arrays], Arrays],
    vjp: Callable[[Builder, Node, Grads], Grads],
    examples: tuple[Example, ...],
) -> None:
    """Enter an op with one input whose integer form is the same movement."""
    define(Op(name, doc, attrs, infer, ref, vjp, same_movement(ref), no_cost, examples))


_move(
    "reshape",
    "The same elements in row-major order under another shape. No kernel: the output is an alias.",
    ReshapeAttrs,
    infer_reshape,
    lambda attrs, inputs: (inputs[0].reshape(attrs.shape),),
    vjp_reshape,
    (
        Example("flatten", ReshapeAttrs((2, 12)), normal((2, 3, 4)), lambda t, x: x.reshape(2, 12)),
        Example("-1 infers", ReshapeAttrs((3, -1)), normal((2, 3, 4)), lambda t, x: x.reshape(3, -1)),
    ),
)
_move(
    "transpose",
    "Permuted axes: y[i_perm] = x[i]; at most 6 axes in kernels.",
    TransposeAttrs,
    infer_transpose,
    lambda attrs, inputs: (inputs[0].transpose(attrs.perm),),
    vjp_transpose,
    (
        Example("matrix", TransposeAttrs((1, 0)), normal((3, 5)), lambda t, x: x.t()),
        Example(
            "heads", TransposeAttrs((0, 2, 1, 3)), normal((2, 5, 3, 4)), lambda t, x: x.permute(0, 2, 1, 3)
        ),
        Example(
            "six axes",
            TransposeAttrs((0, 1, 3, 2, 4, 5)),
            normal((1, 2, 3, 2, 2, 5)),
            lambda t, x: x.permute(0, 1, 3, 2, 4, 5),
        ),
    ),
)
_move(
    "expand",
    "Broadcast to a larger shape.",
    ExpandAttrs,
    infer_expand,
    expand,
    vjp_expand,
    (
        Example("rows", ExpandAttrs((4, 3)), normal((1, 3)), lambda t, x: x.expand(4, 3)),
        Example("new axis, -1", ExpandAttrs((2, -1, 5)), normal((3, 1)), lambda t, x: x.expand(2, -1, 5)),
    ),
)
_move(
    "roll",
    "Cyclic shift along axes.",
    RollAttrs,
    infer_roll,
    lambda attrs, inputs: (np.roll(inputs[0], attrs.shifts, attrs.axes),),
    vjp_roll,
    (
        Example("one axis", RollAttrs((2,), (1,)), normal((2, 5, 3)), lambda t, x: x.roll(2, 1)),
        Example(
            "window shift",
            RollAttrs((-1, -2), (1, 2)),
            normal((1, 4, 6, 3)),
            lambda t, x: x.roll((-1, -2), (1, 2)),
        ),
    ),
)


def _torch_shuffle(t: Any, x: Any, r: int) -> Any:
    return t.nn.functional.pixel_shuffle(x.permute(0, 3, 1, 2), r).permute(0, 2, 3, 1)


_move(
    "pixel_shuffle",
    "Depth to space, NHWC, PyTorch's channel order: y[n, h r + i, w r + j, c] = x[n, h, w, (c r + i) r + j].",
    PixelShuffleAttrs,
    infer_pixel_shuffle,
    pixel_shuffle,
    vjp_pixel_shuffle,
    (
        Example("x2", PixelShuffleAttrs(2), normal((1, 3, 4, 12)), lambda t, x: _torch_shuffle(t, x, 2)),
        Example("x3", PixelShuffleAttrs(3), normal((2, 2, 3, 9)), lambda t, x: _torch_shuffle(t, x, 3)),
    ),
)
define(
    Op(
        name="arange",
        doc="Numbers at equal steps. Has no input, so constant folding always removes it; no kernel exists.",
        attrs=ArangeAttrs,
        infer=infer_arange,
        ref=arange,
        vjp=NoGrad("arange has no input"),
        quant=NoQuant("arange becomes a constant before quantisation"),
        cost=no_cost,
        examples=(
            Example(
                "positions",
                ArangeAttrs(0, 7, 1, "i32"),
                lambda rng: (),
                lambda t: t.arange(7, dtype=t.int32),
            ),
            Example(
                "fractions",
                ArangeAttrs(1.0, -0.3, -0.5, "f32"),
                lambda rng: (),
                lambda t: t.arange(1.0, -0.3, -0.5),
            ),
        ),
    )
)

__all__ = [
    "ArangeAttrs",
    "ConcatAttrs",
    "ExpandAttrs",
    "PadAttrs",
    "PixelShuffleAttrs",
    "ReshapeAttrs",
    "RollAttrs",
    "SelectAttrs",
    "SliceAttrs",
    "SplitAttrs",
    "TransposeAttrs",
    "UnbindAttrs",
]
