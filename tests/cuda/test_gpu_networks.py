"""Whole networks on a GPU: half types near PyTorch in float32, int8 equal to the interpreter, integer for integer, 8
and 4 bits of weights near it.

python tests/cuda/test_gpu_networks.py resnet50:fp16 resnet50:int8 ...     one line a network; all where none is named
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest

from edgec import compiler, interp, samples
from edgec.cuda.library import Library
from edgec.ir import Array
from examples.networks import CNNS, NETWORKS
from tests.network_programs import compiled, made, relative, written

TARGET = "h200"
# Of the largest output; convolutions in fp32 add in another order, bf16 has 3 bits fewer than fp16.
TOLERANCE = {"fp16": 2e-2, "bf16": 8e-2, "fp32": 1e-3}
LOW = ("w8a8", "w4a16")
LOW_TARGET = "orin"  # where more layers are predicted faster with few bits; its twin runs here
LOW_TOLERANCE = 5e-2  # from the interpreter: an activation that fp16 rounds otherwise may be another int8


def on_gpu(done: compiler.Compiled, inputs: dict[str, Array]) -> list[Array]:
    """Outputs as the device holds them, of a run on an arena of NaN; a second run gives the same bytes."""
    graph = done.done.program.graphs[0]
    labels = {p.ref: p.label for p in graph.input_ports}
    with tempfile.TemporaryDirectory() as place:
        library = Library(written(done, Path(place) / "artifact"))
        instance = library.instance()
        instance.fill(0xFF)
        given = {labels[ref]: array for ref, array in inputs.items()}
        first, second = (instance.run(graph.name, given) for _ in range(2))
        instance.close()
        library.close()
    for label, array in first.items():
        assert array.tobytes() == second[label].tobytes(), f"{label} differs from run to run"
    return [first[p.label] for p in graph.output_ports]


def float_distance(name: str, precision: str, small: bool) -> float:
    """Largest difference of the GPU's outputs from PyTorch's float32, relative to the largest output."""
    one, done = made(name, small), compiled(name, TARGET, precision, small)
    program = done.done.program
    graph = program.graphs[0]
    types = program.type_of(graph)
    (inputs,) = samples.to_device(one.arrays, graph.input_ports, types, "the example")
    found = on_gpu(done, inputs)
    users = [
        samples.value_to_user(y, p, types[p.ref], raw=False)
        for y, p in zip(found, graph.output_ports, strict=True)
    ]
    return max(relative(a, b) for a, b in zip(one.wanted, users, strict=True))


def interpreter_distance(name: str, precision: str, small: bool) -> float:
    """Largest difference from the interpreter on the same rounded Program, relative to the largest output."""
    one, done = made(name, small), compiled(name, LOW_TARGET, precision, small)
    program = done.done.program
    graph = program.graphs[0]
    (inputs,) = samples.to_device(one.arrays, graph.input_ports, program.type_of(graph), "the example")
    wanted, _ = interp.run(program, graph, inputs)
    return max(relative(wanted[r], y) for r, y in zip(graph.outputs, on_gpu(done, inputs), strict=True))


def integers_that_differ(name: str, small: bool = True) -> int:
    """How many output integers are not the interpreter's."""
    one, done = made(name, small), compiled(name, TARGET, "int8", small)
    program = done.done.program
    graph = program.graphs[0]
    (inputs,) = samples.to_device(one.arrays, graph.input_ports, program.type_of(graph), "the example")
    wanted, _ = interp.run(program, graph, inputs)
    found = on_gpu(done, inputs)
    return sum(int((wanted[ref] != y).sum()) for ref, y in zip(graph.outputs, found, strict=True))


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", NETWORKS)
def test_small_network_is_near_pytorch(name: str, precision: str) -> None:
    assert float_distance(name, precision, small=True) <= TOLERANCE[precision]


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_network_in_fp16_is_within_2_percent_of_pytorch(name: str) -> None:
    assert float_distance(name, "fp16", small=False) <= TOLERANCE["fp16"]


@pytest.mark.parametrize("name", NETWORKS)
def test_small_int8_network_equals_the_interpreter(name: str) -> None:
    assert integers_that_differ(name) == 0


@pytest.mark.parametrize("name", CNNS)
def test_whole_int8_network_equals_the_interpreter(name: str) -> None:
    assert integers_that_differ(name, small=False) == 0


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("name", NETWORKS)
def test_small_network_of_few_bits_is_near_the_interpreter(name: str, precision: str) -> None:
    assert interpreter_distance(name, precision, small=True) <= LOW_TOLERANCE


def main(wanted: list[str]) -> int:
    """One line a network and precision; the number of failures."""
    failed = 0
    everything = [f"{n}:{p}" for n in NETWORKS for p in ("fp16", "whole", "int8", *LOW)]
    for one in wanted or everything:
        name, _, precision = one.partition(":")
        try:
            if precision == "int8":
                wrong = integers_that_differ(name)
                text, bad = f"{wrong} integers differ", wrong > 0
            elif precision in LOW:
                far = interpreter_distance(name, precision, small=True)
                text, bad = f"relative {far:.2e} of the interpreter", not far <= LOW_TOLERANCE
            else:
                far = float_distance(
                    name, "fp16" if precision == "whole" else precision, precision != "whole"
                )
                text, bad = f"relative {far:.2e}", not far <= TOLERANCE.get(precision, 2e-2)
        except Exception as error:
            text, bad = f"{type(error).__name__} {str(error)[:900]}", True
            if "E402" not in text:
                text += "\n" + traceback.format_exc(limit=-3)
        failed += bad
        print(f"{'FAILED ' if bad else ''}{one}: {text}", flush=True)
    return failed


if __name__ == "__main__":
    np.seterr(over="ignore")
    sys.exit(main(sys.argv[1:]))
