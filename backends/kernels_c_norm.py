"""Kernel records of the C backend: softmax, normalisation and attention. The _s8 kernels take all that floats could
say (scales, eps, gains, masks) as integers worked out here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.backends.kernel_record import (
    Accepts,
    Fields,
    all_f32,
    constant,
    int_fields,
    is_f32,
    is_s8,
    quant_of,
    zero_of,
)
from edgec.fixedpoint import multiplier
from edgec.ir import DType
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
from edgec.ops.norm import BatchNormAttrs, GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.norm_integer import COUNT_MAX, NormPlan, plan_norm
from edgec.ops.softmax import LogSoftmaxAttrs, SoftmaxAttrs, exp_table
from edgec.plan import Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]


def _softmax_fields(node: NodeView) -> Fields:
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, (SoftmaxAttrs, LogSoftmaxAttrs))
    return int_fields(
        outer=math.prod(dims[: attrs.axis]), count=dims[attrs.axis], inner=math.prod(dims[attrs.axis + 1 :])
    )


def _launch_softmax_s8(node: NodeView, target: Target) -> Launch:
    fields = _softmax_fields(node)
    table = exp_table(quant_of(node.inputs[0]).per_tensor[0], int(dict(fields)["count"]))
    return Launch("ec_softmax_params", fields, (0,), (Packed("exp", "u32", table),))


def _launch_softmax_f32(node: NodeView, target: Target) -> Launch:
    return Launch("ec_softmax_params", _softmax_fields(node), (0,), ())


def _accepts_s8(node: NodeView, target: Target) -> bool:
    return is_s8(node.inputs[0]) and is_s8(node.outputs[0])


def norm_count(node: NodeView) -> int:
    """Elements that are normalised together."""
    attrs, dims = node.node.attrs, node.inputs[0].dims
    if isinstance(attrs, LayerNormAttrs):
        return math.prod(dims[len(dims) - attrs.axes_from_end :])
    if isinstance(attrs, GroupNormAttrs):
        return math.prod(dims[1:]) // attrs.groups
    return dims[-1]


def _accepts_norm_s8(node: NodeView, target: Target) -> bool:
    affine = all(c is not None for c in node.constants[1:])
    return _accepts_s8(node, target) and affine and norm_count(node) <= COUNT_MAX


def _norm_plan(node: NodeView) -> NormPlan:
    attrs = node.node.attrs
    assert isinstance(attrs, (LayerNormAttrs, RmsNormAttrs, GroupNormAttrs))
    affine = [*(constant(node, i) for i in range(1, len(node.inputs))), None, None][:2]
    x, y = quant_of(node.inputs[0]), quant_of(node.outputs[0])
    return plan_norm(norm_count(node), attrs.eps, x, y, affine[0], affine[1])


def _signed(word: int) -> int:
    """The int32 with these 32 bits."""
    return word - (1 << 32) if word >> 31 else word


def _norm_plan_fields(plan: NormPlan) -> Fields:
    return int_fields(
        fraction=plan.fraction,
        eps_high=_signed(plan.eps >> 32),
        eps_low=_signed(plan.eps & 0xFFFFFFFF),
        gain_step=int(plan.gain.size > 1),
        shift=plan.shift,
    )


def _norm_tables(plan: NormPlan) -> tuple[Packed, Packed]:
    return Packed("gain", "i32", plan.gain), Packed("bias", "i32", plan.bias)


def _launch_norm_s8(node: NodeView, target: Target) -> Launch:
    plan, count = _norm_plan(node), norm_count(node)
    fields = (
        *int_fields(rows=node.inputs[0].size // count, count=count),
        *_norm_plan_fields(plan),
        *int_fields(zero_in=zero_of(node.inputs[0]), zero_out=zero_of(node.outputs[0])),
    )
    return Launch("ec_norm_params", fields, (0,), _norm_tables(plan))


def _group_geometry(node: NodeView) -> Fields:
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, GroupNormAttrs)
    return int_fields(batch=dims[0], positions=math.prod(dims[1:-1]), channels=dims[-1], groups=attrs.groups)


def _launch_group_norm_s8(node: NodeView, target: Target) -> Launch:
    plan = _norm_plan(node)
    fields = (*_group_geometry(node), *_norm_plan_fields(plan), ("zero_out", zero_of(node.outputs[0])))
    return Launch("ec_group_norm_params", fields, (0,), _norm_tables(plan))


def _affine_f32(node: NodeView) -> tuple[Fields, tuple[int, ...], tuple[Packed, ...]]:
    """Steps of gamma and beta, the inputs that are there, and one element for each that is not."""
    given = len(node.inputs)
    absent = (Packed("gamma", "f32", np.ones(1, np.float32)), Packed("beta", "f32", np.zeros(1, np.float32)))
    steps = int_fields(gain_step=int(given > 1), bias_step=int(given > 2))
    return steps, tuple(range(given)), absent[given - 1 :]


def _launch_norm_f32(node: NodeView, target: Target) -> Launch:
    attrs, count = node.node.attrs, norm_count(node)
    assert isinstance(attrs, (LayerNormAttrs, RmsNormAttrs))
    steps, inputs, constants = _affine_f32(node)
    rows = int_fields(rows=node.inputs[0].size // count, count=count)
    return Launch("ec_norm_f32_params", (*rows, *steps, ("eps", attrs.eps)), inputs, constants)


def _launch_group_norm_f32(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, GroupNormAttrs)
    steps, inputs, constants = _affine_f32(node)
    fields = (*_group_geometry(node), *steps, ("eps", attrs.eps))
    return Launch("ec_group_norm_f32_params", fields, inputs, constants)


def _launch_batch_norm_f32(node: NodeView, target: Target) -> Launch:
    attrs, x = node.node.attrs, node.inputs[0]
    assert isinstance(attrs, BatchNormAttrs)
    fields = (*int_fields(rows=x.size // x.dims[-1], channels=x.dims[-1]), ("eps", attrs.eps))
    return Launch("ec_batch_norm_f32_params", fields, (0, 1, 2, 3, 4), ())


def attention_attrs(node: NodeView) -> AttentionAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, AttentionAttrs)
    return attrs


def mask_kind(node: NodeView) -> str:
    """ "" without a mask, "bias_" for an additive one, "mask_" for booleans: part of the kernel's symbol."""
    if len(node.inputs) == 3:
        return ""
    return "mask_" if node.inputs[3].dtype is DType.B8 else "bias_"


