"""Kernel records of the C backend: ops of int8 training, portable C99."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.backends.kernel_record import (
    Accepts,
    Fields,
    clamp_fields_s8,
    int_fields,
    is_f32,
    is_s8,
    quant_of,
    requant_constants,
    zero_of,
)
from edgec.ir import DType, Type
from edgec.ops.binary import sum_multipliers
from edgec.ops.block_float import mantissa
from edgec.ops.gradient import GradientSumAttrs, terms_of
from edgec.ops.gradient_float import GradientFloatAttrs
from edgec.ops.train_conv import (
    TrainConv2dBiasAttrs,
    TrainConv2dWeightAttrs,
    TrainedConv2dInputGradAttrs,
    weight_inputs,
)
from edgec.ops.train_sums import SgdIntegerAttrs, SumConv2dWeightAttrs
from edgec.ops.trained import TrainedAddAttrs, TrainedConv2dAttrs, by_rows
from edgec.plan import Kernel, Launch, NodeView, Packed, Target

MOST_INPUTS: Final = 65_000  # of one output: sums of 255 * 128 stay in int32
MOST_PIXELS: Final = 66_311  # of a weight gradient: sums of 255 * 127 stay in int32
PIXELS: Final = 64  # that pointwise weight gradients take at a time

_NO_IDX: Final = Packed("none", "i32", np.zeros(1, np.int32))
_NO_SLICE: Final = Packed("none", "i8", np.zeros(1, np.int8))


def static(node: NodeView, target: Target) -> bool:
    """`accepts` of a kernel that takes every type its op does, of a static shape."""
    return not any(t.bounds for t in (*node.inputs, *node.outputs))


def is_pair_node(node: NodeView, at: int) -> bool:
    """Whether the gradient at input `at` is a pair."""
    return node.inputs[at].dtype is DType.I8


def of_kind(at: int, pair: bool) -> Accepts:
    """Takes nodes whose gradient at input `at` is a pair, or float32 throughout."""

    def accepts(node: NodeView, target: Target) -> bool:
        floats = [t for t in (*node.inputs, *node.outputs) if t.dtype.is_float]
        return (
            static(node, target)
            and is_pair_node(node, at) == pair
            and all(t.dtype is DType.F32 for t in floats)
        )

    return accepts


def wrapped32(value: int) -> int:
    """The int32 with the low 32 bits of `value`."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def geometry(
    attrs: TrainedConv2dAttrs | TrainedConv2dInputGradAttrs | TrainConv2dWeightAttrs | SumConv2dWeightAttrs,
    x: tuple[int, ...],
    y: tuple[int, ...],
    kernel: tuple[int, ...],
    groups: int,
) -> Fields:
    """The fields that the convolution structs of ec_train_s8.h begin with, of maps x and y."""
    return int_fields(
        batch=x[0],
        in_h=x[1],
        in_w=x[2],
        in_c=x[3],
        out_h=y[1],
        out_w=y[2],
        out_c=y[3],
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
        groups=groups,
    )


def trained_part(w: Type, groups: int, columns: tuple[Type, ...]) -> tuple[Fields, tuple[Packed, ...]]:
    """The fields trained and by_rows; what is passed for idx and slice where there is none."""
    if not columns:
        return int_fields(trained=0, by_rows=0), (_NO_IDX, _NO_SLICE)
    return int_fields(trained=columns[0].dims[0], by_rows=int(by_rows(w, groups))), ()


def conv_attrs(node: NodeView) -> TrainedConv2dAttrs:
    """Attributes of a trained_conv2d."""
    attrs = node.node.attrs
    assert isinstance(attrs, TrainedConv2dAttrs)
    return attrs


def accepts_conv(mask: bool) -> Accepts:
    """`accepts` of an int8 trained_conv2d with or without the mask, whose sums stay in int32."""

    def accepts(node: NodeView, target: Target) -> bool:
        x, w = node.inputs[:2]
        if not (is_s8(x) and w.dtype is DType.I8 and w.quant is not None and is_s8(node.outputs[0])):
            return False
        return w.size // w.dims[0] <= MOST_INPUTS and conv_attrs(node).mask == mask

    return accepts


def launch_conv(node: NodeView, target: Target) -> Launch:
    """x, w, bias, idx, slice; multiplier, shift."""
    attrs = conv_attrs(node)
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    trained, absent = trained_part(w, attrs.groups, node.inputs[3:])
    fields = (
        *geometry(attrs, x.dims, y.dims, w.dims[1:3], attrs.groups),
        *int_fields(zero_in=zero_of(x), zero_out=zero_of(y)),
        *clamp_fields_s8(attrs.act, y),
        *trained,
    )
    constants = (*absent, *requant_constants(node, w.dims[0]))
    return Launch("ec_trained_conv2d_params", fields, tuple(range(len(node.inputs))), constants)


