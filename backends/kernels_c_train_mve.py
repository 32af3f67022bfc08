"""Kernel records of the C backend: ops of int8 training with MVE (Helium, Armv8.1-M).

A record is accepted where the target has the instructions; it takes the arguments of the portable kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgec.backends.kernel_record import Accepts
from edgec.backends.kernels_c_train_dsp import conv_is_pointwise
from edgec.backends.kernels_c_train_s8 import accepts_conv, launch_conv
from edgec.plan import Kernel, Launch, NodeView, Target

RANK: Final = 5
VECTOR: Final = 16  # bytes

Scratch = Callable[[NodeView, Target], int]


def whole(length: int, of: int = VECTOR) -> int:
    """`length` brought to a multiple of `of`."""
    return -(-length // of) * of


def _also(accepts: Accepts, more: Callable[[NodeView], bool]) -> Accepts:
    return lambda node, target: target.has("mve") and accepts(node, target) and more(node)


def _pointwise_scratch(node: NodeView, target: Target) -> int:
    return 4 * whole(node.inputs[0].dims[3])


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
            f"ec_pointwise_trained_conv2d_{'mask_' if mask else ''}s8_mve",
            _also(accepts_conv(mask), conv_is_pointwise),
            launch_conv,
            _pointwise_scratch,
        )
        for mask in (False, True)
    ),
)
