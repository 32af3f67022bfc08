"""AWQ: 4-bit weights whose important input channels are scaled up before they are rounded.

Scales: a_j = mean|X_j|, s = a^r, r = 0, 1/20 ... 19/20, s divided by sqrt(max s min s); behind a norm with gain g also
s = g (a / g)^r, which leaves the norm without a gain at r = 0. The one with the least error of the block's output is
taken, f(X; Q(W s) / s) against f(X; W), f the whole attention or MLP where several layers share X. Clips: for each
output channel and group the largest magnitude shrinks by up to one half, where that lowers the error of the group's
products; q and k are not clipped, since a softmax follows them. Lin et al., "AWQ: Activation-aware Weight
Quantization", MLSys 2024, section 3.2, and the authors' code. The passes end in float weights, which `quantize_w4`
rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec import log
from edgec.build import constant
from edgec.ir import Array, Constant, Graph, Node, Program, Type
from edgec.match import Rewrite, attr, consumers, rewrite
from edgec.ops import OPS
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.heads import heads_at
from edgec.ops.linear_w4 import unpack_weights
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.passes.activations import Observed, observe
from edgec.passes.blocks import Block, block_of, run_block
from edgec.passes.dead import remove_dead
from edgec.passes.folds import Group, Site, Unfoldable, apply_scales, find_sites
from edgec.passes.quantize_w4 import W4Scheme, group_of, head_names, quantize_groups
from edgec.passes.smooth import weight_of

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
EXPONENTS: Final = tuple(i / 20 for i in range(20))
SHRINKS: Final = tuple(i / 20 for i in range(10))
SMALLEST: Final = 1e-4  # of a^r
SEARCH_TOKENS: Final = 512


@dataclass(frozen=True, slots=True)
class Scaled:
    """What the scale search gave one site. `exponent` None: it stays, because of `why`. `without_gain`: the norm's gain
    went into the weights, and the exponent is that of its input without it. Losses are relative mean
    squared errors of the block's output, rounded to the nearest and with `scales`."""

    site: Site
    exponent: float | None
    without_gain: bool
    before: float
    after: float
    scales: F64
    why: str


@dataclass(frozen=True, slots=True)
class Clipped:
    """What the clip search gave one layer: its name, the share of groups that shrank, and the relative mean squared
    error of its products before and after."""

    layer: str
    share: float
    before: float
    after: float


def awq(
    program: Program,
    samples: Sequence[Mapping[str, Array]],
    scheme: W4Scheme,
    unfoldable: Unfoldable = "skip",
    graph: str | None = None,
) -> tuple[Program, tuple[Scaled, ...], tuple[Clipped, ...]]:
    """(`program` with scaled and clipped float weights, what each site got, what each layer got).

    `scheme` is the one that `quantize_w4` will round with, its gains not folded: they hold the scales. `samples`: of
    one graph (the first where none is named), in its own layout.
    """
    assert not scheme.fold_norm_gains, "a gain folded into the weights would take the scales back"
    g = program.graphs[0] if graph is None else program.graph(graph)
    chosen = rounded_layers(program, g, scheme)
    sites = [(s, group.value) for s in find_sites(program) if (group := s.group(g.name)) is not None]
    blocks = {
        value: block_of(g, group.layers) for s, value in sites if (group := s.group(g.name)) is not None
    }
    whole = {r for block in blocks.values() if len(block.nodes) > 1 for r in block.given}
    seen = observe(program, g, {value for _, value in sites}, samples, SEARCH_TOKENS, whole)
    scaled_sites = tuple(
        _scale(program, site, _Search(blocks[value], value, seen, scheme, chosen), unfoldable)
        for site, value in log.progress(sites, "AWQ scales", len(sites))
    )
    changes = [(d.site, d.scales) for d in scaled_sites if d.exponent is not None]
    after = apply_scales(program, changes, unfoldable)
    factors = {value: d.scales for (_, value), d in zip(sites, scaled_sites, strict=True)}
    clipped_program, clips = _clip(after, g, seen, factors, scheme, chosen)
    return clipped_program, scaled_sites, clips


def rounded_layers(program: Program, graph: Graph, scheme: W4Scheme) -> dict[str, int]:
    """Group size of each linear layer that `quantize_w4` will round, by its output's name."""
    types = program.type_of(graph)
    heads = () if scheme.head else head_names(graph)
    found = {}
    for node in graph.nodes:
        name = node.outputs[0].name if node.outputs else ""
        if node.op != "linear" or node.inputs[1][0] != "@" or not types[node.inputs[1]].dtype.is_float:
            continue
        group = group_of(types[node.inputs[1]].dims[1], scheme.group, scheme.groups)
        if group is not None and name not in heads and node.loc.layer not in scheme.keep:
            found[name] = group
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """Where and on what the scales of one site are judged."""

    block: Block
    value: str
    seen: Observed
    scheme: W4Scheme
    chosen: Mapping[str, int]

    def inputs(self) -> list[Mapping[str, Array]]:
        """The block's inputs: whole samples, or rows for a layer on its own."""
        if len(self.block.given) > 1 or len(self.block.nodes) > 1:
            return list(self.seen.whole)
        return [{self.value: self.seen.values[self.value].rows}]


