"""ops: which operator runs where and at which precision, found by asking every kernel about every op's examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.ir import DType
from edgec.ops import OPS
from edgec.ops.define import NoGrad, NoQuant, Op, QuantRule, Types
from edgec.ops.examples import ExampleNode, float_node, quantized_node
from edgec.plan import Kernel, NodeView, Target

# Ops that a pass rewrites into others before kernels are chosen, and what becomes of them.
REWRITTEN = {
    "conv1d": "conv2d",
    "arange": "a constant",
    "reshape": "a view",
}


@dataclass(frozen=True, slots=True)
class Support:
    """One op. `kernels`: (target, precision) -> symbol of the kernel that runs its examples, "" where none does."""

    op: str
    doc: str
    gradient: bool
    int8: bool
    note: str
    kernels: tuple[tuple[str, str, str], ...]

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        places: dict[str, dict[str, str | None]] = {}
        for target, precision, symbol in self.kernels:
            places.setdefault(target, {})[precision] = symbol or None
        return {
            "op": self.op,
            "doc": self.doc,
            "gradient": self.gradient,
            "int8": self.int8,
            "note": self.note,
            "targets": places,
        }


def table(targets: Sequence[Target]) -> tuple[Support, ...]:
    """Every op in name order."""
    from edgec.compiler import kernels_of

    tables = [(target, kernels_of(target)) for target in targets]
    return tuple(_support(op, tables) for _, op in sorted(OPS.items()))


def _support(op: Op, tables: Sequence[tuple[Target, Sequence[Kernel]]]) -> Support:
    floats = [float_node(op, e) for e in op.examples]
    nodes = {"fp32": floats}
    if isinstance(op.quant, QuantRule):
        nodes["int8"] = [quantized_node(op, e) for e in op.examples]
    gpu_nodes = {**nodes, "fp16": [_half(node) for node in floats]}
    found = tuple(
        (target.name, precision, _first(rows, _own(op, kernels), target))
        for target, kernels in tables
        for precision, rows in (gpu_nodes if target.gpu is not None else nodes).items()
    )
    note = f"becomes {REWRITTEN[op.name]}" if op.name in REWRITTEN else ""
    if isinstance(op.quant, NoQuant):
        note = note or f"float only: {op.quant.why}"
    return Support(op.name, op.doc, not isinstance(op.vjp, NoGrad), "int8" in nodes, note, found)


def _half(node: ExampleNode) -> ExampleNode:
    """The example with its float32 tensors in fp16, as `--precision fp16` makes it."""
    from edgec.passes.half import FLOAT32_INPUTS

    def types(given: Types, keep: tuple[int, ...] = ()) -> Types:
        return tuple(
            replace(t, dtype=DType.F16) if t.dtype is DType.F32 and index not in keep else t
            for index, t in enumerate(given)
        )

    in_types = types(node.in_types, FLOAT32_INPUTS.get(node.op.name, ()))
    with np.errstate(over="ignore"):  # the -1e9 of a mask
        inputs = tuple(x.astype(t.dtype.numpy) for x, t in zip(node.inputs, in_types, strict=True))
    return replace(node, in_types=in_types, inputs=inputs, out_types=types(node.out_types))


def _own(op: Op, kernels: Sequence[Kernel]) -> list[Kernel]:
    """The op's kernels, best first."""
    return sorted((k for k in kernels if k.op == op.name), key=lambda k: (k.rank, k.symbol))


def _first(nodes: Sequence[ExampleNode], kernels: Sequence[Kernel], target: Target) -> str:
    """The kernel that takes the first example any kernel takes."""
    for node in nodes:
        for kernel in kernels:
            if any(kernel.accepts(view, target) for view in _views(node)):
                return kernel.symbol
    return ""


def _views(node: ExampleNode) -> tuple[NodeView, ...]:
    """The node with its weights constant, as in a network, and with all but its first input constant."""
    rule = node.op.quant
    constant: tuple[int, ...] = tuple(range(1, len(node.inputs)))
    if isinstance(rule, QuantRule):
        fixed = tuple(i for i in range(len(node.inputs)) if rule.role(i) in ("weight", "bias", "parameter"))
        return tuple({c: node.view(c) for c in (fixed, constant, ())}.values())
    return node.view(()), node.view(constant)


def text(rows: Sequence[Support], targets: Sequence[Target]) -> str:
    """One line an op: gradient, and for each target the precisions at which it runs."""
    names = [t.name for t in targets]
    lines = [f"{'op':<22} grad  " + "  ".join(names)]
    for row in rows:
        cells = []
        for name in names:
            has = {p: s for t, p, s in row.kernels if t == name}
            known = ("int8", "fp32", "fp16") if "fp16" in has else ("int8", "fp32")
            mark = " ".join(p if has.get(p) else "    " for p in known)
            cells.append(f"{mark:<{max(len(name), 5 * len(known) - 1)}}")
        lines.append(
            f"{row.op:<22} {'yes' if row.gradient else '-':<5} {'  '.join(cells)}  {row.note}".rstrip()
        )
    return "\n".join(lines)


def markdown(rows: Sequence[Support], dsp: str, portable: str, gpu: str) -> str:
    """The table of docs/operators.md. `dsp`, `portable`, `gpu`: targets that stand for Armv7E-M, for every other
    C target and for CUDA."""
    lines = [
        "| op | C fp32 | C int8 | Armv7E-M kernel | CUDA fp32 | CUDA fp16 | CUDA int8 | gradient | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = {(t, p): s for t, p, s in row.kernels}
        fast = found.get((dsp, "int8"), "")
        places = [(portable, "fp32"), (portable, "int8"), (gpu, "fp32"), (gpu, "fp16"), (gpu, "int8")]
        marks = ["yes" if found.get(place) else "–" for place in places]
        marks.insert(2, f"`{fast}`" if fast and fast != found.get((portable, "int8")) else "")
        lines.append("| " + " | ".join([row.op, *marks, "yes" if row.gradient else "–", row.note]) + " |")
    return "\n".join(lines)
