"""The verifier: what holds of every Program between two passes. A breach is our bug and names its invariant.

 1. Names of graphs, constants, states and values are safe ([A-Za-z][A-Za-z0-9_.]*) and unique where visible.
 2. Every reference is defined before it is used: values by an input or an earlier node, constants and states
    by the Program.
 3. Every op is in the table, and a node's attributes are of the op's own class and hold plain values.
 4. Stated output types equal the inferred ones, except for their quantisation.
 5. A Quant is well formed: on i8 (i32 for a bias), scales finite and > 0, zeros within int8, one scale for
    the whole tensor or one for each index along its axis, and zeros 0 there.
 6. An integer node satisfies its op's QuantRule: activations per-tensor i8, shared ones equal to the output,
    weights symmetric along the rule's axis, bias i32 at scale(input) * scale(weight), parameters and indices
    not quantised, output as the rule says. An op without integer form neither reads nor makes quantised
    values.
 7. i8 without Quant is an index or a mask: it never stands where an op computes with values.
 8. The name of a Bound is a rank-0 i32 value defined before (or beside) its use; it has one maximum in a
    graph.
 9. An update's value has its state's type; each state is updated at most once and starts with its own type.
10. Ports, where a graph has any, name its inputs and outputs in order, with distinct labels and permuting
    axes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Final

from edgec.errors import InternalError
from edgec.ir import Bound, DType, Graph, Node, Port, Program, Quant, Type, Value
from edgec.ops import OPS
from edgec.ops.define import NoQuant, QuantRule, TypeRule
from edgec.text import show, show_node, show_type

_SAFE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_CONTEXT_LINES: Final = 10
_BIAS_TOLERANCE: Final = 1e-6  # relative: the bias scale is one float32 rounding of the product

# These change the quantisation of a value: whether it is quantised before and after.
CASTS: Final[dict[str, tuple[bool, bool]]] = {
    "quantize": (False, True),
    "dequantize": (True, False),
    "requantize": (True, True),
    "cast": (False, False),
}


class GraphError(InternalError):
    """A Program breaks invariant `invariant` of this file's list; the message shows the lines around it."""

    def __init__(self, invariant: int, message: str, context: str = "") -> None:
        super().__init__(
            f"invariant {invariant} is broken: {message}" + (f"\n{context}\n" if context else "")
        )
        self.invariant = invariant


def verify(program: Program) -> None:
    """Raise GraphError where `program` breaks one of the invariants above."""
    _names(1, "graphs", [g.name for g in program.graphs], None)
    _names(1, "constants", list(program.constants), None)
    _names(1, "states", list(program.state), None)
    for name, constant in program.constants.items():
        _quant(f"constant @{name}", constant.type, None, None)
    for name, state in program.state.items():
        _quant(f"state ${name}", state.type, None, None)
        if state.initial.type != state.type:
            first = show_type(state.initial.type)
            raise GraphError(9, f"state ${name} is {show_type(state.type)}, its initial content {first}")
    for graph in program.graphs:
        _graph(program, graph)


def _graph(program: Program, graph: Graph) -> None:
    values = [v.name for v in graph.inputs] + [v.name for n in graph.nodes for v in n.outputs]
    _names(1, "values", values, graph)
    types: dict[str, Type] = {"@" + name: c.type for name, c in program.constants.items()}
    types.update(("$" + name, s.type) for name, s in program.state.items())
    types.update((v.name, v.type) for v in graph.inputs)
    maxima: dict[str, int] = {}
    for value in graph.inputs:
        _value(value, types, maxima, graph, None)
    for node in graph.nodes:
        _defined(node.inputs, types, graph, node)
        _op(node, graph)
        inputs = tuple(types[r] for r in node.inputs)
        _inferred(node, inputs, graph)
        types.update((v.name, v.type) for v in node.outputs)
        for value in node.outputs:
            _value(value, types, maxima, graph, node)
        _integer(node, inputs, graph)
    _defined(graph.outputs, types, graph, None)
    _updates(program, graph, types)
    _ports(graph.input_ports, tuple(v.name for v in graph.inputs), types, graph)
    _ports(graph.output_ports, graph.outputs, types, graph)


def _fail(invariant: int, message: str, graph: Graph | None, node: Node | None) -> None:
    if graph is None:
        raise GraphError(invariant, message)
    where = f" at {node.loc}" if node is not None else ""
    raise GraphError(invariant, f"graph {graph.name}: {message}{where}", context(graph, node))


