"""Scaled dot-product attention in float and in integers: grouped queries, a mask, the causal rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from edgec.fixedpoint import I64, multiplier, requantize
from edgec.ir import Array, Attrs, DType, Type
from edgec.ops.define import Arrays, Cost, Example, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit, scalar, sum_to
from edgec.ops.movement import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]

EXCLUDED: Final = -(1 << 31)  # score of a key that the mask forbids
BIAS_MAX: Final = 1 << 29  # |score| < 2^29 too, so that differences fit 31 bits
DEPTH_MAX: Final = 8192  # 8192 * 255^2 < 2^29
KEYS_MAX: Final = 65535  # their weights add up below 2^31
WEIGHT_BITS: Final = 15
TABLE_BITS: Final = 30
STEP_BITS: Final = 8  # of the fraction of a power of two
AVERAGE_BITS: Final = 20  # fractional bits of the weighted average


@dataclass(frozen=True, slots=True)
class AttentionAttrs(Attrs):
    """`scale` (> 0) multiplies the scores. `causal`: query i attends keys 0..i only, as in PyTorch."""

    scale: float
    causal: bool = False


def infer(attrs: AttentionAttrs, types: Types) -> Types:
    """q[N,A,T,D], k[N,B,S,D], v[N,B,S,E], a mask that broadcasts to [N,A,T,S] -> y[N,A,T,E]; B divides A."""
    require(len(types) in (3, 4), "takes q, k, v and an optional mask")
    q, k, v = types[:3]
    require(all(len(t.shape) == 4 for t in (q, k, v)), "q, k and v have 4 axes")
    (n, a, t, d), (kn, kb, s, kd) = q.shape, k.shape
    require(kn == n and kd == d, f"k has shape {k.dims}, q {q.dims}")
    require(v.shape[:3] == (n, kb, s), f"v has shape {v.dims}, k {k.dims}")
    require(q.dims[1] % k.dims[1] == 0, f"{a} query heads do not divide over {kb} key heads")
    require(attrs.scale > 0 and math.isfinite(attrs.scale), f"the scale {attrs.scale} is not positive")
    if len(types) == 4:
        full = (q.dims[0], q.dims[1], q.dims[2], k.dims[2])
        m = types[3].dims
        fits = len(m) <= 4 and all(x in (1, f) for x, f in zip(m[::-1], full[::-1], strict=False))
        require(fits, f"a mask of shape {m} does not broadcast to {full}")
        require(types[3].dtype is DType.B8 or types[3].dtype.is_float, "the mask is b8 or float")
    return (Type((n, a, t, v.shape[3]), q.dtype),)


def causal_mask(queries: int, keys: int) -> npt.NDArray[np.bool_]:
    """[T,S] booleans: True where query i may attend key j, j <= i."""
    return np.tril(np.ones((queries, keys), np.bool_))


def attention(attrs: AttentionAttrs, inputs: Arrays) -> Arrays:
    """softmax(scale q k^T + mask) v; a query that may attend no key yields 0."""
    q, k, v = inputs[:3]
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.matmul(q, k.swapaxes(2, 3)) * q.dtype.type(attrs.scale)
    lowest = scores.dtype.type(-np.inf)
    if len(inputs) == 4:
        mask = inputs[3]
        scores = np.where(mask, scores, lowest) if mask.dtype == np.bool_ else scores + mask
    if attrs.causal:
        scores = np.where(causal_mask(*scores.shape[2:]), scores, lowest)
    top = scores.max(3, keepdims=True)
    e = np.exp(scores - np.where(np.isinf(top), 0, top).astype(scores.dtype))
    total = e.sum(3, keepdims=True)
    return (np.matmul(e, v) / np.where(total == 0, 1, total).astype(total.dtype),)


def vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """dV = P^T dY; dS = P (dP - sum(dP P)), dP = dY V^T; dQ = scale dS K; dK = scale dS^T Q."""
    attrs, grad = node.attrs, grads[0]
    assert isinstance(attrs, AttentionAttrs)
    if grad is None:
        return (None,) * len(node.inputs)
    q = node.inputs[0]
    k, v = (_spread_heads(b, ref, b.types[q].dims[1]) for ref in node.inputs[1:3])
    p = _probabilities(b, node, attrs, q, k)
    swap = {"perm": (0, 1, 3, 2)}
    dv = emit(b, "matmul", emit(b, "transpose", p, **swap), grad)
    dp = emit(b, "matmul", grad, v, transpose_b=True)
    total = emit(b, "reduce_sum", emit(b, "mul", dp, p), axes=(3,), keepdims=True)
    ds = emit(b, "mul", p, emit(b, "sub", dp, total))
    scaled = emit(b, "mul", ds, scalar(b, attrs.scale, q))
    dq = emit(b, "matmul", scaled, k)
    dk = emit(b, "matmul", emit(b, "transpose", scaled, **swap), q)
    out: list[str | None] = [dq, _gather_heads(b, dk, node.inputs[1]), _gather_heads(b, dv, node.inputs[2])]
    if len(node.inputs) == 4:
        mask = b.types[node.inputs[3]]
        out.append(sum_to(b, ds, mask.dims) if mask.dtype.is_float else None)
    return tuple(out)


def _probabilities(b: Builder, node: Node, attrs: AttentionAttrs, q: str, k: str) -> str:
    scores = emit(b, "mul", emit(b, "matmul", q, k, transpose_b=True), scalar(b, attrs.scale, q))
    if len(node.inputs) == 4:
        mask = node.inputs[3]
        if b.types[mask].dtype.is_float:
            scores = emit(b, "add", scores, mask)
        else:
            scores = emit(b, "masked_fill", scores, emit(b, "logical_not", mask), value=-1e30)
    if attrs.causal:
        hidden = b.constant(~causal_mask(*b.types[scores].dims[2:]), "later")
        scores = emit(b, "masked_fill", scores, hidden, value=-1e30)
    return emit(b, "softmax", scores, axis=3)


def _spread_heads(b: Builder, ref: str, heads: int) -> str:
    """[N,B,S,D] with each head repeated to A heads."""
    n, own, s, d = b.types[ref].dims
    if own == heads:
        return ref
    cells = emit(b, "reshape", ref, shape=(n, own, 1, s, d))
    cells = emit(b, "expand", cells, shape=(n, own, heads // own, s, d))
    return emit(b, "reshape", cells, shape=(n, heads, s, d))


def _gather_heads(b: Builder, grad: str, like: str) -> str:
    """The reverse of _spread_heads: gradients of a shared head add up."""
    n, own, s, d = b.types[like].dims
    heads = b.types[grad].dims[1]
    if own == heads:
        return grad
    cells = emit(b, "reshape", grad, shape=(n, own, heads // own, s, d))
    return emit(b, "reduce_sum", cells, axes=(2,), keepdims=False)


def exp2_table() -> Array:
    """u32[256]: round(2^(30 - f / 256))."""
    f = np.arange(1 << STEP_BITS) / float(1 << STEP_BITS)
    return np.floor(2.0 ** (TABLE_BITS - f) + 0.5).astype(np.uint32)


def weights_of(difference: I64, m: int, shift: int, table: Array) -> I64:
    """2^15 * exp(-difference * step), step = m / 2^shift / 256 / log2(e): 0 <= difference < 2^31.

    u = requantize(difference, m, shift) counts 1/256 powers of two; the weight is table[u mod 256] shifted
    right by 15 + floor(u / 256), rounded half up; 0 beyond 16 powers of two.
    """
    u = requantize(difference, m, shift)
    power = np.minimum(u >> STEP_BITS, WEIGHT_BITS + 1)
    down = TABLE_BITS - WEIGHT_BITS + power
    e = (table.astype(np.int64)[u & 255] + (np.int64(1) << (down - 1))) >> down
    return np.where(u >> STEP_BITS > WEIGHT_BITS + 1, 0, e)


def score_step(attrs: AttentionAttrs, in_types: Types) -> float:
    """Real value of one unit of the integer scores."""
    q, k = in_types[0].quant, in_types[1].quant
    assert q is not None and k is not None
    return q.per_tensor[0] * k.per_tensor[0] * attrs.scale


def integer_bias(mask: Array, step: float) -> Array:
    """Additive float mask in units of the scores, int32; EXCLUDED for -inf."""
    real = np.asarray(mask, np.float64)
    units = np.floor(np.clip(real / step, -BIAS_MAX, BIAS_MAX) + 0.5)
    return np.where(np.isneginf(real), EXCLUDED, units).astype(np.int32)


def average_multiplier(in_types: Types, out_types: Types) -> tuple[int, int]:
    """(m, s) from the weighted average with 20 fractional bits to output steps."""
    v, y = in_types[2].quant, out_types[0].quant
    assert v is not None and y is not None
    return multiplier(v.per_tensor[0] / y.per_tensor[0] / (1 << AVERAGE_BITS))


def quant_attention(attrs: AttentionAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """The integer form given in the op's doc."""
    q, k, v = (
        x.astype(np.int64) - t.quant.per_tensor[1]
        for x, t in zip(inputs[:3], in_types, strict=False)
        if t.quant
    )
    y_quant = out_types[0].quant
    assert y_quant is not None and q.shape[3] <= DEPTH_MAX and k.shape[2] <= KEYS_MAX
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    step = score_step(attrs, in_types)
    scores = np.matmul(q, k.swapaxes(2, 3))
    allowed = np.ones(scores.shape, np.bool_)
    if len(inputs) == 4:
        mask = inputs[3]
        if mask.dtype == np.bool_:
            allowed = allowed & mask.astype(np.bool_)
        else:
            bias = integer_bias(mask, step).astype(np.int64)
            allowed, scores = allowed & (bias != EXCLUDED), scores + bias
    if attrs.causal:
        allowed = allowed & causal_mask(*scores.shape[2:])
    scores = np.where(allowed, scores, EXCLUDED)
    m, shift = multiplier(step * math.log2(math.e) * (1 << STEP_BITS))
    top = scores.max(3, keepdims=True)
    weights = np.where(allowed, weights_of(np.where(allowed, top - scores, 0), m, shift, exp2_table()), 0)
    t = weighted_average(weights, v)
    m, shift = average_multiplier(in_types, out_types)
    y = np.clip(requantize(t, m, shift) + y_quant.per_tensor[1], -128, 127)
    return (y.astype(np.int8),)


