"""The next token: greedy, or drawn at a temperature from the most likely ones, by a counter-based generator."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.ir import NO_ATTRS, Array, Attrs, DType, Type
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require

U64 = npt.NDArray[np.uint64]

ONE: Final = 1 << 16  # temperature and top_p of 1
SETTINGS: Final = 4  # temperature, top_k, top_p, seed
ROUNDS: Final = 10
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
WEYL: Final = (0x9E3779B9, 0xBB67AE85)
LOW: Final = np.uint64(0xFFFFFFFF)


def infer(attrs: Attrs, types: Types) -> Types:
    """logits[N,V], settings i32[4], counter i32[1] -> token i32[N]."""
    require(len(types) == 3, "takes logits, settings and counter")
    logits, settings, counter = types
    require(len(logits.shape) == 2 and logits.dtype.is_float, "logits are float of 2 axes")
    require((settings.shape, settings.dtype) == ((SETTINGS,), DType.I32), f"settings are i32[{SETTINGS}]")
    require((counter.shape, counter.dtype) == ((1,), DType.I32), "the counter is i32[1]")
    return (Type((logits.shape[0],), DType.I32),)


def philox(counter: tuple[U64, U64, U64, U64], key: tuple[int, int]) -> U64:
    """First word of Philox-4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011).

    The counter's words are arrays that broadcast, the key's are numbers, all below 2^32.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        shift = np.uint64(32)
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.asarray(c0, np.uint64)


def gumbel(rows: int, size: int, counter: int, seed: int) -> npt.NDArray[np.float64]:
    """[N,V]: -log(-log(u)), u = (word of Philox for (index, counter, row, 0), key (seed, 0), + 0.5) / 2^32."""
    zero = np.zeros((1, 1), np.uint64)
    words = philox(
        (
            np.arange(size, dtype=np.uint64)[None],
            np.full((1, 1), counter & 0xFFFFFFFF, np.uint64),
            np.arange(rows, dtype=np.uint64)[:, None],
            zero,
        ),
        (seed & 0xFFFFFFFF, 0),
    )
    u = (words.astype(np.float64) + 0.5) / 2.0**32
    return np.asarray(-np.log(-np.log(u)), np.float64)


def kept(scores: npt.NDArray[np.float64], top_k: int, top_p: float) -> npt.NDArray[np.bool_]:
    """[V] booleans: fewer than top_k (0: any number) scores are larger, and those hold less than the share top_p
    of the softmax over what top_k keeps. Equal scores are kept or dropped together; the largest always stay."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    larger = np.searchsorted(-descending, -descending, "left")  # how many scores are larger
    within = larger < top_k if top_k > 0 else np.ones(len(scores), np.bool_)
    weights = np.where(within, np.exp(descending - descending[0]), 0.0)
    before = np.concatenate(([0.0], np.cumsum(weights)))[larger]
    stays = within & ((before < top_p * weights.sum()) | (larger == 0))
    keep = np.zeros(len(scores), np.bool_)
    keep[order] = stays
    return keep


def sample(attrs: Attrs, inputs: Arrays) -> Arrays:
    """argmax of logits / temperature + gumbel over the kept tokens; at temperature 0 argmax of the logits."""
    logits, settings, counter = inputs
    temperature, top_k, top_p, seed = (int(s) for s in settings)
    if temperature <= 0:
        return (np.argmax(logits, 1).astype(np.int32),)
    scores = np.asarray(logits, np.float64) / (temperature / ONE)
    rows, size = scores.shape
    noise = gumbel(rows, size, int(counter[0]), seed)
    keep = np.stack([kept(row, top_k, top_p / ONE) for row in scores])
    return (np.argmax(np.where(keep, scores + noise, -np.inf), 1).astype(np.int32),)


def settings_of(temperature: float, top_k: int, top_p: float, seed: int) -> Array:
    """The operand `settings`: i32[4], temperature and top_p in 1 / 65536."""
    low = seed & 0xFFFFFFFF
    signed = low - (1 << 32) if low >> 31 else low
    return np.array([round(temperature * ONE), top_k, round(top_p * ONE), signed], np.int32)


def cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, 4 * inputs[0].size)


def _example(label: str, shape: tuple[int, int], settings: Array) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        logits = (3.0 * rng.normal(size=shape)).astype(np.float32)
        return (logits, settings, rng.integers(0, 1000, 1).astype(np.int32))

    def torch(t, logits, settings, counter):  # type: ignore[no-untyped-def]
        return t.argmax(logits, 1).to(t.int32)

    return Example(label, NO_ATTRS, make, torch if not settings[0] else None)


define(
    Op(
        name="sample",
        doc="Next token i32[N] of logits[N,V]. settings i32[4] = (temperature * 65536, top_k, top_p * 65536, seed), "
        "counter i32[1]: all read at run time. Temperature 0: the first index of the largest logit. Else the "
        "argmax of logit / temperature + g over the kept tokens, g = -log(-log((word + 0.5) / 2^32)) with word 0 "
        "of Philox-4x32-10 for the counter (index, counter, row, 0) and the key (seed, 0), which draws from their "
        "softmax. Kept: fewer than top_k (0: any number) logits are larger, and the larger ones hold less than "
        "the share top_p of the softmax of what top_k keeps; equal logits stay or go together. A kernel may "
        "differ where two sums tie within float32 rounding.",
        attrs=Attrs,
        infer=infer,
        ref=sample,
        vjp=NoGrad("a choice has no gradient"),
        quant=NoQuant("logits are compared in float"),
        cost=cost,
        examples=(
            _example("greedy", (2, 50), settings_of(0.0, 0, 1.0, 0)),
            _example("temperature", (1, 50), settings_of(0.8, 0, 1.0, 7)),
            _example("top-k", (2, 300), settings_of(1.0, 5, 1.0, 8)),
            _example("top-p", (1, 300), settings_of(1.5, 0, 0.7, 9)),
            _example("top-k and top-p", (1, 1000), settings_of(1.0, 40, 0.9, -5)),
        ),
    )
)
