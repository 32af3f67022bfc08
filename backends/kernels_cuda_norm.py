"""Kernel records of the CUDA backend: softmax and normalisation of fp32, fp16 and bf16."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.backends.cuda_record import (
    CUDA_TYPE,
    ELEMENTS_MOST,
    GRID_MOST,
    all_of_one_float,
    blocks_for,
    flag,
    gpu_of,
)
from edgec.backends.kernel_record import int_fields
from edgec.backends.kernels_c_norm import norm_count
from edgec.ir import DType, Type
from edgec.ops.norm import BatchNormAttrs, GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.softmax import LogSoftmaxAttrs, SoftmaxAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]

VECTOR_BYTES: Final = 16
THREADS: Final = 128
LANES_MAX: Final = 1024
HELD_MAX: Final = 32  # elements of a row that a thread holds in registers
LONG_THREADS: Final = 1024


def vector_width(t: DType, *multiples: int) -> int:
    """Elements of a vector of at most 16 bytes that divides all of `multiples`."""
    width = VECTOR_BYTES // t.bytes
    while any(n % width for n in multiples):
        width //= 2
    return width


@dataclass(frozen=True, slots=True)
class RowShape:
    """How a row lies in registers: `lanes` threads with `vectors` vectors of `width` elements each."""

    width: int
    lanes: int
    vectors: int

    @property
    def threads(self) -> int:
        return max(THREADS, self.lanes) if self.lanes <= 32 else self.lanes

    @property
    def template(self) -> tuple[str, ...]:
        return (str(self.width), str(self.lanes), str(self.vectors))

    def grid(self, rows: int) -> tuple[int, int, int]:
        """Blocks for `rows` rows."""
        return (blocks_for(rows, self.threads // self.lanes), 1, 1)


def row_shape(rows: int, count: int, t: DType, target: Target) -> RowShape | None:
    """The shape for rows of `count` elements: few registers, and enough threads to fill the GPU where there are few
    rows; None where a block cannot hold a row."""
    width = vector_width(t, count)
    needed = -(-count // width)
    wanted = gpu_of(target).sms * 512 // max(rows, 1)  # threads a row that would fill the GPU
    lanes = 1
    while lanes < LANES_MAX and lanes < needed and (lanes < wanted or -(-needed // lanes) * width > 16):
        lanes *= 2
    vectors = -(-needed // lanes)
    return RowShape(width, lanes, vectors) if vectors * width <= HELD_MAX else None


def _affine(node: NodeView) -> tuple[tuple[int, ...], tuple[Packed, ...], tuple[str, str]]:
    """(inputs, one element for each of gain and bias that is absent, flags of both)."""
    given = len(node.inputs)
    like = node.inputs[0].dtype.numpy
    absent = (Packed("gain", "one", np.ones(1, like)), Packed("bias", "zero", np.zeros(1, like)))
    return tuple(range(given)), absent[given - 1 :], (flag(given > 1), flag(given > 2))


def _launch_row_norm(node: NodeView, target: Target) -> Launch:
    attrs, count, x = node.node.attrs, norm_count(node), node.inputs[0]
    assert isinstance(attrs, (LayerNormAttrs, RmsNormAttrs))
    rows = x.size // count
    inputs, constants, affine = _affine(node)
    fields = (*int_fields(rows=rows, count=count), ("inverse", 1.0 / count), ("eps", attrs.eps))
    shape = row_shape(rows, count, x.dtype, target)
    kind = (flag(isinstance(attrs, LayerNormAttrs)), *affine)
    template: tuple[str, ...]
    if shape is None:
        template = (CUDA_TYPE[x.dtype], str(LONG_THREADS), *kind)
        grid = Grid("ec_row_norm_long_body", template, (rows, 1, 1), LONG_THREADS)
    else:
        early = flag(all(c is not None for c in node.constants[1:]))
        template = (CUDA_TYPE[x.dtype], *shape.template, *kind, early)
        grid = Grid("ec_row_norm_body", template, shape.grid(rows), shape.threads, waits=True)
    return Launch("ec_row_norm_params", fields, inputs, constants, (grid,))


def _launch_group_norm(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, GroupNormAttrs)
    positions, channels = math.prod(x.dims[1:-1]), x.dims[-1]
    group = channels // attrs.groups
    inputs, constants, affine = _affine(node)
    sizes = int_fields(positions=positions, channels=channels, group=group)
    fields = (*sizes, ("inverse", 1.0 / (positions * group)), ("eps", attrs.eps))
    width = vector_width(x.dtype, group)
    threads = 1024 if positions * group // width >= 4096 else 256
    template = (CUDA_TYPE[x.dtype], str(width), str(threads), *affine)
    grid = Grid("ec_group_norm_body", template, (attrs.groups, x.dims[0], 1), threads)
    return Launch("ec_group_norm_cuda_params", fields, inputs, constants, (grid,))


def _launch_batch_norm(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, BatchNormAttrs)
    channels = x.dims[-1]
    width = vector_width(x.dtype, channels)
    fields = (*int_fields(rows=x.size // channels, channels=channels), ("eps", attrs.eps))
    blocks = (blocks_for(x.size // width, THREADS), 1, 1)
    grid = Grid("ec_batch_norm_body", (CUDA_TYPE[x.dtype], str(width)), blocks, THREADS)
    return Launch("ec_batch_norm_params", fields, (0, 1, 2, 3, 4), (), (grid,))


def _launch_softmax(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, (SoftmaxAttrs, LogSoftmaxAttrs))
    count, inner = x.dims[attrs.axis], math.prod(x.dims[attrs.axis + 1 :])
    rows, kind = x.size // count, (flag(isinstance(attrs, LogSoftmaxAttrs)),)
    element = CUDA_TYPE[x.dtype]
    shape = row_shape(rows, count, x.dtype, target)
    template: tuple[str, ...]
    if inner > 1:
        grid = Grid("ec_softmax_inner_body", (element, *kind), (blocks_for(rows, THREADS), 1, 1), THREADS)
    elif shape is None:
        template = (element, str(LONG_THREADS), *kind)
        grid = Grid("ec_softmax_long_body", template, (rows, 1, 1), LONG_THREADS)
    else:
        template = (element, *shape.template, *kind)
        grid = Grid("ec_softmax_body", template, shape.grid(rows), shape.threads)
    fields = int_fields(rows=rows, count=count, inner=inner)
    return Launch("ec_softmax_cuda_params", fields, (0,), (), (grid,))


def fits_int32(t: Type) -> bool:
    """Whether the tensor's elements can be counted in int32."""
    return t.size <= ELEMENTS_MOST


def _accepts(node: NodeView, target: Target) -> bool:
    images = node.inputs[0].dims[0] if isinstance(node.node.attrs, GroupNormAttrs) else 1
    return all_of_one_float(node, target) and fits_int32(node.inputs[0]) and images <= GRID_MOST


def _kernel(op: str, source: str, launch: Launcher) -> Kernel:
    return Kernel(op, f"ec_{op}_cuda", f"cuda/{source}.cu", 100, _accepts, launch, in_place=(0,))


KERNELS: Final[tuple[Kernel, ...]] = (
    _kernel("layer_norm", "ec_row_norm", _launch_row_norm),
    _kernel("rms_norm", "ec_row_norm", _launch_row_norm),
    _kernel("group_norm", "ec_group_norm", _launch_group_norm),
    _kernel("batch_norm", "ec_group_norm", _launch_batch_norm),
    _kernel("softmax", "ec_softmax", _launch_softmax),
    _kernel("log_softmax", "ec_softmax", _launch_softmax),
)
