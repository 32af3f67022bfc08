"""Kernel records of the CUDA backend: int8 products with a scale for each row at run time, and those rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from edgec.backends.cuda_gemm import (
    CHUNK_BYTES,
    chosen,
    counter_bytes,
    grid_of,
    run_length,
    scratch_bytes,
    size_fields,
)
from edgec.backends.cuda_record import CUDA_TYPE, FLOATS
from edgec.backends.cuda_tiles import Product
from edgec.backends.kernel_record import INT32_MAX, clamp_fields_f32, constant, int_fields
from edgec.ir import DType
from edgec.ops.linear_w8a8 import LinearW8A8Attrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

SOURCE: Final = "cuda/ec_linear_w8a8.cu"
CHANNELS_MOST: Final = 2**31 // 127**2  # of which a sum fits int32
THREADS: Final = 256


def _accepts_rows(node: NodeView, target: Target) -> bool:
    x = node.inputs[0]
    return x.dtype in FLOATS and x.quant is None and not x.bounds and 0 < x.size <= INT32_MAX


def _launch_rows(node: NodeView, target: Target) -> Launch:
    x = node.inputs[0]
    channels = x.dims[-1]
    vector = next(v for v in (8, 4, 2, 1) if channels % v == 0 and v * x.dtype.bytes <= CHUNK_BYTES)
    grid = Grid(
        "ec_quantize_rows_body",
        (CUDA_TYPE[x.dtype], str(vector), str(THREADS)),
        (x.size // channels, 1, 1),
        THREADS,
    )
    return Launch("ec_quantize_rows_params", int_fields(in_c=channels), (0,), (), (grid,))


def w8a8_product(node: NodeView) -> Product:
    """xq[m,k] times the rows of w[n,k]."""
    n, k = node.inputs[2].dims
    return Product(node.inputs[0].size // k, n, k, 1)


def _accepts_linear(node: NodeView, target: Target) -> bool:
    held = all(c is not None for c in node.constants[2:])
    channels = node.inputs[2].dims[1]
    whole = channels % CHUNK_BYTES == 0 and channels <= CHANNELS_MOST and not node.inputs[0].bounds
    return held and whole and 0 < node.outputs[0].size <= INT32_MAX


def _launch_linear(node: NodeView, target: Target) -> Launch:
    product, y, attrs = w8a8_product(node), node.outputs[0], node.node.attrs
    assert isinstance(attrs, LinearW8A8Attrs)
    choice = chosen(product, target)
    fields = (
        *size_fields(product, choice),
        *int_fields(pitch_a=product.k, pitch_b=product.k),
        *clamp_fields_f32(attrs.act),
    )
    made = grid_of("ec_linear_w8a8_body", product, choice, DType.I8, (CUDA_TYPE[y.dtype],))
    tile, mode, _, kind = made.template
    run = min(8, run_length(product.n, y.dtype))
    bias = constant(node, 4) if len(node.inputs) == 5 else np.zeros(product.n, np.float32)
    packed = (
        Packed("w", "rows16", constant(node, 2)),
        Packed("scale", "f32", constant(node, 3)),
        Packed("bias", "f32", np.asarray(bias, np.float32)),
    )
    grid = replace(made, template=(tile, mode, str(run), kind))
    return Launch("ec_gemm_params", fields, (0, 1), packed, (grid,))


def _scratch(node: NodeView, target: Target) -> int:
    return scratch_bytes(w8a8_product(node), target)


def _counters(node: NodeView, target: Target) -> int:
    return counter_bytes(w8a8_product(node), target)


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="quantize_rows",
        symbol="ec_quantize_rows_cuda",
        source=SOURCE,
        rank=100,
        accepts=_accepts_rows,
        launch=_launch_rows,
    ),
    Kernel(
        op="linear_w8a8",
        symbol="ec_linear_w8a8_cuda",
        source=SOURCE,
        rank=100,
        accepts=_accepts_linear,
        launch=_launch_linear,
        scratch=_scratch,
        counters=_counters,
        epilogue=True,
    ),
)
