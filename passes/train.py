"""train: the Program that infers becomes one that also learns: graphs `infer`, `train_step` and `evaluate`.

Parameters that train are states, which all graphs share; the rest stay constants. A slice of a weight stands as
state beside the whole constant and is copied over it before use, so that the factory weights stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from edgec.build import Builder, constant
from edgec.errors import UserError
from edgec.ir import Array, DType, Graph, Node, Persistence, Program, Quant, Type
from edgec.ops.binary import BinaryAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.loss import KlLogitsAttrs
from edgec.ops.optimizer import AdamAttrs, SgdAttrs, SgdMomentumAttrs
from edgec.ops.shape import ExpandAttrs, ReshapeAttrs
from edgec.ops.softmax import LogSoftmaxAttrs, SoftmaxAttrs
from edgec.passes.autodiff import Gradient, IntegerRules, Walk, gradients
from edgec.passes.dead import remove_dead
from edgec.passes.fold import fold_views
from edgec.passes.fuse_updates import fuse_updates
from edgec.passes.sliced_layer import Slice, Sliced, append
from edgec.passes.train_order import train_order
from edgec.passes.trainables import PARAMETERS, SLICED, Trainable, is_depthwise, layers_of, trainables
from edgec.training.options import (
    APPLY,
    CORRECT,
    EVALUATE,
    LABEL,
    LEARNING_RATE,
    LOSS,
    PENDING,
    STEP,
    TRAIN_STEP,
    Loss,
    TrainSpec,
)

_SAVED, _KEPT = Persistence.SAVED, Persistence.KEPT
_LOSS_OPS: Final = {"mse": "mse", "bce": "bce_logits", "kl": "kl_logits"}


@dataclass(frozen=True, slots=True)
class Operand:
    """A trained operand: its state; for a slice also the whole constant, the indices of the slice in it (a constant)
    and their axis."""

    state: str
    whole: str | None = None
    index: str | None = None
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """What updates go by: the rate [1], the share [1] of a step's gradient in a sum (both 0 where the loss is not
    finite) and the step's number i32[1]."""

    spec: TrainSpec
    rate: str
    share: str
    number: str


@dataclass(frozen=True, slots=True)
class Integers:
    """How quantised layers train. `forward(builder, node, operands by position, backward)` appends a quantised node
    with these operands trained (or none), keeping its output's name (`backward`: the graph is a training step);
    `rules`: of the reverse walk over what it appended. What they make of a quantised state is not its gradient but its
    next content, or that of its sum where gradients are accumulated. `rows`: (name, initial content, persistence) of
    the states beside a quantised one; `apply` appends the step of an operand along its sum."""

    forward: Callable[[Builder, Node, Mapping[int, Operand], bool], None]
    rules: Callable[[Builder, Pace], IntegerRules]
    rows: Callable[[Type, TrainSpec], Sequence[tuple[str, Array, Persistence]]]
    apply: Callable[[Builder, Operand, Pace], None]


@dataclass(frozen=True, slots=True)
class Learning:
    """A Program on its way: `operands` by (value of the node, position), `adapters`: (state of A, state of B) by the
    linear node's value."""

    spec: TrainSpec
    graph: Graph
    shared: Builder
    operands: Mapping[tuple[str, int], Operand]
    adapters: Mapping[str, tuple[str, str]]
    integers: Integers | None

    @property
    def states(self) -> tuple[str, ...]:
        """References of all parameters that train, in order, each once."""
        own = [o.state for o in self.operands.values()] + [s for pair in self.adapters.values() for s in pair]
        return tuple(dict.fromkeys(own))


