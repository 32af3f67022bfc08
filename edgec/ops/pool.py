"""Max and average pooling over windows, fixed or adaptive, of x[N,H,W,C].

Padding never wins a maximum. It counts as 0 in an average, and as an element of its divisor with
`count_include_pad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgec.ir import Array, Attrs, Type
from edgec.ops.conv2d import Conv2dAttrs, input_gradient, out_size, windows
from edgec.ops.define import Arrays, Cost, Example, Op, QuantRule, Types, define, require
from edgec.ops.emit import emit
from edgec.ops.movement import same_movement
from edgec.ops.resize import Indices, separable_gradient
from edgec.ops.sample import normal

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Pair = tuple[int, int]
Pad = tuple[int, int, int, int]
Grads = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class MaxPool2dAttrs(Attrs):
    """`pad` is (top, bottom, left, right). A ceiled output size is resolved into `pad`."""

    kernel: Pair
    stride: Pair
    pad: Pad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True, slots=True)
class AvgPool2dAttrs(Attrs):
    """`pad` is (top, bottom, left, right). `divisor` replaces the number of elements."""

    kernel: Pair
    stride: Pair
    pad: Pad = (0, 0, 0, 0)
    count_include_pad: bool = True
    divisor: int | None = None

    @property
    def fixed_divisor(self) -> int:
        """What every sum is divided by; 0 where it is the number of elements inside the map."""
        return self.divisor or (self.kernel[0] * self.kernel[1] if self.count_include_pad else 0)


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool2dAttrs(Attrs):
    """`size` is (P, Q); (1, 1) is global pooling. `ties`: how int8 rounds a mean that lies halfway between two
    integers: "up", or to the "even" one, as imported integer networks may have it."""

    size: Pair
    ties: Literal["up", "even"] = "up"


@dataclass(frozen=True, slots=True)
class AdaptiveMaxPool2dAttrs(Attrs):
    """`size` is (P, Q); (1, 1) is global pooling."""

    size: Pair


AdaptiveAttrs = AdaptiveAvgPool2dAttrs | AdaptiveMaxPool2dAttrs


def pooled_type(x: Type, kernel: Pair, stride: Pair, pad: Pad, dilation: Pair) -> Type:
    """Output type; every window must reach into the map."""
    sizes = []
    for axis in range(2):
        size, before, after = x.dims[axis + 1], pad[2 * axis], pad[2 * axis + 1]
        out = out_size(size, kernel[axis], stride[axis], before, after, dilation[axis])
        require(out > 0, f"a window of {kernel} does not fit into {x.dims[1:3]} with padding {pad}")
        inside = taps_inside(size, out, kernel[axis], stride[axis], before, dilation[axis])
        require(bool(inside.all()), f"padding {pad} leaves windows of {kernel} without an element")
        sizes.append(out)
    return Type((x.shape[0], *sizes, x.shape[3]), x.dtype)


def taps_inside(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> Indices:
    """For each output row, how many rows of its window lie inside of the map."""
    rows = np.arange(out)[:, None] * stride - before + np.arange(kernel) * dilation
    return np.asarray(((rows >= 0) & (rows < size)).sum(1), np.int64)


def adaptive_bounds(size: int, out: int) -> tuple[Indices, Indices]:
    """First row and end of each adaptive window: floor(p * size / out), ceil((p + 1) * size / out)."""
    p = np.arange(out)
    return p * size // out, -(-(p + 1) * size // out)


def max_infer(attrs: MaxPool2dAttrs, types: Types) -> Types:
    """x[N,H,W,C] -> y[N,P,Q,C]."""
    require(len(types) == 1 and len(types[0].shape) == 4, "takes x[N,H,W,C]")
    return (pooled_type(types[0], attrs.kernel, attrs.stride, attrs.pad, attrs.dilation),)


def max_windows(attrs: MaxPool2dAttrs, x: Array) -> Array:
    """[N,P,Q,C,R,S]; padding is the lowest value of the dtype."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype.str).min
    return windows(x, Conv2dAttrs(attrs.stride, attrs.pad, attrs.dilation), attrs.kernel, lowest)


def max_ref(attrs: MaxPool2dAttrs, inputs: Arrays) -> Arrays:
    return (max_windows(attrs, inputs[0]).max(axis=(4, 5)),)


