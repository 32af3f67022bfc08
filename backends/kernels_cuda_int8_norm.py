"""Kernel records of the CUDA backend: int8 softmax, normalisation and attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from edgec.backends.cuda_record import GRID_MOST, WARP_OUTPUTS_MOST, blocks_for, gpu_of
from edgec.backends.kernel_record import Accepts, Fields, constant, int_fields, is_s8, quant_of, zero_of
from edgec.backends.kernels_c_norm import attention_attrs, mask_kind, norm_count
from edgec.backends.kernels_cuda_int8_conv import fits_index
from edgec.fixedpoint import multiplier
from edgec.ops.attention import (
    DEPTH_MAX,
    KEYS_MAX,
    STEP_BITS,
    AttentionAttrs,
    average_multiplier,
    exp2_table,
    integer_bias,
    score_step,
)
from edgec.ops.norm import GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.norm_integer import COUNT_MAX, NormPlan, plan_norm
from edgec.ops.softmax import SoftmaxAttrs, exp_table
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]

ATTENTION_THREADS: Final = 128
FIXED_SHARED: Final = 1024  # bytes that a kernel may have beside its dynamic shared memory
DEFAULT_SHARED: Final = 48 << 10  # that a block has without asking for more
_MASKS: Final = ("", "bias_", "mask_")


def _s8_in_out(node: NodeView) -> bool:
    return is_s8(node.inputs[0]) and is_s8(node.outputs[0]) and fits_index(node)


def _softmax_sizes(node: NodeView) -> tuple[int, int, int]:
    """(outer, count, inner) of x."""
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, SoftmaxAttrs)
    return math.prod(dims[: attrs.axis]), dims[attrs.axis], math.prod(dims[attrs.axis + 1 :])


def _accepts_softmax(node: NodeView, target: Target) -> bool:
    outer, _, inner = _softmax_sizes(node)
    return _s8_in_out(node) and (inner > 1 or outer <= WARP_OUTPUTS_MOST)


def _launch_softmax(node: NodeView, target: Target) -> Launch:
    outer, count, inner = _softmax_sizes(node)
    table = Packed("exp", "u32", exp_table(quant_of(node.inputs[0]).per_tensor[0], count))
    lanes = 32 if inner == 1 else 1
    blocks = (blocks_for(outer * inner * lanes, 128), 1, 1)
    grid = Grid("ec_softmax_s8_body", (str(lanes),), blocks, 128)
    return Launch(
        "ec_softmax_s8_params", int_fields(outer=outer, count=count, inner=inner), (0,), (table,), (grid,)
    )


def _accepts_norm(node: NodeView, target: Target) -> bool:
    affine = all(c is not None for c in node.constants[1:])
    images = node.inputs[0].dims[0] if isinstance(node.node.attrs, GroupNormAttrs) else 1
    return _s8_in_out(node) and affine and norm_count(node) <= COUNT_MAX and images <= GRID_MOST


def _norm_plan(node: NodeView) -> NormPlan:
    attrs = node.node.attrs
    assert isinstance(attrs, (LayerNormAttrs, RmsNormAttrs, GroupNormAttrs))
    affine = [*(constant(node, i) for i in range(1, len(node.inputs))), None, None][:2]
    x, y = quant_of(node.inputs[0]), quant_of(node.outputs[0])
    return plan_norm(norm_count(node), attrs.eps, x, y, affine[0], affine[1])


def _signed(word: int) -> int:
    """The int32 with these 32 bits."""
    return word - (1 << 32) if word >> 31 else word


def _launch_norm(node: NodeView, target: Target) -> Launch:
    plan, count, dims = _norm_plan(node), norm_count(node), node.inputs[0].dims
    attrs = node.node.attrs
    if isinstance(attrs, GroupNormAttrs):
        positions, channels = math.prod(dims[1:-1]), dims[-1]
        width, blocks = channels // attrs.groups, (attrs.groups, dims[0], 1)
    else:
        # every row is a group of one position
        positions, channels, width = 1, count, count
        blocks = (node.inputs[0].size // count, 1, 1)
    fields = (
        *int_fields(positions=positions, channels=channels, width=width),
        *int_fields(gain_step=int(plan.gain.size > 1), fraction=plan.fraction, shift=plan.shift),
        *int_fields(eps_high=_signed(plan.eps >> 32), eps_low=_signed(plan.eps & 0xFFFFFFFF)),
        *int_fields(zero_in=zero_of(node.inputs[0]), zero_out=zero_of(node.outputs[0])),
    )
    threads = 32 if count <= 128 else 128 if count <= 4096 else 512
    rms = "true" if isinstance(attrs, RmsNormAttrs) else "false"
    body = "ec_norm_s8_body" if isinstance(attrs, GroupNormAttrs) else "ec_row_norm_s8_body"
    grid = Grid(body, (rms, str(threads)), blocks, threads)
    tables = (Packed("gain", "i32", plan.gain), Packed("bias", "i32", plan.bias))
    return Launch("ec_norm_s8_params", fields, (0,), tables, (grid,))


def _shared_bytes(node: NodeView) -> int:
    """Dynamic shared memory of ec_attention_s8.cu."""
    keys, depth = node.inputs[1].dims[2:]
    needed = 8 * ATTENTION_THREADS + 4 * keys + -(-depth // 4) * 4
    return needed if needed + FIXED_SHARED <= DEFAULT_SHARED else max(needed, DEFAULT_SHARED + FIXED_SHARED)


def _accepts_attention(kind: str) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        if mask_kind(node) != kind or not all(is_s8(t) for t in (*node.inputs[:3], *node.outputs)):
            return False
        q, k = node.inputs[0].dims, node.inputs[1].dims
        known = k[3] <= DEPTH_MAX and k[2] <= KEYS_MAX and max(q[0], q[1]) <= GRID_MOST and fits_index(node)
        shared = _shared_bytes(node) + FIXED_SHARED <= gpu_of(target).shared_bytes
        return known and shared and (kind != "bias_" or node.constants[3] is not None)

    return accepts


def _attention_fields(node: NodeView, attrs: AttentionAttrs) -> Fields:
    (_, a, t, d), (_, b, s, _), e = node.inputs[0].dims, node.inputs[1].dims, node.inputs[2].dims[3]
    own = node.inputs[3].dims if len(node.inputs) == 4 else ()
    dims = (1,) * (4 - len(own)) + own
    steps = [0 if dims[i] == 1 else math.prod(dims[i + 1 :]) for i in range(4)]
    score_m, score_shift = multiplier(score_step(attrs, node.inputs) * math.log2(math.e) * (1 << STEP_BITS))
    out_m, out_shift = average_multiplier(node.inputs, node.outputs)
    return (
        *int_fields(heads=a, kv_heads=b, queries=t, keys=s, depth=d, value_depth=e, causal=int(attrs.causal)),
        *int_fields(mask_batch=steps[0], mask_head=steps[1], mask_query=steps[2], mask_key=steps[3]),
        *int_fields(zero_q=zero_of(node.inputs[0]), zero_k=zero_of(node.inputs[1])),
        *int_fields(zero_v=zero_of(node.inputs[2]), zero_y=zero_of(node.outputs[0])),
        *int_fields(score_m=score_m, score_shift=score_shift, out_m=out_m, out_shift=out_shift),
    )


def _launch_attention(node: NodeView, target: Target) -> Launch:
    attrs, kind, (n, a, t, d) = attention_attrs(node), mask_kind(node), node.inputs[0].dims
    constants: tuple[Packed, ...] = (Packed("exp2", "u32", exp2_table()),)
    if kind == "bias_":
        bias = integer_bias(constant(node, 3), score_step(attrs, node.inputs))
        constants = (Packed("bias", "i32", bias), *constants)
    grid = Grid(
        f"ec_attention_{kind}s8_body",
        ("true" if d % 4 == 0 else "false",),
        (t, a, n),
        ATTENTION_THREADS,
        _shared_bytes(node),
    )
    inputs = (0, 1, 2, 3) if kind == "mask_" else (0, 1, 2)
    return Launch("ec_attention_s8_params", _attention_fields(node, attrs), inputs, constants, (grid,))


def _rows(op: str, source: str, accepts: Accepts, launch: Launcher) -> Kernel:
    return Kernel(op, f"ec_{op}_s8_cuda", f"cuda/{source}.cu", 100, accepts, launch)


KERNELS: Final[tuple[Kernel, ...]] = (
    _rows("softmax", "ec_softmax_s8", _accepts_softmax, _launch_softmax),
    *(
        _rows(op, "ec_norm_s8", _accepts_norm, _launch_norm)
        for op in ("layer_norm", "rms_norm", "group_norm")
    ),
    *(
        Kernel(
            op="attention",
            symbol=f"ec_attention_{kind}s8_cuda",
            source="cuda/ec_attention_s8.cu",
            rank=100,
            accepts=_accepts_attention(kind),
            launch=_launch_attention,
        )
        for kind in _MASKS
    ),
)