def _accepts_attention_s8(kind: str) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        if mask_kind(node) != kind or not all(is_s8(t) for t in (*node.inputs[:3], *node.outputs)):
            return False
        fits = node.inputs[1].dims[3] <= DEPTH_MAX and node.inputs[1].dims[2] <= KEYS_MAX
        return fits and (kind != "bias_" or node.constants[3] is not None)

    return accepts


def accepts_attention_f32(kind: str) -> Accepts:
    """Accepts float attention with a mask of this kind."""

    def accepts(node: NodeView, target: Target) -> bool:
        types = (*node.inputs[:3], *(node.inputs[3:] if kind == "bias_" else ()), *node.outputs)
        return mask_kind(node) == kind and all(is_f32(t) for t in types)

    return accepts


def _attention_geometry(node: NodeView) -> Fields:
    (n, a, t, d), (_, b, s, _), e = node.inputs[0].dims, node.inputs[1].dims, node.inputs[2].dims[3]
    own = node.inputs[3].dims if len(node.inputs) == 4 else ()
    dims = (1,) * (4 - len(own)) + own
    steps = [0 if dims[i] == 1 else math.prod(dims[i + 1 :]) for i in range(4)]
    return int_fields(
        batch=n,
        heads=a,
        kv_heads=b,
        queries=t,
        keys=s,
        depth=d,
        value_depth=e,
        causal=int(attention_attrs(node).causal),
        mask_batch=steps[0],
        mask_head=steps[1],
        mask_query=steps[2],
        mask_key=steps[3],
    )


