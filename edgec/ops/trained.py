"""Forward ops of which something trains: conv2d with a bias and weight columns in state, add with a mask.

Both can give a mask beside their output: bit i, in the output's flat order, is 1 where the value before the clamp
lies within it (bounds included), which is where a gradient passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.fixedpoint import clamp_bounds, multipliers, requantize
from edgec.ir import Array, Attrs, DType, Type
from edgec.ops import conv2d as plain
from edgec.ops.binary import sum_multipliers
from edgec.ops.block_float import mask_type, pack_mask
from edgec.ops.conv2d import Clamp, Conv2dAttrs
from edgec.ops.define import (
    Arrays,
    Cost,
    Example,
    NoGrad,
    Op,
    QuantRule,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import Make, normal

STRAIGHT = NoGrad("it stands in training steps; passes/straight_through.py takes its gradient")
INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, slots=True)
class TrainedConv2dAttrs(Attrs):
    """As Conv2dAttrs; with `mask` the second output is the mask."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    act: Clamp = None
    mask: bool = False

    @property
    def forward(self) -> Conv2dAttrs:
        """The convolution without its clamp."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, slots=True)
class TrainedAddAttrs(Attrs):
    """`act` as in BinaryAttrs; with `mask` the second output is the mask."""

    act: Clamp = None
    mask: bool = False


def by_rows(w: Type, groups: int) -> bool:
    """Whether the trained part of the weight w[O,R,S,I] is some outputs (depthwise), not some input columns."""
    return groups > 1 and w.dims[3] == 1


def require_columns(w: Type, groups: int, idx: Type, columns: Type) -> None:
    """Raise TypeRule unless `idx` i32[k] and `columns` belong to w[O,R,S,I]: [O,R,S,k], depthwise [k,R,S,1]."""
    require(len(idx.shape) == 1 and idx.dtype is DType.I32, "idx is i32[k]")
    o, r, s, i = w.dims
    k = idx.dims[0]
    rows = by_rows(w, groups)
    require(rows or groups == 1, "columns of grouped weights are not trained apart")
    require(0 < k <= (o if rows else i), f"{k} of {o if rows else i} channels")
    wanted = (k, r, s, 1) if rows else (o, r, s, k)
    require(columns.dims == wanted, f"the trained columns are {list(wanted)}, here {list(columns.dims)}")
    require(columns.dtype is w.dtype, "w and its trained columns have one dtype")


def whole_weight(w: Array, groups: int, columns: Arrays) -> Array:
    """w with the trained part of `columns` = (idx, slice) put in; w where there is none."""
    if not columns:
        return w
    idx, part = columns
    made = w.copy()
    if groups > 1 and w.shape[3] == 1:
        made[np.asarray(idx, np.int64)] = part
    else:
        made[..., np.asarray(idx, np.int64)] = part
    return made


def infer_conv(attrs: TrainedConv2dAttrs, types: Types) -> Types:
    """x[N,H,W,C], w[O,R,S,C/groups], b[O] (, idx i32[k], slice) -> y (, mask)."""
    require(len(types) in (3, 5), "takes x, w, b and optionally idx and slice")
    (y,) = plain.infer(attrs.forward, types[:3])
    if len(types) == 5:
        require_columns(types[1], attrs.groups, *types[3:])
    return (y, mask_type(y)) if attrs.mask else (y,)


def ref_conv(attrs: TrainedConv2dAttrs, inputs: Arrays) -> Arrays:
    w = whole_weight(inputs[1], attrs.groups, inputs[3:])
    y = np.add(plain.accumulate(attrs.forward, inputs[0], w, 0.0), inputs[2])
    return _clamped(attrs, y)


def _clamped(attrs: TrainedConv2dAttrs | TrainedAddAttrs, y: Array) -> Arrays:
    low, high = attrs.act if attrs.act is not None else (-np.inf, np.inf)
    clipped: Array = np.clip(y, low, high) if attrs.act is not None else y
    reals = y.astype(np.float64)
    return (clipped, pack_mask((reals >= low) & (reals <= high))) if attrs.mask else (clipped,)


def quant_conv(attrs: TrainedConv2dAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """v = Zy + requantize(saturated(sum (x - Zx) w + b), Sx Sw / Sy), y = clamp(v), mask = v within the clamp."""
    x, w, y = (t.quant for t in (in_types[0], in_types[1], out_types[0]))
    assert x is not None and w is not None and y is not None
    whole = whole_weight(inputs[1], attrs.groups, inputs[3:])
    sums = plain.integer_accumulate(attrs.forward, inputs[0], whole, x.zero[0]).astype(np.int64)
    sums = np.clip(sums + inputs[2].astype(np.int64), *INT32)
    m, shift = multipliers([x.scale[0] * s / y.scale[0] for s in w.scale])
    return _bounded(attrs, requantize(sums, m, shift) + y.zero[0], out_types[0])


def _bounded(attrs: TrainedConv2dAttrs | TrainedAddAttrs, v: Array, y: Type) -> Arrays:
    assert y.quant is not None
    low, high = clamp_bounds(attrs.act, y.quant)
    ints = v.astype(np.int64)
    clipped = np.clip(ints, low, high).astype(np.int8)
    return (clipped, pack_mask((ints >= low) & (ints <= high))) if attrs.mask else (clipped,)


def cost_conv(attrs: TrainedConv2dAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(outputs[0].size * inputs[1].size // inputs[1].dims[0])


def infer_add(attrs: TrainedAddAttrs, types: Types) -> Types:
    """a, b of one shape -> y (, mask)."""
    require(len(types) == 2, "takes a and b")
    a, b = types
    require(a.shape == b.shape and a.dtype is b.dtype, "a and b have one shape and dtype")
    y = Type(a.shape, a.dtype)
    return (y, mask_type(y)) if attrs.mask else (y,)


def ref_add(attrs: TrainedAddAttrs, inputs: Arrays) -> Arrays:
    return _clamped(attrs, np.add(inputs[0], inputs[1]))


def quant_add(attrs: TrainedAddAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """As add; the mask is 1 where the rounded sum lies within the clamp."""
    a, b, y = (t.quant for t in (*in_types, out_types[0]))
    assert a is not None and b is not None and y is not None
    ma, mb, shift = sum_multipliers(a, b, y)
    acc = (inputs[0].astype(np.int64) - a.zero[0]) * ma + (inputs[1].astype(np.int64) - b.zero[0]) * mb
    return _bounded(attrs, ((acc + (1 << (shift - 1))) >> shift) + y.zero[0], out_types[0])


def _torch_conv(attrs: TrainedConv2dAttrs) -> Any:
    def torch(t, x, w, b, idx=None, part=None):  # type: ignore[no-untyped-def]
        if idx is not None:
            w = w.clone()
            if attrs.groups > 1:
                w[idx.long()] = part
            else:
                w[..., idx.long()] = part
        top, bottom, left, right = attrs.pad
        padded = t.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = t.nn.functional.conv2d(
            padded, w.permute(0, 3, 1, 2), b, attrs.stride, 0, attrs.dilation, attrs.groups
        ).permute(0, 2, 3, 1)
        y = y.clamp(*attrs.act) if attrs.act is not None else y
        return (y, _torch_mask(t, y, attrs.act)) if attrs.mask else y

    return torch


def _torch_mask(t: Any, y: Any, act: Clamp) -> Any:
    """Bits of what a clamp let through: random reals never lie on its bounds."""
    inside = t.ones_like(y, dtype=t.bool) if act is None else (y > act[0]) & (y < act[1])
    flat = t.nn.functional.pad(inside.reshape(-1), (0, -y.numel() % 8)).reshape(-1, 8)
    return (flat * 2 ** t.arange(8)).sum(1).to(t.uint8)


def _conv(
    label: str, attrs: TrainedConv2dAttrs, x: tuple[int, ...], w: tuple[int, ...], idx: tuple[int, ...] = ()
) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        arrays = normal(x, w, w[:1])(rng)
        if not idx:
            return arrays
        rows = attrs.groups > 1 and w[3] == 1
        shape = (len(idx), *w[1:]) if rows else (*w[:3], len(idx))
        (part,) = normal(shape)(rng)
        # Both have w's scale: the largest number of each output is the same.
        largest = [np.abs(a).max(axis=(1, 2, 3), keepdims=True) for a in (arrays[1], part)]
        part = part * (largest[0][list(idx)] if rows else largest[0]) / largest[1]
        return (*arrays, np.array(idx, np.int32), part.astype(np.float32))

    return Example(label, attrs, make, _torch_conv(attrs))


_MASKED = TrainedConv2dAttrs(act=(0.0, 3.0), mask=True)

define(
    Op(
        name="trained_conv2d",
        doc="conv2d of x[N,H,W,C] with w[O,R,S,C/groups] and b[O], both of which may be state; the columns idx of w "
        "(the outputs idx of a depthwise w) are those of slice[O,R,S,k] ([k,R,S,1]). In int8 the bias is added with "
        "saturation. With mask also u8[ceil(size/8)]: where a gradient passes the clamp.",
        attrs=TrainedConv2dAttrs,
        infer=infer_conv,
        ref=ref_conv,
        vjp=STRAIGHT,
        quant=QuantRule(
            ("activation", "weight", "bias", "index", "weight"), "calibrated", quant_conv, 1.0, weight_axis=0
        ),
        cost=cost_conv,
        examples=(
            _conv("1x1, mask", _MASKED, (1, 3, 5, 6), (7, 1, 1, 6)),
            _conv("1x1, some columns", _MASKED, (2, 3, 3, 12), (8, 1, 1, 12), (1, 4, 5, 11)),
            _conv(
                "3x3 stride 2, some columns",
                replace(_MASKED, stride=(2, 2), pad=(1, 0, 1, 1)),
                (1, 6, 7, 5),
                (4, 3, 3, 5),
                (0, 3),
            ),
            _conv(
                "depthwise 5x5, some channels",
                replace(_MASKED, pad=(2, 2, 2, 2), groups=9),
                (1, 6, 5, 9),
                (9, 5, 5, 1),
                (2, 3, 8),
            ),
            _conv("1x1 stride 2, no mask", TrainedConv2dAttrs((2, 2)), (2, 5, 4, 8), (9, 1, 1, 8)),
            _conv(
                "depthwise 3x3 stride 2, dilation, no mask",
                TrainedConv2dAttrs((2, 1), (2, 1, 0, 2), (1, 2), 10),
                (2, 7, 6, 10),
                (10, 3, 3, 1),
            ),
            _conv(
                "groups, dilation, no mask",
                TrainedConv2dAttrs((1, 2), (1, 1, 0, 2), (2, 1), 2),
                (2, 5, 6, 6),
                (4, 2, 3, 3),
            ),
        ),
    )
)


def _add(label: str, attrs: TrainedAddAttrs, make: Make) -> Example:
    def torch(t, a, b):  # type: ignore[no-untyped-def]
        y = (a + b).clamp(*attrs.act) if attrs.act is not None else a + b
        return (y, _torch_mask(t, y, attrs.act)) if attrs.mask else y

    return Example(label, attrs, make, torch)


define(
    Op(
        name="trained_add",
        doc="a + b with an optional clamp; with mask also u8[ceil(size/8)]: where a gradient passes the clamp.",
        attrs=TrainedAddAttrs,
        infer=infer_add,
        ref=ref_add,
        vjp=STRAIGHT,
        quant=QuantRule(("activation", "activation"), "calibrated", quant_add, max_lsb=1.0),
        cost=elementwise_cost,
        examples=(
            _add("clamped", TrainedAddAttrs((0.0, 1.5), True), normal((1, 4, 5, 3), (1, 4, 5, 3))),
            _add("mask alone", TrainedAddAttrs(None, True), normal((2, 3, 1, 5), (2, 3, 1, 5))),
            _add("no mask", TrainedAddAttrs((-1.0, 1.0)), normal((7,), (7,))),
        ),
    )
)
