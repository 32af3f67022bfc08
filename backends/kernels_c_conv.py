"""Kernel records of the C backend: convolution."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.kernel_record import (
    Clamp,
    Fields,
    accumulators_fit,
    clamp_fields_f32,
    clamp_fields_s8,
    constant,
    folded_bias,
    int_fields,
    is_f32,
    is_s8,
    requant_constants,
    zero_of,
)
from edgec.ir import DType
from edgec.ops.conv2d import Conv2dAttrs
from edgec.plan import Halo, Kernel, Launch, NodeView, Packed, Target


def conv_attrs(node: NodeView) -> Conv2dAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, Conv2dAttrs)
    return attrs


def is_depthwise(node: NodeView) -> bool:
    """Whether each output channel reads one input channel."""
    return conv_attrs(node).groups == node.inputs[0].dims[3]


def weighted_s8(node: NodeView) -> bool:
    """x int8; w int8, b int32 constant; y int8; and no partial sum leaves int32."""
    if not (is_s8(node.inputs[0]) and is_s8(node.outputs[0]) and node.inputs[1].dtype is DType.I8):
        return False
    return all(c is not None for c in node.constants[1:]) and accumulators_fit(node)


def weighted_f32(node: NodeView) -> bool:
    """All float32; w may be computed at run time, b then too, or is absent or constant."""
    if not all(is_f32(t) for t in (*node.inputs, *node.outputs)):
        return False
    constants = [c is not None for c in node.constants[1:]]
    return constants != [True, False]


def weighted_inputs_f32(node: NodeView) -> tuple[tuple[int, ...], tuple[Packed, ...]]:
    """(inputs, constants) of a float kernel (x, w, b): constants are packed, an absent bias is zeros."""
    packed = []
    inputs = [0]
    for index, name in ((1, "w"), (2, "bias")):
        if index == len(node.inputs):
            packed.append(Packed(name, "f32", np.zeros(node.inputs[1].dims[0], np.float32)))
        elif node.constants[index] is None:
            inputs.append(index)
        else:
            packed.append(Packed(name, "f32", constant(node, index)))
    return tuple(inputs), tuple(packed)


def conv_halo(node: NodeView) -> Halo:
    """Input rows of an output row."""
    attrs = conv_attrs(node)
    return Halo(node.inputs[1].dims[1], attrs.stride[0], attrs.pad[0], attrs.dilation[0])


def conv_geometry(node: NodeView) -> Fields:
    """The fields that all convolution structs begin with."""
    attrs = conv_attrs(node)
    x, w, y = node.inputs[0].dims, node.inputs[1].dims, node.outputs[0].dims
    return int_fields(
        in_h=x[1],
        in_w=x[2],
        in_c=x[3],
        out_h=y[1],
        out_w=y[2],
        out_c=y[3],
        kernel_h=w[1],
        kernel_w=w[2],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
        groups=attrs.groups,
    )


def whole_map_rings(node: NodeView) -> Fields:
    """Rings of a call whose buffers hold whole maps."""
    return int_fields(ring_0=node.inputs[0].dims[1], ring_y=node.outputs[0].dims[1])


def conv_fields_s8(node: NodeView) -> Fields:
    """The fields of `ec_conv2d_params`."""
    zeros = int_fields(zero_in=zero_of(node.inputs[0]), zero_out=zero_of(node.outputs[0]))
    act = clamp_fields_s8(conv_attrs(node).act, node.outputs[0])
    return (*conv_geometry(node), *zeros, *act, *whole_map_rings(node))


def launch_s8(node: NodeView, target: Target) -> Launch:
    """conv2d and depthwise: constants w, folded bias, multiplier, shift."""
    outputs = node.outputs[0].dims[3]
    constants = (
        Packed("w", "ohwi", constant(node, 1)),
        folded_bias(node),
        *requant_constants(node, outputs),
    )
    return Launch("ec_conv2d_params", conv_fields_s8(node), (0,), constants)


def launch_f32(node: NodeView, target: Target) -> Launch:
    """conv2d and depthwise: w and bias."""
    act: Clamp = conv_attrs(node).act
    fields = (*conv_geometry(node), *clamp_fields_f32(act), *whole_map_rings(node))
    inputs, constants = weighted_inputs_f32(node)
    return Launch("ec_conv2d_f32_params", fields, inputs, constants)


def _accepts_s8(node: NodeView, target: Target) -> bool:
    return weighted_s8(node)


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_s8",
        source="kernels/ec_conv2d_s8.c",
        rank=100,
        accepts=_accepts_s8,
        launch=launch_s8,
        halo=conv_halo,
    ),
)
