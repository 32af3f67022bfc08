"""Kernel records of the C backend: ops of int8 training, portable C99."""

from __future__ import annotations

from typing import Final

from edgec.backends.kernel_record import int_fields, is_f32
from edgec.plan import Kernel, Launch, NodeView, Target


def static(node: NodeView, target: Target) -> bool:
    """`accepts` of a kernel that takes every type its op does, of a static shape."""
    return not any(t.bounds for t in (*node.inputs, *node.outputs))


def _plain_f32(node: NodeView, target: Target) -> bool:
    return is_f32(node.inputs[0])


def _launch_mask_and(node: NodeView, target: Target) -> Launch:
    return Launch("ec_mask_and_params", int_fields(size=node.inputs[0].size), (0, 1), ())


def _launch_quantize(node: NodeView, target: Target) -> Launch:
    return Launch("ec_gradient_quantize_params", int_fields(size=node.inputs[0].size), (0,), ())


KERNELS: Final[tuple[Kernel, ...]] = (
    Kernel(
        op="mask_and",
        symbol="ec_mask_and_u8",
        source="train/ec_mask_and_u8.c",
        rank=100,
        accepts=static,
        launch=_launch_mask_and,
        in_place=(0, 1),
    ),
    Kernel(
        op="gradient_quantize",
        symbol="ec_gradient_quantize_f32",
        source="train/ec_gradient_quantize_f32.c",
        rank=100,
        accepts=_plain_f32,
        launch=_launch_quantize,
    ),
)
