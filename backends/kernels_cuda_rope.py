"""Kernel record of the CUDA backend: rotary position embedding on its own, where no attention takes it in."""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE, blocks_for, flag, is_float
from edgec.backends.kernel_record import int_fields, is_f32
from edgec.ops.rope import RopeAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Target

THREADS: Final = 128


def _accepts(node: NodeView, target: Target) -> bool:
    return is_float(node.inputs[0]) and is_f32(node.inputs[2]) and node.inputs[0].size < 2**31


def _launch(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, RopeAttrs)
    (n, first, second, depth), position = x.dims, node.inputs[1].dims
    pairs = node.inputs[2].dims[0]
    fields = int_fields(
        batch=n,
        first=first,
        second=second,
        depth=depth,
        pairs=pairs,
        position_batch=position[-1] if len(position) == 2 and n > 1 else 0,
    )
    template = (CUDA_TYPE[x.dtype], flag(attrs.axis == 2), flag(attrs.interleaved))
    blocks = (blocks_for(n * first * second * (depth - pairs), THREADS), 1, 1)
    grid = Grid("ec_rope_body", template, blocks, THREADS)
    return Launch("ec_rope_params", (*fields, ("scale", attrs.scale)), (0, 1, 2), (), (grid,))


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel("rope", "ec_rope_cuda", "cuda/ec_rope.cu", 100, _accepts, _launch, in_place=(0,)),
)
