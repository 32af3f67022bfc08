"""Kernel records of the CUDA backend: plain kernels that take any size, behind the fast ones in rank."""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE, WARP_OUTPUTS_MOST, all_of_one_float, blocks_for, zeros
from edgec.backends.kernel_record import clamp_fields_f32
from edgec.backends.kernels_c_linear import linear_attrs, linear_sizes
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

THREADS: Final = 128


def _accepts_linear(node: NodeView, target: Target) -> bool:
    return all_of_one_float(node, target) and node.outputs[0].size <= WARP_OUTPUTS_MOST


def _launch_linear(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    fields = (*linear_sizes(node), *clamp_fields_f32(linear_attrs(node).act))
    constants: tuple[Packed, ...] = ()
    if len(node.inputs) == 2:
        constants = (Packed("bias", "zeros", zeros(node.inputs[1].dims[0], x.dtype)),)
    grid = Grid(
        "ec_linear_plain_body", (CUDA_TYPE[x.dtype],), (blocks_for(y.size, THREADS // 32), 1, 1), THREADS
    )
    return Launch("ec_linear_plain_params", fields, tuple(range(len(node.inputs))), constants, (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear",
        symbol="ec_linear_plain_cuda",
        source="cuda/ec_linear_plain.cu",
        rank=900,
        accepts=_accepts_linear,
        launch=_launch_linear,
        epilogue=True,
    ),
)
