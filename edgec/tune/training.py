"""One fine-tuning: a Program, samples and a scheme to the share of held-out samples that come out right.

It computes what the device computes: the training step in C, built for this computer, or the interpreter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np

from edgec import __version__, compiler, device, interp, log, pipeline
from edgec.build import constant
from edgec.buildfiles import build_files
from edgec.errors import EdgecError
from edgec.host_library import HostModel, linked
from edgec.ir import Array, Constant, Graph, Persistence, Program, State, Type
from edgec.link.data import Samples
from edgec.passes.memory import arena_bytes, lay_out
from edgec.passes.schedule import schedule
from edgec.passes.straight_through import integers
from edgec.passes.train import train
from edgec.passes.training_cost import TrainingCost
from edgec.pipeline import Options
from edgec.plan import Target
from edgec.targets.load import load_target
from edgec.training.options import EVALUATE, TRAIN_STEP, TrainSpec
from edgec.tune.contribution import Task
from edgec.tune.evolution import Choice
from edgec.tune.journal import Result

Place = Literal["host", "interpreter"]
NAME: Final = "tuned"


@dataclass(frozen=True, slots=True)
class Packed:
    """A Program whose constants are loaded, so that it can be pickled."""

    graphs: tuple[Graph, ...]
    constants: Mapping[str, tuple[Type, Array]]
    state: Mapping[str, tuple[Type, Array, Persistence]]

    @classmethod
    def of(cls, program: Program) -> Packed:
        """Of this Program."""
        constants = {name: (c.type, c.data) for name, c in program.constants.items()}
        state = {name: (s.type, s.initial.data, s.persistence) for name, s in program.state.items()}
        return cls(program.graphs, constants, state)

    def program(self) -> Program:
        """The Program again."""
        constants = {name: _constant(t, data) for name, (t, data) in self.constants.items()}
        state = {name: State(t, _constant(t, data), kept) for name, (t, data, kept) in self.state.items()}
        return Program(self.graphs, constants, state)


def _constant(t: Type, data: Array) -> Constant:
    return constant(data, t.quant)


class Learner(Protocol):
    """A network that learns, from its first weights on."""

    def call(self, entry: str, inputs: bytes, label: bytes) -> bytes:
        """Run `train_step` or `evaluate` on one sample: the bytes of its output `correct`, an i32."""
        ...


@dataclass(frozen=True, slots=True)
class Training:
    """What every fine-tuning shares. Called with a task, in any process, it does the task."""

    packed: Packed
    cost: TrainingCost
    spec: TrainSpec
    samples: Samples
    held_out: Samples
    epochs: int
    place: Place

    def __call__(self, task: Task) -> Result:
        """Train what the task says, in an order that its seed draws, and count what comes out right."""
        rng = np.random.default_rng(task.seed)
        with self._learner(task) as learner:
            for _ in range(self.epochs):
                for i in rng.permutation(len(self.samples)):
                    learner.call(TRAIN_STEP, self.samples.inputs[i], self.samples.labels[i])
            found = (
                learner.call(EVALUATE, x, label)
                for x, label in zip(self.held_out.inputs, self.held_out.labels, strict=True)
            )
            right = sum(int(np.frombuffer(raw, np.int32)[0]) for raw in found)
        rows = sum(len(label) // 4 for label in self.held_out.labels)
        return Result(right, rows)

    def program(self, choice: Choice, seed: int) -> Program:
        """The Program that trains this choice. Raises UserError where a part of it cannot learn."""
        spec = replace(self.spec, mode="sparse", scheme=self.cost.scheme(choice), seed=seed)
        start = self.packed.program()
        return train(start, spec, integers(spec.gradients, spec.rounding, spec.seed))

    def learns(self, choice: Choice) -> EdgecError | None:
        """None where every part of the choice can learn, else why not."""
        try:
            self.program(choice, self.spec.seed)
        except EdgecError as error:
            return error
        return None

    def planned_bytes(self, choice: Choice, target: Target) -> int:
        """RAM of all arenas of the firmware that trains this choice, whether it fits the target or not."""
        program = schedule(self.program(choice, self.spec.seed), keep=(TRAIN_STEP,))
        options = Options(ram_bytes=1 << 40)
        plan = pipeline.choose(program, target, options, compiler.kernels_of(target), NAME)
        return arena_bytes(lay_out(plan, target, 1 << 40)[0])

    @contextmanager
    def _learner(self, task: Task) -> Iterator[Learner]:
        program = self.program(task.choice, task.seed)
        if self.place == "interpreter":
            yield _Interpreted(program)
            return
        with tempfile.TemporaryDirectory(prefix="edgec-tune-") as folder:
            yield _Built(program, Path(folder))


class _Interpreted:
    """A Program in the interpreter."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.state: Mapping[str, Array] | None = None

    def call(self, entry: str, inputs: bytes, label: bytes) -> bytes:
        graph = self.program.graph(entry)
        found, content = {}, inputs + label
        for value in graph.inputs:
            raw, content = content[: value.type.bytes], content[value.type.bytes :]
            found[value.name] = np.frombuffer(raw, value.type.dtype.numpy).reshape(value.type.dims)
        outputs, self.state = interp.run(self.program, graph, found, self.state)
        return outputs[graph.outputs[-1]].tobytes()


class _Built:
    """A Program in C, built for this computer in `folder`."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.entries = {graph.name: number for number, graph in enumerate(program.graphs)}
        self.model = HostModel(_build(program, folder))

    def call(self, entry: str, inputs: bytes, label: bytes) -> bytes:
        parts, content = [], inputs + label
        for value in self.program.graph(entry).inputs:
            parts.append(content[: value.type.bytes])
            content = content[value.type.bytes :]
        return self.model.call(self.entries[entry], parts)[-1]


def _build(program: Program, folder: Path) -> Path:
    """The library of the Program, without golden vectors or report."""
    from edgec.backends import c
    from edgec.runtime_c import ROOT

    target = load_target("host")
    plan = pipeline.lower(program, target, Options(), compiler.kernels_of(target), NAME)
    files = c.emit(plan, target, c.Origin(__version__, "edgec tune"))
    files |= {f"src/{source}": (ROOT / source).read_text(encoding="utf-8") for source in c.sources(plan)}
    for header in sorted((ROOT / "include").glob("*.h")):
        files[f"src/include/{header.name}"] = header.read_text(encoding="utf-8")
    files |= build_files(target, compiler.build_spec(plan, ()), ROOT)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    log.say(f"building {len(files)} files", at=2)
    built = device.build(folder, target, device.BuildOptions(NAME))
    return linked(built.program.parent, NAME)
