"""Which outputs are only another name for bytes of an input: reshapes, and slices along the outermost axis.

A view needs no kernel and no memory. It exists only where both sides have the same element type and
quantisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from edgec.ir import Node, Type
from edgec.ops.shape import TransposeAttrs
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs, UnbindAttrs


@dataclass(frozen=True, slots=True)
class View:
    """Output that lies in input `index` of its node, from byte `at` on."""

    index: int
    at: int


def views(node: Node, types: tuple[Type, ...]) -> tuple[View, ...] | None:
    """A View per output, None where the node needs a kernel. `types`: of the node's inputs."""
    if not types or any(
        (v.type.dtype, v.type.quant) != (types[0].dtype, types[0].quant) for v in node.outputs
    ):
        return None
    if any(t.bounds for t in (types[0], *(v.type for v in node.outputs))):
        return (View(0, 0),) if node.op == "reshape" else None
    starts = _starts(node, types[0])
    if starts is None:
        return None
    return tuple(View(0, at) for at in starts)


def _starts(node: Node, x: Type) -> tuple[int, ...] | None:
    """First byte of each output in x, None where an output is not one run of x's bytes."""
    y = node.outputs[0].type
    match node.attrs:
        case TransposeAttrs(perm):
            return (0,) if _keeps_order(perm, x) else None
        case SliceAttrs(axis, start, _, step):
            whole = _is_outermost(x, axis) and (y.dims[axis] <= 1 or step == 1)
            return (start * _inner_bytes(x, axis),) if whole else None
        case SelectAttrs(axis, index):
            return (index * _inner_bytes(x, axis),) if _is_outermost(x, axis) else None
        case SplitAttrs(axis) | UnbindAttrs(axis):
            if not _is_outermost(x, axis):
                return None
            sizes = [v.type.bytes for v in node.outputs]
            return tuple(sum(sizes[:i]) for i in range(len(sizes)))
    same = node.op == "reshape" or (node.op in ("expand", "cast") and y.size == x.size)
    return (0,) if same else None


def _is_outermost(x: Type, axis: int) -> bool:
    return prod(x.dims[:axis]) == 1


def _inner_bytes(x: Type, axis: int) -> int:
    return prod(x.dims[axis + 1 :]) * x.dtype.bytes


def _keeps_order(perm: tuple[int, ...], x: Type) -> bool:
    """A transpose moves no byte where the axes longer than 1 stay in order."""
    long = [axis for axis in perm if x.dims[axis] > 1]
    return long == sorted(long)
