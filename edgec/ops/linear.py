"""linear and matmul: products over the last axis, with constant weights or between two activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops.conv2d import Clamp, clamp_gradient, rescale
from edgec.ops.define import Arrays, Cost, Example, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.sample import normal
from edgec.ops.terms import broadcast, unbroadcast

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]

ORDERED_MOST: Final = 1 << 16  # products of a matrix product that are added in order


@dataclass(frozen=True, slots=True)
class LinearAttrs(Attrs):
    """`act` is a fused clamp of the output, in real units."""

    act: Clamp = None


@dataclass(frozen=True, slots=True)
class MatmulAttrs(Attrs):
    """With `transpose_b` the second operand is b[...,N,K]."""

    transpose_b: bool = False


def linear_infer(attrs: LinearAttrs, types: Types) -> Types:
    """x[...,K], w[O,K], b[O] (optional) -> y[...,O]."""
    require(len(types) in (2, 3), "takes x, w and an optional b")
    x, w = types[0], types[1]
    require(len(x.shape) >= 1, "x has at least one axis")
    require(len(w.shape) == 2, f"w has 2 axes, here {len(w.shape)}")
    require(x.shape[-1] == w.shape[1], f"x has {x.dims[-1:]} channels, w takes {w.dims[1]}")
    require(len(types) == 2 or types[2].shape == w.shape[:1], f"b has shape {list(w.dims[:1])}")
    return (Type((*x.shape[:-1], w.shape[0]), x.dtype),)


def product(a: Array, b: Array) -> Array:
    """a @ b. A small one in float32, as of a head that trains, adds its products in the order of k and so gives the
    bits of the C kernels; a large one in the order of numpy's library."""
    rows = int(np.prod(a.shape[:-1]))
    if a.dtype != np.float32 or a.shape[-1] == 0 or rows * b.size > ORDERED_MOST:
        return np.asarray(np.matmul(a, b))
    products = np.multiply(a[..., :, None], b[..., None, :, :] if a.ndim > 1 else b)
    return np.asarray(np.cumsum(products, axis=-2, dtype=np.float32)[..., -1, :])


def linear_ref(attrs: LinearAttrs, inputs: Arrays) -> Arrays:
    y = product(inputs[0], inputs[1].T)
    if len(inputs) == 3:
        y = np.add(y, inputs[2])
    return (np.clip(y, *attrs.act) if attrs.act is not None else y,)


def linear_quant_ref(attrs: LinearAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize(sum (x - Zx) w + b, Sx Sw / Sy))."""
    x_quant, w_quant, y_quant = in_types[0].quant, in_types[1].quant, out_types[0].quant
    assert x_quant is not None and w_quant is not None and y_quant is not None
    acc = _integer_product(inputs[0], x_quant.zero[0], inputs[1].T, 0)
    if len(inputs) == 3:
        acc = acc + inputs[2].astype(np.int64)
    return (rescale(acc, x_quant.scale[0], w_quant.scale, y_quant.per_tensor, attrs.act, out_types[0]),)


def _integer_product(a: Array, zero_a: int, b: Array, zero_b: int) -> Array:
    """Exact int64 (a - zero_a) @ (b - zero_b): float64 products hold these integers exactly."""
    return np.asarray(np.matmul(a.astype(np.float64) - zero_a, b.astype(np.float64) - zero_b), np.int64)


def linear_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, LinearAttrs)
    if dy is None:
        return (None,) * len(node.inputs)
    x, w = node.inputs[:2]
    dy = clamp_gradient(b, node.outputs[0].name, dy, attrs.act)
    outputs, channels = b.types[w].dims
    rows = b.types[x].size // channels
    flat_dy = emit(b, "reshape", dy, shape=(rows, outputs))
    flat_x = emit(b, "reshape", x, shape=(rows, channels))
    dw = emit(b, "linear_weight_grad", flat_x, flat_dy)
    dx = emit(b, "reshape", emit(b, "matmul", flat_dy, w), shape=b.types[x].dims)
    return (dx, dw, emit(b, "reduce_sum", flat_dy, axes=(0,)))[: len(node.inputs)]


def linear_cost(attrs: LinearAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(outputs[0].size * inputs[1].dims[1])


def matmul_infer(attrs: MatmulAttrs, types: Types) -> Types:
    """a[...,M,K], b[...,K,N] -> y[...,M,N]; leading axes broadcast."""
    require(len(types) == 2, "takes a and b")
    a, b = types
    require(len(a.shape) >= 2 and len(b.shape) >= 2, "a and b have at least two axes")
    k, n = reversed(b.shape[-2:]) if attrs.transpose_b else b.shape[-2:]
    require(a.shape[-1] == k, f"a[...,M,K] has K = {a.dims[-1]}, b has {k}")
    return (Type((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], n), a.dtype),)


def matmul_ref(attrs: MatmulAttrs, inputs: Arrays) -> Arrays:
    a, b = inputs
    return (product(a, np.swapaxes(b, -1, -2) if attrs.transpose_b else b),)


def matmul_quant_ref(attrs: MatmulAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize(sum (a - Za)(b - Zb), Sa Sb / Sy))."""
    a_quant, b_quant, y_quant = in_types[0].quant, in_types[1].quant, out_types[0].quant
    assert a_quant is not None and b_quant is not None and y_quant is not None
    a, b = inputs
    acc = _integer_product(
        a, a_quant.zero[0], np.swapaxes(b, -1, -2) if attrs.transpose_b else b, b_quant.zero[0]
    )
    return (rescale(acc, a_quant.scale[0], b_quant.scale, y_quant.per_tensor, None, out_types[0]),)


