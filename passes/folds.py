"""Channel scales of the inputs of linear layers, and where they fold exactly.

y = W x = (W diag(s)) (x / s). A Site is a set of linear layers that share x, with the constants that take the 1/s:
a norm's gain and bias, the rows of a layer before, v's rows through attention. `find_sites` looks for them by
`fold_rules`; `apply_scales` writes the scaled constants, lazily, so that no more than one is in memory at a time.
Sources of the idea: Xiao et al., "SmoothQuant", ICML 2023, equation 3; Lin et al., "AWQ", MLSys 2024, section 3.2.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgec.build import constant
from edgec.ir import Array, Constant, Graph, Loc, Node, Program, Type, uses
from edgec.match import Rewrite, consumers, ends, rewrite
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.passes.dead import remove_dead
from edgec.passes.fold_rules import CUTS, RULES, Labels, Merges, Move, NoFold

F64 = npt.NDArray[np.float64]
Unfoldable = Literal["mul", "skip"]
States = tuple[tuple[str, tuple[int, ...]], ...]  # a state that holds scaled values, and which: `_signature`


@dataclass(frozen=True, slots=True)
class Edit:
    """Constant `operand` of node `node` (its first output's name) is multiplied along `axis` by the factor of
    `channels` there; -1 leaves an index as it is."""

    node: str
    operand: int
    axis: int
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Linear layers of one graph that read `value` [..., C]. `edits` divide it where `why` is ""; else `why` says
    why no constants can. `others`: nodes read `value` too that are no such layers."""

    graph: str
    value: str
    layers: tuple[Node, ...]
    edits: tuple[Edit, ...]
    merges: Merges
    states: States
    why: str

    @property
    def weights(self) -> tuple[str, ...]:
        """References of the layers' weights, sorted."""
        return tuple(sorted(node.inputs[1] for node in self.layers))


@dataclass(frozen=True, slots=True)
class Site:
    """The same layers in every graph that has them. `why`: "" where 1/s folds exactly in all of them; `classes`:
    for each channel the lowest one that must have the same s."""

    groups: tuple[Group, ...]
    channels: int
    classes: tuple[int, ...]
    why: str

    @property
    def layers(self) -> tuple[Node, ...]:
        """The layers as the first graph has them."""
        return self.groups[0].layers

    @property
    def loc(self) -> Loc:
        """Of the first layer."""
        return self.layers[0].loc

    def group(self, graph: str) -> Group | None:
        """The site's layers in this graph."""
        return next((g for g in self.groups if g.graph == graph), None)

    def together(self, values: F64) -> F64:
        """[C]: the largest of `values` over the channels that share a factor."""
        top = np.full(self.channels, -np.inf)
        classes = np.asarray(self.classes)
        np.maximum.at(top, classes, values)
        return np.asarray(top[classes])


@dataclass(slots=True)
class _Found:
    """What one way back has collected."""

    edits: tuple[Edit, ...] = ()
    merges: Merges = ()
    states: States = ()

    def plus(self, other: _Found) -> _Found:
        return _Found(self.edits + other.edits, self.merges + other.merges, self.states + other.states)


@dataclass(slots=True)
class _Tracer:
    """Moves factors back through one graph."""

    program: Program
    graph: Graph
    types: Mapping[str, Type]
    makers: dict[str, tuple[Node, int]] = field(default_factory=dict)
    readers: dict[str, list[Node]] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    stored: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.makers = {v.name: (n, i) for n in self.graph.nodes for i, v in enumerate(n.outputs)}
        self.readers = consumers(self.graph)
        self.uses = Counter(uses(self.graph))
        self.stored = {ref: state for state, ref in self.graph.updates}

    def absorb(self, ref: str, labels: Labels, reader: Node | None, packed: bool = False) -> _Found:
        """What multiplies `ref` by the factors of `labels`; only `reader` may see the change. Raises NoFold."""
        if np.all(labels < 0):
            return _Found()
        if ref[0] == "@":
            return self._constant(ref, labels, reader)
        states = self._only(ref, labels, reader, packed) if reader is not None else ()
        if ref[0] == "$":
            return _Found(states=states)
        if ref not in self.makers:
            raise NoFold("the scaled value is an input of the network")
        node, index = self.makers[ref]
        rule = RULES.get(node.op)
        if rule is None:
            raise NoFold(f"{node.op} does not scale with its input")
        why = NoFold("")
        for move in rule(node, self.types, index, labels):
            try:
                return _Found(states=states).plus(self._follow(node, move))
            except NoFold as refused:
                why = refused
        raise why

    def _follow(self, node: Node, move: Move) -> _Found:
        found = _Found(merges=move.merges)
        for output, labels in move.also:
            ref = node.outputs[output].name
            if self.uses[ref] != (ref in self.stored):
                raise NoFold("the cache is read elsewhere, too")
            found = found.plus(_Found(states=self._state(ref, labels)))
        for need in move.needs:
            if need.constant:
                found = found.plus(self._parameter(node, need.operand, need.axis, need.labels))
            else:
                found = found.plus(self.absorb(node.inputs[need.operand], need.labels, node, move.packed))
        return found

    def _only(self, ref: str, labels: Labels, reader: Node, packed: bool) -> States:
        """Raise NoFold where anything but `reader` reads `ref`'s labelled elements; the states that hold scaled
        values from now on."""
        twice = not packed and sum(r == ref for r in reader.inputs) != 1
        if twice or ref in self.graph.outputs:
            raise NoFold("the scaled value is read elsewhere, too")
        for other in self.readers.get(ref, ()):
            if other is not reader and not (other.op in CUTS and _misses(other, labels)):
                raise NoFold("the scaled value is read elsewhere, too")
        return self._state(ref, labels)

    def _state(self, ref: str, labels: Labels) -> States:
        """The state that `ref` is, or that it becomes: they are one."""
        state = ref[1:] if ref[0] == "$" else self.stored.get(ref, "")
        if not state:
            return ()
        if np.any(self.program.state[state].initial.data):
            raise NoFold(f"the state {state} does not begin with zeros")
        return ((state, _signature(labels)),)

    def _constant(self, ref: str, labels: Labels, reader: Node | None) -> _Found:
        """A constant operand: an edit along its last axis."""
        assert reader is not None
        row = labels.reshape(-1, labels.shape[-1])[0] if labels.ndim else labels
        if not labels.ndim or not np.array_equal(labels, np.broadcast_to(row, labels.shape)):
            raise NoFold("a constant takes the factors along more than its last axis")
        operands = [i for i, r in enumerate(reader.inputs) if r == ref]
        if len(operands) != 1:
            raise NoFold("a constant stands twice in one node")
        return self._parameter(reader, operands[0], labels.ndim - 1, row)

    def _parameter(self, node: Node, operand: int, axis: int, row: Labels) -> _Found:
        ref = node.inputs[operand]
        if ref[0] != "@" or not self.types[ref].dtype.is_float:
            raise NoFold(f"operand {operand} of {node.op} is no float constant")
        if len(self.types[ref].dims) > 1 and self.uses[ref] > 1:
            raise NoFold("the weights of the layer before serve other layers, too")
        return _Found((Edit(node.outputs[0].name, operand, axis, tuple(int(c) for c in row)),))


def _misses(cut: Node, labels: Labels) -> bool:
    """Whether a slice reads no labelled element."""
    return bool(np.all(OPS[cut.op].ref(cut.attrs, (labels,))[0].astype(np.int64) < 0))


def _signature(labels: Labels) -> tuple[int, ...]:
    """Equal for equal labels, whatever the size of the axes along which they do not differ."""
    row = labels
    for axis in range(labels.ndim):
        first = np.take(row, [0], axis)
        row = first if np.array_equal(row, np.broadcast_to(first, row.shape)) else row
    return (*row.shape, *(int(c) for c in row.ravel()))


def find_sites(program: Program) -> tuple[Site, ...]:
    """The sites of all graphs, in the order of their first layers. Layers whose weights serve several layers of a
    graph belong to none."""
    groups = [g for graph in program.graphs for g in _groups(program, graph)]
    by_weights: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        by_weights.setdefault(group.weights, []).append(group)
    owners = Counter(w for weights in by_weights for w in weights)
    everywhere = [Counter(n.inputs[1] for n in graph.nodes if n.op == "linear") for graph in program.graphs]
    found = []
    for weights, same in by_weights.items():
        alone = all(owners[w] == 1 and all(count[w] <= 1 for count in everywhere) for w in weights)
        users = sum(any(count[w] for w in weights) for count in everywhere)
        if alone and users == len(same):
            found.append(_site(program, tuple(same)))
    return _consistent_states(program, tuple(found))


def _groups(program: Program, graph: Graph) -> list[Group]:
    types = program.type_of(graph)
    tracer = _Tracer(program, graph, types)
    leaving, found = set(ends(graph)), []
    for ref, readers in tracer.readers.items():
        layers = tuple(n for n in readers if _scalable(n, ref, types))
        if not layers or ref[0] in "@$":
            continue
        why, way = "", _Found()
        if len(layers) < len(readers) or ref in leaving:
            why = "other nodes read the layer's input, too"
        else:
            labels = np.broadcast_to(np.arange(types[ref].dims[-1]), types[ref].dims)
            try:
                way = tracer.absorb(ref, labels, None)
            except NoFold as refused:
                why = str(refused)
        found.append(Group(graph.name, ref, layers, way.edits, way.merges, way.states, why))
    return found


def _scalable(node: Node, ref: str, types: Mapping[str, Type]) -> bool:
    """Whether `node` is a linear layer whose columns can be scaled for its input `ref`."""
    if node.op != "linear" or node.inputs[0] != ref or node.inputs[1][0] != "@":
        return False
    return types[node.inputs[1]].dtype.is_float and types[ref].dtype.is_float


def _site(program: Program, groups: tuple[Group, ...]) -> Site:
    types = program.type_of(program.graph(groups[0].graph))
    channels = types[groups[0].value].dims[-1]
    parent = list(range(channels))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for a, b in (pair for group in groups for pair in group.merges):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    classes = tuple(root(i) for i in range(channels))
    why = next((g.why for g in groups if g.why), "")
    edited = [tuple(_touched(program, g)) for g in groups]
    if not why and any(e != edited[0] for e in edited):
        why = "the graphs of the program differ before these layers"
    return Site(groups, channels, classes, why)


def _touched(program: Program, group: Group) -> list[tuple[str, int, tuple[int, ...]]]:
    """(constant, axis, channels) of each edit."""
    nodes = {n.outputs[0].name: n for n in program.graph(group.graph).nodes}
    return [(nodes[e.node].inputs[e.operand], e.axis, e.channels) for e in group.edits]


def _consistent_states(program: Program, sites: tuple[Site, ...]) -> tuple[Site, ...]:
    """A state that holds scaled values must do so in every graph that reads or writes it."""
    checked = []
    for site in sites:
        why = site.why
        for state in {name for g in site.groups for name, _ in g.states}:
            holders = {
                g.name
                for g in program.graphs
                if "$" + state in set(uses(g)) or state in (name for name, _ in g.updates)
            }
            found = {(g.graph, sign) for g in site.groups for name, sign in g.states if name == state}
            complete = {graph for graph, _ in found} == holders and len({sign for _, sign in found}) == 1
            for group in site.groups:
                graph = program.graph(group.graph)
                seen = [name for name, _ in group.states].count(state)
                ways = ("$" + state in set(uses(graph))) + (state in (name for name, _ in graph.updates))
                complete = complete and seen == ways
            if not complete:
                why = why or f"the state {state} is used elsewhere, too"
        checked.append(Site(site.groups, site.channels, site.classes, why))
    return tuple(checked)


def scaled(old: Constant, factors: Sequence[tuple[int, F64]]) -> Constant:
    """`old` multiplied along each axis by its factors, computed when it is read."""
    digest = hashlib.sha256(old.digest.encode())
    for axis, values in factors:
        digest.update(f"scaled {axis}".encode() + values.tobytes())

    def load() -> Array:
        data = old.data.astype(np.float64)
        for axis, values in factors:
            data *= values.reshape(-1, *[1] * (data.ndim - 1 - axis))
        return data.astype(old.type.dtype.numpy)

    return Constant(old.type, load, digest.hexdigest())


def apply_scales(
    program: Program, scales: Sequence[tuple[Site, F64]], unfoldable: Unfoldable = "skip"
) -> Program:
    """`program` with the inputs of each site divided by its scales s[C] > 0 and the weights' columns multiplied.

    Where a site does not fold, `unfoldable` says whether its input is divided by a node of its own ("mul") or the
    site stays as it is.
    """
    edits: dict[tuple[str, str, int], list[tuple[int, F64]]] = {}
    divided: dict[tuple[str, str], F64] = {}
    for site, s in scales:
        assert s.shape == (site.channels,) and np.all(s > 0) and np.all(np.isfinite(s))
        if site.why and unfoldable == "skip":
            continue
        for group in site.groups:
            for node in group.layers:
                key = (group.graph, node.outputs[0].name, 1)
                edits.setdefault(key, []).append((1, s))
                if site.why:
                    divided[key[:2]] = 1.0 / s
            for edit in () if site.why else group.edits:
                channels = np.asarray(edit.channels)
                factors = np.where(channels < 0, 1.0, 1.0 / s[channels])
                edits.setdefault((group.graph, edit.node, edit.operand), []).append((edit.axis, factors))
    if not edits:
        return program

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        graph, name = at.builder.name, node.outputs[0].name
        inputs = list(node.inputs)
        for i, ref in enumerate(node.inputs):
            if (graph, name, i) in edits:
                new = scaled(at.builder.constants[ref[1:]], edits[graph, name, i])
                inputs[i] = at.builder.constant(new, ref[1:])
        if (graph, name) in divided:
            inputs[0] = _divide(at, node, divided[graph, name])
        if inputs == list(node.inputs):
            return None
        return (at.remake(node, inputs=tuple(inputs)),)

    return remove_dead(rewrite(program, visit))


def _divide(at: Rewrite, node: Node, factors: F64) -> str:
    """The input of `node` times `factors`: one node for all layers of the site."""
    x = node.inputs[0]
    key = ("divided", x, factors.tobytes())
    if key not in at.memo:
        factor = at.builder.constant(constant(factors.astype(at.type(x).dtype.numpy)), x + ".smooth")
        at.memo[key] = (
            at.builder.call("mul", x, factor, attrs=BinaryAttrs(), name=at.builder.fresh(x + ".smoothed")),
        )
    return at.memo[key][0]
