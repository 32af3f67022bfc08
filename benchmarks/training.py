"""Memory, instructions and accuracy of int8 training on the device.

    python benchmarks/training.py --model mcunet-5fps --scheme 99 [--gradients int8|fp32] [--head int8] [--json]
    python benchmarks/training.py --model mcunet-5fps --scheme 99 --learn --seed 0 [--rounding q8.8] [--json]
    python benchmarks/training.py --all [--learn]

The first form compiles the training step of MCUNet-5FPS (128x128, a new head of 10 classes, in float but for --head
int8) for an emulated STM32F746 and counts instructions, no cycles, of one step in QEMU. `arena_bytes` holds
activations, gradients, scratch and `trainable_bytes` of state; `scratch_bytes` is the largest scratch of a kernel;
`sram_bytes` is the arena, other variables and the painted stack. What exceeds the board (full) is planned for this
computer and not run. The second form learns the ten shapes of shapes.py on this computer, in the same C, and prints
the percent of new images that are told right. `--ablation skip` drops the gradients that pass residual additions,
`truncate` rounds weights towards 0: both show that the figure can fall. The model is looked for in $EDGEC_MODELS,
../shared/models where that is not set. `--all` measures every published scheme with both kinds of gradients and writes
results/training.json; with `--learn` it learns the shapes with every scheme and ablation of learning_rows.py, writes
results/learning.json and exits with 1 where an accuracy is not where it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import environment
import learning_rows
import schemes
import shape_learning

from edgec import compiler, pipeline, samples
from edgec.artifact import Artifact
from edgec.backends.kernels_c import KERNELS
from edgec.errors import TargetError
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Program
from edgec.ops.block_float import Rounding
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.plan import Kernel, Plan, Use
from edgec.targets.load import load_target, target_file
from edgec.training.options import LEARNING_RATE, LOSS, STEP, TRAIN_STEP
from edgec.training.options import Head as HeadPrecision

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))
MODELS = {"mcunet-5fps": "mcunet/mcunet-5fps.pkl"}
CLASSES = 10


@dataclass(frozen=True)
class Board:
    """What a step is compiled for. `ram_bytes`: that it may take, None: the target's."""

    target: str
    ram_bytes: int | None
    kernels: tuple[Kernel, ...] = KERNELS


BOARD = Board("stm32f746-disco", 304 << 10)
SCHEMES = (*(str(n) for n in schemes.MCUNET), "full", "head", "bias")


def learner(
    model: str,
    scheme: str,
    gradients: Format,
    seed: int,
    rounding: Rounding = "stochastic",
    precision: HeadPrecision = "fp32",
) -> Program:
    """The Program that infers, learns and evaluates."""
    network = import_mcu_pickle(FOLDER / MODELS[model], Head(CLASSES, seed, precision))
    return train(network, schemes.spec_of(scheme), integers(gradients, rounding, seed))


def compiled(program: Program, folder: Path, board: Board = BOARD) -> tuple[Artifact, Plan]:
    """The artifact with all three graphs, on the board, every stream that saves memory taken."""
    graphs = sorted(program.graphs, key=lambda g: g.name != TRAIN_STEP)  # the first is what is measured
    step = replace(program, graphs=tuple(graphs))
    options = pipeline.Options(stream="all", ram_bytes=board.ram_bytes)
    target = load_target(board.target)
    plan = pipeline.lower(step, target, options, board.kernels, "model")
    graph = step.graphs[0]
    arrays = samples.random_samples(graph.input_ports, {v.name: v.type for v in graph.inputs}, 1, 0)
    done = compiler.Transformed(pipeline.Trace((("import", step),)), arrays, True)
    made = compiler.Compiled(
        name="model",
        target=target,
        target_text=target_file(board.target).read_text(encoding="utf-8"),
        options=options,
        source_hash="",
        done=done,
        plan=plan,
    )
    compiler.write(made, folder)
    return Artifact(folder), plan


def planned_alone(program: Program) -> dict[str, Any]:
    """Bytes of what no board of this family holds, by a plan for this computer."""
    plan = pipeline.lower(program, load_target("host"), pipeline.Options(stream="all"), KERNELS, "model")
    return {
        **_bytes_of(plan),
        "sram_bytes": None,
        "instructions_forward": None,
        "instructions_backward": None,
    }


