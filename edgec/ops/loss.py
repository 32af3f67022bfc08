"""Losses of a training step: softmax cross-entropy with labels, mean squared error, binary cross-entropy and the
divergence from a teacher, each the mean over its rows or elements; and the count of right answers.

Losses are [1]. A row whose label lies outside of the classes counts for nothing. In float32 the exponentials and sums
have a written order (float_exact), so that every device has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgec.ir import NO_ATTRS, Array, Attrs, DType, Type
from edgec.ops import float_exact
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.sample import normal
from edgec.ops.terms import Term

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]
Numbers = npt.NDArray[Any]
IN_FLOAT = NoQuant("losses are computed in float")


@dataclass(frozen=True, slots=True)
class KlLogitsAttrs(Attrs):
    """Both logits are divided by `temperature` (> 0), the divergence is multiplied by its square."""

    temperature: float = 1.0


def _rows_and_labels(types: Types) -> None:
    require(len(types) >= 2, "takes logits and labels")
    logits, label = types[:2]
    require(len(logits.shape) == 2 and logits.dtype.is_float, "logits are float of 2 axes")
    require((label.shape, label.dtype) == (logits.shape[:1], DType.I32), f"labels are i32[{logits.dims[0]}]")


def cross_entropy_infer(attrs: Attrs, types: Types) -> Types:
    """logits[N,C], label i32[N] -> loss[1]."""
    _rows_and_labels(types)
    require(len(types) == 2, "takes logits and labels")
    return (Type((1,), types[0].dtype),)


def _counted(logits: Numbers, label: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.greater_equal(label, 0) & np.less(label, logits.shape[1]))


def _shifted(x: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(x - max, its exponentials, their sum [N,1])."""
    z = x - x.max(1, keepdims=True)
    e = float_exact.exp(z)
    return z, e, float_exact.total(e, 1)


def _mean_over(rows: Numbers, count: int) -> Numbers:
    """Sum of rows[N] over `count`, as [1]."""
    return np.asarray(float_exact.total(rows, 0) / rows.dtype.type(max(1, count)))


def cross_entropy(attrs: Attrs, inputs: Arrays) -> Arrays:
    logits: Numbers = inputs[0]
    label = inputs[1]
    counted = _counted(logits, label)
    z, _, sums = _shifted(logits)
    at = np.where(counted, label, 0).astype(np.int64)[:, None]
    rows = (float_exact.log(sums) - np.take_along_axis(z, at, 1))[:, 0]
    return (_mean_over(np.where(counted, rows, rows.dtype.type(0)), int(counted.sum())),)


def cross_entropy_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    if grads[0] is None:
        return None, None
    return b.call("cross_entropy_grad", *node.inputs, grads[0]), None


def cross_entropy_grad_infer(attrs: Attrs, types: Types) -> Types:
    """logits[N,C], label i32[N], dloss[1] -> dlogits[N,C]."""
    _rows_and_labels(types)
    require(
        len(types) == 3 and types[2].shape == (1,), "takes logits, labels and the gradient [1] of the loss"
    )
    return (Type(types[0].shape, types[0].dtype),)


def cross_entropy_grad(attrs: Attrs, inputs: Arrays) -> Arrays:
    logits: Numbers = inputs[0]
    label, dloss = inputs[1:]
    counted = _counted(logits, label)
    _, e, sums = _shifted(logits)
    hit = (np.arange(logits.shape[1]) == label[:, None]).astype(logits.dtype)
    factor = dloss / logits.dtype.type(max(1, int(counted.sum())))
    return (np.where(counted[:, None], (e / sums - hit) * factor, logits.dtype.type(0)),)


def correct_count_infer(attrs: Attrs, types: Types) -> Types:
    """logits[N,C], label i32[N] -> i32[1]."""
    _rows_and_labels(types)
    return (Type((1,), DType.I32),)


def correct_count(attrs: Attrs, inputs: Arrays) -> Arrays:
    logits, label = inputs
    return (np.array([np.count_nonzero(np.argmax(logits, 1) == label)], np.int32),)


def pair_infer(attrs: Attrs, types: Types) -> Types:
    """x, target of one shape -> loss[1]."""
    require(len(types) == 2 and types[0].dtype.is_float, "takes x and target in float")
    require(types[0].shape == types[1].shape, f"target has shape {types[1].dims}, x {types[0].dims}")
    require(types[0].dtype is types[1].dtype, "x and target have one dtype")
    return (Type((1,), types[0].dtype),)