def max_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, MaxPool2dAttrs)
    if dy is None:
        return (None,)
    return (
        emit(
            b,
            "max_pool2d_grad",
            node.inputs[0],
            dy,
            kernel=attrs.kernel,
            stride=attrs.stride,
            pad=attrs.pad,
            dilation=attrs.dilation,
        ),
    )


def max_cost(attrs: MaxPool2dAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, outputs[0].size * attrs.kernel[0] * attrs.kernel[1])


def avg_infer(attrs: AvgPool2dAttrs, types: Types) -> Types:
    """x[N,H,W,C] -> y[N,P,Q,C]."""
    require(len(types) == 1 and len(types[0].shape) == 4, "takes x[N,H,W,C]")
    require(attrs.divisor is None or attrs.divisor > 0, f"divisor {attrs.divisor} is not positive")
    return (pooled_type(types[0], attrs.kernel, attrs.stride, attrs.pad, (1, 1)),)


def avg_divisors(attrs: AvgPool2dAttrs, size: Sequence[int], out: Sequence[int]) -> Indices:
    """Divisor [P,Q,1] of each window of a map of `size`."""
    if attrs.fixed_divisor:
        return np.full((*out, 1), attrs.fixed_divisor)
    counts = [
        taps_inside(size[i], out[i], attrs.kernel[i], attrs.stride[i], attrs.pad[2 * i], 1) for i in range(2)
    ]
    return np.asarray(counts[0][:, None, None] * counts[1][:, None])


def _avg_sums(attrs: AvgPool2dAttrs, x: Array) -> Array:
    return np.asarray(windows(x, Conv2dAttrs(attrs.stride, attrs.pad), attrs.kernel, 0.0).sum(axis=(4, 5)))


def avg_ref(attrs: AvgPool2dAttrs, inputs: Arrays) -> Arrays:
    x = inputs[0]
    sums = _avg_sums(attrs, x)
    return (sums / avg_divisors(attrs, x.shape[1:3], sums.shape[1:3]).astype(x.dtype),)


def rounded_average(sums: Array, divisors: Array, zero: int) -> Array:
    """int8 zero + sums / divisors, rounded half up; sums int64 of q - zero."""
    halves = np.add(2 * sums.astype(np.int64), divisors) // np.multiply(2, divisors)
    return np.asarray(np.clip(zero + halves, -128, 127), np.int8)


def _zero(types: Types) -> int:
    quant = types[0].quant
    assert quant is not None
    return quant.per_tensor[1]


def avg_quant_ref(attrs: AvgPool2dAttrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """y = clamp(Z + floor(sum (x - Z) / divisor + 1/2))."""
    sums = _avg_sums(attrs, inputs[0].astype(np.int64) - _zero(in_types))
    divisors = avg_divisors(attrs, inputs[0].shape[1:3], sums.shape[1:3])
    return (rounded_average(sums, divisors, _zero(in_types)),)


def avg_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """The transposed depthwise convolution of dy / divisor with ones."""
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, AvgPool2dAttrs)
    if dy is None:
        return (None,)
    (_, h, w, c), out = b.types[node.inputs[0]].dims, b.types[dy].dims[1:3]
    dtype = b.types[dy].dtype.numpy
    shares = b.constant((1.0 / avg_divisors(attrs, (h, w), out)).astype(dtype), "shares")
    ones = b.constant(np.ones((c, *attrs.kernel, 1), dtype), "ones")
    conv = Conv2dAttrs(attrs.stride, attrs.pad, groups=c)
    return (input_gradient(b, conv, (h, w), ones, emit(b, "mul", dy, shares)),)


def avg_cost(attrs: AvgPool2dAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, outputs[0].size * attrs.kernel[0] * attrs.kernel[1])


def adaptive_infer(attrs: AdaptiveAttrs, types: Types) -> Types:
    """x[N,H,W,C] -> y[N,P,Q,C]."""
    require(len(types) == 1 and len(types[0].shape) == 4, "takes x[N,H,W,C]")
    require(min(attrs.size) > 0, f"size {attrs.size} is not positive")
    n, _, _, c = types[0].shape
    return (Type((n, *attrs.size, c), types[0].dtype),)


