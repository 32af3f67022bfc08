"""What the records of matrix products and convolutions of the CUDA backend share: operands, tiles, split sums."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.cuda_record import CUDA_TYPE, gpu_of, is_float
from edgec.backends.cuda_tiles import Choice, Product, choose
from edgec.backends.kernel_record import Field, constant
from edgec.ir import Array, DType, Type
from edgec.plan import Grid, NodeView, Packed, Target

CHUNK_BYTES: Final = 16  # of an asynchronous copy
SUM_BYTES: Final = 4
_MODES: Final = {"none": "EC_SPLIT_NONE", "cluster": "EC_SPLIT_CLUSTER", "scratch": "EC_SPLIT_SCRATCH"}


def chunk_of(t: Type) -> int:
    """Elements of a chunk."""
    return CHUNK_BYTES // t.dtype.bytes


def is_weighted_float(node: NodeView) -> bool:
    """x and y of one float type, the weights of the same, and a bias, if there is one, constant."""
    types = (*node.inputs, *node.outputs)
    same = all(is_float(t) for t in types) and len({t.dtype for t in types}) == 1
    return same and (len(node.inputs) == 2 or node.constants[2] is not None)


def rows_are_chunks(node: NodeView) -> bool:
    """Whether each row of the weights is whole chunks, so that they are used as they are."""
    w = node.inputs[1]
    return (w.size // w.dims[0]) % chunk_of(w) == 0


def weights_can_be_used(node: NodeView) -> bool:
    """Constant weights can be packed; others are used as they are."""
    return node.constants[1] is not None or rows_are_chunks(node)


def held(node: NodeView) -> str:
    """The C++ truth of whether the weights are constant."""
    return "true" if node.constants[1] is not None else "false"


def packed_bias(node: NodeView) -> Packed:
    """The bias in float32; zeros where there is none."""
    bias = constant(node, 2) if len(node.inputs) == 3 else np.zeros(node.inputs[1].dims[0], np.float32)
    return Packed("bias", "f32", np.asarray(bias, np.float32))


def weight_constants(node: NodeView) -> tuple[tuple[int, ...], tuple[Packed, ...]]:
    """(inputs, constants) of (x, w, bias): the bias in float32, weights packed only where rows are no whole chunks."""
    packed = packed_bias(node)
    if rows_are_chunks(node):
        return (0, 1), (packed,)
    return (0,), (Packed("w", "rows16", padded_rows(constant(node, 1), chunk_of(node.inputs[1]))), packed)


def padded_rows(w: Array, chunk: int) -> Array:
    """w[O, ...] as [O, K], each row filled up with zeros to whole chunks."""
    rows = np.asarray(w).reshape(w.shape[0], -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % chunk)))


def pitch_of(node: NodeView) -> int:
    """Elements from one row of the weights to the next."""
    w = node.inputs[1]
    return -(-(w.size // w.dims[0]) // chunk_of(w)) * chunk_of(w)


def run_length(columns: int, dtype: DType) -> int:
    """Columns that are stored at once: 16 bytes, or as many as divide the columns."""
    run = CHUNK_BYTES // dtype.bytes
    while columns % run:
        run //= 2
    return run


def size_fields(product: Product, choice: Choice) -> tuple[Field, ...]:
    """The fields that all these structs begin with."""
    return ("m", product.m), ("n", product.n), ("k", product.k), ("splits", choice.splits)


def split_mode(choice: Choice) -> str:
    """How the parts of K are added."""
    if choice.splits == 1:
        return "none"
    return "cluster" if choice.cluster else "scratch"


def grid_of(
    body: str,
    product: Product,
    choice: Choice,
    dtype: DType,
    template: tuple[str, ...],
) -> Grid:
    """The launch of `body`<tile, split mode, run, template...>."""
    mode = split_mode(choice)
    run = run_length(product.n, dtype)
    return Grid(
        body,
        (choice.tile.text(CUDA_TYPE[dtype]), _MODES[mode], str(run), *template),
        (choice.tiles(product) * choice.splits, product.batch, 1),
        choice.tile.threads,
        choice.tile.shared_bytes,
        waits=True,
        cluster=choice.splits if mode == "cluster" else 1,
    )


def chosen(product: Product, target: Target) -> Choice:
    """The tile and the parts of K on this target."""
    return choose(product, gpu_of(target))


def scratch_bytes(product: Product, target: Target) -> int:
    """Bytes for the parts of K, where they are added through memory; at least one chunk."""
    choice = chosen(product, target)
    if split_mode(choice) != "scratch":
        return CHUNK_BYTES
    tile = choice.tile
    return choice.tiles(product) * product.batch * choice.splits * tile.rows * tile.columns * SUM_BYTES


def counter_bytes(product: Product, target: Target) -> int:
    """Bytes of counters: one for each tile whose parts are added through memory."""
    choice = chosen(product, target)
    if split_mode(choice) != "scratch":
        return SUM_BYTES
    return choice.tiles(product) * product.batch * SUM_BYTES
