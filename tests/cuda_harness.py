"""Runs CUDA kernel records on a GPU against their ops: what the tests in tests/cuda are written with.

A Case is one node. Cases that the same record serves become the entries of one Program, which goes through the real
path (choose_kernels, plan_memory, the emitter, nvcc, the library). The arena is filled with 0xFF before each run, so
that what a kernel does not write is a NaN; each entry runs twice and must give the same bytes.

    python tests/cuda_harness.py tests/cuda/test_linear.py ...     prints one line a failing case, and a summary
    python tests/cuda_harness.py --target orin ...                 the tiles chosen for Orin, built for the GPU here
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec import artifact
from edgec.backends import cuda, kernels_cuda
from edgec.backends.c_names import names_of
from edgec.build import constant
from edgec.cuda import build as cuda_build
from edgec.cuda.library import Instance, Library
from edgec.ir import OF_NUMPY, Array, Attrs, DType, Graph, Loc, Node, Port, Program, Type, Value
from edgec.ops import OPS
from edgec.ops import define as ops
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.memory import plan_memory
from edgec.plan import Plan, Target
from edgec.targets.load import load_target, target_file

TARGET = "h200"
CHUNK = 24  # cases a library
TOLERANCE = {DType.F16: 2e-3, DType.BF16: 1.6e-2, DType.F32: 2e-5, DType.F64: 1e-12}


@dataclass(frozen=True)
class Case:
    """One node. `types` give each input's element type and quantisation, `arrays` its content; inputs whose index is in
    `constants` are constants of the model. `out_types`: inferred where empty. `symbol`: the record that must serve it,
    any where "". `tolerance`: of the largest magnitude of the expected output; by the output's type where None.
    """

    label: str
    op: str
    attrs: Attrs
    arrays: tuple[Array, ...]
    types: tuple[Type, ...] = ()
    constants: tuple[int, ...] = ()
    out_types: tuple[Type, ...] = ()
    symbol: str = ""
    tolerance: float | None = None

    @property
    def in_types(self) -> tuple[Type, ...]:
        return self.types or tuple(Type(a.shape, OF_NUMPY[a.dtype.name]) for a in self.arrays)

    @property
    def results(self) -> tuple[Type, ...]:
        return self.out_types or OPS[self.op].infer(self.attrs, self.in_types)

    def expected(self) -> tuple[Array, ...]:
        """What the op's reference makes of the inputs."""
        return ops.run(OPS[self.op], self.attrs, self.in_types, self.arrays, self.results)


def floats(rng: np.random.Generator, shape: Sequence[int], dtype: DType, scale: float = 1.0) -> Array:
    """Normal numbers as the device holds them."""
    drawn: npt.NDArray[Any] = (rng.normal(size=tuple(shape)) * scale).astype(np.float32)
    return drawn.astype(dtype.numpy)


def program(cases: Sequence[Case]) -> Program:
    """One graph a case."""
    graphs, constants = [], {}
    for n, case in enumerate(cases):
        names, inputs = [], []
        for i, (array, t) in enumerate(zip(case.arrays, case.in_types, strict=True)):
            if i in case.constants:
                constants[f"e{n}.c{i}"] = constant(array, t.quant)
                names.append(f"@e{n}.c{i}")
            else:
                names.append(f"x{i}")
                inputs.append(Value(f"x{i}", t))
        outputs = tuple(Value(f"y{i}", t) for i, t in enumerate(case.results))
        node = Node(case.op, tuple(names), outputs, case.attrs, Loc(case.label))
        graphs.append(
            Graph(
                f"e{n}",
                tuple(inputs),
                (node,),
                tuple(v.name for v in outputs),
                (),
                tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in inputs),
                tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in outputs),
            )
        )
    return Program(tuple(graphs), constants, {})


def lowered(cases: Sequence[Case], target: Target) -> Plan:
    """The cases' Plan, of the records that they name."""
    wanted = {c.symbol for c in cases}
    table = [k for k in kernels_cuda.KERNELS if "" in wanted or k.symbol in wanted]
    return plan_memory(choose_kernels(program(cases), target, table, "cases"), target)


