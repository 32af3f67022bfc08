"""choose_kernels: the lowering. Every node becomes calls of the best kernel that accepts it, or a view.

The Plan that comes out has buffers and lifetimes but no offsets, no in-place results and no streams: `stream`
and `memory` follow. A graph's inputs may be overwritten once their last reader has run, so the user writes
them before each call. A kernel with row ranges takes one image a call: batches are unrolled here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgec.errors import TargetError
from edgec.ir import Array, Graph, Node, Persistence, Program, Type, Value
from edgec.ops import OPS
from edgec.ops.define import QuantRule
from edgec.passes.lifetimes import root_of, with_lifetimes
from edgec.passes.views import views
from edgec.plan import (
    ROW_BY_ROW,
    Argument,
    Buffer,
    BufferArg,
    Call,
    ConstantArg,
    Entry,
    Halo,
    Kernel,
    Launch,
    NodeView,
    Packed,
    Plan,
    PlanConstant,
    PlanPort,
    PlanState,
    Target,
    Use,
)
from edgec.spill import Contents, spilled
from edgec.text import show_type

COUNTERS: Final = "counters"  # one buffer for all kernels: they run one after the other and leave it zero
_VIEW_ALIGN: Final = 16  # of CUDA kernels' vector loads

_BOUNDED: Final = (
    "; a size known only at run time (name<=max) runs in float pointwise ops, along the outermost axis alone"
)


def choose_kernels(program: Program, target: Target, kernels: Sequence[Kernel], name: str = "model") -> Plan:
    """The Program as calls on `target`. Raises TargetError EDGEC-E402 naming every node without a kernel."""
    table = _Table(target, kernels)
    pool = _Pool()
    contents = Contents(program.constants)
    states = _states(program, target)
    entries: list[Entry] = []
    buffers: list[Buffer] = list(states.values())
    refused: list[Node] = []
    for graph in program.graphs:
        lowering = _Lowering(_Shared(program, contents, table, pool, states), graph)
        for node in graph.nodes:
            lowering.node(node)
        refused += lowering.refused
        if not refused:
            entry = lowering.entry()
            entries.append(entry)
            buffers += with_lifetimes(entry, lowering.buffers)
    if refused:
        raise _unsupported(refused, program, target)
    initial = tuple(
        PlanState(b.name, program.state[s].initial.data, program.state[s].persistence)
        for s, b in states.items()
    )
    if pool.counter_bytes:
        zeros = np.zeros(pool.counter_bytes // 4, np.int32)
        buffers.append(Buffer(COUNTERS, zeros.nbytes, alignment(target), Use.STATE, "", -1, -1))
        initial = (*initial, PlanState(COUNTERS, zeros, Persistence.KEPT))
    return Plan(name, tuple(entries), tuple(buffers), tuple(pool.constants.values()), initial)


def _unsupported(refused: Sequence[Node], program: Program, target: Target) -> TargetError:
    types: dict[str, Type] = {}
    for graph in program.graphs:
        types.update(program.type_of(graph))
    lines = []
    for node in refused:
        shown = ", ".join(show_type(replace(types[r], quant=None)) for r in node.inputs)
        lines.append(f"  {node.op}({shown}) at {node.loc}")
    return TargetError(
        "EDGEC-E402",
        "replace these layers, or compile with --precision fp32 or for another target: "
        f"{target.name} has no kernel for {len(lines)} node{'s' * (len(lines) > 1)} (see `edgec ops`)"
        + (_BOUNDED if any(types[r].bounds for n in refused for r in n.inputs) else "")
        + "\n"
        + "\n".join(lines),
    )


def alignment(target: Target) -> int:
    """Alignment of every buffer: the strictest of the target's RAMs."""
    return max((m.align for m in target.rams), default=16)


def _states(program: Program, target: Target) -> dict[str, Buffer]:
    """The buffer of each state, by the state's name."""
    taken = {v for g in program.graphs for v in program.type_of(g)}
    out: dict[str, Buffer] = {}
    for name, state in program.state.items():
        buffer = f"state.{name}"
        while buffer in taken:
            buffer += "_"
        taken.add(buffer)
        out[name] = Buffer(buffer, state.type.bytes, alignment(target), Use.STATE, "", -1, -1)
    return out


