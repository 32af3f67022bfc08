"""What row streaming saves and costs: arena and instructions with and without it, on emulated Cortex-M4.

    python benchmarks/streaming.py

Prints a table and writes results/streaming.json. Outputs of both builds are compared byte for byte.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import environment
import numpy as np

import edgec

NETWORKS = {
    "MobileNetV2-0.35 at 96²": "examples.models.mobilenet_v2:width_035",
    "MCUNet-like": "examples.models.mcunet_like:factory",
}


def measure(network: str, target: str) -> dict[str, Any]:
    """Compile with and without streams, run both, compare."""
    module, factory = NETWORKS[network].split(":")
    net, inputs = getattr(importlib.import_module(module), factory)()
    row: dict[str, Any] = {"network": network, "target": target}
    outputs = []
    with tempfile.TemporaryDirectory() as folder:
        for mode, suffix in (("off", ""), ("all", "_streamed")):
            made = edgec.compile(
                net, inputs, target=target, out=Path(folder) / mode, calib="random", name="net", stream=mode
            )
            made.check("qemu")
            found = made.bench(on="qemu", runs=1)
            row |= {
                f"{k}{suffix}": found[k]
                for k in ("instructions", "arena_bytes", "flash_bytes", "stack_bytes")
            }
            outputs.append((Path(folder) / mode / "golden" / "out.bin").read_bytes())
    assert np.array_equal(*outputs), "streaming changed the outputs"
    return row


def main() -> None:
    rows = []
    for network in NETWORKS:
        row = measure(network, "cortex-m4")
        ratio = row["arena_bytes_streamed"] / row["arena_bytes"]
        more = 100 * (row["instructions_streamed"] / row["instructions"] - 1)
        sizes = f"{row['arena_bytes']:,} -> {row['arena_bytes_streamed']:,} B ({ratio:.2f})"
        print(f"{network:<26} arena {sizes}, {more:+.1f} % instructions", flush=True)
        rows.append(row)
    print(f"wrote {environment.write('streaming', rows)}")


if __name__ == "__main__":
    main()
