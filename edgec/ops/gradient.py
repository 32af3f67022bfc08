"""Ops on gradients of int8 values: rounding to the block floating point pair, sums with masks and factors,
masks joined.

A gradient is one float array g, or a pair: q int8 and e int32[1] that stand for q * 2**e (block_float.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.ir import NO_ATTRS, Array, Attrs, DType, Type
from edgec.ops.block_float import (
    aligned,
    block_float,
    is_pair,
    mantissa,
    pack_mask,
    require_mask,
    unpack_mask,
)
from edgec.ops.define import (
    Arrays,
    Example,
    NoGrad,
    NoQuant,
    Op,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import integers

NO_SECOND = NoGrad("second derivatives of training steps are not built")
PLAIN = NoQuant(
    "it works on gradients, whose integer form is a pair and not a quantised tensor", integers=True
)


@dataclass(frozen=True, slots=True)
class GradientSumAttrs(Attrs):
    """Per term: `factors`, and in `masked` whether a mask follows it."""

    factors: tuple[float, ...]
    masked: tuple[bool, ...]


def infer_quantize(attrs: Attrs, types: Types) -> Types:
    """g f32 -> q i8, e i32[1]."""
    require(len(types) == 1 and types[0].dtype is DType.F32, "takes one f32 gradient")
    return Type(types[0].shape, DType.I8), Type((1,), DType.I32)


def quantize(attrs: Attrs, inputs: Arrays) -> Arrays:
    """q = floor(g * 2**-e + 1/2) with the smallest e that keeps |q| <= 127."""
    g = inputs[0].astype(np.float32)
    largest = np.abs(g).max(initial=0.0)
    if not np.isfinite(largest) or largest < 2.0**-90 or largest > 2.0**90:
        return np.zeros(g.shape, np.int8), np.zeros(1, np.int32)
    e = int(np.frexp(largest)[1]) - 7
    if np.floor(largest * np.float32(2.0**-e) + np.float32(0.5)) > 127:
        e += 1
    q = np.floor(g * np.float32(2.0**-e) + np.float32(0.5))
    return q.astype(np.int8), np.array([e], np.int32)


def terms_of(attrs: GradientSumAttrs, pair: bool) -> list[tuple[int, int | None]]:
    """Of each term the input of its gradient and that of its mask."""
    found: list[tuple[int, int | None]] = []
    at = 0
    for masked in attrs.masked:
        mask = at + (2 if pair else 1)
        found.append((at, mask if masked else None))
        at = mask + (1 if masked else 0)
    return found


def infer_sum(attrs: GradientSumAttrs, types: Types) -> Types:
    """For each term g f32, or q i8 and e i32[1], then its mask u8 if it has one -> the same kind of gradient."""
    require(len(attrs.factors) == len(attrs.masked) in (1, 2), "adds one or two terms")
    pair = is_pair(types, 0)
    first = types[0]
    terms = terms_of(attrs, pair)
    count = sum(1 + pair + masked for masked in attrs.masked)
    require(len(types) == count, f"takes {count} inputs")
    for gradient, mask in terms:
        require(is_pair(types, gradient) == pair, "terms are of one kind")
        require(types[gradient].shape == first.shape, "terms have one shape")
        if mask is not None:
            require_mask(types[mask], first)
    return (first, Type((1,), DType.I32)) if pair else (first,)


def add(attrs: GradientSumAttrs, inputs: Arrays) -> Arrays:
    """sum_i factor_i * gradient_i where mask_i is 1."""
    pair = inputs[0].dtype == np.int8
    shape = inputs[0].shape
    values = []
    for gradient, mask in terms_of(attrs, pair):
        value: Array = inputs[gradient]
        if mask is not None:
            value = np.where(unpack_mask(inputs[mask], shape), value, np.zeros((), value.dtype))
        values.append(value)
    if not pair:
        kind = inputs[0].dtype.type
        scaled = [np.multiply(v, kind(f)) for v, f in zip(values, attrs.factors, strict=True)]
        return (np.asarray(scaled[0] if len(scaled) == 1 else np.add(scaled[0], scaled[1])),)
    terms = []
    for value, factor, (gradient, _) in zip(values, attrs.factors, terms_of(attrs, pair), strict=True):
        m, k = mantissa(factor)
        terms.append((value.astype(np.int64) * m, int(inputs[gradient + 1][0]) + k))
    acc, exponent = aligned(terms)
    q, shift = block_float(acc)
    return q, np.array([exponent + shift], np.int32)


def infer_mask_and(attrs: Attrs, types: Types) -> Types:
    """a u8[n], b u8[n] -> u8[n]."""
    require(len(types) == 2 and types[0] == types[1], "takes two masks of one size")
    require(types[0].dtype is DType.U8 and len(types[0].shape) == 1, "masks are u8[n]")
    return (types[0],)


def mask_and(attrs: Attrs, inputs: Arrays) -> Arrays:
    return (np.bitwise_and(inputs[0].astype(np.uint8), inputs[1].astype(np.uint8)),)


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A mask of a tensor of `shape`, three of four bits set."""
    return pack_mask(rng.random(shape) < 0.75)


