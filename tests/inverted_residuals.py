"""Inverted residuals with quantised types as small networks: what runs on a GPU, and what becomes how many calls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgec.build import constant
from edgec.ir import Graph, Port, Program, Quant
from edgec.text import read

# A, B, C stand for int8 with three quantisations, S for one of a gate
QUANTS = {
    "A": "q(scale=0.031, zero=3)",
    "B": "q(scale=0.07, zero=-9)",
    "C": "q(scale=0.052, zero=-128)",
    "S": "q(scale=0.00390625, zero=-128)",
}


@dataclass(frozen=True)
class Residual:
    """x[N,H,W,inputs] -> hidden (no product before the depthwise convolution where it is `inputs` and not `expands`)
    -> outputs. `act`: "" or the name of an op after each of the first two; a clamp where "relu6". `few`: outputs of
    the squeeze, 0 for none. `calls`: of the joined plan."""

    label: str
    images: int
    size: tuple[int, int]
    inputs: int
    hidden: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    act: str = "relu6"
    few: int = 0
    adds: bool = False
    expands: bool = True
    calls: int = 1


CASES = (
    Residual("stride 1, added", 1, (14, 14), 64, 384, 64, adds=True),
    Residual("stride 2", 1, (15, 13), 24, 144, 32, stride=2),
    Residual("deep", 1, (7, 7), 160, 960, 320),
    Residual("deep, added, silu", 1, (7, 7), 160, 960, 160, act="silu", adds=True),
    Residual("two images", 2, (9, 11), 16, 96, 24),
    Residual("nothing expands", 1, (20, 18), 32, 32, 16, expands=False),
    Residual("one row", 1, (1, 9), 8, 40, 8, act=""),
    Residual("5x5", 1, (10, 12), 40, 240, 80, kernel=5, act="hardswish"),
    Residual("5x5, stride 2", 1, (9, 14), 40, 120, 48, kernel=5, stride=2),
    Residual("large", 1, (56, 56), 24, 144, 24, adds=True),
    Residual("gated", 1, (14, 14), 80, 480, 80, act="silu", few=20, adds=True, calls=3),
    Residual("gated, few of 10", 1, (28, 28), 40, 240, 40, 5, act="silu", few=10, adds=True, calls=3),
    Residual("gated, stride 2", 1, (15, 15), 112, 672, 192, 5, 2, "silu", few=28, calls=3),
    Residual("gated, nothing expands", 1, (32, 31), 32, 32, 16, act="silu", few=8, expands=False, calls=3),
    Residual("gated, deep", 1, (7, 7), 192, 1152, 320, act="silu", few=48, calls=3),
)


def program() -> Program:
    """One graph a case."""
    rng = np.random.default_rng(5)
    constants = {}
    graphs = []
    for n, case in enumerate(CASES):
        text, shapes = _text(case, f"e{n}")
        graphs.append(_with_ports(read(text)))
        for name, shape in shapes.items():
            scale = tuple(float(s) for s in rng.uniform(0.4, 1.0, shape[0]) / np.prod(shape[1:]) ** 0.5 / 50)
            zeros = (0,) * shape[0]
            w = rng.integers(-127, 128, shape).astype(np.int8)
            b = rng.integers(-3000, 3000, shape[0]).astype(np.int32)
            constants[f"{name}w"] = constant(w, Quant(scale, zeros, 0))
            constants[f"{name}b"] = constant(b, Quant(tuple(0.031 * s for s in scale), zeros, 0))
    return Program(tuple(graphs), constants, {})


def _type(letter: str, dims: tuple[int, ...]) -> str:
    return f"i8[{','.join(map(str, dims))}] {QUANTS[letter]}"


class _Writer:
    """Lines of a graph and the shapes of its weights."""

    def __init__(self, name: str) -> None:
        self.name, self.lines, self.shapes = name, [""], {}
        self.lines.clear()
        self.shapes: dict[str, tuple[int, ...]]

    def conv(self, to: str, source: str, dims: tuple[int, ...], w: tuple[int, ...], extra: str = "") -> None:
        key = f"{self.name}{to}"
        self.shapes[key] = w
        self.lines.append(f"%{to}: {_type('A', dims)} = conv2d(%{source}, @{key}w, @{key}b) {{{extra}}}")

    def op(self, to: str, letter: str, dims: tuple[int, ...], call: str) -> None:
        self.lines.append(f"%{to}: {_type(letter, dims)} = {call}")


def _text(case: Residual, name: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The graph in the text form, and its weights' shapes by the stem of their names."""
    out, (h, w), pad = _Writer(name), case.size, case.kernel // 2
    n, hidden, clamp = case.images, case.hidden, "act=(0.0, 3.0)" if case.act == "relu6" else ""
    looked_up = case.act not in ("", "relu6")
    p, q = ((s + 2 * pad - case.kernel) // case.stride + 1 for s in (h, w))
    wide, narrow = (n, p, q, hidden), (n, p, q, case.outputs)
    last = "x"
    if case.expands:
        out.conv("a", last, (n, h, w, hidden), (hidden, 1, 1, case.inputs), clamp)
        last = "a"
        if looked_up:
            out.op("aa", "A", (n, h, w, hidden), f"{case.act}(%a)")
            last = "aa"
    taps = f"stride=({case.stride},{case.stride}), pad=({pad},{pad},{pad},{pad}), groups={hidden}"
    out.conv("d", last, wide, (hidden, case.kernel, case.kernel, 1), ", ".join(filter(None, (taps, clamp))))
    last = "d"
    if looked_up:
        out.op("dd", "A", wide, f"{case.act}(%d)")
        last = "dd"
    if case.few:
        out.op("s", "A", (1, 1, 1, hidden), f"adaptive_avg_pool2d(%{last}) {{size=(1,1)}}")
        out.conv("f", "s", (1, 1, 1, case.few), (case.few, 1, 1, hidden))
        out.op("ff", "A", (1, 1, 1, case.few), "silu(%f)")
        out.conv("g", "ff", (1, 1, 1, hidden), (hidden, 1, 1, case.few))
        out.op("gg", "S", (1, 1, 1, hidden), "sigmoid(%g)")
        out.op("m", "A", wide, f"mul(%{last}, %gg)")
        last = "m"
    out.conv("p" if case.adds else "y", last, narrow, (case.outputs, 1, 1, hidden))
    if case.adds:
        out.op("y", "B", narrow, "add(%p, %x)")
    given = _type("A", (n, h, w, case.inputs))
    return f"graph {name}(%x: {given}) {{ {' '.join(out.lines)} return %y }}", out.shapes


def _with_ports(graph: Graph) -> Graph:
    y = graph.nodes[-1].outputs[0]
    ports = tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in (*graph.inputs, y))
    return replace(graph, input_ports=ports[:-1], output_ports=ports[-1:])