def context(graph: Graph, node: Node | None) -> str:
    """Ten lines of the graph's text around `node` (the first ten without one), the node's own marked."""
    lines = show(graph).splitlines()
    mark = -1
    if node is not None:
        mark = next((i for i, line in enumerate(lines) if line.strip() == show_node(node)), -1)
    first = max(0, min(mark - _CONTEXT_LINES // 2, len(lines) - _CONTEXT_LINES))
    window = list(enumerate(lines))[first : first + _CONTEXT_LINES]
    return "\n".join(f"{'>' if i == mark else ' '} {i + 1:4d} {line}" for i, line in window)


def _names(invariant: int, what: str, names: list[str], graph: Graph | None) -> None:
    for name in names:
        if not _SAFE.fullmatch(name):
            _fail(invariant, f"the name {name!r} among the {what} is not [A-Za-z][A-Za-z0-9_.]*", graph, None)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            _fail(invariant, f"the name {name} stands twice among the {what}", graph, None)
        seen.add(name)


def _defined(refs: Iterable[str], types: Mapping[str, Type], graph: Graph, node: Node | None) -> None:
    for ref in refs:
        if ref not in types:
            _fail(2, f"{ref if ref[:1] in '@$' else '%' + ref} is used before it is defined", graph, node)


def _op(node: Node, graph: Graph) -> None:
    if node.op not in OPS:
        _fail(3, f"{node.op} is not in the op table", graph, None)
    if type(node.attrs) is not OPS[node.op].attrs:
        wanted = OPS[node.op].attrs.__name__
        _fail(3, f"{node.op} has {type(node.attrs).__name__}, its attributes are {wanted}", graph, node)
    for f in fields(node.attrs):
        for item in _leaves(getattr(node.attrs, f.name)):
            if item is not None and type(item) not in (bool, int, float, str, Bound):
                raise GraphError(3, f"{f.name} of {node.op} at {node.loc} holds a {type(item).__name__}")


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _inferred(node: Node, inputs: tuple[Type, ...], graph: Graph) -> None:
    try:
        inferred = OPS[node.op].infer(node.attrs, inputs)
    except TypeRule as error:
        _fail(4, f"{node.op} does not take its inputs: {error}", graph, node)
        return
    stated = tuple(v.type for v in node.outputs)
    if len(inferred) != len(stated):
        _fail(4, f"{node.op} has {len(inferred)} outputs, {len(stated)} are stated", graph, node)
    for have, want in zip(stated, inferred, strict=True):
        quantised = have.quant is not None and have.dtype is DType.I8 and want.dtype.is_float
        if have.shape != want.shape or (have.dtype is not want.dtype and not quantised):
            _fail(4, f"{node.op} makes {show_type(want)}, stated is {show_type(have)}", graph, node)


def _value(
    value: Value, types: Mapping[str, Type], maxima: dict[str, int], graph: Graph, node: Node | None
) -> None:
    _quant("%" + value.name, value.type, graph, node)
    for bound in value.type.bounds:
        size = types.get(bound.name)
        if size is None or size.shape != () or size.dtype is not DType.I32:
            what = "not defined here" if size is None else show_type(size)
            _fail(8, f"the bound {bound.name} of %{value.name} is {what}, not an i32 scalar", graph, node)
        if maxima.setdefault(bound.name, bound.max) != bound.max:
            known = maxima[bound.name]
            _fail(8, f"the bound {bound.name} has two maxima, {known} and {bound.max}", graph, node)


def _quant(what: str, t: Type, graph: Graph | None, node: Node | None) -> None:
    problem = quant_problem(t)
    if problem:
        _fail(5, f"{what} {problem}", graph, node)


def quant_problem(t: Type) -> str:
    """Why the Quant of `t` is not well formed, "" where it is (or where there is none)."""
    q = t.quant
    if q is None:
        return ""
    if t.dtype not in (DType.I8, DType.I32):
        return f"is quantised but {t.dtype.value}"
    if not all(math.isfinite(s) and s > 0 for s in q.scale):
        return "has a scale that is not finite and > 0"
    if not all(-128 <= z <= 127 for z in q.zero):
        return "has a zero outside int8"
    if q.axis is None:
        return "" if len(q.scale) == len(q.zero) == 1 else f"has {len(q.scale)} scales and no axis"
    if not 0 <= q.axis < len(t.shape):
        return f"is quantised along axis {q.axis} of {len(t.shape)}"
    if len(q.scale) != t.dims[q.axis] or len(q.zero) != len(q.scale):
        return f"has {len(q.scale)} scales for {t.dims[q.axis]} channels"
    return "has a channel with zero other than 0" if any(q.zero) else ""


def _integer(node: Node, inputs: tuple[Type, ...], graph: Graph) -> None:
    rule = OPS[node.op].quant
    outputs = tuple(v.type for v in node.outputs)
    if node.op in CASTS:
        sides = (inputs[0].quant is not None, outputs[0].quant is not None)
        if sides != CASTS[node.op]:
            _fail(6, f"{node.op} goes from {show_type(inputs[0])} to {show_type(outputs[0])}", graph, node)
        return
    if isinstance(rule, NoQuant):
        if not rule.integers and any(t.quant is not None for t in (*inputs, *outputs)):
            _fail(6, f"{node.op} has no integer form ({rule.why}) but touches quantised values", graph, node)
        return
    bare = [i for i, t in enumerate(inputs) if t.dtype is DType.I8 and t.quant is None]
    for i in bare:
        if rule.role(i) != "index" and rule.output != "shared":
            _fail(7, f"input {i} of {node.op} is i8 without quantisation", graph, node)
    if all(t.quant is None for t in (*inputs, *outputs)):
        return
    for i, t in enumerate(inputs):
        problem = role_problem(rule, i, inputs, outputs)
        if problem:
            _fail(6, f"input {i} of {node.op} is {show_type(t)}: {problem}", graph, node)
    for t in outputs:
        problem = output_problem(rule, inputs, t)
        if problem:
            _fail(6, f"the output of {node.op} is {show_type(t)}: {problem}", graph, node)


def role_problem(rule: QuantRule, index: int, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> str:
    """Why input `index` of an integer node does not fill its role, "" where it does."""
    t, role = inputs[index], rule.role(index)
    if role in ("index", "parameter"):
        return "" if t.quant is None else f"the role {role} is not quantised"
    if t.quant is None:
        return f"the role {role} is quantised"
    if role == "bias":
        return _bias_problem(t, inputs)
    if t.dtype is not DType.I8:
        return f"the role {role} is i8"
    if role == "weight":
        axis = None if t.quant.axis is None else rule.weight_axis
        return "" if t.quant.axis == axis and not any(t.quant.zero) else f"weights are symmetric along {axis}"
    if t.quant.axis is not None:
        return f"the role {role} has one scale"
    if role == "shared" and outputs[0].quant is not None and t.quant != outputs[0].quant:
        return "it must have the quantisation of the output"
    return ""


def _bias_problem(t: Type, inputs: tuple[Type, ...]) -> str:
    x, w = inputs[0].quant, inputs[1].quant
    assert t.quant is not None
    if t.dtype is not DType.I32:
        return "a bias is i32"
    if x is None or w is None:
        return "a bias needs a quantised input and weight"
    wanted = [x.scale[0] * s for s in w.scale]
    have = t.quant.scale
    close = len(have) == len(wanted) and all(
        abs(a - b) <= _BIAS_TOLERANCE * b for a, b in zip(have, wanted, strict=True)
    )
    return "" if close and not any(t.quant.zero) else "a bias has scale(input) * scale(weight)"


def output_problem(rule: QuantRule, inputs: tuple[Type, ...], t: Type) -> str:
    """Why an integer node's output does not follow the rule, "" where it does."""
    if rule.output == "plain":
        return "" if t.quant is None else "the op's output is not quantised"
    if t.dtype is DType.U8 and t.quant is None:
        return ""  # a mask beside the output
    if t.quant is None or t.dtype is not DType.I8 or t.quant.axis is not None:
        return "an integer node's output is i8 with one scale"
    if rule.output == "shared":
        peers = [x.quant for i, x in enumerate(inputs) if rule.role(i) == "shared"] or [inputs[0].quant]
        return "" if all(p == t.quant for p in peers) else "it must have the quantisation of the inputs"
    if isinstance(rule.output, tuple) and t.quant.per_tensor != rule.output:
        return f"the op fixes {_fixed(rule.output)}"
    return ""


def _fixed(output: tuple[float, int]) -> str:
    return show_type(Type((), DType.I8, Quant((output[0],), (output[1],))))


def _updates(program: Program, graph: Graph, types: Mapping[str, Type]) -> None:
    seen: set[str] = set()
    for name, ref in graph.updates:
        if name not in program.state:
            _fail(2, f"the update of ${name} names no state", graph, None)
        _defined((ref,), types, graph, None)
        if name in seen:
            _fail(9, f"the state ${name} is updated twice", graph, None)
        seen.add(name)
        if types[ref] != program.state[name].type:
            want = show_type(program.state[name].type)
            _fail(9, f"the update of ${name} is {show_type(types[ref])}, the state {want}", graph, None)


def _ports(ports: tuple[Port, ...], refs: tuple[str, ...], types: Mapping[str, Type], graph: Graph) -> None:
    if not ports:
        return
    if tuple(p.ref for p in ports) != refs:
        _fail(10, f"the ports {[p.ref for p in ports]} are not the values {list(refs)}", graph, None)
    if len({p.label for p in ports}) != len(ports):
        _fail(10, f"two ports have one label among {[p.label for p in ports]}", graph, None)
    for p in ports:
        rank = len(types[p.ref].shape)
        if sorted(p.axes) != list(range(rank)):
            _fail(10, f"port {p.label!r} has axes {p.axes}, its value rank {rank}", graph, None)
