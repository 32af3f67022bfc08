"""Layout: transposes sink through the graph until they meet their inverse, a port, or an op that needs its
own order.

A transpose is not computed where it stands but remembered: each old value is a view of a new one. Ops that
can work in any order of axes take the view's order (`layout_rules`); for the others the view is made real,
once. At the graph's boundary it goes into `Port.axes`, and before a linear layer into its weights. Exact:
only positions change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from edgec.build import Builder
from edgec.ir import Array, Attrs, Constant, Graph, Node, Port, Program, Type, Value
from edgec.match import bound_names, consumers
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.layout_rules import ELEMENTWISE, RULES, Flat, View, identity, inverse, unit_moves


def layout(program: Program) -> Program:
    """`program` with as few transposes as its ops allow. Same object where none could go."""
    constants = program.constants
    graphs = []
    for graph in program.graphs:
        if any(n.op in ("transpose", "reshape") for n in graph.nodes):  # a reshape may move axes of size 1
            sinking = Sinking(program, graph, Builder(graph.name, constants, program.state))
            changed = sinking.run()
            if changed != graph:
                graph, constants = changed, sinking.builder.constants
        graphs.append(graph)
    if all(a is b for a, b in zip(graphs, program.graphs, strict=True)):
        return program
    return remove_dead(Program(tuple(graphs), constants, program.state))


# Ops through which the search for an input's wanted order looks.
FOLLOWED: Final = ELEMENTWISE | {"pad", "concat", "slice", "split", "roll", "resize"}


@dataclass(slots=True)
class Sinking:
    """One graph on its way. `views`: what each old value is in terms of new ones."""

    program: Program
    graph: Graph
    builder: Builder
    views: dict[str, View | Flat] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    made: dict[View | Flat, str] = field(default_factory=dict)

    def run(self) -> Graph:
        self.types = self.program.type_of(self.graph)
        self.builder.types.update(self.types)  # the names of later nodes are taken
        fixed = bound_names(self.graph)
        ports = self._inputs()
        for node in self.graph.nodes:
            self.builder.loc = node.loc
            for value in node.outputs:
                del self.builder.types[value.name]
            rule = RULES.get(node.op)
            bounded = any(v.name in fixed or v.type.bounds for v in node.outputs)
            bounded = bounded or any(self.types[r].bounds for r in node.inputs)
            done = None if rule is None or bounded else rule(self, node)
            if done is None:
                self.builder.copy(node, {r: self.real(r) for r in node.inputs})
                done = tuple(View(v.name, identity(len(v.type.shape))) for v in node.outputs)
            self.views.update((v.name, view) for v, view in zip(node.outputs, done, strict=True))
        return self._finish(ports)

    def view(self, ref: str) -> View | Flat:
        """What `ref` is; constants and states are themselves."""
        if ref not in self.views:
            self.views[ref] = View(ref, identity(len(self.types[ref].shape)))
        return self.views[ref]

    def real(self, ref: str) -> str:
        """`ref` in its old order of axes, computed where it is not so already."""
        return self.realise(self.view(ref), self.types[ref], ref)

    def realise(self, view: View | Flat, old: Type, name: str) -> str:
        """The reference of type `old` that equals `view`."""
        if isinstance(view, View) and view.perm == identity(len(view.perm)):
            return view.ref
        if view not in self.made:
            if isinstance(view, Flat):
                whole = self.reshape(view.ref, view.dims, name + ".map")
                moved = self.transpose(whole, view.perm, name + ".order")
                self.made[view] = self.reshape(moved, old.dims, name)
            else:
                self.made[view] = self.transpose(view.ref, view.perm, name)
        return self.made[view]

    def data(self, ref: str) -> Array | None:
        """Content of a constant, None for all else."""
        return self.builder.constants[ref[1:]].data if ref[0] == "@" else None

    def type(self, new: str) -> Type:
        """Type of a new reference."""
        return self.builder.types[new]

    def transpose(self, new: str, perm: tuple[int, ...], name: str) -> str:
        """`new` with its axes moved: as data where it is constant, as a reshape where only axes of size 1
        move."""
        data, t = self.data(new), self.type(new)
        if perm == identity(len(perm)):
            return new
        if data is not None:
            return self.builder.constant(np.ascontiguousarray(data.transpose(perm)), new[1:], t.quant)
        moved = [p for p in perm if t.dims[p] != 1]
        if moved == sorted(moved) and not t.bounds:
            return self.reshape(new, tuple(t.dims[p] for p in perm), name)
        return self.builder.call("transpose", new, attrs=TransposeAttrs(perm), name=name)

    def reshape(self, new: str, shape: tuple[int, ...], name: str) -> str:
        """`new` in another shape; itself where it has it."""
        data, t = self.data(new), self.type(new)
        if t.shape == shape:
            return new
        if data is not None:
            return self.builder.constant(data.reshape(shape), new[1:], t.quant)
        return self.builder.call("reshape", new, attrs=ReshapeAttrs(shape), name=name)

    def emit(self, node: Node, inputs: Iterable[str], attrs: Attrs | None = None) -> tuple[str, ...]:
        """The node's op on new references."""
        made = node.attrs if attrs is None else attrs
        quants = [v.type.quant for v in node.outputs]
        name = node.outputs[0].name
        return self.builder.node(node.op, tuple(inputs), made, name=name, loc=node.loc, quants=quants)

    def constant(self, data: Array | Constant, stem: str) -> str:
        return self.builder.constant(data, stem)

    def _inputs(self) -> tuple[Port, ...]:
        """Graph inputs in the order that their first transpose wants; their ports."""
        ports = []
        for index, value in enumerate(self.graph.inputs):
            port = self.graph.input_ports[index] if self.graph.input_ports else None
            perm = self._wanted(value) if port is not None else None
            t, axes = value.type, port.axes if port is not None else ()
            if perm is not None:
                t = replace(t, shape=tuple(t.shape[p] for p in perm))
                axes = tuple(axes[p] for p in perm)
            self.builder.inputs.append(Value(value.name, t))
            self.builder.types[value.name] = t
            self.views[value.name] = View(
                value.name, inverse(perm) if perm is not None else identity(len(t.shape))
            )
            if port is not None:
                ports.append(Port(port.ref, port.label, axes))
        return tuple(ports)

    def _wanted(self, value: Value) -> tuple[int, ...] | None:
        """The first transpose that `value` meets behind ops which keep or ignore the order of axes."""
        if value.type.bounds:
            return None
        readers = consumers(self.graph)
        seen, queue = {value.name}, [value.name]
        while queue:
            for node in readers.get(queue.pop(0), []):
                if isinstance(node.attrs, TransposeAttrs):
                    return node.attrs.perm
                if isinstance(node.attrs, ReshapeAttrs):
                    perm = unit_moves(self.types[node.inputs[0]].dims, node.outputs[0].type.dims)
                    if perm is not None:
                        return perm
                ahead = [v.name for v in node.outputs if len(v.type.shape) == len(value.type.shape)]
                if node.op in FOLLOWED:
                    queue += [n for n in ahead if n not in seen]
                    seen.update(ahead)
        return None

    def _finish(self, input_ports: tuple[Port, ...]) -> Graph:
        g = self.graph
        outputs: list[str] = []
        ports: list[Port] = []
        computed = {v.name for n in self.builder.nodes for v in n.outputs}
        for index, ref in enumerate(g.outputs):
            port = g.output_ports[index] if g.output_ports else None
            view = self.view(ref)
            movable = isinstance(view, View) and view.ref in computed and view.ref not in outputs
            if port is not None and movable:
                assert isinstance(view, View)
                new, axes = view.ref, tuple(port.axes[i] for i in inverse(view.perm))
            else:
                new, axes = self.real(ref), port.axes if port is not None else ()
            outputs.append(new)
            if port is not None:
                ports.append(Port(new, port.label, axes))
        updates = tuple((s, self.real(r)) for s, r in g.updates)  # may still append nodes
        return Graph(
            g.name,
            tuple(self.builder.inputs),
            tuple(self.builder.nodes),
            tuple(outputs),
            updates,
            input_ports,
            tuple(ports),
        )
