"""SmoothQuant: the difficulty of quantising activations with outlier channels moves into the weights.

s_j = max|X_j|^alpha / max|W_j|^(1-alpha), the second maximum over all layers that share the input X; X / s and W s
give the same products. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", ICML 2023, equation 4. Where the division folds is found by `folds`. alpha is given, or searched for
each site: the one with the least error of the int8 products, and none where the layers are best as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from edgec import log
from edgec.ir import NO_ATTRS, Array, Node, Program
from edgec.ops.linear_w8a8 import quantize_rows_ref
from edgec.passes.activations import Seen, observe
from edgec.passes.folds import Site, Unfoldable, apply_scales, find_sites
from edgec.passes.quantize_w8a8 import quantize_channels

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
ALPHAS: Final = tuple(round(0.05 * i, 2) for i in range(21))
SMALLEST: Final = 1e-5  # of s, as in the authors' code
SEARCH_TOKENS: Final = 256  # rows on which an alpha is judged


@dataclass(frozen=True, slots=True)
class Smoothing:
    """`alpha`: of every site, or "auto". `rows`: what scale activations will have, one for each token or one for the
    whole tensor. `unfoldable`: see `folds.apply_scales`. `keep`: layers (Loc.layer) that will stay in float."""

    alpha: float | Literal["auto"] = "auto"
    rows: Literal["token", "tensor"] = "token"
    unfoldable: Unfoldable = "skip"
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Smoothed:
    """What one site got. `alpha` None: it stays, because of `why`. Losses are relative mean squared errors of the
    int8 products before and after."""

    site: Site
    alpha: float | None
    before: float
    after: float
    scales: F64
    why: str


def smooth(
    program: Program, samples: Sequence[Mapping[str, Array]], smoothing: Smoothing, graph: str | None = None
) -> tuple[Program, tuple[Smoothed, ...]]:
    """(`program` with smoothed inputs of linear layers, what each site got). `samples`: of one graph (the first
    where none is named), in its own layout. The same object where nothing changed."""
    g = program.graphs[0] if graph is None else program.graph(graph)
    sites = [(s, group.value) for s in find_sites(program) if (group := s.group(g.name)) is not None]
    seen = observe(program, g, {value for _, value in sites}, samples, SEARCH_TOKENS).values
    done = tuple(
        smooth_site(program, site, quantised(site, smoothing.keep), seen[value], smoothing)
        for site, value in log.progress(sites, "smooth", len(sites))
    )
    scales = [(d.site, d.scales) for d in done if d.alpha is not None]
    return apply_scales(program, scales, smoothing.unfoldable), done


def quantised(site: Site, keep: Collection[str]) -> tuple[Node, ...]:
    """The site's layers that will not stay in float."""
    return tuple(node for node in site.layers if node.loc.layer not in keep)


def smooth_site(
    program: Program, site: Site, layers: tuple[Node, ...], seen: Seen, smoothing: Smoothing
) -> Smoothed:
    """The scales of one site. `layers`: those of it that will be quantised."""
    ones = np.ones(site.channels)
    if not layers:
        return Smoothed(site, None, 0.0, 0.0, ones, "its layers stay in float")
    if site.why and smoothing.unfoldable == "skip":
        return Smoothed(site, None, 0.0, 0.0, ones, site.why)
    weights = [weight_of(program, node) for node in site.layers]
    chosen = [w for w, node in zip(weights, site.layers, strict=True) if node in layers]
    top = np.max([np.abs(w).max(axis=0) for w in weights], axis=0)
    largest, column = site.together(seen.largest), site.together(np.asarray(top, np.float64))

    def loss(s: F64) -> float:
        return product_error(seen.rows, chosen, s, ROUNDINGS[smoothing.rows])

    before = loss(ones)
    alphas = ALPHAS if smoothing.alpha == "auto" else (smoothing.alpha,)
    found = [(alpha, smooth_scales(largest, column, alpha)) for alpha in alphas]
    losses = [loss(s) for _, s in found]
    best = int(np.argmin(losses))
    alpha, scales = found[best]
    if smoothing.alpha == "auto" and losses[best] >= before:
        return Smoothed(site, None, before, before, ones, "no alpha lowers the error")
    return Smoothed(site, alpha, before, losses[best], scales, "")


def weight_of(program: Program, node: Node) -> F32:
    """W[O,C] of a linear layer."""
    return np.asarray(program.constants[node.inputs[1][1:]].data, np.float32)


def smooth_scales(largest: F64, column: F64, alpha: float) -> F64:
    """s[C] from max|X_j| and max|W_j|; 1 for a channel that is always zero, or that no layer reads."""
    live = (largest > 0) & (column > 0)
    x, w = np.where(live, largest, 1.0), np.where(live, column, 1.0)
    return np.asarray(np.where(live, np.maximum(x**alpha / w ** (1 - alpha), SMALLEST), 1.0))


def _by_token(x: F32) -> F32:
    q, scale = quantize_rows_ref(NO_ATTRS, (x,))
    return q.astype(np.float32) * scale.astype(np.float32)


def _by_tensor(x: F32) -> F32:
    step = max(float(x.max(initial=0.0)) - min(float(x.min(initial=0.0)), 0.0), 1e-30) / 255
    return np.asarray(np.rint(x / np.float32(step)) * np.float32(step), np.float32)


ROUNDINGS: Final[dict[str, Callable[[F32], F32]]] = {"token": _by_token, "tensor": _by_tensor}


def product_error(rows: F32, weights: Sequence[F32], s: F64, rounding: Callable[[F32], F32]) -> float:
    """Sum over the layers of |x W' - Q(x / s) Q(W s)'|^2 / |x W'|^2."""
    s32 = s.astype(np.float32)
    x = rounding(rows / s32)
    total = 0.0
    for w in weights:
        q, scale = quantize_channels(w * s32)
        wanted = rows @ w.T
        found = x @ (q * scale[:, None]).T
        power = float(np.square(wanted, dtype=np.float64).sum())
        total += float(np.square(wanted - found, dtype=np.float64).sum()) / max(power, 1e-30)
    return total