@dataclass(frozen=True, slots=True)
class _Choice:
    """A kernel and the node as it sees it: one view an image where it takes row ranges, else one."""

    kernel: Kernel
    images: tuple[NodeView, ...]


class _Table:
    """The kernels of a target by op, best first."""

    def __init__(self, target: Target, kernels: Sequence[Kernel]) -> None:
        self.target = target
        self.by_op: dict[str, list[Kernel]] = {}
        for kernel in sorted(kernels, key=lambda k: (k.rank, k.symbol)):
            self.by_op.setdefault(kernel.op, []).append(kernel)

    def choose(self, view: NodeView) -> _Choice | None:
        bounded = any(t.bounds for t in (*view.inputs, *view.outputs))
        if self.target.family == "cuda" and any(t.size == 0 for t in (*view.inputs, *view.outputs)):
            return None  # a grid has at least one block
        for kernel in self.by_op.get(view.node.op, ()):
            if bounded and not kernel.bounded:
                continue
            images = _images(view) if kernel.halo is not None else (view,)
            if kernel.accepts(images[0], self.target):
                return _Choice(kernel, images)
        return None


def _images(view: NodeView) -> tuple[NodeView, ...]:
    """The node for each image of the batch; itself where the batch is 1 or there is none."""
    count = view.outputs[0].dims[0] if len(view.outputs[0].shape) == 4 else 1
    if count == 1:
        return (view,)
    batched = batched_inputs(view)
    inputs = tuple(_one(t) if i in batched else t for i, t in enumerate(view.inputs))
    outputs = tuple(_one(t) for t in view.outputs)
    return tuple(
        NodeView(
            view.node,
            inputs,
            outputs,
            tuple(
                c[n : n + 1] if c is not None and i in batched else c for i, c in enumerate(view.constants)
            ),
        )
        for n in range(count)
    )


def row_for_row(view: NodeView, index: int, halo: Halo | None) -> bool:
    """Whether an output row stands where the input row of its number stood, so that a kernel that has read its
    window's rows by then may write it there."""
    if halo is None or halo == ROW_BY_ROW:
        return True
    same = view.inputs[index].dims == view.outputs[0].dims
    return same and halo.stride == 1 and halo.pad < halo.kernel


def batched_inputs(view: NodeView) -> tuple[int, ...]:
    """Inputs that hold one piece an image: activations with the output's batch axis, no weights."""
    rule = OPS[view.node.op].quant
    count = view.outputs[0].dims[0]
    return tuple(
        i
        for i, t in enumerate(view.inputs)
        if len(t.shape) == 4
        and t.dims[0] == count
        and not (isinstance(rule, QuantRule) and rule.role(i) in ("weight", "bias", "parameter"))
    )


def _one(t: Type) -> Type:
    return Type((1, *t.shape[1:]), t.dtype, t.quant)


