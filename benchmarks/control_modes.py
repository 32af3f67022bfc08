"""Modes of the control loop against each other: scores by delay, of an analytic expert and of learned policies, and
joined actions. Virtual time, through the C loop.

    python benchmarks/control_modes.py [--seeds 3] [--plot FILE.svg]

Writes results/control_modes.json and exits 1 where a learned policy misses LIMITS. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import environment
import numpy as np
import torch

from edgec.control.settings import MODES
from edgec.control.simulate import Case, Policy, Score, simulate
from examples.robot import policy as learned

DELAYS: Final = (0, 1, 2, 4, 6, 8)
TASKS: Final = (("mole", "delta"), ("mole", "accel"), ("mole", "lag"), ("ball", "delta"), ("ball", "accel"))
LEARNED_DELAYS: Final = (0, 2, 4)
QUANTA: Final = (1, 2, 3)
# Percent of targets hit with delta actions: (network, mode, delay): least or most.
LEAST: Final = {("offsets", "vlash", 2): 97.0, ("offsets", "vlash", 4): 88.0}
MOST: Final = {("plain", "naive", 2): 75.0, ("plain", "naive", 4): 45.0, ("plain", "vlash", 4): 65.0}
CHANGE: Final = 1.15  # of actions, VLASH over no delay
FASTER: Final = 1.3  # time to a hit, two actions joined


def short(score: Score) -> dict[str, Any]:
    """What is written down of a score."""
    row = asdict(score)
    del row["counts"]
    return {k: None if v is None else round(v, 3) for k, v in row.items()}


def expert_rows() -> list[dict[str, Any]]:
    """Every mode on every task by delay."""
    rows = []
    for task, action in TASKS:
        for mode in MODES:
            for delay in DELAYS:
                score = simulate(Case(task, action, mode, delay))  # type: ignore[arg-type]
                rows.append({"task": task, "action": action, "mode": mode, "delay": delay, **short(score)})
        print(f"expert, {task}, {action}: done", flush=True)
    return rows


def learned_rows(seeds: int) -> list[dict[str, Any]]:
    """Networks of each seed, trained with offsets and without, in the modes that they are for."""
    rows = []
    for seed in range(seeds):
        start = time.process_time()
        windows = learned.demonstrations("delta", False, seed)
        policies: dict[str, Policy] = {
            name: learned.policy_of(learned.train(windows, name == "offsets", seed), "delta")
            for name in ("plain", "offsets")
        }
        print(f"seed {seed}: two networks in {time.process_time() - start:.0f} CPU seconds", flush=True)
        for name, policy in policies.items():
            for mode in MODES if name == "plain" else ("sync", "vlash"):
                for delay in LEARNED_DELAYS:
                    score = simulate(Case("mole", "delta", mode, delay, seed=7 + seed), policy)  # type: ignore[arg-type]
                    rows.append({"seed": seed, "network": name, "mode": mode, "delay": delay, **short(score)})
    return rows


def joined_rows() -> list[dict[str, Any]]:
    """Periods to a hit where so many actions are joined to one."""
    rows = []
    for delay in (0, 2, 4):
        for quantum in QUANTA:
            case = Case("mole", "delta", "vlash", delay, life=40, quantum=quantum, execute=4 * quantum)
            rows.append({"delay": delay, "quantum": quantum, **short(simulate(case))})
    return rows


def misses(rows: list[dict[str, Any]], joined: list[dict[str, Any]]) -> list[str]:
    """What is beyond the limits, in words."""
    found = []

    def of(network: str, mode: str, delay: int, key: str) -> list[float]:
        wanted = (network, mode, delay)
        return [r[key] for r in rows if (r["network"], r["mode"], r["delay"]) == wanted]

    for (network, mode, delay), least in LEAST.items():
        if min(of(network, mode, delay, "hit_percent")) < least:
            found.append(f"{mode} at {delay} with {network} hits less than {least} %")
    for (network, mode, delay), most in MOST.items():
        if max(of(network, mode, delay, "hit_percent")) > most:
            found.append(f"{mode} at {delay} with {network} hits more than {most} %")
    ideal = np.mean(of("plain", "vlash", 0, "action_change"))
    if np.mean(of("offsets", "vlash", 4, "action_change")) > CHANGE * ideal:
        found.append(f"actions of vlash at 4 change more than {CHANGE} times as without delay")
    times = {(r["delay"], r["quantum"]): r for r in joined}
    one, two = times[2, 1], times[2, 2]
    if one["hit_periods"] < FASTER * two["hit_periods"] or two["hit_percent"] < one["hit_percent"]:
        found.append(f"two actions joined are not {FASTER} times as fast at equal success")
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Scores by delay, a panel a task."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "edgec"
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(TASKS), figsize=(15, 3.4), layout="constrained")
    for panel, (task, action) in zip(panels, TASKS, strict=True):
        key = "hit_percent" if task == "mole" else "rmse"
        for mode in MODES:
            points = [
                (r["delay"], r[key])
                for r in rows
                if (r["task"], r["action"], r["mode"]) == (task, action, mode)
            ]
            panel.plot(*zip(*points, strict=True), marker=".", label=mode)
        panel.set(title=f"{task}, {action}", xlabel="delay, periods")
        panel.set_ylabel("targets hit, %" if task == "mole" else "distance, rms x 100")
        if task == "ball":
            panel.set_yscale("log")
    panels[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="networks to train of each kind")
    parser.add_argument("--plot", type=Path, help="write the expert's scores as a picture")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    rows, networks, joined = expert_rows(), learned_rows(given.seeds), joined_rows()
    missed = misses(networks, joined)
    seconds = round(time.monotonic() - start)
    path = environment.write(
        "control_modes",
        rows,
        learned=networks,
        joined=joined,
        torch_version=torch.__version__,
        seconds=seconds,
    )
    print(f"wrote {path}")
    if given.plot is not None:
        plot(rows, given.plot)
    if missed:
        raise SystemExit("misses its limits: " + "; ".join(missed))


if __name__ == "__main__":
    main()
