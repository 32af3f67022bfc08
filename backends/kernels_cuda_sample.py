"""Kernel record of the CUDA backend: the choice of the next token."""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE, GRID_MOST, blocks_for, is_float
from edgec.backends.kernel_record import int_fields
from edgec.backends.kernels_cuda_norm import vector_width
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

THREADS: Final = 1024  # EC_SAMPLE_THREADS
HELD: Final = 3072  # EC_SAMPLE_HELD
PART_BYTES: Final = 32  # of ec_sample_part


def _accepts(node: NodeView, target: Target) -> bool:
    return is_float(node.inputs[0]) and node.inputs[0].dims[0] <= GRID_MOST and _splits(node) <= THREADS


def _width(node: NodeView) -> int:
    """Logits that a thread holds: few, so that the noise is drawn on more SMs."""
    return min(4, vector_width(node.inputs[0].dtype, node.inputs[0].dims[1]))


def _splits(node: NodeView) -> int:
    size = node.inputs[0].dims[1]
    return blocks_for(size, THREADS * _width(node))


def _launch(node: NodeView, target: Target) -> Launch:
    x = node.inputs[0]
    rows, size = x.dims
    template = (CUDA_TYPE[x.dtype], str(_width(node)))
    grid = Grid("ec_sample_body", template, (_splits(node), rows, 1), THREADS)
    fields = int_fields(size=size, splits=_splits(node))
    return Launch("ec_sample_params", fields, (0, 1, 2), (), (grid,))


def _scratch(node: NodeView, target: Target) -> int:
    return node.inputs[0].dims[0] * (PART_BYTES * _splits(node) + 8 * HELD)


def _counters(node: NodeView, target: Target) -> int:
    return 4 * node.inputs[0].dims[0]


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="sample",
        symbol="ec_sample_cuda",
        source="cuda/ec_sample.cu",
        rank=100,
        accepts=_accepts,
        launch=_launch,
        scratch=_scratch,
        counters=_counters,
    ),
)
