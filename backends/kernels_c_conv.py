"""Kernel records of the C backend: convolution and transposed convolution."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from edgec.backends.kernel_record import (
    Fields,
    all_f32,
    bias_of,
    clamp_fields_f32,
    clamp_fields_s8,
    constant,
    folded_bias,
    int_fields,
    requant_constants,
    weighted_inputs_f32,
    weighted_s8,
    zero_of,
)
from edgec.ops.conv import ConvTranspose2dAttrs
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
    act = clamp_fields_f32(conv_attrs(node).act)
    fields = (*conv_geometry(node), *act, *whole_map_rings(node))
    inputs, constants = weighted_inputs_f32(node)
    return Launch("ec_conv2d_f32_params", fields, inputs, constants)


def launch_depthwise_s8(node: NodeView, target: Target) -> Launch:
    """As `launch_s8`, the weights in the order [R][S][C]."""
    launch = launch_s8(node, target)
    w = np.ascontiguousarray(constant(node, 1)[..., 0].transpose(1, 2, 0))
    return replace(launch, constants=(Packed("w", "rsc", w), *launch.constants[1:]))


def depthwise_s8(node: NodeView, target: Target) -> bool:
    """`accepts` of an int8 kernel for groups == C with one output a channel."""
    single = node.inputs[1].dims[0] == node.inputs[0].dims[3]
    return weighted_s8(node, target) and is_depthwise(node) and single


def is_pointwise(node: NodeView) -> bool:
    """1x1 kernel, one group, no padding; any stride."""
    attrs = conv_attrs(node)
    return node.inputs[1].dims[1:3] == (1, 1) and attrs.groups == 1 and not any(attrs.pad)


def pointwise_s8(node: NodeView, target: Target) -> bool:
    """`accepts` of an int8 kernel for 1x1 convolutions."""
    return weighted_s8(node, target) and is_pointwise(node)


def depthwise_f32(node: NodeView, target: Target) -> bool:
    """`accepts` of a float kernel for groups == C."""
    return all_f32(node, target) and is_depthwise(node)


def _transpose_attrs(node: NodeView) -> ConvTranspose2dAttrs:
    attrs = node.node.attrs
    assert isinstance(attrs, ConvTranspose2dAttrs)
    return attrs


def _transpose_geometry(node: NodeView) -> Fields:
    """The fields that both transposed convolution structs begin with."""
    attrs = _transpose_attrs(node)
    x, w, y = node.inputs[0].dims, node.inputs[1].dims, node.outputs[0].dims
    common = tuple(math.gcd(s, d) for s, d in zip(attrs.stride, attrs.dilation, strict=True))
    return int_fields(
        batch=x[0],
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
        step_h=attrs.stride[0] // common[0],
        step_w=attrs.stride[1] // common[1],
        back_h=attrs.dilation[0] // common[0],
        back_w=attrs.dilation[1] // common[1],
    )


def _launch_transpose_s8(node: NodeView, target: Target) -> Launch:
    zeros = int_fields(zero_in=zero_of(node.inputs[0]), zero_out=zero_of(node.outputs[0]))
    act = clamp_fields_s8(_transpose_attrs(node).act, node.outputs[0])
    # The bias stays unfolded: how many taps reach an output differs from output to output.
    constants = (
        Packed("w", "ohwi", constant(node, 1)),
        Packed("bias", "i32", bias_of(node)),
        *requant_constants(node, node.outputs[0].dims[3]),
    )
    fields = (*_transpose_geometry(node), *zeros, *act)
    return Launch("ec_conv_transpose2d_params", fields, (0,), constants)


def _launch_transpose_f32(node: NodeView, target: Target) -> Launch:
    fields = (*_transpose_geometry(node), *clamp_fields_f32(_transpose_attrs(node).act))
    inputs, constants = weighted_inputs_f32(node)
    return Launch("ec_conv_transpose2d_f32_params", fields, inputs, constants)


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_s8",
        source="kernels/ec_depthwise_conv2d_s8.c",
        rank=90,
        accepts=depthwise_s8,
        launch=launch_depthwise_s8,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_pointwise_conv2d_s8",
        source="kernels/ec_pointwise_conv2d_s8.c",
        rank=91,
        accepts=pointwise_s8,
        launch=launch_s8,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_s8",
        source="kernels/ec_conv2d_s8.c",
        rank=100,
        accepts=weighted_s8,
        launch=launch_s8,
        halo=conv_halo,
        specialize=True,  # M0: ResNet-8 6 %, DS-CNN 1 % fewer instructions, and less text
    ),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_f32",
        source="kernels/ec_depthwise_conv2d_f32.c",
        rank=90,
        accepts=depthwise_f32,
        launch=launch_f32,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_f32",
        source="kernels/ec_conv2d_f32.c",
        rank=100,
        accepts=all_f32,
        launch=launch_f32,
        halo=conv_halo,
    ),
    Kernel(
        op="conv_transpose2d",
        symbol="ec_conv_transpose2d_s8",
        source="kernels/ec_conv_transpose2d_s8.c",
        rank=100,
        accepts=weighted_s8,
        launch=_launch_transpose_s8,
    ),
    Kernel(
        op="conv_transpose2d",
        symbol="ec_conv_transpose2d_f32",
        source="kernels/ec_conv_transpose2d_f32.c",
        rank=100,
        accepts=all_f32,
        launch=_launch_transpose_f32,
    ),
)
