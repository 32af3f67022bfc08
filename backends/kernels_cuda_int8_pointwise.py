"""Kernel records of the CUDA backend: int8 pointwise ops, tables, and the ways between float and int8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edgec.backends.cuda_record import CUDA_TYPE, FLOATS, blocks_for, gpu_of
from edgec.backends.kernel_record import (
    INT32_MAX,
    Accepts,
    Fields,
    all_s8,
    clamp_fields_s8,
    constant,
    int_fields,
    is_s8,
    quant_of,
    zero_of,
)
from edgec.backends.kernels_c_pointwise import TABLE_OPS
from edgec.backends.strided import RANK, Strided, broadcast
from edgec.fixedpoint import multiplier
from edgec.ir import DType, Type
from edgec.ops.activation import prelu_multipliers
from edgec.ops.binary import BinaryAttrs, sum_multipliers
from edgec.ops.cast import requantize_multiplier
from edgec.ops.lookup import lookup_table
from edgec.ops.select import MaskedFillAttrs, fill_value
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]

_BINARY: Final = {"add": 0, "sub": 0, "mul": 1, "minimum": 2, "maximum": 3}


def vector_of(divided: Sequence[int], elements: int, target: Target) -> int:
    """Elements of a thread: the most that divide all of `divided`, fewer where that leaves SMs idle."""
    enough = 128 * gpu_of(target).sms
    fitting = [v for v in (16, 8, 4, 2, 1) if all(n % v == 0 for n in divided)]
    return next((v for v in fitting if elements // v >= enough), max(1, min(4, fitting[0])))


def flat_grid(body: str, template: tuple[str, ...], threads: int, waits: bool = False) -> Grid:
    """A grid of blocks of 128 threads over `threads`."""
    return Grid(body, template, (blocks_for(threads, 128), 1, 1), 128, waits=waits)


def _small(*types: Type) -> bool:
    return all(t.size <= INT32_MAX - 4096 for t in types)


def _accepts_binary(node: NodeView, target: Target) -> bool:
    plan = broadcast(node.outputs[0].dims, [t.dims for t in node.inputs])
    return all_s8(node, target) and len(plan.sizes) <= RANK and _small(node.outputs[0])


def _arithmetic(node: NodeView) -> Fields:
    """From zero_a to act_max of ec_binary_cuda_s8_params."""
    a, b, y = (quant_of(t) for t in (*node.inputs, node.outputs[0]))
    op, attrs = node.node.op, node.node.attrs
    offset = 0
    if op == "mul":
        (ma, shift), mb = multiplier(a.scale[0] * b.scale[0] / y.scale[0]), 0
    else:
        ma, mb, shift = sum_multipliers(a, b, y)
        mb = -mb if op == "sub" else mb
        if op in ("add", "sub"):
            offset = (1 << (shift - 1)) - a.zero[0] * ma - b.zero[0] * mb
    return (
        *int_fields(zero_a=a.zero[0], zero_b=b.zero[0], multiplier_a=ma, multiplier_b=mb),
        *int_fields(offset=offset, shift=shift, zero_out=y.zero[0]),
        *clamp_fields_s8(attrs.act if isinstance(attrs, BinaryAttrs) else None, node.outputs[0]),
    )


def _stride_fields(plan: Strided) -> Fields:
    """d1..d5, then the steps of both operands along the outer axes."""
    full = plan.padded()
    sizes = tuple((f"d{i}", n) for i, n in enumerate(full.sizes))[1:]
    steps = tuple(
        (f"{name}{i}", row[i]) for name, row in zip("ab", full.strides, strict=True) for i in range(5)
    )
    return (*sizes, *steps)


def _launch_binary(node: NodeView, target: Target) -> Launch:
    y = node.outputs[0]
    plan = broadcast(y.dims, [t.dims for t in node.inputs])
    runs = [s[-1] == 1 for s in plan.strides]
    outer = [n for s, run in zip(plan.strides, runs, strict=True) if run for n in s[:-1]]
    vector = vector_of((plan.sizes[-1], *outer), y.size, target)
    axes = min(len(plan.sizes) - 1, 3)
    flags = ("true" if run else "false" for run in runs)
    template = (str(_BINARY[node.node.op]), str(vector), *flags, str(axes))
    fields = (("size", y.size), *_stride_fields(plan), *_arithmetic(node))
    grid = flat_grid("ec_binary_s8_body", template, y.size // vector)
    return Launch("ec_binary_cuda_s8_params", fields, (0, 1), (), (grid,))


def _accepts_select(node: NodeView, target: Target) -> bool:
    """int8 of one quantisation, and a condition in bytes."""
    y, masks = node.outputs[0], node.node.op == "masked_fill"
    kept = node.inputs[:1] if masks else node.inputs[1:]
    condition = node.inputs[1] if masks else node.inputs[0]
    same = all(is_s8(t) and t.quant == y.quant for t in kept)
    few = len(broadcast(y.dims, [t.dims for t in node.inputs]).sizes) <= RANK
    return same and is_s8(y) and condition.dtype is DType.B8 and few and _small(y)


def _launch_select(node: NodeView, target: Target) -> Launch:
    y, attrs = node.outputs[0], node.node.attrs
    masks = isinstance(attrs, MaskedFillAttrs)
    operands = (node.inputs[1], node.inputs[0], node.inputs[0]) if masks else node.inputs
    full = broadcast(y.dims, [t.dims for t in operands]).padded()
    fields = (
        ("size", y.size),
        *((f"d{i}", n) for i, n in enumerate(full.sizes)),
        *(
            (f"{name}{i}", n)
            for name, row in zip("cab", full.strides, strict=True)
            for i, n in enumerate(row)
        ),
        ("value", fill_value(attrs, quant_of(y)) if isinstance(attrs, MaskedFillAttrs) else 0),
    )
    body = "ec_masked_fill_s8_body" if masks else "ec_where_s8_body"
    grid = flat_grid(body, (), y.size)
    return Launch("ec_select_s8_params", fields, tuple(range(len(node.inputs))), (), (grid,))


def _unary_fields(
    size: int,
    channels: int = 1,
    zero_in: int = 0,
    requant: tuple[int, int] = (0, 1),
    zero_out: int = 0,
    scale: float = 0.0,
) -> Fields:
    """The fields of ec_unary_s8_params."""
    return (
        *int_fields(size=size, channels=channels, zero_in=zero_in, multiplier=requant[0], shift=requant[1]),
        ("zero_out", zero_out),
        ("scale", scale),
    )


def _accepts_unary(node: NodeView, target: Target) -> bool:
    return all_s8(node, target) and _small(node.outputs[0])


def _launch_lut(node: NodeView, target: Target) -> Launch:
    table = lookup_table(node.node.op, node.node.attrs, node.inputs[0], node.outputs[0])
    size = node.outputs[0].size
    vector = vector_of((size,), size, target)
    grid = flat_grid("ec_lut_s8_body", (str(vector),), size // vector, waits=True)
    return Launch("ec_unary_s8_params", _unary_fields(size), (0,), (Packed("table", "lut", table),), (grid,))


def _launch_requantize(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    vector = vector_of((x.size,), x.size, target)
    fields = _unary_fields(x.size, 1, zero_of(x), requantize_multiplier(x, y), zero_of(y))
    grid = flat_grid("ec_requantize_s8_body", (str(vector),), x.size // vector)
    return Launch("ec_unary_s8_params", fields, (0,), (), (grid,))


def _accepts_prelu(node: NodeView, target: Target) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    return is_s8(x) and is_s8(y) and node.constants[1] is not None and _small(y)


def _launch_prelu(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    channels = x.dims[-1] if x.dims else 1
    above, (m, shift) = prelu_multipliers(x, constant(node, 1), y)
    slope = np.stack([np.resize(m, channels), np.resize(shift, channels)], 1).astype(np.int32)
    vector = vector_of((x.size,), x.size, target)
    fields = _unary_fields(x.size, channels, zero_of(x), (above[0], above[1]), zero_of(y))
    grid = flat_grid("ec_prelu_s8_body", (str(vector),), x.size // vector)
    return Launch("ec_unary_s8_params", fields, (0,), (Packed("slope", "ms", slope),), (grid,))


def _is_float(t: Type) -> bool:
    return t.dtype in FLOATS and not t.bounds and _small(t)


def _accepts_quantize(node: NodeView, target: Target) -> bool:
    return _is_float(node.inputs[0]) and is_s8(node.outputs[0])


def _launch_quantize(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    inverse = float(np.float32(1.0 / quant_of(y).scale[0]))
    vector = vector_of((x.size,), x.size, target)
    grid = flat_grid("ec_quantize_s8_body", (CUDA_TYPE[x.dtype], str(vector)), x.size // vector)
    return Launch(
        "ec_unary_s8_params", _unary_fields(x.size, zero_out=zero_of(y), scale=inverse), (0,), (), (grid,)
    )


def _accepts_dequantize(node: NodeView, target: Target) -> bool:
    return is_s8(node.inputs[0]) and _is_float(node.outputs[0])


def _launch_dequantize(node: NodeView, target: Target) -> Launch:
    x, y = node.inputs[0], node.outputs[0]
    vector = vector_of((x.size,), x.size, target)
    fields = _unary_fields(x.size, zero_in=zero_of(x), scale=float(np.float32(quant_of(x).scale[0])))
    grid = flat_grid("ec_dequantize_s8_body", (CUDA_TYPE[y.dtype], str(vector)), x.size // vector)
    return Launch("ec_unary_s8_params", fields, (0,), (), (grid,))


def _unary(op: str, name: str, accepts: Accepts, launch: Launcher, in_place: tuple[int, ...]) -> Kernel:
    symbol, step = f"ec_{name}_s8_cuda", name in ("lut", "requantize")
    return Kernel(op, symbol, "cuda/ec_unary_s8.cu", 100, accepts, launch, in_place=in_place, step=step)


KERNELS: Final[tuple[Kernel, ...]] = (
    *(
        Kernel(
            op=op,
            symbol=f"ec_{op}_s8_cuda",
            source="cuda/ec_binary_s8.cu",
            rank=100,
            accepts=_accepts_binary,
            launch=_launch_binary,
            in_place=(0, 1),
            step=True,
        )
        for op in _BINARY
    ),
    *(
        Kernel(
            op=op,
            symbol=f"ec_{op}_s8_cuda",
            source="cuda/ec_select_s8.cu",
            rank=100,
            accepts=_accepts_select,
            launch=_launch_select,
        )
        for op in ("where", "masked_fill")
    ),
    *(_unary(op, "lut", _accepts_unary, _launch_lut, (0,)) for op in TABLE_OPS),
    _unary("requantize", "requantize", _accepts_unary, _launch_requantize, (0,)),
    _unary("prelu", "prelu", _accepts_prelu, _launch_prelu, (0,)),
    _unary("quantize", "quantize", _accepts_quantize, _launch_quantize, ()),
    _unary("dequantize", "dequantize", _accepts_dequantize, _launch_dequantize, ()),
)
