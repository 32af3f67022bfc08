"""Artifacts of Programs that tests build by hand, and what the interpreter says of a sequence of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgec import compiler, device, interp, pipeline, samples
from edgec.artifact import Artifact, pack
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Program
from edgec.pipeline import Options, Trace
from edgec.targets.load import load_target, target_file
from edgec.verify import verify

Calls = Sequence[tuple[str, Mapping[str, Array]]]  # (entry, inputs by value name)


def compiled(
    program: Program, target: str, name: str = "model", options: Options | None = None
) -> compiler.Compiled:
    """The Program as it is, no pass before the lowering, with seeded samples for its golden vectors."""
    verify(program)
    options = options or Options()
    planned = pipeline.lower(program, load_target(target), options, KERNELS, name)
    first = program.graphs[0]
    arrays = samples.random_samples(first.input_ports, {v.name: v.type for v in first.inputs}, 4, 0)
    done = compiler.Transformed(Trace((("import", program),)), arrays, True)
    return compiler.Compiled(
        name=name,
        target=load_target(target),
        target_text=target_file(target).read_text(encoding="utf-8"),
        options=options,
        source_hash="",
        done=done,
        plan=planned,
    )


def artifact(
    program: Program, target: str, folder: Path, name: str = "model", options: Options | None = None
) -> Artifact:
    """The Program's artifact, written to `folder`."""
    compiler.write(compiled(program, target, name, options), folder)
    return Artifact(folder)


def interpreted(program: Program, calls: Calls) -> bytes:
    """Raw outputs of the calls, one after the other, state living on."""
    state: dict[str, Array] | None = None
    out: list[Array] = []
    for entry, inputs in calls:
        graph = program.graph(entry)
        outputs, state = interp.run(program, graph, inputs, state)
        out += [outputs[ref] for ref in graph.outputs]
    return pack(out)


def ran(made: Artifact, program: Program, calls: Calls, on: str = "host", fill: int = 0) -> bytes:
    """Raw outputs of the same calls by the built program; the host's has sanitizers."""
    names = [g.name for g in program.graphs]
    data = pack([inputs[v.name] for entry, inputs in calls for v in program.graph(entry).inputs])
    built = made.built("qemu") if on == "qemu" else made.built("host", sanitize=True)
    steps = tuple((names.index(entry), 1) for entry, _ in calls)
    return device.run(built, data, steps, device.RunOptions(fill=fill)).output


def drawn(program: Program, entries: Sequence[str], seed: int) -> list[tuple[str, dict[str, Array]]]:
    """Calls of these entries in order, with seeded inputs: int8 over its range, small integers, normal floats."""
    rng = np.random.default_rng(seed)
    calls = []
    for entry in entries:
        inputs: dict[str, Array] = {}
        for v in program.graph(entry).inputs:
            if v.type.dtype.is_float:
                inputs[v.name] = rng.normal(size=v.type.dims).astype(v.type.dtype.numpy)
            else:
                low, high = (-128, 128) if v.type.quant is not None else (0, 8)
                inputs[v.name] = rng.integers(low, high, v.type.dims).astype(v.type.dtype.numpy)
        calls.append((entry, inputs))
    return calls