def train(program: Program, spec: TrainSpec, integers: Integers | None = None) -> Program:
    """`program` with the graphs that learn; the same object in mode none. Raises UserError EDGEC-E248 where the model
    cannot learn, E249 where the scheme does not fit it, E403 where an op on the way has no gradient."""
    if spec.mode == "none":
        return program
    if len(program.graphs) != 1 or program.graphs[0].name != "infer":
        raise UserError(
            "EDGEC-E248",
            "compile without --train: a model with several entries "
            f"({', '.join(g.name for g in program.graphs)}) does not learn on the device",
        )
    learning = _learning(program, spec, integers)
    graphs = [_infer(learning), _train_step(learning), _evaluate(learning)]
    if spec.accumulate > 1:
        graphs.append(_apply(learning))
    shared = learning.shared
    trained = Program(tuple(graphs), shared.constants, shared.state)
    return train_order(fuse_updates(fold_views(remove_dead(trained))))


def _learning(program: Program, spec: TrainSpec, integers: Integers | None) -> Learning:
    graph = program.graphs[0]
    _refuse_float_head(program, graph, spec)
    shared = Builder("shared", program.constants, program.state)
    shared.types.update(program.type_of(graph))
    operands: dict[tuple[str, int], Operand] = {}
    adapters: dict[str, tuple[str, str]] = {}
    if spec.mode == "lora":
        adapters = _adapters(shared, graph, spec)
    else:
        operands = _operands(program, graph, shared, trainables(program, graph, spec))
    _add_state(shared, LEARNING_RATE, np.array([spec.rate], np.float32), _SAVED)
    _add_state(shared, STEP, np.zeros(1, np.int32), _SAVED)
    learning = Learning(spec, graph, shared, operands, adapters, integers)
    _refuse_integers(learning)
    for ref in learning.states:
        if shared.types[ref].quant is None:
            for name in _rows(spec):
                _add_state(shared, f"{ref[1:]}.{name}", np.zeros(shared.types[ref].dims, np.float32), _SAVED)
            if spec.accumulate > 1:
                _add_state(shared, f"{ref[1:]}.sum", np.zeros(shared.types[ref].dims, np.float32), _KEPT)
        elif integers is not None:
            for name, initial, persistence in integers.rows(shared.types[ref], spec):
                _add_state(shared, f"{ref[1:]}.{name}", initial, persistence)
    if spec.accumulate > 1:
        _add_state(shared, PENDING, np.zeros(1, np.int32), _KEPT)
    return learning


def _refuse_float_head(program: Program, graph: Graph, spec: TrainSpec) -> None:
    """Raise UserError EDGEC-E248 where an int8 head is asked for and the last layer is float."""
    for node in layers_of(graph)[-1:] if spec.head == "int8" else ():
        if program.constants[node.inputs[1][1:]].type.quant is None:
            raise UserError(
                "EDGEC-E248",
                f"give --head fp32, or no --keep-float for the last layer: it runs in float ({node.loc})",
            )


def _refuse_integers(learning: Learning) -> None:
    """Raise UserError EDGEC-E248 where integers are to learn in a way that only floats do."""
    if learning.spec.optimizer != "adam":
        return
    if any(learning.shared.types[ref].quant is not None for ref in learning.states):
        raise UserError(
            "EDGEC-E248",
            "give --optimizer sgd or momentum, or --precision fp32, or train a float head alone: int8 layers do not "
            "learn by Adam, which fp32 has",
        )


def _add_state(b: Builder, name: str, initial: Array, persistence: Persistence) -> str:
    """`$name`; the name may not be taken, because other graphs and the C API find the state by it."""
    ref = b.add_state(name, constant(initial), persistence)
    assert ref == "$" + name, f"{name} is taken"
    return ref


def _rows(spec: TrainSpec) -> tuple[str, ...]:
    """Names of what the optimiser remembers of each element."""
    return {"sgd": (), "momentum": ("momentum",), "adam": ("mean", "square")}[spec.optimizer]


