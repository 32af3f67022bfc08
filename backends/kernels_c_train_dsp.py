"""Kernel records of the C backend: ops of int8 training on Armv7E-M with the DSP extension.

A record is accepted where the target has the instructions and traps no unaligned load; the portable kernel takes the
rest, and the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgec.backends.kernel_record import Accepts
from edgec.backends.kernels_c_dsp import has_dsp
from edgec.backends.kernels_c_train_s8 import accepts_conv, conv_attrs, launch_conv
from edgec.plan import Kernel, Launch, NodeView, Target


def _also(accepts: Accepts, more: Callable[[NodeView], bool]) -> Accepts:
    return lambda node, target: has_dsp(target) and accepts(node, target) and more(node)


def _is_pointwise(node: NodeView) -> bool:
    """1x1 kernel, one group, every window inside of the map."""
    attrs, x, y = conv_attrs(node), node.inputs[0].dims, node.outputs[0].dims
    inside = all((y[i] - 1) * attrs.stride[i - 1] < x[i] for i in (1, 2))
    return node.inputs[1].dims[1:3] == (1, 1) and attrs.groups == 1 and not any(attrs.pad[::2]) and inside


def _is_depthwise(node: NodeView) -> bool:
    """One output channel for each of several input channels."""
    attrs, w = conv_attrs(node), node.inputs[1].dims
    return attrs.groups == node.inputs[0].dims[3] == w[0] > 1


def _pointwise_scratch(node: NodeView, target: Target) -> int:
    channels = node.inputs[0].dims[3]
    return 32 * -(-channels // 4) + channels


def _depthwise_scratch(node: NodeView, target: Target) -> int:
    _, height, width, _ = node.inputs[1].dims
    return 9 * height * width


def _dsp(
    op: str,
    symbol: str,
    rank: int,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    scratch: Callable[[NodeView, Target], int],
) -> Kernel:
    return Kernel(op, symbol, f"train/dsp/{symbol}.c", rank, accepts, launch, scratch)


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
            ("pointwise", 10, _is_pointwise, _pointwise_scratch),
            ("depthwise", 20, _is_depthwise, _depthwise_scratch),
        )
        for mask in (False, True)
    ),
)
