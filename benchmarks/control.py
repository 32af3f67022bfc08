"""The control loop in real time (control_realtime.py): rates, lateness, heap calls.

    python benchmarks/control.py [--seconds 60]

Writes results/control_realtime.json, with the load of the machine before: what else runs spoils the figures. Exit code
1: a limit is exceeded at 100 Hz, or with SCHED_FIFO at 500 Hz, or SCHED_FIFO is not granted, so that the loop runs
degraded. 500 Hz without SCHED_FIFO is measured, and not required.
"""

from __future__ import annotations

import argparse
import sys

import control_realtime


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run (default 60)")
    parser.add_argument(
        "--store", action=argparse.BooleanOptionalAction, default=True, help="write the result"
    )
    args = parser.parse_args()
    return control_realtime.measure(args.seconds, args.store)


if __name__ == "__main__":
    sys.exit(main())
