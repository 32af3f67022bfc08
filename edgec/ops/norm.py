"""Normalisation: batch_norm, layer_norm, rms_norm, group_norm. Channels last; integers: norm_integer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Array, Attrs, Type
from edgec.ops.define import Arrays, Cost, Example, NoQuant, Op, QuantRule, Role, Types, define, require
from edgec.ops.emit import emit, scalar
from edgec.ops.movement import normal
from edgec.ops.norm_integer import NormPlan, deviations, normalise, plan_norm, scale_out

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class BatchNormAttrs(Attrs):
    """Added to the variance."""

    eps: float


@dataclass(frozen=True, slots=True)
class LayerNormAttrs(Attrs):
    """Number of trailing axes normalised together, and what is added to the variance."""

    axes_from_end: int
    eps: float


@dataclass(frozen=True, slots=True)
class RmsNormAttrs(Attrs):
    """Added to the mean square."""

    eps: float


@dataclass(frozen=True, slots=True)
class GroupNormAttrs(Attrs):
    """Number of groups of consecutive channels, and what is added to the variance."""

    groups: int
    eps: float


def infer_batch_norm(attrs: BatchNormAttrs, types: Types) -> Types:
    require(len(types) == 5 and len(types[0].shape) >= 1, "takes x, gamma, beta, mean and var")
    x = types[0]
    for t, what in zip(types[1:], ("gamma", "beta", "mean", "var"), strict=True):
        require(t.shape == (x.shape[-1],), f"{what} has shape {t.shape}, not ({x.shape[-1]},)")
    return (Type(x.shape, x.dtype),)


def batch_norm(attrs: BatchNormAttrs, inputs: Arrays) -> Arrays:
    given: tuple[Numbers, ...] = inputs
    x, gamma, beta, mean, var = given
    return ((x - mean) * (gamma / np.sqrt(var + _of(attrs.eps, x))) + beta,)


def vjp_batch_norm(b: Builder, node: Node, grads: Grads) -> Grads:
    """Statistics are inputs: dmean = -sum(dx), dvar = -sum(dy gamma (x - mean)) / (var + eps)^(3/2) / 2."""
    assert isinstance(node.attrs, BatchNormAttrs)
    grad = grads[0]
    if grad is None:
        return (None,) * 5
    x, gamma, _, mean, var = node.inputs
    lead = tuple(range(len(b.types[x].shape) - 1))
    inv = emit(b, "rsqrt", emit(b, "add", var, scalar(b, node.attrs.eps, grad)))
    centred = emit(b, "sub", x, mean)
    dx = emit(b, "mul", grad, emit(b, "mul", gamma, inv))
    spread = _sum(b, emit(b, "mul", grad, centred), lead)
    dgamma = emit(b, "mul", spread, inv)
    cube = emit(b, "mul", inv, emit(b, "mul", inv, inv))
    dvar = emit(b, "mul", emit(b, "mul", emit(b, "mul", spread, gamma), cube), scalar(b, -0.5, grad))
    return (dx, dgamma, _sum(b, grad, lead), emit(b, "neg", _sum(b, dx, lead)), dvar)


def _sum(b: Builder, ref: str, axes: tuple[int, ...], keepdims: bool = False) -> str:
    return emit(b, "reduce_sum", ref, axes=axes, keepdims=keepdims) if axes else ref


def _mean(b: Builder, ref: str, axes: tuple[int, ...]) -> str:
    return emit(b, "reduce_mean", ref, axes=axes, keepdims=True)


def _affine(types: Types, shape: tuple[object, ...]) -> None:
    """gamma and beta, where given, have this shape."""
    require(len(types) in (1, 2, 3), "takes x and optional gamma and beta")
    for t, what in zip(types[1:], ("gamma", "beta"), strict=False):
        require(t.shape == shape, f"{what} has shape {t.shape}, not {shape}")


def infer_layer_norm(attrs: LayerNormAttrs, types: Types) -> Types:
    x = types[0]
    require(1 <= attrs.axes_from_end <= len(x.shape), f"{attrs.axes_from_end} of {len(x.shape)} axes")
    tail = x.shape[-attrs.axes_from_end :]
    require(all(isinstance(d, int) for d in tail), "a normalised axis has a size known only at run time")
    _affine(types, tail)
    return (Type(x.shape, x.dtype),)


def _tail(rank: int, count: int) -> tuple[int, ...]:
    return tuple(range(rank - count, rank))


def _of(value: float, like: Numbers) -> Numbers:
    """The number in the dtype of `like`, so that float32 stays float32."""
    return np.asarray(value, like.dtype)


def _standardise(x: Numbers, axes: tuple[int, ...], eps: float) -> Numbers:
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + _of(eps, x)))


def _scale_shift(y: Numbers, inputs: Arrays) -> Numbers:
    affine: tuple[Numbers, ...] = inputs[1:]
    if affine:
        y = y * affine[0]
    return y + affine[1] if len(affine) > 1 else y


def layer_norm(attrs: LayerNormAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    return (_scale_shift(_standardise(x, _tail(x.ndim, attrs.axes_from_end), attrs.eps), inputs),)


def _standard_grad(b: Builder, x: str, g: str, axes: tuple[int, ...], eps: float) -> tuple[str, str]:
    """(xhat, gradient of x): inv (g - mean(g) - xhat mean(g xhat)) for gradient g of xhat."""
    centred = emit(b, "sub", x, _mean(b, x, axes))
    var = _mean(b, emit(b, "mul", centred, centred), axes)
    inv = emit(b, "rsqrt", emit(b, "add", var, scalar(b, eps, x)))
    xhat = emit(b, "mul", centred, inv)
    along = emit(b, "mul", xhat, _mean(b, emit(b, "mul", g, xhat), axes))
    rest = emit(b, "sub", emit(b, "sub", g, _mean(b, g, axes)), along)
    return xhat, emit(b, "mul", inv, rest)


def _with_affine(b: Builder, node: Node, grad: str, xhat: str, dx: str, lead: tuple[int, ...]) -> Grads:
    out: list[str | None] = [dx]
    if len(node.inputs) > 1:
        out.append(_sum(b, emit(b, "mul", grad, xhat), lead))
    if len(node.inputs) > 2:
        out.append(_sum(b, grad, lead))
    return tuple(out)


def vjp_layer_norm(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, LayerNormAttrs)
    grad = grads[0]
    if grad is None:
        return (None,) * len(node.inputs)
    rank, count = len(b.types[node.inputs[0]].shape), node.attrs.axes_from_end
    g = emit(b, "mul", grad, node.inputs[1]) if len(node.inputs) > 1 else grad
    xhat, dx = _standard_grad(b, node.inputs[0], g, _tail(rank, count), node.attrs.eps)
    return _with_affine(b, node, grad, xhat, dx, tuple(range(rank - count)))


def _plan(types: Types, inputs: Arrays, count: int, eps: float, y: Type) -> NormPlan:
    assert types[0].quant is not None and y.quant is not None
    gamma = inputs[1] if len(inputs) > 1 else None
    beta = inputs[2] if len(inputs) > 2 else None
    return plan_norm(count, eps, types[0].quant, y.quant, gamma, beta)


def _zero(t: Type) -> int:
    assert t.quant is not None
    return t.quant.per_tensor[1]


def quant_layer_norm(attrs: LayerNormAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    x = inputs[0]
    count = math.prod(x.shape[x.ndim - attrs.axes_from_end :])
    plan = _plan(in_types, inputs, count, attrs.eps, out_types[0])
    d, v = deviations(x.reshape(-1, count).astype(np.int64), (1,))
    return (scale_out(normalise(d, v, plan), plan, _zero(out_types[0])).reshape(x.shape),)


def infer_rms_norm(attrs: RmsNormAttrs, types: Types) -> Types:
    x = types[0]
    require(len(types) <= 2, "takes x and an optional gamma")
    require(len(x.shape) >= 1 and isinstance(x.shape[-1], int), "the last axis has a fixed size")
    _affine(types, (x.shape[-1],))
    return (Type(x.shape, x.dtype),)


def rms_norm(attrs: RmsNormAttrs, inputs: Arrays) -> Arrays:
    x: Numbers = inputs[0]
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + _of(attrs.eps, x))
    return (_scale_shift(y, inputs),)


def vjp_rms_norm(b: Builder, node: Node, grads: Grads) -> Grads:
    """dx = inv (g - xhat mean(g xhat)), g = dy gamma."""
    assert isinstance(node.attrs, RmsNormAttrs)
    grad = grads[0]
    if grad is None:
        return (None,) * len(node.inputs)
    x = node.inputs[0]
    last = len(b.types[x].shape) - 1
    g = emit(b, "mul", grad, node.inputs[1]) if len(node.inputs) > 1 else grad
    square = _mean(b, emit(b, "mul", x, x), (last,))
    inv = emit(b, "rsqrt", emit(b, "add", square, scalar(b, node.attrs.eps, grad)))
    xhat = emit(b, "mul", x, inv)
    along = emit(b, "mul", xhat, _mean(b, emit(b, "mul", g, xhat), (last,)))
    dx = emit(b, "mul", inv, emit(b, "sub", g, along))
    return _with_affine(b, node, grad, xhat, dx, tuple(range(last)))


def quant_rms_norm(attrs: RmsNormAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """d = n (x - Z), V = n sum((x - Z)^2)."""
    x = inputs[0]
    n = x.shape[-1]
    plan = _plan(in_types, inputs, n, attrs.eps, out_types[0])
    centred = x.astype(np.int64) - _zero(in_types[0])
    v = n * (centred * centred).sum(-1, keepdims=True)
    return (scale_out(normalise(n * centred, v, plan), plan, _zero(out_types[0])),)


def infer_group_norm(attrs: GroupNormAttrs, types: Types) -> Types:
    x = types[0]
    require(len(x.shape) >= 2, "x has a batch axis and channels")
    require(all(isinstance(d, int) for d in x.shape[1:]), "an axis has a size known only at run time")
    require(
        attrs.groups > 0 and x.dims[-1] % attrs.groups == 0,
        f"{x.dims[-1]} channels do not divide into {attrs.groups} groups",
    )
    _affine(types, (x.shape[-1],))
    return (Type(x.shape, x.dtype),)


def _grouped(x: Array, groups: int) -> Array:
    """[N, positions, groups, C / groups]."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def group_norm(attrs: GroupNormAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    y = _standardise(_grouped(x, attrs.groups), (1, 3), attrs.eps).reshape(x.shape)
    return (_scale_shift(y, inputs),)


