"""Every run of the ten shapes that is to be held: what must be learnt, and what must fail to be.

`training.py --all --learn` runs them and writes results/learning.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import environment
import schemes
import shape_learning

from edgec.ir import Program
from edgec.ops.block_float import Rounding
from edgec.passes.straight_through import Format

CURVE: Final = ("bias", *(str(n) for n in schemes.MCUNET))


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the task; percents that its accuracy may not leave."""

    scheme: str
    seed: int = 0
    gradients: Format = "int8"
    rounding: Rounding = "stochastic"
    ablation: shape_learning.Ablation = "none"
    at_least: float = 0.0
    at_most: float = 100.0

    @property
    def on_curve(self) -> bool:
        """Whether it is a point of accuracy against memory."""
        return (self.seed, self.gradients, self.rounding, self.ablation) == (0, "int8", "stochastic", "none")


RUNS: Final = (
    *(Run("99", seed, at_least=90.0) for seed in range(3)),
    Run("148", at_least=92.5),
    Run("49"),
    Run("74"),
    Run("124"),
    Run("bias", at_most=80.0),
    Run("99", ablation="skip", at_most=82.0),
    Run("99", ablation="truncate", at_most=20.0),
    Run("99", rounding="nearest"),
    Run("99", gradients="fp32"),
)
Learner = Callable[[Run], Program]


def row_of(run: Run, program: Program, measure: Callable[[Program], dict[str, Any]]) -> dict[str, Any]:
    """What the run learns; the SRAM of its step on the board where it is a point of the curve."""
    began = time.monotonic()
    accuracy = shape_learning.learn(program, run.seed, schemes.RATE, run.ablation)
    seconds = round(time.monotonic() - began)
    return {
        "scheme": run.scheme,
        "gradients": run.gradients,
        "rounding": run.rounding,
        "ablation": run.ablation,
        "seed": run.seed,
        "accuracy": accuracy,
        "at_least": run.at_least,
        "at_most": run.at_most,
        "sram_bytes": measure(program)["sram_bytes"] if run.on_curve else None,
        "seconds": seconds,
    }


def missed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose accuracy is not where it must be."""
    return [row for row in rows if not row["at_least"] <= row["accuracy"] <= row["at_most"]]


def learn_all(learner: Learner, measure: Callable[[Program], dict[str, Any]]) -> int:
    """Run all, print and write them. Returns 1 where an accuracy is not where it must be, else 0."""
    rows = []
    for run in RUNS:
        rows.append(row_of(run, learner(run), measure))
        print(rows[-1], flush=True)
    task = {
        "rate": schemes.RATE,
        "train_images": shape_learning.TRAIN_IMAGES,
        "epochs": shape_learning.EPOCHS,
        "test_images": shape_learning.TEST_IMAGES,
    }
    print(f"wrote {environment.write('learning', rows, **task)}")
    for row in (wrong := missed(rows)):
        print(f"MISSED: {row}")
    return 1 if wrong else 0
