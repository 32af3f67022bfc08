"""How many training steps of float numbers two correct programs agree on.

A step moves weights across the kinks of ReLU and max pooling; numbers that differ in the last bit can then fall on
different sides, and what follows differs by much more. Golden vectors hold steps only as far as that does not happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edgec import interp
from edgec.ir import Array, Graph, Program

PERTURBATION: Final = 1e-6  # relative: a few roundings of float32
RUNS: Final = 3
TOLERANCE: Final = 1e-5  # of an output's largest magnitude: a tenth of what golden vectors allow


def stable_steps(
    program: Program,
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    state: Mapping[str, Array] | None,
) -> int:
    """How many of the `samples`, one call each from `state` on, give what slightly different inputs give; at least
    1, which is the step before any update."""
    wanted = _run(program, graph, samples, state)
    steady = len(samples)
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        moved = [{n: _moved(a, rng) for n, a in sample.items()} for sample in samples]
        found = _run(program, graph, moved, state)
        same = [
            all(_close(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(wanted, found, strict=True)
        ]
        steady = min(steady, same.index(False) if False in same else len(same))
    return max(1, steady)


def _run(
    program: Program, graph: Graph, samples: Sequence[Mapping[str, Array]], state: Mapping[str, Array] | None
) -> list[list[Array]]:
    rows = []
    for sample in samples:
        outputs, state = interp.run(program, graph, sample, state)
        rows.append([outputs[ref] for ref in graph.outputs])
    return rows


def _moved(a: Array, rng: np.random.Generator) -> Array:
    if a.dtype.kind != "f":
        return a
    return np.asarray(np.multiply(a, 1.0 + PERTURBATION * rng.normal(size=a.shape)), a.dtype)


def _close(a: Array, b: Array) -> bool:
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    largest = float(np.abs(a).max(initial=0.0))
    return np.allclose(a, b, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True)