def _conv_scratch(node: NodeView, target: Target) -> int:
    w = node.inputs[1]
    return w.size // w.dims[0]


def _accepts_add(mask: bool) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        attrs = node.node.attrs
        assert isinstance(attrs, TrainedAddAttrs)
        return all(is_s8(t) for t in (*node.inputs, node.outputs[0])) and attrs.mask == mask

    return accepts


def _launch_add(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, TrainedAddAttrs)
    a, b, y = (quant_of(t) for t in (*node.inputs, node.outputs[0]))
    ma, mb, shift = sum_multipliers(a, b, y)
    offset = (1 << (shift - 1)) - a.zero[0] * ma - b.zero[0] * mb
    fields = (
        *int_fields(size=node.outputs[0].size, zero_a=a.zero[0], zero_b=b.zero[0]),
        *int_fields(multiplier_a=ma, multiplier_b=mb, offset=offset, shift=shift, zero_out=y.zero[0]),
        *clamp_fields_s8(attrs.act, node.outputs[0]),
    )
    return Launch("ec_trained_add_params", fields, (0, 1), ())


def input_grad_attrs(node: NodeView) -> TrainedConv2dInputGradAttrs:
    """Attributes of a trained_conv2d_input_grad."""
    attrs = node.node.attrs
    assert isinstance(attrs, TrainedConv2dInputGradAttrs)
    return attrs


def input_grad_weight(node: NodeView) -> int:
    """The input that is w."""
    return 3 if is_pair_node(node, 0) else 2


def launch_input_grad(node: NodeView, target: Target, block: int = 0) -> Launch:
    """The gradient, mask, w, eff, idx, slice; `block` of a DSP kernel."""
    attrs, at = input_grad_attrs(node), input_grad_weight(node)
    w = node.inputs[at]
    trained, absent = trained_part(w, attrs.groups, node.inputs[at + 2 :])
    g, dx = node.inputs[0].dims, node.outputs[0].dims
    fields = (
        *geometry(attrs, dx, g, w.dims[1:3], attrs.groups),
        *int_fields(exponent=attrs.exponent),
        *trained,
        *int_fields(block=block),
    )
    return Launch("ec_input_grad_params", fields, tuple(range(len(node.inputs))), absent)


def grad_is_pointwise(node: NodeView) -> bool:
    """1x1 kernel, one group, stride 1, no padding."""
    attrs, w = input_grad_attrs(node), node.inputs[input_grad_weight(node)].dims
    return w[1:3] == (1, 1) and attrs.groups == 1 and attrs.stride == (1, 1) and not any(attrs.pad)


def _accepts_pointwise_grad(node: NodeView, target: Target) -> bool:
    return of_kind(0, False)(node, target) and grad_is_pointwise(node)


def _pointwise_grad_scratch(node: NodeView, target: Target) -> int:
    return 8 * node.inputs[0].dims[3]


def _input_grad_scratch(node: NodeView, target: Target) -> int:
    inputs = node.inputs[input_grad_weight(node)].dims[3]
    return inputs + (4 * node.outputs[0].dims[3] if is_pair_node(node, 0) else 0)


def _accepts_depthwise(node: NodeView, target: Target) -> bool:
    """A float gradient through a depthwise convolution of stride 1 that keeps the shape."""
    attrs, w = input_grad_attrs(node), node.inputs[input_grad_weight(node)]
    channels = node.outputs[0].dims[3]
    depthwise = w.dims[0] == w.dims[3] * attrs.groups == attrs.groups == channels
    same = node.inputs[0].dims == node.outputs[0].dims and attrs.stride == (1, 1)
    return of_kind(0, False)(node, target) and depthwise and same and channels > 1


def _plane_scratch(node: NodeView, target: Target) -> int:
    return 4 * node.outputs[0].dims[1] * node.outputs[0].dims[2]


def weight_attrs(node: NodeView) -> TrainConv2dWeightAttrs:
    """Attributes of a train_conv2d_weight."""
    attrs = node.node.attrs
    assert isinstance(attrs, TrainConv2dWeightAttrs)
    return attrs


def is_chosen(node: NodeView) -> bool:
    """Whether the last input of a train_conv2d_weight is idx."""
    return weight_inputs(weight_attrs(node), len(node.inputs), is_pair_node(node, 2)).idx is not None


