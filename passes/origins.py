"""Where a value's elements come from: movements before it (reshape, transpose, cuts, roll, ...) as one index.

A chain of movements is run on the numbers of its source's elements, so that any way of writing the same movement is
recognised by what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Node
from edgec.match import Rewrite
from edgec.ops import OPS
from edgec.ops.heads import Place
from edgec.ops.shape import ReshapeAttrs

MOVEMENTS: Final = frozenset(("reshape", "transpose", "slice", "select", "split", "unbind", "expand", "roll"))
BACK: Final = ("reshape", "transpose", "roll")
MAX_ELEMENTS: Final = 1 << 24  # of a value whose elements are numbered
Index = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Origin:
    """`index`: for each element of a value, the row-major number of the element of `ref` that it is. `passed`: the
    nodes between, the nearest to `ref` first."""

    ref: str
    index: Index
    passed: tuple[Node, ...]


def origins(at: Rewrite, ref: str, through: frozenset[str] = MOVEMENTS) -> Iterator[Origin]:
    """The origins of `ref`, the farthest first and `ref` itself last. Elementwise ops in `through` are passed as if
    they were not there, a pad's new elements have number -1."""
    chain: list[tuple[Node, int]] = []
    source = ref
    while (node := at.maker(source)) is not None and node.op in through and not at.type(source).bounds:
        if at.type(node.inputs[0]).bounds or at.type(node.inputs[0]).size > MAX_ELEMENTS:
            break
        chain.append((node, [v.name for v in node.outputs].index(source)))
        source = node.inputs[0]
    if at.type(ref).bounds or at.type(ref).size > MAX_ELEMENTS:
        return
    for length in range(len(chain), -1, -1):
        start = chain[length - 1][0].inputs[0] if length else ref
        dims = at.type(start).dims
        index: Index = np.arange(at.type(start).size, dtype=np.int32).reshape(dims)
        for node, output in reversed(chain[:length]):
            index = moved(node, index, output)
        yield Origin(start, index, tuple(node for node, _ in reversed(chain[:length])))


def moved(node: Node, index: Index, output: int) -> Index:
    """`index` after the movement `node`: its output `output`."""
    if node.op == "pad":
        pads: tuple[tuple[int, int], ...] = getattr(node.attrs, "pads")  # noqa: B009
        return np.pad(index, pads, constant_values=-1)
    if node.op in MOVEMENTS:
        return np.asarray(OPS[node.op].ref(node.attrs, (index,))[output], np.int32)
    return index


def place_of(index: Index) -> Place | None:
    """(offset, batch step, head step, token step) where index[n,a,t,d] runs at equal steps and d at step 1."""
    steps = []
    for axis, size in enumerate(index.shape):
        step = int(index.take(1, axis).reshape(-1)[0]) - int(index.reshape(-1)[0]) if size > 1 else 0
        steps.append(step)
    if index.shape[3] > 1 and steps[3] != 1:
        return None
    place = (int(index.reshape(-1)[0]), steps[0], steps[1], steps[2])
    if min(place) < 0:
        return None
    ranges = (np.arange(n, dtype=np.int32) for n in index.shape)
    grid = np.ix_(*ranges)
    wanted = place[0] + sum(g * s for g, s in zip(grid, (*place[1:], 1), strict=True))
    return place if np.array_equal(index, wanted) else None


def back_in_place(at: Rewrite, node: Node, starts: Callable[[str], bool]) -> str | None:
    """What stands for the movement `node` where it ends a chain that began at a value of which `starts` holds, and all
    elements are in order again: that value, or a reshape of it."""
    chain, ref = [node], node.inputs[0]
    while not starts(ref):
        maker = at.maker(ref, *BACK)
        if maker is None:
            return None
        chain.append(maker)
        ref = maker.inputs[0]
    t, out = at.type(ref), node.outputs[0]
    if len(chain) == 1 or t.bounds or t.size > MAX_ELEMENTS:
        return None
    index: Index = np.arange(t.size, dtype=np.int32).reshape(t.dims)
    for one in reversed(chain):
        index = moved(one, index, 0)
    if not np.array_equal(index.reshape(-1), np.arange(t.size, dtype=np.int32)):
        return None
    return (
        ref
        if t == out.type
        else at.builder.call("reshape", ref, attrs=ReshapeAttrs(out.type.dims), name=out.name)
    )
