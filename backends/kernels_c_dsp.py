"""Kernel records of the C backend for Armv7E-M with the DSP extension: int8 convolution, linear, pooling, sums.

A record is accepted where the target has the instructions and traps no unaligned load, and where the constants lie in
the range that the kernel's arithmetic asks for; the portable kernel takes the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.backends import kernels_c_pointwise, kernels_c_pool
from edgec.backends.kernel_record import (
    Accepts,
    channel_requant,
    constant,
    folded_bias,
    quant_of,
    weighted_s8,
)
from edgec.backends.kernels_c_conv import conv_attrs, conv_fields_s8, conv_halo
from edgec.backends.kernels_c_linear import linear_fields_s8
from edgec.fixedpoint import I64
from edgec.plan import Kernel, Launch, NodeView, Packed, Target

WEIGHT_LIMIT: Final = 127  # 256 * w1 + w0 lies in int16
SUM_LIMIT: Final = 1 << 23  # 128 * sum |w| of a channel: its sum is exact in the high 24 bits
SHIFT_MIN: Final = 33  # the low word of the product never counts
SHIFT_MAX: Final = 55  # (2 * zero + 1) << (shift - 33) stays below 2**30
FEW_SHIFT: Final = 54  # of channels whose own shift is larger: a step of 2**24 at multiplier 2**30
SUM_SHIFT_MAX: Final = 22  # zero_out << shift stays below 2**30
GROUP: Final = 4  # channels that the inner loops take at once


def has_dsp(target: Target) -> bool:
    """Whether the target runs the kernels of kernels/dsp."""
    return target.has("dsp") and target.has("unaligned")


@dataclass(frozen=True, slots=True)
class ChannelConstants:
    """Folded bias, multiplier and n = shift - 33 of each output channel, int64[O]."""

    bias: I64
    m: I64
    n: I64


def channel_constants(node: NodeView) -> ChannelConstants:
    """What the kernels take of each channel. A multiplier of 0 goes with n = 0, any shift being as good; a shift
    beyond the kernels' range is replaced with the bias and multiplier that give the same outputs."""
    multiplier, shift = channel_requant(
        quant_of(node.inputs[0]).scale[0],
        quant_of(node.inputs[1]).scale,
        quant_of(node.outputs[0]).scale[0],
        node.inputs[1].dims[0],
    )
    m = multiplier.astype(np.int64)
    shifts = np.where(m == 0, SHIFT_MIN, shift.astype(np.int64))
    bias = folded_bias(node).data.astype(np.int64)
    span = _spans(node)
    for o in np.flatnonzero(shifts > SHIFT_MAX):
        bias[o] = few_outputs_bias(int(bias[o]), int(span[o]), int(m[o]), int(shifts[o]))
        m[o], shifts[o] = 1 << 30, FEW_SHIFT
    return ChannelConstants(bias, m, shifts - SHIFT_MIN)


