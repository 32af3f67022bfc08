"""Examples beside the ops' own, so that every DSP kernel has one that it accepts."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.ir import Array
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Example


def conv(label: str, attrs: Conv2dAttrs, x: tuple[int, ...], w: tuple[int, ...]) -> Example:
    """A convolution beside the op's own examples."""

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        arrays = (rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0]))
        return tuple(a.astype(np.float32) for a in arrays)

    return Example(label, attrs, make, None)


DSP_EXAMPLES: Final = {
    "conv2d": (
        conv("3x3 depthwise", Conv2dAttrs(pad=(1, 1, 1, 1), groups=9), (1, 5, 6, 9), (9, 3, 3, 1)),
        conv(
            "3x3 depthwise, stride 2", Conv2dAttrs((2, 2), (0, 1, 0, 1), groups=6), (2, 8, 9, 6), (6, 3, 3, 1)
        ),
        conv("pointwise, stride 2", Conv2dAttrs((2, 2)), (1, 7, 6, 33), (34, 1, 1, 33)),
        conv("3x3, 13 channels", Conv2dAttrs(pad=(1, 1, 1, 1)), (1, 4, 5, 13), (6, 3, 3, 13)),
    )
}
