"""Kernel records of the C backend: data movement. One kernel serves every op that is the same movement.

reshape has no record (its output is an alias), nor has arange (it is folded away). Copies, pads and lookups
work on 1-byte and 4-byte elements; kernels that move runs count in bytes and take any element type. Indices are
int32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.kernel_record import Accepts, Fields, int_fields
from edgec.ir import DType, Type
from edgec.ops.gather import GatherAttrs, IndexCopyAttrs, IndexSelectAttrs, ScatterAddAttrs, ScatterAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs, pad_value
from edgec.ops.shape import ExpandAttrs, PixelShuffleAttrs, RollAttrs, TransposeAttrs
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs, UnbindAttrs
from edgec.plan import ROW_BY_ROW, Halo, Kernel, Launch, NodeView, Target

COPY_AXES: Final = 6
GATHER_AXES: Final = 4
ROLL_AXES: Final = 4
PARTS_MAX: Final = 8

Axis = tuple[int, int]  # size, stride in elements


def strides_of(dims: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    return tuple(math.prod(dims[i + 1 :]) for i in range(len(dims)))


def merged(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The same walk over memory with as few axes as possible: no size 1, neighbours without a gap joined."""
    out: list[Axis] = []
    for size, stride in axes:
        if size == 1:
            continue
        if out and out[-1][1] == size * stride:
            out[-1] = (out[-1][0] * size, stride)
        else:
            out.append((size, stride))
    return tuple(out)


