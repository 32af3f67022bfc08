"""Kernel records of the C backend: linear and matmul."""

from __future__ import annotations

from typing import Final

from edgec.backends.kernel_record import (
    Fields,
    all_f32,
    all_s8,
    channel_requant,
    clamp_fields_f32,
    clamp_fields_s8,
    constant,
    folded_bias,
    int_fields,
    quant_of,
    requant_constants,
    weighted_inputs_f32,
    weighted_s8,
    zero_of,
)
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.plan import Kernel, Launch, NodeView, Packed, Target

MATMUL_K_MAX: Final = 32896  # 255 * 256 * K < 2**31: the sum of a times zero_b, and of a times b
LEADING_AXES: Final = 3  # that the matmul kernels loop over


def linear_attrs(node: NodeView) -> LinearAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, LinearAttrs)
    return attrs


def linear_sizes(node: NodeView) -> Fields:
    """The fields that both linear structs begin with."""
    outputs, channels = node.inputs[1].dims
    return int_fields(rows=node.inputs[0].size // channels, in_c=channels, out_c=outputs)


def linear_fields_s8(node: NodeView) -> Fields:
    """The fields of `ec_linear_params`."""
    zeros = int_fields(zero_in=zero_of(node.inputs[0]), zero_out=zero_of(node.outputs[0]))
    return (*linear_sizes(node), *zeros, *clamp_fields_s8(linear_attrs(node).act, node.outputs[0]))


def launch_linear_s8(node: NodeView, target: Target) -> Launch:
    """Constants w, folded bias, multiplier, shift."""
    outputs = node.inputs[1].dims[0]
    constants = (Packed("w", "ok", constant(node, 1)), folded_bias(node), *requant_constants(node, outputs))
    return Launch("ec_linear_params", linear_fields_s8(node), (0,), constants)


def launch_linear_f32(node: NodeView, target: Target) -> Launch:
    """x, w, bias."""
    inputs, constants = weighted_inputs_f32(node)
    fields = (*linear_sizes(node), *clamp_fields_f32(linear_attrs(node).act))
    return Launch("ec_linear_f32_params", fields, inputs, constants)


def leading_axes(node: NodeView) -> tuple[tuple[int, int, int], ...]:
    """(size, stride in a, stride in b) of each leading axis of y, neighbours joined where both operands allow;
    a stride is 0 where the operand is broadcast."""
    a, b = node.inputs[0].dims, node.inputs[1].dims
    sizes = node.outputs[0].dims[:-2]
    strides = [_strides(x[:-2], x[-2] * x[-1], len(sizes)) for x in (a, b)]
    joined: list[tuple[int, int, int]] = []
    for size, *step in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if joined and all(old == new * size for old, new in zip(joined[-1][1:], step, strict=True)):
            size *= joined.pop()[0]
        joined.append((size, step[0], step[1]))
    return tuple(joined)


def _strides(leading: tuple[int, ...], matrix: int, rank: int) -> list[int]:
    strides, step = [], matrix
    for size in reversed(leading):
        strides.append(0 if size == 1 else step)
        step *= size
    return [*[0] * (rank - len(leading)), *reversed(strides)]


def _matmul_fits(node: NodeView) -> bool:
    return len(leading_axes(node)) <= LEADING_AXES


def _matmul_sizes(node: NodeView) -> Fields:
    attrs = node.node.attrs
    assert isinstance(attrs, MatmulAttrs)
    axes = ((1, 0, 0),) * (LEADING_AXES - len(leading_axes(node))) + leading_axes(node)
    k, n = node.inputs[0].dims[-1], node.outputs[0].dims[-1]
    loops = (
        *((f"n{i}", axis[0]) for i, axis in enumerate(axes)),
        *((f"a_{i}", axis[1]) for i, axis in enumerate(axes)),
        *((f"b_{i}", axis[2]) for i, axis in enumerate(axes)),
    )
    steps = int_fields(b_k=1, b_n=k) if attrs.transpose_b else int_fields(b_k=n, b_n=1)
    return (*loops, *int_fields(m=node.outputs[0].dims[-2], k=k, n=n), *steps)


def _accepts_matmul_s8(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and _matmul_fits(node) and node.inputs[0].dims[-1] <= MATMUL_K_MAX


def accepts_matmul_f32(node: NodeView, target: Target) -> bool:
    """Float operands with leading axes that the kernels loop over."""
    return all_f32(node, target) and _matmul_fits(node)


def _launch_matmul_s8(node: NodeView, target: Target) -> Launch:
    (a, b), y = node.inputs, node.outputs[0]
    m, shift = channel_requant(quant_of(a).scale[0], quant_of(b).scale, quant_of(y).scale[0], 1)
    zeros = int_fields(zero_a=zero_of(a), zero_b=zero_of(b), zero_out=zero_of(y))
    requant = int_fields(multiplier=int(m[0]), shift=int(shift[0]))
    return Launch("ec_matmul_params", (*_matmul_sizes(node), *zeros, *requant), (0, 1), ())


def launch_matmul_f32(node: NodeView, target: Target) -> Launch:
    """a, b."""
    return Launch("ec_matmul_f32_params", _matmul_sizes(node), (0, 1), ())


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="linear",
        symbol="ec_linear_s8",
        source="kernels/ec_linear_s8.c",
        rank=100,
        accepts=weighted_s8,
        launch=launch_linear_s8,
    ),
    Kernel(
        op="linear",
        symbol="ec_linear_f32",
        source="kernels/ec_linear_f32.c",
        rank=100,
        accepts=all_f32,
        launch=launch_linear_f32,
    ),
    Kernel(
        op="matmul",
        symbol="ec_matmul_s8",
        source="kernels/ec_matmul_s8.c",
        rank=100,
        accepts=_accepts_matmul_s8,
        launch=_launch_matmul_s8,
    ),
    Kernel(
        op="matmul",
        symbol="ec_matmul_f32",
        source="kernels/ec_matmul_f32.c",
        rank=100,
        accepts=accepts_matmul_f32,
        launch=launch_matmul_f32,
    ),
)
