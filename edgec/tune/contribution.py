"""Contribution analysis: what training each part alone adds to the accuracy on held-out data.

One fine-tuning an item, all from the same start and with the same order of samples: the last k biases beside the head,
for several k, against the head alone; a slice of one layer's weights beside the biases, against the biases alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from edgec import log
from edgec.tune import workers
from edgec.tune.evolution import HEAD_ONLY, Choice, Contributions
from edgec.tune.journal import Journal, Result


class Task(NamedTuple):
    """One fine-tuning: of what, with which seed."""

    choice: Choice
    seed: int


@dataclass(frozen=True, slots=True)
class Items:
    """What is measured: `biases` by their counts, ascending; `slices` (layer's number, ratio), each beside the biases
    of the largest count; each with every one of `seeds`."""

    biases: tuple[int, ...]
    slices: tuple[tuple[int, float], ...]
    seeds: tuple[int, ...]

    @property
    def most(self) -> int:
        """Biases that train beside a slice."""
        return self.biases[-1] if self.biases else 0

    def beside(self, part: tuple[int, float]) -> Choice:
        """The slice with its biases."""
        return Choice(self.most, (part,))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One a fine-tuning: the head, biases, slices."""
        return (HEAD_ONLY, *map(Choice, self.biases), *map(self.beside, self.slices))


def seeds(seed: int, count: int) -> tuple[int, ...]:
    """Seeds of the repetitions. All items share them: differences between items are then not those of luck."""
    return tuple(int(s) for s in np.random.SeedSequence(seed).generate_state(count))


def task_name(task: Task) -> str:
    """The task's name in the journal."""
    parts = "".join(f" + {number}:{Fraction(ratio)}" for number, ratio in task.choice.slices)
    return f"biases {task.choice.biases}{parts}, seed {task.seed}"


@dataclass(frozen=True, slots=True)
class Staff:
    """Who works: so many processes of this computer, or the Ray cluster at this address."""

    workers: int = 1
    cluster: str | None = None


def measure(
    items: Items, choices: Sequence[Choice], work: Callable[[Task], Result], journal: Journal, staff: Staff
) -> dict[Choice, float]:
    """Accuracy of every choice, as a share of held-out samples over all seeds. Tasks that the journal has are not done
    again; the others are added as they finish. Raises what workers.run raises."""
    tasks = [Task(choice, seed) for choice in choices for seed in items.seeds]
    missing = [task for task in tasks if task_name(task) not in journal.results]
    if len(missing) < len(tasks):
        log.say(f"{len(tasks) - len(missing)} of {len(tasks)} fine-tunings are in {journal.path}")
    with closing(workers.run(work, missing, staff.workers, staff.cluster)) as found:
        for number, result in log.progress(found, "fine-tuning", len(missing)):
            journal.add(task_name(missing[number]), result)
    return {choice: _share(choice, items.seeds, journal.results) for choice in choices}


def _share(choice: Choice, every: Sequence[int], results: Mapping[str, Result]) -> float:
    own = [results[task_name(Task(choice, seed))] for seed in every]
    return sum(r.right for r in own) / sum(r.of for r in own)


def contributions(items: Items, accuracy: Mapping[Choice, float]) -> Contributions:
    """Differences to the head alone, and to the biases alone."""
    head, biases = accuracy[HEAD_ONLY], accuracy[Choice(items.most)]
    return Contributions(
        {k: accuracy[Choice(k)] - head for k in items.biases},
        {part: accuracy[items.beside(part)] - biases for part in items.slices},
    )
