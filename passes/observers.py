"""From a histogram of a value to the range that int8 shall cover: percentile, entropy, squared error.

Sources: TensorRT's entropy calibration (Migacz, GTC 2017); squared error and percentile as in "Integer
Quantization for Deep Learning Inference", arXiv 2004.09602, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Range = tuple[float, float]

BINS: Final = 2048
LEVELS: Final = 256
_FIRST_CANDIDATE: Final = 128  # bins; fewer than half the levels cannot be told apart from int8 itself
_STRIDE: Final = 16  # bins between two candidate thresholds
_RATIOS: Final = np.linspace(0.1, 1.0, 91)  # share of the observed range that the squared error tries


@dataclass(slots=True)
class Histogram:
    """Counts of a value in BINS equal bins of [low, high]; grows sample by sample."""

    low: float
    high: float
    counts: F64

    def add(self, data: npt.NDArray[np.float64]) -> None:
        """Count data[n]; what lies outside falls into the last bin of its side."""
        if self.high > self.low:
            clipped = np.clip(data, self.low, self.high)
            self.counts += np.histogram(clipped, BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> F64:
        edges = np.linspace(self.low, self.high, BINS + 1)
        return np.asarray((edges[:-1] + edges[1:]) / 2)


def empty(low: float, high: float) -> Histogram:
    """A histogram of [low, high] without counts."""
    return Histogram(low, high, np.zeros(BINS))


def percentile(h: Histogram, share: float) -> Range:
    """The range without the outer 100 - share percent at each end."""
    total = np.cumsum(h.counts)
    edges = np.linspace(h.low, h.high, BINS + 1)
    cut = total[-1] * (1 - share / 100)
    first = int(np.searchsorted(total, cut, side="right"))
    last = int(np.searchsorted(total, total[-1] - cut, side="left"))
    return float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])


def squared_error(h: Histogram) -> Range:
    """The share of [low, high] at which rounding and clipping errors together are smallest."""
    x, best, chosen = h.centres, np.inf, (h.low, h.high)
    for ratio in _RATIOS[::-1]:
        low, high = min(0.0, h.low * ratio), max(0.0, h.high * ratio)
        step = (high - low) / (LEVELS - 1)
        clipped = np.clip(x, low, high)
        rounded = low + np.floor((clipped - low) / step + 0.5) * step
        # Within a bin that is coarser than a step the rounding error is that of a uniform value.
        error = np.where(clipped == x, step * step / 12, (x - rounded) ** 2)
        loss = float((h.counts * error).sum())
        if loss < best:
            best, chosen = loss, (float(low), float(high))
    return chosen


def entropy(h: Histogram) -> Range:
    """The threshold on |x| whose int8 picture has the least Kullback-Leibler divergence from the histogram."""
    magnitude = max(-h.low, h.high)
    counts = np.histogram(np.abs(h.centres), BINS, (0.0, magnitude), weights=h.counts)[0]
    levels = LEVELS if h.low >= 0.0 or h.high <= 0.0 else LEVELS // 2
    best, chosen = np.inf, BINS
    for width in range(max(_FIRST_CANDIDATE, levels), BINS + 1, _STRIDE):
        loss = _divergence(counts, width, levels)
        if loss < best:
            best, chosen = loss, width
    threshold = magnitude * chosen / BINS
    return max(h.low, -threshold), min(h.high, threshold)


def _divergence(counts: F64, width: int, levels: int) -> float:
    """KL(P||Q): P the first `width` bins with all outliers in the last, Q the same bins through `levels` levels."""
    kept = counts[:width]
    p = kept.copy()
    p[-1] += counts[width:].sum()
    level = np.arange(width) * levels // width
    filled = kept > 0
    sums = np.bincount(level, kept, levels)
    members = np.bincount(level, filled, levels)
    q = np.where(filled, sums[level] / np.maximum(members[level], 1), 0.0)
    if not q.sum() or not p.sum():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    both = (p > 0) & (q > 0)
    missing = float(p[(p > 0) & (q == 0)].sum())  # mass that Q cannot express at all
    return float((p[both] * np.log(p[both] / q[both])).sum()) + missing * 10.0


RANGE_OF: Final[dict[str, Callable[[Histogram], Range]]] = {"entropy": entropy, "mse": squared_error}
