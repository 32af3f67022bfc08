"""Weights of linear layers become 4-bit integers in groups, by rounding to the nearest: linear becomes linear_w4.

A group is `group` neighbouring input channels of one output. Asymmetric: scale = (max - min) / 15 over the group and
zero, zero = round(-min / scale). Symmetric: scale = max|w| / 7.5, zero 8
(the clip of +7.5 to 7 costs less than steps of max|w| / 7). Lin et al., "AWQ", MLSys 2024, section 3.1,
gives the form; the better choices of scales are passes of their own, which end in `quantize_groups` too.

The embedding and the head (linear layers behind which no other follows) keep their type unless `head` says otherwise.
Layers are quantised one after the other; the float weights of no more than one are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.build import Builder
from edgec.ir import Array, DType, Graph, Node, Program, Type
from edgec.match import Rewrite, rewrite
from edgec.ops.linear import LinearAttrs
from edgec.ops.linear_w4 import LARGEST, SYMMETRIC_ZERO, LinearW4Attrs, pack_nibbles
from edgec.ops.norm import RmsNormAttrs
from edgec.passes.dead import remove_dead

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
SMALLEST_SCALE: Final = 1e-7  # a group of zeros; the smallest float16 that is not zero is 6e-8
GROUPS: Final = (128, 64, 32)
KERNEL_GROUPS: Final = (128, 64)  # that the kernels of GPUs take


@dataclass(frozen=True, slots=True)
class W4Scheme:
    """`group`: channels of a group; a layer whose channels it does not divide takes the next smaller of `groups` that
    does, or stays. `fold_norm_gains`: the gain of an RMS norm before a layer becomes part of its weights.
    `keep`: layers of the user's model (Loc.layer) that stay as they are. `groups`: those that a layer may have."""

    group: int = 128
    symmetric: bool = False
    head: bool = False
    fold_norm_gains: bool = True
    keep: frozenset[str] = frozenset()
    groups: tuple[int, ...] = GROUPS


def quantize_groups(
    w: Array, group: int, symmetric: bool, scale_dtype: DType = DType.F32
) -> tuple[U8, Array, U8]:
    """(q u8[N,K/2], scale[N,K/group], zero u8[N,K/group]) of w float[N,K], as `linear_w4` takes them.

    Scales are rounded to `scale_dtype` before the weights are divided by them. K is a multiple of `group`.
    """
    outputs, channels = w.shape
    blocks = np.asarray(w, np.float32).reshape(outputs, channels // group, group)
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    steps = np.maximum(high, -low) / (LARGEST / 2) if symmetric else (high - low) / LARGEST
    scale = np.maximum(steps, np.float32(SMALLEST_SCALE)).astype(scale_dtype.numpy)
    step = scale.astype(np.float32)
    if symmetric:
        zero = np.full(step.shape, SYMMETRIC_ZERO, np.uint8)
    else:
        zero = np.clip(np.rint(-low / step), 0, LARGEST).astype(np.uint8)
    return round_groups(blocks, step, zero), scale, zero


def round_groups(blocks: F32, scale: F32, zero: U8) -> U8:
    """q u8[N,K/2] of blocks[N,K/G,G] at given scales and zeros [N,K/G]."""
    values = np.rint(blocks / scale[:, :, None]) + zero[:, :, None]
    return pack_nibbles(np.clip(values, 0, LARGEST).astype(np.uint8).reshape(len(blocks), -1))


def quantize_w4(program: Program, scheme: W4Scheme) -> Program:
    """`program` with every linear layer that `scheme` takes in 4 bits; the same object where there is none."""
    heads = frozenset[str]() if scheme.head else frozenset(n for g in program.graphs for n in head_names(g))
    made: dict[tuple[str, str], tuple[str, ...]] = {}

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if node.op != "linear" or node.outputs[0].name in heads or node.loc.layer in scheme.keep:
            return None
        return _quantized(at, node, scheme, made)

    return remove_dead(rewrite(program, visit))


def head_names(graph: Graph) -> tuple[str, ...]:
    """Outputs of the linear layers behind which no further linear layer follows."""
    reaches: set[str] = set()  # values that some later linear layer depends on
    heads = []
    for node in reversed(graph.nodes):
        outputs = [v.name for v in node.outputs]
        layer = node.op.startswith("linear")
        if layer and not any(name in reaches for name in outputs):
            heads.extend(outputs)
        if layer or any(name in reaches for name in outputs):
            reaches.update(node.inputs)
    return tuple(heads)


def group_of(channels: int, wanted: int, groups: tuple[int, ...] = GROUPS) -> int | None:
    """The largest of `groups` up to `wanted` that divides `channels`."""
    return next((g for g in groups if g <= wanted and channels % g == 0), None)


def _quantized(
    at: Rewrite, node: Node, scheme: W4Scheme, made: dict[tuple[str, str], tuple[str, ...]]
) -> tuple[str, ...] | None:
    """The layer in 4 bits. `made`: the constants of weights (with a gain) that are quantised already."""
    x, weight = node.inputs[:2]
    attrs = node.attrs
    assert isinstance(attrs, LinearAttrs)
    if weight[0] != "@" or not at.type(weight).dtype.is_float or at.type(x).quant is not None:
        return None
    group = group_of(at.type(weight).dims[1], scheme.group, scheme.groups)
    if group is None:
        return None
    gain = ""
    norm = at.maker(x, "rms_norm") if scheme.fold_norm_gains else None
    if norm is not None and len(norm.inputs) == 2 and norm.inputs[1][0] == "@":
        assert isinstance(norm.attrs, RmsNormAttrs)
        gain = norm.inputs[1]
        x = at.builder.node("rms_norm", norm.inputs[:1], norm.attrs, loc=norm.loc)[0]
    if (weight, gain) not in made:
        made[weight, gain] = _constants(at.builder, weight, gain, group, scheme)
    inputs = (x, *made[weight, gain], *node.inputs[2:])
    w4 = LinearW4Attrs(group, attrs.act)
    return at.builder.node("linear_w4", inputs, w4, name=node.outputs[0].name, loc=node.loc)


def _constants(
    builder: Builder, weight: str, gain: str, group: int, scheme: W4Scheme
) -> tuple[str, str, str]:
    """References of q, scale and zero. The float weight lives only in here."""
    types: Mapping[str, Type] = builder.types
    w = builder.constants[weight[1:]].data.astype(np.float32)
    if gain:
        w = w * builder.constants[gain[1:]].data.astype(np.float32)
    parts = quantize_groups(w, group, scheme.symmetric, types[weight].dtype)
    stems = (f"{weight[1:]}.{part}" for part in ("q", "scale", "zero"))
    q, scale, zero = (builder.constant(data, stem) for data, stem in zip(parts, stems, strict=True))
    return q, scale, zero
