"""Attention kernels against their ops: values, packed projections, caches, windows, linear."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import Array, Attrs, DType
from edgec.ops.attention import AttentionAttrs
from edgec.ops.cached_attention import CachedAttentionAttrs, Rotary
from edgec.ops.linear_attention import LinearAttentionAttrs
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.ops.window_attention import WindowAttentionAttrs

HALVES = (DType.F16, DType.BF16)
# (batch, heads, key heads, queries, keys, depth, value depth)
SHAPES = (
    (1, 12, 12, 197, 197, 64, 64),  # ViT-B/16
    (1, 12, 12, 128, 128, 32, 32),  # MiniLM
    (1, 6, 6, 1500, 1500, 64, 64),  # Whisper-tiny
    (1, 2, 2, 784, 49, 32, 32),  # SegFormer-B0
    (2, 3, 3, 33, 70, 80, 80),
    (1, 4, 2, 65, 65, 96, 96),
    (1, 8, 2, 130, 130, 128, 128),
    (1, 32, 8, 512, 512, 128, 128),
    (1, 2, 1, 17, 100, 256, 256),
    (3, 4, 1, 7, 19, 16, 48),
    (1, 1, 1, 1, 1, 8, 8),
    (1, 1, 1, 300, 1, 72, 24),
    (16, 32, 32, 130, 70, 64, 64),  # enough blocks of 128 rows
    (24, 32, 8, 70, 70, 128, 128),
)


def attention_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for n, a, b, t, s, d, e in SHAPES:
        for dtype in HALVES:
            arrays = tuple(floats(rng, x, dtype) for x in ((n, a, t, d), (n, b, s, d), (n, b, s, e)))
            causal = dtype is DType.BF16 and t <= s
            label = f"attention {dtype.value} {(n, a, b, t, s, d, e)} causal={causal}"
            yield Case(
                label, "attention", AttentionAttrs(d**-0.5, causal), arrays, symbol="ec_attention_cuda"
            )


def masks(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Iterator[tuple[str, Array]]:
    """A boolean and an additive mask; some rows hide all keys."""
    shown = rng.random(shape) < 0.6
    shown.reshape(-1, shape[-1])[0] = False
    yield "boolean", shown
    added = floats(rng, shape, dtype)
    yield "additive", np.where(shown, added, np.float32(-np.inf)).astype(dtype.numpy)


def mask_cases() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for dtype in HALVES:
        for shape in ((1, 1, 1, 70), (2, 4, 33, 70), (33, 70), (2, 1, 33, 70), (4, 1, 70)):
            q, k, v = (floats(rng, s, dtype) for s in ((2, 4, 33, 32), (2, 2, 70, 32), (2, 2, 70, 32)))
            for kind, mask in masks(rng, shape, dtype):
                for plain in ("", "plain_"):
                    yield Case(
                        f"{kind} mask {shape} {dtype.value} {plain}",
                        "attention",
                        AttentionAttrs(0.2, causal=shape == (33, 70)),
                        (q, k, v, mask),
                        symbol=f"ec_attention_{kind}_{plain}cuda",
                    )
    q, k, v = (floats(rng, s, DType.F16) for s in ((8, 32, 130, 32), (8, 32, 70, 32), (8, 32, 70, 32)))
    for kind, mask in masks(rng, (130, 70), DType.F16):
        yield Case(
            f"{kind} mask, many blocks",
            "attention",
            AttentionAttrs(0.2),
            (q, k, v, mask),
            symbol=f"ec_attention_{kind}_cuda",
        )


def plain_cases() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for dtype in (DType.F32, DType.F16):
        for n, a, b, t, s, d, e in (
            (2, 4, 2, 9, 35, 7, 5),
            (1, 2, 2, 50, 50, 64, 64),
            (1, 1, 1, 3, 200, 33, 129),
        ):
            arrays = tuple(floats(rng, x, dtype) for x in ((n, a, t, d), (n, b, s, d), (n, b, s, e)))
            for causal in (False, True):
                yield Case(
                    f"plain {dtype.value} {(n, a, b, t, s, d, e)} {causal}",
                    "attention",
                    AttentionAttrs(0.3, causal),
                    arrays,
                    symbol="ec_attention_plain_cuda",
                )


def packed(
    n: int, t: int, a: int, b: int, d: int, causal: bool = False, window: int = 0
) -> tuple[StridedAttentionAttrs, tuple[int, int, int]]:
    """q of `a` heads, k and v of `b`, one after the other in the channels; the shape of that value."""
    channels = (a + 2 * b) * d
    places = [(o * d, t * channels, d, channels) for o in (0, a, a + b)]
    attrs = StridedAttentionAttrs(d**-0.5, n, t, t, a, b, d, d, *places, causal=causal, window=window)
    return attrs, (n, t, channels)


def strided_cases() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for dtype, plain in ((DType.F16, ""), (DType.BF16, ""), (DType.F32, "plain_")):
        for sizes in ((1, 197, 12, 12, 64), (2, 50, 4, 2, 48), (1, 600, 8, 2, 128)):
            for causal, window in ((False, 0), (True, 0), (True, 37), (False, 64)):
                attrs, shape = packed(*sizes, causal=causal, window=window)
                x = floats(rng, shape, dtype)
                yield Case(
                    f"packed {dtype.value} {sizes} causal={causal} window={window}",
                    "strided_attention",
                    attrs,
                    (x, x, x),
                    symbol=f"ec_strided_attention_{plain}cuda",
                )


def strided_mask_cases() -> Iterator[Case]:
    rng = np.random.default_rng(8)
    for dtype in (DType.F16, DType.F32):
        plain = "" if dtype.is_half else "plain_"
        attrs, shape = packed(2, 50, 4, 4, 32, window=20)
        x = floats(rng, shape, dtype)
        for kind, mask in masks(rng, (2, 1, 50, 50), dtype):
            symbol = f"ec_strided_attention_{kind}_{plain}cuda"
            yield Case(
                f"packed {kind} mask {dtype.value}",
                "strided_attention",
                attrs,
                (x, x, x, mask),
                symbol=symbol,
            )


def cached(
    tokens: int, heads: tuple[int, int], depth: int, keys: int, rotary: Rotary, window: int, causal: bool
) -> tuple[CachedAttentionAttrs, tuple[tuple[int, ...], ...]]:
    """Attributes, and the shapes of the packed projection and of a cache; two samples where window is odd."""
    a, b = heads
    n, channels = 1 + window % 2, (a + 2 * b) * depth
    places = [(o * depth, tokens * channels, depth, channels) for o in (0, a, a + b)]
    attrs = CachedAttentionAttrs(
        depth**-0.5, n, tokens, a, b, depth, depth, *places, rotary=rotary, causal=causal, window=window
    )
    return attrs, ((n, tokens, channels), (n, b, keys, depth))


def cached_case(
    rng: np.random.Generator,
    symbol: str,
    dtype: DType,
    position: int,
    shape: tuple[CachedAttentionAttrs, tuple[tuple[int, ...], ...]],
) -> Case:
    """`position` tokens are in the cache; what lies beyond them is no number."""
    attrs, (new, old) = shape
    x, keys, values = floats(rng, new, dtype), floats(rng, old, dtype), floats(rng, old, dtype)
    keys[:, :, position:], values[:, :, position:] = np.nan, np.nan
    arrays: tuple[Array, ...] = (x, x, x, keys, values, np.array([position] * attrs.batch, np.int32))
    if attrs.rotary != "none":
        pairs = attrs.depth // 4 if attrs.window else attrs.depth // 2
        arrays = (*arrays, (10000.0 ** (-np.arange(pairs) / pairs)).astype(np.float32))
    label = f"{symbol} {dtype.value} at {position} of {old} heads {attrs.heads} tokens {attrs.tokens} {attrs.rotary}"
    constants = (6,) if len(arrays) == 7 else ()
    label = f"{label} window {attrs.window} causal {attrs.causal}"
    return Case(label, "cached_attention", attrs, arrays, constants=constants, symbol=symbol)


def decode_cases() -> Iterator[Case]:
    rng = np.random.default_rng(4)
    symbol = "ec_cached_attention_decode_cuda"
    llama = cached(1, (32, 8), 128, 2048, "half", 0, True)
    for position in (0, 1, 15, 63, 64, 65, 1000, 1025, 2046, 2047):
        yield cached_case(rng, symbol, DType.F16, position, llama)
    small = cached(1, (6, 2), 64, 96, "interleaved", 0, True)
    for position in (0, 1, 40, 95):
        yield cached_case(rng, symbol, DType.BF16, position, small)
    for window in (5, 100):
        sliding = cached(1, (4, 4), 80, 600, "half", window, True)
        for position in (0, 3, 99, 100, 250, 599):
            yield cached_case(rng, symbol, DType.F16, position, sliding)
    for tokens, heads in ((4, (8, 2)), (16, (4, 4)), (5, (8, 1)), (2, (64, 2)), (3, (3, 3))):
        for causal in (True, False):
            several = cached(tokens, heads, 32, 200, "none", 0, causal)
            for position in (0, 130, 200 - tokens):
                yield cached_case(rng, symbol, DType.F16, position, several)
    yield cached_case(rng, symbol, DType.F16, 77, cached(1, (8, 1), 256, 300, "half", 0, True))


def few_cases() -> Iterator[Case]:
    rng = np.random.default_rng(9)
    symbol = "ec_cached_attention_few_cuda"
    llama = cached(1, (32, 8), 128, 2048, "half", 0, True)
    for position in (0, 1, 15, 16, 17, 127, 128, 1000, 1023, 1024, 1039, 1040, 2047):
        yield cached_case(rng, symbol, DType.F16, position, llama)
    long = cached(1, (8, 2), 128, 9000, "half", 0, True)
    for position in (0, 16, 1024, 2047, 2048, 4500, 8999):
        yield cached_case(rng, symbol, DType.BF16, position, long)
    small = cached(1, (6, 2), 64, 96, "interleaved", 0, True)
    for position in (0, 1, 40, 95):
        yield cached_case(rng, symbol, DType.BF16, position, small)
    for window in (5, 100, 1500):
        sliding = cached(1, (8, 1), 128, 3003, "none", window, True)
        for position in (0, 3, 99, 100, 250, 1999, 3002):
            yield cached_case(rng, symbol, DType.F16, position, sliding)
    for tokens, heads in ((4, (4, 2)), (8, (4, 4)), (5, (3, 3)), (1, (7, 1))):
        for causal in (True, False):
            several = cached(tokens, heads, 64, 200, "half", 0, causal)
            for position in (0, 12, 130, 200 - tokens):
                yield cached_case(rng, symbol, DType.F16, position, several)


def prefill_cases() -> Iterator[Case]:
    rng = np.random.default_rng(5)
    for symbol, dtypes in (
        ("ec_cached_attention_prefill_cuda", HALVES),
        ("ec_cached_attention_plain_cuda", (DType.F32,)),
    ):
        for dtype in dtypes:
            for tokens, heads, depth, keys, rotary in (
                (128, (8, 2), 128, 512, "half"),
                (33, (4, 4), 64, 100, "interleaved"),
                (20, (6, 2), 80, 64, "none"),
            ):
                for window, causal in ((0, True), (0, False), (17, True)):
                    shape = cached(tokens, heads, depth, keys, rotary, window, causal)  # type: ignore[arg-type]
                    for position in (0, 31):
                        yield cached_case(rng, symbol, dtype, position, shape)


# (batch, heads, key heads, queries, keys, depth, value depth): every tile of choose_wide_tile; tails in all directions
WIDE_SHAPES = (
    (1, 12, 12, 197, 197, 64, 64),
    (1, 12, 12, 384, 384, 64, 64),
    (1, 6, 6, 1500, 1500, 64, 64),
    (3, 20, 20, 300, 333, 64, 64),
    (16, 8, 8, 250, 100, 64, 64),
    (1, 8, 2, 130, 130, 128, 128),
    (2, 3, 3, 70, 333, 128, 128),
    (3, 16, 8, 600, 600, 128, 128),  # several works a block
    (1, 2, 2, 500, 96, 128, 128),
    (2, 9, 3, 100, 257, 80, 96),
    (40, 6, 2, 70, 140, 48, 40),
    (1, 1, 1, 64, 300, 64, 64),
)


def wide_cases() -> Iterator[Case]:
    rng = np.random.default_rng(9)
    symbol = "ec_attention_wide_cuda"
    for n, a, b, t, s, d, e in WIDE_SHAPES:
        for dtype in HALVES:
            arrays = tuple(floats(rng, x, dtype) for x in ((n, a, t, d), (n, b, s, d), (n, b, s, e)))
            causal = dtype is DType.BF16
            label = f"{symbol} {dtype.value} {(n, a, b, t, s, d, e)} causal={causal}"
            yield Case(label, "attention", AttentionAttrs(d**-0.5, causal), arrays, symbol=symbol)
    symbol = "ec_strided_attention_wide_cuda"
    for dtype in HALVES:
        for sizes in ((1, 197, 12, 12, 64), (2, 150, 4, 2, 48), (1, 600, 32, 8, 128), (3, 700, 16, 16, 64)):
            for causal, window in ((False, 0), (True, 0), (True, 37), (False, 64), (True, 300)):
                attrs, shape = packed(*sizes, causal=causal, window=window)
                x = floats(rng, shape, dtype)
                label = f"{symbol} {dtype.value} {sizes} causal={causal} window={window}"
                yield Case(label, "strided_attention", attrs, (x, x, x), symbol=symbol)


def wide_prefill_cases() -> Iterator[Case]:
    rng = np.random.default_rng(10)
    for dtype in HALVES:
        for tokens, heads, depth, keys, rotary in (
            (128, (8, 2), 128, 512, "half"),
            (300, (64, 32), 128, 640, "half"),
            (80, (4, 4), 64, 140, "interleaved"),
            (200, (6, 2), 80, 364, "none"),
        ):
            for window, causal in ((0, True), (0, False), (17, True)):
                shape = cached(tokens, heads, depth, keys, rotary, window, causal)  # type: ignore[arg-type]
                for position in (0, 31):
                    yield cached_case(rng, "ec_cached_attention_prefill_wide_cuda", dtype, position, shape)


def window_cases() -> Iterator[Case]:
    rng = np.random.default_rng(6)
    for size, window, shift, heads, depth, n in (
        ((56, 56), (7, 7), (0, 0), 3, 32, 1),
        ((56, 56), (7, 7), (3, 3), 3, 32, 1),
        ((14, 14), (7, 7), (3, 3), 12, 32, 2),
        ((7, 7), (7, 7), (0, 0), 24, 32, 1),
        ((24, 36), (12, 12), (6, 6), 2, 64, 1),
        ((8, 12), (4, 6), (2, 0), 2, 16, 1),
        ((8, 12), (8, 3), (0, 1), 1, 80, 2),
    ):
        a = WindowAttentionAttrs(
            depth**-0.5,
            heads,
            depth,
            window,
            shift,
            *((i * heads * depth, depth) for i in range(3)),
            hidden=-100.0 if max(shift) else 0.0,
        )
        pixels = math.prod(window)
        for dtype, plain in ((DType.F16, ""), (DType.BF16, ""), (DType.F32, "plain_"), (DType.F16, "plain_")):
            x = floats(rng, (n, *size, 3 * heads * depth), dtype)
            bias = floats(rng, (heads, pixels, pixels), dtype)
            for count in (3, 4):
                yield Case(
                    f"window {dtype.value} {plain}{size} {window} {shift} {heads}x{depth} inputs {count}",
                    "window_attention",
                    a,
                    (x, x, x, bias)[:count],
                    constants=(3,) if count == 4 else (),
                    symbol=f"ec_window_attention_{plain}cuda",
                )


def linear_cases() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    for n, tokens, heads, depth in (
        (1, 196, 16, 16),
        (1, 49, 32, 16),
        (2, 33, 3, 8),
        (1, 7, 2, 32),
        (1, 1500, 4, 32),
    ):
        channels = 3 * heads * depth
        steps = (tokens * channels, 3 * depth, channels)
        places = [(i * depth, *steps) for i in range(3)]
        attrs: Attrs = LinearAttentionAttrs(1e-5, n, tokens, heads, depth, *places)
        for dtype in (DType.F32, *HALVES):
            x = floats(rng, (n, tokens, channels), dtype)
            symbols = ["ec_linear_attention_parts_cuda"]
            symbols += ["ec_linear_attention_cuda"] if tokens <= 1024 else []
            for symbol in symbols:
                label = f"{symbol} {dtype.value} {(n, tokens, heads, depth)}"
                yield Case(label, "linear_attention", attrs, (x, x, x), symbol=symbol)


def cases() -> Iterator[Case]:
    yield from attention_cases()
    yield from mask_cases()
    yield from plain_cases()
    yield from strided_cases()
    yield from strided_mask_cases()
    yield from decode_cases()
    yield from few_cases()
    yield from prefill_cases()
    yield from wide_cases()
    yield from wide_prefill_cases()
    yield from window_cases()
    yield from linear_cases()


def test_attention_kernels_equal_their_ops() -> None:
    assert cuda_harness.run(cases()) == {}