def _scale(program: Program, site: Site, search: _Search, unfoldable: Unfoldable) -> Scaled:
    ones = np.ones(site.channels)
    group = next(g for g in site.groups if g.value == search.value)
    layers = [node for node in group.layers if node.outputs[0].name in search.chosen]
    if not layers:
        return Scaled(site, None, False, 0.0, 0.0, ones, "its layers stay in float")
    if site.why and unfoldable == "skip":
        return Scaled(site, None, False, 0.0, 0.0, ones, site.why)
    given = search.inputs()
    wanted = [run_block(program, search.block, one, {}) for one in given]
    weights = {node.outputs[0].name: weight_of(program, node) for node in layers}
    importance = site.together(search.seen.values[search.value].mean)
    gain = _gain(program, group)
    tried = [(e, False, awq_scales(importance, e)) for e in EXPONENTS]
    tried += [(e, True, gain * awq_scales(importance / gain, e)) for e in EXPONENTS if gain is not None]
    losses = []
    for _, _, s in tried:
        rounded = {}
        for node in layers:
            name = node.outputs[0].name
            s32 = s.astype(np.float32)
            w = nearest(weights[name] * s32, search.chosen[name], search.scheme.symmetric) / s32
            rounded[node.inputs[1][1:]] = constant(w)
        found = [run_block(program, search.block, one, rounded) for one in given]
        losses.append(_relative(wanted, found))
    best = int(np.argmin(losses))
    if best == 0:
        return Scaled(site, None, False, losses[0], losses[0], ones, "no scales lower the error")
    exponent, without_gain, s = tried[best]
    return Scaled(site, exponent, without_gain, losses[0], losses[best], s, "")


def _gain(program: Program, group: Group) -> F64 | None:
    """|gain| of the norm that makes the group's input, 1 where it is 0; None where no norm does."""
    nodes = {n.outputs[0].name: n for n in program.graph(group.graph).nodes}
    node = nodes.get(group.value)
    if node is None or node.op not in ("rms_norm", "layer_norm") or group.why or not group.edits:
        return None
    gain = np.abs(np.asarray(program.constants[node.inputs[1][1:]].data, np.float64))
    return np.where(gain > 0, gain, 1.0)


def awq_scales(importance: F64, exponent: float) -> F64:
    """s[C] of mean |X_j|: a^r, at least 1e-4, its largest times its smallest 1."""
    s = np.maximum(importance, 0.0) ** exponent if exponent else np.ones_like(importance)
    s = np.maximum(s, SMALLEST)
    return np.asarray(s / np.sqrt(s.max() * s.min()))


def nearest(w: F32, group: int, symmetric: bool) -> F32:
    """w[N,K] as `linear_w4` will see it."""
    return unpack_weights(*quantize_groups(w, group, symmetric), group)


