"""The tables of docs/training.md are those of the results, and every figure that is held is where it must be."""

from __future__ import annotations

from typing import Any

import learning_rows
import performance_learning
import pytest

RESULT = performance_learning.load("learning")


def test_the_tables_are_what_their_generator_prints() -> None:
    text = performance_learning.PAGE.read_text(encoding="utf-8")
    assert performance_learning.page(text) == text, (
        "run `PYTHONPATH=. python benchmarks/performance_learning.py`"
    )


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has no comments 'begin learning' and 'end learning'"):
        performance_learning.replaced("# Page\n", "learning", "")


def test_every_run_has_its_row() -> None:
    names = ("scheme", "seed", "gradients", "rounding", "ablation", "at_least", "at_most")
    wanted = [{n: getattr(run, n) for n in names} for run in learning_rows.RUNS]
    assert [{n: row[n] for n in names} for row in RESULT["rows"]] == wanted


def test_what_is_learnt_is_where_it_must_be() -> None:
    assert learning_rows.missed(RESULT["rows"]) == []
    assert RESULT["date"] and RESULT["processor"] and RESULT["edgec"]


@pytest.mark.parametrize(("row", "accuracy"), [(0, 89.9), (3, 92.4), (7, 80.1), (8, 82.1), (9, 20.1)])
def test_a_figure_that_is_not_where_it_must_be_is_told(row: int, accuracy: float) -> None:
    rows: list[dict[str, Any]] = [dict(r) for r in RESULT["rows"]]
    rows[row]["accuracy"] = accuracy
    assert learning_rows.missed(rows) == [rows[row]]


def test_the_curve_is_of_all_schemes_by_memory() -> None:
    points = performance_learning.curve(RESULT["rows"])
    assert [row["scheme"] for row in points] == list(learning_rows.CURVE)
