"""A float layer of whose weight a slice trains: how it runs. Its gradient is in sliced_gradient.

Two forms. `assembled`: the slice is copied over the whole constant, and the layer reads the result. `split`: the layer
reads the constant where it lies, in flash, with 0 for the input channels whose weights train, and a second, small
layer adds what the slice makes of those channels. The second takes memory for the input once more and for the output,
the first for the weight: the smaller one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgec.build import Builder
from edgec.ir import Node
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.emit import zeros
from edgec.ops.gather import IndexCopyAttrs
from edgec.ops.linear import LinearAttrs
from edgec.passes.autodiff import Vjp
from edgec.passes.sliced_gradient import channels_of, select, sliced_rule


@dataclass(frozen=True, slots=True)
class Slice:
    """The whole weight (a constant), the indices of what trains of it (a constant), its state, and their axis."""

    whole: str
    index: str
    state: str
    axis: int


@dataclass(frozen=True, slots=True)
class Sliced:
    """What was appended for a layer: values that the reverse walk does not see, and the node that it sees instead,
    with its rule. The gradient of that node's weight is the slice's."""

    hidden: frozenset[str]
    node: Node
    rule: Vjp


def append(b: Builder, node: Node, part: Slice) -> Sliced:
    """Append `node`, a conv2d or linear whose other operands are in place, with a trained slice of its weight."""
    before = len(b.nodes)
    weight, x, y = b.types[part.whole], b.types[node.inputs[0]], node.outputs[0].type
    if part.axis != 0 and weight.bytes > x.bytes + y.bytes:
        gathered = _split(b, node, part)
        seen = replace(node, inputs=(node.inputs[0], part.whole, *node.inputs[2:]))
    else:
        attrs = IndexCopyAttrs(part.axis)
        stem = f"{part.whole[1:]}.whole"
        w = b.call("index_copy", part.whole, part.index, part.state, attrs=attrs, name=stem)
        seen = replace(node, inputs=(node.inputs[0], w, *node.inputs[2:]))
        b.copy(seen, {})
        gathered = None
    hidden = {v.name for n in b.nodes[before:] for v in n.outputs} - {node.outputs[0].name}
    rule = sliced_rule(part.whole, part.index, part.state, part.axis, gathered)
    return Sliced(frozenset(hidden), seen, rule)


def _split(b: Builder, node: Node, part: Slice) -> str:
    """Append the layer in two parts; the gathered channels of its input."""
    attrs, x = node.attrs, node.inputs[0]
    assert isinstance(attrs, (Conv2dAttrs, LinearAttrs))
    groups = attrs.groups if isinstance(attrs, Conv2dAttrs) else 1
    channels = channels_of(b, part.index, b.types[part.whole].dims[-1], groups)
    name, last = node.outputs[0].name, len(b.types[x].shape) - 1
    gathered = select(b, x, channels)
    blank = zeros(b, b.types[gathered].dims, x)
    rest = b.call("index_copy", x, channels, blank, attrs=IndexCopyAttrs(last), name=f"{name}.rest")
    plain = replace(attrs, act=None)
    frozen = b.call(node.op, rest, part.whole, *node.inputs[2:], attrs=plain, name=f"{name}.frozen")
    trained = b.call(node.op, gathered, part.state, attrs=plain, name=f"{name}.trained")
    del b.types[name]
    b.node("add", (frozen, trained), BinaryAttrs(attrs.act), name=name)
    return gathered