def _bytes_of(plan: Plan) -> dict[str, int]:
    own = {f"state.{LEARNING_RATE}", f"state.{STEP}"}
    states = [b for b in plan.buffers if b.use is Use.STATE and b.name not in own]
    return {
        "arena_bytes": sum(a.bytes for a in plan.arenas),
        "trainable_bytes": sum(b.bytes for b in states),
        "scratch_bytes": max((b.bytes for b in plan.buffers if b.use is Use.SCRATCH), default=0),
    }


def measure(program: Program, board: Board = BOARD) -> dict[str, Any]:
    """Bytes and instructions of one training step; no instructions where it does not fit the board."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact, plan = compiled(program, Path(folder) / "artifact", board)
        except TargetError as error:
            if error.code != "EDGEC-E501":
                raise
            return planned_alone(program)
        found = artifact.bench(on="qemu", runs=1)
    forward = {c.name for item in plan.entries[0].items[: forward_items(plan)] for c in _calls(item)}
    names = [_calls(item)[0].name in forward for item in plan.entries[0].items]
    by_item = {row["item"]: row["instructions"] for row in found["layers"]}
    return {
        "sram_bytes": found["ram_bytes"] + found["stack_bytes"],
        **_bytes_of(plan),
        "stack_bytes": found["stack_bytes"],
        "flash_bytes": found["flash_bytes"],
        "instructions_forward": sum(by_item.get(i, 0) for i, is_forward in enumerate(names) if is_forward),
        "instructions_backward": sum(
            by_item.get(i, 0) for i, is_forward in enumerate(names) if not is_forward
        ),
        "layers": [{**row, "kernels": _kernels(plan, row["item"])} for row in found["layers"]],
    }


def _kernels(plan: Plan, item: int) -> str:
    """The kernels that an item runs, with + between them."""
    return "+".join(sorted({c.kernel.symbol for c in _calls(plan.entries[0].items[item])}))


def _calls(item: Any) -> tuple[Any, ...]:
    return getattr(item, "calls", None) or (item,)


def forward_items(plan: Plan) -> int:
    """Number of items up to the one that makes the loss."""
    buffer = next(p.buffer for p in plan.entries[0].outputs if p.port.label == LOSS)
    for index, item in enumerate(plan.entries[0].items):
        if any(o.buffer == buffer for c in _calls(item) for o in c.outputs):
            return index + 1
    raise AssertionError("no item makes the loss")


def every_scheme(model: str) -> int:
    """Measure all published schemes and write them down, without their layers."""
    rows = []
    for gradients in get_args(Format)[:2]:
        for scheme in schemes.MCUNET:
            found = measure(learner(model, str(scheme), gradients, 0))
            del found["layers"]
            rows.append({"scheme": scheme, "gradients": gradients, **found})
            print(rows[-1], flush=True)
    print(f"wrote {environment.write('training', rows)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="mcunet-5fps")
    parser.add_argument("--scheme", choices=SCHEMES, default="99")
    parser.add_argument("--gradients", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--head", choices=("fp32", "int8"), default="fp32", help="of the last layer")
    parser.add_argument("--rounding", choices=get_args(Rounding), default="stochastic", help="of updates")
    parser.add_argument("--learn", action="store_true", help="learn the ten shapes on this computer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ablation", choices=get_args(shape_learning.Ablation), default="none")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--all", action="store_true", help="every scheme, written to results/")
    args = parser.parse_args()
    if args.all and args.learn:
        return learning_rows.learn_all(
            lambda run: learner(args.model, run.scheme, run.gradients, run.seed, run.rounding), measure
        )
    if args.all:
        return every_scheme(args.model)
    program = learner(args.model, args.scheme, args.gradients, args.seed, args.rounding, args.head)
    named = ("model", "scheme", "gradients", "head", "rounding")
    asked = {name: getattr(args, name) for name in named}
    if args.learn:
        accuracy = shape_learning.learn(program, args.seed, schemes.RATE, args.ablation)
        found = {**asked, "accuracy": accuracy, "seed": args.seed, "ablation": args.ablation}
    else:
        found = {**asked, **measure(program)}
    layers = found.pop("layers", [])
    if args.json:
        print(json.dumps({**found, "layers": layers}, indent=1))
        return 0
    for row in layers:
        print(f"{row['layer']:<28} {row['op']:<28} {row['macs']:>10,} {row['instructions']:>12,}")
    for key, value in found.items():
        print(f"{key:<22} {value:,}" if isinstance(value, int) else f"{key:<22} {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
