"""Gradients of max pooling: the first maximum of a window takes its gradient, as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.ir import Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.pool import (
    ADAPTIVE_CASES,
    AdaptiveMaxPool2dAttrs,
    MaxPool2dAttrs,
    Pad,
    Pair,
    adaptive_bounds,
    adaptive_infer,
    max_infer,
    max_torch,
    max_windows,
    nchw,
)
from edgec.ops.sample import normal


@dataclass(frozen=True, slots=True)
class MaxPool2dGradAttrs(Attrs):
    """As the max_pool2d has them."""

    kernel: Pair
    stride: Pair
    pad: Pad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    @property
    def forward(self) -> MaxPool2dAttrs:
        """The pooling whose gradient this is."""
        return MaxPool2dAttrs(self.kernel, self.stride, self.pad, self.dilation)


@dataclass(frozen=True, slots=True)
class AdaptiveMaxPool2dGradAttrs(Attrs):
    """As the adaptive_max_pool2d has it."""

    size: Pair


def max_grad_infer(attrs: MaxPool2dGradAttrs, types: Types) -> Types:
    """x[N,H,W,C], dy[N,P,Q,C] -> dx[N,H,W,C]."""
    require(len(types) == 2, "takes x[N,H,W,C] and dy")
    y = max_infer(attrs.forward, types[:1])[0]
    require(types[1].shape == y.shape, f"dy has shape {types[1].dims}, the pooling {y.dims}")
    return (Type(types[0].shape, types[0].dtype),)


def max_grad_ref(attrs: MaxPool2dGradAttrs, inputs: Arrays) -> Arrays:
    x, dy = inputs
    n, p, q, c = dy.shape
    at = max_windows(attrs.forward, x).reshape(n, p, q, c, -1).argmax(-1)
    r, s = at // attrs.kernel[1], at % attrs.kernel[1]
    rows = np.arange(p)[:, None, None] * attrs.stride[0] - attrs.pad[0] + r * attrs.dilation[0]
    columns = np.arange(q)[:, None] * attrs.stride[1] - attrs.pad[2] + s * attrs.dilation[1]
    dx = np.zeros_like(x)
    np.add.at(dx, (np.arange(n)[:, None, None, None], rows, columns, np.arange(c)), dy)
    return (dx,)


def grad_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, outputs[0].size + inputs[1].size)


def adaptive_max_grad_infer(attrs: AdaptiveMaxPool2dGradAttrs, types: Types) -> Types:
    """x[N,H,W,C], dy[N,P,Q,C] -> dx[N,H,W,C]."""
    require(len(types) == 2, "takes x[N,H,W,C] and dy")
    y = adaptive_infer(AdaptiveMaxPool2dAttrs(attrs.size), types[:1])[0]
    require(types[1].shape == y.shape, f"dy has shape {types[1].dims}, the pooling {y.dims}")
    return (Type(types[0].shape, types[0].dtype),)


def adaptive_max_grad_ref(attrs: AdaptiveMaxPool2dGradAttrs, inputs: Arrays) -> Arrays:
    x, dy = inputs
    n, h, w, c = x.shape
    (top, bottom), (left, right) = (adaptive_bounds(size, attrs.size[i]) for i, size in enumerate((h, w)))
    dx = np.zeros_like(x)
    batch, channel = np.arange(n)[:, None], np.arange(c)
    for p, (t, b) in enumerate(zip(top, bottom, strict=True)):
        for q, (lo, hi) in enumerate(zip(left, right, strict=True)):
            at = x[:, t:b, lo:hi].reshape(n, -1, c).argmax(1)
            np.add.at(dx, (batch, t + at // (hi - lo), lo + at % (hi - lo), channel), dy[:, p, q])
    return (dx,)


def _gradient_torch(forward: Callable[..., Any]) -> Callable[..., Any]:
    def torch(t, x, dy):  # type: ignore[no-untyped-def]
        x = x.requires_grad_()
        return t.autograd.grad(forward(t, x), x, dy)[0]

    return torch


define(
    Op(
        name="max_pool2d_grad",
        doc="Gradient of max_pool2d: the first maximum of each window of x takes the window's dy.",
        attrs=MaxPool2dGradAttrs,
        infer=max_grad_infer,
        ref=max_grad_ref,
        vjp=NoGrad("second derivatives of max pooling are not built"),
        quant=NoQuant("gradients are computed in float"),
        cost=grad_cost,
        examples=(
            Example(
                "2x2 stride 2",
                MaxPool2dGradAttrs((2, 2), (2, 2)),
                normal((2, 6, 5, 3), (2, 3, 2, 3)),
                _gradient_torch(max_torch(MaxPool2dAttrs((2, 2), (2, 2)))),
            ),
            Example(
                "overlapping, padded",
                MaxPool2dGradAttrs((3, 3), (1, 2), (1, 1, 0, 1)),
                normal((1, 4, 6, 2), (1, 4, 3, 2)),
                _gradient_torch(max_torch(MaxPool2dAttrs((3, 3), (1, 2), (1, 1, 0, 1)))),
            ),
        ),
    )
)

define(
    Op(
        name="adaptive_max_pool2d_grad",
        doc="Gradient of adaptive_max_pool2d: the first maximum of each window of x takes the window's dy.",
        attrs=AdaptiveMaxPool2dGradAttrs,
        infer=adaptive_max_grad_infer,
        ref=adaptive_max_grad_ref,
        vjp=NoGrad("second derivatives of max pooling are not built"),
        quant=NoQuant("gradients are computed in float"),
        cost=grad_cost,
        examples=tuple(
            Example(
                label,
                AdaptiveMaxPool2dGradAttrs(size),
                normal(x, (x[0], *size, x[3])),
                _gradient_torch(nchw(lambda t, x, size=size: t.nn.functional.adaptive_max_pool2d(x, size))),
            )
            for label, size, x in ADAPTIVE_CASES
        ),
    )
)
