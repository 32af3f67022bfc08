"""Data movement on a GPU against its ops, for elements of 1, 2, 4 and 8 bytes."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case

from edgec.ir import NO_ATTRS, Array, Attrs
from edgec.ops.gather import GatherAttrs, IndexCopyAttrs, IndexSelectAttrs, ScatterAddAttrs, ScatterAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.shape import ExpandAttrs, PixelShuffleAttrs, RollAttrs, TransposeAttrs
from edgec.ops.slicing import SelectAttrs, SliceAttrs, SplitAttrs, UnbindAttrs

KINDS = (np.int8, np.float16, np.float32, np.int64)
Moves = tuple[tuple[str, Attrs, tuple[int, ...], str], ...]
MOVES: Moves = (
    ("transpose", TransposeAttrs((1, 0)), (33, 57), "transpose"),
    ("transpose", TransposeAttrs((1, 0)), (3, 5), "copy"),
    ("transpose", TransposeAttrs((0, 3, 1, 2)), (2, 14, 15, 96), "transpose"),
    ("transpose", TransposeAttrs((0, 2, 3, 1)), (1, 3, 32, 33), "copy"),
    ("transpose", TransposeAttrs((0, 2, 1, 3)), (2, 49, 3, 32), "copy"),
    ("transpose", TransposeAttrs((0, 1, 3, 2, 4, 5)), (1, 2, 7, 2, 7, 24), "copy"),
    ("transpose", TransposeAttrs((2, 0, 3, 1, 4)), (3, 20, 5, 6, 18), "copy"),
    ("transpose", TransposeAttrs((4, 0, 3, 1, 2)), (3, 20, 5, 6, 18), "transpose"),
    ("transpose", TransposeAttrs((0, 1, 3, 2)), (2, 8, 49, 32), "transpose"),
    ("expand", ExpandAttrs((4, 3)), (1, 3), "copy"),
    ("expand", ExpandAttrs((2, 5, 16, 3)), (5, 1, 3), "copy"),
    ("slice", SliceAttrs(1, 1, 4), (2, 5, 3), "copy"),
    ("slice", SliceAttrs(2, 8, 40), (4, 5, 64), "copy"),
    ("slice", SliceAttrs(1, 1, 8, 3), (2, 8, 32), "copy"),
    ("slice", SliceAttrs(2, 2, 7, 2), (2, 3, 7), "copy"),
    ("select", SelectAttrs(1, 2), (6, 5, 48), "copy"),
    ("select", SelectAttrs(2, 3), (2, 3, 4), "copy"),
    ("pixel_shuffle", PixelShuffleAttrs(2), (1, 6, 5, 64), "copy"),
    ("pad", PadAttrs(((0, 0), (1, 2), (0, 3), (0, 0))), (2, 5, 4, 16), "pad"),
    ("pad", PadAttrs(((0, 1), (2, 0)), 3.0), (2, 3), "pad"),
    ("pad", PadAttrs(((0, 0), (8, 16)), -2.0), (3, 24), "pad"),
    ("roll", RollAttrs((2,), (1,)), (2, 5, 3), "roll"),
    ("roll", RollAttrs((-3, -2), (1, 2)), (2, 14, 7, 24), "roll"),
    ("roll", RollAttrs((5,), (0,)), (17,), "roll"),
    ("split", SplitAttrs(1, (2, 1, 3)), (4, 6, 5), "split3"),
    ("split", SplitAttrs(2, (32, 64)), (4, 6, 96), "split2"),
    ("unbind", UnbindAttrs(1), (4, 4, 5), "split4"),
    ("unbind", UnbindAttrs(2), (2, 5, 3, 8), "split3"),
)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], kind: type) -> Array:
    return rng.integers(-100, 100, shape).astype(kind)


def moves() -> Iterator[Case]:
    rng = np.random.default_rng(9)
    for kind in KINDS:
        for op, attrs, shape, symbol in MOVES:
            x = _drawn(rng, shape, kind)
            label = f"{np.dtype(kind).name} {attrs} {shape}"
            yield Case(label, op, attrs, (x,), symbol=f"ec_{symbol}_cuda")
        for axis in range(3):
            for count in (1, 2, 3, 4, 5, 8):
                shapes = [tuple(3 + k if i == axis else 6 for i in range(3)) for k in range(count)]
                xs = tuple(_drawn(rng, s, kind) for s in shapes)
                pointers = 2 if count <= 2 else 4 if count <= 4 else 8
                label = f"{np.dtype(kind).name} concat {count} axis {axis}"
                yield Case(label, "concat", ConcatAttrs(axis), xs, symbol=f"ec_concat{pointers}_cuda")
        wide = tuple(_drawn(rng, (5, 7, n), kind) for n in (32, 64, 16))
        yield Case(
            f"{np.dtype(kind).name} concat wide", "concat", ConcatAttrs(2), wide, symbol="ec_concat4_cuda"
        )


def _distinct(rng: np.random.Generator, shape: tuple[int, ...], axis: int, size: int, index: type) -> Array:
    """Indices that are distinct along `axis`; half of them count from the end."""
    room = np.broadcast_to(
        np.arange(size).reshape([size if a == axis else 1 for a in range(len(shape))]),
        tuple(size if a == axis else n for a, n in enumerate(shape)),
    )
    drawn = np.take(rng.permuted(room, axis=axis), range(shape[axis]), axis)
    return np.where(drawn % 2 == 0, drawn, drawn - size).astype(index)


def indexed() -> Iterator[Case]:
    rng = np.random.default_rng(10)
    for kind in KINDS:
        for index in (np.int32, np.int64):
            name = f"{np.dtype(kind).name} {np.dtype(index).name}"
            for shape, axis, count in (((9, 24), 0, 5), ((3, 9, 5), 1, 4), ((2, 3, 40), 2, 7)):
                x, at = _drawn(rng, shape, kind), _distinct(rng, (count,), 0, shape[axis], index)
                source = _drawn(rng, tuple(count if a == axis else n for a, n in enumerate(shape)), kind)
                label = f"{name} {shape} {axis}"
                yield Case(
                    f"select {label}",
                    "index_select",
                    IndexSelectAttrs(axis),
                    (x, at),
                    symbol="ec_index_select_cuda",
                )
                yield Case(
                    f"copy {label}",
                    "index_copy",
                    IndexCopyAttrs(axis),
                    (x, at, source),
                    symbol="ec_index_copy_cuda",
                )
                own = tuple(count if a == axis else max(1, n - 1) for a, n in enumerate(shape))
                wide = _distinct(rng, own, axis, shape[axis], index)
                drawn = _drawn(rng, own, kind)
                yield Case(f"gather {label}", "gather", GatherAttrs(axis), (x, wide), symbol="ec_gather_cuda")
                yield Case(
                    f"scatter {label}",
                    "scatter",
                    ScatterAttrs(axis),
                    (x, wide, drawn),
                    symbol="ec_scatter_cuda",
                )
                if kind in (np.float16, np.float32):
                    add = ScatterAddAttrs(axis)
                    label = f"scatter_add {label}"
                    yield Case(label, "scatter_add", add, (x, wide, drawn), symbol="ec_scatter_add_cuda")
            table, ids = _drawn(rng, (50, 64), kind), rng.integers(-60, 60, (3, 5)).astype(index)
            yield Case(
                f"embedding {name}", "embedding", NO_ATTRS, (table, ids), symbol="ec_index_select_cuda"
            )


def equal_indices() -> Iterator[Case]:
    """The last of equal indices counts, or all of them in their order: sums equal the op's to the last bit."""
    rng = np.random.default_rng(4)
    for kind in (np.float16, np.float32, np.int8):
        for shape, axis, count in (
            ((7, 40), 0, 300),
            ((5, 9, 3), 1, 64),
            ((1000,), 0, 5000),
            ((6, 33), 1, 200),
        ):
            x = _drawn(rng, shape, kind)
            own = tuple(count if a == axis else n for a, n in enumerate(shape))
            at = rng.integers(-shape[axis], shape[axis] // 2, own).astype(np.int64)
            arrays = (x, at, _drawn(rng, own, kind))
            label = f"of equal indices {np.dtype(kind).name} {shape} axis {axis} count {count}"
            yield Case(f"scatter {label}", "scatter", ScatterAttrs(axis), arrays, symbol="ec_scatter_cuda")
            if kind is not np.int8:
                symbol, attrs = "ec_scatter_add_cuda", ScatterAddAttrs(axis)
                yield Case(f"add {label}", "scatter_add", attrs, arrays, symbol=symbol, tolerance=0.0)
            arrays = (x, at.reshape(-1)[:count], _drawn(rng, own, kind))
            symbol, attrs_copy = "ec_index_copy_cuda", IndexCopyAttrs(axis)
            yield Case(f"copy {label}", "index_copy", attrs_copy, arrays, symbol=symbol)


def cases() -> Iterator[Case]:
    yield from moves()
    yield from indexed()
    yield from equal_indices()


def test_movement_equals_its_ops() -> None:
    assert cuda_harness.run(cases()) == {}
