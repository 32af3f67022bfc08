"""Kernel records of the C backend: float matrix products of targets with vectors of four floats.

Their sums have the order of the portable kernels and so their bits; they take a panel of 8 columns as scratch.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.kernel_record import all_f32
from edgec.backends.kernels_c_linear import accepts_matmul_f32, launch_linear_f32, launch_matmul_f32
from edgec.backends.kernels_c_train_f32 import launch_linear
from edgec.plan import Kernel, NodeView, Target

PANEL: Final = 8  # columns
LEAST_ROWS: Final = 4  # below, packing a panel costs more than it saves


def _linear(node: NodeView, target: Target) -> bool:
    rows = node.inputs[0].size // node.inputs[1].dims[1]
    return target.has("simd") and all_f32(node, target) and rows >= LEAST_ROWS


def _matmul(node: NodeView, target: Target) -> bool:
    m, n = node.outputs[0].dims[-2:]
    return target.has("simd") and accepts_matmul_f32(node, target) and m >= LEAST_ROWS and n >= PANEL // 2


def _gradient(node: NodeView, target: Target) -> bool:
    return target.has("simd") and all_f32(node, target)


def _channels_panel(node: NodeView, target: Target) -> int:
    return 4 * PANEL * node.inputs[0].dims[-1]


def _rows_panel(node: NodeView, target: Target) -> int:
    """`x` stands before dy in both ops."""
    x = node.inputs[1 if len(node.inputs) == 4 else 0]
    return 4 * PANEL * x.dims[0]


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear",
        symbol="ec_linear_f32_simd",
        source="kernels/simd/ec_linear_f32_simd.c",
        rank=20,
        accepts=_linear,
        launch=launch_linear_f32,
        scratch=_channels_panel,
    ),
    Kernel(
        op="matmul",
        symbol="ec_matmul_f32_simd",
        source="kernels/simd/ec_matmul_f32_simd.c",
        rank=20,
        accepts=_matmul,
        launch=launch_matmul_f32,
        scratch=_channels_panel,
    ),
    Kernel(
        op="linear_weight_grad",
        symbol="ec_linear_weight_grad_f32_simd",
        source="train/simd/ec_linear_weight_grad_f32_simd.c",
        rank=20,
        accepts=_gradient,
        launch=launch_linear,
        scratch=_rows_panel,
    ),
    Kernel(
        op="linear_weight_update",
        symbol="ec_linear_weight_update_f32_simd",
        source="train/simd/ec_linear_weight_update_f32_simd.c",
        rank=20,
        accepts=_gradient,
        launch=launch_linear,
        scratch=_rows_panel,
        in_place=(0,),
    ),
)
