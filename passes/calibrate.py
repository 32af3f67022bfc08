"""Calibration: runs the float graph on samples and observes the range of every value.

The first run over the samples takes minima and maxima; the histogram methods run a second time, so that no
activation is ever kept. Elements of minus infinity (masks) are not counted; NaN and infinity are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edgec import interp, log
from edgec.errors import UserError
from edgec.ir import Array, Bound, Graph, Loc, Node, Program
from edgec.ops.select import MaskedFillAttrs
from edgec.passes.observers import RANGE_OF, Histogram, Range, empty, percentile

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: Final[tuple[Method, ...]] = ("minmax", "percentile", "entropy", "mse")

# A fill below this stands for minus infinity before a softmax. The range then reaches MASK_DEPTH below the
# largest value: exp(-16) is far less than the 1/256 step of a quantised softmax.
MASK_VALUE: Final = -1e4
MASK_DEPTH: Final = 16.0
# A fill is still one behind these, which move or choose elements.
FILL_MOVES: Final = (
    "reshape", "expand", "transpose", "slice", "select", "concat", "split", "unbind", "reduce_max",
)  # fmt: skip

See = Callable[[str, Array, Loc], None]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Observed (low, high) of every float value, by graph name and reference (`$state` included)."""

    of: Mapping[tuple[str, str], Range]
    method: Method
    samples: int

    def get(self, graph: Graph, ref: str) -> Range:
        """Range of `ref` in `graph`. Raises KeyError for a value that was not there at calibration."""
        return self.of[graph.name, ref]


def calibrate(
    program: Program,
    samples: Sequence[Mapping[str, Array]],
    method: Method = "minmax",
    *,
    graph: str | None = None,
    share: float = 99.99,
) -> Ranges:
    """Ranges of all float values of one graph (the first where none is named) over `samples`: arrays by value
    name, in the graph's own layout.

    `share`: for method "percentile", percent kept at each end. State runs on from sample to sample.
    Raises UserError EDGEC-E350 (no samples), E351 (name), E352 (shape), E353 (not finite), E354 (NaN
    inside), E355 (infinity inside; minus infinity is a mask).
    """
    if method not in METHODS:
        raise UserError(
            "EDGEC-E205", f"choose one of {', '.join(METHODS)}: {method} is no calibration method"
        )
    if not 50.0 < share <= 100.0:
        raise UserError("EDGEC-E206", f"give a percentile above 50 and up to 100: here it is {share}")
    g = program.graphs[0] if graph is None else program.graph(graph)
    check_samples(g, samples)
    extremes: dict[str, Range] = {}

    def widen(ref: str, data: Array, loc: Loc) -> None:
        low, high = _finite_range(data, ref, loc)
        before = extremes.get(ref, (math.inf, -math.inf))
        extremes[ref] = min(before[0], low), max(before[1], high)

    _run(program, g, samples, widen)
    ranges = {ref: r if r[0] <= r[1] else (0.0, 0.0) for ref, r in extremes.items()}
    if method != "minmax":
        ranges = _by_histogram(program, g, samples, ranges, method, share)
    _fill_ranges(g, ranges)
    return Ranges({(g.name, ref): r for ref, r in ranges.items()}, method, len(samples))


def is_fill(node: Node) -> bool:
    """Whether the node writes a number that stands for minus infinity."""
    return isinstance(node.attrs, MaskedFillAttrs) and node.attrs.value <= MASK_VALUE


def _fill_ranges(g: Graph, ranges: dict[str, Range]) -> None:
    """Let filled scores, and what movements make of them, reach MASK_DEPTH below the largest and no further."""
    filled: set[str] = set()
    for node in g.nodes:
        given = [ranges[r] for r in node.inputs if r in ranges]
        low, high = min((r[0] for r in given), default=0.0), max((r[1] for r in given), default=0.0)
        if is_fill(node):
            low = min(low, high - MASK_DEPTH)
        elif node.op not in FILL_MOVES or filled.isdisjoint(node.inputs):
            continue
        ranges.update((v.name, (low, high)) for v in node.outputs)
        filled.update(v.name for v in node.outputs)


