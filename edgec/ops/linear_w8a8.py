"""quantize_rows and linear_w8a8: int8 products whose activations get a scale for each token at run time.

Xiao et al., "SmoothQuant", ICML 2023, section 3: per-token symmetric activations, per-channel symmetric weights,
y[m,n] = sx[m] sw[n] sum_k xq[m,k] w[n,k].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.ir import NO_ATTRS, Attrs, DType, Type
from edgec.ops.conv2d import Clamp
from edgec.ops.define import (
    Arrays,
    Cost,
    Example,
    NoGrad,
    NoQuant,
    Op,
    Types,
    define,
    elementwise_cost,
    require,
)
from edgec.ops.sample import normal

STEPS: Final = np.float32(127)
SMALLEST: Final = np.float32(
    1e-30
)  # rows whose largest magnitude is below are zeros, so that 127 / it is finite


@dataclass(frozen=True, slots=True)
class LinearW8A8Attrs(Attrs):
    """`dtype`: of the output, "f32", "f16" or "bf16". `act`: a fused clamp of the output, in real units."""

    dtype: str
    act: Clamp = None


def quantize_rows_infer(attrs: Attrs, types: Types) -> Types:
    """x[...,K] float -> (i8[...,K], f32[...,1])."""
    require(len(types) == 1, "takes x")
    x = types[0]
    require(len(x.shape) >= 1 and x.dtype.is_float, "x holds floats and has at least one axis")
    return (Type(x.shape, DType.I8), Type((*x.shape[:-1], 1), DType.F32))


def quantize_rows_ref(attrs: Attrs, inputs: Arrays) -> Arrays:
    """In float32, each step rounded once: a = max|x|, scale = a / 127, q = rint(x * (127 / a)).

    Kernels equal it bit for bit.
    """
    x = inputs[0].astype(np.float32)
    most = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    zeros = most < SMALLEST
    inverse = STEPS / np.where(zeros, np.float32(1), most)
    q = np.clip(np.rint(x * inverse), -STEPS, STEPS)
    return (np.where(zeros, 0, q).astype(np.int8), np.where(zeros, np.float32(0), most / STEPS))


def linear_w8a8_infer(attrs: LinearW8A8Attrs, types: Types) -> Types:
    """xq i8[...,K], sx f32[...,1], w i8[N,K], sw f32[N], bias[N] (optional) -> y[...,N] of attrs.dtype."""
    require(len(types) in (4, 5), "takes xq, sx, w, sw and an optional bias")
    x, sx, w, sw = types[:4]
    require(x.dtype is DType.I8 and w.dtype is DType.I8, "xq and w are i8")
    require(sx.dtype is DType.F32 and sw.dtype is DType.F32, "sx and sw are f32")
    require(len(x.shape) >= 1 and len(w.shape) == 2, "xq has at least one axis, w two")
    require(x.shape[-1] == w.shape[1], f"xq has {x.shape[-1]} channels, w takes {w.dims[1]}")
    require(sx.shape == (*x.shape[:-1], 1), f"sx has shape {(*x.shape[:-1], 1)}, not {sx.shape}")
    require(sw.shape == w.shape[:1], f"sw has shape {w.shape[:1]}")
    require(len(types) == 4 or types[4].shape == w.shape[:1], f"bias has shape {w.shape[:1]}")
    require(attrs.dtype in ("f32", "f16", "bf16"), f"the output is f32, f16 or bf16, not {attrs.dtype}")
    return (Type((*x.shape[:-1], w.shape[0]), DType(attrs.dtype)),)


def linear_w8a8_ref(attrs: LinearW8A8Attrs, inputs: Arrays) -> Arrays:
    """Sums are exact; the product with sx sw[n] and the sum with the bias are rounded to float32 once each."""
    x, sx, w, sw = inputs[:4]
    sums = np.matmul(x.astype(np.float64), w.T.astype(np.float64)).astype(np.float32)
    y = sums * (np.asarray(sx, np.float32) * np.asarray(sw, np.float32))
    if len(inputs) == 5:
        y = y + inputs[4]
    return (np.clip(y, *attrs.act) if attrs.act is not None else y,)


def linear_w8a8_cost(attrs: LinearW8A8Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(outputs[0].size * inputs[2].dims[1])


def _example(label: str, x: tuple[int, ...], outputs: int, bias: bool, act: Clamp) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        arrays = (
            rng.integers(-127, 128, x).astype(np.int8),
            rng.uniform(0.01, 0.1, (*x[:-1], 1)).astype(np.float32),
            rng.integers(-127, 128, (outputs, x[-1])).astype(np.int8),
            rng.uniform(0.001, 0.01, outputs).astype(np.float32),
        )
        return (*arrays, rng.normal(size=outputs).astype(np.float32)) if bias else arrays

    def torch(t, x, sx, w, sw, b=None):  # type: ignore[no-untyped-def]
        y = (x.double() @ w.double().T).float() * sx * sw
        y = y if b is None else y + b
        return y.clamp(*act) if act is not None else y

    return Example(label, LinearW8A8Attrs("f32", act), make, torch)


define(
    Op(
        name="quantize_rows",
        doc="int8 of x[...,K] with a scale of its own for each row: (q, max|row| / 127).",
        attrs=Attrs,
        infer=quantize_rows_infer,
        ref=quantize_rows_ref,
        vjp=NoGrad("the rounding to integers has no useful gradient"),
        quant=NoQuant("it makes integers at run time; its input is float"),
        cost=elementwise_cost,
        examples=(
            Example("tokens", NO_ATTRS, normal((2, 3, 40)), None),
            Example("one row", NO_ATTRS, normal((1, 128), std=20.0), None),
        ),
    )
)
define(
    Op(
        name="linear_w8a8",
        doc="Integer sums of xq[...,K] with the rows of w[N,K], times sx of the token and sw[n], plus bias[N].",
        attrs=LinearW8A8Attrs,
        infer=linear_w8a8_infer,
        ref=linear_w8a8_ref,
        vjp=NoGrad("int8 weights do not train; train the float layer and quantise it again"),
        quant=NoQuant("its operands are integers already, with scales known at run time"),
        cost=linear_w8a8_cost,
        examples=(
            _example("tokens, bias, clamped", (2, 3, 64), 10, True, (-2.0, 2.0)),
            _example("one row", (1, 48), 7, False, None),
        ),
    )
)
