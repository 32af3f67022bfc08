"""The section of the control loop in docs/performance.md, from results/control_*.json."""

from __future__ import annotations

from typing import Any

import numpy as np
from control_realtime import verdict

DELAYS = (0, 2, 4, 8)
MODES = ("sync", "naive", "aligned", "ensemble", "rtc-prefix", "vlash")


def control(results: dict[str, dict[str, Any]]) -> str:
    """The whole section, of what has been measured."""
    lines = ["## Control loop\n"]
    if "control_modes" in results:
        lines += _modes(results["control_modes"])
    if "control_arm" in results:
        lines += _arm(results["control_arm"])
    if "control_realtime" in results:
        lines += _realtime(results["control_realtime"])
    return "\n".join(lines) + "\n"


def _modes(result: dict[str, Any]) -> list[str]:
    rows = {(r["task"], r["action"], r["mode"], r["delay"]): r for r in result["rows"]}
    columns = [("mole", a, d) for a in ("delta", "lag", "accel") for d in (2, 4)]
    columns += [("ball", a, d) for a in ("delta", "accel") for d in (4, 8)]
    names = [f"{t}, {a}, {d}" for t, a, d in columns]
    lines = [
        f"Measured {result['date']} in virtual time, through the C loop (`benchmarks/control_modes.py`): 128 robots, "
        "an analytic expert as policy, 16 actions a chunk, 8 of them played. Mole: percent of the jumping targets that "
        "are hit; ball: root mean square distance times 100; the number is the delay in periods.\n",
        "| mode | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for mode in MODES:
        cells = []
        for task, action, delay in columns:
            row = rows[task, action, mode, delay]
            cells.append(f"{row['hit_percent']:.1f} %" if task == "mole" else f"{row['rmse']:.1f}")
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    lines += ["\n![Scores by delay](control_modes.svg)\n"]
    return lines + _learned(result["learned"]) + _joined(result["joined"])


def _learned(rows: list[dict[str, Any]]) -> list[str]:
    kinds = (
        ("plain", "sync"),
        ("plain", "naive"),
        ("plain", "aligned"),
        ("plain", "vlash"),
        ("offsets", "vlash"),
    )
    lines = [
        "Learned policies, mole with deltas, percent hit, one number a seed; trained on ordinary samples or with "
        "offsets:\n",
        "| samples, mode | " + " | ".join(f"delay {d}" for d in (0, 2, 4)) + " |",
        "|---|---|---|---|",
    ]
    for network, mode in kinds:
        cells = [
            " / ".join(
                f"{r['hit_percent']:.1f}"
                for r in rows
                if (r["network"], r["mode"], r["delay"]) == (network, mode, d)
            )
            for d in (0, 2, 4)
        ]
        lines.append(f"| {network}, {mode} | " + " | ".join(cells) + " |")
    return lines


def _joined(rows: list[dict[str, Any]]) -> list[str]:
    found = {(r["delay"], r["quantum"]): r["hit_periods"] for r in rows}
    quanta = sorted({q for _, q in found})
    lines = [
        "\nJoined actions, periods from a jump to the hit (all targets hit):\n",
        "| delay | " + " | ".join(f"{q} joined" for q in quanta) + " |",
        "|---" * (len(quanta) + 1) + "|",
    ]
    for delay in sorted({d for d, _ in found}):
        cells = [f"{found[delay, q]:.1f} ({found[delay, 1] / found[delay, q]:.2f}×)" for q in quanta]
        lines.append(f"| {delay} | " + " | ".join(cells) + " |")
    return lines


def _arm(result: dict[str, Any]) -> list[str]:
    def mean(mode: str, delay: int) -> str:
        found = [r["percent"] for r in result["rows"] if (r["mode"], r["delay"]) == (mode, delay)]
        return f"{np.mean(found):.1f} %"

    seeds = len({r["seed"] for r in result["rows"]})
    lines = [
        f"\nAn arm of two joints that catches balls in MuJoCo {result['mujoco']}, by a learned policy "
        f"(`examples/robot/intercept.py`; measured {result['date']}, mean of {seeds} seeds): {mean('vlash', 0)} of the "
        "balls are caught without delay. The policy takes no prefix, so rtc-prefix is aligned here.\n",
        "| mode | delay 2 | delay 4 | delay 6 |",
        "|---|---|---|---|",
    ]
    lines += [f"| {mode} | " + " | ".join(mean(mode, d) for d in (2, 4, 6)) + " |" for mode in MODES]
    lines.append("\n![The arm, in mode vlash and in mode naive](control_arm.svg)")
    return lines


def _realtime(result: dict[str, Any]) -> list[str]:
    lines = [
        f"\nReal time on {result['cores']} cores of {result['processor']}, a shared machine, both cores busy, a Python "
        f"thread spinning in the same process (`benchmarks/control.py`, {result['date']}, {result['seconds']:g} s a "
        "row). Required: the rate within 0.1 %, no heap call, 99 percent of the periods late by at most 1 ms with "
        "SCHED_FIFO and 5 ms without; at 500 Hz with SCHED_FIFO alone.\n",
        "| Hz | SCHED_FIFO | achieved | late p50 ms | p99 ms | max ms | missed | heap calls | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        late = row["quantiles"]["lateness"]
        times = " | ".join(f"{late[k] / 1e6:.3f}" for k in ("p50", "p99", "max"))
        lines.append(
            f"| {row['rate_hz']:g} | {'yes' if row['sched_fifo'] else 'no'} | {row['achieved_hz']:.3f} | {times} | "
            f"{row['missed']} | {row['heap_calls']} | {verdict(row)} |"
        )
    return lines
