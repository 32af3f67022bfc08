"""Folding: nodes of constants only are computed now; batch norms and per-channel factors and offsets go into
the weights and bias of the convolution or linear layer beside them.

Weights are folded in float64 and rounded once to their own type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Array, Node, Program
from edgec.match import Rewrite, per_channel_values, rewrite
from edgec.ops import OPS
from edgec.ops import define as ops
from edgec.passes.dead import remove_dead

F64 = npt.NDArray[np.float64]

LAYERS: Final = ("conv2d", "conv1d", "conv_transpose2d", "linear")
MAX_BYTES: Final = (
    64 << 20
)  # a node that would make or load more stays, so that large weights stay in their file
MAX_GROWTH: Final = 4  # a constant that would grow more than this (expand, arange) stays above SMALL_BYTES
SMALL_BYTES: Final = 64 << 10


def fold(program: Program) -> Program:
    """`program` with constants folded. Same object where there is nothing to fold."""
    folded = rewrite(program, _visit)
    return program if folded is program else remove_dead(folded)


def fold_between_layers(program: Program) -> Program:
    """The same, but layers of constants stay: their weights may learn (a recurrent cell's first step, whose state is
    0)."""
    folded = rewrite(program, _visit_between_layers)
    return program if folded is program else remove_dead(folded)


def fold_views(program: Program) -> Program:
    """`program` with constants in another shape or order made now: gradients read weights so. Same object where there
    are none."""
    folded = rewrite(program, _visit_view)
    return program if folded is program else remove_dead(folded)


def _visit_view(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    is_view = node.op in ("reshape", "transpose") and node.inputs[0][0] == "@"
    return _compute(at, node) if is_view else None


def _visit_between_layers(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    constant = all(r[0] == "@" for r in node.inputs)
    return None if constant and node.op in LAYERS else _visit(at, node)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if all(r[0] == "@" for r in node.inputs):
        return _compute(at, node)
    if node.op == "batch_norm":
        return _norm_after(at, node)
    if node.op in ("mul", "div", "add", "sub"):
        return _factor_after(at, node)
    if node.op in ("conv2d", "conv1d", "linear"):
        return _norm_before(at, node)
    return None


def _compute(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    in_types = tuple(at.type(r) for r in node.inputs)
    out_types = tuple(v.type for v in node.outputs)
    if any(t.quant is not None or t.bounds for t in (*in_types, *out_types)):
        return None
    loaded, made = sum(t.bytes for t in in_types), sum(t.bytes for t in out_types)
    if max(loaded, made) > MAX_BYTES or (made > SMALL_BYTES and made > MAX_GROWTH * loaded):
        return None
    data = tuple(at.builder.constants[r[1:]].data for r in node.inputs)
    results = ops.run(OPS[node.op], node.attrs, in_types, data, out_types)
    return tuple(at.builder.constant(y, v.name) for v, y in zip(node.outputs, results, strict=True))


def batch_norm_affine(at: Rewrite, node: Node) -> tuple[F64, F64] | None:
    """(factor, offset), each [C], of a batch_norm with constant parameters: y = x * factor + offset."""
    parameters = [at.data(r) for r in node.inputs[1:5]]
    if any(p is None for p in parameters):
        return None
    gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parameters)
    factor = gamma / np.sqrt(var + float(node.attrs.eps))  # type: ignore[attr-defined]
    return factor, beta - mean * factor


def _norm_after(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    affine = batch_norm_affine(at, node)
    return None if affine is None else _scale_outputs(at, node, node.inputs[0], *affine)


def _factor_after(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if getattr(node.attrs, "act", None) is not None:
        return None
    x, c = node.inputs
    if x[0] == "@" and node.op in ("mul", "add"):
        x, c = c, x
    data = at.data(c)
    layer = at.sole(x, *LAYERS)
    if data is None or layer is None or not at.type(x).dtype.is_float:
        return None
    out = at.type(x)
    values = per_channel_values(data, out.dims, out.dims[-1])
    if values is None or node.outputs[0].type != out:
        return None
    one, zero = np.ones_like(values), np.zeros_like(values)
    if node.op == "div" and not values.all():
        return None
    factor = {"mul": values, "div": 1.0 / values if node.op == "div" else one}.get(node.op, one)
    offset = {"add": values, "sub": -values}.get(node.op, zero)
    return _scale_outputs(at, node, x, np.asarray(factor), np.asarray(offset))


def _scale_outputs(at: Rewrite, node: Node, x: str, factor: F64, offset: F64) -> tuple[str, ...] | None:
    """The layer that makes `x`, its output channels times `factor` plus `offset`."""
    layer = at.sole(x, *LAYERS)
    if layer is None or layer.attrs.act is not None:  # type: ignore[attr-defined]
        return None
    w, b = _weights(at, layer)
    if w is None or (b is None and len(layer.inputs) == 3) or not at.type(layer.inputs[1]).dtype.is_float:
        return None
    bias = (np.zeros(len(factor)) if b is None else b) * factor + offset
    weight = w * factor.reshape(-1, *[1] * (w.ndim - 1))
    return (_with_weights(at, layer, node.outputs[0].name, weight, bias),)


def _norm_before(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """conv(batch_norm(x)) without padding: the factor goes into the weights, the offset into the bias."""
    norm = at.sole(node.inputs[0], "batch_norm")
    if norm is None or any(_pad(node)):
        return None
    affine = batch_norm_affine(at, norm)
    w, b = _weights(at, node)
    if affine is None or w is None or (b is None and len(node.inputs) == 3):
        return None
    factor, offset = (_input_channels(v, w, getattr(node.attrs, "groups", 1)) for v in affine)
    shift = (w * offset).reshape(len(w), -1).sum(axis=1)
    moved = replace(node, inputs=(norm.inputs[0], *node.inputs[1:]))
    return (_with_weights(at, moved, node.outputs[0].name, w * factor, shift if b is None else b + shift),)


def _input_channels(values: F64, w: F64, groups: int) -> F64:
    """values[C] as they meet w[O,...,C/groups]: each output channel sees its own group's."""
    each = values.reshape(groups, -1).repeat(len(w) // groups, axis=0)
    return each.reshape(len(w), *[1] * (w.ndim - 2), -1)


def _pad(node: Node) -> tuple[int, ...]:
    return tuple(getattr(node.attrs, "pad", ()))


def _weights(at: Rewrite, layer: Node) -> tuple[F64 | None, F64 | None]:
    arrays: list[Array | None] = [at.data(r) for r in layer.inputs[1:]]
    w, b = arrays[0], arrays[1] if len(arrays) > 1 else None
    return (
        None if w is None else np.asarray(w, np.float64),
        None if b is None else np.asarray(b, np.float64),
    )


def _with_weights(at: Rewrite, layer: Node, name: str, w: F64, b: F64) -> str:
    dtype = at.type(layer.inputs[1]).dtype.numpy
    stem = layer.inputs[1][1:]
    inputs = (
        layer.inputs[0],
        at.builder.constant(w.astype(dtype), stem),
        at.builder.constant(
            b.astype(dtype), stem + ".bias" if len(layer.inputs) < 3 else layer.inputs[2][1:]
        ),
    )
    return at.remake(layer, name, inputs=inputs)
