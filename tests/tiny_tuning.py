"""A small float network trained in numpy, as the work of a scheme search; `python tiny_tuning.py JOURNAL LINES` kills
itself with SIGKILL after so many new lines of the journal (0: never), in the middle of the last one for even numbers.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.tune import contribution
from edgec.tune.contribution import Items, Staff, Task
from edgec.tune.evolution import Choice, Found, Limit, search
from edgec.tune.journal import Journal, Result, Subject

Floats = npt.NDArray[np.float64]
SIZES = (10, 16, 12, 12, 5)  # of the input, three hidden layers and the classes
BODY = len(SIZES) - 2
SUBJECT = Subject("tiny", "blobs", "sgd")
ITEMS = Items(
    tuple(range(1, BODY + 1)),
    tuple((i, r) for i in range(BODY) for r in (0.125, 0.25, 0.5, 1.0)),
    contribution.seeds(7, 2),
)


def drawn(count: int, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Points of classes that lie in shells and so are not separable by a plane, and their classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(0, 1.2, (SIZES[-1], 2, SIZES[0]))
    y = rng.integers(0, SIZES[-1], count)
    return centres[y, rng.integers(0, 2, count)] + rng.normal(0, 0.7, (count, SIZES[0])), y


@dataclass(frozen=True, slots=True)
class Tiny:
    """Trains what a task says by SGD on a network with fixed random weights; `epochs` set how long it takes."""

    epochs: int = 2

    def __call__(self, task: Task) -> Result:
        weights, biases = start()
        columns = [0] * (BODY + 1)
        for layer, ratio in task.choice.slices:
            columns[layer] = max(1, int(ratio * SIZES[layer]))
        columns[BODY] = SIZES[BODY]
        learning = {*range(BODY - task.choice.biases, BODY + 1), *(i for i, _ in task.choice.slices)}
        x, y = drawn(300, 2)
        rng = np.random.default_rng(task.seed)
        for _ in range(self.epochs):
            for i in rng.permutation(len(y)):
                step(weights, biases, x[i], int(y[i]), columns, learning)
        x, y = drawn(400, 3)
        return Result(int((np.argmax(forward(weights, biases, x)[-1], 1) == y).sum()), len(y))


def start() -> tuple[list[Floats], list[Floats]]:
    """Weights [O,I] and biases that every task starts from."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, (2 / i) ** 0.5, (o, i)) for i, o in itertools.pairwise(SIZES)]
    return weights, [np.zeros(o) for o in SIZES[1:]]


def forward(weights: list[Floats], biases: list[Floats], x: Floats) -> list[Floats]:
    """The input and each layer's output; the last are logits."""
    values = [x]
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        y = values[-1] @ w.T + b
        values.append(np.maximum(y, 0.0) if i < BODY else y)
    return values


def step(
    weights: list[Floats], biases: list[Floats], x: Floats, y: int, columns: list[int], learning: set[int]
) -> None:
    """One step along the gradient of the cross-entropy."""
    values = forward(weights, biases, x)
    g = np.exp(values[-1] - values[-1].max())
    g /= g.sum()
    g[y] -= 1.0
    for i in reversed(range(BODY + 1)):
        below = (g @ weights[i]) * (values[i] > 0.0)
        if k := columns[i]:
            weights[i][:, :k] -= 0.02 * np.outer(g, values[i][:k])
        if i in learning:
            biases[i] -= 0.02 * g
        g = below


def memory(choice: Choice) -> int:
    """Parameters that train."""
    biases = sum(SIZES[i + 1] for i in range(BODY - choice.biases, BODY))
    return 65 + biases + sum(SIZES[i + 1] * max(1, int(r * SIZES[i])) for i, r in choice.slices)


def scheme(path: Path, work: Tiny, staff: Staff, resume: bool = False) -> Found:
    """Measure into the journal at `path` and search."""
    with Journal.open(path, SUBJECT, resume) as journal:
        accuracy = contribution.measure(ITEMS, ITEMS.choices, work, journal, staff)
    table = contribution.contributions(ITEMS, accuracy)
    return search(table, (Limit("--memory", "bytes", 300, memory),), seed=0)


def _kill_at(lines: int) -> None:
    """Make the write of line number `lines` the process's last: whole, or for even numbers half."""
    write, written = os.write, 0

    def counted(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += data[:2] == b'{"'  # not what the pool writes
        if written == lines:
            write(descriptor, data if lines % 2 else data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, data)

    os.write = counted


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import tiny_tuning  # workers know it by this name, not as __main__

    if int(sys.argv[2]):
        _kill_at(int(sys.argv[2]))
    print(tiny_tuning.scheme(Path(sys.argv[1]), tiny_tuning.Tiny(), Staff(), resume=True))