def matmul_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, MatmulAttrs)
    if dy is None:
        return None, None
    left, right = node.inputs
    d_left = emit(b, "matmul", dy, right, transpose_b=not attrs.transpose_b)
    if attrs.transpose_b:
        d_right = emit(b, "matmul", _transposed(b, dy), left)
    else:
        d_right = emit(b, "matmul", _transposed(b, left), dy)
    return unbroadcast(b, d_left, left), unbroadcast(b, d_right, right)


def _transposed(b: Builder, ref: str) -> str:
    """`ref` with its last two axes exchanged."""
    rank = len(b.types[ref].shape)
    return emit(b, "transpose", ref, perm=(*range(rank - 2), rank - 1, rank - 2))


def matmul_cost(attrs: MatmulAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(outputs[0].size * inputs[0].dims[-1])


def _linear_torch(attrs: LinearAttrs) -> Callable[..., Any]:
    def torch(t, x, w, b=None):  # type: ignore[no-untyped-def]
        y = t.nn.functional.linear(x, w, b)
        return y.clamp(*attrs.act) if attrs.act is not None else y

    return torch


def _matmul_torch(t, a, b):  # type: ignore[no-untyped-def]
    return t.matmul(a, b)


define(
    Op(
        name="linear",
        doc="x[...,K] times the rows of w[O,K], plus b[O].",
        attrs=LinearAttrs,
        infer=linear_infer,
        ref=linear_ref,
        vjp=linear_vjp,
        quant=QuantRule(
            ("activation", "weight", "bias"), "calibrated", linear_quant_ref, max_lsb=1.0, weight_axis=0
        ),
        cost=linear_cost,
        examples=(
            Example(
                "vector, clamped",
                LinearAttrs((0.0, 6.0)),
                normal((1, 19), (7, 19), (7,)),
                _linear_torch(LinearAttrs((0.0, 6.0))),
            ),
            Example(
                "tokens, no bias", LinearAttrs(), normal((2, 3, 8), (5, 8)), _linear_torch(LinearAttrs())
            ),
            Example("one axis", LinearAttrs(), normal((33,), (4, 33), (4,)), _linear_torch(LinearAttrs())),
        ),
    )
)

define(
    Op(
        name="matmul",
        doc="a[...,M,K] times b[...,K,N] (b[...,N,K] with transpose_b); leading axes broadcast.",
        attrs=MatmulAttrs,
        infer=matmul_infer,
        ref=matmul_ref,
        vjp=matmul_vjp,
        quant=QuantRule(("activation", "activation"), "calibrated", matmul_quant_ref, max_lsb=1.0),
        cost=matmul_cost,
        examples=(
            Example("batched", MatmulAttrs(), normal((2, 3, 4, 5), (2, 3, 5, 6)), _matmul_torch),
            Example(
                "transposed b, broadcast",
                MatmulAttrs(transpose_b=True),
                normal((2, 3, 4, 9), (3, 7, 9)),
                lambda t, a, b: t.matmul(a, b.transpose(-1, -2)),
            ),
            Example("both broadcast", MatmulAttrs(), normal((2, 1, 4, 5), (3, 5, 2)), _matmul_torch),
            Example("plain", MatmulAttrs(), normal((6, 17), (17, 3)), _matmul_torch),
        ),
    )
)