def few_outputs_bias(bias: int, span: int, m: int, shift: int) -> int:
    """B with requantize(S + B, 2**30, 54) == requantize(S + bias, m, shift) for every |S| <= span < 2**23.

    For shift > 55 an output step is more than 2**24 wide, so that a channel has one output or two neighbours: B puts
    the sums on the same sides of the one threshold T, or round the middle of the one step. Channels that are almost
    only bias have such shifts.
    """
    half = 1 << (shift - 1)
    low, high = (((end * m + half) >> shift) for end in (bias - span, bias + span))
    if low == high:
        return low << 24
    threshold = -((half - high * 2 * half) // m)  # the least sum that gives `high`
    return bias + (high << 24) - (1 << 23) - threshold


def _spans(node: NodeView) -> I64:
    """Largest |sum of x w| of each channel."""
    w = np.abs(constant(node, 1).astype(np.int64))
    return np.asarray(128 * w.reshape(w.shape[0], -1).sum(1), np.int64)


def constants_fit(node: NodeView) -> bool:
    """Whether weights and shifts lie in the range of ec_dsp_gemm.h."""
    w = np.abs(constant(node, 1).astype(np.int64))
    small = w.max(initial=0) <= WEIGHT_LIMIT and _spans(node).max(initial=0) < SUM_LIMIT
    return bool(small and channel_constants(node).n.min(initial=0) >= 0)


def packed_o4(node: NodeView) -> Packed:
    """The weight stream "dsp_o4" that ec_dsp_gemm.h describes: weights, folded bias and requantisation of groups of
    four output channels."""
    w = constant(node, 1).astype(np.int64)
    outputs = w.shape[0]
    w = w.reshape(outputs, -1)
    groups, fours = -(-outputs // GROUP), -(-w.shape[1] // 4)
    padded = np.zeros((groups * GROUP, fours * 4), np.int64)
    padded[:outputs, : w.shape[1]] = w
    split = padded.reshape(groups, 2, 2, fours, 2, 2)  # group, pair, channel, four, half of the four's k, k
    both = (256 * split[:, :, 1] + split[:, :, 0]) & 0xFFFF  # group, pair, four, half, k
    words = both[..., 0, :] | both[..., 1, :] << 16  # group, pair, four, k
    stream = words.transpose(0, 2, 3, 1).reshape(groups, -1)
    channel = channel_constants(node)
    bias = _grouped(channel.bias & 0xFFFFFFFF, groups)
    shifts = (_grouped(channel.n, groups) << (8 * np.arange(GROUP))).sum(1, keepdims=True)
    parts = (bias[:, 0::2], stream, bias[:, 1::2], shifts, _grouped(channel.m, groups))
    return Packed("w", "dsp_o4", np.concatenate(parts, axis=1).astype(np.uint32).reshape(-1))


def packed_depthwise(node: NodeView) -> Packed:
    """uint32[C][...]: bias, multiplier, then the bytes n, w[r][s], zeros to a whole word."""
    w = constant(node, 1)
    w = w.reshape(w.shape[0], -1)
    channel = channel_constants(node)
    taps = np.zeros((w.shape[0], -(-(1 + w.shape[1]) // 4) * 4), np.uint8)
    taps[:, 0] = channel.n
    taps[:, 1 : 1 + w.shape[1]] = w.view(np.uint8)
    return Packed("w", "dsp_dw", _channel_words(channel, taps))


def packed_depthwise_3x3(node: NodeView) -> Packed:
    """uint32[C][5]: bias, multiplier, then the bytes w0 w3 w1 w4, n w6 w2 w7, 0 0 w5 w8."""
    channel = channel_constants(node)
    w = constant(node, 1).reshape(-1, 9).view(np.uint8)
    taps = np.zeros((len(w), 12), np.uint8)
    taps[:, [0, 2, 6, 1, 3, 10, 5, 7, 11]] = w
    taps[:, 4] = channel.n
    return Packed("w", "dsp_dw3x3", _channel_words(channel, taps))


def _channel_words(channel: ChannelConstants, taps: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Bias, multiplier and the bytes of each channel."""
    head = np.stack((channel.bias & 0xFFFFFFFF, channel.m), axis=1).astype(np.uint32)
    return np.concatenate((head, taps.view("<u4").astype(np.uint32)), axis=1).reshape(-1)


def _grouped(values: I64, groups: int) -> I64:
    out = np.zeros(groups * GROUP, np.int64)
    out[: len(values)] = values
    return out.reshape(groups, GROUP)


def _weighted(also: Callable[[NodeView], bool]) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return has_dsp(target) and weighted_s8(node, target) and also(node) and constants_fit(node)

    return accepts


def _is_dense(node: NodeView) -> bool:
    return conv_attrs(node).groups == 1


def _is_pointwise(node: NodeView) -> bool:
    x, w, y = node.inputs[0].dims, node.inputs[1].dims, node.outputs[0].dims
    attrs = conv_attrs(node)
    inside = all((y[i] - 1) * attrs.stride[i - 1] < x[i] for i in (1, 2))
    return _is_dense(node) and w[1:3] == (1, 1) and attrs.pad[0] == attrs.pad[2] == 0 and inside


def _is_depthwise(node: NodeView) -> bool:
    """One output channel for each input channel, no dilation, no gaps between the windows' rows."""
    attrs, w = conv_attrs(node), node.inputs[1].dims
    channels = node.inputs[0].dims[3]
    return attrs.groups == channels == w[0] and attrs.dilation == (1, 1) and attrs.stride[0] <= w[1]


def _is_depthwise_3x3(node: NodeView) -> bool:
    return _is_depthwise(node) and node.inputs[1].dims[1:3] == (3, 3) and conv_attrs(node).stride[1] <= 2


def _launch_o4(node: NodeView, target: Target) -> Launch:
    return Launch("ec_conv2d_params", conv_fields_s8(node), (0,), (packed_o4(node),))


def _launch_depthwise(node: NodeView, target: Target) -> Launch:
    return Launch("ec_conv2d_params", conv_fields_s8(node), (0,), (packed_depthwise(node),))


def _launch_depthwise_3x3(node: NodeView, target: Target) -> Launch:
    return Launch("ec_conv2d_params", conv_fields_s8(node), (0,), (packed_depthwise_3x3(node),))


def _pointwise_scratch(node: NodeView, target: Target) -> int:
    return 16 * -(-node.inputs[0].dims[3] // 4)


def _conv_scratch(node: NodeView, target: Target) -> int:
    _, height, width, channels = node.inputs[1].dims
    run, words = width * channels, -(-height * width * channels // 4)
    return 16 * words + 8 * height + (2 * run if run % 4 == 0 else 8 * words)


def _depthwise_3x3_scratch(node: NodeView, target: Target) -> int:
    width = node.outputs[0].dims[2]
    pairs = width + 1 if conv_attrs(node).stride[1] == 2 else (width + 1) // 2 + 1
    return 288 + 48 * pairs


def _depthwise_scratch(node: NodeView, target: Target) -> int:
    _, height, width, _ = node.inputs[1].dims
    halves, blocks = (width + 1) // 2, -(-node.outputs[0].dims[2] // 4)
    pairs = ((4 * blocks - 1) * conv_attrs(node).stride[1] + 2 * halves + 1) // 2
    return 16 * height * pairs + 16 * (2 * height - 1) * halves


def _launch_linear(node: NodeView, target: Target) -> Launch:
    return Launch("ec_linear_params", linear_fields_s8(node), (0,), (packed_o4(node),))


def _linear_scratch(node: NodeView, target: Target) -> int:
    channels = node.inputs[1].dims[1]
    return (16 if node.inputs[0].size > channels else 8) * -(-channels // 4)


def _any(node: NodeView) -> bool:
    return True


def _of_portable(kernel: Kernel, also: Callable[[Launch, NodeView], bool]) -> Kernel:
    """The record of a DSP kernel that is called exactly as its portable one and takes what `also` grants."""

    def accepts(node: NodeView, target: Target) -> bool:
        return has_dsp(target) and kernel.accepts(node, target) and also(kernel.launch(node, target), node)

    symbol = f"{kernel.symbol}_dsp"
    source = f"kernels/dsp/{symbol}.c"
    return replace(kernel, symbol=symbol, source=source, rank=kernel.rank - 80, accepts=accepts)


def _same_shape(launch: Launch, node: NodeView) -> bool:
    """Two maps of the output's shape, and zero_out << shift fits."""
    shapes = {t.dims for t in (*node.inputs, *node.outputs)}
    return len(shapes) == 1 and int(dict(launch.fields)["shift"]) <= SUM_SHIFT_MAX


def _every_launch(launch: Launch, node: NodeView) -> bool:
    return True


_POOLS = tuple(
    _of_portable(k, _every_launch)
    for k in kernels_c_pool.KERNELS
    if k.symbol in ("ec_max_pool2d_s8", "ec_avg_pool2d_s8")
)
_SUMS = tuple(
    _of_portable(k, _same_shape) for k in kernels_c_pointwise.KERNELS if k.symbol == "ec_add_rows_s8"
)

KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="conv2d",
        symbol="ec_pointwise_conv2d_s8_dsp",
        source="kernels/dsp/ec_pointwise_conv2d_s8_dsp.c",
        rank=10,
        accepts=_weighted(_is_pointwise),
        launch=_launch_o4,
        scratch=_pointwise_scratch,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_conv2d_s8_dsp",
        source="kernels/dsp/ec_conv2d_s8_dsp.c",
        rank=20,
        accepts=_weighted(_is_dense),
        launch=_launch_o4,
        scratch=_conv_scratch,
        halo=conv_halo,
    ),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise3x3_conv2d_s8_dsp",
        source="kernels/dsp/ec_depthwise3x3_conv2d_s8_dsp.c",
        rank=10,
        accepts=_weighted(_is_depthwise_3x3),
        launch=_launch_depthwise_3x3,
        scratch=_depthwise_3x3_scratch,
        halo=conv_halo,
        in_place=(0,),
    ),
    Kernel(
        op="conv2d",
        symbol="ec_depthwise_conv2d_s8_dsp",
        source="kernels/dsp/ec_depthwise_conv2d_s8_dsp.c",
        rank=15,
        accepts=_weighted(_is_depthwise),
        launch=_launch_depthwise,
        scratch=_depthwise_scratch,
        halo=conv_halo,
        in_place=(0,),
    ),
    Kernel(
        op="linear",
        symbol="ec_linear_s8_dsp",
        source="kernels/dsp/ec_linear_s8_dsp.c",
        rank=10,
        accepts=_weighted(_any),
        launch=_launch_linear,
        scratch=_linear_scratch,
    ),
    *_POOLS,
    *_SUMS,
)