def weighted_average(weights: I64, v: I64) -> I64:
    """sum(e v) / sum(e) with 20 fractional bits, 0 where all weights are 0.

    With L = sum(e) 2^h in [2^30, 2^31): r = floor(2^61 / L); t = (floor(sum(e v) 2^h / 2^8) r) >> 33.
    """
    total = weights.sum(3, keepdims=True)
    h = np.zeros(total.shape, np.int64)
    for s in (16, 8, 4, 2, 1):
        room = (total << h) < (np.int64(1) << (31 - s))
        h = h + np.where(room, s, 0)
    r = (np.int64(1) << 61) // np.where(total == 0, 1, total << h)
    numerator = (np.matmul(weights, v) * (np.int64(1) << h)) >> 8
    return np.asarray(np.where(total == 0, 0, (numerator * np.where(total == 0, 0, r)) >> 33), np.int64)


def cost(attrs: AttentionAttrs, inputs: Types, outputs: Types) -> Cost:
    n, a, t, d = inputs[0].dims
    s, e = inputs[2].dims[2:]
    return Cost(n * a * t * s * (d + e), 3 * n * a * t * s)


def _mask_example(label: str, mask: tuple[int, ...], additive: bool) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        q, k, v = normal((1, 2, 5, 8), (1, 2, 6, 8), (1, 2, 6, 8))(rng)
        allowed = rng.random(mask) < 0.7
        allowed[..., 0] = True
        return (q, k, v, rng.normal(size=mask).astype(np.float32) if additive else allowed)

    def torch(t, q, k, v, m):  # type: ignore[no-untyped-def]
        return t.nn.functional.scaled_dot_product_attention(q, k, v, m, scale=0.35)

    return Example(label, AttentionAttrs(0.35), make, torch)