def _adaptive(attrs: AdaptiveAttrs, x: Array, reduce: Callable[..., Array]) -> Array:
    """y[N,P,Q,C] = reduce over each window."""
    (top, bottom), (left, right) = (adaptive_bounds(x.shape[i + 1], attrs.size[i]) for i in range(2))
    return np.stack(
        [
            np.stack([reduce(x[:, t:b, lo:hi], axis=(1, 2)) for lo, hi in zip(left, right, strict=True)], 1)
            for t, b in zip(top, bottom, strict=True)
        ],
        1,
    )


def adaptive_avg_ref(attrs: AdaptiveAvgPool2dAttrs, inputs: Arrays) -> Arrays:
    return (_adaptive(attrs, inputs[0], np.mean),)


def adaptive_avg_quant_ref(
    attrs: AdaptiveAvgPool2dAttrs, in_types: Types, inputs: Arrays, out_types: Types
) -> Arrays:
    """y = Z + floor(mean (x - Z) + 1/2); with ties to even the mean of x itself, rounded so."""
    zero = _zero(in_types) if attrs.ties == "up" else 0
    x = inputs[0].astype(np.int64) - zero
    (top, bottom), (left, right) = (adaptive_bounds(x.shape[i + 1], attrs.size[i]) for i in range(2))
    divisors = (bottom - top)[:, None, None] * (right - left)[:, None]
    sums = _adaptive(attrs, x, np.sum)
    rounded = rounded_average(sums, divisors, zero)
    if attrs.ties == "even":
        tie = np.equal(np.mod(np.multiply(2, sums), np.multiply(2, divisors)), divisors)
        rounded = np.asarray(rounded - (tie & (rounded % 2 != 0)), np.int8)
    return (rounded,)


def adaptive_matrix(size: int, out: int) -> Array:
    """The linear map [out, size] that averages one axis."""
    made = np.zeros((out, size))
    for row, (first, end) in enumerate(zip(*adaptive_bounds(size, out), strict=True)):
        made[row, first:end] = 1.0 / (end - first)
    return made


def adaptive_avg_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, AdaptiveAvgPool2dAttrs)
    if dy is None:
        return (None,)
    _, h, w, _ = b.types[node.inputs[0]].dims
    rows, columns = adaptive_matrix(h, attrs.size[0]), adaptive_matrix(w, attrs.size[1])
    return (separable_gradient(b, dy, rows, columns),)


def adaptive_max_ref(attrs: AdaptiveMaxPool2dAttrs, inputs: Arrays) -> Arrays:
    return (_adaptive(attrs, inputs[0], np.max),)


def adaptive_max_vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    attrs, dy = node.attrs, grads[0]
    assert isinstance(attrs, AdaptiveMaxPool2dAttrs)
    if dy is None:
        return (None,)
    return (emit(b, "adaptive_max_pool2d_grad", node.inputs[0], dy, size=attrs.size),)


def adaptive_cost(attrs: AdaptiveAttrs, inputs: Types, outputs: Types) -> Cost:
    return Cost(0, inputs[0].size + outputs[0].size)


