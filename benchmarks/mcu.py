"""Instructions, RAM and flash of the MLPerf Tiny networks (random weights) on emulated Cortex-M boards.

    python benchmarks/mcu.py [--target cortex-m4 ...] [--network kws ...]

Prints a table and writes results/mcu.json. The peer's columns are TFLite Micro 90b983c2b with CMSIS-NN 4ab83cc3 on the
same kind of machine (GCC 12.2.1, QEMU 7.2.22, mps2-an386, M4F), counted by a QEMU plugin on 2026-11-21: they need a
checkout of both projects and are not measured again here. Instructions are not cycles.

Ends with 1 where a convolutional network takes more than MOST_PER_MAC on cortex-m4.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path
from typing import Any

import environment

import edgec

NETWORKS = {
    "kws": "examples.models.mlperf_tiny:ds_cnn",
    "vww": "examples.models.mlperf_tiny:mobilenet_v1_025",
    "ic": "examples.models.mlperf_tiny:resnet8",
    "ad": "examples.models.mlperf_tiny:autoencoder",
}
CONVOLUTIONAL = ("kws", "vww", "ic")
MOST_PER_MAC = 3.0  # instructions
# (instructions on M4F, arena bytes, flash bytes)
PEER = {
    "kws": (7_697_387, 22_820, 139_172),
    "vww": (24_101_938, 100_708, 420_860),
    "ic": (29_862_024, 54_996, 181_088),
    "ad": (582_906, 2_580, 310_648),
}


def measure(network: str, target: str) -> dict[str, Any]:
    """Compile and bench one network."""
    module, factory = NETWORKS[network].split(":")
    net, inputs = getattr(importlib.import_module(module), factory)()
    with tempfile.TemporaryDirectory() as folder:
        made = edgec.compile(
            net, inputs, target=target, out=Path(folder) / "art", calib="random", name=network
        )
        made.check("qemu")
        found = made.bench(on="qemu", runs=1)
    return {"network": network, "per_mac": found["instructions"] / found["macs"], **found}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--target", nargs="+", default=["cortex-m0", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
    )
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    args = parser.parse_args()
    rows = []
    print("network target       instructions  /MAC   peer/ours   arena     flash     stack")
    for network in args.network:
        for target in args.target:
            row = measure(network, target)
            peer = PEER[network] if target == "cortex-m4" else None
            row["peer"] = peer
            ratio = f"{peer[0] / row['instructions']:.2f}" if peer else ""
            print(
                f"{network:<7} {target:<12} {row['instructions']:>13,} {row['per_mac']:>5.2f} {ratio:>10} "
                f"{row['arena_bytes']:>9,} {row['flash_bytes']:>9,} {row['stack_bytes']:>6,}",
                flush=True,
            )
            rows.append(row)
    print(f"wrote {environment.write('mcu', rows)}")
    held = [r for r in rows if r["target"] == "cortex-m4" and r["network"] in CONVOLUTIONAL]
    return int(any(r["per_mac"] > MOST_PER_MAC for r in held))


if __name__ == "__main__":
    raise SystemExit(main())
