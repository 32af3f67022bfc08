"""Examples beside the ops' own, so that every MVE kernel has one that it accepts."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.ir import Array
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Example
from edgec.ops.gradient import random_mask, random_pair
from edgec.ops.train_conv import TrainedConv2dInputGradAttrs
from edgec.ops.trained import TrainedConv2dAttrs
from tests.dsp_examples import conv


def input_gradient(attrs: TrainedConv2dInputGradAttrs, y: tuple[int, ...], w: tuple[int, ...]) -> Example:
    """A gradient that is a pair."""

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        weights = rng.integers(-128, 128, w).astype(np.int8)
        eff = rng.integers(0, 129, w[0]).astype(np.int16)
        return (*random_pair(rng, y), random_mask(rng, y), weights, eff)

    return Example("depthwise, whole eights", attrs, make, None)


def trained(label: str, attrs: TrainedConv2dAttrs, x: tuple[int, ...], w: tuple[int, ...]) -> Example:
    """A convolution whose parameters may be state."""
    return Example(label, attrs, conv(label, Conv2dAttrs(), x, w).make, None)


MVE_EXAMPLES: Final = {
    "conv2d": (
        conv("7x7 depthwise", Conv2dAttrs(pad=(3, 3, 3, 3), groups=16), (1, 5, 6, 16), (16, 7, 7, 1)),
        conv(
            "3x3 depthwise, stride 2", Conv2dAttrs((2, 2), (0, 1, 0, 1), groups=8), (2, 8, 9, 8), (8, 3, 3, 1)
        ),
        conv("pointwise, stride 2", Conv2dAttrs((2, 2)), (1, 7, 6, 33), (34, 1, 1, 33)),
    ),
    "trained_conv2d": (
        trained(
            "5x5 depthwise, stride 2",
            TrainedConv2dAttrs((2, 2), (2, 2, 2, 2), groups=12),
            (2, 7, 8, 12),
            (12, 5, 5, 1),
        ),
    ),
    "trained_conv2d_input_grad": (
        input_gradient(
            TrainedConv2dInputGradAttrs((6, 5), pad=(1, 1, 1, 1), groups=16, exponent=-10),
            (1, 6, 5, 16),
            (16, 3, 3, 1),
        ),
    ),
}