def _launch_attention_s8(node: NodeView, target: Target) -> Launch:
    step = score_step(attention_attrs(node), node.inputs)
    score_m, score_shift = multiplier(step * math.log2(math.e) * (1 << STEP_BITS))
    out_m, out_shift = average_multiplier(node.inputs, node.outputs)
    zeros = int_fields(
        zero_q=zero_of(node.inputs[0]),
        zero_k=zero_of(node.inputs[1]),
        zero_v=zero_of(node.inputs[2]),
        zero_y=zero_of(node.outputs[0]),
    )
    scales = int_fields(score_m=score_m, score_shift=score_shift, out_m=out_m, out_shift=out_shift)
    kind = mask_kind(node)
    bias = (Packed("bias", "i32", integer_bias(constant(node, 3), step)),) if kind == "bias_" else ()
    return Launch(
        "ec_attention_params",
        (*_attention_geometry(node), *zeros, *scales),
        (0, 1, 2, 3) if kind == "mask_" else (0, 1, 2),
        (*bias, Packed("exp2", "u32", exp2_table())),
    )


def launch_attention_f32(node: NodeView, target: Target) -> Launch:
    """The parameters of the float kernels."""
    fields = (*_attention_geometry(node), ("scale", attention_attrs(node).scale))
    return Launch("ec_attention_f32_params", fields, tuple(range(len(node.inputs))), ())


def _scratch_s8(node: NodeView, target: Target) -> int:
    """A row of int32 scores and a query as int16."""
    return 4 * node.inputs[1].dims[2] + 2 * node.inputs[1].dims[3]


def _scratch_f32(node: NodeView, target: Target) -> int:
    """A row of scores."""
    return 4 * node.inputs[1].dims[2]


def _kernel(op: str, symbol: str, accepts: Accepts, launch: Launcher) -> Kernel:
    return Kernel(op, symbol, f"kernels/{symbol}.c", 100, accepts, launch, in_place=(0,))


def _attention_s8(kind: str) -> Kernel:
    symbol = f"ec_attention_{kind}s8"
    accepts, source = _accepts_attention_s8(kind), f"kernels/{symbol}.c"
    return Kernel("attention", symbol, source, 100, accepts, _launch_attention_s8, scratch=_scratch_s8)


def _attention_f32(kind: str) -> Kernel:
    symbol = f"ec_attention_{kind}f32"
    accepts, source = accepts_attention_f32(kind), f"kernels/{symbol}.c"
    return Kernel("attention", symbol, source, 100, accepts, launch_attention_f32, scratch=_scratch_f32)


MASKS: Final = ("", "bias_", "mask_")

KERNELS: Final[tuple[Kernel, ...]] = (
    _kernel("softmax", "ec_softmax_s8", _accepts_s8, _launch_softmax_s8),
    _kernel("softmax", "ec_softmax_f32", all_f32, _launch_softmax_f32),
    _kernel("log_softmax", "ec_log_softmax_f32", all_f32, _launch_softmax_f32),
    _kernel("layer_norm", "ec_layer_norm_s8", _accepts_norm_s8, _launch_norm_s8),
    _kernel("layer_norm", "ec_layer_norm_f32", all_f32, _launch_norm_f32),
    _kernel("rms_norm", "ec_rms_norm_s8", _accepts_norm_s8, _launch_norm_s8),
    _kernel("rms_norm", "ec_rms_norm_f32", all_f32, _launch_norm_f32),
    _kernel("group_norm", "ec_group_norm_s8", _accepts_norm_s8, _launch_group_norm_s8),
    _kernel("group_norm", "ec_group_norm_f32", all_f32, _launch_group_norm_f32),
    _kernel("batch_norm", "ec_batch_norm_f32", all_f32, _launch_batch_norm_f32),
    *(_attention_s8(kind) for kind in MASKS),
    *(_attention_f32(kind) for kind in MASKS),
)
