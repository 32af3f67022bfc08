"""What linear layers see on calibration data: the size of each channel of their inputs, and some of the tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec import interp, log
from edgec.ir import Array, Graph, Node, Program
from edgec.passes.calibrate import check_samples

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """Of a value [..., C] over all samples: max |x| and mean |x| of each channel, and evenly spaced rows [R, C]."""

    largest: F64
    mean: F64
    rows: F32


@dataclass(frozen=True, slots=True)
class Observed:
    """`values`: what was seen of each value. `whole`: for the first samples, values in full by reference (`$state`
    with its content before the call)."""

    values: Mapping[str, Seen]
    whole: tuple[Mapping[str, Array], ...]


def observe(
    program: Program,
    graph: Graph,
    refs: Collection[str],
    samples: Sequence[Mapping[str, Array]],
    tokens: int,
    whole: Collection[str] = (),
) -> Observed:
    """Run `graph` on all samples, each from the initial state.

    About `tokens` rows are kept of each value of `refs`, and the values of `whole` in full for as many samples as make
    `tokens` rows of the longest of them (one sample at least).
    """
    check_samples(graph, samples)
    types = program.type_of(graph)
    share = max(1, -(-tokens // len(samples)))
    lengths = [types[r].size // max(1, types[r].dims[-1]) for r in refs]
    full = max(1, min(len(samples), tokens // max(1, *lengths, 1)))
    sums: dict[str, F64] = {}
    tops: dict[str, F64] = {}
    counts: dict[str, int] = {}
    rows: dict[str, list[F32]] = {}
    kept: list[dict[str, Array]] = []
    state = {n: s.initial.data for n, s in program.state.items()}
    for index, sample in enumerate(log.progress(samples, "observe", len(samples))):
        held = {r: np.asarray(a) for r, a in (*sample.items(), *(("$" + n, a) for n, a in state.items()))}
        if index < full:
            kept.append({r: a for r, a in held.items() if r in whole})

        def see(
            ref: str, x: Array, into: dict[str, Array] | None = kept[-1] if index < full else None
        ) -> None:
            if into is not None and ref in whole:
                into[ref] = x
            if ref in refs:
                flat = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
                size = np.abs(flat)
                sums[ref] = sums.get(ref, 0.0) + size.sum(axis=0, dtype=np.float64)
                tops[ref] = np.maximum(tops.get(ref, 0.0), size.max(axis=0, initial=0.0))
                counts[ref] = counts.get(ref, 0) + len(flat)
                places = np.linspace(0, len(flat) - 1, min(share, len(flat))).astype(np.int64)
                rows.setdefault(ref, []).append(flat[places])

        def each(node: Node, outputs: tuple[Array, ...]) -> None:
            for value, y in zip(node.outputs, outputs, strict=True):
                see(value.name, y)

        for value in graph.inputs:
            see(value.name, held[value.name])
        interp.run(program, graph, sample, state, each)
    values = {
        r: Seen(np.asarray(tops[r], np.float64), sums[r] / max(1, counts[r]), np.concatenate(rows[r]))
        for r in rows
    }
    return Observed(values, tuple(kept))