def mse(attrs: Attrs, inputs: Arrays) -> Arrays:
    x, target = (a.ravel() for a in inputs)
    d = np.subtract(x, target)
    return (_mean_over(d * d, d.size),)


def mse_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """dx = 2 (x - target) dloss / size."""
    if grads[0] is None:
        return None, None
    x, target = (Term(b, r) for r in node.inputs)
    dx = (x - target) * (Term(b, grads[0]) * (2.0 / b.types[x.ref].size))
    return dx.ref, (-dx).ref


def bce_logits(attrs: Attrs, inputs: Arrays) -> Arrays:
    """max(x, 0) - x target + log(1 + exp(-|x|)), which no x overflows."""
    x: Numbers = inputs[0].ravel()
    target: Numbers = inputs[1].ravel()
    zero, one = x.dtype.type(0), x.dtype.type(1)
    rows = (np.where(x > zero, x, zero) - x * target) + float_exact.log(one + float_exact.exp(-np.abs(x)))
    return (_mean_over(rows, x.size),)


def bce_logits_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """dx = (sigmoid(x) - target) dloss / size; dtarget = -x dloss / size."""
    if grads[0] is None:
        return None, None
    x, target = (Term(b, r) for r in node.inputs)
    each = Term(b, grads[0]) * (1.0 / b.types[x.ref].size)
    return ((x.op("sigmoid") - target) * each).ref, (-(x * each)).ref


def kl_infer(attrs: KlLogitsAttrs, types: Types) -> Types:
    """logits[N,C], teacher's logits[N,C] -> loss[1]."""
    require(attrs.temperature > 0, f"the temperature {attrs.temperature} is not positive")
    require(len(types) == 2 and len(types[0].shape) == 2, "logits have 2 axes")
    return pair_infer(attrs, types)


def kl_logits(attrs: KlLogitsAttrs, inputs: Arrays) -> Arrays:
    """T^2 mean over rows of sum p (log p - log q), p and q the softmax of teacher / T and logits / T."""
    x: Numbers = inputs[0]
    teacher: Numbers = inputs[1]
    inverse = x.dtype.type(1.0 / attrs.temperature)
    z, _, sums = _shifted(x * inverse)
    t, e, teacher_sums = _shifted(teacher * inverse)
    log_p, log_q = t - float_exact.log(teacher_sums), z - float_exact.log(sums)
    rows = float_exact.total((e / teacher_sums) * (log_p - log_q), 1)[:, 0]
    return (_mean_over(rows, len(rows)) * x.dtype.type(attrs.temperature**2),)


def kl_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """dlogits = T (q - p) dloss / N; the teacher does not learn."""
    attrs = node.attrs
    assert isinstance(attrs, KlLogitsAttrs)
    if grads[0] is None:
        return None, None
    q, p = (
        Term(b, emit(b, "softmax", (Term(b, r) * (1.0 / attrs.temperature)).ref, axis=1)) for r in node.inputs
    )
    each = Term(b, grads[0]) * (attrs.temperature / b.types[node.inputs[0]].dims[0])
    return ((q - p) * each).ref, None


def cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """An exponential, a sum and a division an element."""
    return Cost(0, 3 * inputs[0].size)


def _labelled(rows: int, classes: int, *more: int, out_of_range: bool = False) -> Callable[..., Arrays]:
    """Logits, labels (the first out of range where asked) and, for each of `more`, normal numbers of that size."""

    def make(rng: np.random.Generator) -> Arrays:
        label = rng.integers(0, classes, rows).astype(np.int32)
        if out_of_range:
            label[0] = -1
        logits = (3.0 * rng.normal(size=(rows, classes))).astype(np.float32)
        return (logits, label, *(rng.normal(size=n).astype(np.float32) for n in more))

    return make


def _torch_cross_entropy(t: Any, x: Any, label: Any) -> Any:
    return t.nn.functional.cross_entropy(x, label.long(), ignore_index=-1)[None]


def _torch_cross_entropy_grad(t, x, label, dloss):  # type: ignore[no-untyped-def]
    x = x.requires_grad_()
    return t.autograd.grad(_torch_cross_entropy(t, x, label), x, dloss)[0]


def _torch_correct(t, x, label):  # type: ignore[no-untyped-def]
    return (x.argmax(1) == label).sum().int()[None]


