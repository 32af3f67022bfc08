"""gradients: the reverse walk. It appends to a Builder the nodes that compute the gradients asked for.

A value needs a gradient where something wanted feeds it. The walk goes through the nodes backwards, asks the op of
each for the gradients of its inputs (`Op.vjp`) and adds up those of a value that is read more than once. What no
wanted gradient needs is not left behind: frozen layers in front of the first trained one have no backward nodes.

Gradients of float values are references. Those of quantised values are whatever `IntegerRules` make of them: a
reference, or a pair of integers and exponent; this file only hands them on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from edgec.build import Builder
from edgec.errors import UserError
from edgec.ir import Node, Type
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.ops.define import NoGrad, NoQuant, integer_form

Gradient = object  # a reference of a float gradient, or what IntegerRules made
Vjp = Callable[[Builder, Node, Sequence[Gradient | None]], Sequence[Gradient | None]]


@dataclass(frozen=True, slots=True)
class IntegerRules:
    """The straight-through rules of quantised nodes. `rule(op)`: that of an op, None where it has none.
    `total(builder, value, contributions)`: the gradient of a quantised value from those of all that read it."""

    rule: Callable[[str], Vjp | None]
    total: Callable[[Builder, str, Sequence[Gradient]], Gradient]


@dataclass(frozen=True, slots=True)
class Walk:
    """How to walk: `special` replaces the rule of the node whose first output has this name; `integer` are the rules
    of quantised nodes, None where there are none."""

    special: Mapping[str, Vjp]
    integer: IntegerRules | None = None


PLAIN = Walk({})


def gradients(
    b: Builder,
    nodes: Sequence[Node],
    seeds: Mapping[str, Gradient],
    wanted: Collection[str],
    walk: Walk = PLAIN,
) -> dict[str, Gradient]:
    """Gradient of each reference in `wanted` that `seeds` (gradients of values) depend on.

    `nodes`: in execution order, in the builder already. Raises UserError EDGEC-E403, which names every node on a way
    from `wanted` to `seeds` that has no gradient.
    """
    needing = _needing(nodes, wanted)
    kept = [n for n in nodes if any(v.name in needing for v in n.outputs)]
    _refuse(b, _reaching(kept, seeds), walk)
    before = len(b.nodes)
    found: dict[str, list[Gradient]] = {ref: [g] for ref, g in seeds.items()}
    for node in reversed(kept):
        outputs = [_total(b, v.name, found.get(v.name, []), walk) for v in node.outputs]
        if all(g is None for g in outputs):
            continue
        b.loc = node.loc
        given = _rule(b, node, walk)(b, node, outputs)
        for ref, gradient in zip(node.inputs, given, strict=True):
            if gradient is not None and ref in needing:
                _add(b, found.setdefault(ref, []), gradient, b.types[ref])
    final = {
        ref: gradient for ref in wanted if (gradient := _total(b, ref, found.get(ref, []), walk)) is not None
    }
    _prune(b, before, final.values())
    return final


def _needing(nodes: Sequence[Node], wanted: Collection[str]) -> set[str]:
    """`wanted` and every value that they feed; indices and booleans carry no gradient."""
    needing = set(wanted)
    for node in nodes:
        if any(r in needing for r in node.inputs):
            needing.update(v.name for v in node.outputs if v.type.dtype.is_float or v.type.quant is not None)
    return needing


def _reaching(nodes: Sequence[Node], seeds: Collection[str]) -> list[Node]:
    """Those of `nodes` that feed `seeds`."""
    read, found = set(seeds), []
    for node in reversed(nodes):
        if any(v.name in read for v in node.outputs):
            found.append(node)
            read.update(node.inputs)
    return found[::-1]


def _integer(b: Builder, node: Node) -> bool:
    """Whether the node computes in integers, the casts at the border included."""
    op = OPS[node.op]
    types = tuple(b.types[r] for r in node.inputs), tuple(v.type for v in node.outputs)
    if isinstance(op.quant, NoQuant):
        return any(t.quant is not None for ts in types for t in ts)
    return integer_form(op, *types) is not None


def _rule(b: Builder, node: Node, walk: Walk) -> Vjp:
    special = walk.special.get(node.outputs[0].name)
    rule = special or _plain_rule(b, node, walk)
    assert rule is not None, node  # _refuse has looked
    return rule


def _plain_rule(b: Builder, node: Node, walk: Walk) -> Vjp | None:
    if _integer(b, node):
        return walk.integer.rule(node.op) if walk.integer is not None else None
    vjp = OPS[node.op].vjp
    return None if isinstance(vjp, NoGrad) else vjp  # type: ignore[return-value]  # its gradients are references


def _refuse(b: Builder, nodes: Sequence[Node], walk: Walk) -> None:
    lines = []
    for node in nodes:
        if node.outputs[0].name in walk.special or _plain_rule(b, node, walk) is not None:
            continue
        vjp = OPS[node.op].vjp
        why = vjp.why if isinstance(vjp, NoGrad) and not _integer(b, node) else "it has no rule for integers"
        lines.append(f"  {node.op} at {node.loc}: {why}")
    if lines:
        plural = "s" * (len(lines) > 1)
        raise UserError(
            "EDGEC-E403",
            "train only layers behind these, replace them, or compile with --precision fp32 where integers are named: "
            f"{len(lines)} node{plural} between a trained layer and the loss without a gradient\n"
            + "\n".join(lines),
        )


def _add(b: Builder, to: list[Gradient], gradient: Gradient, t: Type) -> None:
    """Note a contribution; float ones are added at once, so that two of them never live long."""
    if t.quant is None and to:
        assert isinstance(to[0], str) and isinstance(gradient, str)
        to[0] = b.call("add", to[0], gradient, attrs=BinaryAttrs())
    else:
        to.append(gradient)


def _total(b: Builder, ref: str, parts: Sequence[Gradient], walk: Walk) -> Gradient | None:
    if not parts:
        return None
    if b.types[ref].quant is None:
        (whole,) = parts
        return whole
    assert walk.integer is not None
    return walk.integer.total(b, ref, parts)


def references(gradient: Gradient) -> tuple[str, ...]:
    """The references that a gradient is made of."""
    if isinstance(gradient, str):
        return (gradient,)
    assert isinstance(gradient, tuple)
    return tuple(r for r in gradient if isinstance(r, str))


def _prune(b: Builder, before: int, kept: Collection[Gradient]) -> None:
    """Remove nodes appended since `before` that feed none of `kept`."""
    needed = {r for gradient in kept for r in references(gradient)}
    left = []
    for node in reversed(b.nodes[before:]):
        if any(v.name in needed for v in node.outputs):
            left.append(node)
            needed.update(node.inputs)
    b.nodes[before:] = left[::-1]
