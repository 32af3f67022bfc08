"""Kernel records of the C backend: ops of int8 training on Armv7E-M with the DSP extension.

A record is accepted where the target has the instructions and traps no unaligned load; the portable kernel takes the
rest, and the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.backends.kernel_record import Accepts
from edgec.backends.kernels_c_dsp import has_dsp
from edgec.backends.kernels_c_train_s8 import (
    PIXELS,
    accepts_bias,
    accepts_conv,
    accepts_weight,
    conv_attrs,
    grad_is_pointwise,
    input_grad_attrs,
    input_grad_weight,
    launch_bias,
    launch_conv,
    launch_input_grad,
    launch_weight,
    of_kind,
    weight_is_pointwise,
)
from edgec.backends.kernels_c_train_sums import FRACTION, in_q88, launch_state
from edgec.plan import Kernel, Launch, NodeView, Target

MOST_SCRATCH: Final = 6 << 10  # bytes that blocks of more than two pixels or outputs may take
MOST_BLOCK: Final = 16
MOST_EFF: Final = 258  # 127 * eff lies in int16

Scratch = Callable[[NodeView, Target], int]


def _also(accepts: Accepts, more: Callable[[NodeView], bool]) -> Accepts:
    return lambda node, target: has_dsp(target) and accepts(node, target) and more(node)


def _fours(length: int) -> int:
    return -(-length // 4) * 4


def block_size(fixed: int, each: int) -> int:
    """How many are taken at a time: an even number, as many as MOST_SCRATCH holds."""
    return max(2, min(MOST_BLOCK, (MOST_SCRATCH - fixed) // each // 2 * 2))


def conv_is_pointwise(node: NodeView) -> bool:
    """1x1 kernel, one group, every window inside of the map."""
    attrs, x, y = conv_attrs(node), node.inputs[0].dims, node.outputs[0].dims
    inside = all((y[i] - 1) * attrs.stride[i - 1] < x[i] for i in (1, 2))
    return node.inputs[1].dims[1:3] == (1, 1) and attrs.groups == 1 and not any(attrs.pad[::2]) and inside


def conv_is_depthwise(node: NodeView) -> bool:
    """One output channel for each of several input channels."""
    attrs, w = conv_attrs(node), node.inputs[1].dims
    return attrs.groups == node.inputs[0].dims[3] == w[0] > 1


def _pointwise_scratch(node: NodeView, target: Target) -> int:
    channels = node.inputs[0].dims[3]
    return 32 * -(-channels // 4) + (4 * channels if len(node.inputs) == 5 else 0)


def _depthwise_scratch(node: NodeView, target: Target) -> int:
    _, height, width, _ = node.inputs[1].dims
    return 9 * height * width


def grad_of_small_eff(node: NodeView) -> bool:
    """Pointwise; eff is constant, and its products with q are int16."""
    eff = node.constants[input_grad_weight(node) + 1]
    small = eff is not None and int(np.abs(eff.astype(np.int64)).max(initial=0)) <= MOST_EFF
    return grad_is_pointwise(node) and small


def grad_is_depthwise(node: NodeView) -> bool:
    """One output channel for each of several input channels, no dilation, no slice."""
    attrs, w = input_grad_attrs(node), node.inputs[input_grad_weight(node)].dims
    single = attrs.groups == w[0] == node.outputs[0].dims[3] > 1
    return single and attrs.dilation == (1, 1) and len(node.inputs) == input_grad_weight(node) + 2


def _grad_block(node: NodeView) -> tuple[int, int, int]:
    """Pixels at a time; bytes of scratch for all, and for each pixel."""
    fours, inputs = _fours(node.inputs[0].dims[3]), node.outputs[0].dims[3]
    fixed, each = 8 * fours, 2 * fours + 4 * inputs
    return block_size(fixed, each), fixed, each


def _launch_pointwise_grad(node: NodeView, target: Target) -> Launch:
    return launch_input_grad(node, target, _grad_block(node)[0])


def _pointwise_grad_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _grad_block(node)
    return fixed + block * each


def grad_ring(node: NodeView) -> int:
    """Rows of the gradient that a row of dx reads."""
    attrs, w = input_grad_attrs(node), node.inputs[input_grad_weight(node)].dims
    return min((w[1] - 1) // attrs.stride[0] + 1, node.inputs[0].dims[1])


def _launch_depthwise_grad(node: NodeView, target: Target) -> Launch:
    return launch_input_grad(node, target, grad_ring(node))


def _depthwise_grad_scratch(node: NodeView, target: Target) -> int:
    _, _, width, channels = node.inputs[0].dims
    return 4 * channels + grad_ring(node) * width * channels


def _weight_block(node: NodeView) -> tuple[int, int, int]:
    """Outputs at a time; bytes of scratch for all, and for each output."""
    fixed, each = 8 * PIXELS, 2 * PIXELS + 4 * node.inputs[0].dims[3]
    return block_size(fixed, each), fixed, each


def _launch_pointwise_weight(node: NodeView, target: Target) -> Launch:
    return launch_weight(node, target, _weight_block(node)[0])


def _launch_pointwise_q88(node: NodeView, target: Target) -> Launch:
    return launch_state(node, target, _weight_block(node)[0])


def _pointwise_weight_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _weight_block(node)
    return fixed + block * each


def _bias_by_eights(node: NodeView) -> bool:
    return node.inputs[0].size % 8 == 0


def _dsp(
    op: str,
    symbol: str,
    rank: int,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    scratch: Scratch | None = None,
    in_place: tuple[int, ...] = (),
    renews: tuple[tuple[int, int], ...] = (),
) -> Kernel:
    source = f"train/dsp/{symbol}.c"
    return Kernel(op, symbol, source, rank, accepts, launch, scratch, in_place=in_place, renews=renews)


KERNELS: Final[tuple[Kernel, ...]] = (
    *(
        _dsp(
            "trained_conv2d",
            f"ec_{kind}_trained_conv2d_{'mask_' if mask else ''}s8_dsp",
            rank,
            _also(accepts_conv(mask), shape),
            launch_conv,
            scratch,
        )
        for kind, rank, shape, scratch in (
            ("pointwise", 10, conv_is_pointwise, _pointwise_scratch),
            ("depthwise", 20, conv_is_depthwise, _depthwise_scratch),
        )
        for mask in (False, True)
    ),
    _dsp(
        "trained_conv2d_input_grad",
        "ec_pointwise_input_grad_s8_dsp",
        10,
        _also(of_kind(0, True), grad_of_small_eff),
        _launch_pointwise_grad,
        _pointwise_grad_scratch,
    ),
    _dsp(
        "trained_conv2d_input_grad",
        "ec_depthwise_input_grad_s8_dsp",
        20,
        _also(of_kind(0, True), grad_is_depthwise),
        _launch_depthwise_grad,
        _depthwise_grad_scratch,
    ),
    _dsp(
        "train_conv2d_weight",
        "ec_pointwise_train_weight_pair_dsp",
        10,
        _also(accepts_weight(True), weight_is_pointwise),
        _launch_pointwise_weight,
        _pointwise_weight_scratch,
        (0,),
    ),
    _dsp(
        "train_conv2d_weight",
        "ec_pointwise_train_weight_q88_pair_dsp",
        10,
        _also(in_q88(True), weight_is_pointwise),
        _launch_pointwise_q88,
        _pointwise_weight_scratch,
        (0,),
        ((1, FRACTION[True]),),
    ),
    _dsp(
        "train_conv2d_bias",
        "ec_train_conv2d_bias_pair_dsp",
        10,
        _also(accepts_bias(True), _bias_by_eights),
        launch_bias,
        in_place=(0,),
    ),
)
