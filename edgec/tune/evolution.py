"""Which parameters train: an evolutionary search for the scheme with the largest sum of contributions under budgets.

A contribution is the accuracy that training a part adds on its own; the sum stands for the accuracy of training all
of them (Lin et al., On-Device Training Under 256KB Memory, NeurIPS 2022, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from edgec.errors import TargetError

POPULATION: Final = 48
GENERATIONS: Final = 60
PARENTS: Final = 12  # the best of a generation; they live on
MUTATION: Final = 0.06  # of each gene
CHEAPEST: Final = 0.75  # share of cuts that take the part with the least loss per cost; the others take any
LIGHTEST: Final = 1e-12  # share of the limits: of parts that cost nothing

Genes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Biases of the last `biases` layers before the head train, and `slices`: (layer's number, ratio), by number."""

    biases: int = 0
    slices: tuple[tuple[int, float], ...] = ()


HEAD_ONLY: Final = Choice()


@dataclass(frozen=True, slots=True)
class Contributions:
    """Accuracy added, as a share: `biases` by their count, against the head alone; `slices` by (layer, ratio),
    against biases alone."""

    biases: Mapping[int, float]
    slices: Mapping[tuple[int, float], float]

    def total(self, choice: Choice) -> float:
        """The sum over the parts of `choice`, rounded once."""
        first = self.biases[choice.biases] if choice.biases else 0.0
        return math.fsum((first, *(self.slices[part] for part in choice.slices)))

    @property
    def parts(self) -> tuple[Choice, ...]:
        """Each part alone, beside the head."""
        return (*(Choice(k) for k in self.biases if k), *(Choice(0, (part,)) for part in self.slices))


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget: `measure` of a choice is at most `most`. `flag` names it in errors."""

    flag: str
    unit: str
    most: int
    measure: Callable[[Choice], int]


class Found(NamedTuple):
    """The best choice, its sum of contributions, what it takes of each limit, and how many choices were looked at."""

    choice: Choice
    total: float
    costs: tuple[int, ...]
    seen: int


def search(contributions: Contributions, limits: Sequence[Limit], seed: int) -> Found:
    """The best choice found within all `limits`; the same for the same arguments. Raises TargetError EDGEC-E511 where
    not even the head fits."""
    refuse_impossible(contributions, limits)
    space = _space(contributions, tuple(limits))
    rng = np.random.default_rng(seed)
    zero = (0,) * len(space.values)
    people = [zero, space.fill(zero, space.by_density())]
    while len(people) < POPULATION:
        drawn = tuple(int(rng.integers(len(values))) for values in space.values)
        people.append(_fitting(space, drawn, rng))
    best = space.ranked(people)[:PARENTS]
    for _ in range(GENERATIONS):
        children = [_child(space, best, rng) for _ in range(POPULATION - PARENTS)]
        best = space.ranked([*best, *children])[:PARENTS]
    winner = space.choice(best[0])
    costs = tuple(limit.measure(winner) for limit in limits)
    return Found(winner, contributions.total(winner), costs, len(space.known))


def refuse_impossible(contributions: Contributions, limits: Sequence[Limit]) -> None:
    """Raise TargetError EDGEC-E511 where the head alone exceeds a limit."""
    for limit in limits:
        least = limit.measure(HEAD_ONLY)
        if least > limit.most:
            more = min((limit.measure(c) for c in contributions.parts), default=least)
            raise impossible(limit, least, more)


def impossible(limit: Limit, least: int, more: int) -> TargetError:
    """EDGEC-E511: by how much the limit is exceeded, and what would fit. `least`: of the head alone; `more`: of the
    cheapest part beside it."""
    return TargetError(
        "EDGEC-E511",
        f"give {limit.flag} {least} to train the head alone, {more} to train a bias or a slice beside it: the head "
        f"takes {least:,} {limit.unit}, {least - limit.most:,} more than {limit.flag} {limit.most} allows",
    )


@dataclass(frozen=True, slots=True)
class _Space:
    """The first gene is the number of a bias count, then one a layer: the number of its ratio; 0 is none of it.

    By gene and value: what it stands for, what it gains, and what it takes of the limits on its own, as shares of
    them. `known`: what each limit measured, by genes."""

    layers: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    gains: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    limits: tuple[Limit, ...]
    known: dict[Genes, tuple[int, ...]] = field(default_factory=dict)

    def choice(self, genes: Genes) -> Choice:
        parts = zip(self.layers, self.values[1:], genes[1:], strict=True)
        count = int(self.values[0][genes[0]])
        return Choice(count, tuple((layer, values[g]) for layer, values, g in parts if g))

    def total(self, genes: Genes) -> float:
        return math.fsum(gains[g] for gains, g in zip(self.gains, genes, strict=True))

    def costs(self, genes: Genes) -> tuple[int, ...]:
        """What each limit measures."""
        if genes not in self.known:
            choice = self.choice(genes)
            self.known[genes] = tuple(limit.measure(choice) for limit in self.limits)
        return self.known[genes]

    def fits(self, genes: Genes) -> bool:
        pairs = zip(self.costs(genes), self.limits, strict=True)
        return all(cost <= limit.most for cost, limit in pairs)

    def ranked(self, people: Sequence[Genes]) -> list[Genes]:
        """Each of them once, the best first; of equals the cheapest, then the one with the smaller genes."""
        return sorted(set(people), key=lambda g: (-self.total(g), self.costs(g), g))

    @property
    def parts(self) -> list[tuple[int, int]]:
        """(gene, value) of every part."""
        return [(gene, value) for gene, values in enumerate(self.values) for value in range(1, len(values))]

    def by_density(self) -> list[tuple[int, int]]:
        """(gene, value) of every part, the largest gain per cost first."""
        return sorted(self.parts, key=lambda p: (-self.gains[p[0]][p[1]] / self.weights[p[0]][p[1]], p))

    def fill(self, genes: Genes, parts: Sequence[tuple[int, int]]) -> Genes:
        """`genes` with each of `parts` that gains and fits, in this order."""
        for gene, value in parts:
            if self.gains[gene][value] > self.gains[gene][genes[gene]]:
                new = _set(genes, gene, value)
                if self.fits(new):
                    genes = new
        return genes

    def cut(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """`genes` with parts made smaller until they fit."""
        while not self.fits(genes):
            present = [i for i, g in enumerate(genes) if g]
            if rng.random() < CHEAPEST:
                gene = min(present, key=lambda i: (self._loss(i, genes[i]), i))
            else:
                gene = present[int(rng.integers(len(present)))]
            genes = _set(genes, gene, genes[gene] - 1)
        return genes

    def _loss(self, gene: int, value: int) -> float:
        """What one step down loses, for what it saves."""
        gains, weights = self.gains[gene], self.weights[gene]
        return (gains[value] - gains[value - 1]) / max(LIGHTEST, weights[value] - weights[value - 1])


def _space(contributions: Contributions, limits: tuple[Limit, ...]) -> _Space:
    """Parts without gain are left out: they could only cost."""
    counts = sorted(k for k, gain in contributions.biases.items() if k and gain > 0.0)
    by_layer: dict[int, list[float]] = {}
    for (layer, ratio), gain in sorted(contributions.slices.items()):
        if gain > 0.0:
            by_layer.setdefault(layer, []).append(ratio)
    choices = [
        [Choice(k) for k in counts],
        *([Choice(0, ((i, r),)) for r in own] for i, own in by_layer.items()),
    ]
    empty = [limit.measure(HEAD_ONLY) for limit in limits]

    def weight(choice: Choice) -> float:
        added = zip(limits, empty, strict=True)
        return max(LIGHTEST, math.fsum((b.measure(choice) - least) / max(1, b.most) for b, least in added))

    return _Space(
        tuple(by_layer),
        ((0.0, *map(float, counts)), *((0.0, *own) for own in by_layer.values())),
        tuple((0.0, *map(contributions.total, row)) for row in choices),
        tuple((0.0, *map(weight, row)) for row in choices),
        limits,
    )


def _set(genes: Genes, at: int, value: int) -> Genes:
    return (*genes[:at], value, *genes[at + 1 :])


def _fitting(space: _Space, genes: Genes, rng: np.random.Generator) -> Genes:
    """`genes`, cut until they fit and filled with what still fits: one part a gene, in a random order."""
    genes = space.cut(genes, rng)
    order = [int(i) for i in rng.permutation(len(genes))]
    sizes = [len(space.values[i]) for i in order]
    return space.fill(
        genes, [(i, int(rng.integers(1, n))) for i, n in zip(order, sizes, strict=True) if n > 1]
    )


def _child(space: _Space, parents: Sequence[Genes], rng: np.random.Generator) -> Genes:
    """A mixture of two parents with a few genes drawn anew, made to fit."""
    mother, father = (parents[int(rng.integers(len(parents)))] for _ in range(2))
    mixed = [m if rng.random() < 0.5 else f for m, f in zip(mother, father, strict=True)]
    for gene, values in enumerate(space.values):
        if rng.random() < MUTATION:
            mixed[gene] = int(rng.integers(len(values)))
    return _fitting(space, tuple(mixed), rng)
