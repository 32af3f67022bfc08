"""The compiler, in order. `graph_steps` is the one list of passes; `lower` is what follows it.

An order that matters has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from edgec import interp, log
from edgec.errors import InternalError, UserError
from edgec.ir import Array, Pass, Program
from edgec.passes.bias_correct import bias_correct
from edgec.passes.calibrate import Ranges, calibrate
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.dead import remove_dead
from edgec.passes.equalize import equalize
from edgec.passes.fold import fold
from edgec.passes.fuse import fuse
from edgec.passes.layout import layout
from edgec.passes.legalize import legalize
from edgec.passes.memory import plan_memory
from edgec.passes.quantize import quantize
from edgec.passes.schedule import schedule
from edgec.passes.simplify import simplify
from edgec.plan import Kernel, Plan, Target
from edgec.text import show
from edgec.verify import verify

Precision = Literal["int8", "fp32"]
Sample = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose. `ram_bytes` and `flash_bytes` override the target's budget; None leaves it."""

    precision: Precision = "int8"
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax"
    equalize: bool = False
    bias_correct: bool = False
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    stream: Literal["auto", "off", "all"] = "auto"
    stages: Path | None = None
    check: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A named pass of the pipeline. `exact`: it keeps the graph's numbers (to rounding), so `--check` may
    hold it."""

    name: str
    run: Pass
    exact: bool = True


@dataclass(slots=True)
class Trace:
    """What a run of the steps leaves behind: the Program after each step that changed it, by name."""

    after: list[tuple[str, Program]] = field(default_factory=list)


def float_steps() -> tuple[Step, ...]:
    """Passes that keep the float network's meaning."""
    return (
        Step("legalize", legalize),  # first: later passes know only the ops that kernels have
        Step("fold", fold),  # batch norms vanish into convolutions before anything looks at ranges
        Step("layout", layout),  # after fold: a folded batch norm no longer stands between transposes
        Step("simplify", simplify),  # after layout: removes the pairs of transposes and reshapes it left
        Step("fold again", fold),  # simplify exposes constants behind reshapes
        Step("fuse", fuse),  # last: a convolution and its clamp become one node, which calibration must see
        Step("dead", remove_dead),
    )


def graph_steps(options: Options, samples: Sequence[Sample]) -> tuple[Step, ...]:
    """Every pass from the imported Program to the one that is lowered."""
    steps = float_steps()
    if options.equalize:
        steps += (Step("equalize", equalize),)  # before calibration: it changes the ranges
    if options.precision == "int8":
        steps += (Step("quantize", partial(_quantize, samples=samples, options=options), exact=False),)
    return (*steps, Step("schedule", schedule))  # last: nothing may add a buffer after it


def _quantize(program: Program, *, samples: Sequence[Sample], options: Options) -> Program:
    ranges: Ranges = calibrate(program, samples, options.calibration)
    quantized = quantize(program, ranges)
    return bias_correct(program, quantized, samples) if options.bias_correct else quantized


def run(
    program: Program, steps: Sequence[Step], options: Options, samples: Sequence[Sample], trace: Trace
) -> Program:
    """Apply `steps`, verifying after each; write stages and compare numbers where the options ask for it."""
    verify(program)
    _stage(options.stages, 0, "import", program)
    trace.after.append(("import", program))
    for index, one in enumerate(steps, 1):
        with log.step(one.name) as notes:
            changed = one.run(program)
            if changed is program:
                notes.append("(unchanged)")
                continue
            verify(changed)
            notes.append(f"{_nodes(program)} -> {_nodes(changed)} nodes")
            _stage(options.stages, index, one.name, changed)
            if options.check and one.exact and samples:
                _compare(program, changed, samples[0], one.name)
            program = changed
            trace.after.append((one.name, program))
    return program


def _nodes(program: Program) -> int:
    return sum(len(g.nodes) for g in program.graphs)


def _stage(folder: Path | None, index: int, name: str, program: Program) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:02}_{name.replace(' ', '_')}.txt").write_text(show(program), encoding="utf-8")
    except OSError as error:
        raise UserError(
            "EDGEC-EB03", f"choose another folder for --stages: {folder} cannot be written ({error})"
        ) from error


def _compare(before: Program, after: Program, sample: Sample, name: str) -> None:
    """Run both on the sample; the first output that moved more than rounding explains is our bug."""
    import numpy as np

    for graph in before.graphs:
        old, _ = interp.run(before, graph, inputs_for(before, graph.name, sample))
        new, _ = interp.run(after, after.graph(graph.name), inputs_for(after, graph.name, sample))
        for a, b in zip(old.values(), new.values(), strict=True):
            distance = float(np.max(np.abs(np.sort(a, axis=None).astype(np.float64) - np.sort(b, axis=None))))
            if distance > 1e-3 * max(1e-6, float(np.max(np.abs(a)))):
                raise InternalError(f"pass {name} changed graph {graph.name} by {distance:.3g}")


def inputs_for(program: Program, graph: str, sample: Sample) -> dict[str, Array]:
    """A sample in the user's layout, by label, as the graph's inputs."""
    from edgec.samples import user_to_value

    g = program.graph(graph)
    types = {v.name: v.type for v in g.inputs}
    return {p.ref: user_to_value(sample[p.label], p, types[p.ref], "the sample") for p in g.input_ports}


def lower(
    program: Program, target: Target, options: Options, kernels: Sequence[Kernel], name: str
) -> tuple[Plan, Callable[[], Plan]]:
    """(planned Plan, a function that plans the same without streaming, for the report)."""
    unplaced = replace(choose_kernels(program, target, tuple(kernels)), name=name)
    budget = ram_budget(target, options)
    return unplaced, lambda: plan_memory(unplaced, target)


def ram_budget(target: Target, options: Options) -> int:
    """Bytes that arenas may take: --ram, or the target's RAM less what stack and C library need."""
    if options.ram_bytes is not None:
        return options.ram_bytes
    return sum(m.bytes for m in target.rams) - target.reserve_ram_bytes