def vjp_group_norm(b: Builder, node: Node, grads: Grads) -> Grads:
    assert isinstance(node.attrs, GroupNormAttrs)
    grad = grads[0]
    if grad is None:
        return (None,) * len(node.inputs)
    dims, groups = b.types[node.inputs[0]].dims, node.attrs.groups
    cells = (dims[0], math.prod(dims[1:-1]), groups, dims[-1] // groups)
    g = emit(b, "mul", grad, node.inputs[1]) if len(node.inputs) > 1 else grad
    x, g = emit(b, "reshape", node.inputs[0], shape=cells), emit(b, "reshape", g, shape=cells)
    xhat, dx = _standard_grad(b, x, g, (1, 3), node.attrs.eps)
    xhat, dx = emit(b, "reshape", xhat, shape=dims), emit(b, "reshape", dx, shape=dims)
    return _with_affine(b, node, grad, xhat, dx, tuple(range(len(dims) - 1)))


def quant_group_norm(attrs: GroupNormAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    x = inputs[0]
    cells = _grouped(x, attrs.groups).astype(np.int64)
    plan = _plan(in_types, inputs, cells.shape[1] * cells.shape[3], attrs.eps, out_types[0])
    t = normalise(*deviations(cells, (1, 3)), plan).reshape(x.shape)
    return (scale_out(t, plan, _zero(out_types[0])),)


def cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """Two sums, a scaling and an affine step an element."""
    return Cost(0, 4 * outputs[0].size)


def _affine_example(
    label: str, attrs: Attrs, x: tuple[int, ...], c: tuple[int, ...], torch: object
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        arrays = (rng.normal(0.5, 2.0, size=x), rng.normal(1.0, 0.3, size=c), rng.normal(size=c))
        return tuple(a.astype(np.float32) for a in arrays)

    assert callable(torch)
    return Example(label, attrs, make, torch)


def _batch_norm_inputs(*x: int) -> Callable[[np.random.Generator], Arrays]:
    def make(rng: np.random.Generator) -> Arrays:
        c = x[-1]
        arrays = (
            rng.normal(size=x),
            rng.normal(1, 0.3, c),
            rng.normal(size=c),
            rng.normal(size=c),
            rng.uniform(0.5, 2.0, c),
        )
        return tuple(a.astype(np.float32) for a in arrays)

    return make


def _torch_batch_norm(t, x, gamma, beta, mean, var):  # type: ignore[no-untyped-def]
    y = t.nn.functional.batch_norm(x.movedim(-1, 1), mean, var, gamma, beta, False, 0.0, 1e-3)
    return y.movedim(1, -1)


def _torch_group_norm(groups: int) -> Callable[..., Any]:
    def torch(t, x, gamma=None, beta=None):  # type: ignore[no-untyped-def]
        return t.nn.functional.group_norm(x.movedim(-1, 1), groups, gamma, beta, 1e-5).movedim(1, -1)

    return torch


_ROLES: Final[tuple[Role, ...]] = ("activation", "parameter", "parameter")

define(
    Op(
        name="batch_norm",
        doc="(x - mean) gamma / sqrt(var + eps) + beta on the last axis, with given statistics.",
        attrs=BatchNormAttrs,
        infer=infer_batch_norm,
        ref=batch_norm,
        vjp=vjp_batch_norm,
        quant=NoQuant("batch_norm folds into the layer before it, or becomes mul and add"),
        cost=cost,
        examples=(
            Example("map", BatchNormAttrs(1e-3), _batch_norm_inputs(2, 3, 4, 5), _torch_batch_norm),
            Example("rows", BatchNormAttrs(1e-3), _batch_norm_inputs(6, 4), _torch_batch_norm),
        ),
    )
)
define(
    Op(
        name="layer_norm",
        doc="(x - mean) / sqrt(var + eps) gamma + beta over the trailing axes. int8: exact 64-bit sums, "
        "an integer reciprocal root and int32 tables (formula in ops/norm_integer.py).",
        attrs=LayerNormAttrs,
        infer=infer_layer_norm,
        ref=layer_norm,
        vjp=vjp_layer_norm,
        quant=QuantRule(_ROLES, "calibrated", quant_layer_norm, max_lsb=1.0),
        cost=cost,
        examples=(
            _affine_example(
                "tokens",
                LayerNormAttrs(1, 1e-5),
                (2, 5, 12),
                (12,),
                lambda t, x, g, b: t.nn.functional.layer_norm(x, (12,), g, b, 1e-5),
            ),
            _affine_example(
                "two axes",
                LayerNormAttrs(2, 1e-6),
                (3, 4, 6),
                (4, 6),
                lambda t, x, g, b: t.nn.functional.layer_norm(x, (4, 6), g, b, 1e-6),
            ),
            Example(
                "plain",
                LayerNormAttrs(1, 1e-5),
                normal((4, 33)),
                lambda t, x: t.nn.functional.layer_norm(x, (33,), None, None, 1e-5),
            ),
        ),
    )
)
define(
    Op(
        name="rms_norm",
        doc="x / sqrt(mean(x^2) + eps) gamma over the last axis. int8: exact 64-bit sums, an integer "
        "reciprocal root and an int32 table (formula in ops/norm_integer.py).",
        attrs=RmsNormAttrs,
        infer=infer_rms_norm,
        ref=rms_norm,
        vjp=vjp_rms_norm,
        quant=QuantRule(_ROLES, "calibrated", quant_rms_norm, max_lsb=1.0),
        cost=cost,
        examples=(
            Example(
                "tokens",
                RmsNormAttrs(1e-6),
                normal((2, 5, 12), (12,)),
                lambda t, x, g: t.nn.functional.rms_norm(x, (12,), g, 1e-6),
            ),
            Example(
                "plain",
                RmsNormAttrs(1e-5),
                normal((4, 33)),
                lambda t, x: t.nn.functional.rms_norm(x, (33,), None, 1e-5),
            ),
        ),
    )
)
define(
    Op(
        name="group_norm",
        doc="layer_norm over positions and the channels of each group, gamma and beta a channel, channels "
        "last. int8: exact 64-bit sums, an integer reciprocal root and int32 tables (formula in ops/norm_integer.py).",
        attrs=GroupNormAttrs,
        infer=infer_group_norm,
        ref=group_norm,
        vjp=vjp_group_norm,
        quant=QuantRule(_ROLES, "calibrated", quant_group_norm, max_lsb=1.0),
        cost=cost,
        examples=(
            _affine_example("map", GroupNormAttrs(3, 1e-5), (2, 4, 3, 6), (6,), _torch_group_norm(3)),
            _affine_example("sequence", GroupNormAttrs(1, 1e-5), (2, 7, 4), (4,), _torch_group_norm(1)),
            Example("plain", GroupNormAttrs(2, 1e-5), normal((1, 3, 3, 8)), _torch_group_norm(2)),
        ),
    )
)
