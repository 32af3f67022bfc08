"""The search for a scheme, against every choice there is, against drawing at random, and against the exact optimum of
a problem too large to list."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgec.errors import TargetError
from edgec.tune.evolution import HEAD_ONLY, Choice, Contributions, Limit, search

RATIOS = (0.125, 0.25, 0.5, 1.0)


def problem(layers: int, seed: int) -> tuple[Contributions, dict[int, int], dict[tuple[int, float], int]]:
    """Contributions that grow with what trains, with noise, some below 0; bytes of biases by count and of slices."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.004, 0.004, layers)
    biases = {k: float(steps[:k].sum()) for k in range(1, layers + 1)}
    bias_bytes = {k: 800 * k for k in (0, *biases)}
    slices, slice_bytes = {}, {}
    for i in range(layers):
        gain, size = rng.normal(0.02, 0.02), int(rng.integers(2_000, 60_000))
        for ratio in RATIOS:
            slices[i, ratio] = float(gain * ratio**0.5 + rng.normal(0, 0.002))
            slice_bytes[i, ratio] = int(size * ratio)
    return Contributions(biases, slices), bias_bytes, slice_bytes


def limits_of(
    bias_bytes: dict[int, int], slice_bytes: dict[tuple[int, float], int], memory: int, work: int
) -> tuple[Limit, Limit]:
    return (
        Limit(
            "--memory",
            "bytes",
            memory,
            lambda c: 160 + bias_bytes[c.biases] + sum(slice_bytes[s] for s in c.slices),
        ),
        Limit(
            "--instructions", "instructions", work, lambda c: 9 * c.biases + sum(i + 1 for i, _ in c.slices)
        ),
    )


def everything(layers: int) -> list[Choice]:
    """All choices of a small problem."""
    found = []
    for ratios in itertools.product((0.0, *RATIOS), repeat=layers):
        slices = tuple((i, r) for i, r in enumerate(ratios) if r)
        found += [Choice(k, slices) for k in range(layers + 1)]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_best_of_all_choices(seed: int) -> None:
    table, biases, slices = problem(4, seed)
    limits = limits_of(biases, slices, 40_000, 40)
    fitting = [c for c in everything(4) if all(limit.measure(c) <= limit.most for limit in limits)]
    best = max(table.total(c) for c in fitting)
    found = search(table, limits, seed=0)
    assert found.choice in fitting
    assert found.total == best
    assert found.costs == tuple(limit.measure(found.choice) for limit in limits)


def exact(
    table: Contributions, biases: dict[int, int], slices: dict[tuple[int, float], int], room: int
) -> float:
    """The optimum under the memory limit alone: a knapsack of one choice a layer, in steps of 1 byte."""
    value = np.zeros(room + 1)
    for layer in sorted({i for i, _ in slices}):
        new = value.copy()
        for ratio in RATIOS:
            size, gain = slices[layer, ratio], table.slices[layer, ratio]
            if size <= room:
                new[size:] = np.maximum(new[size:], value[: room + 1 - size] + gain)
        value = new
    return max((table.biases[k] if k else 0.0) + value[room - biases[k]] for k in biases if biases[k] <= room)


@pytest.mark.parametrize("seed", range(3))
def test_at_42_layers_it_comes_within_a_hundredth_of_the_optimum(seed: int) -> None:
    table, biases, slices = problem(42, seed)
    limits = limits_of(biases, slices, 100_160, 10**9)
    best = exact(table, biases, slices, 100_000)
    found = search(table, limits, seed=1)
    assert 0.99 * best <= found.total <= best + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_choices_that_look_as_often(seed: int) -> None:
    table, biases, slices = problem(42, seed)
    limits = limits_of(biases, slices, 100_160, 600)
    found = search(table, limits, seed=1)
    rng = np.random.default_rng(seed)
    looks, drawn = 0, 0.0
    while looks < found.seen:
        choice = Choice(int(rng.integers(13)))  # as many biases as the memory may hold
        for layer in rng.permutation(42):  # filled, too, until nothing more fits
            part = (int(layer), RATIOS[int(rng.integers(4))])
            more = Choice(choice.biases, tuple(sorted((*choice.slices, part))))
            looks += 1
            if all(limit.measure(more) <= limit.most for limit in limits):
                choice = more
        drawn = max(drawn, table.total(choice))
    assert found.total > 1.1 * drawn


def test_the_same_seed_finds_the_same_and_costs_are_asked_once_a_choice() -> None:
    table, biases, slices = problem(12, 5)
    asked: list[Choice] = []
    memory, work = limits_of(biases, slices, 60_000, 100)

    def counted(choice: Choice) -> int:
        asked.append(choice)
        return memory.measure(choice)

    limits = (Limit("--memory", "bytes", 60_000, counted), work)
    first = search(table, limits, seed=3)
    assert len(asked) <= first.seen + 2 * 60 + 3  # the rest: every part alone, the head, the winner
    assert search(table, (memory, work), seed=3) == first


def test_what_adds_nothing_is_not_chosen() -> None:
    table = Contributions({1: -0.1, 2: 0.0}, {(0, 0.5): -0.2, (0, 1.0): 0.0, (1, 0.25): 0.01})
    found = search(table, (Limit("--memory", "bytes", 10**6, lambda c: len(c.slices)),), seed=0)
    assert found.choice == Choice(0, ((1, 0.25),))


def test_without_limits_the_best_of_every_part_is_chosen() -> None:
    table, _, _ = problem(6, 1)
    found = search(table, (), seed=0)
    assert found.choice.biases == max(table.biases, key=lambda k: table.biases[k])
    for i in range(6):
        gains = {r: table.slices[i, r] for r in RATIOS}
        best = max(gains, key=lambda r: gains[r])
        assert dict(found.choice.slices).get(i) == (best if gains[best] > 0 else None)


def test_a_budget_below_the_head_says_by_how_much_and_what_would_fit() -> None:
    table = Contributions({2: 0.1}, {(0, 0.5): 0.2})
    sizes = {HEAD_ONLY: 1_600, Choice(2): 4_000, Choice(0, ((0, 0.5),)): 2_500}
    with pytest.raises(TargetError) as caught:
        search(table, (Limit("--memory", "bytes", 1_000, sizes.__getitem__),), seed=0)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "EDGEC-E511: give --memory 1600 to train the head alone, 2500 to train a bias or a slice beside it: the head "
        "takes 1,600 bytes, 600 more than --memory 1000 allows"
    )


def test_a_budget_of_exactly_the_head_trains_the_head() -> None:
    table, biases, slices = problem(3, 0)
    assert search(table, limits_of(biases, slices, 160, 10), seed=0).choice == HEAD_ONLY
