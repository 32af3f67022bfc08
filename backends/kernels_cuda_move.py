"""Kernel records of the CUDA backend: strided copies, transposes, pads, rolls, concat and split, of any type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edgec.backends.cuda_move import (
    UNIT_MAX,
    divider_fields,
    filled,
    in_units,
    unit_bytes,
    volume,
    walk_unit,
)
from edgec.backends.cuda_record import GRID_MOST, blocks_for
from edgec.backends.kernel_record import Fields, int_fields
from edgec.backends.kernels_c_shape import Axis, copy_walk, merged, same_bytes
from edgec.ops.joining import ConcatAttrs, PadAttrs, pad_value
from edgec.ops.shape import RollAttrs
from edgec.ops.slicing import SplitAttrs, UnbindAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

THREADS: Final = 256
COPY_AXES: Final = 6
PLACE_AXES: Final = 4
OUTER_AXES: Final = 3
CONCATS: Final = (2, 4, 8)
SPLITS: Final = (2, 3, 4)
TILED_MIN: Final = 16  # rows and columns from which on a tile pays
UNITS_MAX: Final = 2**31


def flat(units: int) -> tuple[int, int, int]:
    """Blocks with one unit a thread."""
    return (blocks_for(units, THREADS), 1, 1)


def _accepts_copy(node: NodeView, target: Target) -> bool:
    return (
        same_bytes(node, (0,))
        and len(merged(copy_walk(node).axes)) <= COPY_AXES
        and node.inputs[0].size < UNITS_MAX
        and node.outputs[0].size < UNITS_MAX
    )


def _launch_copy(node: NodeView, target: Target) -> Launch:
    walk, element = copy_walk(node), node.inputs[0].dtype.bytes
    axes = merged(walk.axes) or ((1, 1),)
    unit = walk_unit(axes, walk.offset, element)
    moved = in_units(axes, unit // element)
    full = filled(moved, COPY_AXES)
    fields = (
        ("offset", walk.offset * element // unit),
        *((f"stride_{i}", stride) for i, (_, stride) in enumerate(full)),
        ("total", volume(moved)),
        *divider_fields((i, full[i][0]) for i in range(1, COPY_AXES)),
    )
    grid = Grid("ec_copy_body", (str(unit), str(len(moved))), flat(volume(moved)), THREADS)
    return Launch("ec_copy_cuda_params", fields, (0,), (), (grid,))


def _dense_axis(axes: Sequence[Axis]) -> int | None:
    """The axis of the output along which the input is dense, where it is not the last."""
    found = [i for i, (_, stride) in enumerate(axes[:-1]) if stride == 1]
    return found[0] if found else None


def _accepts_transpose(node: NodeView, target: Target) -> bool:
    if not _accepts_copy(node, target):
        return False
    axes = merged(copy_walk(node).axes)
    dense = _dense_axis(axes)
    if dense is None or len(axes) - 2 > OUTER_AXES:
        return False
    tiled = min(axes[dense][0], axes[-1][0]) >= TILED_MIN
    return tiled and axes[-1][1] > 0 and max(_transpose_grid(axes, dense, node)[1:]) <= GRID_MOST


def _tile(node: NodeView) -> int:
    return 64 if node.inputs[0].dtype.bytes <= 2 else 32


def _transpose_grid(axes: Sequence[Axis], dense: int, node: NodeView) -> tuple[int, int, int]:
    outer = math.prod(size for i, (size, _) in enumerate(axes[:-1]) if i != dense)
    return (blocks_for(axes[-1][0], _tile(node)), blocks_for(axes[dense][0], _tile(node)), outer)


def _launch_transpose(node: NodeView, target: Target) -> Launch:
    walk, element = copy_walk(node), node.inputs[0].dtype.bytes
    axes = merged(walk.axes)
    dense = _dense_axis(axes)
    assert dense is not None
    steps = [math.prod(size for size, _ in axes[i + 1 :]) for i in range(len(axes))]
    outer = [(axes[i][0], axes[i][1], steps[i]) for i in range(len(axes) - 1) if i != dense]
    outer = [(1, 0, 0)] * (OUTER_AXES - len(outer)) + outer
    fields = (
        *((f"x_outer{i}", x) for i, (_, x, _) in enumerate(outer)),
        ("x_column", axes[-1][1]),
        *((f"y_outer{i}", y) for i, (_, _, y) in enumerate(outer)),
        ("y_row", steps[dense]),
        ("offset", walk.offset),
        *int_fields(outer1=outer[1][0], outer2=outer[2][0], rows=axes[dense][0], columns=axes[-1][0]),
    )
    template = (str(element), str(_tile(node)))
    grid = Grid("ec_transpose_body", template, _transpose_grid(axes, dense, node), THREADS)
    return Launch("ec_transpose_params", fields, (0,), (), (grid,))


# size in the output, size in the input, elements before the input
Placed = tuple[int, int, int]


def _placed(axes: Sequence[Placed]) -> tuple[Placed, ...]:
    """The axes with those that hold all of the input joined to the one before them."""
    out: list[Placed] = []
    for size, source, before in axes:
        if out and (size, before) == (source, 0):
            out[-1] = (out[-1][0] * size, out[-1][1] * source, out[-1][2] * size)
        else:
            out.append((size, source, before))
    return tuple(out)


def _place_axes(node: NodeView) -> tuple[Placed, ...]:
    dims, attrs = node.inputs[0].dims, node.node.attrs
    if isinstance(attrs, RollAttrs):
        shifts = dict(zip(attrs.axes, attrs.shifts, strict=True))
        return _placed([(n, n, shifts.get(i, 0) % n) for i, n in enumerate(dims)])
    assert isinstance(attrs, PadAttrs)
    return _placed([(n + a + b, n, a) for n, (a, b) in zip(dims, attrs.pads, strict=True)])


def _accepts_place(node: NodeView, target: Target) -> bool:
    fits = same_bytes(node, (0,)) and max(node.inputs[0].size, node.outputs[0].size) < UNITS_MAX
    return fits and len(_place_axes(node)) <= PLACE_AXES


def _fill_words(node: NodeView) -> tuple[int, ...]:
    """Four 32-bit words of repeated new elements."""
    attrs, y = node.node.attrs, node.outputs[0]
    value = pad_value(attrs, y) if isinstance(attrs, PadAttrs) else 0.0
    element = np.array([value]).astype(y.dtype.numpy)
    return tuple(int(w) for w in np.tile(element.view(np.uint8), UNIT_MAX // y.dtype.bytes).view(np.uint32))


def _launch_place(node: NodeView, target: Target) -> Launch:
    axes, element = _place_axes(node), node.inputs[0].dtype.bytes
    last = axes[-1]
    unit = unit_bytes(element, *(n * element for n in last))
    axes = (*axes[:-1], (last[0] * element // unit, last[1] * element // unit, last[2] * element // unit))
    full = (*((1, 1, 0),) * (PLACE_AXES - len(axes)), *axes)
    total = math.prod(n for n, _, _ in axes)
    fields = (
        ("total", total),
        *divider_fields((i, full[i][0]) for i in range(1, PLACE_AXES)),
        *((f"from_{i}", source) for i, (_, source, _) in enumerate(full)),
        *((f"before_{i}", before) for i, (_, _, before) in enumerate(full)),
        *((f"fill_{i}", word) for i, word in enumerate(_fill_words(node))),
    )
    roll = "true" if isinstance(node.node.attrs, RollAttrs) else "false"
    grid = Grid("ec_place_body", (str(unit), roll), flat(total), THREADS)
    return Launch("ec_place_params", fields, (0,), (), (grid,))


def _parts(runs: Sequence[int], outer: int, unit: int, most: int) -> Fields:
    """Fields of ec_parts_cuda_params for parts of these bytes a run."""
    units = [n // unit for n in runs]
    ends = [sum(units[: k + 1]) for k in range(len(units))]
    ends += [ends[-1]] * (most - len(ends))
    return (
        ("total", outer * ends[-1]),
        *divider_fields([(1, ends[-1])]),
        *((f"end_{k}", end) for k, end in enumerate(ends)),
    )


def _accepts_concat(low: int, high: int) -> Callable[[NodeView, Target], bool]:
    def accepts(node: NodeView, target: Target) -> bool:
        fits = same_bytes(node, range(len(node.inputs))) and node.outputs[0].size < UNITS_MAX
        return fits and low <= len(node.inputs) <= high

    return accepts


def _launch_concat(pointers: int) -> Callable[[NodeView, Target], Launch]:
    def launch(node: NodeView, target: Target) -> Launch:
        attrs, element = node.node.attrs, node.outputs[0].dtype.bytes
        assert isinstance(attrs, ConcatAttrs)
        runs = [math.prod(t.dims[attrs.axis :]) * element for t in node.inputs]
        outer = math.prod(node.outputs[0].dims[: attrs.axis])
        unit = unit_bytes(element, *runs)
        used = tuple(range(len(node.inputs)))
        grid = Grid(f"ec_concat{pointers}_body", (str(unit),), flat(outer * sum(runs) // unit), THREADS)
        # an unused pointer repeats the first operand
        inputs = (*used, *((0,) * (pointers - len(used))))
        return Launch("ec_parts_cuda_params", _parts(runs, outer, unit, 8), inputs, (), (grid,))

    return launch


def _accepts_split(count: int) -> Callable[[NodeView, Target], bool]:
    def accepts(node: NodeView, target: Target) -> bool:
        fits = same_bytes(node, (0,)) and node.inputs[0].size < UNITS_MAX
        return fits and len(node.outputs) == count

    return accepts


def _launch_split(node: NodeView, target: Target) -> Launch:
    attrs, element = node.node.attrs, node.inputs[0].dtype.bytes
    assert isinstance(attrs, (SplitAttrs, UnbindAttrs))
    outer = math.prod(node.inputs[0].dims[: attrs.axis])
    runs = [t.bytes // outer for t in node.outputs]
    unit = unit_bytes(element, *runs)
    body = f"ec_split{len(runs)}_body"
    grid = Grid(body, (str(unit),), flat(outer * sum(runs) // unit), THREADS)
    return Launch("ec_parts_cuda_params", _parts(runs, outer, unit, 8), (0,), (), (grid,))


_COPIES: Final = ("transpose", "expand", "slice", "select", "pixel_shuffle")
_LOW: Final = {2: 1, 4: 3, 8: 5}

KERNELS: Final[tuple[Kernel, ...]] = (
    *(
        Kernel(op, "ec_transpose_cuda", "cuda/ec_transpose.cu", 90, _accepts_transpose, _launch_transpose)
        for op in _COPIES
    ),
    *(Kernel(op, "ec_copy_cuda", "cuda/ec_copy.cu", 100, _accepts_copy, _launch_copy) for op in _COPIES),
    *(
        Kernel(op, f"ec_{op}_cuda", "cuda/ec_copy.cu", 100, _accepts_place, _launch_place)
        for op in ("pad", "roll")
    ),
    *(
        Kernel(
            "concat",
            f"ec_concat{n}_cuda",
            "cuda/ec_parts.cu",
            100,
            _accepts_concat(_LOW[n], n),
            _launch_concat(n),
        )
        for n in CONCATS
    ),
    *(
        Kernel(op, f"ec_split{n}_cuda", "cuda/ec_parts.cu", 100, _accepts_split(n), _launch_split)
        for op in ("split", "unbind")
        for n in SPLITS
    ),
)
