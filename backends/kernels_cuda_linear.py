"""Kernel records of the CUDA backend: linear and matmul in fp16, bf16 and fp32."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Final

from edgec.backends.cuda_gemm import (
    chosen,
    chunk_of,
    counter_bytes,
    grid_of,
    held,
    is_weighted_float,
    pitch_of,
    scratch_bytes,
    size_fields,
    weight_constants,
    weights_can_be_used,
)
from edgec.backends.cuda_record import GRID_MOST, all_of_one_float
from edgec.backends.cuda_tiles import Product
from edgec.backends.kernel_record import INT32_MAX, clamp_fields_f32, int_fields
from edgec.backends.kernels_c_linear import LEADING_AXES, leading_axes, linear_attrs
from edgec.ir import DType
from edgec.ops.linear import MatmulAttrs
from edgec.plan import Kernel, Launch, NodeView, Target

SOURCE: Final = "cuda/ec_conv2d.cu"


def linear_product(node: NodeView) -> Product:
    """x[m,k] times the rows of w[n,k]."""
    n, k = node.inputs[1].dims
    return Product(node.inputs[0].size // k, n, k, node.inputs[0].dtype.bytes)


def _accepts_linear(node: NodeView, target: Target) -> bool:
    return is_weighted_float(node) and weights_can_be_used(node) and node.outputs[0].size <= INT32_MAX


def _launch_linear(node: NodeView, target: Target) -> Launch:
    product, x = linear_product(node), node.inputs[0]
    choice = chosen(product, target)
    inputs, constants = weight_constants(node)
    fields = (
        *size_fields(product, choice),
        *int_fields(pitch_a=product.k, pitch_b=pitch_of(node)),
        *clamp_fields_f32(linear_attrs(node).act),
    )
    aligned = "true" if product.k % chunk_of(x) == 0 else "false"
    grid = grid_of("ec_linear_body", product, choice, x.dtype, (held(node), aligned))
    return Launch("ec_gemm_params", fields, inputs, constants, (grid,))


def _transposed(node: NodeView) -> bool:
    attrs = node.node.attrs
    assert isinstance(attrs, MatmulAttrs)
    return attrs.transpose_b


def _places(node: NodeView) -> tuple[tuple[int, int, int], ...]:
    """The leading axes that b is stepped along; where b is the same for all of them, none: they are rows of a."""
    axes = leading_axes(node)
    m, k = node.inputs[0].dims[-2:]
    if len(axes) == 1 and axes[0][1:] == (m * k, 0):
        return ()
    return axes


def _rows_of_k(node: NodeView) -> bool:
    """Whether b[k,n] is copied in chunks of columns."""
    b = node.inputs[1]
    return not _transposed(node) and b.dtype is not DType.F32 and b.dims[-1] % chunk_of(b) == 0


def matmul_product(node: NodeView) -> Product:
    """a[m,k] times b, at each place of the leading axes."""
    y, k = node.outputs[0], node.inputs[0].dims[-1]
    axes = _places(node)
    batch = prod(a[0] for a in axes)
    return Product(y.size // y.dims[-1] // batch, y.dims[-1], k, y.dtype.bytes, batch, _rows_of_k(node))


def _accepts_matmul(node: NodeView, target: Target) -> bool:
    if not all_of_one_float(node, target) or len(_places(node)) > LEADING_AXES:
        return False
    return node.outputs[0].size <= INT32_MAX and matmul_product(node).batch <= GRID_MOST


def _reader_of_b(node: NodeView, tile: str, rows: str) -> str:
    """The ec_rows struct that reads b's columns."""
    if _rows_of_k(node):
        return f"ec_rows_of_k<{tile}, {held(node)}>"
    if not _transposed(node):
        return f"ec_rows_strided<{tile}, {rows}, {held(node)}>"
    aligned = "true" if node.inputs[1].dims[-1] % chunk_of(node.inputs[1]) == 0 else "false"
    return f"ec_rows_dense<{tile}, {rows}, {aligned}, {held(node)}>"


def _launch_matmul(node: NodeView, target: Target) -> Launch:
    product, a = matmul_product(node), node.inputs[0]
    choice = chosen(product, target)
    axes = ((1, 0, 0),) * (LEADING_AXES - len(_places(node))) + _places(node)
    fields = (
        *size_fields(product, choice),
        *int_fields(pitch_a=product.k, pitch_b=product.k if _transposed(node) else product.n),
        *int_fields(n1=axes[1][0], n2=axes[2][0]),
        *((f"a_{i}", axis[1]) for i, axis in enumerate(axes)),
        *((f"b_{i}", axis[2]) for i, axis in enumerate(axes)),
    )
    grid = grid_of("ec_matmul_body", product, choice, a.dtype, ())
    tile = grid.template[0]
    aligned = "true" if product.k % chunk_of(a) == 0 else "false"
    reader = _reader_of_b(node, tile, f"{tile}::ROWS_B")
    grid = replace(grid, template=(*grid.template, aligned, reader))
    return Launch("ec_matmul_params", fields, (0, 1), (), (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear",
        symbol="ec_linear_cuda",
        source=SOURCE,
        rank=100,
        accepts=_accepts_linear,
        launch=_launch_linear,
        scratch=lambda node, target: scratch_bytes(linear_product(node), target),
        counters=lambda node, target: counter_bytes(linear_product(node), target),
        epilogue=True,
    ),
    Kernel(
        op="matmul",
        symbol="ec_matmul_cuda",
        source=SOURCE,
        rank=100,
        accepts=_accepts_matmul,
        launch=_launch_matmul,
        scratch=lambda node, target: scratch_bytes(matmul_product(node), target),
        counters=lambda node, target: counter_bytes(matmul_product(node), target),
        epilogue=True,
    ),
)