def nchw(function: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's `function(t, x)` over NCHW, for x in NHWC."""
    return lambda t, x: function(t, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def max_torch(attrs: MaxPool2dAttrs) -> Callable[..., Any]:
    def torch(t, x):  # type: ignore[no-untyped-def]
        top, bottom, left, right = attrs.pad
        padded = t.nn.functional.pad(x, (left, right, top, bottom), value=-float("inf"))
        return t.nn.functional.max_pool2d(padded, attrs.kernel, attrs.stride, 0, attrs.dilation)

    return nchw(torch)


def _avg_torch(attrs: AvgPool2dAttrs) -> Callable[..., Any]:
    """Padding must be symmetric here, as PyTorch has it."""

    def torch(t, x):  # type: ignore[no-untyped-def]
        return t.nn.functional.avg_pool2d(
            x,
            attrs.kernel,
            attrs.stride,
            (attrs.pad[0], attrs.pad[2]),
            count_include_pad=attrs.count_include_pad,
            divisor_override=attrs.divisor,
        )

    return nchw(torch)


def _max_example(label: str, attrs: MaxPool2dAttrs, x: tuple[int, ...]) -> Example:
    return Example(label, attrs, normal(x), max_torch(attrs))


def _avg_example(label: str, attrs: AvgPool2dAttrs, x: tuple[int, ...]) -> Example:
    return Example(label, attrs, normal(x), _avg_torch(attrs))


def _adaptive_example(label: str, attrs: AdaptiveAttrs, x: tuple[int, ...], name: str) -> Example:
    torch = nchw(lambda t, x: getattr(t.nn.functional, name)(x, attrs.size))
    return Example(label, attrs, normal(x), torch)


_MAX_EXAMPLES = (
    _max_example("2x2 stride 2", MaxPool2dAttrs((2, 2), (2, 2)), (2, 6, 5, 3)),
    _max_example(
        "3x3 stride 2, asymmetric padding", MaxPool2dAttrs((3, 3), (2, 2), (1, 0, 0, 1)), (1, 8, 7, 4)
    ),
    _max_example("dilated", MaxPool2dAttrs((2, 3), (1, 2), (1, 1, 2, 2), (2, 2)), (1, 6, 7, 2)),
)
EVEN_CASES: tuple[tuple[str, Pair, tuple[int, ...], Literal["up", "even"]], ...] = (
    ("global, ties to even", (1, 1), (2, 2, 2, 40), "even"),
    ("uneven, ties to even", (3, 4), (1, 7, 5, 8), "even"),
)
ADAPTIVE_CASES = (
    ("global", (1, 1), (2, 4, 5, 3)),
    ("divides", (3, 2), (1, 6, 8, 3)),
    ("uneven", (3, 4), (1, 7, 5, 2)),
)


define(
    Op(
        name="max_pool2d",
        doc="Maximum of each window of x[N,H,W,C]; padding never wins.",
        attrs=MaxPool2dAttrs,
        infer=max_infer,
        ref=max_ref,
        vjp=max_vjp,
        quant=same_movement(max_ref),
        cost=max_cost,
        examples=_MAX_EXAMPLES,
    )
)

define(
    Op(
        name="avg_pool2d",
        doc="Average of each window of x[N,H,W,C].",
        attrs=AvgPool2dAttrs,
        infer=avg_infer,
        ref=avg_ref,
        vjp=avg_vjp,
        quant=QuantRule(("shared",), "shared", avg_quant_ref, max_lsb=0.5),
        cost=avg_cost,
        examples=(
            _avg_example("2x2 stride 2", AvgPool2dAttrs((2, 2), (2, 2)), (2, 6, 5, 3)),
            _avg_example("3x3, padding counts", AvgPool2dAttrs((3, 3), (2, 1), (1, 1, 1, 1)), (1, 7, 6, 2)),
            _avg_example(
                "3x3, padding does not count",
                AvgPool2dAttrs((3, 3), (1, 2), (1, 1, 1, 1), count_include_pad=False),
                (1, 5, 6, 4),
            ),
            _avg_example("divisor", AvgPool2dAttrs((2, 3), (1, 1), divisor=5), (1, 4, 5, 3)),
        ),
    )
)

define(
    Op(
        name="adaptive_avg_pool2d",
        doc="Average of x[N,H,W,C] over P x Q windows of nearly equal size; (1, 1) is global.",
        attrs=AdaptiveAvgPool2dAttrs,
        infer=adaptive_infer,
        ref=adaptive_avg_ref,
        vjp=adaptive_avg_vjp,
        # 1: a tie to even lies one below the tie upwards of the float test
        quant=QuantRule(("shared",), "shared", adaptive_avg_quant_ref, max_lsb=1.0),
        cost=adaptive_cost,
        examples=tuple(
            _adaptive_example(label, AdaptiveAvgPool2dAttrs(size), x, "adaptive_avg_pool2d")
            for label, size, x in ADAPTIVE_CASES
        )
        + tuple(
            _adaptive_example(label, AdaptiveAvgPool2dAttrs(size, ties), x, "adaptive_avg_pool2d")
            for label, size, x, ties in EVEN_CASES
        ),
    )
)

define(
    Op(
        name="adaptive_max_pool2d",
        doc="Maximum of x[N,H,W,C] over P x Q windows of nearly equal size; (1, 1) is global.",
        attrs=AdaptiveMaxPool2dAttrs,
        infer=adaptive_infer,
        ref=adaptive_max_ref,
        vjp=adaptive_max_vjp,
        quant=same_movement(adaptive_max_ref),
        cost=adaptive_cost,
        examples=tuple(
            _adaptive_example(label, AdaptiveMaxPool2dAttrs(size), x, "adaptive_max_pool2d")
            for label, size, x in ADAPTIVE_CASES
        ),
    )
)
