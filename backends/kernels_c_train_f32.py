"""Kernel records of the C backend: training in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.backends.kernel_record import Accepts, Fields, all_f32, int_fields, is_f32
from edgec.ir import DType
from edgec.ops.conv import Conv2dWeightGradAttrs
from edgec.ops.conv_gradient import Conv2dInputGradAttrs, Conv2dWeightUpdateAttrs
from edgec.ops.loss import KlLogitsAttrs
from edgec.ops.optimizer import AdamAttrs, SgdAttrs, SgdMomentumAttrs, two_floats
from edgec.ops.pool_gradient import MaxPool2dGradAttrs
from edgec.plan import Kernel, Launch, NodeView, Target

ConvAttrs = Conv2dInputGradAttrs | Conv2dWeightGradAttrs | Conv2dWeightUpdateAttrs
Launcher = Callable[[NodeView, Target], Launch]


def _conv_fields(
    attrs: ConvAttrs, x: tuple[int, ...], dy: tuple[int, ...], kernel: tuple[int, ...], weight_decay: float
) -> Fields:
    sizes = int_fields(
        batch=x[0],
        in_h=x[1],
        in_w=x[2],
        in_c=x[3],
        out_h=dy[1],
        out_w=dy[2],
        out_c=dy[3],
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
        groups=attrs.groups,
    )
    return (*sizes, ("weight_decay", weight_decay))


def _launch_conv(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    if isinstance(attrs, Conv2dInputGradAttrs):
        dy, w = (t.dims for t in node.inputs)
        fields = _conv_fields(attrs, node.outputs[0].dims, dy, w[1:3], 0.0)
    elif isinstance(attrs, Conv2dWeightGradAttrs):
        x, dy = (t.dims for t in node.inputs)
        fields = _conv_fields(attrs, x, dy, attrs.kernel, 0.0)
    else:
        assert isinstance(attrs, Conv2dWeightUpdateAttrs)
        w, x, dy = (t.dims for t in node.inputs[:3])
        fields = _conv_fields(attrs, x, dy, w[1:3], attrs.weight_decay)
    return Launch("ec_conv2d_grad_f32_params", fields, tuple(range(len(node.inputs))), ())


def launch_linear(node: NodeView, target: Target) -> Launch:
    """x and dy, of an update also w before and the rate behind."""
    attrs = node.node.attrs
    x, dy = (t.dims for t in node.inputs[-3:-1]) if len(node.inputs) == 4 else (t.dims for t in node.inputs)
    decay = attrs.weight_decay if isinstance(attrs, SgdAttrs) else 0.0
    fields = (*int_fields(rows=x[0], in_c=x[1], out_c=dy[1]), ("weight_decay", decay))
    return Launch("ec_linear_grad_f32_params", fields, tuple(range(len(node.inputs))), ())


def _row_scratch(node: NodeView, target: Target) -> int:
    """The gradient of one row of input channels."""
    return 4 * node.inputs[0].dims[-1]


def _launch_max_pool(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, MaxPool2dGradAttrs)
    fields = int_fields(
        **_pool_sizes(node),
        kernel_h=attrs.kernel[0],
        kernel_w=attrs.kernel[1],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        pad_top=attrs.pad[0],
        pad_left=attrs.pad[2],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
    )
    return Launch("ec_max_pool2d_grad_params", fields, (0, 1), ())


def _launch_adaptive_max_pool(node: NodeView, target: Target) -> Launch:
    return Launch("ec_adaptive_max_pool2d_grad_params", int_fields(**_pool_sizes(node)), (0, 1), ())


def _pool_sizes(node: NodeView) -> dict[str, int]:
    x, dy = (t.dims for t in node.inputs)
    return {"batch": x[0], "in_h": x[1], "in_w": x[2], "channels": x[3], "out_h": dy[1], "out_w": dy[2]}


def _launch_rows(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    rows, classes = node.inputs[0].dims
    temperature = attrs.temperature if isinstance(attrs, KlLogitsAttrs) else 1.0
    numbers = (float(np.float32(1.0 / temperature)), float(np.float32(temperature**2)))
    fields = (*int_fields(rows=rows, classes=classes), *zip(("inverse", "square"), numbers, strict=True))
    return Launch("ec_loss_f32_params", fields, tuple(range(len(node.inputs))), ())


def _launch_elements(node: NodeView, target: Target) -> Launch:
    fields = int_fields(count=node.inputs[0].size)
    return Launch("ec_elements_f32_params", fields, tuple(range(len(node.inputs))), ())


def _launch_sgd(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, (SgdAttrs, SgdMomentumAttrs))
    momentum = attrs.momentum if isinstance(attrs, SgdMomentumAttrs) else 0.0
    numbers = (("momentum", momentum), ("weight_decay", attrs.weight_decay))
    fields = (*int_fields(count=node.inputs[0].size), *numbers)
    return Launch("ec_sgd_f32_params", fields, tuple(range(len(node.inputs))), ())


def _launch_adam(node: NodeView, target: Target) -> Launch:
    attrs = node.node.attrs
    assert isinstance(attrs, AdamAttrs)
    (beta1, low1), (beta2, low2) = two_floats(attrs.beta1), two_floats(attrs.beta2)
    numbers = (
        ("beta1", beta1),
        ("beta1_low", low1),
        ("beta2", beta2),
        ("beta2_low", low2),
        ("mean_share", float(np.float32(1.0 - attrs.beta1))),
        ("square_share", float(np.float32(1.0 - attrs.beta2))),
        ("eps", attrs.eps),
        ("weight_decay", attrs.weight_decay),
    )
    fields = (*int_fields(count=node.inputs[0].size), *numbers)
    return Launch("ec_adam_f32_params", fields, tuple(range(6)), ())


def _labelled(node: NodeView, target: Target) -> bool:
    """Logits in float32, labels in int32, and what follows in float32."""
    logits, label, *more = node.inputs
    return all(is_f32(t) for t in (logits, *more)) and label.dtype is DType.I32 and not label.bounds


def _four_bytes(node: NodeView, target: Target) -> bool:
    x, loss = node.inputs
    return is_f32(loss) and x.dtype in (DType.F32, DType.I32)


def _adam_f32(node: NodeView, target: Target) -> bool:
    return all(is_f32(t) for t in (*node.inputs[:5], *node.outputs))


def _record(
    op: str,
    launch: Launcher,
    accepts: Accepts = all_f32,
    in_place: tuple[int, ...] = (),
    scratch: Callable[[NodeView, Target], int] | None = None,
    renews: tuple[tuple[int, int], ...] = (),
) -> Kernel:
    symbol = f"ec_{op}_f32"
    return Kernel(
        op,
        symbol,
        f"train/{symbol}.c",
        100,
        accepts,
        launch,
        scratch=scratch,
        in_place=in_place,
        renews=renews,
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    _record("conv2d_input_grad", _launch_conv),
    _record("conv2d_weight_grad", _launch_conv),
    _record("conv2d_weight_update", _launch_conv, in_place=(0,), scratch=_row_scratch),
    _record("linear_weight_grad", launch_linear),
    _record("linear_weight_update", launch_linear, in_place=(0,), scratch=_row_scratch),
    _record("max_pool2d_grad", _launch_max_pool),
    _record("adaptive_max_pool2d_grad", _launch_adaptive_max_pool),
    _record("cross_entropy", _launch_rows, _labelled),
    _record("cross_entropy_grad", _launch_rows, _labelled, in_place=(0,)),
    _record("kl_logits", _launch_rows),
    _record("correct_count", _launch_rows, _labelled),
    _record("mse", _launch_elements),
    _record("bce_logits", _launch_elements),
    _record("sgd", _launch_sgd, in_place=(0,)),
    _record("sgd_momentum", _launch_sgd, in_place=(0,), renews=((1, 3),)),
    _record("adam", _launch_adam, _adam_f32, in_place=(0,), renews=((1, 3), (2, 4))),
    _record("accumulate", _launch_elements, in_place=(0,)),
    Kernel(
        "when_finite", "ec_when_finite_x4", "train/ec_when_finite_x4.c", 100, _four_bytes, _launch_elements
    ),
)