class _Pool:
    """Constants of the Plan; equal content under one layout is stored once, large content in a file."""

    def __init__(self) -> None:
        self.constants: dict[str, PlanConstant] = {}
        self._known: dict[tuple[str, str, bytes], str] = {}
        self._mapped: dict[tuple[str, int], str] = {}  # what was hashed already, by the array's identity
        self.counter_bytes = 0

    def count(self, size: int) -> BufferArg:
        """The counters, of at least `size` bytes."""
        self.counter_bytes = max(self.counter_bytes, size)
        return BufferArg(COUNTERS)

    def add(self, stem: str, layout: str, data: Array) -> ConstantArg:
        again = self._mapped.get((layout, id(data)))
        if again is not None and self.constants[again].data is data:
            return ConstantArg(again)
        content = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        key = (layout, data.dtype.str, hashlib.sha256(content.data).digest())
        if key not in self._known:
            name, serial = stem, 0
            while name in self.constants:
                serial += 1
                name = f"{stem}_{serial}"
            held = spilled(data)
            self.constants[name] = PlanConstant(name, layout, held)
            self._known[key] = self._mapped[layout, id(held)] = name
        return ConstantArg(self._known[key])


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the graphs of a Program have in common; `states`: their buffers by name."""

    program: Program
    contents: Contents
    table: _Table
    pool: _Pool
    states: dict[str, Buffer]


class _Lowering:
    """Lowers one graph. `where` maps each value to its buffer, which has the value's name, with the graph's
    as prefix where there are several graphs."""

    def __init__(self, shared: _Shared, graph: Graph) -> None:
        self.program, self.table, self.pool = shared.program, shared.table, shared.pool
        self.contents = shared.contents
        self.states, self.graph = shared.states, graph
        self.prefix = f"{graph.name}." if len(self.program.graphs) > 1 else ""
        self.align = alignment(self.table.target)
        self.types = self.program.type_of(graph)
        self.calls: list[Call] = []
        self.refused: list[Node] = []
        self.buffers: dict[str, Buffer] = {}
        self.where: dict[str, str] = {}
        self.copied: dict[str, str] = {}  # outputs that no item computes
        for name, buffer in shared.states.items():
            self.where["$" + name] = buffer.name
            self.buffers[buffer.name] = buffer
        for value in graph.inputs:
            self.new(value.name, value.type.bytes, Use.INPUT)

    def new(self, ref: str, size: int, use: Use) -> str:
        """A buffer for the value `ref`; its name is the value's, unless a state or another buffer has it."""
        name = self.prefix + ref
        while name in self.buffers:
            name += "_"
        self.buffers[name] = Buffer(name, size, self.align, use, self.graph.name, 0, 0)
        self.where[ref] = name
        return name

    def alias(self, value: Value, source: Buffer, at: int) -> None:
        """A buffer for `value` that lies in `source`, from byte `at` on."""
        name = self.new(value.name, value.type.bytes, Use.ACTIVATION)
        self.buffers[name] = replace(self.buffers[name], align=1, inside=root_of(source), at=source.at + at)

    def may_view(self, ref: str, at: int) -> bool:
        """Whether kernels may read from byte `at` of `ref`: of no constant, and on CUDA at whole vectors."""
        if ref[0] == "@":
            return False
        start = self.buffers[self.where[ref]].at + at
        return self.table.target.family != "cuda" or start % _VIEW_ALIGN == 0

    def node(self, node: Node) -> None:
        types = tuple(self.types[r] for r in node.inputs)
        found = views(node, types)
        if found is not None and all(self.may_view(node.inputs[v.index], v.at) for v in found):
            for value, view in zip(node.outputs, found, strict=True):
                source = self.buffers[self.where[node.inputs[view.index]]]
                self.alias(value, source, view.at)
            return
        data = tuple(self.contents[r[1:]] if r[0] == "@" else None for r in node.inputs)
        whole = NodeView(node, types, tuple(v.type for v in node.outputs), data)
        choice = self.table.choose(whole)
        for value in node.outputs:
            self.new(value.name, value.type.bytes, Use.ACTIVATION)
        if choice is None:
            self.refused.append(node)
            return
        for n in range(len(choice.images)):
            self.calls.append(self.call(choice, n, whole))

    def call(self, choice: _Choice, n: int, whole: NodeView) -> Call:
        """The call for image `n`."""
        kernel, view, node, target = choice.kernel, choice.images[n], whole.node, self.table.target
        launch = kernel.launch(view, target)
        name = node.outputs[0].name + (f".n{n}" if len(choice.images) > 1 else "")
        halo = kernel.halo(view) if kernel.halo is not None else None
        return Call(
            kernel=kernel,
            name=name,
            struct=launch.struct,
            params=launch.fields,
            inputs=tuple(self.argument(whole, view, i, n) for i in launch.inputs),
            constants=tuple(self.packed(node, c) for c in launch.constants),
            outputs=tuple(
                BufferArg(self.where[v.name], n * t.bytes)
                for v, t in zip(node.outputs, view.outputs, strict=True)
            ),
            scratch=self.scratch(kernel, view, name),
            grids=launch.grids,
            counters=None if kernel.counters is None else self.pool.count(kernel.counters(view, target)),
            count=self.count(view),
            rows=_rows(launch, view, halo),
            halo=halo,
            macs=OPS[node.op].cost(node.attrs, view.inputs, view.outputs).macs,
            op=node.op,
            loc=node.loc,
            in_types=view.inputs,
            out_types=view.outputs,
            in_place=tuple(
                p for p, i in enumerate(launch.inputs) if i in kernel.in_place and row_for_row(view, i, halo)
            ),
            renews=tuple((o, launch.inputs.index(i)) for o, i in kernel.renews),
        )

    def argument(self, whole: NodeView, view: NodeView, index: int, image: int) -> Argument:
        ref, data = whole.node.inputs[index], view.constants[index]
        if data is not None:
            return self.pool.add(ref[1:], "plain", data)
        batched = view is not whole and index in batched_inputs(whole)
        return BufferArg(self.where[ref], image * view.inputs[index].bytes if batched else 0)

    def count(self, view: NodeView) -> BufferArg | None:
        """Where the size of the outputs' Bound stands."""
        bounds = view.outputs[0].bounds
        return BufferArg(self.where[bounds[0].name]) if bounds else None

    def packed(self, node: Node, constant: Packed) -> ConstantArg:
        return self.pool.add(
            f"{self.prefix}{node.outputs[0].name}.{constant.name}", constant.layout, constant.data
        )

    def scratch(self, kernel: Kernel, view: NodeView, name: str) -> BufferArg | None:
        if kernel.scratch is None:
            return None
        return BufferArg(self.new(f"{name}.scratch", kernel.scratch(view, self.table.target), Use.SCRATCH))

    def entry(self) -> Entry:
        """The finished entry: ports, and the copies that its updates and computed-by-nothing outputs need."""
        copies: list[tuple[str, str, int]] = []
        outputs = tuple(
            PlanPort(port, self.types[ref], self.output(ref, copies))
            for ref, port in zip(self.graph.outputs, self.graph.output_ports, strict=True)
        )
        inputs = tuple(
            PlanPort(port, self.types[port.ref], self.where[port.ref]) for port in self.graph.input_ports
        )
        copies += self.updates()
        return Entry(self.graph.name, inputs, outputs, tuple(self.calls), tuple(copies))

    def output(self, ref: str, copies: list[tuple[str, str, int]]) -> str:
        """The buffer of an output. A constant, and a state that this graph updates, are copied out."""
        size = self.types[ref].bytes
        if ref[0] != "@":
            buffer = self.buffers[self.where[ref]]
            root = self.buffers[root_of(buffer)]
            updated = {self.states[s].name for s, _ in self.graph.updates}
            if root.name not in updated:
                if buffer.use is Use.ACTIVATION:
                    self.buffers[buffer.name] = replace(buffer, use=Use.OUTPUT)
                return buffer.name
            source = buffer.name
        else:
            source = "@" + self.pool.add(ref[1:], "plain", self.contents[ref[1:]]).constant
        if ref not in self.copied:
            self.copied[ref] = self.new("out." + ref.lstrip("@$"), size, Use.OUTPUT)
            copies.append((self.copied[ref], source, size))
        return self.copied[ref]

    def updates(self) -> list[tuple[str, str, int]]:
        """Copies (state, source, bytes). Sources in a state are saved first: updates are parallel."""
        saves: list[tuple[str, str, int]] = []
        copies: list[tuple[str, str, int]] = []
        for state, ref in self.graph.updates:
            to, size = self.states[state].name, self.types[ref].bytes
            if ref[0] == "@":
                data = self.contents[ref[1:]]
                copies.append((to, "@" + self.pool.add(ref[1:], "plain", data).constant, size))
                continue
            source = self.where[ref]
            if source == to:
                continue
            if self.buffers[root_of(self.buffers[source])].use is Use.STATE:
                saved = self.new(f"{state}.next", size, Use.ACTIVATION)
                saves.append((saved, source, size))
                source = saved
            copies.append((to, source, size))
        return saves + copies


def _rows(launch: Launch, view: NodeView, halo: Halo | None) -> int:
    """Rows of output that a call computes: as many as its whole output map has; 0 without row ranges."""
    if halo is None:
        return 0
    fields = dict(launch.fields)
    if "ring_y" in fields:
        return int(fields["ring_y"])
    return view.outputs[0].dims[1] if len(view.outputs[0].shape) == 4 else 1
