"""PyTorch's dtypes and tensors as those of the IR."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.build import constant
from edgec.errors import UserError
from edgec.ir import OF_NUMPY, Array, Constant, DType, Loc, Type
from edgec.lazy import zeros

if TYPE_CHECKING:
    import torch

_OF_NAME = {
    "float32": DType.F32,
    "float64": DType.F32,
    "int64": DType.I32,
    "int32": DType.I32,
    "int16": DType.I16,
    "int8": DType.I8,
    "uint8": DType.U8,
    "bool": DType.B8,
}
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Held:
    """A constant tensor under the user's name for it; parameters must be finite."""

    tensor: torch.Tensor
    name: str
    is_parameter: bool


def dtype_of(dtype: torch.dtype, name: str, loc: Loc, is_input: bool = False) -> DType:
    """int64 is i32 and float64 within the graph is f32. Raises UserError EDGEC-E333 for what has no counterpart."""
    text = str(dtype).removeprefix("torch.")
    if text not in _OF_NAME or (is_input and text == "float64"):
        cure = (
            "call model.float() and give float32 inputs"
            if text in (*_HALF, "float64")
            else "use real numbers"
        )
        raise UserError("EDGEC-E333", f"{cure}. {name!a} is {text} at {loc}; float32 models are compiled")
    return _OF_NAME[text]


def array_of(held: Held) -> Array:
    """The content in the dtype of the IR. Raises UserError EDGEC-E330 for NaN or infinite weights, -E333 for
    integers beyond 32 bits."""
    import torch

    tensor = held.tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise UserError(
            "EDGEC-E333", f"use dense real tensors. {held.name!a} is {tensor.dtype}, {tensor.layout}"
        )
    if tensor.dtype in (torch.float16, torch.bfloat16):
        raise UserError(
            "EDGEC-E333", f"call model.float(). {held.name!a} is {tensor.dtype}; float32 models are compiled"
        )
    array: Array = tensor.to("cpu").contiguous().numpy()
    _check_finite(array, held)
    wanted = dtype_of(tensor.dtype, held.name, Loc(held.name)).numpy
    if array.dtype == np.int64 and array.size:
        info = np.iinfo(np.int32)
        # An end of "everything" is written as the largest int64.
        array = np.where(array == np.iinfo(np.int64).max, info.max, array)
        if array.min() < info.min or array.max() > info.max:
            raise UserError(
                "EDGEC-E333",
                f"use smaller integers. {held.name!a} holds {array.min()} to {array.max()}; integers are 32-bit here",
            )
    return array.astype(wanted, copy=False)


def _check_finite(array: Array, held: Held) -> None:
    """Masks are buffers with -inf, so only parameters and NaN are refused."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if nan or (inf and held.is_parameter):
        raise UserError(
            "EDGEC-E330",
            f"train or load the model again. The weight {held.name!a} {list(array.shape)} holds {nan} NaN and {inf} "
            f"infinite values of {array.size}",
        )


def constant_of(held: Held) -> Constant:
    """The Program's constant."""
    return constant(array_of(held))


def initial_of(held: Held) -> Constant:
    """What a buffer that the model writes holds at first. Zeros, as those of a cache, take no memory."""
    if not held.tensor.any():
        dtype = dtype_of(held.tensor.dtype, held.name, Loc(held.name))
        return zeros(Type(tuple(held.tensor.shape), dtype))
    return constant_of(held)


def lazy_constant_of(held: Held) -> Constant:
    """The Program's constant, which reads the tensor where it lies each time; its content is hashed now."""
    array = array_of(held)
    t = Type(array.shape, OF_NUMPY[array.dtype.name])
    head = f"{t.dtype.value}{t.shape}".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(array).data)
    return Constant(t, lambda: array_of(held), digest.hexdigest())
