"""The kernel table of the CUDA backend: every record, one module a family. Nothing is registered elsewhere."""

from __future__ import annotations

from typing import Final

from edgec.backends import (
    kernels_cuda_attention,
    kernels_cuda_cached,
    kernels_cuda_conv,
    kernels_cuda_int8_conv,
    kernels_cuda_int8_norm,
    kernels_cuda_int8_pointwise,
    kernels_cuda_int8_pool,
    kernels_cuda_linear,
    kernels_cuda_plain,
    kernels_cuda_pointwise,
)
from edgec.plan import Kernel

KERNELS: Final[tuple[Kernel, ...]] = (
    *kernels_cuda_attention.KERNELS,
    *kernels_cuda_cached.KERNELS,
    *kernels_cuda_int8_conv.KERNELS,
    *kernels_cuda_int8_pointwise.KERNELS,
    *kernels_cuda_int8_norm.KERNELS,
    *kernels_cuda_int8_pool.KERNELS,
    *kernels_cuda_conv.KERNELS,
    *kernels_cuda_linear.KERNELS,
    *kernels_cuda_plain.KERNELS,
    *kernels_cuda_pointwise.KERNELS,
)
