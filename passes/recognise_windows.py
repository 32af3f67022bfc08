"""Windowed attention (Swin) becomes one op on the map; roll, partition, reverse and roll turn into addresses.

The projections before and after act on single pixels, so they move out of the windows: to the map before the partition,
and to the map after the reverse. What a chain of movements does is found by numbering the pixels. The mask of the
attention must be a constant: a bias that all windows share and, for shifted windows, one number for each pair of pixels
that the roll brought together. Agrees to rounding. Runs after recognise_attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.ir import Array, Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.attention import AttentionAttrs
from edgec.ops.shape import ReshapeAttrs, RollAttrs, TransposeAttrs
from edgec.ops.window_attention import WindowAttentionAttrs, window_pixels, window_regions
from edgec.passes.dead import remove_dead
from edgec.passes.origins import BACK, Index, back_in_place, origins, place_of
from edgec.passes.simplify import simplify

Pair = tuple[int, int]
MASK_ERROR: Final = 1e-4  # of the mask's numbers, which are a sum of the bias and -100
_WITHIN: Final = 1e3  # where pixels belong together nothing is added, and the error is so many times smaller
MAX_PIXELS: Final = 400  # of a window; a block of the kernels holds a bias for each pair of a few rows
CUT: Final = (0, 1, 3, 2, 4, 5)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Rows of windows [N W, L, C] of the map `ref`, which holds [N,H,W,C]."""

    ref: str
    batch: int
    size: Pair
    window: Pair
    shift: Pair
    channels: int


def recognise_windows(program: Program) -> Program:
    """`program` with attention in windows of maps. Same object where there is none."""
    if not any(n.op == "roll" or n.op == "attention" for g in program.graphs for n in g.nodes):
        return program
    changed = rewrite(program, _visit)
    return program if changed is program else simplify(remove_dead(changed))


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op == "attention":
        ref = _attention(at, node)
    elif node.op == "linear":
        ref = _projection(at, node)
    elif node.op in BACK:
        ref = back_in_place(at, node, lambda ref: ref in at.memo.get("maps", ()))
    else:
        return None
    return None if ref is None else (ref,)


