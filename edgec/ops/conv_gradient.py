"""conv2d_input_grad, which reads the weight where it lies, and conv2d_weight_update: weight gradient and SGD step in
one, so that no gradient of a whole weight is a value in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgec.ir import Attrs, Type
from edgec.ops.conv import Conv2dWeightGradAttrs, weight_grad_infer, weight_grad_ref
from edgec.ops.conv2d import Conv2dAttrs, out_size, weight_gradient
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.optimizer import SgdAttrs, sgd
from edgec.ops.sample import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Conv2dInputGradAttrs(Attrs):
    """`size`: rows and columns of the convolution's input; the rest as the convolution has it."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution whose input gradient this is."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class Conv2dWeightUpdateAttrs(Attrs):
    """As conv2d_weight_grad and sgd have them."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_decay: float = 0.0

    def gradient(self, kernel: tuple[int, int]) -> Conv2dWeightGradAttrs:
        """The gradient that the update takes its step along."""
        return Conv2dWeightGradAttrs(kernel, self.stride, self.pad, self.dilation, self.groups)


def input_grad_infer(attrs: Conv2dInputGradAttrs, types: Types) -> Types:
    """dy[N,P,Q,O], w[O,R,S,C/groups] -> dx[N,H,W,C]."""
    require(len(types) == 2 and all(len(t.shape) == 4 for t in types), "takes dy and w of 4 axes")
    dy, w = types
    require(w.dims[0] == dy.dims[3], f"dy has {dy.dims[3]} channels, w makes {w.dims[0]}")
    require(w.dims[0] % attrs.groups == 0, f"{w.dims[0]} output channels in {attrs.groups} groups")
    for axis, size in enumerate(attrs.size):
        before, after = attrs.pad[2 * axis : 2 * axis + 2]
        rows = out_size(size, w.dims[axis + 1], attrs.stride[axis], before, after, attrs.dilation[axis])
        require(rows == dy.dims[axis + 1], f"dy has size {dy.dims[axis + 1]}, the convolution {rows}")
    return (Type((dy.shape[0], *attrs.size, w.dims[3] * attrs.groups), dy.dtype),)


def input_grad_ref(attrs: Conv2dInputGradAttrs, inputs: Arrays) -> Arrays:
    dy, w = inputs
    (n, p, q, o), (_, r, s, i), g = dy.shape, w.shape, attrs.groups
    (h, wd), (top, bottom, left, right) = attrs.size, attrs.pad
    padded: Numbers = np.zeros((n, h + top + bottom, wd + left + right, i * g), np.result_type(dy, w))
    rows = dy.reshape(n * p * q, g, o // g).transpose(1, 0, 2)
    for row in range(r):
        for column in range(s):
            weights = w[:, row, column].reshape(g, o // g, i)
            part = np.matmul(rows, weights).transpose(1, 0, 2).reshape(n, p, q, g * i)
            first, second = row * attrs.dilation[0], column * attrs.dilation[1]
            padded[
                :,
                first : first + (p - 1) * attrs.stride[0] + 1 : attrs.stride[0],
                second : second + (q - 1) * attrs.stride[1] + 1 : attrs.stride[1],
            ] += part
    return (padded[:, top : top + h, left : left + wd],)


def input_grad_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """The op is bilinear: towards dy it is the convolution, towards w its weight gradient."""
    attrs, g = node.attrs, grads[0]
    assert isinstance(attrs, Conv2dInputGradAttrs)
    if g is None:
        return None, None
    dy, w = node.inputs
    _, r, s, _ = b.types[w].dims
    return b.call("conv2d", g, w, attrs=attrs.forward), weight_gradient(b, attrs.forward, (r, s), g, dy)


def input_grad_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(inputs[0].size * inputs[1].size // inputs[1].dims[0])


def update_infer(attrs: Conv2dWeightUpdateAttrs, types: Types) -> Types:
    """w[O,R,S,C/groups], x[N,H,W,C], dy[N,P,Q,O], rate[1] -> w."""
    require(len(types) == 4 and len(types[0].shape) == 4, "takes w of 4 axes, x, dy and rate")
    w, x, dy, rate = types
    (dw,) = weight_grad_infer(attrs.gradient((w.dims[1], w.dims[2])), (x, dy))
    require(dw.shape == w.shape, f"w has shape {w.dims}, its gradient {dw.dims}")
    require((rate.shape, rate.dtype) == ((1,), w.dtype), "rate is [1]")
    return (w,)


def update_ref(attrs: Conv2dWeightUpdateAttrs, inputs: Arrays) -> Arrays:
    w, x, dy, rate = inputs
    (dw,) = weight_grad_ref(attrs.gradient((w.shape[1], w.shape[2])), (x, dy))
    return sgd(SgdAttrs(attrs.weight_decay), (w, dw, rate))


def update_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(inputs[2].size * outputs[0].size // outputs[0].dims[0])


def _input_grad_torch(attrs: Conv2dInputGradAttrs) -> Callable[..., Any]:
    def torch(t, dy, w):  # type: ignore[no-untyped-def]
        top, bottom, left, right = attrs.pad
        shape = (dy.shape[0], w.shape[3] * attrs.groups, *attrs.size)
        x = t.zeros(shape, dtype=dy.dtype, requires_grad=True)
        padded = t.nn.functional.pad(x, (left, right, top, bottom))
        y = t.nn.functional.conv2d(
            padded, w.permute(0, 3, 1, 2), None, attrs.stride, 0, attrs.dilation, attrs.groups
        )
        (dx,) = t.autograd.grad(y, x, dy.permute(0, 3, 1, 2), create_graph=True)
        return dx.permute(0, 2, 3, 1)

    return torch


def _input_grad_example(
    label: str, attrs: Conv2dInputGradAttrs, dy: tuple[int, ...], w: tuple[int, ...]
) -> Example:
    return Example(label, attrs, normal(dy, w), _input_grad_torch(attrs), tolerance=2e-5)


def _update_torch(attrs: Conv2dWeightUpdateAttrs) -> Callable[..., Any]:
    def torch(t, w, x, dy, rate):  # type: ignore[no-untyped-def]
        top, bottom, left, right = attrs.pad
        padded = t.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        weight = w.permute(0, 3, 1, 2).contiguous().requires_grad_()
        y = t.nn.functional.conv2d(padded, weight, None, attrs.stride, 0, attrs.dilation, attrs.groups)
        (dw,) = t.autograd.grad(y, weight, dy.permute(0, 3, 1, 2))
        return w - rate * (dw.permute(0, 2, 3, 1) + attrs.weight_decay * w)

    return torch


def _update_example(
    label: str, attrs: Conv2dWeightUpdateAttrs, w: tuple[int, ...], x: tuple[int, ...], dy: tuple[int, ...]
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        return (*normal(w, x, dy)(rng), np.array([0.01], np.float32))

    return Example(label, attrs, make, _update_torch(attrs))


define(
    Op(
        name="conv2d_input_grad",
        doc="Gradient of conv2d to its input, from the gradient dy[N,P,Q,O] of the output and w[O,R,S,C/groups].",
        attrs=Conv2dInputGradAttrs,
        infer=input_grad_infer,
        ref=input_grad_ref,
        vjp=input_grad_vjp,
        quant=NoQuant("gradients are computed in float"),
        cost=input_grad_cost,
        examples=(
            _input_grad_example(
                "stride 2, unread last row",
                Conv2dInputGradAttrs((6, 7), (2, 2), (0, 0, 1, 0)),
                (2, 2, 3, 4),
                (4, 3, 3, 3),
            ),
            _input_grad_example(
                "groups, dilation",
                Conv2dInputGradAttrs((5, 5), (1, 1), (1, 1, 1, 1), (2, 1), 2),
                (1, 5, 5, 6),
                (6, 2, 3, 2),
            ),
            _input_grad_example(
                "depthwise 5x5",
                Conv2dInputGradAttrs((7, 6), pad=(2, 2, 2, 2), groups=6),
                (1, 7, 6, 6),
                (6, 5, 5, 1),
            ),
            _input_grad_example("pointwise", Conv2dInputGradAttrs((4, 5)), (1, 4, 5, 7), (7, 1, 1, 6)),
        ),
    )
)
define(
    Op(
        name="conv2d_weight_update",
        doc="w[O,R,S,C/groups] after an SGD step along the weight gradient of x[N,H,W,C] and dy[N,P,Q,O]: sgd of "
        "conv2d_weight_grad, element by element.",
        attrs=Conv2dWeightUpdateAttrs,
        infer=update_infer,
        ref=update_ref,
        vjp=NoGrad("a step of an optimiser is not differentiated"),
        quant=NoQuant("float parameters are updated in float"),
        cost=update_cost,
        examples=(
            _update_example(
                "stride 2",
                Conv2dWeightUpdateAttrs((2, 2), (0, 1, 0, 1)),
                (4, 3, 3, 3),
                (2, 6, 7, 3),
                (2, 3, 3, 4),
            ),
            _update_example(
                "depthwise, decayed",
                Conv2dWeightUpdateAttrs(pad=(1, 1, 1, 1), groups=4, weight_decay=0.5),
                (4, 3, 3, 1),
                (1, 5, 5, 4),
                (1, 5, 5, 4),
            ),
        ),
    )
)