def _operands(
    program: Program, graph: Graph, shared: Builder, chosen: Sequence[Trainable]
) -> dict[tuple[str, int], Operand]:
    nodes = {n.outputs[0].name: n for n in graph.nodes}
    tied: dict[tuple[str, ...], tuple[Trainable, Operand]] = {}
    found: dict[tuple[str, int], Operand] = {}
    for one in chosen:
        node = nodes[one.value]
        shared_by = _identity(shared, node, one.position)
        if shared_by not in tied:
            tied[shared_by] = one, _operand(program, graph, shared, one, node)
        first, operand = tied[shared_by]
        if first.channels != one.channels:
            raise UserError(
                "EDGEC-E249",
                "name one ratio in the scheme for a weight that several layers share: that of "
                f"{nodes[first.value].loc} is the weight of {node.loc}",
            )
        found[one.value, one.position] = operand
    for node in graph.nodes:  # those that read a parameter that trains and were not chosen themselves
        for position in range(len(node.inputs)):
            key = node.outputs[0].name, position
            if key not in found and _identity(shared, node, position) in tied:
                first, found[key] = tied[_identity(shared, node, position)]
                if first.channels is not None and (node.op not in SLICED or position != 1):
                    raise UserError(
                        "EDGEC-E249",
                        f"give the ratio 1 in the scheme for {nodes[first.value].loc}: it shares its weight with the "
                        f"{node.op} at {node.loc}, which has no slices",
                    )
    return found


def _identity(shared: Builder, node: Node, position: int) -> tuple[str, ...]:
    """What operands that are one parameter have in common: the constant; where it is a vector, as others may merely
    hold the same numbers, also the layer and its other constants. Integers of one bias differ by the input's scale."""
    ref = node.inputs[position]
    is_vector = position in PARAMETERS.get(node.op, ()) and len(shared.types[ref].shape) == 1
    if not is_vector:
        return (ref,)
    # What the layer works on (input 0) may be constant, too: a recurrent cell's first state.
    read = [
        r
        for i, r in enumerate(node.inputs)
        if r[0] == "@" and (i > 0 or r == ref) and (r != ref or shared.types[ref].quant is None)
    ]
    return (node.op, str(position), node.loc.layer, *read)


def _operand(program: Program, graph: Graph, shared: Builder, one: Trainable, node: Node) -> Operand:
    """The new state of a trained operand."""
    ref = node.inputs[one.position]
    if node.op == "linear" and one.position == 1 and shared.types[ref].quant is not None:
        ref = convolution_weight(shared, ref)
    content = shared.constants[ref[1:]]
    if one.channels is None:
        return Operand(shared.add_state(f"{ref[1:]}.trained", content, _SAVED))
    axis = 0 if is_depthwise(program, graph, node) else len(content.type.shape) - 1
    at = np.array(one.channels, np.int32)
    part = constant(content.data.take(at, axis), _taken(content.type.quant, axis, one.channels))
    state = shared.add_state(f"{ref[1:]}.slice", part, _SAVED)
    return Operand(state, ref, shared.constant(at, f"{ref[1:]}.trained"), axis)


def convolution_weight(b: Builder, ref: str) -> str:
    """The weight [O,K] of an int8 linear layer as that of a 1x1 convolution, [O,1,1,K]: a constant with its name."""
    content = b.constants[ref[1:]]
    outputs, channels = content.type.dims
    made = content.data.reshape(outputs, 1, 1, channels)
    return b.constant(made, f"{ref[1:]}.rows", content.type.quant)


def _taken(quant: Quant | None, axis: int, channels: Sequence[int]) -> Quant | None:
    """The quantisation of some channels along `axis`."""
    if quant is None or quant.axis != axis:
        return quant
    at = list(channels)
    return Quant(tuple(quant.scale[i] for i in at), tuple(quant.zero[i] for i in at), axis)


