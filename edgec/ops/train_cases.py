"""The convolutions that the examples of int8 training go through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.ir import Array
from edgec.ops.conv2d import Conv2dAttrs, out_size
from edgec.ops.define import Arrays
from edgec.ops.gradient import random_gradient, random_mask

_PLAIN: Final = Conv2dAttrs()


@dataclass(frozen=True, slots=True)
class Case:
    """A convolution of the examples: x[N,H,W,C], w[O,R,S,I]; `idx`: the trained channels, none: all."""

    label: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    forward: Conv2dAttrs = _PLAIN
    idx: tuple[int, ...] = ()

    @property
    def out(self) -> tuple[int, int, int, int]:
        a, (n, h, w, _) = self.forward, self.x
        p = out_size(h, self.w[1], a.stride[0], a.pad[0], a.pad[1], a.dilation[0])
        q = out_size(w, self.w[2], a.stride[1], a.pad[2], a.pad[3], a.dilation[1])
        return n, p, q, self.w[0]

    @property
    def rows(self) -> bool:
        return self.forward.groups > 1 and self.w[3] == 1

    @property
    def trained(self) -> tuple[int, int, int, int]:
        """The shape of what trains of w."""
        o, r, s, i = self.w
        k = len(self.idx)
        return self.w if not k else (k, r, s, i) if self.rows else (o, r, s, k)

    def columns(self, rng: np.random.Generator) -> Arrays:
        """idx and slice, or nothing."""
        return (np.array(self.idx, np.int32), weights(rng, self.trained)) if self.idx else ()

    def chosen(self) -> Arrays:
        """idx of an update, where it has one."""
        return (np.array(self.idx, np.int32),) if self.rows and self.idx else ()

    def gradient(self, rng: np.random.Generator, pair: bool) -> Arrays:
        """The channels of x that an update reads, the gradient and its mask."""
        n, h, w, c = self.x
        x = rng.integers(-128, 128, (n, h, w, len(self.idx) or c)).astype(np.int8)
        return (x, *random_gradient(rng, self.out, pair), random_mask(rng, self.out))


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """int8 weights of `shape`."""
    return rng.integers(-127, 128, shape).astype(np.int8)


CASES: Final = (
    Case("1x1", (1, 4, 4, 6), (7, 1, 1, 6)),
    Case("1x1, some columns", (1, 3, 5, 12), (8, 1, 1, 12), idx=(1, 4, 5, 11)),
    Case("1x1, batch", (2, 3, 3, 8), (9, 1, 1, 8)),
    Case("3x3 stride 2, some columns", (1, 6, 7, 5), (4, 3, 3, 5), Conv2dAttrs((2, 2), (1, 0, 1, 1)), (0, 3)),
    Case("depthwise 3x3", (1, 5, 4, 6), (6, 3, 3, 1), Conv2dAttrs(pad=(1, 1, 1, 1), groups=6)),
    Case(
        "depthwise 7x7 stride 2",
        (1, 8, 8, 5),
        (5, 7, 7, 1),
        Conv2dAttrs((2, 2), (3, 3, 3, 3), groups=5),
    ),
    Case(
        "depthwise 5x5, some channels",
        (1, 6, 5, 9),
        (9, 5, 5, 1),
        Conv2dAttrs(pad=(2, 2, 2, 2), groups=9),
        (2, 3, 8),
    ),
    Case("groups, dilation", (2, 5, 6, 6), (4, 2, 3, 3), Conv2dAttrs((1, 2), (1, 1, 0, 2), (2, 1), 2)),
)
