"""softmax and log_softmax along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, NoQuant, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.movement import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]

EXP_BITS = 20  # the largest table entry is 2**20: 256 times it, and half the sum, fit 32 bits
SUM_BITS = 31
SOFTMAX_QUANT = (1.0 / 256.0, -128)


@dataclass(frozen=True, slots=True)
class SoftmaxAttrs(Attrs):
    """The axis that sums to one."""

    axis: int


@dataclass(frozen=True, slots=True)
class LogSoftmaxAttrs(Attrs):
    """The axis whose exponentials sum to one."""

    axis: int


def infer(attrs: SoftmaxAttrs | LogSoftmaxAttrs, types: Types) -> Types:
    require(len(types) == 1, "takes one input")
    x = types[0]
    require(0 <= attrs.axis < len(x.shape), f"axis {attrs.axis} of {len(x.shape)} axes")
    require(x.dims[attrs.axis] > 0, "the axis is empty")
    return (Type(x.shape, x.dtype),)


def softmax(attrs: SoftmaxAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    e = np.exp(x - x.max(attrs.axis, keepdims=True))
    return (e / e.sum(attrs.axis, keepdims=True),)


def vjp_softmax(b: Builder, node: Node, grads: Grads) -> Grads:
    """dx = y (dy - sum(dy y))."""
    assert isinstance(node.attrs, SoftmaxAttrs)
    grad, y = grads[0], node.outputs[0].name
    if grad is None:
        return (None,)
    total = emit(b, "reduce_sum", emit(b, "mul", grad, y), axes=(node.attrs.axis,), keepdims=True)
    return (emit(b, "mul", y, emit(b, "sub", grad, total)),)


def log_softmax(attrs: LogSoftmaxAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    z = x - x.max(attrs.axis, keepdims=True)
    return (z - np.log(np.exp(z).sum(attrs.axis, keepdims=True)),)


def vjp_log_softmax(b: Builder, node: Node, grads: Grads) -> Grads:
    """dx = dy - exp(y) sum(dy)."""
    assert isinstance(node.attrs, LogSoftmaxAttrs)
    grad = grads[0]
    if grad is None:
        return (None,)
    total = emit(b, "reduce_sum", grad, axes=(node.attrs.axis,), keepdims=True)
    return (emit(b, "sub", grad, emit(b, "mul", emit(b, "exp", node.outputs[0].name), total)),)


def exp_table(scale: float, count: int) -> Array:
    """u32[256]: round(exp(-scale d) 2**bits) for d = 0..255; bits = min(20, 31 - ceil(log2 count)), so that
    `count` entries add up to 2**31 at most."""
    bits = min(EXP_BITS, SUM_BITS - (count - 1).bit_length())
    e = np.exp(-np.float64(scale) * np.arange(256)) * float(1 << bits)
    return np.floor(e + 0.5).astype(np.uint32)


def quant_softmax(attrs: SoftmaxAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = min(127, (256 e + sum / 2) / sum - 128), e = table[max - x], all divisions rounding down."""
    quant = in_types[0].quant
    assert quant is not None and out_types[0].quant is not None
    assert out_types[0].quant.per_tensor == SOFTMAX_QUANT
    x, axis = inputs[0].astype(np.int64), attrs.axis
    table = exp_table(quant.per_tensor[0], x.shape[axis]).astype(np.int64)
    e = table[x.max(axis, keepdims=True) - x]
    total = e.sum(axis, keepdims=True)
    return (np.minimum(127, ((e << 8) + (total >> 1)) // total - 128).astype(np.int8),)


def cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """An exponential, a sum and a division an element."""
    return Cost(0, 3 * outputs[0].size)


define(
    Op(
        name="softmax",
        doc="exp(x - max) / sum along an axis. int8: e = round(exp(-S d) 2^bits) from a table of 256 u32, "
        "d = max - x, y = min(127, floor((256 e + floor(sum / 2)) / sum) - 128); output scale 1/256, "
        "zero -128.",
        attrs=SoftmaxAttrs,
        infer=infer,
        ref=softmax,
        vjp=vjp_softmax,
        quant=QuantRule(("activation",), SOFTMAX_QUANT, quant_softmax, max_lsb=1.0),
        cost=cost,
        examples=(
            Example("rows", SoftmaxAttrs(1), normal((4, 10)), lambda t, x: x.softmax(1)),
            Example("channels", SoftmaxAttrs(1), normal((2, 5, 3)), lambda t, x: x.softmax(1)),
            Example("long", SoftmaxAttrs(1), normal((2, 700)), lambda t, x: x.softmax(1)),
        ),
    )
)
define(
    Op(
        name="log_softmax",
        doc="x - max - log(sum(exp(x - max))) along an axis.",
        attrs=LogSoftmaxAttrs,
        infer=infer,
        ref=log_softmax,
        vjp=vjp_log_softmax,
        quant=NoQuant(
            "its output has no lower bound: int8 would lose the likely classes; use softmax or argmax"
        ),
        cost=cost,
        examples=(
            Example("rows", LogSoftmaxAttrs(1), normal((4, 10)), lambda t, x: x.log_softmax(1)),
            Example("channels", LogSoftmaxAttrs(1), normal((2, 5, 3)), lambda t, x: x.log_softmax(1)),
        ),
    )
)
