"""Instructions of a training step on a Cortex-M55: with DSP kernels against with MVE kernels.

    python benchmarks/train_mve.py [--scheme 99] [--json]

The int8 training step of MCUNet-5FPS (benchmarks/training.py) is compiled for the emulated Cortex-M55 twice, without
the kernels of the mve folders and with them, and run in QEMU, which counts instructions, no cycles: a vector
instruction counts as one, and takes two cycles or more. Both runs give the interpreter's bytes. Results go to
results/train_mve.json: totals and those of each kernel.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import environment
import training

from edgec.backends.kernels_c import KERNELS

TARGET = "cortex-m55"
WITHOUT = tuple(k for k in KERNELS if "/mve/" not in k.source)
BOARDS = {"dsp": training.Board(TARGET, None, WITHOUT), "mve": training.Board(TARGET, None)}


def totals(layers: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Instructions and MACs of each kernel, or of kernels that run row by row together."""
    sums: dict[str, dict[str, int]] = {}
    for row in layers:
        total = sums.setdefault(row["kernels"], {"instructions": 0, "macs": 0})
        total["instructions"] += row["instructions"]
        total["macs"] += row["macs"]
    return dict(sorted(sums.items(), key=lambda item: -item[1]["instructions"]))


def measure(scheme: str) -> list[dict[str, Any]]:
    """A row for each set of kernels."""
    rows = []
    for name, board in BOARDS.items():
        found = training.measure(training.learner("mcunet-5fps", scheme, "int8", 0), board)
        rows.append({"kernels": name, **found})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scheme", choices=training.SCHEMES, default="99")
    parser.add_argument("--json", action="store_true", help="print JSON with all layers, write nothing")
    args = parser.parse_args()
    rows = measure(args.scheme)
    if args.json:
        print(json.dumps({"scheme": args.scheme, "rows": rows}, indent=1))
        return 0
    for row in rows:
        row["totals"] = totals(row.pop("layers"))
        for name, total in row["totals"].items():
            per_mac = f"{total['instructions'] / total['macs']:8.2f}" if total["macs"] else ""
            print(f"{name:<78} {total['instructions']:>12,} {per_mac}")
        forward, backward = row["instructions_forward"], row["instructions_backward"]
        print(f"{row['kernels']}  {forward:>12,} forward {backward:>12,} backward")
    print(f"wrote {environment.write('train_mve', rows, scheme=args.scheme, target=TARGET)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
