"""Kernel records of the C backend: int8 training of convolutions with any kernel and one group on Armv7E-M with the
DSP extension. Pointwise ones have their own in kernels_c_train_dsp, which come first."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.kernels_c_dsp import has_dsp
from edgec.backends.kernels_c_train_dsp import block_size
from edgec.backends.kernels_c_train_s8 import (
    PIXELS,
    accepts_conv,
    accepts_weight,
    conv_attrs,
    input_grad_attrs,
    input_grad_weight,
    is_chosen,
    launch_conv,
    launch_input_grad,
    launch_weight,
    of_kind,
    weight_attrs,
)
from edgec.plan import Kernel, Launch, NodeView, Target

RANK: Final = 30  # behind pointwise and depthwise kernels
MOST_WIDENED: Final = 16 << 10  # bytes of four outputs' weights, widened
MOST_EFF: Final = 258  # 127 * eff lies in int16


def _fours(length: int) -> int:
    return -(-length // 4) * 4


def _conv_scratch(node: NodeView, target: Target) -> int:
    _, height, width, inputs = node.inputs[1].dims
    taps = height * width
    return taps * (8 * _fours(inputs) + (4 * inputs if len(node.inputs) == 5 else 0))


def _accepts_conv(mask: bool, node: NodeView, target: Target) -> bool:
    if not (has_dsp(target) and accepts_conv(mask)(node, target)):
        return False
    return conv_attrs(node).groups == 1 and _conv_scratch(node, target) <= MOST_WIDENED


def _accepts_grad(node: NodeView, target: Target) -> bool:
    """A pair; one group; eff is constant, and its products with q are int16."""
    if not (has_dsp(target) and of_kind(0, True)(node, target)):
        return False
    eff = node.constants[input_grad_weight(node) + 1]
    small = eff is not None and int(np.abs(eff.astype(np.int64)).max(initial=0)) <= MOST_EFF
    return small and input_grad_attrs(node).groups == 1


def _grad_block(node: NodeView) -> tuple[int, int, int]:
    """Pixels at a time; bytes of scratch for all, and for each pixel."""
    fours, inputs = _fours(node.inputs[0].dims[3]), node.outputs[0].dims[3]
    fixed, each = 8 * fours, 2 * fours + 4 * inputs
    return block_size(fixed, each), fixed, each


def _launch_grad(node: NodeView, target: Target) -> Launch:
    return launch_input_grad(node, target, _grad_block(node)[0])


def _grad_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _grad_block(node)
    return fixed + block * each


def _accepts_weight(node: NodeView, target: Target) -> bool:
    """A pair; one group, every output."""
    if not (has_dsp(target) and accepts_weight(True)(node, target)):
        return False
    return weight_attrs(node).groups == 1 and not is_chosen(node)


def _weight_block(node: NodeView) -> tuple[int, int, int]:
    """Outputs at a time; bytes of scratch for all, and for each output."""
    fixed, each = 16 * PIXELS, 2 * PIXELS + 4 * node.inputs[0].dims[3]
    return block_size(fixed, each), fixed, each


def _launch_weight(node: NodeView, target: Target) -> Launch:
    return launch_weight(node, target, _weight_block(node)[0])


def _weight_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _weight_block(node)
    return fixed + block * each


def _conv(mask: bool) -> Kernel:
    symbol = f"ec_dense_trained_conv2d_{'mask_' if mask else ''}s8_dsp"
    return Kernel(
        "trained_conv2d",
        symbol,
        f"train/dsp/{symbol}.c",
        RANK,
        lambda node, target: _accepts_conv(mask, node, target),
        launch_conv,
        _conv_scratch,
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    _conv(False),
    _conv(True),
    Kernel(
        "trained_conv2d_input_grad",
        "ec_dense_input_grad_s8_dsp",
        "train/dsp/ec_dense_input_grad_s8_dsp.c",
        RANK,
        _accepts_grad,
        _launch_grad,
        _grad_scratch,
    ),
    Kernel(
        "train_conv2d_weight",
        "ec_dense_train_weight_pair_dsp",
        "train/dsp/ec_dense_train_weight_pair_dsp.c",
        RANK,
        _accepts_weight,
        _launch_weight,
        _weight_scratch,
        in_place=(0,),
    ),
)
