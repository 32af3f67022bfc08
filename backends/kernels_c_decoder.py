"""Kernel records of the C backend: what only language models have, in float."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends.kernel_record import Fields, int_fields, is_f32
from edgec.ir import DType
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.rope import RopeAttrs
from edgec.plan import Kernel, Launch, NodeView, Packed, Target


def _accepts_rope(node: NodeView, target: Target) -> bool:
    return is_f32(node.inputs[0]) and is_f32(node.inputs[2])


def _launch_rope(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, RopeAttrs)
    (n, first, second, depth), position = node.inputs[0].dims, node.inputs[1].dims
    fields = int_fields(
        batch=n,
        first=first,
        second=second,
        depth=depth,
        pairs=node.inputs[2].dims[0],
        tokens_second=int(attrs.axis == 2),
        interleaved=int(attrs.interleaved),
        position_batch=position[-1] if len(position) == 2 and n > 1 else 0,
    )
    return Launch("ec_rope_f32_params", (*fields, ("scale", attrs.scale)), (0, 1, 2), ())


def _accepts_cached(node: NodeView, target: Target) -> bool:
    frequencies = all(is_f32(t) for t in node.inputs[6:])
    return frequencies and all(is_f32(t) for t in (*node.inputs[:5], *node.outputs))


def _places(attrs: CachedAttentionAttrs) -> Fields:
    steps = ("offset", "batch", "head", "token")
    places = (("q", attrs.q), ("k", attrs.k), ("v", attrs.v))
    return tuple((f"{n}_{s}", int(x)) for n, place in places for s, x in zip(steps, place, strict=True))


def _launch_cached(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, CachedAttentionAttrs)
    rotated = attrs.rotary != "none"
    sizes = int_fields(
        batch=attrs.batch,
        tokens=attrs.tokens,
        heads=attrs.heads,
        kv_heads=attrs.kv_heads,
        keys=node.inputs[3].dims[2],
        depth=attrs.depth,
        value_depth=attrs.value_depth,
    )
    rules = int_fields(
        positions=node.inputs[5].size,
        pairs=node.inputs[6].size if rotated else 0,
        interleaved=int(attrs.rotary == "interleaved"),
        causal=int(attrs.causal),
        window=attrs.window,
    )
    scales = (("rotary_scale", attrs.rotary_scale), ("scale", attrs.scale))
    still = () if rotated else (Packed("frequency", "f32", np.zeros(1, np.float32)),)
    return Launch(
        "ec_cached_attention_f32_params",
        (*sizes, *_places(attrs), *rules, *scales),
        tuple(range(7 if rotated else 6)),
        still,
    )


def _scratch_cached(node: NodeView, target: Target) -> int:
    """A query and a row of scores."""
    _, _, keys, depth = node.inputs[3].dims
    return 4 * (keys + depth)


def _accepts_sample(node: NodeView, target: Target) -> bool:
    return is_f32(node.inputs[0]) and node.outputs[0].dtype is DType.I32


def _launch_sample(node: NodeView, target: Target) -> Launch:
    rows, size = node.inputs[0].dims
    return Launch("ec_sample_f32_params", int_fields(rows=rows, size=size), (0, 1, 2), ())


def _scratch_sample(node: NodeView, target: Target) -> int:
    """A row of weights."""
    return 4 * node.inputs[0].dims[1]


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel("rope", "ec_rope_f32", "kernels/ec_rope_f32.c", 100, _accepts_rope, _launch_rope, in_place=(0,)),
    Kernel(
        "cached_attention",
        "ec_cached_attention_f32",
        "kernels/ec_cached_attention_f32.c",
        100,
        _accepts_cached,
        _launch_cached,
        scratch=_scratch_cached,
        renews=((1, 3), (2, 4)),
    ),
    Kernel(
        "sample",
        "ec_sample_f32",
        "kernels/ec_sample_f32.c",
        100,
        _accepts_sample,
        _launch_sample,
        scratch=_scratch_sample,
    ),
)