def _adapters(shared: Builder, graph: Graph, spec: TrainSpec) -> dict[str, tuple[str, str]]:
    """Two states a linear layer: A [r,K], small and random, and B [O,r], zero."""
    rng = np.random.default_rng(spec.seed)
    found = {}
    for node in layers_of(graph):
        weight = shared.types[node.inputs[1]]
        if node.op != "linear" or weight.quant is not None:
            continue
        outputs, channels = weight.dims
        a = rng.uniform(-1.0, 1.0, (spec.count, channels)) * (3.0 / channels) ** 0.5
        stem = node.inputs[1][1:]
        down = shared.add_state(f"{stem}.down", constant(a.astype(np.float32)), _SAVED)
        up = shared.add_state(f"{stem}.up", constant(np.zeros((outputs, spec.count), np.float32)), _SAVED)
        found[node.outputs[0].name] = down, up
    if not found:
        raise UserError(
            "EDGEC-E248", "choose another --train than lora: the model has no float linear layer to adapt"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Forward:
    """What was appended of the inferring graph: `sliced` layers by their value, and by the state that trains the
    references whose gradients add up to the state's."""

    sliced: Mapping[str, Sliced]
    wanted: Mapping[str, tuple[str, ...]]

    def walked(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes as the reverse walk sees them."""
        hidden = {name for layer in self.sliced.values() for name in layer.hidden}
        seen = [n for n in nodes if n.outputs[0].name not in hidden]
        return [self.sliced[n.outputs[0].name].node if n.outputs[0].name in self.sliced else n for n in seen]


def _forward(b: Builder, learning: Learning, backward: bool) -> _Forward:
    """Append the inputs and nodes of the inferring graph, with trained operands."""
    graph = learning.graph
    sliced: dict[str, Sliced] = {}
    wanted = {ref: (ref,) for ref in learning.states}
    for value, port in zip(graph.inputs, graph.input_ports, strict=True):
        b.input(port.label, value.type, port.axes, value.name)
    b.types.update(learning.shared.types)  # names of later nodes are taken
    for node in graph.nodes:
        b.loc = node.loc
        name = node.outputs[0].name
        own = {
            p: learning.operands[name, p] for p in range(len(node.inputs)) if (name, p) in learning.operands
        }
        if name in learning.adapters:
            _adapted(b, node, *learning.adapters[name])
        elif any(v.type.quant is not None for v in node.outputs) and learning.integers is not None:
            learning.integers.forward(b, node, own, backward)
        else:
            inputs = tuple(own[p].state if p in own else ref for p, ref in enumerate(node.inputs))
            now, part = replace(node, inputs=inputs), _slice(own.get(1))
            if part is None:
                b.copy(now, {})
                continue
            sliced[name] = append(b, now, part)
            seen = sliced[name].node.inputs[1]
            others = wanted[part.state] if wanted[part.state] != (part.state,) else ()
            wanted[part.state] = tuple(dict.fromkeys((*others, seen)))
    return _Forward(sliced, wanted)


def _slice(operand: Operand | None) -> Slice | None:
    if operand is None or operand.whole is None or operand.index is None:
        return None
    return Slice(operand.whole, operand.index, operand.state, operand.axis)


def _adapted(b: Builder, node: Node, down: str, up: str) -> None:
    """linear(x, w, b) + linear(linear(x, A), B), its clamp after the sum."""
    assert isinstance(node.attrs, LinearAttrs)
    name = node.outputs[0].name
    plain = b.node("linear", node.inputs, LinearAttrs(), name=f"{name}.frozen")[0]
    low = b.call("linear", node.inputs[0], down, attrs=LinearAttrs(), name=f"{name}.down")
    added = b.call("linear", low, up, attrs=LinearAttrs(), name=f"{name}.up")
    del b.types[name]
    b.node("add", (plain, added), BinaryAttrs(node.attrs.act), name=name)


def _infer(learning: Learning) -> Graph:
    b = Builder("infer", learning.shared.constants, learning.shared.state)
    _forward(b, learning, backward=False)
    graph = learning.graph
    return replace(graph, nodes=tuple(b.nodes))


def _loss(b: Builder, learning: Learning) -> tuple[str, str | None]:
    """Append the label's input, the loss and, for classes, the count of right answers."""
    graph, spec = learning.graph, learning.spec
    ref, port = graph.outputs[0], graph.output_ports[0]
    b.loc = replace(b.loc, layer=LOSS)
    makers = {v.name: n for n in b.nodes for v in n.outputs}
    ref = _logits(makers, ref, spec.loss, len(b.types[ref].shape) - 1)
    if b.types[ref].quant is not None:
        ref = b.call("dequantize", ref)
    t = b.types[ref]
    if not t.dtype.is_float or not t.shape or t.bounds:
        raise UserError(
            "EDGEC-E248",
            f"compile without --train, or with a model whose first output is float: {port.label} is "
            f"{t.dtype.value}{list(t.dims)}, no loss is defined on it",
        )
    rows = t.size // t.dims[-1]
    if spec.loss in ("cross-entropy", "kl") and len(t.shape) != 2:
        ref = b.call("reshape", ref, attrs=ReshapeAttrs((rows, t.dims[-1])))
    if any(p.label == LABEL for p in graph.input_ports):
        raise UserError(
            "EDGEC-E248",
            f"rename the model's input {LABEL!r}: what a training step is to answer has this name",
        )
    if spec.loss == "cross-entropy":
        label = b.input(LABEL, Type((rows,), DType.I32))
        return b.call("cross_entropy", ref, label, name=LOSS), b.call(
            "correct_count", ref, label, name=CORRECT
        )
    target = b.input(LABEL, t, port.axes)
    if spec.loss == "kl":
        flat = (
            target if len(t.shape) == 2 else b.call("reshape", target, attrs=ReshapeAttrs((rows, t.dims[-1])))
        )
        return b.call("kl_logits", ref, flat, attrs=KlLogitsAttrs(spec.temperature), name=LOSS), None
    return b.call(_LOSS_OPS[spec.loss], ref, target, name=LOSS), None


def _logits(makers: Mapping[str, Node], ref: str, loss: Loss, last: int) -> str:
    """What the loss reads in place of the output `ref`: what a softmax over the last axis, for bce a sigmoid, makes it
    of. Logits that were rounded for an int8 softmax are taken as they were before."""
    end = makers.get(ref)
    if end is not None and end.op == "dequantize":
        end = makers.get(end.inputs[0])
    if end is None:
        return ref
    if loss == "bce":
        left_out = end.op == "sigmoid"
    else:
        softmax = isinstance(end.attrs, (SoftmaxAttrs, LogSoftmaxAttrs)) and end.attrs.axis == last
        left_out = softmax and loss in ("cross-entropy", "kl")
    if not left_out:
        return ref
    source = makers.get(end.inputs[0])
    return source.inputs[0] if source is not None and source.op == "quantize" else end.inputs[0]


def _outputs(b: Builder, loss: str, correct: str | None) -> None:
    b.output(loss, LOSS)
    if correct is not None:
        b.output(correct, CORRECT)


def _evaluate(learning: Learning) -> Graph:
    b = Builder(EVALUATE, learning.shared.constants, learning.shared.state)
    _forward(b, learning, backward=False)
    _outputs(b, *_loss(b, learning))
    _keep(learning, b)
    return b.graph()


def _keep(learning: Learning, b: Builder) -> None:
    """Constants that a graph added belong to all."""
    for name, content in b.constants.items():
        if name not in learning.shared.constants:
            learning.shared.constants[name] = content
            learning.shared.types["@" + name] = content.type


def _train_step(learning: Learning) -> Graph:
    spec = learning.spec
    b = Builder(TRAIN_STEP, learning.shared.constants, learning.shared.state)
    forward = _forward(b, learning, backward=True)
    loss, correct = _loss(b, learning)
    walked = forward.walked(b.nodes)
    gate = "$" + LEARNING_RATE
    if spec.accumulate > 1:
        gate = b.constant(np.array([1.0 / spec.accumulate], np.float32), "share")
    rate = b.call("when_finite", gate, loss, name="rate")
    one = b.call("when_finite", b.constant(np.ones(1, np.int32), "one"), loss, name="counted")
    number = b.call("add", "$" + STEP, one, attrs=BinaryAttrs(), name="number")
    seed = b.constant(np.ones(1, np.float32), "unit")
    share = rate if spec.accumulate > 1 else b.call("when_finite", seed, loss, name="share")
    pace = Pace(spec, rate, share, number)
    rules = learning.integers.rules(b, pace) if learning.integers is not None else None
    walk = Walk({name: layer.rule for name, layer in forward.sliced.items()}, rules)
    every = tuple(ref for refs in forward.wanted.values() for ref in refs)
    found = gradients(b, walked, {loss: seed}, every, walk)
    step = partial(_accumulated if spec.accumulate > 1 else _stepped, pace=pace)
    for state, refs in forward.wanted.items():
        parts = [found[ref] for ref in refs if ref in found]
        if parts:
            _update(b, state, _sum(b, parts), step, pace)
    if spec.accumulate > 1:
        b.updates.append((PENDING, b.call("add", "$" + PENDING, one, attrs=BinaryAttrs(), name=PENDING)))
    else:
        b.updates.append((STEP, number))
    _outputs(b, loss, correct)
    _keep(learning, b)
    return b.graph()


def _sum(b: Builder, parts: Sequence[Gradient]) -> Gradient:
    """Gradients of a parameter that several layers read, as one; several are float."""
    whole = parts[0]
    for part in parts[1:]:
        assert isinstance(whole, str) and isinstance(part, str)
        whole = b.call("add", whole, part, attrs=BinaryAttrs())
    return whole


def _update(
    b: Builder, state: str, gradient: Gradient, step: Callable[[Builder, str, str], None], pace: Pace
) -> None:
    assert isinstance(gradient, str)
    if b.types[state].quant is None:
        step(b, state, gradient)
    else:  # Integers made the next content
        b.updates.append((f"{state[1:]}.sum" if pace.spec.accumulate > 1 else state[1:], gradient))


def _stepped(b: Builder, state: str, gradient: str, *, pace: Pace) -> None:
    """Append the optimiser's step on `state` and note what it makes."""
    name, spec, rate = state[1:], pace.spec, pace.rate
    rows = tuple(f"${name}.{row}" for row in _rows(spec))
    if spec.optimizer == "sgd":
        made = b.node("sgd", (state, gradient, rate), SgdAttrs(spec.weight_decay))
    elif spec.optimizer == "momentum":
        attrs = SgdMomentumAttrs(spec.momentum, spec.weight_decay)
        made = b.node("sgd_momentum", (state, gradient, rate, *rows), attrs)
    else:
        made = b.node(
            "adam", (state, gradient, rate, *rows, pace.number), AdamAttrs(weight_decay=spec.weight_decay)
        )
    b.updates += list(zip((name, *(r[1:] for r in rows)), made, strict=True))


def _accumulated(b: Builder, state: str, gradient: str, *, pace: Pace) -> None:
    """Append the addition of a gradient to its sum."""
    name = f"{state[1:]}.sum"
    b.updates.append((name, b.call("accumulate", "$" + name, gradient, pace.share)))


def _apply(learning: Learning) -> Graph:
    """The optimiser's step along the sums, which start from 0 again."""
    b = Builder(APPLY, learning.shared.constants, learning.shared.state)
    one = b.constant(np.ones(1, np.int32), "one")
    number = b.call("add", "$" + STEP, one, attrs=BinaryAttrs(), name="number")
    zero = b.constant(np.zeros(1, np.float32), "zero")
    pace = Pace(learning.spec, "$" + LEARNING_RATE, zero, number)
    operands = {o.state: o for o in learning.operands.values()}
    for state in learning.states:
        total = f"{state[1:]}.sum"
        if b.types[state].quant is None:
            _stepped(b, state, "$" + total, pace=pace)
        else:
            assert learning.integers is not None
            learning.integers.apply(b, operands[state], pace)
        blank = b.call("expand", zero, attrs=ExpandAttrs(b.types[state].dims))
        b.updates.append((total, blank))
    b.updates.append((STEP, number))
    empty = b.constant(np.zeros(1, np.int32), "none")
    b.updates.append((PENDING, empty))
    _keep(learning, b)
    return b.graph()
