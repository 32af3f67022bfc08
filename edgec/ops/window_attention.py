"""Attention within the windows of a map (Swin): partition, cyclic shift and their reverse are addresses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops.attention import AttentionAttrs, attention
from edgec.ops.define import Arrays, Cost, Example, NoGrad, NoQuant, Op, Types, define, require


@dataclass(frozen=True, slots=True)
class WindowAttentionAttrs(Attrs):
    """Maps are rolled by -`shift` rows and columns, cut into windows of `window` rows and columns, and put back.

    `q`, `k`, `v`: (first channel, channels from head to head) in their map. `hidden` is added to the score of two
    pixels that the roll brought together from opposite edges (0: nothing is).
    """

    scale: float
    heads: int
    depth: int
    window: tuple[int, int]
    shift: tuple[int, int]
    q: tuple[int, int]
    k: tuple[int, int]
    v: tuple[int, int]
    hidden: float = 0.0


def infer(attrs: WindowAttentionAttrs, types: Types) -> Types:
    """Maps with q, k and v [N,H,W,*] and a bias [A,L,L], L pixels a window (optional) -> y[N,H,W,A D]."""
    require(len(types) in (3, 4), "takes q, k, v and an optional bias")
    shape = types[0].shape[:3]
    require(
        all(len(t.shape) == 4 and t.shape[:3] == shape for t in types[:3]), "q, k and v lie in equal maps"
    )
    require(all(t.dtype is types[0].dtype and not t.bounds for t in types[:3]), "q, k and v have one type")
    require(attrs.scale > 0 and math.isfinite(attrs.scale), f"the scale {attrs.scale} is not positive")
    for t, (first, step) in zip(types[:3], (attrs.q, attrs.k, attrs.v), strict=True):
        last = first + (attrs.heads - 1) * step + attrs.depth
        require(first >= 0 and step >= 0 and last <= t.dims[3], f"{t.dims[3]} channels do not hold {last}")
    for size, cut, shift in zip(types[0].dims[1:3], attrs.window, attrs.shift, strict=True):
        require(cut > 0 and size % cut == 0, f"{size} pixels do not divide into windows of {cut}")
        require(0 <= shift < cut, f"a shift of {shift} for windows of {cut}")
    if len(types) == 4:
        pixels = math.prod(attrs.window)
        require(types[3].dims == (attrs.heads, pixels, pixels), f"the bias has shape {types[3].dims}")
        require(types[3].dtype.is_float, "the bias is float")
    return (Type((*shape, attrs.heads * attrs.depth), types[0].dtype),)


def window_pixels(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Array:
    """i64[windows, L]: row-major pixel of the map at each place of each window, after a roll by -shift."""
    pixels = np.roll(np.arange(size[0] * size[1]).reshape(size), (-shift[0], -shift[1]), (0, 1))
    cells = pixels.reshape(size[0] // window[0], window[0], size[1] // window[1], window[1])
    return cells.transpose(0, 2, 1, 3).reshape(-1, window[0] * window[1])


def window_regions(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Array:
    """i64[windows, L]: pixels of one window that were neighbours before the roll have equal numbers."""
    rows, columns = (
        (np.arange(n) >= n - cut).astype(np.int64) + ((np.arange(n) >= n - s) & (s > 0))
        for n, cut, s in zip(size, window, shift, strict=True)
    )
    regions = rows[:, None] * 3 + columns[None, :]
    cells = regions.reshape(size[0] // window[0], window[0], size[1] // window[1], window[1])
    return cells.transpose(0, 2, 1, 3).reshape(-1, window[0] * window[1])


def window_attention(attrs: WindowAttentionAttrs, inputs: Arrays) -> Arrays:
    """softmax(scale q k^T + bias + hidden [regions differ]) v in each window."""
    n, h, w, _ = inputs[0].shape
    pixels = window_pixels((h, w), attrs.window, attrs.shift)
    heads = []
    for x, (first, step) in zip(inputs[:3], (attrs.q, attrs.k, attrs.v), strict=True):
        channels = first + np.arange(attrs.heads)[:, None] * step + np.arange(attrs.depth)
        # [N, windows, L, A, D] -> [N windows, A, L, D]
        cut = x.reshape(n, h * w, -1)[:, pixels][..., channels]
        heads.append(cut.reshape(-1, *cut.shape[2:]).swapaxes(1, 2))
    regions = window_regions((h, w), attrs.window, attrs.shift)
    hidden = np.where(regions[:, :, None] == regions[:, None, :], 0.0, attrs.hidden)
    mask = np.tile(hidden[:, None], (n, 1, 1, 1)).astype(heads[0].dtype)
    if len(inputs) == 4:
        mask = np.add(mask, inputs[3])
    (y,) = attention(AttentionAttrs(attrs.scale), (*heads, mask))
    out = np.empty((n, h * w, attrs.heads * attrs.depth), y.dtype)
    out[:, pixels] = y.swapaxes(1, 2).reshape(n, *pixels.shape, -1)
    return (out.reshape(n, h, w, -1),)


def cost(attrs: WindowAttentionAttrs, inputs: Types, outputs: Types) -> Cost:
    n, h, w, _ = inputs[0].dims
    pairs = n * h * w * math.prod(attrs.window) * attrs.heads
    return Cost(2 * pairs * attrs.depth, 4 * pairs)


def _torch(attrs: WindowAttentionAttrs):  # type: ignore[no-untyped-def]
    """Swin's own way: roll, partition, attention, reverse, roll."""

    def run(t, x, _k, _v, bias=None):  # type: ignore[no-untyped-def]
        n, h, w, _ = x.shape
        (wh, ww), shift = attrs.window, attrs.shift
        x = x.roll((-shift[0], -shift[1]), (1, 2))
        x = (
            x.reshape(n, h // wh, wh, w // ww, ww, -1)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(-1, wh * ww, x.shape[3])
        )
        q, k, v = x.reshape(*x.shape[:2], 3, attrs.heads, attrs.depth).permute(2, 0, 3, 1, 4)
        scores = (q * attrs.scale) @ k.transpose(-2, -1)
        if bias is not None:
            scores = scores + bias
        regions = t.zeros(h, w)
        count = 0
        for rows in (slice(0, h - wh), slice(h - wh, h - shift[0]), slice(h - shift[0], h)):
            for columns in (slice(0, w - ww), slice(w - ww, w - shift[1]), slice(w - shift[1], w)):
                regions[rows, columns] = count
                count += 1
        regions = regions.reshape(h // wh, wh, w // ww, ww).permute(0, 2, 1, 3).reshape(-1, wh * ww)
        hidden = (regions[:, None] != regions[:, :, None]) * attrs.hidden
        scores = scores + hidden.repeat(n, 1, 1)[:, None]
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, h // wh, w // ww, wh, ww, -1)
        return y.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, -1).roll(shift, (1, 2))

    return run


def _example(label: str, attrs: WindowAttentionAttrs, size: tuple[int, int, int], bias: bool) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        x = rng.normal(size=(*size, 3 * attrs.heads * attrs.depth)).astype(np.float32)
        pixels = math.prod(attrs.window)
        table = rng.normal(size=(attrs.heads, pixels, pixels)).astype(np.float32)
        return (x, x, x, table) if bias else (x, x, x)

    return Example(label, attrs, make, _torch(attrs))


define(
    Op(
        name="window_attention",
        doc="Attention within windows of a map x[N,H,W,C] rolled by -shift, heads at channels `q`, `k`, `v` = (first, "
        "step from head to head), a bias[A,L,L] for the L pixels of a window, `hidden` added between pixels that the "
        "roll brought together; y[N,H,W,A D] in the map's own order. Made from Swin's roll, partition, attention, "
        "reverse and roll by passes/recognise_windows.py.",
        attrs=WindowAttentionAttrs,
        infer=infer,
        ref=window_attention,
        vjp=NoGrad("windows take this form when they are lowered, after their gradient has been made"),
        quant=NoQuant("int8 windows are cut apart and use attention"),
        cost=cost,
        examples=(
            _example(
                "plain windows",
                WindowAttentionAttrs(0.3, 2, 8, (2, 3), (0, 0), (0, 8), (16, 8), (32, 8)),
                (2, 4, 6),
                False,
            ),
            _example(
                "shifted, with bias",
                WindowAttentionAttrs(0.3, 2, 8, (4, 4), (2, 1), (0, 8), (16, 8), (32, 8), hidden=-100.0),
                (1, 8, 12),
                True,
            ),
        ),
    )
)
