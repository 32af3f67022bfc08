"""Inverted residuals that several calls became, on a GPU: equal to the interpreter, integer for integer."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import cuda_harness
import numpy as np

from edgec import interp
from edgec.backends.cuda_blocks_s8 import find_blocks
from edgec.backends.kernels_cuda import KERNELS
from edgec.cuda.library import Library
from edgec.ir import Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_blocks import join_blocks
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.memory import plan_memory
from edgec.plan import Plan
from edgec.targets.load import load_target
from edgec.verify_plan import verify_plan
from tests.inverted_residuals import CASES, program


def joined(network: Program) -> Plan:
    """The network's Plan for the GPU, blocks joined."""
    target = load_target(cuda_harness.TARGET)
    plan = join_epilogues(choose_kernels(network, target, KERNELS, "cases"))
    plan = plan_memory(join_blocks(plan, partial(find_blocks, target=target)), target)
    verify_plan(plan, target)
    return plan


def problems() -> dict[str, str]:
    """{label: what is wrong}."""
    network, target, found = program(), load_target(cuda_harness.TARGET), {}
    plan = joined(network)
    rng = np.random.default_rng(6)
    with tempfile.TemporaryDirectory() as folder:
        cuda_harness.write(Path(folder) / "cases", plan, target)
        library = Library(Path(folder) / "cases")
        model = library.instance()
        for case, graph in zip(CASES, network.graphs, strict=True):
            inputs = {v.name: rng.integers(-128, 128, v.type.dims).astype(np.int8) for v in graph.inputs}
            expected = interp.run(network, graph, inputs)[0]["y"]
            for _ in range(2):
                model.fill(0xFF)
                for name, array in inputs.items():
                    model.write(graph.name, name, array)
                model.invoke(graph.name)
                y = model.read(graph.name, "y")
                wrong = int((y != expected).sum())
                if wrong or len(np.unique(expected)) < 8:
                    found[case.label] = f"{wrong} of {y.size} differ, {len(np.unique(expected))} values"
        model.close()
        library.close()
    return found


def test_joined_inverted_residuals_equal_the_interpreter() -> None:
    assert problems() == {}


if __name__ == "__main__":
    wrong = problems()
    print(f"inverted residuals: {len(CASES)} cases, {len(wrong)} wrong", *wrong.items(), sep="\n")
