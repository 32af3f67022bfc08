"""A learned policy for an arm that catches balls (examples/robot/intercept.py, MuJoCo), in every mode by delay.

    python benchmarks/control_arm.py [--seeds 3] [--frames FILE.svg]

Writes results/control_arm.json and exits 1 where a figure misses LIMITS. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Final

import environment
import mujoco
import numpy as np
import torch

from edgec.control.settings import MODES
from examples.robot import intercept

DELAYS: Final = (2, 4, 6)
# Points of the share that is caught without delay: vlash at 4 loses at most, naive at least.
MOST_LOST, LEAST_LOST = 5.0, 8.0


def rows_of(seed: int) -> tuple[list[dict[str, Any]], intercept.Net]:
    """Every mode and delay with the policy of this seed."""
    net = intercept.learned(seed)
    rows = []
    cases = [("vlash", 0), *((mode, delay) for delay in DELAYS for mode in MODES)]
    for mode, delay in cases:
        game = intercept.play(net, mode, delay, seed)  # type: ignore[arg-type]
        rows.append(
            {
                "seed": seed,
                "mode": mode,
                "delay": delay,
                "percent": round(game.percent, 2),
                "balls": game.balls,
                "change": round(game.change, 5),
            }
        )
        print(rows[-1], flush=True)
    return rows, net


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="policies to learn")
    parser.add_argument("--frames", type=Path, help="write a strip of pictures of the first")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, rows = time.monotonic(), []
    for seed in range(given.seeds):
        found, net = rows_of(seed)
        rows += found
        if seed == 0 and given.frames is not None:
            intercept.frames(net, 4, 3, given.frames)

    def mean(mode: str, delay: int) -> float:
        return float(np.mean([r["percent"] for r in rows if (r["mode"], r["delay"]) == (mode, delay)]))

    lost = {mode: mean("vlash", 0) - mean(mode, 4) for mode in MODES}
    path = environment.write(
        "control_arm",
        rows,
        lost_at_4={mode: round(points, 2) for mode, points in lost.items()},
        limits={"vlash": MOST_LOST, "naive": LEAST_LOST},
        mujoco=mujoco.__version__,
        torch_version=torch.__version__,
        seconds=round(time.monotonic() - start),
    )
    print(f"wrote {path}")
    if lost["vlash"] > MOST_LOST or lost["naive"] < LEAST_LOST:
        raise SystemExit(f"misses its limits: {lost}")


if __name__ == "__main__":
    main()
