"""Kernel records of the CUDA backend: pointwise ops on floats, half types, integers and booleans; `cuda_pointwise`
generates their bodies."""

from __future__ import annotations

from typing import Final

from edgec.backends.pointwise import OPS, fits, in_place_of, launch
from edgec.ir import DType
from edgec.plan import Kernel, NodeView, Target

FLOATS: Final = (DType.F32, DType.F16, DType.BF16)


def _accepts(node: NodeView, target: Target) -> bool:
    return fits(node, FLOATS)


KERNELS: Final[tuple[Kernel, ...]] = tuple(
    Kernel(op, f"ec_pw_{op}_cuda", "", 110, _accepts, launch, in_place=in_place_of(op)) for op in OPS
)