def write(folder: Path, plan: Plan, target: Target) -> None:
    """An artifact without golden vectors and report."""
    emitted = cuda.emit(plan, target, cuda.file_head("test", plan.name, target.name, "test"))
    files: dict[str, artifact.Content] = dict(emitted.files)
    weights = bytearray(emitted.weights.bytes)
    for at, data in emitted.weights.pieces:
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        weights[at : at + raw.size] = raw.tobytes()
    files["weights.bin"] = bytes(weights)
    files["Makefile"] = cuda_build.makefile(plan.name, target)
    files["target.toml"] = target_file(target.name).read_text(encoding="utf-8")
    entries = [
        {
            "name": e.name,
            "inputs": [artifact.port_json(p) for p in e.inputs],
            "outputs": [artifact.port_json(p) for p in e.outputs],
            "launches": emitted.launches[e.name],
        }
        for e in plan.entries
    ]
    rest: dict[str, Any] = dict.fromkeys(("options", "macs", "arenas", "constant_bytes", "machine"))
    manifest = {**rest, "edgec": "test", "golden_steps": [], "entries": entries}
    manifest |= {"name": plan.name, "prefix": names_of(plan).prefix, "target": target.name}
    artifact.write(folder, files, manifest)


def difference(found: Array, expected: Array, case: Case) -> str:
    """What is wrong with an output, "" where nothing is."""
    if expected.dtype.kind in "iub":
        wrong = int((found != expected).sum())
        where = np.argwhere(found != expected)[:1].tolist()
        return f"{wrong} of {expected.size} integers differ, first at {where}" if wrong else ""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same_specials = np.array_equal(np.isfinite(a), np.isfinite(b)) and np.array_equal(
        np.isnan(a), np.isnan(b)
    )
    if not same_specials:
        return f"{int((np.isfinite(a) != np.isfinite(b)).sum())} of {a.size} differ in being finite"
    ok = np.isfinite(b)
    tolerance = TOLERANCE[OF_NUMPY[expected.dtype.name]] if case.tolerance is None else case.tolerance
    largest = float(np.abs(b[ok]).max(initial=0.0))
    error = float(np.abs(a[ok] - b[ok]).max(initial=0.0))
    return f"error {error:.3g} of {largest:.3g}" if error > tolerance * max(largest, 1e-30) else ""


def _run_entry(model: Instance, name: str, case: Case) -> list[Array]:
    model.fill(0xFF)
    for i, array in enumerate(case.arrays):
        if i not in case.constants:
            model.write(name, f"x{i}", array)
    model.invoke(name)
    return [model.read(name, f"y{i}") for i in range(len(case.results))]


def check(cases: Sequence[Case], name: str = TARGET) -> dict[str, str]:
    """{label: what is wrong} of cases that one library for the target `name` serves."""
    target, problems = load_target(name), {}
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "cases"
        write(where, lowered(cases, target), target)
        library = Library(where)
        model = library.instance()
        for n, case in enumerate(cases):
            first, second = (_run_entry(model, f"e{n}", case) for _ in range(2))
            wrong = [difference(y, e, case) for y, e in zip(first, case.expected(), strict=True)]
            moved = [a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=True)]
            text = "; ".join(w for w in wrong if w) + ("; a second run differs" if any(moved) else "")
            if text:
                problems[case.label] = text
        model.close()
        library.close()
    return problems


def run(cases: Iterable[Case], name: str = TARGET) -> dict[str, str]:
    """{label: what is wrong} of all failing cases. A library that cannot be made or breaks is tried case by case."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.symbol, []).append(case)
    problems: dict[str, str] = {}
    for group in groups.values():
        for begin in range(0, len(group), CHUNK):
            chunk = group[begin : begin + CHUNK]
            try:
                problems |= check(chunk, name)
            except Exception:
                for case in chunk:
                    try:
                        problems |= check([case], name)
                    except Exception as error:
                        problems[case.label] = f"{type(error).__name__}: {error}"
    return problems


def gpu_is_here() -> bool:
    """Whether the tests of tests/cuda can run."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0


def nvcc_is_here() -> bool:
    """Whether kernels can be compiled."""
    return cuda_build.find("nvcc") is not None


def module_of(path: Path) -> Any:
    """A test file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def cases_of(path: Path) -> list[Case]:
    """What `cases()` of a test file yields."""
    return list(module_of(path).cases())


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Runs the cases of test files on a GPU.")
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("paths", nargs="+")
    arguments = parser.parse_args(words)
    total = failed = 0
    for path in arguments.paths:
        try:
            cases = cases_of(Path(path))
            problems = run(cases, arguments.target)
        except Exception:
            traceback.print_exc()
            failed += 1
            continue
        total += len(cases)
        failed += len(problems)
        for label, text in problems.items():
            print(f"FAILED {path} {label}: {text[:400]}", flush=True)
        print(f"{path}: {len(cases) - len(problems)} of {len(cases)} cases passed", flush=True)
    print(f"{total} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