def random_pair(rng: np.random.Generator, shape: tuple[int, ...], e: int = -9) -> Arrays:
    """A gradient with the exponent `e` and, as where rounding begins fine, small numbers first."""
    sizes = np.linspace(8, 127, int(np.prod(shape[:-1]))).reshape(*shape[:-1], 1)
    q = np.clip(np.round(rng.normal(size=shape) * sizes / 2), -127, 127).astype(np.int8)
    return q, np.array([e], np.int32)


def random_gradient(rng: np.random.Generator, shape: tuple[int, ...], pair: bool) -> Arrays:
    """A pair, or one f32 array."""
    return random_pair(rng, shape) if pair else ((0.1 * rng.normal(size=shape)).astype(np.float32),)


def _sum(label: str, shape: tuple[int, ...], attrs: GradientSumAttrs, pair: bool) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        made: list[Array] = []
        for index, masked in enumerate(attrs.masked):
            made += random_pair(rng, shape, -9 - 3 * index) if pair else random_gradient(rng, shape, False)
            made += [random_mask(rng, shape)] if masked else []
        return tuple(made)

    return Example(label, attrs, make, None)


def _floats(scale: float, *shape: int) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: ((scale * rng.normal(size=shape)).astype(np.float32),)


define(
    Op(
        name="gradient_quantize",
        doc="g f32 as a pair: q int8 = floor(g * 2^-e + 1/2) and e int32[1], the smallest e with |q| <= 127. Zero, not "
        "finite, or beyond 2^+-90: all 0, so that nothing is updated.",
        attrs=Attrs,
        infer=infer_quantize,
        ref=quantize,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=elementwise_cost,
        examples=(
            Example("vector", NO_ATTRS, _floats(0.01, 1, 160), None),
            Example("map", NO_ATTRS, _floats(900.0, 2, 3, 4, 5), None),
            Example("zero", NO_ATTRS, _floats(0.0, 1, 7), None),
            Example(
                "rounds to 128 first",
                NO_ATTRS,
                lambda rng: (np.array([127.6, -127.9, 3.0], np.float32),),
                None,
            ),
            Example("not finite", NO_ATTRS, lambda rng: (np.array([1.0, np.inf, np.nan], np.float32),), None),
        ),
    )
)

define(
    Op(
        name="gradient_sum",
        doc="sum_i factors[i] * g_i where mask_i is 1, of one or two gradients of one shape. Pairs: factors are 14-bit "
        "mantissas, the terms meet at the larger exponent less 8, the sum is rounded in block floating point.",
        attrs=GradientSumAttrs,
        infer=infer_sum,
        ref=add,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=elementwise_cost,
        examples=(
            _sum("pairs", (1, 4, 4, 5), GradientSumAttrs((0.7, 1.0), (True, False)), True),
            _sum("pairs, two masks", (2, 3, 3, 7), GradientSumAttrs((-1.3, 40.0), (True, True)), True),
            _sum("pair scaled", (1, 3, 5, 4), GradientSumAttrs((0.01,), (True,)), True),
            _sum("pair far below", (1, 2, 2, 6), GradientSumAttrs((1.0, 1e-9), (False, False)), True),
            _sum("float", (1, 4, 4, 5), GradientSumAttrs((0.7, 1.0), (True, False)), False),
            _sum("float scaled", (1, 4, 3, 5), GradientSumAttrs((0.3,), (True,)), False),
        ),
    )
)

define(
    Op(
        name="mask_and",
        doc="Bits that are 1 in both masks u8[n].",
        attrs=Attrs,
        infer=infer_mask_and,
        ref=mask_and,
        vjp=NoGrad("masks have no gradient"),
        quant=NoQuant("masks are bits"),
        cost=elementwise_cost,
        examples=(
            Example("odd size", NO_ATTRS, integers(0, 256, "uint8", (13,), (13,)), None),
            Example("one byte", NO_ATTRS, integers(0, 256, "uint8", (1,), (1,)), None),
        ),
    )
)
