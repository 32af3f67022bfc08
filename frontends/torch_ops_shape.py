"""Importers of operators that move, join, cut and pick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.frontends.torch_call import Call, Importer, Ref, Result, Unsupported
from edgec.ir import DType


def reshape(c: Call) -> Result:
    if isinstance(c.get("dtype"), object) and c.get("dtype") is not None:
        raise Unsupported("the bits of a tensor seen as another type")
    return c.reshape(c.ref(), c.out[0].dims)


def permute(c: Call) -> Result:
    x = c.ref()
    rank = len(c.dims(x))
    return c.transpose(x, tuple(c.axis(d, rank) for d in c["dims"]))


def transpose(c: Call) -> Result:
    x = c.ref()
    rank = len(c.dims(x))
    if not rank:
        return x
    a, b = c.axis(c.get("dim0", -2), rank), c.axis(c.get("dim1", -1), rank)
    perm = list(range(rank))
    perm[a], perm[b] = b, a
    return c.transpose(x, perm)


def t(c: Call) -> Result:
    return c.transpose(c.ref(), tuple(reversed(range(len(c.dims(c.ref()))))))


def expand(c: Call) -> Result:
    return c.expand(c.ref(), c.out[0].dims)


def repeat(c: Call) -> Result:
    """Copies along each axis, by concatenation."""
    x, repeats = c.ref(), list(c["repeats"] if "repeats" in c.args else c["dims"])
    repeats = [1] * (len(c.dims(x)) - len(repeats)) + repeats
    x = c.reshape(x, (*(1,) * (len(repeats) - len(c.dims(x))), *c.dims(x)))
    for axis, count in enumerate(repeats):
        if count == 0:
            raise Unsupported("no copies at all")
        if count > 1 and c.dims(x)[axis] == 1:
            x = c.expand(x, (*c.dims(x)[:axis], count, *c.dims(x)[axis + 1 :]))
        elif count > 1:
            x = c.emit("concat", *[x] * count, axis=axis)
    return x


def concat(c: Call) -> Result:
    dtype = c.out[0].dtype
    # A tensor without elements adds nothing.
    parts = [c.cast(r, dtype) for r in c["tensors"] if 0 not in c.dims(r)]
    axis = c.axis(c.get("dim", 0), len(c.out[0].dims))
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=axis)


def stack(c: Call) -> Result:
    dims = c.out[0].dims
    axis = c.axis(c.get("dim", 0), len(dims))
    one = (*dims[:axis], 1, *dims[axis + 1 :])
    parts = [c.reshape(c.cast(r, c.out[0].dtype), one) for r in c["tensors"]]
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=axis)


def split(c: Call) -> Result:
    """split, split_with_sizes, chunk, tensor_split: PyTorch has worked out the sizes of the parts."""
    x = c.ref()
    axis = c.axis(c.get("dim", 0), len(c.dims(x)))
    sizes = tuple(t.dims[axis] for t in c.out)
    if len(sizes) == 1:
        return (str(x),)
    from edgec.ops.slicing import SplitAttrs

    return c.b.node("split", (x,), SplitAttrs(axis, sizes))


def unbind(c: Call) -> Result:
    from edgec.ops.slicing import UnbindAttrs

    x = c.ref()
    return c.b.node("unbind", (x,), UnbindAttrs(c.axis(c.get("dim", 0), len(c.dims(x)))))


def _range(c: Call, size: int) -> tuple[int, int, int]:
    """(start, stop, step) of a slice within [0, size]."""
    return slice(c.get("start"), c.get("end"), c.get("step", 1)).indices(size)


def slice_(c: Call) -> Result:
    x = c.ref()
    axis = c.axis(c.get("dim", 0), len(c.dims(x)))
    size = c.dims(x)[axis]
    start, stop, step = _range(c, size)
    if (start, stop, step) == (0, size, 1):
        return x
    if stop <= start:  # no element: only a concat may follow, which leaves it out
        return c.full(0.0, c.out[0].dims, c.out[0].dtype)
    return c.emit("slice", x, axis=axis, start=start, stop=stop, step=step)


def narrow(c: Call) -> Result:
    args = {**c.args, "end": c["start"] + c["length"] if c["start"] + c["length"] else None}
    return slice_(Call(c.b, c.name, args, c.out))


def select(c: Call) -> Result:
    x = c.ref()
    axis = c.axis(c["dim"], len(c.dims(x)))
    return c.emit("select", x, axis=axis, index=c.axis(c["index"], c.dims(x)[axis]))


def slice_scatter(c: Call) -> Result:
    """self with a run of rows replaced by src: what is before, src, what is after."""
    x, source = c.ref(), c.cast(c.ref("src"), c.out[0].dtype)
    axis = c.axis(c.get("dim", 0), len(c.dims(x)))
    size = c.dims(x)[axis]
    start, stop, step = _range(c, size)
    if step != 1:
        raise Unsupported(f"writing into every {step}th row")
    parts = [c.emit("slice", x, axis=axis, start=0, stop=start)] if start > 0 else []
    parts.append(c.expand(source, (*c.dims(x)[:axis], stop - start, *c.dims(x)[axis + 1 :])))
    if stop < size:
        parts.append(c.emit("slice", x, axis=axis, start=stop, stop=size))
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=axis)


def select_scatter(c: Call) -> Result:
    x = c.ref()
    axis = c.axis(c["dim"], len(c.dims(x)))
    index = c.axis(c["index"], c.dims(x)[axis])
    source = c.reshape(c.ref("src"), (*c.dims(x)[:axis], 1, *c.dims(x)[axis + 1 :]))
    args = {"self": x, "src": source, "dim": axis, "start": index, "end": index + 1, "step": 1}
    return slice_scatter(Call(c.b, c.name, args, c.out))


def copy(c: Call) -> Result:
    return c.expand(c.cast(c.ref("src"), c.out[0].dtype), c.out[0].dims)


def index_select(c: Call) -> Result:
    x = c.ref()
    return c.emit("index_select", x, c.ref("index"), axis=c.axis(c["dim"], len(c.dims(x))))


def index(c: Call) -> Result:
    """x[..., i, ...] of one index tensor, or of several on axes side by side that broadcast."""
    x = c.ref()
    given = [(axis, i) for axis, i in enumerate(c["indices"]) if i is not None]
    if any(c.b.types[i].dtype is DType.B8 for _, i in given):
        raise Unsupported(
            "a boolean mask as index, whose result has a size known only at run time; use where"
        )
    if len(given) == 1:
        axis, i = given[0]
        return c.emit("index_select", x, i, axis=axis)
    axes = [axis for axis, _ in given]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise Unsupported("several index tensors on axes apart; pick along one after the other")
    rank = max(len(c.dims(i)) for _, i in given)
    owners = [
        [a for a, d in enumerate((*(1,) * (rank - len(c.dims(i))), *c.dims(i))) if d != 1] for _, i in given
    ]
    if rank == len(given) and all(own in ([], [place]) for place, own in enumerate(owners)):
        for axis, i in given:
            x = c.emit("index_select", x, c.reshape(i, (math.prod(c.dims(i)),)), axis=axis)
        return x
    return _index_together(c, x, axes, [i for _, i in given])


def _index_together(c: Call, x: Ref, axes: Sequence[int], indices: Sequence[Ref]) -> Ref:
    """x with neighbouring axes indexed by tensors that broadcast: as one axis, at the sum of index times stride."""
    dims, first, last = c.dims(x), axes[0], axes[-1]
    place: Ref | None = None
    for axis, i in zip(axes, indices, strict=True):
        index = c.cast(i, DType.I32)
        size = c.constant(np.int32(dims[axis]), "size")
        behind = c.emit("lt", index, c.constant(np.int32(0), "zero"))
        index = c.emit("where", behind, c.emit("add", index, size), index)
        stride = math.prod(dims[axis + 1 : last + 1])
        index = c.emit("mul", index, c.constant(np.int32(stride), "stride")) if stride != 1 else index
        place = index if place is None else c.emit("add", place, index)
    assert place is not None
    whole = c.reshape(x, (*dims[:first], math.prod(dims[first : last + 1]), *dims[last + 1 :]))
    return c.emit("index_select", whole, place, axis=first)


def unfold(c: Call) -> Result:
    """Windows of an axis: [..., windows, ..., size]."""
    x, size, step = c.ref(), c["size"], c["step"]
    dims = c.dims(x)
    axis = c.axis(c["dimension"], len(dims))
    count = (dims[axis] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)[None]
    windows = c.emit("index_select", x, c.constant(places.astype(np.int32), "windows"), axis=axis)
    rank = len(dims) + 1
    return c.transpose(windows, [a for a in range(rank) if a != axis + 1] + [axis + 1])


def index_put(c: Call) -> Result:
    x, indices, values = c.ref(), c["indices"], c.ref("values")
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if c.get("accumulate") or len(given) != 1 or len(c.dims(given[0][1])) != 1:
        raise Unsupported("writing through several indices or adding up; one 1-D index is supported")
    axis, at = given[0]
    if c.b.types[at].dtype is DType.B8:
        raise Unsupported("a boolean mask as index; use where")
    dims = (*c.dims(x)[:axis], c.dims(at)[0], *c.dims(x)[axis + 1 :])
    return c.emit("index_copy", x, at, c.expand(c.cast(values, c.out[0].dtype), dims), axis=axis)


def index_copy(c: Call) -> Result:
    x = c.ref()
    return c.emit("index_copy", x, c.ref("index"), c.ref("source"), axis=c.axis(c["dim"], len(c.dims(x))))


def gather(c: Call) -> Result:
    x = c.ref()
    return c.emit("gather", x, c.ref("index"), axis=c.axis(c["dim"], len(c.dims(x))))


def scatter(c: Call) -> Result:
    x, at = c.ref(), c.ref("index")
    if c.get("reduce") is not None:
        raise Unsupported("scatter with a reduction")
    source = c.get("src")
    if not isinstance(source, Ref):
        source = c.full(c["value"], c.dims(at), c.out[0].dtype)
    return c.emit("scatter", x, at, source, axis=c.axis(c["dim"], len(c.dims(x))))


def embedding(c: Call) -> Result:
    ids = c.ref("indices")
    return c.emit("embedding", c.ref("weight"), ids)


def roll(c: Call) -> Result:
    x, shifts, axes = c.ref(), _listed(c["shifts"]), _listed(c.get("dims") or [])
    dims = c.dims(x)
    if not axes:
        flat = c.emit("roll", c.reshape(x, (math.prod(dims),)), shifts=tuple(shifts), axes=(0,))
        return c.reshape(flat, dims)
    return c.emit("roll", x, shifts=tuple(shifts), axes=tuple(c.axis(a, len(dims)) for a in axes))


def _listed(value: Any) -> Sequence[int]:
    return [value] if isinstance(value, int) else list(value)


def flip(c: Call) -> Result:
    x = c.ref()
    for axis in c.axes(c["dims"], len(c.dims(x))):
        back = c.constant(np.arange(c.dims(x)[axis] - 1, -1, -1, dtype=np.int32), "reversed")
        x = c.emit("index_select", x, back, axis=axis)
    return x


TABLE: dict[str, Importer] = {
    "unfold": unfold,
    **dict.fromkeys(
        ("reshape", "view", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_copy"),
        reshape,
    ),
    **dict.fromkeys(("squeeze_copy", "unsqueeze_copy", "_reshape_copy", "_reshape_alias"), reshape),
    "permute": permute,
    "permute_copy": permute,
    "transpose": transpose,
    "transpose_copy": transpose,
    "swapaxes": transpose,
    "mT": transpose,
    "t": t,
    "t_copy": t,
    "numpy_T": t,
    "expand": expand,
    "expand_copy": expand,
    "expand_as": expand,
    "broadcast_to": expand,
    "repeat": repeat,
    "tile": repeat,
    "cat": concat,
    "concat": concat,
    "concatenate": concat,
    "stack": stack,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split"), split),
    **dict.fromkeys(("split_copy", "split_with_sizes_copy", "unsafe_chunk"), split),
    "unbind": unbind,
    "unbind_copy": unbind,
    "slice": slice_,
    "slice_copy": slice_,
    "narrow": narrow,
    "select": select,
    "select_copy": select,
    "slice_scatter": slice_scatter,
    "select_scatter": select_scatter,
    "copy": copy,
    "index_select": index_select,
    "index": index,
    "_unsafe_index": index,
    "index_put": index_put,
    "_unsafe_index_put": index_put,
    "index_copy": index_copy,
    "gather": gather,
    "scatter": scatter,
    "embedding": embedding,
    "roll": roll,
    "flip": flip,
}
