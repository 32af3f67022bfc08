"""Kernel records of the C backend: ops of int8 training with MVE (Helium, Armv8.1-M).

A record is accepted where the target has the instructions; it takes the arguments of the portable kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgec.backends.kernel_record import Accepts
from edgec.backends.kernels_c_mve import EIGHT, RANK, VECTOR, ring_bytes
from edgec.backends.kernels_c_train_dsp import (
    MOST_BLOCK,
    conv_is_depthwise,
    conv_is_pointwise,
    grad_is_depthwise,
    grad_of_small_eff,
    grad_ring,
)
from edgec.backends.kernels_c_train_s8 import (
    PIXELS,
    accepts_bias,
    accepts_conv,
    accepts_weight,
    conv_attrs,
    input_grad_weight,
    launch_bias,
    launch_conv,
    launch_input_grad,
    launch_weight,
    of_kind,
    weight_is_pointwise,
)
from edgec.plan import Kernel, Launch, NodeView, Target

MOST_STEP: Final = 9000  # channels between elements that a vector gathers
MOST_SCRATCH: Final = 12 << 10  # bytes that blocks of more than the fewest pixels or outputs may take
MOST_WEIGHTS: Final = 48 << 10  # bytes of a depthwise kernel that are packed in scratch
THREE: Final = 3  # pixels that input gradients take at once

Scratch = Callable[[NodeView, Target], int]


def whole(length: int, of: int = VECTOR) -> int:
    """`length` brought to a multiple of `of`."""
    return -(-length // of) * of


def _also(accepts: Accepts, more: Callable[[NodeView], bool]) -> Accepts:
    return lambda node, target: target.has("mve") and accepts(node, target) and more(node)


def _pointwise_scratch(node: NodeView, target: Target) -> int:
    return 4 * whole(node.inputs[0].dims[3])


def _any(node: NodeView) -> bool:
    return True


def _wide_depthwise(node: NodeView) -> bool:
    """Eight channels or more, no dilation."""
    return conv_is_depthwise(node) and node.inputs[0].dims[3] >= EIGHT and conv_attrs(node).dilation == (1, 1)


def _depthwise_scratch(node: NodeView, target: Target) -> int:
    attrs, (_, height, width, _) = conv_attrs(node), node.inputs[1].dims
    columns = node.inputs[0].dims[2], node.outputs[0].dims[2]
    ring = ring_bytes((attrs.pad[2], attrs.stride[1]), (height, width), *columns)
    return ring + EIGHT * height * width


def block_size(fixed: int, each: int, of: int) -> int:
    """How many are taken at a time: a multiple of `of`, as many as MOST_SCRATCH holds."""
    return max(1, min(MOST_BLOCK, (MOST_SCRATCH - fixed) // each) // of) * of


def _grad_accepted(node: NodeView) -> bool:
    channels = (node.inputs[0].dims[3], node.outputs[0].dims[3])
    return grad_of_small_eff(node) and max(channels) <= MOST_STEP


def _grad_block(node: NodeView) -> tuple[int, int, int]:
    """Pixels at a time; bytes of scratch for all, and for each pixel."""
    eights, inputs = whole(node.inputs[0].dims[3], 8), node.outputs[0].dims[3]
    fixed, each = 2 * eights, 2 * eights + 4 * inputs
    return block_size(fixed, each, THREE), fixed, each


def _launch_pointwise_grad(node: NodeView, target: Target) -> Launch:
    return launch_input_grad(node, target, _grad_block(node)[0])


def _pointwise_grad_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _grad_block(node)
    return fixed + block * each


def _wide_depthwise_grad(node: NodeView) -> bool:
    """Eight channels or more; the packed weights fit scratch."""
    w = node.inputs[input_grad_weight(node)]
    return grad_is_depthwise(node) and w.dims[0] >= EIGHT and w.size <= MOST_WEIGHTS


def _launch_depthwise_grad(node: NodeView, target: Target) -> Launch:
    return launch_input_grad(node, target, grad_ring(node))


def _depthwise_grad_scratch(node: NodeView, target: Target) -> int:
    _, _, width, channels = node.inputs[0].dims
    weights = node.inputs[input_grad_weight(node)].size + EIGHT
    return 4 * channels + whole(weights, 4) + grad_ring(node) * (4 + whole(width * channels))


def _weight_accepted(node: NodeView) -> bool:
    channels = (node.inputs[1].dims[3], node.inputs[2].dims[3])
    return weight_is_pointwise(node) and max(channels) <= MOST_STEP


def _weight_block(node: NodeView) -> tuple[int, int, int]:
    """Outputs at a time; bytes of scratch for all, and for each output."""
    fixed, each = (4 + VECTOR) * PIXELS, PIXELS + 4 * whole(node.inputs[0].dims[3], 4)
    return block_size(fixed, each, 1), fixed, each


def _launch_pointwise_weight(node: NodeView, target: Target) -> Launch:
    return launch_weight(node, target, _weight_block(node)[0])


def _pointwise_weight_scratch(node: NodeView, target: Target) -> int:
    block, fixed, each = _weight_block(node)
    return fixed + block * each


def _mve(
    op: str,
    symbol: str,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    scratch: Scratch | None = None,
    in_place: tuple[int, ...] = (),
) -> Kernel:
    return Kernel(op, symbol, f"train/mve/{symbol}.c", RANK, accepts, launch, scratch, in_place=in_place)


KERNELS: Final[tuple[Kernel, ...]] = (
    *(
        _mve(
            "trained_conv2d",
            f"ec_{kind}_trained_conv2d_{'mask_' if mask else ''}s8_mve",
            _also(accepts_conv(mask), shape),
            launch_conv,
            scratch,
        )
        for kind, shape, scratch in (
            ("pointwise", conv_is_pointwise, _pointwise_scratch),
            ("depthwise", _wide_depthwise, _depthwise_scratch),
        )
        for mask in (False, True)
    ),
    _mve(
        "trained_conv2d_input_grad",
        "ec_pointwise_input_grad_s8_mve",
        _also(of_kind(0, True), _grad_accepted),
        _launch_pointwise_grad,
        _pointwise_grad_scratch,
    ),
    _mve(
        "trained_conv2d_input_grad",
        "ec_depthwise_input_grad_s8_mve",
        _also(of_kind(0, True), _wide_depthwise_grad),
        _launch_depthwise_grad,
        _depthwise_grad_scratch,
    ),
    _mve(
        "train_conv2d_weight",
        "ec_pointwise_train_weight_pair_mve",
        _also(accepts_weight(True), _weight_accepted),
        _launch_pointwise_weight,
        _pointwise_weight_scratch,
        (0,),
    ),
    _mve(
        "train_conv2d_bias",
        "ec_train_conv2d_bias_pair_mve",
        _also(accepts_bias(True), _any),
        launch_bias,
        in_place=(0,),
    ),
)
