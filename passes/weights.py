"""Constants in integers: weights, biases, operands; and the proof that a layer's sums fit 32 bits."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.build import Builder
from edgec.errors import TargetError
from edgec.fixedpoint import quantize_array
from edgec.ir import Array, Loc, Node, Quant, per_channel, per_tensor
from edgec.ops.define import QuantRule

BIAS_MAX: Final = 1 << 30  # a bias takes at most half of the accumulator
NOWHERE: Final = Loc("")
ACCUMULATOR_MAX: Final = (1 << 31) - 1
WEIGHT_MAX: Final = 127


def quantize_constant(data: Array, quant: Quant) -> npt.NDArray[np.int8]:
    """int8 of a real constant; infinities saturate. A symmetric one (zero 0) keeps its 127 steps on each
    side."""
    low = -WEIGHT_MAX if quant.axis is not None else -128
    real = np.nan_to_num(np.asarray(data, np.float64), nan=0.0, posinf=1e30, neginf=-1e30)
    return quantize_array(real, quant, low).astype(np.int8)


def quantize_layer(
    w: Array, bias: Array | None, x: Quant, axis: int, each_channel: bool
) -> tuple[npt.NDArray[np.int8], Quant]:
    """(int8 weight, its Quant) for w with output channels along `axis`; bias[O] or None; x is the input's
    Quant.

    A channel's scale is max|w| / 127, but never so small that its bias leaves BIAS_MAX steps; a channel of
    zeros takes the largest scale of the others, so that its bias keeps its resolution.
    """
    rows = np.abs(np.asarray(w, np.float64)).max(axis=tuple(i for i in range(w.ndim) if i != axis))
    if not each_channel:
        rows = np.full(1, rows.max(initial=0.0))
    scale = rows / WEIGHT_MAX
    largest = scale.max(initial=0.0)
    scale = np.where(scale > 0, scale, largest if largest > 0 else 1.0 / 128)
    if bias is not None:
        need = np.abs(np.asarray(bias, np.float64)) / (x.scale[0] * BIAS_MAX)
        scale = np.maximum(scale, need if each_channel else need.max(initial=0.0))
    scale = np.maximum(scale, float(np.finfo(np.float32).tiny))
    quant = per_channel(scale, axis) if each_channel else per_tensor(float(scale[0]), 0)
    return quantize_array(w, quant, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8), quant


def quantize_bias(bias: Array, x: Quant, w: Quant, loc: Loc = NOWHERE) -> tuple[npt.NDArray[np.int32], Quant]:
    """(int32 bias, its Quant) at scale(x) * scale(w). Raises TargetError EDGEC-E442 where it does not fit
    BIAS_MAX."""
    product = np.float64(x.scale[0]) * np.array(w.scale, np.float64)
    steps = np.floor(np.asarray(bias, np.float64) / product + 0.5)
    if np.abs(steps).max(initial=0.0) > BIAS_MAX * (
        1 + 1e-6
    ):  # quantize_layer stays within float32 rounding of it
        raise TargetError(
            "EDGEC-E442",
            f"keep {loc} in float (--keep-float {loc.layer}): its bias is {np.abs(steps).max():.0f} steps of its "
            "input's times its weights' "
            f"scale, half of a 32-bit accumulator holds {BIAS_MAX}",
        )
    data = np.clip(steps, -BIAS_MAX, BIAS_MAX).astype(np.int32)
    if w.axis is None:
        return data, per_tensor(float(product[0]), 0)
    return data, per_channel(product, 0)


def check_accumulator(builder: Builder, rule: QuantRule, node: Node, inputs: list[str]) -> None:
    """Raise TargetError EDGEC-E441 where a sum of products could leave 32 bits.

    Two forms must fit, since kernels may fold the input's zero point into the bias: sum (x - Z) w + b, and
    sum x w + (b - Z sum w).
    """
    if "weight" not in rule.roles or rule.weight_axis is None:
        return
    x = builder.types[inputs[0]].quant
    assert x is not None
    zero = x.zero[0]
    w = np.asarray(builder.constants[inputs[1][1:]].data, np.int64)
    rows = np.moveaxis(w, rule.weight_axis, 0).reshape(w.shape[rule.weight_axis], -1)
    bias = np.zeros(len(rows), np.int64)
    if len(inputs) > 2:
        bias = np.asarray(builder.constants[inputs[2][1:]].data, np.int64)
    total = np.abs(rows).sum(axis=1)
    centred = total * max(128 + zero, 127 - zero) + np.abs(bias)
    folded = total * 128 + np.abs(bias - zero * rows.sum(axis=1))
    worst = int(np.maximum(centred, folded).max(initial=0))
    if worst > ACCUMULATOR_MAX:
        raise TargetError(
            "EDGEC-E441",
            f"keep {node.loc} in float (--keep-float {node.loc.layer}) or split its input channels: "
            f"sums of its {rows.shape[1]} products reach "
            f"{worst}, a 32-bit accumulator holds {ACCUMULATOR_MAX}",
        )
