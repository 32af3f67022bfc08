"""Half precision: a float32 Program becomes one of fp16 or bf16, as `model.half()` makes of a module.

Values, constants, state and ports change their type; integers and booleans stay. Constants are converted when they
are read, so that large weights stay in their file. Numbers beyond the type's finite range, such as the -1e9 of a
mask, become its largest; infinities stay. Attributes stay float, but for the number that a mask or a padding fills in.
What stays in float32, and why, is `FLOAT32` and `FLOAT32_INPUTS`; casts stand at the seams.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from edgec.build import Builder
from edgec.errors import UserError
from edgec.ir import Array, Attrs, Constant, DType, Graph, Node, Program, State, Type, Value
from edgec.match import ends, rename_ends
from edgec.ops import OPS
from edgec.ops.cast import CastAttrs
from edgec.ops.joining import PadAttrs
from edgec.ops.select import MaskedFillAttrs
from edgec.passes.layout_rules import ELEMENTWISE
from edgec.passes.simplify import simplify

# Ops that stay in float32, and the cheap ops that only lead to them.
FLOAT32: Final[dict[str, str]] = {
    "sin": "an angle of 100 has steps of 0.06 in fp16 and of 0.5 in bf16",
    "cos": "an angle of 100 has steps of 0.06 in fp16 and of 0.5 in bf16",
    "cumsum": "counts above 2048 (bf16: 256) would not grow by 1 any more",
}
# Inputs that stay in float32 beside half ones.
FLOAT32_INPUTS: Final[dict[str, tuple[int, ...]]] = {
    "linear_w8a8": (1, 3),  # scales of int8: they multiply a whole int32 sum
    "rope": (2,),  # frequencies: position times frequency is an angle
    "cached_attention": (6,),  # frequencies
}
LEADING: Final = ELEMENTWISE | frozenset(
    ("reshape", "transpose", "expand", "slice", "select", "concat", "unbind", "split")
)


def half(program: Program, dtype: DType) -> Program:
    """`program` with every float32 in `dtype`, F16 or BF16. Same object where it has none. Raises UserError EDGEC-EA05
    for bf16 without ml_dtypes."""
    assert dtype.is_half
    limit = largest(dtype)
    if not any(t.dtype is DType.F32 for g in program.graphs for t in program.type_of(g).values()):
        return program
    state = {name: _half_state(s, dtype, limit) for name, s in program.state.items()}
    constants: dict[str, Constant] = {}
    graphs = []
    for graph in program.graphs:
        one = _Halving(program, graph, dtype, limit, Builder(graph.name, constants, state), constants)
        graphs.append(one.run())
    return simplify(Program(tuple(graphs), constants, state))


def largest(dtype: DType) -> float:
    """The largest finite number of a half type. Raises UserError EDGEC-EA05 for bf16 without ml_dtypes."""
    if dtype is DType.F16:
        return float(np.finfo(np.float16).max)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise UserError(
            "EDGEC-EA05", "run pip install 'edgec[bf16]': bf16 needs ml_dtypes, which is not installed"
        ) from None
    return float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]


def half_constant(constant: Constant, dtype: DType, limit: float) -> Constant:
    """`constant` in `dtype`, converted when it is read; its digest follows from the float one."""

    def load() -> Array:
        data = constant.data
        if data.size and max(float(data.max()), -float(data.min())) > limit:
            data = np.where(np.isinf(data), data, np.clip(data, -limit, limit))
        return data.astype(dtype.numpy)

    digest = hashlib.sha256(f"{dtype.value} of {constant.digest}".encode()).hexdigest()
    return Constant(replace(constant.type, dtype=dtype), load, digest)


def _half_state(state: State, dtype: DType, limit: float) -> State:
    if state.type.dtype is not DType.F32:
        return state
    return replace(
        state, type=replace(state.type, dtype=dtype), initial=half_constant(state.initial, dtype, limit)
    )


def _float_nodes(graph: Graph, types: Mapping[str, Type]) -> frozenset[int]:
    """Indices of the nodes that run in float32: those of `FLOAT32`, and the cheap ones whose results only they read."""
    leaving = frozenset(ends(graph))
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for ref in node.inputs:
            readers.setdefault(ref, []).append(index)
    found: set[int] = set()
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        floats = [v.name for v in node.outputs if v.type.dtype is DType.F32]
        read = {i for name in floats for i in readers.get(name, ())}
        leads = node.op in LEADING and bool(read) and read <= found and not leaving.intersection(floats)
        if node.op in FLOAT32 or leads:
            found.add(index)
    return frozenset(found)


@dataclass(slots=True)
class _Halving:
    """One graph on its way. `made`: the reference that holds an old one in a type."""

    program: Program
    graph: Graph
    dtype: DType
    limit: float
    builder: Builder
    constants: dict[str, Constant]
    made: dict[tuple[str, DType], str] = field(default_factory=dict)

    def run(self) -> Graph:
        old = self.program.type_of(self.graph)
        in_float = _float_nodes(self.graph, old)
        taken = {v.name for n in self.graph.nodes for v in n.outputs}
        self.builder.types.update((name, old[name]) for name in taken)  # so that a cast takes none of them
        inputs = tuple(Value(v.name, self._half(v.type)) for v in self.graph.inputs)
        self.builder.types.update((v.name, v.type) for v in inputs)
        for index, node in enumerate(self.graph.nodes):
            self._node(node, DType.F32 if index in in_float else self.dtype)
        renamed = {
            ref: self._as(ref, self.dtype)
            for ref in (*self.graph.outputs, *(r for _, r in self.graph.updates))
        }
        self.constants.update(self.builder.constants)
        changed = replace(self.graph, inputs=inputs, nodes=tuple(self.builder.nodes))
        return rename_ends(changed, renamed)

    def _half(self, t: Type) -> Type:
        return replace(t, dtype=self.dtype) if t.dtype is DType.F32 else t

    def _node(self, node: Node, dtype: DType) -> None:
        self.builder.loc = node.loc
        kept = FLOAT32_INPUTS.get(node.op, ())
        inputs = tuple(
            self._as(ref, DType.F32 if index in kept else dtype) for index, ref in enumerate(node.inputs)
        )
        attrs = node.attrs if dtype is DType.F32 else self._attrs(node.attrs)
        types = OPS[node.op].infer(attrs, tuple(self.builder.types[r] for r in inputs))
        outputs = tuple(
            v if v.type.quant is not None else Value(v.name, t)
            for v, t in zip(node.outputs, types, strict=True)
        )
        self.builder.copy(Node(node.op, inputs, outputs, attrs, node.loc), {})

    def _attrs(self, attrs: Attrs) -> Attrs:
        if getattr(attrs, "dtype", None) == DType.F32.value:  # of a cast, or of a product with a choice
            return replace(attrs, dtype=self.dtype.value)  # type: ignore[call-arg]
        if isinstance(attrs, (MaskedFillAttrs, PadAttrs)) and math.isfinite(attrs.value):
            return replace(attrs, value=min(max(attrs.value, -self.limit), self.limit))
        return attrs

    def _as(self, ref: str, dtype: DType) -> str:
        """The reference that holds `ref` in `dtype`; itself where it is neither float32 nor half."""
        if ref[0] == "@":
            return self._constant(ref, dtype)
        t = self.builder.types[ref]
        if t.dtype not in (DType.F32, self.dtype) or t.dtype is dtype:
            return ref
        if (ref, dtype) not in self.made:
            name = f"{ref.lstrip('$')}.{dtype.value}"
            self.made[ref, dtype] = self.builder.call("cast", ref, attrs=CastAttrs(dtype.value), name=name)
        return self.made[ref, dtype]

    def _constant(self, ref: str, dtype: DType) -> str:
        if (ref, dtype) not in self.made:
            constant = self.program.constants[ref[1:]]
            if constant.type.dtype is DType.F32 and dtype is not DType.F32:
                constant = half_constant(constant, dtype, self.limit)
            self.made[ref, dtype] = self._named(ref[1:], constant)
        return self.made[ref, dtype]

    def _named(self, name: str, constant: Constant) -> str:
        """`@name` of the constant, under its own name where no other has it."""
        known = self.builder.constants.get(name)
        if known is not None and (known.digest, known.type) != (constant.digest, constant.type):
            name = self.builder.fresh(name)
        self.builder.constants[name] = constant
        self.builder.types["@" + name] = constant.type
        return "@" + name
