"""Kernel records of the CUDA backend: linear layers with 4-bit weights."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.cuda_record import CUDA_TYPE, flag, gpu_of
from edgec.backends.cuda_tiles import HOPPER
from edgec.backends.kernel_record import Fields, clamp_fields_f32, constant, int_fields
from edgec.backends.w4_packing import interleave_gate, pack_pairs, pack_w4, tiles_of
from edgec.backends.w4_tiles import FEW_ROWS, FewRows, Layer, ManyRows, choose_few, choose_many, padded_bytes
from edgec.backends.w4_wgmma_tiles import WIDE_ROWS, WideRows, choose_wide
from edgec.ir import Array
from edgec.ops.linear_w4 import SYMMETRIC_ZERO, LinearW4Attrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

GROUPS: Final = (64, 128)


def attrs_of(node: NodeView) -> LinearW4Attrs:
    attrs = node.node.attrs
    assert isinstance(attrs, LinearW4Attrs)
    return attrs


def _asymmetric(node: NodeView) -> bool:
    return bool((constant(node, 3) != SYMMETRIC_ZERO).any())


def _rows(node: NodeView) -> int:
    return node.inputs[0].size // node.inputs[0].dims[-1]


def layer_of(node: NodeView) -> Layer:
    """The sizes that the kernels are chosen by."""
    outputs, groups = node.inputs[2].dims
    tiles = -(-outputs // 2 // 8) if attrs_of(node).gated else tiles_of(outputs)
    return Layer(_rows(node), tiles, groups, attrs_of(node).group, _asymmetric(node))


def accepts_w4(node: NodeView, target: Target) -> bool:
    x, _, scale = node.inputs[:3]
    held = all(c is not None for c in node.constants[1:])
    kinds = x.dtype.is_half and scale.dtype is x.dtype and x.quant is None and not x.bounds
    return held and kinds and attrs_of(node).group in GROUPS and x.size > 0


def _accepts_few(node: NodeView, target: Target) -> bool:
    return (
        accepts_w4(node, target)
        and _rows(node) <= FEW_ROWS
        and choose_few(layer_of(node), gpu_of(target)) is not None
    )


def _accepts_many(node: NodeView, target: Target) -> bool:
    return (
        accepts_w4(node, target)
        and attrs_of(node).norm_eps is None
        and choose_many(layer_of(node), gpu_of(target)) is not None
    )


def _accepts_wide(node: NodeView, target: Target) -> bool:
    return (
        gpu_of(target).compute == HOPPER
        and _rows(node) >= WIDE_ROWS
        and accepts_w4(node, target)
        and attrs_of(node).norm_eps is None
        and choose_wide(layer_of(node), gpu_of(target)) is not None
    )


def _few(node: NodeView, target: Target) -> FewRows:
    choice = choose_few(layer_of(node), gpu_of(target))
    assert choice is not None
    return choice


def _many(node: NodeView, target: Target) -> ManyRows:
    choice = choose_many(layer_of(node), gpu_of(target))
    assert choice is not None
    return choice


def _wide(node: NodeView, target: Target) -> WideRows:
    choice = choose_wide(layer_of(node), gpu_of(target))
    assert choice is not None
    return choice


def packed_constants(node: NodeView) -> tuple[Packed, Packed, Packed]:
    """The weights, the pairs of scales with the zeros behind them, and the bias."""
    q, scale, zero = (constant(node, i) for i in (1, 2, 3))
    bias = constant(node, 4) if len(node.inputs) == 5 else np.zeros(len(q), np.float32)
    if attrs_of(node).gated:
        q, scale, zero = (interleave_gate(rows) for rows in (q, scale, zero))
    pairs: list[Array] = [pack_pairs(scale)]
    if _asymmetric(node):
        pairs.append(pack_pairs(zero))
    held = np.concatenate([p.reshape(-1).view(np.uint8) for p in pairs])
    return (
        Packed("q", "w4", pack_w4(q)),
        Packed("pairs", "w4_pairs", held),
        Packed("bias", "float", bias.astype(np.float32)),
    )


def _fields(node: NodeView, layer: Layer, choice: FewRows | ManyRows | WideRows) -> Fields:
    attrs = attrs_of(node)
    warps, groups = (0, 0), 0  # which the kernel of wide products has no need of
    if not isinstance(choice, WideRows):
        warps = (choice.wm, choice.wk) if isinstance(choice, FewRows) else (choice.wm, choice.wn)
        groups = choice.split_groups(layer)
    return (
        *int_fields(rows=layer.rows, in_c=layer.channels, out_c=node.inputs[1].dims[0], tiles=layer.tiles),
        *int_fields(wm=warps[0], wk=warps[1]),
        *int_fields(splits=choice.splits, split_groups=groups),
        *clamp_fields_f32(attrs.act),
        ("norm_eps", 0.0 if attrs.norm_eps is None else attrs.norm_eps),
    )


def _vector(node: NodeView) -> int:
    """Outputs that are written together."""
    return 4 if node.outputs[0].dims[-1] % 4 == 0 else 1


def _launch_few(node: NodeView, target: Target) -> Launch:
    layer, choice, attrs = layer_of(node), _few(node, target), attrs_of(node)
    template = (
        CUDA_TYPE[node.inputs[0].dtype],
        *map(str, (layer.group, flag(layer.asymmetric), -(-layer.rows // 8), choice.mt, choice.depth)),
        *map(str, (_vector(node), flag(attrs.gated), flag(attrs.norm_eps is not None))),
    )
    grid = Grid(
        body="ec_linear_w4_body",
        template=template,
        blocks=(choice.columns(layer), choice.splits, 1),
        threads=choice.threads,
        shared_bytes=padded_bytes(choice, layer, gpu_of(target)),
        waits=True,
    )
    return Launch("ec_linear_w4_params", _fields(node, layer, choice), (0,), packed_constants(node), (grid,))


def _launch_many(node: NodeView, target: Target) -> Launch:
    layer, choice, attrs = layer_of(node), _many(node, target), attrs_of(node)
    template = (
        CUDA_TYPE[node.inputs[0].dtype],
        *map(str, (layer.group, flag(layer.asymmetric), choice.mt, choice.nt, choice.wm, choice.wn)),
        *map(str, (choice.stages, flag(choice.cluster), _vector(node), flag(attrs.gated))),
    )
    grid = Grid(
        body="ec_linear_w4_gemm_body",
        template=template,
        blocks=choice.blocks(layer),
        threads=choice.threads,
        shared_bytes=choice.shared_bytes(layer),
        waits=True,
        cluster=choice.splits if choice.cluster else 1,
    )
    return Launch("ec_linear_w4_params", _fields(node, layer, choice), (0,), packed_constants(node), (grid,))


def _launch_wide(node: NodeView, target: Target) -> Launch:
    layer, choice, attrs = layer_of(node), _wide(node, target), attrs_of(node)
    shape = choice.shape
    template = (
        CUDA_TYPE[node.inputs[0].dtype],
        *map(str, (layer.group, flag(layer.asymmetric), shape.x_rows, shape.warp_groups, shape.mt)),
        *map(str, (shape.chunks, shape.stages, shape.loaders, flag(choice.splits > 1))),
        *map(str, (_vector(node), flag(attrs.gated))),
    )
    grid = Grid(
        body="ec_linear_w4_wgmma_body",
        template=template,
        blocks=choice.blocks(layer),
        threads=shape.threads,
        shared_bytes=choice.shared_bytes(layer),
        min_blocks=shape.per_sm,
        waits=True,
        cluster=choice.splits,
    )
    return Launch("ec_linear_w4_params", _fields(node, layer, choice), (0,), packed_constants(node), (grid,))


def _scratch_few(node: NodeView, target: Target) -> int:
    return _few(node, target).scratch_bytes(layer_of(node))


def _scratch_many(node: NodeView, target: Target) -> int:
    return _many(node, target).scratch_bytes(layer_of(node))


def _counters_few(node: NodeView, target: Target) -> int:
    return 4 * _few(node, target).columns(layer_of(node))


def _counters_many(node: NodeView, target: Target) -> int:
    columns, rows, _ = _many(node, target).blocks(layer_of(node))
    return 4 * columns * rows  # as many as tiles, times splits


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear_w4",
        symbol="ec_linear_w4_cuda",
        source="cuda/ec_linear_w4.cu",
        rank=100,
        accepts=_accepts_few,
        launch=_launch_few,
        scratch=_scratch_few,
        counters=_counters_few,
        epilogue=True,
    ),
    Kernel(
        op="linear_w4",
        symbol="ec_linear_w4_wgmma_cuda",
        source="cuda/ec_linear_w4_wgmma.cu",
        rank=90,
        accepts=_accepts_wide,
        launch=_launch_wide,
        epilogue=True,
    ),
    Kernel(
        op="linear_w4",
        symbol="ec_linear_w4_gemm_cuda",
        source="cuda/ec_linear_w4_gemm.cu",
        rank=200,
        accepts=_accepts_many,
        launch=_launch_many,
        scratch=_scratch_many,
        counters=_counters_many,
        epilogue=True,
    ),
)
