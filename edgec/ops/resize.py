"""resize: nearest and bilinear interpolation of x[N,H,W,C], with PyTorch's choice of source rows.

A resize is a linear map of rows and one of columns; so are adaptive averages. `separable_gradient` takes the
gradient back through such a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from edgec.ir import Array, Attrs, Type
from edgec.ops.define import (
    Arrays,
    Cost,
    Example,
    Op,
    QuantRule,
    Types,
    define,
    require,
)
from edgec.ops.emit import emit
from edgec.ops.sample import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Indices = npt.NDArray[np.int64]
WEIGHT_BITS: Final = 11  # of an interpolation weight: 128 * 2**(2 * 11) fits int32


@dataclass(frozen=True, slots=True)
class ResizeAttrs(Attrs):
    """`size` is (P, Q). `align_corners` (bilinear) puts the corner samples on each other."""

    size: tuple[int, int]
    mode: Literal["nearest", "bilinear"] = "nearest"
    align_corners: bool = False


def nearest_rows(size: int, out: int) -> Indices:
    """Source row of each output row: floor(row * size / out), in float32 as PyTorch computes it."""
    scale = np.float32(size) / np.float32(out)
    rows = np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.int64)
    return np.asarray(np.minimum(rows, size - 1), np.int64)


def bilinear_rows(
    size: int, out: int, align_corners: bool
) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    """(first, second, weight): output row = (1 - weight) * x[first] + weight * x[second]."""
    rows = np.arange(out, dtype=np.float64)
    if align_corners:
        source = rows * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        source = np.maximum((rows + 0.5) * (size / out) - 0.5, 0.0)
    first = np.minimum(np.floor(source).astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), source - first


def integer_weights(weight: npt.NDArray[np.float64]) -> Indices:
    """Weight of the second row in 2**-WEIGHT_BITS, rounded half up; the first row has the rest."""
    return np.floor(weight * (1 << WEIGHT_BITS) + 0.5).astype(np.int64)


def infer(attrs: ResizeAttrs, types: Types) -> Types:
    """x[N,H,W,C] -> y[N,P,Q,C]."""
    require(len(types) == 1 and len(types[0].shape) == 4, "takes x[N,H,W,C]")
    require(min(attrs.size) > 0, f"size {attrs.size} is not positive")
    require(attrs.mode in ("nearest", "bilinear"), f"mode {attrs.mode} is not known")
    n, _, _, c = types[0].shape
    return (Type((n, *attrs.size, c), types[0].dtype),)


def ref(attrs: ResizeAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    p, q = attrs.size
    if attrs.mode == "nearest":
        return (x[:, nearest_rows(x.shape[1], p)][:, :, nearest_rows(x.shape[2], q)],)
    first, second, weight = bilinear_rows(x.shape[1], p, attrs.align_corners)
    x = _blend(x[:, first], x[:, second], weight[:, None, None])
    first, second, weight = bilinear_rows(x.shape[2], q, attrs.align_corners)
    return (_blend(x[:, :, first], x[:, :, second], weight[:, None]),)


def _blend(first: Array, second: Array, weight: npt.NDArray[np.float64]) -> Array:
    """first * (1 - weight) + second * weight in the dtype of `first`."""
    w = np.asarray(weight, first.dtype)
    return np.asarray(np.add(np.multiply(first, np.subtract(1, w, dtype=w.dtype)), np.multiply(second, w)))


def quant_ref(attrs: ResizeAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """nearest: a copy. bilinear: floor(sum of four (q * row weight * column weight) + 2**21) / 2**22; the
    weights of each pair sum to 2**11, so that the zero point passes through."""
    if attrs.mode == "nearest":
        return ref(attrs, inputs)
    x, one = inputs[0].astype(np.int64), 1 << WEIGHT_BITS
    first, second, weight = bilinear_rows(x.shape[1], attrs.size[0], attrs.align_corners)
    w = integer_weights(weight)[:, None, None]
    x = x[:, first] * (one - w) + x[:, second] * w
    first, second, weight = bilinear_rows(x.shape[2], attrs.size[1], attrs.align_corners)
    w = integer_weights(weight)[:, None]
    x = x[:, :, first] * (one - w) + x[:, :, second] * w
    return ((x + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS),)


def matrix(attrs: ResizeAttrs, size: int, out: int) -> npt.NDArray[np.float64]:
    """The linear map [out, size] of one axis."""
    made = np.zeros((out, size))
    rows = np.arange(out)
    if attrs.mode == "nearest":
        made[rows, nearest_rows(size, out)] = 1.0
        return made
    first, second, weight = bilinear_rows(size, out, attrs.align_corners)
    np.add.at(made, (rows, first), 1.0 - weight)
    np.add.at(made, (rows, second), weight)
    return made


def separable_gradient(b: Builder, dy: str, rows: Array, columns: Array) -> str:
    """Gradient [N,H,W,C] of y[N,P,Q,C] = rows[P,H] x columns[Q,W]^T, from dy."""
    n, p, _, c = b.types[dy].dims
    dtype = b.types[dy].dtype.numpy
    w = columns.shape[1]
    across = emit(b, "matmul", b.constant(np.ascontiguousarray(columns.T, dtype), "columns"), dy)
    flat = emit(b, "reshape", across, shape=(n, p, w * c))
    down = emit(b, "matmul", b.constant(np.ascontiguousarray(rows.T, dtype), "rows"), flat)
    return emit(b, "reshape", down, shape=(n, rows.shape[1], w, c))


def vjp(b: Builder, node: Node, grads: Sequence[str | None]) -> Sequence[str | None]:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, ResizeAttrs)
    if dy is None:
        return (None,)
    _, h, w, _ = b.types[node.inputs[0]].dims
    rows, columns = matrix(attrs, h, attrs.size[0]), matrix(attrs, w, attrs.size[1])
    return (separable_gradient(b, dy, rows, columns),)


def cost(attrs: ResizeAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, outputs[0].size * (1 if attrs.mode == "nearest" else 4))


def _example(label: str, attrs: ResizeAttrs, x: tuple[int, ...]) -> Example:
    def torch(t, x):  # type: ignore[no-untyped-def]
        corners = attrs.align_corners if attrs.mode == "bilinear" else None
        y = t.nn.functional.interpolate(
            x.permute(0, 3, 1, 2), attrs.size, mode=attrs.mode, align_corners=corners
        )
        return y.permute(0, 2, 3, 1)

    return Example(label, attrs, normal(x), torch)


define(
    Op(
        name="resize",
        doc="Nearest or bilinear interpolation of x[N,H,W,C] to P rows and Q columns.",
        attrs=ResizeAttrs,
        infer=infer,
        ref=ref,
        vjp=vjp,
        quant=QuantRule(("shared",), "shared", quant_ref, max_lsb=1.0),
        cost=cost,
        examples=(
            _example("nearest, twice the size", ResizeAttrs((6, 8)), (2, 3, 4, 3)),
            _example("nearest, odd ratio", ResizeAttrs((7, 3)), (1, 5, 8, 2)),
            _example("bilinear, twice the size", ResizeAttrs((6, 8), "bilinear"), (2, 3, 4, 3)),
            _example("bilinear, smaller", ResizeAttrs((3, 5), "bilinear"), (1, 8, 7, 2)),
            _example("bilinear, corners aligned", ResizeAttrs((7, 1), "bilinear", True), (1, 4, 3, 5)),
        ),
    )
)
