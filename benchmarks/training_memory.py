"""Memory of MCUNet's sparse training step (scheme 99) beside full training: ours, conventional, PyTorch's.

    python benchmarks/training_memory.py

Ours are the planned bytes of a step: activations, gradients, scratch and trained state. Prints a table and writes
results/training_memory.json. The model is found as in training.py.
"""

from __future__ import annotations

from typing import Any, Final, get_args

import environment
import torch
import torch_memory
import training

from edgec import pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.passes.memory import arena_bytes
from edgec.passes.straight_through import Format
from edgec.targets.load import load_target

SCHEME: Final = "99"
# Every activation, gradient and mask (a byte an element) of a full update kept to the end: arithmetic of the layers.
CONVENTIONAL: Final = 3_719_512
# By how much scheme 99 is below, at least.
LIMITS: Final = {"own_full": 8, "conventional": 20, "torch_live": 20, "torch_process": 1000}


def planned_bytes(scheme: str, gradients: Format) -> int:
    """The arena of a training step with trained state, in rows where that saves memory. A computer's RAM holds it."""
    program = training.learner("mcunet-5fps", scheme, gradients, 0)
    return arena_bytes(
        pipeline.lower(program, load_target("host"), pipeline.Options(stream="all"), KERNELS, "m")
    )


def measure() -> dict[str, Any]:
    """All figures in bytes."""
    found: dict[str, Any] = {}
    for gradients in get_args(Format)[:2]:
        step = training.measure(training.learner("mcunet-5fps", SCHEME, gradients, 0))
        found[gradients] = {
            "sram_bytes": step["sram_bytes"],
            "arena_bytes": step["arena_bytes"],
            "trainable_bytes": step["trainable_bytes"],
            "full_bytes": planned_bytes("full", gradients),
        }
    return found | {"torch": torch_memory.in_process("mcunet", SCHEME), "conventional": CONVENTIONAL}


def gains(found: dict[str, Any]) -> dict[str, float]:
    """What LIMITS limits: how many times the whole SRAM of scheme 99, with int8 gradients, the others take."""
    own = found["int8"]["sram_bytes"]
    return {
        "own_full": found["int8"]["full_bytes"] / own,
        "conventional": CONVENTIONAL / own,
        "torch_live": found["torch"]["live_bytes"] / own,
        "torch_process": found["torch"]["process_bytes"] / own,
    }


def main() -> None:
    found = measure()
    times = gains(found)
    own = found["int8"]["sram_bytes"]
    print(f"{'scheme 99, whole SRAM on the board, int8 gradients':<54} {own:>12,} B")
    for name, title, value in (
        ("own_full", "our full update, planned", found["int8"]["full_bytes"]),
        ("conventional", "conventional full update, by arithmetic", CONVENTIONAL),
        ("torch_live", "PyTorch, live tensors of the same step", found["torch"]["live_bytes"]),
        ("torch_process", "PyTorch, its process", found["torch"]["process_bytes"]),
    ):
        print(f"{title:<54} {value:>12,} B {times[name]:>8.1f}x (at least {LIMITS[name]}x)")
    path = environment.write(
        "training_memory", found, gains=times, limits=LIMITS, torch_version=torch.__version__
    )
    print(f"wrote {path}")
    missed = [name for name, least in LIMITS.items() if times[name] < least]
    if missed:
        raise SystemExit(f"misses its limits: {', '.join(missed)}")


if __name__ == "__main__":
    main()
