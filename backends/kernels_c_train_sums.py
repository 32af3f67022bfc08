"""Kernel records of the C backend: int8 training with weight decay, in Q8.8 and along sums, portable C99.

A pointer that a kernel does not read is that of another input, which Launch.inputs names twice: a value's, whose
pointer has no type, or one of the same type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgec.backends.kernel_record import Accepts, Fields, int_fields
from edgec.backends.kernels_c_train_s8 import (
    bias_attrs,
    bias_scratch,
    bias_sizes,
    geometry,
    is_pair_node,
    launch_bias,
    launch_weight,
    noise_fields,
    of_kind,
    static,
    sums_fit,
    weight_attrs,
    weight_scratch,
)
from edgec.ir import DType
from edgec.ops.train_conv import Behind, weight_inputs
from edgec.ops.train_sums import (
    SgdIntegerAttrs,
    Sources,
    SumConv2dBiasAttrs,
    SumConv2dWeightAttrs,
    VelocityAttrs,
    step_inputs,
    sum_sources,
)
from edgec.plan import Kernel, Launch, NodeView, Target

FRACTION: Final = {True: 8, False: 7}  # that input of a train_conv2d_weight in Q8.8, by whether it has a pair
STEPPED: Final = 4  # inputs of an sgd_integer before what may be absent
NO_NOISE: Final = int_fields(salt=0, seed=0, nearest=0)


def _with_decay(pair: bool) -> Accepts:
    fits = sums_fit(pair)

    def accepts(node: NodeView, target: Target) -> bool:
        attrs = weight_attrs(node)
        return fits(node, target) and attrs.rounding != "q8.8" and attrs.decays

    return accepts


def in_q88(pair: bool) -> Accepts:
    """`accepts` of a train_conv2d_weight in Q8.8."""
    fits = sums_fit(pair)
    return lambda node, target: fits(node, target) and weight_attrs(node).rounding == "q8.8"


def _bias_with_decay(pair: bool) -> Accepts:
    kind = of_kind(1, pair)
    return lambda node, target: kind(node, target) and bias_attrs(node).decays


def _or(found: int | None, other: int) -> int:
    return other if found is None else found


def launch_state(node: NodeView, target: Target, block: int = 0) -> Launch:
    """w, x, the gradient, mask, factor, rate, step, fraction where there is one, decay, idx; `block` as in
    launch_weight."""
    plain = launch_weight(node, target, block)
    factor = 5 if is_pair_node(node, 2) else 4
    step = factor + 2
    behind: Behind = weight_inputs(weight_attrs(node), len(node.inputs), is_pair_node(node, 2))
    fraction = () if behind.fraction is None else (behind.fraction,)
    inputs = (*range(step + 1), *fraction, _or(behind.decay, factor), _or(behind.idx, step))
    return Launch(plain.struct, plain.fields, inputs, ())


def sum_attrs(node: NodeView) -> SumConv2dWeightAttrs:
    """Attributes of a sum_conv2d_weight."""
    attrs = node.node.attrs
    assert isinstance(attrs, SumConv2dWeightAttrs)
    return attrs


def launch_sum(node: NodeView, target: Target, block: int = 0) -> Launch:
    """sum, x, the gradient, mask, factor, share, w, decay, fraction, idx; `block` of a DSP kernel."""
    attrs, pair = sum_attrs(node), is_pair_node(node, 2)
    found = sum_sources(attrs, len(node.inputs), pair)
    total, x, g = node.inputs[0].dims, node.inputs[1].dims, node.inputs[2].dims
    chosen = found.idx is not None
    fields = (
        *geometry(attrs, x, g, total[1:3], total[0] if chosen else attrs.groups),
        *int_fields(outputs=total[0], chosen=int(chosen), zero_in=attrs.zero),
        *NO_NOISE,
        *int_fields(block=block),
        *_sources_fields(attrs.decays, attrs.fractions, attrs.keep),
    )
    factor = 5 if pair else 4
    own = (_or(found.parameter, 1), _or(found.decay, factor), _or(found.fraction, 1))
    inputs = (*range(factor + 2), *own, _or(found.idx, factor - 1))
    return Launch("ec_train_weight_params", fields, inputs, ())


def _sources_fields(decays: bool, fractions: bool, keep: float) -> Fields:
    return (*int_fields(decays=int(decays) + int(fractions)), ("keep", keep))


def _launch_bias_sum(node: NodeView, target: Target) -> Launch:
    """sum, the gradient, mask, factor, share, b, decay."""
    attrs = node.node.attrs
    assert isinstance(attrs, SumConv2dBiasAttrs)
    factor = 4 if is_pair_node(node, 1) else 3
    found = Sources.of(factor + 2, len(node.inputs), attrs.decays, False)
    fields = (*bias_sizes(node), *NO_NOISE, *_sources_fields(attrs.decays, False, attrs.keep))
    inputs = (*range(factor + 2), _or(found.parameter, factor - 1), _or(found.decay, factor))
    return Launch("ec_train_bias_params", fields, inputs, ())


def _sizes(node: NodeView) -> Fields:
    first = node.inputs[0]
    return int_fields(outputs=first.dims[0], each=first.size // first.dims[0])


def _launch_velocity(node: NodeView, target: Target) -> Launch:
    """v, sum, the parameter, decay and, of weights, fraction."""
    attrs = node.node.attrs
    assert isinstance(attrs, VelocityAttrs)
    found = Sources.of(2, len(node.inputs), attrs.decays, attrs.fractions)
    fields = (*_sizes(node), *NO_NOISE, *_sources_fields(attrs.decays, attrs.fractions, attrs.momentum))
    own = (_or(found.parameter, 1), _or(found.decay, 1), _or(found.fraction, 1))
    return Launch("ec_integer_params", fields, (0, 1, *own[: 3 if _of_weights(node) else 2]), ())


def _of_weights(node: NodeView) -> bool:
    return len(node.inputs[0].shape) == 4


def _step_attrs(node: NodeView) -> SgdIntegerAttrs:
    attrs = node.node.attrs
    assert isinstance(attrs, SgdIntegerAttrs)
    return attrs


def _launch_step(node: NodeView, target: Target) -> Launch:
    """w, sum, rate, step, fraction where there is one, decay."""
    attrs = _step_attrs(node)
    behind = step_inputs(attrs, len(node.inputs))
    fields = (*_sizes(node), *noise_fields(attrs), *_sources_fields(attrs.decays, False, 0.0))
    fraction = () if behind.fraction is None else (behind.fraction,)
    return Launch("ec_integer_params", fields, (*range(STEPPED), *fraction, _or(behind.decay, 1)), ())


def _floats(node: NodeView) -> bool:
    """Whether all floats are float32."""
    return all(t.dtype is DType.F32 for t in (*node.inputs, *node.outputs) if t.dtype.is_float)


def _velocity_of(weights: bool) -> Accepts:
    return lambda node, target: static(node, target) and _floats(node) and _of_weights(node) == weights


def _step_of(dtype: DType, q88: bool) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        mine = node.inputs[0].dtype is dtype and (_step_attrs(node).rounding == "q8.8") == q88
        return static(node, target) and _floats(node) and mine

    return accepts


def _biases(node: NodeView, target: Target) -> bool:
    return static(node, target) and _floats(node) and node.inputs[0].dtype is DType.I32


def _portable(
    op: str,
    symbol: str,
    accepts: Accepts,
    launch: Callable[[NodeView, Target], Launch],
    scratch: Callable[[NodeView, Target], int] | None = None,
    fraction: int | None = None,
) -> Kernel:
    """`fraction`: the input whose next content is the second output."""
    renews = () if fraction is None else ((1, fraction),)
    source = f"train/{symbol}.c"
    return Kernel(op, symbol, source, 100, accepts, launch, scratch, in_place=(0,), renews=renews)


def _of_gradients(pair: bool) -> tuple[Kernel, ...]:
    kind = "pair" if pair else "f32"
    weight, bias = "train_conv2d_weight", "train_conv2d_bias"
    return (
        _portable(weight, f"ec_{weight}_decay_{kind}", _with_decay(pair), launch_state, weight_scratch),
        _portable(
            weight, f"ec_{weight}_q88_{kind}", in_q88(pair), launch_state, weight_scratch, FRACTION[pair]
        ),
        _portable(
            "sum_conv2d_weight", f"ec_sum_conv2d_weight_{kind}", sums_fit(pair), launch_sum, weight_scratch
        ),
        _portable(bias, f"ec_{bias}_decay_{kind}", _bias_with_decay(pair), launch_bias, bias_scratch),
        _portable(
            "sum_conv2d_bias", f"ec_sum_conv2d_bias_{kind}", of_kind(1, pair), _launch_bias_sum, bias_scratch
        ),
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    *_of_gradients(True),
    *_of_gradients(False),
    _portable("velocity", "ec_velocity_weight_f32", _velocity_of(True), _launch_velocity),
    _portable("velocity", "ec_velocity_bias_f32", _velocity_of(False), _launch_velocity),
    _portable("sgd_integer", "ec_sgd_integer_weight_f32", _step_of(DType.I8, False), _launch_step),
    _portable("sgd_integer", "ec_sgd_integer_q88_f32", _step_of(DType.I8, True), _launch_step, fraction=4),
    _portable("sgd_integer", "ec_sgd_integer_bias_f32", _biases, _launch_step),
)
