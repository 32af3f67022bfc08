"""int8 kernels with generated epilogues against the interpreter: every step, every kernel that takes them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cuda_harness
import numpy as np

from edgec import interp
from edgec.backends.kernels_cuda import KERNELS
from edgec.build import constant
from edgec.cuda.library import Library
from edgec.ir import Graph, Port, Program, Quant
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.memory import plan_memory
from edgec.targets.load import load_target
from edgec.text import read

# A, B, C stand for int8 with three quantisations
QUANTS = {"A": "q(scale=0.031, zero=3)", "B": "q(scale=0.07, zero=-9)", "C": "q(scale=0.052, zero=20)"}
MAP, WIDE, DEEP = "2,6,6,48", "1,9,9,64", "1,7,7,64"
# label: (inputs, body); @w<n>, @b<n> are weights and bias of the shape that stands in WEIGHTS
CASES = {
    "residual, clamped": (
        f"%x: A[2,6,6,16], %r: B[{MAP}]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %y: B[{MAP}] = add(%a, %r) {{act=(0.0, inf)}}",
    ),
    "taken from the residual": (
        f"%x: A[2,6,6,16], %r: B[{MAP}]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %y: A[{MAP}] = sub(%r, %a)",
    ),
    "silu": (
        "%x: A[2,6,6,16]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %y: A[{MAP}] = silu(%a)",
    ),
    "silu, residual, requantised": (
        f"%x: A[2,6,6,16], %r: B[{MAP}]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %b: A[{MAP}] = silu(%a)"
        f" %d: C[{MAP}] = add(%r, %b) %y: B[{MAP}] = requantize(%d)",
    ),
    "gate by image and channel": (
        "%x: A[2,6,6,16], %r: B[2,1,1,48]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %y: A[{MAP}] = mul(%a, %r)",
    ),
    "smaller, larger, by pixel": (
        f"%x: A[2,6,6,16], %r: B[{MAP}], %z: A[2,6,6,1]",
        f"%a: C[{MAP}] = conv2d(%x, @w0, @b0) {{pad=(1,1,1,1)}} %b: A[{MAP}] = minimum(%a, %r)"
        f" %y: C[{MAP}] = maximum(%b, %z)",
    ),
    "odd columns": (
        "%x: A[2,6,6,16], %r: B[2,6,6,7]",
        "%a: C[2,6,6,7] = conv2d(%x, @w1, @b1) %y: A[2,6,6,7] = add(%a, %r)",
    ),
    "depthwise": (
        f"%x: A[{WIDE}], %r: B[{WIDE}]",
        f"%a: C[{WIDE}] = conv2d(%x, @w2, @b2) {{pad=(1,1,1,1), groups=64}} %b: A[{WIDE}] = hardswish(%a)"
        f" %y: B[{WIDE}] = add(%b, %r)",
    ),
    "depthwise, odd": (
        "%x: A[1,5,5,7]",
        "%a: C[1,5,5,7] = conv2d(%x, @w3, @b3) {pad=(1,1,1,1), groups=7} %y: A[1,5,5,7] = sigmoid(%a)",
    ),
    "few rows": (
        "%x: A[3,480], %r: B[3,24]",
        "%a: C[3,24] = linear(%x, @w4, @b4) %b: A[3,24] = sigmoid(%a) %y: B[3,24] = mul(%b, %r)",
    ),
    "splits of k": (
        f"%x: A[1,7,7,256], %r: B[{DEEP}]",
        f"%a: C[{DEEP}] = conv2d(%x, @w5, @b5) {{pad=(1,1,1,1)}} %y: B[{DEEP}] = add(%a, %r)",
    ),
    "transposed": (
        "%x: A[2,6,6,16], %r: B[2,12,12,8]",
        "%a: C[2,12,12,8] = conv_transpose2d(%x, @w6, @b6) {stride=(2,2)} %y: A[2,12,12,8] = add(%a, %r)",
    ),
}
WEIGHTS = (
    *((48, 3, 3, 16), (7, 1, 1, 16), (64, 3, 3, 1), (7, 3, 3, 1), (24, 480), (64, 3, 3, 256)),
    (8, 2, 2, 16),
)


def _quantised(text: str) -> str:
    """Types of the cases as the text form has them."""
    for letter, quant in QUANTS.items():
        parts = text.split(f"{letter}[")
        text = parts[0] + "".join(f"i8[{p.replace(']', '] ' + quant, 1)}" for p in parts[1:])
    return text


def network() -> Program:
    """One graph a case."""
    rng = np.random.default_rng(5)
    graphs = []
    for n, (inputs, body) in enumerate(CASES.values()):
        graphs.append(_with_ports(read(_quantised(f"graph e{n}({inputs}) {{ {body} return %y }}"))))
    constants = {}
    for n, shape in enumerate(WEIGHTS):
        scale = tuple(float(s) for s in rng.uniform(0.2, 1.0, shape[0]) / np.prod(shape[1:]) ** 0.5 / 30)
        zeros = (0,) * shape[0]
        w = rng.integers(-127, 128, shape).astype(np.int8)
        b = rng.integers(-3000, 3000, shape[0]).astype(np.int32)
        constants[f"w{n}"] = constant(w, Quant(scale, zeros, 0))
        constants[f"b{n}"] = constant(b, Quant(tuple(0.031 * s for s in scale), zeros, 0))
    return Program(tuple(graphs), constants, {})


def _with_ports(graph: Graph) -> Graph:
    y = graph.nodes[-1].outputs[0]
    ports = tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in (*graph.inputs, y))
    return replace(graph, input_ports=ports[:-1], output_ports=ports[-1:])


def problems() -> dict[str, str]:
    """{label: what is wrong}."""
    program, target, found = network(), load_target(cuda_harness.TARGET), {}
    plan = plan_memory(join_epilogues(choose_kernels(program, target, KERNELS, "cases")), target)
    assert [len(e.calls) for e in plan.entries] == [1] * len(CASES)
    rng = np.random.default_rng(6)
    with tempfile.TemporaryDirectory() as folder:
        cuda_harness.write(Path(folder) / "cases", plan, target)
        library = Library(Path(folder) / "cases")
        model = library.instance()
        for label, graph in zip(CASES, program.graphs, strict=True):
            inputs = {v.name: rng.integers(-128, 128, v.type.dims).astype(np.int8) for v in graph.inputs}
            model.fill(0xFF)
            for name, array in inputs.items():
                model.write(graph.name, name, array)
            model.invoke(graph.name)
            y, expected = model.read(graph.name, "y"), interp.run(program, graph, inputs)[0]["y"]
            wrong = int((y != expected).sum())
            if wrong or len(np.unique(expected)) < 8:
                found[label] = f"{wrong} of {y.size} differ, {len(np.unique(expected))} values"
        model.close()
        library.close()
    return found


def test_int8_epilogues_equal_the_interpreter() -> None:
    assert problems() == {}
