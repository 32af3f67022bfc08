"""Kernel records of the CUDA backend: linear in half precision for one to four rows and very many outputs."""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_gemm import clamp_fields, is_weighted_float, rows_are_chunks, weight_constants
from edgec.backends.cuda_record import CUDA_TYPE, gpu_of
from edgec.backends.kernel_record import int_fields
from edgec.backends.kernels_c_linear import linear_attrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

ROWS_MOST: Final = 4
OUTPUTS: Final = 4  # of a warp
UNROLL: Final = 4
THREADS: Final = 256
BLOCKS_OF_SM: Final = 2
WEIGHT_BYTES_LEAST: Final = (
    64 << 20
)  # below, the tiles of ec_linear_cuda have the weights of a layer under way at once


def _rows(node: NodeView) -> int:
    return node.inputs[0].size // node.inputs[0].dims[-1]


def _accepts(node: NodeView, target: Target) -> bool:
    if not is_weighted_float(node) or not node.inputs[0].dtype.is_half or not rows_are_chunks(node):
        return False
    x, w = node.inputs[:2]
    room = gpu_of(target).shared_bytes // BLOCKS_OF_SM - 1024
    return 0 < _rows(node) <= ROWS_MOST and x.bytes <= room and w.bytes >= WEIGHT_BYTES_LEAST


def _launch(node: NodeView, target: Target) -> Launch:
    x, (n, k) = node.inputs[0], node.inputs[1].dims
    inputs, constants = weight_constants(node)
    fields = (
        *int_fields(m=_rows(node), n=n, k=k, splits=1, pitch_a=k, pitch_b=k),
        *clamp_fields(linear_attrs(node).act),
    )
    most = -(-n // (OUTPUTS * THREADS // 32))
    grid = Grid(
        "ec_gemv_body",
        (CUDA_TYPE[x.dtype], str(_rows(node)), str(OUTPUTS), str(UNROLL)),
        (min(most, BLOCKS_OF_SM * gpu_of(target).sms), 1, 1),
        THREADS,
        shared_bytes=x.bytes,
        min_blocks=BLOCKS_OF_SM,
        waits=True,
    )
    return Launch("ec_gemm_params", fields, inputs, constants, (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear",
        symbol="ec_gemv_cuda",
        source="cuda/ec_gemv.cu",
        rank=50,
        accepts=_accepts,
        launch=_launch,
        epilogue=True,
    ),
)