def _relative(wanted: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    noise = power = 0.0
    for a, b in (
        (a, b) for one, other in zip(wanted, found, strict=True) for a, b in zip(one, other, strict=True)
    ):
        exact = a.astype(np.float64)
        noise += float(np.square(exact - b.astype(np.float64)).sum())
        power += float(np.square(exact).sum())
    return noise / max(power, 1e-30)


def _clip(
    program: Program,
    before: Graph,
    seen: Observed,
    factors: Mapping[str, F64],
    scheme: W4Scheme,
    chosen: Mapping[str, int],
) -> tuple[Program, tuple[Clipped, ...]]:
    """Clip what leads to no softmax in the layers of `chosen`. `before`: the graph as it was observed."""
    inputs = {n.outputs[0].name: n.inputs[0] for n in before.nodes if n.op == "linear"}
    todo = [n for n in program.graph(before.name).nodes if n.op == "linear" and n.outputs[0].name in chosen]
    limits: dict[str, tuple[F32, int]] = {}
    rows = []
    for node in log.progress(todo, "AWQ clips", len(todo)):
        name = node.outputs[0].name
        value = inputs[name]
        w = weight_of(program, node)
        free = ~score_rows(before, name, len(w))
        if node.inputs[1] in limits or value not in factors or not free.any():
            continue
        x = np.asarray(seen.values[value].rows / factors[value], np.float32)
        found, share, losses = clip_limits(w[free], x, chosen[name], scheme.symmetric)
        limit = np.full((len(w), found.shape[1]), np.inf, np.float32)
        limit[free] = found
        limits[node.inputs[1]] = limit, chosen[name]
        rows.append(Clipped(node.loc.layer, share, *losses))

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if node.op != "linear" or node.inputs[1] not in limits:
            return None
        w = node.inputs[1]
        new = at.builder.constant(clamped(at.builder.constants[w[1:]], *limits[w]), w[1:])
        return (at.remake(node, inputs=(node.inputs[0], new, *node.inputs[2:])),)

    return (remove_dead(rewrite(program, visit)) if limits else program), tuple(rows)


def score_rows(graph: Graph, layer: str, count: int) -> npt.NDArray[np.bool_]:
    """[N]: the rows of the weight that make scores of a softmax, q and k of an attention. `layer`: its output's name,
    `count`: N."""
    readers = consumers(graph)
    types = {v.name: v.type for n in graph.nodes for v in n.outputs}
    found = np.zeros(count, np.bool_)
    # A value and the row that each of its last channels comes from; False: in another order.
    queue: list[tuple[str, npt.NDArray[np.int64], bool]] = [(layer, np.arange(count), True)]
    known = {layer}
    while queue:
        ref, rows, ordered = queue.pop()
        for node in readers.get(ref, ()):
            if node.op == "softmax":
                found[rows] = True
            elif "attention" in node.op:
                found[_attended(node, ref, rows, types[ref] if ordered else None)] = True
            elif node.op != "linear":
                for part, value in zip(_parts(node, rows, ordered, types[ref]), node.outputs, strict=True):
                    if value.name not in known:
                        known.add(value.name)
                        same = value.type.dims[-1:] == (len(part),) and node.op not in (
                            "transpose",
                            "reshape",
                        )
                        queue.append((value.name, part, ordered and same))
    return found


def _parts(
    node: Node, rows: npt.NDArray[np.int64], ordered: bool, t: Type
) -> tuple[npt.NDArray[np.int64], ...]:
    """The rows behind each output: a cut of the last axis takes some of them."""
    if ordered and node.op in ("split", "slice") and attr(node, "axis", int) == len(t.dims) - 1:
        return OPS[node.op].ref(replace(node.attrs, axis=0), (rows,))  # type: ignore[call-arg, return-value]
    return (rows,) * len(node.outputs)


def _attended(node: Node, ref: str, rows: npt.NDArray[np.int64], t: Type | None) -> npt.NDArray[np.int64]:
    """Those of `rows` that `node` reads from `ref` as q or k. `t`: of `ref`, where its last axis is `rows`."""
    attrs = node.attrs
    packed = isinstance(attrs, (StridedAttentionAttrs, CachedAttentionAttrs))
    if ref not in node.inputs[:2]:
        return rows[:0]
    if not packed or t is None or t.dims[-1] != len(rows):
        return rows
    assert isinstance(attrs, (StridedAttentionAttrs, CachedAttentionAttrs))
    channels = np.broadcast_to(np.arange(len(rows)), t.dims)
    read = [(attrs.q, attrs.heads), (attrs.k, attrs.kv_heads)]
    places = [
        heads_at(channels, place, (1, heads, 1, attrs.depth)).ravel()
        for operand, (place, heads) in enumerate(read)
        if node.inputs[operand] == ref
    ]
    return rows[np.concatenate(places).astype(np.int64)]


def clip_limits(w: F32, x: F32, group: int, symmetric: bool) -> tuple[F32, float, tuple[float, float]]:
    """(largest magnitude [N,K/G] for each group of w[N,K], share of groups that shrink, relative errors before and
    after) by the products with x[R,K]: sum over the rows of (x_g . (Q(clip w_g) - w_g))^2 is d' (x_g' x_g) d."""
    outputs, channels = w.shape
    count = channels // group
    parts = x.reshape(len(x), count, group).transpose(1, 0, 2).astype(np.float64)
    gram = np.matmul(parts.transpose(0, 2, 1), parts)  # [K/G, G, G]
    top = np.abs(w).reshape(outputs, count, group).max(axis=2)
    blocks = w.reshape(outputs, count, group)
    best = np.full(top.shape, np.inf)
    limit, first = top.copy(), best
    for shrink in SHRINKS:
        high = top * np.float32(1 - shrink)
        rounded = nearest(
            np.clip(blocks, -high[..., None], high[..., None]).reshape(w.shape), group, symmetric
        )
        d = (rounded.reshape(blocks.shape) - blocks).transpose(1, 0, 2).astype(np.float64)
        error = np.einsum("gnk,gnk->ng", np.matmul(d, gram), d, optimize=True)
        first = error if shrink == 0.0 else first
        limit = np.where(error < best, high, limit)
        best = np.minimum(best, error)
    exact = blocks.transpose(1, 0, 2).astype(np.float64)
    power = max(float(np.einsum("gnk,gnk->", np.matmul(exact, gram), exact, optimize=True)), 1e-30)
    share = float(np.mean(limit < top))
    return limit.astype(np.float32), share, (float(first.sum()) / power, float(best.sum()) / power)


def clamped(old: Constant, limit: F32, group: int) -> Constant:
    """`old` [N,K] with the magnitudes of each group at most limit[N,K/G], computed when it is read."""
    digest = hashlib.sha256(f"clamped {group} {old.digest}".encode() + limit.tobytes()).hexdigest()

    def load() -> Array:
        high = np.repeat(limit, group, axis=1)
        return np.clip(old.data.astype(np.float64), -high, high).astype(old.type.dtype.numpy)

    return Constant(old.type, load, digest)
