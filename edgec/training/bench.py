"""What a training step costs: all RAM of the firmware that learns, its flash, and instructions forward and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec import device
from edgec.training.options import EVALUATE, TRAIN_STEP

if TYPE_CHECKING:
    from edgec.artifact import Artifact

Json = dict[str, Any]
# What `text` shows of it, in order.
SHOWN: Final = (
    "sram_bytes",
    "arena_bytes",
    "trainable_bytes",
    "scratch_bytes",
    "stack_bytes",
    "data_bytes",
    "bss_bytes",
    "link_bytes",
    "flash_bytes",
    "instructions_infer",
    "instructions_evaluate",
    "instructions_train_step",
)


def measure(made: Artifact, on: device.Place) -> Json:
    """RAM and instructions of the golden steps of each entry (medians), on the firmware that runs files.

    `sram_bytes`: arenas (with trainables and scratch in them), data, bss and the stack that was overwritten;
    `link_bytes`: what link and store add to it in the firmware that `edgec finetune` talks to, without samples that it
    keeps. Stack and instructions are None on the host.
    """
    built = made.built(on)
    data = (made.folder / "golden" / "in.bin").read_bytes()
    result = device.run(built, data, made.golden_steps(), device.RunOptions())
    sizes = device.sizes(built)
    arena = sum(a["bytes"] for a in made.manifest["arenas"])
    own = {"data_bytes": sizes.data, "bss_bytes": sizes.bss if on == "qemu" else sizes.bss - arena}
    learning = made.manifest["training"]
    return {
        "sram_bytes": None if result.stack_bytes is None else arena + sum(own.values()) + result.stack_bytes,
        "ram_limit_bytes": learning["ram_limit_bytes"],
        "arena_bytes": arena,
        "trainable_bytes": made.report()["training"]["trainable_bytes"],
        "scratch_bytes": learning["scratch_bytes"],
        "stack_bytes": result.stack_bytes,
        **own,
        "link_bytes": _link_bytes(made, sizes) if on == "qemu" else None,
        "flash_bytes": sizes.flash_bytes,
        **_instructions(made, result),
    }


def _link_bytes(made: Artifact, sizes: device.Sizes) -> int:
    options = device.BuildOptions(made.manifest["name"], machine=made.machine(), learn=0)
    whole = device.sizes(device.build(made.folder, made.target, options))
    return whole.ram_bytes - sizes.ram_bytes


def _instructions(made: Artifact, result: device.RunResult) -> Json:
    counts = list(result.instructions)
    medians: dict[str, int | None] = {}
    for index, samples in made.golden_steps():
        own, counts = counts[:samples], counts[samples:]
        medians[made.entry_names[index]] = int(np.median(own)) if own else None
    return {f"instructions_{name}": medians.get(name) for name in ("infer", EVALUATE, TRAIN_STEP)}


def lines(measured: Json) -> list[str]:
    """One line a figure, for people."""
    limit = measured["ram_limit_bytes"]
    out = ["", "learning" + ("" if limit is None else f"      {limit:,} B of RAM are its limit")]
    for key in SHOWN:
        if measured[key] is not None:
            title = key.replace("_bytes", "").replace("instructions_", "").replace("_", " ")
            unit = " B" if key.endswith("_bytes") else " instructions"
            out.append(f"  {title:<11} {measured[key]:>12,}{unit}")
    return out