def sums_fit(pair: bool) -> Accepts:
    """Takes weight gradients, at input 2, whose sums stay in int32."""
    kind = of_kind(2, pair)

    def accepts(node: NodeView, target: Target) -> bool:
        g = node.inputs[2]
        return kind(node, target) and (not pair or g.size // g.dims[3] <= MOST_PIXELS)

    return accepts


def accepts_weight(pair: bool) -> Accepts:
    """`accepts` of a train_conv2d_weight without decay and not in Q8.8, whose sums stay in int32."""
    fits = sums_fit(pair)

    def accepts(node: NodeView, target: Target) -> bool:
        attrs = weight_attrs(node)
        return fits(node, target) and attrs.rounding != "q8.8" and not attrs.decays

    return accepts


def accepts_bias(pair: bool) -> Accepts:
    """`accepts` of a train_conv2d_bias without decay."""
    kind = of_kind(1, pair)
    return lambda node, target: kind(node, target) and not bias_attrs(node).decays


def launch_weight(node: NodeView, target: Target, block: int = 0) -> Launch:
    """w, x, the gradient, mask, factor, rate, step, idx; `block` of a DSP kernel."""
    attrs, chosen = weight_attrs(node), is_chosen(node)
    w, x, g = node.inputs[0].dims, node.inputs[1].dims, node.inputs[2].dims
    fields = (
        *geometry(attrs, x, g, w[1:3], w[0] if chosen else attrs.groups),
        *int_fields(outputs=w[0], chosen=int(chosen), zero_in=attrs.zero),
        *noise_fields(attrs),
        *int_fields(block=block, decays=int(attrs.decays)),
        ("keep", 0.0),
    )
    absent = () if chosen else (_NO_IDX,)
    return Launch("ec_train_weight_params", fields, tuple(range(len(node.inputs))), absent)


def noise_fields(attrs: TrainConv2dWeightAttrs | TrainConv2dBiasAttrs | SgdIntegerAttrs) -> Fields:
    """salt, seed and nearest."""
    return int_fields(
        salt=wrapped32(attrs.salt), seed=wrapped32(attrs.seed), nearest=int(attrs.rounding == "nearest")
    )


def weight_is_pointwise(node: NodeView) -> bool:
    """1x1 kernel, one group, stride 1, no padding, every output."""
    attrs, w = weight_attrs(node), node.inputs[0].dims
    plain = attrs.groups == 1 and attrs.stride == (1, 1) and not any(attrs.pad)
    return w[1:3] == (1, 1) and plain and not is_chosen(node)


def _accepts_pointwise_weight(node: NodeView, target: Target) -> bool:
    return accepts_weight(False)(node, target) and weight_is_pointwise(node)


def _pointwise_weight_scratch(node: NodeView, target: Target) -> int:
    return 8 * PIXELS + weight_scratch(node, target)


def weight_scratch(node: NodeView, target: Target) -> int:
    """The gradient of one output at one kernel position."""
    return 4 * node.inputs[0].dims[3]


def bias_attrs(node: NodeView) -> TrainConv2dBiasAttrs:
    """Attributes of a train_conv2d_bias."""
    attrs = node.node.attrs
    assert isinstance(attrs, TrainConv2dBiasAttrs)
    return attrs


def launch_bias(node: NodeView, target: Target) -> Launch:
    """b, the gradient, mask, factor, rate, step, decay."""
    attrs = bias_attrs(node)
    fields = (
        *bias_sizes(node),
        *noise_fields(attrs),
        *int_fields(decays=int(attrs.decays)),
        ("keep", 0.0),
    )
    return Launch("ec_train_bias_params", fields, tuple(range(len(node.inputs))), ())


def bias_sizes(node: NodeView) -> Fields:
    """pixels and channels of an op whose first inputs are a vector and a gradient."""
    channels = node.inputs[0].size
    return int_fields(pixels=node.inputs[1].size // channels, channels=channels)


def bias_scratch(node: NodeView, target: Target) -> int:
    """The gradient."""
    return 4 * node.inputs[0].size


def _sum_inputs(node: NodeView) -> tuple[GradientSumAttrs, tuple[int, ...], tuple[int, ...]]:
    """Attributes, the terms' inputs and those of their masks; the first gradient where there is none."""
    attrs = node.node.attrs
    assert isinstance(attrs, GradientSumAttrs)
    terms = terms_of(attrs, is_pair_node(node, 0))
    gradients = tuple(g for g, _ in terms) + (0,) * (2 - len(terms))
    masks = tuple(m if m is not None else 0 for _, m in terms) + (0,) * (2 - len(terms))
    return attrs, gradients, masks


def _masked(attrs: GradientSumAttrs) -> Fields:
    first, second = (*attrs.masked, False)[:2]
    return int_fields(terms=len(attrs.masked), masked_0=int(first), masked_1=int(second))


def _launch_sum(node: NodeView, target: Target) -> Launch:
    attrs, (first, second), masks = _sum_inputs(node)
    (m0, k0), (m1, k1) = (mantissa(f) for f in (*attrs.factors, 0.0)[:2])
    size, channels = node.inputs[0].size, node.inputs[0].dims[-1]
    fields = (
        *int_fields(pixels=size // channels, channels=channels),
        *_masked(attrs),
        *int_fields(mantissa_0=m0, mantissa_1=m1, exponent_0=k0, exponent_1=k1),
    )
    inputs = (first, first + 1, second, second + 1, *masks)
    return Launch("ec_gradient_sum_params", fields, inputs, ())


def _launch_sum_f32(node: NodeView, target: Target) -> Launch:
    attrs, gradients, masks = _sum_inputs(node)
    first, second = (*attrs.factors, 0.0)[:2]
    fields = (*int_fields(size=node.inputs[0].size), *_masked(attrs))
    floats = (("factor_0", first), ("factor_1", second))
    return Launch("ec_gradient_sum_f32_params", (*fields, *floats), (*gradients, *masks), ())


def _sum_scratch(node: NodeView, target: Target) -> int:
    return 4 * node.inputs[0].dims[-1]


def _plain_f32(node: NodeView, target: Target) -> bool:
    return is_f32(node.inputs[0])


def _launch_mask_and(node: NodeView, target: Target) -> Launch:
    return Launch("ec_mask_and_params", int_fields(size=node.inputs[0].size), (0, 1), ())


def _launch_quantize(node: NodeView, target: Target) -> Launch:
    return Launch("ec_gradient_quantize_params", int_fields(size=node.inputs[0].size), (0,), ())


def _launch_float(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, GradientFloatAttrs)
    fields = (*int_fields(size=node.inputs[0].size, masked=int(attrs.masked)), ("factor", attrs.factor))
    return Launch("ec_gradient_float_params", fields, (0, 1, 2 if attrs.masked else 0), ())


def _portable(
    op: str,
    symbol: str,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    scratch: Callable[[NodeView, Target], int] | None = None,
    in_place: tuple[int, ...] = (),
) -> Kernel:
    source = f"train/{symbol}.c"
    return Kernel(op, symbol, source, 100, accepts, launch, scratch, in_place=in_place)


KERNELS: Final[tuple[Kernel, ...]] = (
    _portable("mask_and", "ec_mask_and_u8", static, _launch_mask_and, in_place=(0, 1)),
    _portable("gradient_quantize", "ec_gradient_quantize_f32", _plain_f32, _launch_quantize),
    _portable("gradient_float", "ec_gradient_float_f32", static, _launch_float),
    _portable("gradient_sum", "ec_gradient_sum_s8", of_kind(0, True), _launch_sum, _sum_scratch, (0,)),
    _portable("gradient_sum", "ec_gradient_sum_f32", of_kind(0, False), _launch_sum_f32, in_place=(0,)),
    _portable("trained_add", "ec_trained_add_s8", _accepts_add(False), _launch_add, in_place=(0, 1)),
    _portable("trained_add", "ec_trained_add_mask_s8", _accepts_add(True), _launch_add, in_place=(0, 1)),
    _portable("trained_conv2d", "ec_trained_conv2d_s8", accepts_conv(False), launch_conv, _conv_scratch),
    _portable("trained_conv2d", "ec_trained_conv2d_mask_s8", accepts_conv(True), launch_conv, _conv_scratch),
    *(
        _portable(
            "trained_conv2d_input_grad",
            f"ec_trained_conv2d_input_grad_{'s8' if pair else 'f32'}",
            of_kind(0, pair),
            launch_input_grad,
            _input_grad_scratch,
        )
        for pair in (True, False)
    ),
    Kernel(
        "trained_conv2d_input_grad",
        "ec_trained_depthwise_input_grad_f32",
        "train/ec_trained_depthwise_input_grad_f32.c",
        90,
        _accepts_depthwise,
        launch_input_grad,
        _plane_scratch,
        in_place=(0,),
    ),
    Kernel(
        "trained_conv2d_input_grad",
        "ec_pointwise_input_grad_f32",
        "train/ec_pointwise_input_grad_f32.c",
        80,
        _accepts_pointwise_grad,
        launch_input_grad,
        _pointwise_grad_scratch,
    ),
    Kernel(
        "train_conv2d_weight",
        "ec_pointwise_train_weight_f32",
        "train/ec_pointwise_train_weight_f32.c",
        80,
        _accepts_pointwise_weight,
        launch_weight,
        _pointwise_weight_scratch,
        in_place=(0,),
    ),
    *(
        _portable(
            "train_conv2d_weight",
            f"ec_train_conv2d_weight_{'pair' if pair else 'f32'}",
            accepts_weight(pair),
            launch_weight,
            weight_scratch,
            (0,),
        )
        for pair in (True, False)
    ),
    *(
        _portable(
            "train_conv2d_bias",
            f"ec_train_conv2d_bias_{'pair' if pair else 'f32'}",
            accepts_bias(pair),
            launch_bias,
            bias_scratch,
            (0,),
        )
        for pair in (True, False)
    ),
)
