"""Kernel records of the C backend: float matrix products and sums of targets with vectors of floats.

Their sums have the order of the portable kernels and so their bits; products take panels of 16 columns as scratch.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.kernel_record import all_f32
from edgec.backends.kernels_c_linear import accepts_matmul_f32, launch_linear_f32, launch_matmul_f32
from edgec.backends.kernels_c_norm import MASKS, accepts_attention_f32, launch_attention_f32
from edgec.backends.kernels_c_pointwise import accepts_reduce, launch_reduce_f32
from edgec.backends.kernels_c_train_f32 import launch_linear
from edgec.plan import Kernel, NodeView, Target

ROWS, PANEL = 8, 16  # of a tile, ec_tile_f32.h; PANEL: its columns
LEAST_ROWS: Final = 4  # below, packing a panel costs more than it saves
LEAST_COLUMNS: Final = 4


def _linear(node: NodeView, target: Target) -> bool:
    rows = node.inputs[0].size // node.inputs[1].dims[1]
    return target.has("simd") and all_f32(node, target) and rows >= LEAST_ROWS


def _matmul(node: NodeView, target: Target) -> bool:
    m, n = node.outputs[0].dims[-2:]
    return target.has("simd") and accepts_matmul_f32(node, target) and m >= LEAST_ROWS and n >= LEAST_COLUMNS


def _gradient(node: NodeView, target: Target) -> bool:
    return target.has("simd") and all_f32(node, target)


def _channels_panel(node: NodeView, target: Target) -> int:
    return 4 * PANEL * node.inputs[0].dims[-1]


def _gradient_columns(node: NodeView, target: Target) -> int:
    """A panel of x and as many columns of the gradient. `x` and dy stand side by side in both ops."""
    first = 1 if len(node.inputs) == 4 else 0
    x, dy = node.inputs[first : first + 2]
    return 4 * PANEL * (x.dims[0] + -(-dy.dims[1] // ROWS) * ROWS)


def _sum(node: NodeView, target: Target) -> bool:
    return target.has("simd") and accepts_reduce(all_f32)(node, target)


def _padded(count: int) -> int:
    return -(-count // PANEL) * PANEL


def _attention_panels(node: NodeView, target: Target) -> int:
    """Panels of a head's keys and values, and the scores of a tile's queries."""
    (_, _, keys, depth), values = node.inputs[1].dims, node.inputs[2].dims[3]
    return 4 * (_padded(keys) * (depth + ROWS) + keys * _padded(values))


def _attention(kind: str) -> Kernel:
    portable = accepts_attention_f32(kind)

    def accepts(node: NodeView, target: Target) -> bool:
        few = node.inputs[0].dims[2] < LEAST_ROWS
        return target.has("simd") and not few and portable(node, target)

    return Kernel(
        op="attention",
        symbol=f"ec_attention_{kind}f32_simd",
        source=f"kernels/simd/ec_attention_{kind}f32_simd.c",
        rank=20,
        accepts=accepts,
        launch=launch_attention_f32,
        scratch=_attention_panels,
    )


def _sums(op: str) -> Kernel:
    return Kernel(
        op=op,
        symbol="ec_reduce_sum_f32_simd",
        source="kernels/simd/ec_reduce_sum_f32_simd.c",
        rank=20,
        accepts=_sum,
        launch=launch_reduce_f32,
    )


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
        scratch=_gradient_columns,
    ),
    Kernel(
        op="linear_weight_update",
        symbol="ec_linear_weight_update_f32_simd",
        source="train/simd/ec_linear_weight_update_f32_simd.c",
        rank=20,
        accepts=_gradient,
        launch=launch_linear,
        scratch=_gradient_columns,
        in_place=(0,),
    ),
    *(_attention(kind) for kind in MASKS),
    *(_sums(op) for op in ("reduce_sum", "reduce_mean")),
)
