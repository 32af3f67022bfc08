"""gradient_float: a gradient of int8 training as plain floats, for ops whose backward is that of their float form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Attrs, DType, Type
from edgec.ops.block_float import power_of_two, require_mask, require_scalar, unpack_mask
from edgec.ops.define import Arrays, Example, Op, Types, define, elementwise_cost, require
from edgec.ops.gradient import NO_SECOND, PLAIN, random_mask, random_pair


@dataclass(frozen=True, slots=True)
class GradientFloatAttrs(Attrs):
    """`factor` multiplies; `masked`: a mask follows the pair."""

    factor: float
    masked: bool = False


def infer(attrs: GradientFloatAttrs, types: Types) -> Types:
    """q i8, e i32[1] (, mask u8) -> g f32."""
    require(len(types) == 2 + attrs.masked, "takes a pair, and a mask where masked")
    require(types[0].dtype is DType.I8, "q is i8")
    require_scalar(types[1], DType.I32, "e")
    if attrs.masked:
        require_mask(types[2], types[0])
    return (Type(types[0].shape, DType.F32),)


def ref(attrs: GradientFloatAttrs, inputs: Arrays) -> Arrays:
    """(q * 2**e) * factor where the mask is 1: the first product is exact."""
    scale = power_of_two(int(inputs[1][0]))
    g = inputs[0].astype(np.float32) * scale * np.float32(attrs.factor)
    if attrs.masked:
        g = np.where(unpack_mask(inputs[2], g.shape), g, np.float32(0))
    return (np.asarray(g, np.float32),)


def _example(label: str, shape: tuple[int, ...], attrs: GradientFloatAttrs, e: int = -9) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        return (*random_pair(rng, shape, e), *((random_mask(rng, shape),) if attrs.masked else ()))

    return Example(label, attrs, make, None)


define(
    Op(
        name="gradient_float",
        doc="A pair as floats: (q * 2^e) * factor where the mask is 1, else 0; e is brought into [-126, 127].",
        attrs=GradientFloatAttrs,
        infer=infer,
        ref=ref,
        vjp=NO_SECOND,
        quant=PLAIN,
        cost=elementwise_cost,
        examples=(
            _example("masked map", (1, 3, 5, 7), GradientFloatAttrs(0.7, True)),
            _example("rows", (2, 11), GradientFloatAttrs(40.0)),
            _example("exponent below floats", (1, 9), GradientFloatAttrs(1.0), -300),
        ),
    )
)
