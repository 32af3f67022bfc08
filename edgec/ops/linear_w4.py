"""linear_w4: a linear layer whose weights are unsigned 4-bit integers with a scale and a zero for each group.

The weight of output n and channel k is w[n,k] = (q[n,k] - zero[n,k/G]) * scale[n,k/G]; q holds two of them in a
byte, the even k in the low four bits. A symmetric quantisation has zero 8 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.conv2d import Clamp
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require

SYMMETRIC_ZERO: Final = 8
LARGEST: Final = 15


@dataclass(frozen=True, slots=True)
class LinearW4Attrs(Attrs):
    """`group`: channels that share a scale and a zero. `act`: a fused clamp of the output, in real units.

    `gated`: the first half of the rows makes g, the second u, and the output is silu(g) u, half as wide.
    `norm_eps`: where it is not None, x is divided by sqrt(mean(x x) + norm_eps) first: an RMS norm whose gain is
    part of the weights.
    """

    group: int
    act: Clamp = None
    gated: bool = False
    norm_eps: float | None = None


def unpack_nibbles(q: Array) -> npt.NDArray[np.uint8]:
    """q[N,K/2] as its K values of 0..15 a row."""
    held = np.asarray(q, np.uint8)
    pairs = np.stack([held & LARGEST, held >> 4], axis=-1)
    return np.asarray(pairs.reshape(*q.shape[:-1], 2 * q.shape[-1]), np.uint8)


def pack_nibbles(values: Array) -> npt.NDArray[np.uint8]:
    """The inverse of unpack_nibbles: values[N,K] of 0..15, K even."""
    even, odd = np.asarray(values[..., 0::2], np.uint8), np.asarray(values[..., 1::2], np.uint8)
    return np.asarray(even | (odd << 4), np.uint8)


def unpack_weights(q: Array, scale: Array, zero: Array, group: int) -> npt.NDArray[np.float32]:
    """(q - zero) * scale as float32 [N,K]."""
    values = unpack_nibbles(q).astype(np.float32)
    return np.asarray(
        (values - np.repeat(zero, group, axis=1)) * np.repeat(scale.astype(np.float32), group, axis=1),
        np.float32,
    )


def linear_w4_infer(attrs: LinearW4Attrs, types: Types) -> Types:
    """x[...,K], q u8[N,K/2], scale[N,K/G], zero u8[N,K/G], bias[N] (optional) -> y[...,N], or N/2 if gated."""
    require(len(types) in (4, 5), "takes x, q, scale, zero and an optional bias")
    x, q, scale, zero = types[:4]
    require(len(x.shape) >= 1 and x.dtype.is_float, "x holds floats and has at least one axis")
    require(q.dtype is DType.U8 and zero.dtype is DType.U8, "q and zero are u8")
    require(scale.dtype.is_float, f"scale holds floats, not {scale.dtype.value}")
    require(len(q.shape) == 2, f"q has 2 axes, here {len(q.shape)}")
    outputs, channels = q.dims[0], 2 * q.dims[1]
    require(x.shape[-1] == channels, f"x has {x.shape[-1]} channels, q holds {channels}")
    require(
        attrs.group > 0 and channels % attrs.group == 0, f"{channels} channels in groups of {attrs.group}"
    )
    groups = (outputs, channels // attrs.group)
    require(scale.shape == groups, f"scale has shape {groups}, not {scale.dims}")
    require(zero.shape == groups, f"zero has shape {groups}, not {zero.dims}")
    require(len(types) == 4 or types[4].shape == (outputs,), f"bias has shape [{outputs}]")
    require(not attrs.gated or (outputs % 2 == 0 and attrs.act is None), "gated: an even N and no clamp")
    return (Type((*x.shape[:-1], outputs // 2 if attrs.gated else outputs), x.dtype),)


def linear_w4_ref(attrs: LinearW4Attrs, inputs: Arrays) -> Arrays:
    x, q, scale, zero = inputs[:4]
    y = np.matmul(normalized(x, attrs.norm_eps), unpack_weights(q, scale, zero, attrs.group).T)
    if len(inputs) == 5:
        y = y + inputs[4]
    if attrs.gated:
        gate, up = np.split(y, 2, axis=-1)
        y = gate / (1 + np.exp(-np.clip(gate, -80, 80))) * up
    return (np.clip(y, *attrs.act) if attrs.act is not None else y,)


def normalized(x: npt.NDArray[Any], eps: float | None) -> npt.NDArray[Any]:
    """x / sqrt(mean(x x) + eps) along the last axis; x where eps is None."""
    if eps is None:
        return x
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + np.asarray(eps, x.dtype)))


def linear_w4_cost(attrs: LinearW4Attrs, inputs: Types, outputs: Types) -> Cost:
    channels = inputs[0].dims[-1]
    return Cost(inputs[0].size // channels * inputs[1].dims[0] * channels)


def _example(
    label: str,
    attrs: LinearW4Attrs,
    x: tuple[int, ...],
    outputs: int,
    bias: bool = False,
    symmetric: bool = False,
) -> Example:
    channels = x[-1]
    groups = (outputs, channels // attrs.group)

    def make(rng: np.random.Generator) -> Arrays:
        arrays: tuple[Array, ...] = (
            rng.normal(size=x).astype(np.float32),
            rng.integers(0, 256, (outputs, channels // 2)).astype(np.uint8),
            rng.uniform(0.01, 0.1, groups).astype(np.float32),
            np.full(groups, SYMMETRIC_ZERO, np.uint8)
            if symmetric
            else rng.integers(0, 16, groups).astype(np.uint8),
        )
        return (*arrays, rng.normal(size=outputs).astype(np.float32)) if bias else arrays

    return Example(label, attrs, make, _torch(attrs))


def _torch(attrs: LinearW4Attrs) -> Callable[..., Any]:
    def torch(t, x, q, scale, zero, bias=None):  # type: ignore[no-untyped-def]
        values = t.stack([q % 16, q // 16], -1).flatten(1).float()
        groups = values.unflatten(1, (-1, attrs.group))
        w = ((groups - zero.unsqueeze(-1)) * scale.unsqueeze(-1)).flatten(1)
        if attrs.norm_eps is not None:
            x = t.nn.functional.rms_norm(x, (x.shape[-1],), eps=attrs.norm_eps)
        y = t.nn.functional.linear(x, w, bias)
        if attrs.gated:
            gate, up = y.chunk(2, -1)
            y = t.nn.functional.silu(gate) * up
        return y.clamp(*attrs.act) if attrs.act is not None else y

    return torch


define(
    Op(
        name="linear_w4",
        doc="x[...,K] times the rows of (q - zero) scale, 4-bit weights in groups along K, plus bias[N].",
        attrs=LinearW4Attrs,
        infer=linear_w4_infer,
        ref=linear_w4_ref,
        vjp=NoGrad("4-bit weights do not train; train the float layer and quantise it again"),
        quant=NoQuant("its weights are integers already, its activations stay in float"),
        cost=linear_w4_cost,
        examples=(
            _example("tokens, clamped", LinearW4Attrs(64, (-1.0, 6.0)), (2, 3, 128), 24, bias=True),
            _example("symmetric", LinearW4Attrs(32), (1, 96), 5, symmetric=True),
            _example("gated, normalised", LinearW4Attrs(128, None, True, 1e-5), (2, 256), 12),
        ),
    )
)
