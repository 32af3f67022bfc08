"""The benchmark of the control loop in real time: what it counts, and what it lets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import control_realtime
import pytest

GOOD: dict[str, Any] = {
    "rate_hz": 100.0,
    "sched_fifo": True,
    "realtime": "rt=granted(control_priority)",
    "degraded": False,
    "achieved_hz": 100.0,
    "heap_calls": 0,
    "outside_limits": 0,
    "out_of_order": 0,
    "quantiles": {"lateness": {"p99": 900_000}},
}


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ({}, []),
        ({"achieved_hz": 99.8}, ["99.80 Hz, not 100 +- 0.1"]),
        ({"quantiles": {"lateness": {"p99": 1_100_000}}}, ["p99 lateness 1.10 ms, at most 1"]),
        ({"quantiles": {"lateness": {"p99": 4_000_000}}, "sched_fifo": False}, []),
        (
            {"quantiles": {"lateness": {"p99": 6_000_000}}, "sched_fifo": False},
            ["p99 lateness 6.00 ms, at most 5"],
        ),
        ({"degraded": True, "realtime": "rt=degraded(x)"}, ["rt=degraded(x)"]),
        ({"heap_calls": 2}, ["heap_calls 2"]),
    ],
)
def test_what_fails(words: dict[str, Any], wrong: list[str]) -> None:
    assert control_realtime.failures({**GOOD, **words}) == wrong


@pytest.mark.parametrize(
    ("rate_hz", "fifo", "wanted"),
    [
        (100.0, True, "slow"),
        (100.0, False, "slow"),
        (500.0, True, "slow"),
        (500.0, False, "degraded, not required: slow"),
    ],
)
def test_what_must_hold_without_the_permission_is_100_hz(rate_hz: float, fifo: bool, wanted: str) -> None:
    row = {"rate_hz": rate_hz, "sched_fifo": fifo}
    assert control_realtime.verdict({**row, "failures": []}) == "within the limits"
    assert control_realtime.verdict({**row, "failures": ["slow"]}) == wanted


@pytest.mark.parametrize(("fifo", "code"), [(True, 1), (False, 0)])
def test_the_exit_code_is_that_of_the_required_rows(
    fifo: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_beside(rate_hz: float, seconds: float, sched_fifo: bool, *_: Path) -> dict[str, Any]:
        late = dict.fromkeys(("p50", "p99", "p99.9", "max"), 1000)
        wrong = ["slow"] if (rate_hz, sched_fifo) == (500.0, fifo) else []
        row = {**GOOD, "rate_hz": rate_hz, "sched_fifo": sched_fifo, "failures": wrong}
        return {
            **row,
            "quantiles": {"lateness": late, "execution": late},
            "missed": 0,
            "delay": 1,
            "stolen_s": 0,
        }

    monkeypatch.setattr(control_realtime, "run_beside", run_beside)
    assert control_realtime.measure(1.0, store=False) == code
    assert capsys.readouterr().out.count("slow") == 1


def test_a_short_run_counts_and_calls_no_heap(tmp_path: Path) -> None:
    robot, heap = control_realtime.build(tmp_path)
    row = control_realtime.run_beside(100.0, 1.0, False, robot, heap)
    assert row["periods"] == 111 and row["counts"]["taken"] > 0
    assert row["heap_calls"] == row["outside_limits"] == row["out_of_order"] == 0
    assert row["realtime"] == "rt=not asked"
