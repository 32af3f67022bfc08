"""What linear layers see on calibration data: the size of each channel of their inputs, and some of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgec import interp, log
from edgec.ir import Array, Graph, Node, Program
from edgec.passes.calibrate import check_samples

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
See = Callable[[str, Array], None]


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
    lengths = [types[r].size // max(1, types[r].dims[-1]) for r in refs]
    full = max(1, min(len(samples), tokens // max(1, *lengths, 1)))
    sums = {r: _Sums(max(1, -(-tokens // len(samples)))) for r in refs}
    kept: list[dict[str, Array]] = []
    state = {n: s.initial.data for n, s in program.state.items()}
    given = {"$" + n: a for n, a in state.items()}
    for index, sample in enumerate(log.progress(samples, "observe", len(samples))):
        held = given | {r: np.asarray(a) for r, a in sample.items()}
        wanted = {r: a for r, a in held.items() if r in whole}

        keep = whole if index < full else ()

        def see(ref: str, x: Array, into: dict[str, Array] = wanted, keep: Collection[str] = keep) -> None:
            if ref in keep:
                into[ref] = x
            if ref in sums:
                sums[ref].add(x)

        def each(node: Node, outputs: tuple[Array, ...], see: See = see) -> None:
            for value, y in zip(node.outputs, outputs, strict=True):
                see(value.name, y)

        for value in graph.inputs:
            see(value.name, held[value.name])
        interp.run(program, graph, sample, state, each)
        kept += [wanted] if index < full else []
    return Observed({r: s.seen() for r, s in sums.items()}, tuple(kept))


@dataclass(slots=True)
class _Sums:
    """What is counted of one value; `share`: rows to keep of each sample."""

    share: int
    total: F64 = field(default_factory=lambda: np.zeros(1))
    top: F64 = field(default_factory=lambda: np.zeros(1))
    count: int = 0
    rows: list[F32] = field(default_factory=list)

    def add(self, x: Array) -> None:
        flat = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
        size = np.abs(flat)
        self.total = self.total + size.sum(axis=0, dtype=np.float64)
        self.top = np.maximum(self.top, size.max(axis=0, initial=0.0))
        self.count += len(flat)
        places = np.linspace(0, len(flat) - 1, min(self.share, len(flat))).astype(np.int64)
        self.rows.append(flat[places])

    def seen(self) -> Seen:
        return Seen(self.top, self.total / max(1, self.count), np.concatenate(self.rows))