def _windows(at: Rewrite, ref: str) -> _Windows | None:
    """Of which map `ref` [N W, L, C] is the windows."""
    dims = at.type(ref).dims
    if len(dims) != 3 or not 4 <= dims[1] <= MAX_PIXELS:
        return None
    count, length, channels = dims
    for origin in origins(at, ref):
        index = origin.index
        if origin.ref[0] == "@":
            continue
        pixels = index[:, :, 0] // channels
        whole = pixels[:, :, None] * channels + np.arange(channels, dtype=np.int32)
        if index.size != at.type(origin.ref).size or not np.array_equal(index, whole):
            continue
        for size in _sizes(at, origin.ref, [v.type.dims for n in origin.passed for v in n.outputs], channels):
            found = _cut(pixels, count * length // (size[0] * size[1]), size)
            if found is not None:
                return _Windows(origin.ref, count * length // (size[0] * size[1]), size, *found, channels)
    return None


def _sizes(at: Rewrite, ref: str, passed: list[tuple[int, ...]], channels: int) -> Iterator[Pair]:
    """Rows and columns that the map may have: as it or a value made of it is shaped."""
    for dims in (at.type(ref).dims, *passed):
        if len(dims) == 4 and dims[3] == channels:
            yield dims[1], dims[2]


def _cut(pixels: Index, batch: int, size: Pair) -> tuple[Pair, Pair] | None:
    """(window, shift) by which pixels[N W, L] are the windows of a map."""
    length, (h, w) = pixels.shape[1], size
    shift = int(pixels[0, 0]) // w, int(pixels[0, 0]) % w
    for columns in (c for c in range(1, length + 1) if length % c == 0 and w % c == 0):
        window = (length // columns, columns)
        if h % window[0] or shift[0] >= window[0] or shift[1] >= window[1]:
            continue
        one = window_pixels(size, window, shift)
        wanted = np.concatenate([one + n * h * w for n in range(batch)])
        if np.array_equal(pixels, wanted):
            return window, shift
    return None


def _attention(at: Rewrite, node: Node) -> str | None:
    attrs = node.attrs
    assert isinstance(attrs, AttentionAttrs)
    dims = [at.type(r).dims for r in node.inputs[:3]]
    same = dims[0] == dims[1] == dims[2]
    if attrs.causal or not same or any(at.type(r).quant for r in node.inputs):
        return None
    heads = [_heads(at, r) for r in node.inputs[:3]]
    if any(h is None for h in heads):
        return None
    found = [h for h in heads if h is not None]
    of = [h[0] for h in found]
    alike = {(w.batch, w.size, w.window, w.shift) for w in of}
    mask = _mask(at, node, of[0]) if len(alike) == 1 else None
    if mask is None:
        return None
    bias, hidden = mask
    if of[0].window == of[0].size and not bias.any():
        return None  # one window is plain attention
    maps = [_on_map(at, linear, windows) for windows, linear, _ in found]
    q, k, v = (channels for _, _, channels in found)
    windowed = WindowAttentionAttrs(
        attrs.scale, dims[0][1], dims[0][3], of[0].window, of[0].shift, q, k, v, hidden=hidden
    )
    extra = (at.builder.constant(bias, "bias"),) if bias.any() else ()
    name = node.outputs[0].name
    y = at.builder.call("window_attention", *maps, *extra, attrs=windowed, name=name + ".map")
    rows = _parted(at, y, of[0], name)
    n, a, t, d = dims[0]
    split = at.builder.call("reshape", rows, attrs=ReshapeAttrs((n, t, a, d)), name=name + ".heads")
    return at.builder.call("transpose", split, attrs=TransposeAttrs((0, 2, 1, 3)), name=name)


def _heads(at: Rewrite, ref: str) -> tuple[_Windows, Node, Pair] | None:
    """(windows of what `linear` projects, the linear node, (first channel, step from head to head))."""
    n, _, t, _ = at.type(ref).dims
    for origin in origins(at, ref):
        linear = at.maker(origin.ref, "linear")
        place = None if linear is None else place_of(origin.index)
        if linear is None or place is None or getattr(linear.attrs, "act", None) is not None:
            continue
        channels = linear.outputs[0].type.dims[-1]
        first, batch, head, token = place
        dense = token == channels and (n == 1 or batch == t * channels) and first < channels
        windows = _windows(at, linear.inputs[0])
        if dense and windows is not None and linear.outputs[0].type.dims == (n, t, channels):
            return windows, linear, (first, head)
    return None


def _on_map(at: Rewrite, linear: Node, windows: _Windows) -> str:
    """The projection of the whole map."""
    key = ("map", linear.outputs[0].name)
    if key not in at.memo:
        x = _shaped(at, windows)
        name = linear.outputs[0].name + ".map"
        at.memo[key] = (at.builder.call("linear", x, *linear.inputs[1:], attrs=linear.attrs, name=name),)
        at.memo["maps"] = (*at.memo.get("maps", ()), *at.memo[key])
    return at.memo[key][0]


def _shaped(at: Rewrite, windows: _Windows) -> str:
    shape = (windows.batch, *windows.size, windows.channels)
    if at.type(windows.ref).dims == shape:
        return windows.ref
    return at.builder.call("reshape", windows.ref, attrs=ReshapeAttrs(shape), name=windows.ref + ".map")


def _mask(at: Rewrite, node: Node, w: _Windows) -> tuple[Array, float] | None:
    """(bias [A,L,L], number of hidden pairs) of the attention's mask, None where windows cannot say it."""
    heads, length = at.type(node.inputs[0]).dims[1:3]
    if len(node.inputs) == 3:
        return np.zeros((heads, length, length), np.float32), 0.0
    data = at.data(node.inputs[3])
    if data is None or data.dtype == np.bool_:
        return None
    count = at.type(node.inputs[0]).dims[0]
    full = np.broadcast_to(data, (count, heads, length, length)).astype(np.float32)
    bias, rest = full[0], full - full[0]
    if not rest.any():
        return bias, 0.0
    regions = np.tile(window_regions(w.size, w.window, w.shift), (w.batch, 1))
    apart = regions[:, :, None] != regions[:, None, :]
    if not apart.any() or apart[0].any():
        return None
    hidden = float(np.median(rest[:, 0][apart]))
    hidden = float(round(hidden)) if abs(hidden - round(hidden)) < MASK_ERROR * abs(hidden) else hidden
    rest = np.where(apart[:, None], np.abs(rest - np.float32(hidden)), np.abs(rest) * _WITHIN)
    return (bias, hidden) if hidden < 0 and rest.max() <= MASK_ERROR * abs(hidden) else None


def _parted(at: Rewrite, y: str, w: _Windows, name: str) -> str:
    """The map y [N,H,W,C] as windows [N W, L, C]."""
    channels = at.type(y).dims[3]
    if any(w.shift):
        roll = RollAttrs((-w.shift[0], -w.shift[1]), (1, 2))
        y = at.builder.call("roll", y, attrs=roll, name=name + ".roll")
    (h, x), (wh, ww) = w.size, w.window
    cells = (w.batch, h // wh, wh, x // ww, ww, channels)
    y = at.builder.call("reshape", y, attrs=ReshapeAttrs(cells), name=name + ".cells")
    y = at.builder.call("transpose", y, attrs=TransposeAttrs(CUT), name=name + ".parts")
    shape = (w.batch * (h // wh) * (x // ww), wh * ww, channels)
    return at.builder.call("reshape", y, attrs=ReshapeAttrs(shape), name=name + ".windows")


def _projection(at: Rewrite, node: Node) -> str | None:
    """A linear layer of the windows of attention's own map: it projects the map, which is parted after that."""
    windows = _windows(at, node.inputs[0])
    if windows is None or at.maker(windows.ref, "window_attention") is None:
        return None
    return _parted(at, _on_map(at, node, windows), windows, node.outputs[0].name)