def _plain(causal: bool, gqa: bool = False):  # type: ignore[no-untyped-def]
    def torch(t, q, k, v):  # type: ignore[no-untyped-def]
        return t.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=0.25, enable_gqa=gqa
        )

    return torch


define(
    Op(
        name="attention",
        doc="softmax(scale q k^T + mask) v for q[N,A,T,D], k[N,B,S,D], v[N,B,S,E]; B divides A (grouped "
        "queries); mask b8 (True: attend) or additive float. int8: scores = sum (q - Zq)(k - Zk) + round(mask / "
        "step) in int32, step = Sq Sk scale; weight e = round(2^15 2^(-u / 256)) from a table of 256 u32, u = "
        "requantize(max - score, 256 log2(e) step); t = 2^20 sum(e (v - Zv)) / sum(e) by an integer "
        "reciprocal; y = clamp(Zy + requantize(t, Sv / Sy / 2^20)). An additive mask must be a constant for the "
        "kernel; the scratch is one row of int32 scores and one query.",
        attrs=AttentionAttrs,
        infer=infer,
        ref=attention,
        vjp=vjp,
        quant=QuantRule(
            ("activation", "activation", "activation", "parameter"),
            "calibrated",
            quant_attention,
            max_lsb=1.0,
        ),
        cost=cost,
        examples=(
            Example(
                "two heads",
                AttentionAttrs(0.25),
                normal((1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 4)),
                _plain(False),
            ),
            Example(
                "causal",
                AttentionAttrs(0.25, True),
                normal((2, 1, 6, 4), (2, 1, 6, 4), (2, 1, 6, 4)),
                _plain(True),
            ),
            Example(
                "grouped queries",
                AttentionAttrs(0.25),
                normal((1, 4, 3, 8), (1, 2, 5, 8), (1, 2, 5, 8)),
                _plain(False, True),
            ),
            _mask_example("additive mask", (5, 6), True),
            _mask_example("boolean mask of each sample", (1, 1, 1, 6), False),
        ),
    )
)
