"""What kernel records of all families are written with: type tests, requantisation constants, clamps.

Everything a kernel can be told before it runs is worked out here, on the host, into Launch fields and Packed
constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.fixedpoint import I32, clamp_bounds, multipliers
from edgec.ir import Array, DType, Quant, Type
from edgec.plan import NodeView, Packed, Target

Field = tuple[str, int | float]
Fields = tuple[Field, ...]
Clamp = tuple[float, float] | None
Accepts = Callable[[NodeView, Target], bool]

FLOAT_MAX: Final = float(np.finfo(np.float32).max)
INT32_MAX: Final = 2**31 - 1


def is_s8(t: Type) -> bool:
    """Quantised int8 with one scale and zero for the whole tensor, static shape."""
    return t.dtype is DType.I8 and t.quant is not None and t.quant.axis is None and not t.bounds


def is_f32(t: Type) -> bool:
    """Plain float32, static shape."""
    return t.dtype is DType.F32 and not t.bounds


def all_f32(node: NodeView, target: Target) -> bool:
    """`accepts` of a kernel that takes and gives only float32."""
    return all(is_f32(t) for t in (*node.inputs, *node.outputs))


def all_s8(node: NodeView, target: Target) -> bool:
    """`accepts` of a kernel that takes and gives only per-tensor int8."""
    return all(is_s8(t) for t in (*node.inputs, *node.outputs))


def quant_of(t: Type) -> Quant:
    """The quantisation of a type that is known to have one."""
    assert t.quant is not None
    return t.quant


def zero_of(t: Type) -> int:
    """Zero point of a per-tensor quantised type."""
    return quant_of(t).per_tensor[1]


def constant(node: NodeView, index: int) -> Array:
    """Content of input `index`, which `accepts` has seen to be constant."""
    data = node.constants[index]
    assert data is not None
    return data


def channel_requant(
    x_scale: float, w_scale: tuple[float, ...], y_scale: float, channels: int
) -> tuple[I32, Array]:
    """Multiplier int32[channels] and right shift uint8[channels] of x_scale * w_scale / y_scale. w_scale has
    one entry or one per channel."""
    m, shift = multipliers([x_scale * s / y_scale for s in w_scale])
    return np.resize(m, channels), np.resize(shift, channels).astype(np.uint8)


def requant_constants(node: NodeView, channels: int) -> tuple[Packed, Packed]:
    """The constants `multiplier` and `shift` of a node with inputs x, w(, b) and one output channel axis."""
    m, shift = channel_requant(
        quant_of(node.inputs[0]).scale[0],
        quant_of(node.inputs[1]).scale,
        quant_of(node.outputs[0]).scale[0],
        channels,
    )
    return Packed("multiplier", "i32", m), Packed("shift", "u8", shift)


def folded_bias(node: NodeView) -> Packed:
    """bias - zero_in * sum of each output channel's weights, int32[O]; inputs x, w[O,...](, b)."""
    w = constant(node, 1).astype(np.int64)
    bias = bias_of(node).astype(np.int64) - zero_of(node.inputs[0]) * w.reshape(w.shape[0], -1).sum(1)
    return Packed("bias", "folded", bias.astype(np.int32))


def accumulators_fit(node: NodeView) -> bool:
    """Whether no partial sum of folded bias and products leaves int32: |b| + 256 * sum |w| < 2**31."""
    w = np.abs(constant(node, 1).astype(np.int64))
    most = np.abs(bias_of(node).astype(np.int64)) + 256 * w.reshape(w.shape[0], -1).sum(1)
    return int(most.max(initial=0)) <= INT32_MAX


def bias_of(node: NodeView) -> Array:
    """The int32 bias of a node with inputs x, w[O,...](, b); zeros where there is none."""
    outputs = node.inputs[1].dims[0]
    return constant(node, 2) if len(node.inputs) == 3 else np.zeros(outputs, np.int32)


def weighted_s8(node: NodeView, target: Target) -> bool:
    """`accepts`: x int8; w int8 and b int32 constant; y int8; and no partial sum leaves int32."""
    if not (is_s8(node.inputs[0]) and is_s8(node.outputs[0]) and node.inputs[1].dtype is DType.I8):
        return False
    return all(c is not None for c in node.constants[1:]) and accumulators_fit(node)


def weighted_inputs_f32(node: NodeView) -> tuple[tuple[int, ...], tuple[Packed, ...]]:
    """(inputs, constants) of a float kernel (x, w, b): an absent bias is a constant of zeros."""
    if len(node.inputs) == 3:
        return (0, 1, 2), ()
    return (0, 1), (Packed("bias", "f32", np.zeros(node.inputs[1].dims[0], np.float32)),)


def clamp_fields_s8(act: Clamp, y: Type) -> Fields:
    """act_min and act_max of an int8 output with a fused clamp."""
    low, high = clamp_bounds(act, quant_of(y))
    return ("act_min", low), ("act_max", high)


def clamp_fields_f32(act: Clamp) -> Fields:
    """act_min and act_max of a float32 output; open ends are the largest finite numbers, so that C needs no
    infinity."""
    low, high = act if act is not None else (-FLOAT_MAX, FLOAT_MAX)
    return ("act_min", max(low, -FLOAT_MAX)), ("act_max", min(high, FLOAT_MAX))


def int_fields(**fields: int) -> Fields:
    """Launch fields in the order written."""
    return tuple(fields.items())