def _by_histogram(
    program: Program,
    g: Graph,
    samples: Sequence[Mapping[str, Array]],
    extremes: Mapping[str, Range],
    method: Method,
    share: float,
) -> dict[str, Range]:
    histograms: dict[str, Histogram] = {ref: empty(*r) for ref, r in extremes.items()}

    def count(ref: str, data: Array, loc: Loc) -> None:
        finite = np.asarray(data, np.float64).ravel()
        histograms[ref].add(finite[np.isfinite(finite)])

    _run(program, g, samples, count)
    found = {}
    for ref, h in histograms.items():
        if h.high <= h.low or not h.counts.any():
            found[ref] = extremes[ref]
        else:
            found[ref] = percentile(h, share) if method == "percentile" else RANGE_OF[method](h)
    return found


def _run(program: Program, g: Graph, samples: Sequence[Mapping[str, Array]], see: See) -> None:
    """Call `see(reference, content, place)` for each float input, state and node output of each sample, at
    once, so that the content can be dropped."""

    def observe(node: Node, outputs: tuple[Array, ...]) -> None:
        for value, y in zip(node.outputs, outputs, strict=True):
            if value.type.dtype.is_float and y.size:
                see(value.name, y, node.loc)

    state: dict[str, Array] = {n: s.initial.data for n, s in program.state.items()}
    for sample in log.progress(samples, "calibrate", len(samples)):
        for value in g.inputs:
            if value.type.dtype.is_float:
                see(value.name, np.asarray(sample[value.name]), Loc("input " + value.name))
        for name, array in state.items():
            if array.dtype.kind == "f" and array.size:
                see("$" + name, array, Loc("state " + name))
        _, state = interp.run(program, g, sample, state, observe)


def check_samples(g: Graph, samples: Sequence[Mapping[str, Array]]) -> None:
    """Raise UserError unless every sample has each input of `g`, in its shape and finite."""
    labels = {p.ref: p.label for p in g.input_ports}
    if not samples:
        raise UserError("EDGEC-E350", "give at least one calibration sample: there is none")
    for index, sample in enumerate(samples):
        for value in g.inputs:
            label = labels.get(value.name, value.name)
            if value.name not in sample:
                have = ", ".join(sorted(labels.get(n, n) for n in sample)) or "nothing"
                raise UserError(
                    "EDGEC-E351",
                    f"add the input {label} to the calibration data: sample {index} holds {have}",
                )
            array = np.asarray(sample[value.name])
            expected = value.type.shape
            if array.ndim != len(expected) or any(
                a > e.max if isinstance(e, Bound) else a != e
                for e, a in zip(expected, array.shape, strict=True)
            ):
                raise UserError(
                    "EDGEC-E352",
                    f"give {label} the shape {list(value.type.dims)} in the calibration data: "
                    f"sample {index} has {list(array.shape)}",
                )
            bad = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
            if bad:
                raise UserError(
                    "EDGEC-E353",
                    f"remove NaN and infinity from the calibration data: {bad} of {array.size} elements of "
                    f"{label} in sample {index}",
                )


def _finite_range(data: Array, ref: str, loc: Loc) -> Range:
    if np.isnan(data).any():
        raise UserError(
            "EDGEC-E354",
            f"check the weights and the calibration data: {loc} computes NaN ({ref}), "
            f"{int(np.isnan(data).sum())} of {data.size} elements in one sample",
        )
    infinite = int(np.count_nonzero(np.asarray(data, np.float64) == math.inf))
    if infinite:
        raise UserError(
            "EDGEC-E355",
            f"check the weights and the calibration data: {loc} overflows to infinity ({ref}), "
            f"{infinite} of {data.size} elements in one sample",
        )
    finite = data[np.isfinite(data)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)