def axis_fields(axes: Sequence[Axis], count: int) -> Fields:
    """size_0.. and stride_0.. of a walk, filled up in front with axes of size 1."""
    full = [(1, 0)] * (count - len(axes)) + list(axes)
    sizes = tuple((f"size_{i}", size) for i, (size, _) in enumerate(full))
    return (*sizes, *((f"stride_{i}", stride) for i, (_, stride) in enumerate(full)))


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the elements of a contiguous tensor stand in another: offset and axes."""

    offset: int
    axes: tuple[Axis, ...]


def copy_walk(node: NodeView) -> Walk:
    """Where the output's elements stand in the input, for the ops that are one strided copy."""
    dims = node.inputs[0].dims
    strides = strides_of(dims)
    match node.node.attrs:
        case TransposeAttrs(perm):
            return Walk(0, tuple((dims[p], strides[p]) for p in perm))
        case ExpandAttrs():
            out = node.outputs[0].dims
            lead = len(out) - len(dims)
            old = [0 if i < lead or dims[i - lead] == 1 else strides[i - lead] for i in range(len(out))]
            return Walk(0, tuple(zip(out, old, strict=True)))
        case SliceAttrs(axis, start, _, step):
            sizes = node.outputs[0].dims
            stepped = tuple(s * step if i == axis else s for i, s in enumerate(strides))
            return Walk(start * strides[axis], tuple(zip(sizes, stepped, strict=True)))
        case SelectAttrs(axis, index):
            kept = tuple((dims[i], strides[i]) for i in range(len(dims)) if i != axis)
            return Walk(index * strides[axis], kept)
        case PixelShuffleAttrs(r):
            n, h, w, c = dims
            cells = (n, h, w, c // (r * r), r, r)
            steps = strides_of(cells)
            return Walk(0, tuple((cells[p], steps[p]) for p in (0, 1, 4, 2, 5, 3)))
    raise AssertionError(node.node.op)


def same_elements(node: NodeView, width: int, data: Sequence[int]) -> bool:
    """Static shapes, and inputs `data` and all outputs have elements of `width` bytes in one type."""
    types = (*(node.inputs[i] for i in data), *node.outputs)
    if any(t.bounds for t in (*node.inputs, *node.outputs)):
        return False
    return all(t.dtype is types[0].dtype and t.dtype.bytes == width for t in types)


def same_bytes(node: NodeView, data: Sequence[int]) -> bool:
    """`same_elements` of any width."""
    return same_elements(node, node.outputs[0].dtype.bytes, data)


def is_index(t: Type) -> bool:
    """int32 indices."""
    return t.dtype is DType.I32


def _accepts_copy(width: int) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return same_elements(node, width, (0,)) and len(merged(copy_walk(node).axes)) <= COPY_AXES

    return accepts


def _launch_copy(node: NodeView, target: Target) -> Launch:
    walk = copy_walk(node)
    fields = (("offset", walk.offset), *axis_fields(merged(walk.axes), COPY_AXES))
    return Launch("ec_copy_params", fields, (0,), ())


def pad_walk(node: NodeView) -> Walk:
    """Where the input's elements stand in the output of pad. The last axis keeps stride 1."""
    attrs = node.node.attrs
    assert isinstance(attrs, PadAttrs)
    strides = strides_of(node.outputs[0].dims)
    offset = sum(before * s for (before, _), s in zip(attrs.pads, strides, strict=True))
    axes = merged(tuple(zip(node.inputs[0].dims, strides, strict=True)))
    return Walk(offset, axes if axes and axes[-1][1] == 1 else (*axes, (1, 1)))


def _accepts_pad(width: int) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return same_elements(node, width, (0,)) and len(pad_walk(node).axes) <= COPY_AXES

    return accepts


def _launch_pad(node: NodeView, target: Target) -> Launch:
    attrs, y = node.node.attrs, node.outputs[0]
    assert isinstance(attrs, PadAttrs)
    walk = pad_walk(node)
    element = np.array([pad_value(attrs, y)], y.dtype.numpy)
    bits = int(element.view(np.int32 if y.dtype.bytes == 4 else np.int8)[0])
    head = int_fields(total=y.size, value=bits, offset=walk.offset)
    return Launch("ec_pad_params", (*head, *axis_fields(walk.axes, COPY_AXES)), (0,), ())


def _parts(outer: int, sizes: Sequence[int]) -> Fields:
    filled = [*sizes, *([0] * (PARTS_MAX - len(sizes)))]
    return (("outer", outer), *((f"bytes_{i}", b) for i, b in enumerate(filled)))


def _accepts_concat(low: int, high: int) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return low <= len(node.inputs) <= high and same_bytes(node, range(len(node.inputs)))

    return accepts


def _launch_concat(pointers: int) -> Callable[[NodeView, Target], Launch]:
    def launch(node: NodeView, target: Target) -> Launch:
        attrs, width = node.node.attrs, node.outputs[0].dtype.bytes
        assert isinstance(attrs, ConcatAttrs)
        sizes = [math.prod(t.dims[attrs.axis :]) * width for t in node.inputs]
        outer = math.prod(node.outputs[0].dims[: attrs.axis])
        # an unused pointer repeats the first operand; its part has 0 bytes
        used = tuple(range(len(node.inputs)))
        return Launch("ec_parts_params", _parts(outer, sizes), (*used, *((0,) * (pointers - len(used)))), ())

    return launch


def _accepts_concat_rows(node: NodeView, target: Target) -> bool:
    """Two maps NHWC side by side in channels."""
    attrs = node.node.attrs
    assert isinstance(attrs, ConcatAttrs)
    maps = len(node.outputs[0].shape) == 4 and attrs.axis == 3
    return maps and len(node.inputs) == 2 and same_bytes(node, (0, 1))


def _launch_concat_rows(node: NodeView, target: Target) -> Launch:
    _, height, width, _ = node.outputs[0].dims
    sizes = [t.dims[3] * t.dtype.bytes for t in node.inputs]
    fields = int_fields(
        width=width, bytes_0=sizes[0], bytes_1=sizes[1], ring_0=height, ring_1=height, ring_y=height
    )
    return Launch("ec_concat_rows_params", fields, (0, 1), ())


def padding_byte(node: NodeView) -> int | None:
    """The byte that every byte of a padded element equals, None where they differ."""
    attrs, y = node.node.attrs, node.outputs[0]
    assert isinstance(attrs, PadAttrs)
    element = set(np.array([pad_value(attrs, y)], y.dtype.numpy).tobytes())
    return element.pop() if len(element) == 1 else None


def _accepts_pad_rows(node: NodeView, target: Target) -> bool:
    """Rows and columns of a map NHWC, the padding being one byte repeated."""
    attrs = node.node.attrs
    assert isinstance(attrs, PadAttrs)
    maps = len(attrs.pads) == 4 and attrs.pads[0] == attrs.pads[3] == (0, 0)
    return maps and same_bytes(node, (0,)) and padding_byte(node) is not None


def _launch_pad_rows(node: NodeView, target: Target) -> Launch:
    attrs, (_, height, width, channels) = node.node.attrs, node.inputs[0].dims
    value = padding_byte(node)
    assert isinstance(attrs, PadAttrs) and value is not None
    pixel = channels * node.inputs[0].dtype.bytes
    fields = int_fields(
        in_h=height,
        row_bytes=width * pixel,
        top=attrs.pads[1][0],
        left=attrs.pads[2][0] * pixel,
        right=attrs.pads[2][1] * pixel,
        value=value,
        ring_0=height,
        ring_y=node.outputs[0].dims[1],
    )
    return Launch("ec_pad_rows_params", fields, (0,), ())


def _pad_halo(node: NodeView) -> Halo:
    attrs = node.node.attrs
    assert isinstance(attrs, PadAttrs)
    return Halo(1, 1, attrs.pads[1][0], 1)


def _accepts_split(count: int) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return len(node.outputs) == count and same_bytes(node, (0,))

    return accepts


def _launch_split(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, (SplitAttrs, UnbindAttrs))
    outer = math.prod(node.inputs[0].dims[: attrs.axis])
    return Launch("ec_parts_params", _parts(outer, [t.bytes // outer for t in node.outputs]), (0,), ())


def roll_axes(node: NodeView) -> tuple[tuple[int, int], ...]:
    """(size, shift) of each rolled axis with the axes inside of it, last in bytes; leading ones merged."""
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, RollAttrs)
    shifts = dict(zip(attrs.axes, attrs.shifts, strict=True))
    out: list[tuple[int, int]] = []
    for axis, size in enumerate(dims):
        shift = shifts.get(axis, 0) % size
        if shift == 0 and out:
            out[-1] = (out[-1][0] * size, out[-1][1] * size)
        else:
            out.append((size, shift))
    width = node.inputs[0].dtype.bytes
    return (*out[:-1], (out[-1][0] * width, out[-1][1] * width))


def _accepts_roll(node: NodeView, target: Target) -> bool:
    return same_bytes(node, (0,)) and len(roll_axes(node)) <= ROLL_AXES


def _launch_roll(node: NodeView, target: Target) -> Launch:
    axes = roll_axes(node)
    full = [(1, 0)] * (ROLL_AXES - len(axes)) + list(axes)
    sizes = tuple((f"size_{i}", size) for i, (size, _) in enumerate(full))
    shifts = tuple((f"shift_{i}", shift) for i, (_, shift) in enumerate(full))
    return Launch("ec_roll_params", (*sizes, *shifts), (0,), ())


def index_walk(node: NodeView) -> tuple[Axis, ...]:
    """The index's axes with the strides of x; 0 for the indexed axis, along which the index itself moves."""
    attrs = node.node.attrs
    assert isinstance(attrs, (GatherAttrs, ScatterAttrs, ScatterAddAttrs))
    strides = strides_of(node.inputs[0].dims)
    own = node.inputs[1].dims
    return merged(tuple((own[a], 0 if a == attrs.axis else strides[a]) for a in range(len(own))))


def _accepts_index(dtype_or_width: DType | int, data: tuple[int, ...]) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        if isinstance(dtype_or_width, DType):
            fits = node.inputs[0].dtype is dtype_or_width and same_bytes(node, data)
        else:
            fits = same_elements(node, dtype_or_width, data)
        return fits and is_index(node.inputs[1]) and len(index_walk(node)) <= GATHER_AXES

    return accepts


def _launch_index(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, (GatherAttrs, ScatterAttrs, ScatterAddAttrs))
    head = int_fields(total=x.size, axis_size=x.dims[attrs.axis], axis_stride=strides_of(x.dims)[attrs.axis])
    fields = (*head, *axis_fields(index_walk(node), GATHER_AXES))
    return Launch("ec_gather_params", fields, tuple(range(len(node.inputs))), ())


def _accepts_slices(data: tuple[int, ...]) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        return same_bytes(node, data) and is_index(node.inputs[1])

    return accepts


def _launch_slices(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    axis = attrs.axis if isinstance(attrs, (IndexSelectAttrs, IndexCopyAttrs)) else 0
    fields = int_fields(
        outer=math.prod(x.dims[:axis]),
        axis_size=x.dims[axis],
        count=node.inputs[1].size,
        bytes=math.prod(x.dims[axis + 1 :]) * x.dtype.bytes,
    )
    return Launch("ec_slices_params", fields, tuple(range(len(node.inputs))), ())


def _kernel(
    op: str,
    symbol: str,
    rank: int,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    in_place: tuple[int, ...] = (),
    halo: Callable[[NodeView], Halo] | None = None,
) -> Kernel:
    return Kernel(op, symbol, f"kernels/{symbol}.c", rank, accepts, launch, in_place=in_place, halo=halo)


_COPIES: Final = ("transpose", "expand", "slice", "select", "pixel_shuffle")
_WIDTHS: Final = (1, 4)

KERNELS: Final[tuple[Kernel, ...]] = (
    *(_kernel(op, f"ec_copy_x{w}", 100, _accepts_copy(w), _launch_copy) for op in _COPIES for w in _WIDTHS),
    *(_kernel("pad", f"ec_pad_x{w}", 100, _accepts_pad(w), _launch_pad) for w in _WIDTHS),
    _kernel("pad", "ec_pad_rows_x1", 80, _accepts_pad_rows, _launch_pad_rows, halo=_pad_halo),
    _kernel(
        "concat",
        "ec_concat2_rows_x1",
        80,
        _accepts_concat_rows,
        _launch_concat_rows,
        halo=lambda node: ROW_BY_ROW,
    ),
    _kernel("concat", "ec_concat2_x1", 90, _accepts_concat(2, 2), _launch_concat(2)),
    _kernel("concat", "ec_concat8_x1", 100, _accepts_concat(1, 8), _launch_concat(8)),
    *(
        _kernel(op, f"ec_split{n}_x1", 100, _accepts_split(n), _launch_split)
        for op, counts in (("split", (2, 3, 4)), ("unbind", (2, 3, 4)))
        for n in counts
    ),
    _kernel("roll", "ec_roll_x1", 100, _accepts_roll, _launch_roll),
    *(_kernel("gather", f"ec_gather_x{w}", 100, _accepts_index(w, (0,)), _launch_index) for w in _WIDTHS),
    *(
        _kernel("scatter", f"ec_scatter_x{w}", 100, _accepts_index(w, (0, 2)), _launch_index, (0,))
        for w in _WIDTHS
    ),
    _kernel("scatter_add", "ec_scatter_add_f32", 100, _accepts_index(DType.F32, (0, 2)), _launch_index, (0,)),
    _kernel("index_select", "ec_index_select_x1", 100, _accepts_slices((0,)), _launch_slices),
    _kernel("embedding", "ec_index_select_x1", 100, _accepts_slices((0,)), _launch_slices),
    _kernel("index_copy", "ec_index_copy_x1", 100, _accepts_slices((0, 2)), _launch_slices, (0,)),
)
