"""Changing how numbers are held: cast, quantize, dequantize, requantize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.fixedpoint import multiplier, requantize
from edgec.ir import NO_ATTRS, Array, Attrs, DType, Node, Quant, Type
from edgec.ops.define import (
    Arrays,
    Example,
    NoQuant,
    Op,
    QuantRule,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import Make, bits, integers, normal

if TYPE_CHECKING:
    from edgec.build import Builder


@dataclass(frozen=True, slots=True)
class CastAttrs(Attrs):
    """`dtype`: value of the DType, such as "f32"."""

    dtype: str


def _infer_cast(attrs: CastAttrs, types: Types) -> Types:
    """x not quantised -> the same shape in attrs.dtype."""
    require(len(types) == 1, "takes one input")
    require(types[0].quant is None, "takes a tensor that is not quantised")
    require(attrs.dtype in {d.value for d in DType}, f"there is no dtype {attrs.dtype}")
    return (Type(types[0].shape, DType(attrs.dtype)),)


def _cast(attrs: CastAttrs, inputs: Arrays) -> Arrays:
    with np.errstate(invalid="ignore"):
        return (inputs[0].astype(DType(attrs.dtype).numpy),)


def _cast_grad(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    source = builder.types[node.inputs[0]].dtype
    if grads[0] is None or not source.is_float or not node.outputs[0].type.dtype.is_float:
        return (None,)
    return (builder.call("cast", grads[0], attrs=CastAttrs(source.value)),)


def _same(builder: Builder, node: Node, grads: Sequence[str | None]) -> tuple[str | None, ...]:
    """Straight through: rounding is ignored."""
    return (grads[0],)


def _identity(attrs: Attrs, inputs: Arrays) -> Arrays:
    return (inputs[0],)


def _infer_quantize(attrs: Attrs, types: Types) -> Types:
    """x float -> the same; the Builder's `quants` make the output int8."""
    require(len(types) == 1 and types[0].quant is None, "takes one float tensor")
    require(types[0].dtype.is_float, f"takes floats, not {types[0].dtype.value}")
    return (Type(types[0].shape, types[0].dtype),)


def quantize_f32(x: Array, quant: Quant) -> Array:
    """int8 of float32, in float32 steps, each rounded once, as the C kernel does them:

        t = x * fl32(1 / S);  q = clamp(floor(min(max(t, -1024), 1024) + 0.5) + Z)

    A multiplication, since a division costs 14 cycles on a Cortex-M4F. It differs from
    `fixedpoint.quantize_array` by one step at most, and only within float32 rounding of a tie. NaN becomes Z.
    """
    scale, zero = quant.per_tensor
    with np.errstate(over="ignore"):
        t = x.astype(np.float32) * np.float32(1.0 / scale)
    t = np.clip(np.where(np.isnan(t), np.float32(0), t), np.float32(-1024), np.float32(1024))
    return np.asarray(np.clip(np.floor(t + np.float32(0.5)) + zero, -128, 127), np.int8)


def _quantize(attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """`quantize_f32`."""
    assert out_types[0].quant is not None
    return (quantize_f32(inputs[0], out_types[0].quant),)


def _infer_dequantize(attrs: Attrs, types: Types) -> Types:
    """x int8 -> f32."""
    require(len(types) == 1, "takes one input")
    t = types[0]
    require(t.quant is not None or t.dtype.is_float, "takes a quantised tensor")
    return (Type(t.shape, DType.F32 if t.quant is not None else t.dtype),)


def _dequantize(attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = fl32(S * (x - Z)): one float32 product of an exact integer."""
    assert in_types[0].quant is not None
    scale, zero = in_types[0].quant.per_tensor
    return ((inputs[0].astype(np.int32) - zero).astype(np.float32) * np.float32(scale),)


def _infer_requantize(attrs: Attrs, types: Types) -> Types:
    """x int8 of one quantisation -> int8 of another."""
    require(len(types) == 1, "takes one input")
    return (Type(types[0].shape, types[0].dtype),)


def requantize_multiplier(x: Type, y: Type) -> tuple[int, int]:
    """(m, shift) from steps of x to steps of y."""
    assert x.quant is not None and y.quant is not None
    return multiplier(x.quant.scale[0] / y.quant.scale[0])


def _requantize(attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Zy + requantize(x - Zx, Sx / Sy))."""
    x_quant, y_quant = in_types[0].quant, out_types[0].quant
    assert x_quant is not None and y_quant is not None
    m, shift = requantize_multiplier(in_types[0], out_types[0])
    y = requantize(inputs[0].astype(np.int64) - x_quant.zero[0], m, shift) + y_quant.zero[0]
    return (np.clip(y, -128, 127).astype(np.int8),)


def _cast_example(label: str, dtype: str, torch_dtype: str, make: Make) -> Example:
    def torch(t, x):  # type: ignore[no-untyped-def]
        return x.to(getattr(t, torch_dtype))

    return Example(label, CastAttrs(dtype), make, torch)


define(
    Op(
        name="cast",
        doc="x in another element type; to an integer the fraction is dropped, to a boolean not 0 is true.",
        attrs=CastAttrs,
        infer=_infer_cast,
        ref=_cast,
        vjp=_cast_grad,
        quant=NoQuant("changes the element type of a tensor that is not quantised"),
        cost=elementwise_cost,
        examples=(
            _cast_example("float to int32", "i32", "int32", normal((3, 5), std=9.0)),
            _cast_example("int64 to float", "f32", "float32", integers(-99, 99, "int64", (4, 4))),
            _cast_example("boolean to float", "f32", "float32", bits((1, 3, 4, 2))),
            _cast_example("int32 to boolean", "b8", "bool", integers(-1, 2, "int32", (9,))),
        ),
    )
)

_SHAPES = (("map", normal((1, 4, 5, 3))), ("vector", normal((11,), std=3.0)))

define(
    Op(
        name="quantize",
        doc="float32 to int8 of the output's scale and zero. In float the identity.",
        attrs=Attrs,
        infer=_infer_quantize,
        ref=_identity,
        vjp=_same,
        # The input stays float32, so its role is that of a float parameter.
        quant=QuantRule(("parameter",), "calibrated", _quantize, max_lsb=1.0),
        cost=elementwise_cost,
        examples=tuple(Example(label, NO_ATTRS, make, lambda t, x: x) for label, make in _SHAPES),
    )
)

define(
    Op(
        name="dequantize",
        doc="int8 to the float32 that it stands for. In float the identity.",
        attrs=Attrs,
        infer=_infer_dequantize,
        ref=_identity,
        vjp=_same,
        quant=QuantRule(("activation",), "plain", _dequantize, max_lsb=0.0),
        cost=elementwise_cost,
        examples=tuple(Example(label, NO_ATTRS, make, lambda t, x: x) for label, make in _SHAPES),
    )
)

define(
    Op(
        name="requantize",
        doc="int8 of one scale and zero to int8 of another. In float the identity.",
        attrs=Attrs,
        infer=_infer_requantize,
        ref=_identity,
        vjp=_same,
        quant=QuantRule(("activation",), "calibrated", _requantize, max_lsb=1.0),
        cost=elementwise_cost,
        examples=tuple(Example(label, NO_ATTRS, make, lambda t, x: x) for label, make in _SHAPES),
    )
)
