"""Kernels with generated epilogues against the interpreter: every kind of operand and step, every run length."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cuda_harness
import numpy as np
import pytest
from cuda_harness import floats

from edgec import interp
from edgec.backends.kernels_cuda import KERNELS
from edgec.build import constant
from edgec.cuda.library import Library
from edgec.ir import DType, Graph, Port, Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.join_loops import join_loops
from edgec.passes.memory import plan_memory
from edgec.targets.load import load_target
from edgec.text import read

M = "T[2,6,6,48]"
CONV = f"%a: {M} = conv2d(%x, @w0) {{pad=(1,1,1,1)}}"
# label: (inputs beyond %x, body); T is the element type, @w<n> a constant of the type that follows it in WEIGHTS
CASES = {
    "residual, clamped": (f"%r: {M}", f"{CONV} %y: {M} = add(%a, %r) {{act=(0.0, inf)}}"),
    "layer scale and residual": (f"%r: {M}", f"{CONV} %b: {M} = mul(%a, @w1) %y: {M} = add(%b, %r)"),
    "gate by image and channel": ("%r: T[2,1,1,48]", f"{CONV} %b: {M} = silu(%a) %y: {M} = mul(%b, %r)"),
    "scalar and place": ("%r: T[2,6,6,1]", f"{CONV} %b: {M} = mul(%a, @w2) %y: {M} = sub(%r, %b)"),
    "chain of activations": (
        "",
        f"{CONV} %b: {M} = hardswish(%a) %d: {M} = sigmoid(%b) %e: {M} = tanh(%d) %y: {M} = mul(%e, %a)",
    ),
    "operand by two steps": (
        f"%r: {M}",
        f"{CONV} %b: {M} = add(%a, %r) %d: {M} = mul(%b, %r) %y: {M} = maximum(%d, %b)",
    ),
    "gelu, odd columns": (
        "",
        '%a: T[2,6,6,7] = conv2d(%x, @w3) %y: T[2,6,6,7] = gelu(%a) {approximate="none"}',
    ),
    "residual, even columns": (
        "%r: T[2,6,6,10]",
        "%a: T[2,6,6,10] = conv2d(%x, @w4) %y: T[2,6,6,10] = add(%a, %r)",
    ),
    "tokens with places": (
        "%z: T[2,50,768]",
        "%a: T[2,50,96] = linear(%z, @w5, @w6) %b: T[2,50,96] = add(%a, @w7) %y: T[2,50,96] = neg(%b)",
    ),
    "split sums": ("%z: T[3,4096], %r: T[3,48]", "%a: T[3,48] = linear(%z, @w8) %y: T[3,48] = add(%a, %r)"),
    "scores, scaled and masked": (
        "%z: T[2,3,20,40], %k: T[2,3,24,40], %m: T[2,1,20,24]",
        "%a: T[2,3,20,24] = matmul(%z, %k) {transpose_b=True} %b: T[2,3,20,24] = mul(%a, @w2)"
        " %y: T[2,3,20,24] = add(%b, %m)",
    ),
    "grouped": (f"%r: {M}", f"%a: {M} = conv2d(%x, @w9) {{groups=4}} %y: {M} = mul(%a, %r)"),
    "transposed": (
        "%r: T[2,12,12,8]",
        "%a: T[2,12,12,8] = conv_transpose2d(%x, @w10) {stride=(2,2)} %y: T[2,12,12,8] = add(%a, %r)",
    ),
}
WEIGHTS = (
    *((48, 3, 3, 16), (48,), (1,), (7, 1, 1, 16), (10, 1, 1, 16), (96, 768), (96,), (1, 50, 96)),
    *((48, 4096), (48, 1, 1, 4), (8, 2, 2, 16)),
)


def network(dtype: DType) -> Program:
    """One graph a case."""
    rng = np.random.default_rng(3)
    graphs = []
    for n, (more, body) in enumerate(CASES.values()):
        begin = "%x: T[2,6,6,16]" if "%x" in body else ""
        inputs = ", ".join(p for p in (begin, more) if p)
        parsed = read(f"graph e{n}({inputs}) {{ {body} return %y }}".replace("T[", f"{dtype.value}["))
        graphs.append(_with_ports(parsed))
    constants = {
        f"w{n}": constant(floats(rng, shape, dtype, np.prod(shape[1:]) ** -0.5))
        for n, shape in enumerate(WEIGHTS)
    }
    return Program(tuple(graphs), constants, {})


def _with_ports(graph: Graph) -> Graph:
    y = graph.nodes[-1].outputs[0]
    ports = tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in (*graph.inputs, y))
    return replace(graph, input_ports=ports[:-1], output_ports=ports[-1:])


def problems(dtype: DType) -> dict[str, str]:
    """{label: what is wrong}."""
    program, target, found = network(dtype), load_target(cuda_harness.TARGET), {}
    plan = choose_kernels(program, target, KERNELS, "cases")
    plan = plan_memory(join_epilogues(join_loops(plan)), target)
    assert [len(e.calls) for e in plan.entries] == [1] * len(CASES)
    rng = np.random.default_rng(4)
    with tempfile.TemporaryDirectory() as folder:
        cuda_harness.write(Path(folder) / "cases", plan, target)
        library = Library(Path(folder) / "cases")
        model = library.instance()
        for label, graph in zip(CASES, program.graphs, strict=True):
            inputs = {v.name: floats(rng, v.type.dims, dtype) for v in graph.inputs}
            model.fill(0xFF)
            for name, array in inputs.items():
                model.write(graph.name, name, array)
            model.invoke(graph.name)
            y = model.read(graph.name, "y").astype(np.float64)
            expected = interp.run(program, graph, inputs)[0]["y"].astype(np.float64)
            error = np.abs(y - expected).max() / np.abs(expected).max()
            if not error <= 2 * cuda_harness.TOLERANCE[dtype]:  # the interpreter rounds after each op
                found[f"{label} {dtype.value}"] = f"relative error {error:.3g}"
        model.close()
        library.close()
    return found


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F32])
def test_epilogues_equal_the_interpreter(dtype: DType) -> None:
    assert problems(dtype) == {}
