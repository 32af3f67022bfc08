"""Kernel records of the C backend with MVE (Helium, Armv8.1-M): int8 convolution and linear.

A record is accepted where the target has the instructions; the arithmetic is exact for every weight and shift.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from edgec.backends.kernel_record import bias_of, constant, weighted_s8
from edgec.backends.kernels_c_conv import conv_attrs, conv_halo, depthwise_s8, launch_s8, pointwise_s8
from edgec.backends.kernels_c_linear import launch_linear_s8
from edgec.plan import Kernel, Launch, NodeView, Packed, Target

RANK: Final = 5
ROWS: Final = 4  # of weights in a panel
VECTOR: Final = 16  # bytes
WINDOW_BYTES: Final = 6144  # EC_WINDOW_BYTES of ec_conv2d_s8_mve.c
EIGHT: Final = 8  # channels that the depthwise kernel takes at once


def packed_o4(node: NodeView) -> Packed:
    """The weights as panels of four outputs in chunks of 16 inputs (ec_mve_pointwise.h), zeros where there are
    none."""
    w = constant(node, 1)
    w = w.reshape(w.shape[0], -1)
    fours, chunks = -(-w.shape[0] // ROWS), -(-w.shape[1] // VECTOR)
    padded = np.zeros((fours * ROWS, chunks * VECTOR), np.int8)
    padded[: w.shape[0], : w.shape[1]] = w
    panels = padded.reshape(fours, ROWS, chunks, VECTOR).transpose(0, 2, 1, 3)
    return Packed("w", "mve_o4", np.ascontiguousarray(panels))


def packed_depthwise(node: NodeView) -> Packed:
    """The weights as int8[C / 8][R][S][8]."""
    w = constant(node, 1)[..., 0]
    eights = w.reshape(-1, EIGHT, *w.shape[1:]).transpose(0, 2, 3, 1)
    return Packed("w", "mve_dw", np.ascontiguousarray(eights))


def _pointwise(node: NodeView, target: Target) -> bool:
    return target.has("mve") and pointwise_s8(node, target)


def _dense(node: NodeView, target: Target) -> bool:
    return target.has("mve") and weighted_s8(node, target) and conv_attrs(node).groups == 1


def _linear(node: NodeView, target: Target) -> bool:
    return target.has("mve") and weighted_s8(node, target)


def _depthwise(node: NodeView, target: Target) -> bool:
    """One output a channel, whole eights of channels, no dilation."""
    eights = node.inputs[0].dims[-1] % EIGHT == 0
    return target.has("mve") and depthwise_s8(node, target) and eights and conv_attrs(node).dilation == (1, 1)


def _launch_pointwise(node: NodeView, target: Target) -> Launch:
    launch = launch_s8(node, target)
    return replace(launch, constants=(packed_o4(node), *launch.constants[1:]))


def _conv_scratch(node: NodeView, target: Target) -> int:
    window = node.inputs[1].size // node.inputs[1].dims[0]
    return window * min(node.outputs[0].dims[2], max(1, WINDOW_BYTES // window))


def _launch_linear(node: NodeView, target: Target) -> Launch:
    launch = launch_linear_s8(node, target)
    return replace(launch, constants=(packed_o4(node), *launch.constants[1:]))


def _launch_depthwise(node: NodeView, target: Target) -> Launch:
    """The bias is not folded: padding adds nothing to the sums."""
    launch = launch_s8(node, target)
    bias = Packed("bias", "i32", bias_of(node))
    return replace(launch, constants=(packed_depthwise(node), bias, *launch.constants[2:]))


def ring_bytes(attrs: tuple[int, int], kernel: tuple[int, int], in_w: int, out_w: int) -> int:
    """Scratch of ec_mve_depthwise_eight. `attrs`: pad to the left and stride of the columns."""
    left, stride = attrs
    width = max((out_w - 1) * stride + kernel[1], left + in_w)
    return kernel[0] * (4 + 2 * EIGHT * width)


def _depthwise_scratch(node: NodeView, target: Target) -> int:
    attrs, (_, height, width, _) = conv_attrs(node), node.inputs[1].dims
    columns = node.inputs[0].dims[2], node.outputs[0].dims[2]
    return ring_bytes((attrs.pad[2], attrs.stride[1]), (height, width), *columns)


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_pointwise_conv2d_s8_mve",
        source="kernels/mve/ec_pointwise_conv2d_s8_mve.c",
        rank=RANK,
        accepts=_pointwise,
        launch=_launch_pointwise,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_s8_mve",
        source="kernels/mve/ec_conv2d_s8_mve.c",
        rank=15,
        accepts=_dense,
        launch=_launch_pointwise,
        scratch=_conv_scratch,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_s8_mve",
        source="kernels/mve/ec_depthwise_conv2d_s8_mve.c",
        rank=RANK,
        accepts=_depthwise,
        launch=_launch_depthwise,
        scratch=_depthwise_scratch,
        halo=conv_halo,
        in_place=(0,),
    ),
    Kernel(
        op="linear",
        symbol="ec_linear_s8_mve",
        source="kernels/mve/ec_linear_s8_mve.c",
        rank=RANK,
        accepts=_linear,
        launch=_launch_linear,
    ),
)
