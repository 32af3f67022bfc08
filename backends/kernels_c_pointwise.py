"""Kernel records of the C backend: pointwise ops, reductions, conversions."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.backends import pointwise
from edgec.backends.kernel_record import (
    INT32_MAX,
    Accepts,
    Fields,
    all_f32,
    all_s8,
    clamp_fields_s8,
    constant,
    int_fields,
    is_f32,
    is_s8,
    quant_of,
    zero_of,
)
from edgec.backends.strided import RANK, Strided, broadcast, split_axes, strides_to
from edgec.fixedpoint import multiplier
from edgec.ir import DType, Type
from edgec.ops.activation import prelu_multipliers
from edgec.ops.binary import BinaryAttrs, sum_multipliers
from edgec.ops.cast import requantize_multiplier
from edgec.ops.lookup import lookup_table
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs, count, sum_multiplier
from edgec.ops.select import MaskedFillAttrs, fill_value
from edgec.plan import ROW_BY_ROW, Halo, Kernel, Launch, NodeView, Packed, Target

TABLE_OPS: Final = (
    *("neg", "abs", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "erf", "pow_scalar"),
    *("relu", "relu6", "clamp", "elu", "leaky_relu", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
    *("gelu", "silu"),
)


def row_by_row(node: NodeView) -> Halo:
    """Output row r reads input row r."""
    return ROW_BY_ROW


def is_map(t: Type) -> bool:
    """One NHWC image."""
    return len(t.shape) == 4 and t.dims[0] == 1


def _accepts_rows(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and is_map(node.outputs[0])


def _table(node: NodeView) -> Packed:
    table = lookup_table(node.node.op, node.node.attrs, node.inputs[0], node.outputs[0])
    return Packed("table", "lut", table)


def _launch_lut(node: NodeView, target: Target) -> Launch:
    return Launch("ec_lut_params", int_fields(size=node.outputs[0].size), (0,), (_table(node),))


def _launch_lut_rows(node: NodeView, target: Target) -> Launch:
    _, height, width, channels = node.outputs[0].dims
    fields = int_fields(row_size=width * channels, ring_0=height, ring_y=height)
    return Launch("ec_lut_rows_params", fields, (0,), (_table(node),))


def _few_axes(node: NodeView, target: Target) -> bool:
    """Whether the broadcast merges into the axes that the strided kernels take."""
    plan = broadcast(node.outputs[0].dims, [t.dims for t in node.inputs])
    return len(plan.sizes) <= RANK


def _accepts_binary(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and _few_axes(node, target)


def _stride_fields(plan: Strided, names: tuple[str, ...]) -> Fields:
    """d0..d5, then the strides of each operand."""
    full = plan.padded()
    sizes = tuple((f"d{i}", n) for i, n in enumerate(full.sizes))
    strides = tuple(
        (f"{name}{i}", s) for name, row in zip(names, full.strides, strict=True) for i, s in enumerate(row)
    )
    return (*sizes, *strides)


def _arithmetic(node: NodeView) -> Fields:
    """From zero_a to act_max of ec_binary_s8_params."""
    a, b, y = (quant_of(t) for t in (*node.inputs, node.outputs[0]))
    if node.node.op == "mul":
        ma, shift = multiplier(a.scale[0] * b.scale[0] / y.scale[0])
        mb = 0
    else:
        ma, mb, shift = sum_multipliers(a, b, y)
        mb = -mb if node.node.op == "sub" else mb
    # Only add and sub read it; there it fits int32 because multipliers stay below 2**21.
    adds = node.node.op in ("add", "sub")
    offset = (1 << (shift - 1)) - a.zero[0] * ma - b.zero[0] * mb if adds else 0
    attrs = node.node.attrs
    return (
        *int_fields(zero_a=a.zero[0], zero_b=b.zero[0]),
        *int_fields(multiplier_a=ma, multiplier_b=mb, offset=offset, shift=shift),
        *int_fields(zero_out=y.zero[0]),
        *clamp_fields_s8(attrs.act if isinstance(attrs, BinaryAttrs) else None, node.outputs[0]),
    )


def _launch_binary(node: NodeView, target: Target) -> Launch:
    plan = broadcast(node.outputs[0].dims, [t.dims for t in node.inputs])
    rows = int_fields(row_a=0, row_b=0, row_y=0, ring_0=1, ring_1=1, ring_y=1)
    fields = (*_stride_fields(plan, ("a", "b")), *_arithmetic(node), *rows)
    return Launch("ec_binary_s8_params", fields, (0, 1), ())


def _launch_binary_rows(node: NodeView, target: Target) -> Launch:
    """One row is (W, C); an operand with no rows of its own has row 0 and ring 1."""
    out = node.outputs[0].dims
    strides = [strides_to(out, t.dims) for t in node.inputs]
    plan = Strided(out[2:], tuple(s[2:] for s in strides))
    if all(s == (out[3], 1) for s in plan.strides):
        plan = Strided((1, out[2] * out[3]), ((0, 1), (0, 1)))
    rings = [out[1] if s[1] else 1 for s in strides]
    rows = int_fields(
        row_a=strides[0][1],
        row_b=strides[1][1],
        row_y=out[2] * out[3],
        ring_0=rings[0],
        ring_1=rings[1],
        ring_y=out[1],
    )
    fields = (*_stride_fields(plan, ("a", "b")), *_arithmetic(node), *rows)
    return Launch("ec_binary_s8_params", fields, (0, 1), ())


def _accepts_where(node: NodeView, target: Target) -> bool:
    """int8 of one quantisation, or plain bytes."""
    _, a, b = node.inputs
    y = node.outputs[0]
    same = a.quant == y.quant == b.quant and a.dtype is b.dtype
    return y.dtype.bytes == 1 and same and not y.bounds and _few_axes(node, target)


def _launch_where(node: NodeView, target: Target) -> Launch:
    plan = broadcast(node.outputs[0].dims, [t.dims for t in node.inputs])
    return Launch("ec_where_params", _stride_fields(plan, ("c", "a", "b")), (0, 1, 2), ())


def _accepts_fill(node: NodeView, target: Target) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    return is_s8(x) and x.quant == y.quant and _few_axes(node, target)


def _launch_fill(node: NodeView, target: Target) -> Launch:
    attrs, out = node.node.attrs, node.outputs[0]
    assert isinstance(attrs, MaskedFillAttrs)
    plan = broadcast(out.dims, [node.inputs[1].dims])
    value = fill_value(attrs, quant_of(out))
    fields = (*_stride_fields(plan, ("c",)), ("value", value))
    return Launch("ec_masked_fill_params", fields, (0, 1), ())


def _accepts_prelu(node: NodeView, target: Target) -> bool:
    return is_s8(node.inputs[0]) and is_s8(node.outputs[0]) and node.constants[1] is not None


def _prelu_arithmetic(node: NodeView) -> tuple[Fields, tuple[Packed, ...]]:
    """From channels to zero_out of the params, and the constants multiplier and shift."""
    x, y = node.inputs[0], node.outputs[0]
    channels = x.dims[-1] if x.dims else 1
    above, (m, shift) = prelu_multipliers(x, constant(node, 1), y)
    packed = (
        Packed("multiplier", "i32", np.resize(m, channels)),
        Packed("shift", "u8", np.resize(shift, channels).astype(np.uint8)),
    )
    zeros = {"zero_in": zero_of(x), "multiplier": above[0], "shift": above[1], "zero_out": zero_of(y)}
    return int_fields(channels=channels, **zeros), packed


def _launch_prelu(node: NodeView, target: Target) -> Launch:
    fields, packed = _prelu_arithmetic(node)
    return Launch("ec_prelu_params", (("size", node.inputs[0].size), *fields), (0,), packed)


def _accepts_prelu_rows(node: NodeView, target: Target) -> bool:
    return _accepts_prelu(node, target) and is_map(node.outputs[0])


def _launch_prelu_rows(node: NodeView, target: Target) -> Launch:
    _, height, width, channels = node.outputs[0].dims
    fields, packed = _prelu_arithmetic(node)
    rings = int_fields(ring_0=height, ring_y=height)
    return Launch("ec_prelu_rows_params", (("row_size", width * channels), *fields, *rings), (0,), packed)


def _reduce_attrs(node: NodeView) -> ReduceAttrs:
    attrs = node.node.attrs
    assert isinstance(attrs, ReduceAttrs)
    return attrs


def _reduce_axes(node: NodeView) -> tuple[Strided, Strided]:
    return split_axes(node.inputs[0].dims, _reduce_attrs(node).axes)


def accepts_reduce(types: Accepts) -> Accepts:
    """Accepts what `types` does where three kept and three reduced axes suffice and an int32 sum does too."""

    def accepts(node: NodeView, target: Target) -> bool:
        if not types(node, target) or any(len(part.sizes) > 3 for part in _reduce_axes(node)):
            return False
        return count(_reduce_attrs(node), node.inputs[0]) * 255 <= INT32_MAX

    return accepts


def _same_quant(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and node.inputs[0].quant == node.outputs[0].quant


def _all_i32(node: NodeView, target: Target) -> bool:
    types = (*node.inputs, *node.outputs)
    return all(t.dtype is DType.I32 and t.quant is None and not t.bounds for t in types)


def _reduce_fields(node: NodeView) -> Fields:
    """From kept0 to stride2."""
    kept, gone = (part.padded(3) for part in _reduce_axes(node))
    return tuple(
        (f"{name}{i}", value)
        for name, values in (
            ("kept", kept.sizes),
            ("kept_stride", kept.strides[0]),
            ("size", gone.sizes),
            ("stride", gone.strides[0]),
        )
        for i, value in enumerate(values)
    )


def _launch_reduce_s8(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    m, shift = 0, 1
    if node.node.op in ("reduce_sum", "reduce_mean"):
        m, shift = sum_multiplier(node.node.op, _reduce_attrs(node), x, y)
    quants = int_fields(zero_in=zero_of(x), multiplier=m, shift=shift, zero_out=zero_of(y))
    return Launch("ec_reduce_s8_params", (*_reduce_fields(node), *quants), (0,), ())


def launch_reduce_f32(node: NodeView, target: Target) -> Launch:
    """The parameters of sums and means in float."""
    elements = count(_reduce_attrs(node), node.inputs[0]) if node.node.op == "reduce_mean" else 1
    fields = (*_reduce_fields(node), ("divisor", float(elements)))
    return Launch("ec_reduce_f32_params", fields, (0,), ())


def _launch_reduce_i32(node: NodeView, target: Target) -> Launch:
    return Launch("ec_reduce_i32_params", _reduce_fields(node), (0,), ())


def _launch_argmax(node: NodeView, target: Target) -> Launch:
    attrs, dims = node.node.attrs, node.inputs[0].dims
    assert isinstance(attrs, ArgmaxAttrs)
    axis = attrs.axis
    if axis is None:
        fields = int_fields(outer=1, size=node.inputs[0].size, inner=1)
    else:
        outer, inner = int(np.prod(dims[:axis])), int(np.prod(dims[axis + 1 :]))
        fields = int_fields(outer=outer, size=dims[axis], inner=inner)
    return Launch("ec_argmax_params", fields, (0,), ())


def _launch_quantize(node: NodeView, target: Target) -> Launch:
    y = node.outputs[0]
    inverse = float(np.float32(1.0 / quant_of(y).scale[0]))
    fields = (("size", y.size), ("inverse", inverse), ("zero", zero_of(y)))
    return Launch("ec_quantize_params", fields, (0,), ())


def _launch_dequantize(node: NodeView, target: Target) -> Launch:
    x = node.inputs[0]
    fields = (("size", x.size), ("scale", quant_of(x).scale[0]), ("zero", zero_of(x)))
    return Launch("ec_dequantize_params", fields, (0,), ())


def _launch_requantize(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    m, shift = requantize_multiplier(x, y)
    fields = int_fields(size=x.size, zero_in=zero_of(x), multiplier=m, shift=shift, zero_out=zero_of(y))
    return Launch("ec_requantize_params", fields, (0,), ())


def _types(x: str, y: DType | None) -> Accepts:
    """Accepts x "s8" or "f32", and a static output of dtype y (None: int8)."""

    def accepts(node: NodeView, target: Target) -> bool:
        first, last = node.inputs[0], node.outputs[0]
        takes = is_s8(first) if x == "s8" else is_f32(first)
        gives = is_s8(last) if y is None else last.dtype is y and not last.bounds
        return takes and gives

    return accepts


def _lut(op: str) -> tuple[Kernel, ...]:
    rows = Kernel(
        op=op,
        symbol="ec_lut_rows_s8",
        source="kernels/ec_lut_rows_s8.c",
        rank=90,
        accepts=_accepts_rows,
        launch=_launch_lut_rows,
        halo=row_by_row,
        in_place=(0,),
    )
    flat = Kernel(op, "ec_lut_s8", "kernels/ec_lut_s8.c", 100, all_s8, _launch_lut, in_place=(0,))
    return rows, flat


def _binary(op: str, name: str, rows: bool) -> tuple[Kernel, ...]:
    symbol = f"ec_{name}_s8"
    flat = Kernel(op, symbol, f"kernels/{symbol}.c", 100, _accepts_binary, _launch_binary, in_place=(0, 1))
    if not rows:
        return (flat,)
    symbol = f"ec_{name}_rows_s8"
    return (
        Kernel(
            op=op,
            symbol=symbol,
            source=f"kernels/{symbol}.c",
            rank=90,
            accepts=_accepts_rows,
            launch=_launch_binary_rows,
            halo=row_by_row,
            in_place=(0, 1),
        ),
        flat,
    )


def _reduce(op: str, name: str, s8: Accepts) -> tuple[Kernel, ...]:
    int8, single, whole = (f"ec_reduce_{name}_{t}" for t in ("s8", "f32", "i32"))
    kernels = (
        Kernel(op, int8, f"kernels/{int8}.c", 100, accepts_reduce(s8), _launch_reduce_s8),
        Kernel(op, single, f"kernels/{single}.c", 100, accepts_reduce(all_f32), launch_reduce_f32),
    )
    if op == "reduce_mean":  # integers have no mean
        return kernels
    return (
        *kernels,
        Kernel(op, whole, f"kernels/{whole}.c", 100, accepts_reduce(_all_i32), _launch_reduce_i32),
    )


KERNELS: Final[tuple[Kernel, ...]] = (
    *(kernel for op in TABLE_OPS for kernel in _lut(op)),
    *_binary("add", "add", rows=True),
    *_binary("sub", "add", rows=True),
    *_binary("mul", "mul", rows=True),
    *_binary("minimum", "minimum", rows=False),
    *_binary("maximum", "maximum", rows=False),
    Kernel(
        "where", "ec_where_x1", "kernels/ec_where_x1.c", 100, _accepts_where, _launch_where, in_place=(1, 2)
    ),
    Kernel(
        op="masked_fill",
        symbol="ec_masked_fill_x1",
        source="kernels/ec_masked_fill_x1.c",
        rank=100,
        accepts=_accepts_fill,
        launch=_launch_fill,
        in_place=(0,),
    ),
    Kernel(
        op="prelu",
        symbol="ec_prelu_rows_s8",
        source="kernels/ec_prelu_rows_s8.c",
        rank=90,
        accepts=_accepts_prelu_rows,
        launch=_launch_prelu_rows,
        halo=row_by_row,
        in_place=(0,),
    ),
    Kernel(
        "prelu", "ec_prelu_s8", "kernels/ec_prelu_s8.c", 100, _accepts_prelu, _launch_prelu, in_place=(0,)
    ),
    *_reduce("reduce_sum", "sum", all_s8),
    *_reduce("reduce_mean", "sum", all_s8),
    *_reduce("reduce_max", "max", _same_quant),
    *_reduce("reduce_min", "min", _same_quant),
    *(
        Kernel(
            op="argmax",
            symbol=f"ec_argmax_{kind}",
            source=f"kernels/ec_argmax_{kind}.c",
            rank=100,
            accepts=_types(kind, DType.I32),
            launch=_launch_argmax,
        )
        for kind in ("s8", "f32")
    ),
    Kernel(
        op="quantize",
        symbol="ec_quantize_f32",
        source="kernels/ec_quantize_f32.c",
        rank=100,
        accepts=_types("f32", None),
        launch=_launch_quantize,
    ),
    Kernel(
        op="dequantize",
        symbol="ec_dequantize_s8",
        source="kernels/ec_dequantize_s8.c",
        rank=100,
        accepts=_types("s8", DType.F32),
        launch=_launch_dequantize,
    ),
    Kernel(
        op="requantize",
        symbol="ec_requantize_s8_map",
        source="kernels/ec_requantize_s8_map.c",
        rank=100,
        accepts=all_s8,
        launch=_launch_requantize,
        in_place=(0,),
    ),
    *pointwise.KERNELS,
)
