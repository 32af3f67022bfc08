"""Arrays of other libraries as a model sees them; memory of the host stands for that of a GPU."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from edgec.cuda.arrays import Seen, seen
from edgec.errors import UserError
from edgec.ir import DType, Type

DTYPES = (DType.F16, DType.BF16, DType.F32, DType.I8, DType.U8, DType.I32, DType.I64, DType.B8)


class Lent:
    """Nothing but the DLPack protocol of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **given: Any) -> Any:
        return self.tensor.__dlpack__(**given)


class Described:
    """Nothing but a CUDA array interface, with strides where the array has them."""

    def __init__(self, array: Any, strides: bool) -> None:
        own = array.__array_interface__
        self.__cuda_array_interface__ = {**own, "strides": array.strides if strides else None}
        self.array = array


def refused(array: Any, t: Type) -> str:
    with pytest.raises(UserError) as caught:
        seen(array, t, "x")
    return str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", [Lent, lambda tensor: tensor], ids=["dlpack", "torch"])
def test_tensors_of_every_type_are_seen_where_they_lie(dtype: DType, form: Any) -> None:
    tensor = torch.zeros((5, 3, 4), dtype=getattr(torch, dtype.numpy.name))[2:]
    found = seen(form(tensor), Type((3, 3, 4), dtype), "x")
    assert found.address == tensor.data_ptr() != tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("form", [Lent, lambda tensor: tensor], ids=["dlpack", "torch"])
def test_tensors_that_do_not_fit_are_refused(form: Any) -> None:
    t = Type((4, 6), DType.F32)
    asked = "EDGEC-E237: give float32[4, 6] for port x: this array is "
    assert refused(form(torch.zeros(4, 6).half()), t) == asked + "float16[4, 6]"
    assert refused(form(torch.zeros(6, 4)), t) == asked + "float32[6, 4]"
    assert refused(form(torch.zeros(6, 4).t()), t) == asked + "float32[4, 6] and not contiguous"
    assert refused(form(torch.zeros(4, 7)[:, :6]), t) == asked + "float32[4, 6] and not contiguous"


def test_axes_of_one_have_any_stride() -> None:
    tensor = torch.zeros(4, 1, 6).transpose(0, 1).transpose(0, 1)
    odd = torch.as_strided(tensor, (4, 1, 6), (6, 77, 1))
    assert isinstance(seen(Lent(odd), Type((4, 1, 6), DType.F32), "x"), Seen)


@pytest.mark.parametrize("strides", [False, True])
def test_a_cuda_array_interface_is_seen_with_and_without_strides(strides: bool) -> None:
    array = np.zeros((4, 6), np.float16)
    found = seen(Described(array, strides), Type((4, 6), DType.F16), "x")
    assert found.address == array.ctypes.data
    if strides:
        wide = Described(np.zeros((4, 7), np.float16)[:, :6], strides)
        asked = "EDGEC-E237: give float16[4, 6] for port x: this array is "
        assert refused(wide, Type((4, 6), DType.F16)) == asked + "float16[4, 6] and not contiguous"


def test_what_is_no_array_is_refused() -> None:
    assert refused([1.0], Type((1,), DType.F32)) == (
        "EDGEC-E237: give an array on the GPU (PyTorch, CuPy, DLPack) for port x: list is none"
    )


def test_memory_lives_as_long_as_it_is_kept() -> None:
    """A capsule that nobody takes over frees its tensor when it goes."""
    freed = []

    class Owner(Lent):
        def __del__(self) -> None:
            freed.append(1)

    found: Seen | None = seen(Owner(torch.zeros(1 << 20)), Type((1 << 20,), DType.F32), "x")
    assert not freed
    assert found is not None and found.kept
    found = None
    assert freed == [1]


def test_no_other_library_is_imported() -> None:
    code = """
import sys
import numpy as np
from edgec.cuda.arrays import seen
from edgec.ir import DType, Type
print(seen(np.zeros((2, 3), np.float32), Type((2, 3), DType.F32), "x").contiguous, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
