"""What CUDA kernel records are written with: element types, zero biases, numbers of blocks."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.ir import Array, DType, Type
from edgec.plan import Gpu, NodeView, Target

CUDA_TYPE: Final[dict[DType, str]] = {
    DType.F32: "float",
    DType.F16: "__half",
    DType.BF16: "__nv_bfloat16",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.B8: "uint8_t",
}
FLOATS: Final = (DType.F32, DType.F16, DType.BF16)
GRID_MOST: Final = 65535  # blocks of a grid along y and along z
ELEMENTS_MOST: Final = (
    2**31 - 2**21
)  # of a tensor whose int32 indices may step beyond its end, by 2**20 at most
WARP_OUTPUTS_MOST: Final = 2**27 - 1  # of which a warp each has a thread's number in 32 bits


def gpu_of(target: Target) -> Gpu:
    """The GPU of a target of family cuda."""
    assert target.gpu is not None
    return target.gpu


def is_float(t: Type) -> bool:
    """Plain fp32, fp16 or bf16, static shape."""
    return t.dtype in FLOATS and t.quant is None and not t.bounds


def all_of_one_float(node: NodeView, target: Target) -> bool:
    """`accepts`: every input and output has the same plain float type."""
    types = (*node.inputs, *node.outputs)
    return all(is_float(t) for t in types) and len({t.dtype for t in types}) == 1


def zeros(count: int, dtype: DType) -> Array:
    """`count` zeros, for an absent bias."""
    return np.zeros(count, dtype.numpy)


def blocks_for(items: int, per_block: int) -> int:
    """Blocks that cover `items`."""
    return max(1, -(-items // per_block))


def flag(value: bool) -> str:
    """A boolean template argument."""
    return "true" if value else "false"
