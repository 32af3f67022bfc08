"""Kernel record of the CUDA backend: linear layers with 4-bit weights on few rows, weights through rings in shared
memory.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_record import CUDA_TYPE, flag, gpu_of
from edgec.backends.kernel_record import clamp_fields_f32, int_fields
from edgec.backends.kernels_cuda_w4 import accepts_w4, attrs_of, layer_of, packed_constants
from edgec.backends.w4_stream import StreamRows, choose_stream, shared_bytes
from edgec.plan import Grid, Kernel, Launch, NodeView, Target


def _accepts(node: NodeView, target: Target) -> bool:
    return accepts_w4(node, target) and choose_stream(layer_of(node), gpu_of(target)) is not None


def _choice(node: NodeView, target: Target) -> StreamRows:
    choice = choose_stream(layer_of(node), gpu_of(target))
    assert choice is not None
    return choice


def _launch(node: NodeView, target: Target) -> Launch:
    layer, choice, attrs = layer_of(node), _choice(node, target), attrs_of(node)
    fields = (
        *int_fields(rows=layer.rows, in_c=layer.channels, out_c=node.inputs[1].dims[0], tiles=layer.tiles),
        *int_fields(wm=choice.tiles, wk=choice.warps),
        *int_fields(splits=choice.splits, split_groups=choice.split_groups),
        *clamp_fields_f32(attrs.act),
        ("norm_eps", 0.0 if attrs.norm_eps is None else attrs.norm_eps),
    )
    template = (
        CUDA_TYPE[node.inputs[0].dtype],
        *map(str, (layer.group, flag(layer.asymmetric), layer.rows, choice.step, choice.warps)),
        *map(str, (choice.depth, choice.more, choice.summed, flag(choice.splits > 1), flag(choice.pair))),
        *map(str, (flag(attrs.gated), flag(attrs.norm_eps is not None))),
    )
    grid = Grid(
        body="ec_linear_w4_stream_body",
        template=template,
        blocks=(choice.blocks, 1, 1),
        threads=choice.threads,
        shared_bytes=shared_bytes(gpu_of(target)),
        waits=True,
        cluster=2 if choice.pair else 1,
    )
    return Launch("ec_linear_w4_params", fields, (0,), packed_constants(node), (grid,))


def _scratch(node: NodeView, target: Target) -> int:
    return _choice(node, target).scratch_bytes(layer_of(node))


def _counters(node: NodeView, target: Target) -> int:
    return _choice(node, target).counters_bytes()


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear_w4",
        symbol="ec_linear_w4_stream_cuda",
        source="cuda/ec_linear_w4_stream.cu",
        rank=50,
        accepts=_accepts,
        launch=_launch,
        scratch=_scratch,
        counters=_counters,
        epilogue=True,
    ),
)
