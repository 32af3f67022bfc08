"""linear_weight_grad, and linear_weight_update: the same with the SGD step, so that no gradient of a whole weight is a
value in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.ir import NO_ATTRS, Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.optimizer import SgdAttrs, sgd
from edgec.ops.sample import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]


def grad_infer(attrs: Attrs, types: Types) -> Types:
    """x[T,K], dy[T,O] -> dw[O,K]."""
    require(len(types) == 2 and all(len(t.shape) == 2 for t in types), "takes x and dy of 2 axes")
    x, dy = types
    require(x.shape[0] == dy.shape[0], f"x has {x.dims[0]} rows, dy {dy.dims[0]}")
    return (Type((dy.shape[1], x.shape[1]), x.dtype),)


def grad_ref(attrs: Attrs, inputs: Arrays) -> Arrays:
    x, dy = inputs
    return (np.matmul(dy.T, x),)


def grad_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """The op is bilinear: dx = dy dw, ddy = x dw^T."""
    g = grads[0]
    if g is None:
        return None, None
    x, dy = node.inputs
    return emit(b, "matmul", dy, g), emit(b, "matmul", x, g, transpose_b=True)


def grad_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(inputs[0].size * inputs[1].dims[1])


def update_infer(attrs: Attrs, types: Types) -> Types:
    """w[O,K], x[T,K], dy[T,O], rate[1] -> w."""
    require(len(types) == 4, "takes w, x, dy and rate")
    w, x, dy, rate = types
    (dw,) = grad_infer(attrs, (x, dy))
    require(dw.shape == w.shape, f"w has shape {w.dims}, its gradient {dw.dims}")
    require((rate.shape, rate.dtype) == ((1,), w.dtype), "rate is [1]")
    return (w,)


def update_ref(attrs: SgdAttrs, inputs: Arrays) -> Arrays:
    w, x, dy, rate = inputs
    return sgd(attrs, (w, *grad_ref(NO_ATTRS, (x, dy)), rate))


def update_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return grad_cost(attrs, inputs[1:3], outputs)


def _torch_grad(t: Any, x: Any, dy: Any) -> Any:
    w = t.zeros(dy.shape[1], x.shape[1], dtype=dy.dtype, requires_grad=True)
    return t.autograd.grad(t.nn.functional.linear(x, w), w, dy, create_graph=True)[0]


def _torch_update(decay: float) -> Callable[..., Any]:
    def torch(t, w, x, dy, rate):  # type: ignore[no-untyped-def]
        return w - rate * (_torch_grad(t, x, dy) + decay * w)

    return torch


def _with_rate(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: (*normal(*shapes)(rng), np.array([0.05], np.float32))


define(
    Op(
        name="linear_weight_grad",
        doc="Gradient of linear to its weight: dw[O,K] = sum over rows of dy[T,O] x[T,K].",
        attrs=Attrs,
        infer=grad_infer,
        ref=grad_ref,
        vjp=grad_vjp,
        quant=NoQuant("gradients are computed in float"),
        cost=grad_cost,
        examples=(
            Example("one row", NO_ATTRS, normal((1, 9), (1, 5)), _torch_grad),
            Example("tokens", NO_ATTRS, normal((13, 4), (13, 7)), _torch_grad),
        ),
    )
)
define(
    Op(
        name="linear_weight_update",
        doc="w[O,K] after an SGD step along the weight gradient of x[T,K] and dy[T,O]: sgd of linear_weight_grad, "
        "element by element.",
        attrs=SgdAttrs,
        infer=update_infer,
        ref=update_ref,
        vjp=NoGrad("a step of an optimiser is not differentiated"),
        quant=NoQuant("float parameters are updated in float"),
        cost=update_cost,
        examples=(
            Example("one row", SgdAttrs(), _with_rate((5, 9), (1, 9), (1, 5)), _torch_update(0.0)),
            Example(
                "tokens, decayed", SgdAttrs(0.5), _with_rate((7, 4), (13, 4), (13, 7)), _torch_update(0.5)
            ),
        ),
    )
)