define(
    Op(
        name="cross_entropy",
        doc="Mean over rows of log(sum(exp(x))) - x[label], labels i32; other labels than 0..C-1 count for nothing.",
        attrs=Attrs,
        infer=cross_entropy_infer,
        ref=cross_entropy,
        vjp=cross_entropy_vjp,
        quant=IN_FLOAT,
        cost=cost,
        examples=(
            Example("one row", NO_ATTRS, _labelled(1, 10), _torch_cross_entropy),
            Example(
                "rows, one not counted", NO_ATTRS, _labelled(5, 7, out_of_range=True), _torch_cross_entropy
            ),
        ),
    )
)
define(
    Op(
        name="cross_entropy_grad",
        doc="Gradient of cross_entropy to its logits: (softmax(x) - [label]) dloss / rows counted.",
        attrs=Attrs,
        infer=cross_entropy_grad_infer,
        ref=cross_entropy_grad,
        vjp=NoGrad("second derivatives of losses are not built"),
        quant=IN_FLOAT,
        cost=cost,
        examples=(
            Example("one row", NO_ATTRS, _labelled(1, 10, 1), _torch_cross_entropy_grad),
            Example(
                "one not counted", NO_ATTRS, _labelled(5, 7, 1, out_of_range=True), _torch_cross_entropy_grad
            ),
        ),
    )
)
define(
    Op(
        name="correct_count",
        doc="How many rows of logits[N,C] have their first largest element at the label; i32[1].",
        attrs=Attrs,
        infer=correct_count_infer,
        ref=correct_count,
        vjp=NoGrad("a count has no gradient"),
        quant=IN_FLOAT,
        cost=lambda attrs, inputs, outputs: Cost(0, inputs[0].size),
        examples=(
            Example("one row", NO_ATTRS, _labelled(1, 3), _torch_correct),
            Example("rows", NO_ATTRS, _labelled(40, 4), _torch_correct),
        ),
    )
)
define(
    Op(
        name="mse",
        doc="Mean of (x - target)^2 over all elements.",
        attrs=Attrs,
        infer=pair_infer,
        ref=mse,
        vjp=mse_vjp,
        quant=IN_FLOAT,
        cost=cost,
        examples=(
            Example(
                "row", NO_ATTRS, normal((1, 9), (1, 9)), lambda t, x, y: t.nn.functional.mse_loss(x, y)[None]
            ),
            Example(
                "map",
                NO_ATTRS,
                normal((2, 3, 4, 5), (2, 3, 4, 5)),
                lambda t, x, y: t.nn.functional.mse_loss(x, y)[None],
            ),
        ),
    )
)


def _probable(*shape: int, std: float) -> Callable[[np.random.Generator], Arrays]:
    """Logits and targets in 0..1."""

    def make(rng: np.random.Generator) -> Arrays:
        return (
            (std * rng.normal(size=shape)).astype(np.float32),
            rng.uniform(size=shape).astype(np.float32),
        )

    return make


define(
    Op(
        name="bce_logits",
        doc="Mean binary cross-entropy of sigmoid(x) to target in 0..1, over all elements.",
        attrs=Attrs,
        infer=pair_infer,
        ref=bce_logits,
        vjp=bce_logits_vjp,
        quant=IN_FLOAT,
        cost=cost,
        examples=tuple(
            Example(
                label,
                NO_ATTRS,
                _probable(3, 5, std=std),
                lambda t, x, y: t.nn.functional.binary_cross_entropy_with_logits(x, y)[None],
            )
            for label, std in (("small", 2.0), ("saturated", 60.0))
        ),
    )
)


def _torch_kl(temperature: float) -> Callable[..., Any]:
    def torch(t, x, teacher):  # type: ignore[no-untyped-def]
        log_q, log_p = ((v / temperature).log_softmax(1) for v in (x, teacher))
        kl = t.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return (kl * temperature**2)[None]

    return torch


define(
    Op(
        name="kl_logits",
        doc="T^2 times the mean over rows of the divergence of softmax(x / T) from softmax(teacher / T).",
        attrs=KlLogitsAttrs,
        infer=kl_infer,
        ref=kl_logits,
        vjp=kl_vjp,
        quant=IN_FLOAT,
        cost=cost,
        examples=(
            Example("plain", KlLogitsAttrs(), normal((1, 10), (1, 10)), _torch_kl(1.0)),
            Example("soft", KlLogitsAttrs(4.0), normal((3, 7), (3, 7), std=4.0), _torch_kl(4.0)),
        ),
    )
)
