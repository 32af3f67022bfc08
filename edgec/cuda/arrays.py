"""Arrays of other libraries, as the ports of a model take them: memory on the GPU without a copy, and on the host.

PyTorch's tensors, what has __cuda_array_interface__ (CuPy, Numba) and what has __dlpack__ are seen by their own words;
nothing of these libraries is imported. An object is kept as long as its memory is in use.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.errors import UserError
from edgec.ir import Array, Type


@dataclass(frozen=True, slots=True)
class Seen:
    """Where an array lies. `kept`: the objects that own its memory."""

    shape: tuple[int, ...]
    dtype: str
    contiguous: bool
    address: int
    kept: tuple[Any, ...]


def seen(array: Any, t: Type, label: str) -> Seen:
    """A contiguous array of the type of the port `label`. Raises UserError EDGEC-E237."""
    if hasattr(array, "data_ptr"):  # PyTorch
        shape, name = tuple(array.shape), str(array.dtype).removeprefix("torch.")
        found = Seen(shape, name, bool(array.is_contiguous()), int(array.data_ptr()), (array,))
    elif hasattr(array, "__cuda_array_interface__"):
        found = _by_interface(array)
    elif hasattr(array, "__dlpack__"):
        found = _by_dlpack(array)
    else:
        raise UserError(
            "EDGEC-E237",
            f"give an array on the GPU (PyTorch, CuPy, DLPack) for port {label}: {type(array).__name__} is none",
        )
    if found.shape != t.dims or found.dtype != t.dtype.numpy.name or not found.contiguous:
        state = "" if found.contiguous else " and not contiguous"
        raise _unlike(t, label, f"{found.dtype}{list(found.shape)}{state}")
    return found


def host_array(array: Array, t: Type, label: str) -> Array:
    """`array` as the port takes it: exactly its shape and type, contiguous. Raises UserError EDGEC-E237."""
    given = np.asarray(array)
    if given.shape != t.dims or given.dtype != t.dtype.numpy:
        raise _unlike(t, label, f"{given.dtype.name}{list(given.shape)}")
    return np.ascontiguousarray(given)


def _unlike(t: Type, label: str, given: str) -> UserError:
    wanted = f"{t.dtype.numpy.name}{list(t.dims)}"
    return UserError("EDGEC-E237", f"give {wanted} for port {label}: this array is {given}")


def _dense(shape: Sequence[int], strides: Sequence[int], unit: int) -> bool:
    """Whether elements of `unit` lie in C order without gaps; strides of axes of 1 do not matter."""
    return all(
        n == 1 or stride == unit * math.prod(shape[i + 1 :])
        for i, (n, stride) in enumerate(zip(shape, strides, strict=True))
    )


def _by_interface(array: Any) -> Seen:
    said = array.__cuda_array_interface__
    shape, dtype, strides = tuple(said["shape"]), np.dtype(said["typestr"]), said.get("strides")
    contiguous = strides is None or _dense(shape, strides, dtype.itemsize)
    return Seen(shape, dtype.name, contiguous, int(said["data"][0]), (array,))


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h, version 1."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


_KINDS: Final = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex"}
_BOOL: Final = 6
_opened = ctypes.PyDLL(None).PyCapsule_GetPointer
_opened.restype, _opened.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _by_dlpack(array: Any) -> Seen:
    """The tensor in the object's capsule, which stays the owner: nobody takes it over."""
    capsule = array.__dlpack__()
    tensor = _Tensor.from_address(_opened(capsule, b"dltensor"))
    shape = tuple(tensor.shape[: tensor.rank])
    contiguous = not tensor.strides or _dense(shape, tensor.strides[: tensor.rank], 1)
    name = "bool" if tensor.code == _BOOL else f"{_KINDS.get(tensor.code, 'unknown')}{tensor.bits}"
    lanes = f"x{tensor.lanes}" if tensor.lanes != 1 else ""
    return Seen(shape, name + lanes, contiguous, (tensor.data or 0) + tensor.offset, (array, capsule))
