"""The kernel table of the CUDA backend: every record, one module a family. Nothing is registered elsewhere."""

from __future__ import annotations

from typing import Final

from edgec.backends import (
    kernels_cuda_attention,
    kernels_cuda_cached,
    kernels_cuda_conv,
    kernels_cuda_depthwise,
    kernels_cuda_few_attention,
    kernels_cuda_index,
    kernels_cuda_int8_conv,
    kernels_cuda_int8_norm,
    kernels_cuda_int8_pointwise,
    kernels_cuda_int8_pool,
    kernels_cuda_linear,
    kernels_cuda_move,
    kernels_cuda_norm,
    kernels_cuda_plain,
    kernels_cuda_pointwise,
    kernels_cuda_pool,
    kernels_cuda_reduce,
    kernels_cuda_rope,
    kernels_cuda_sample,
    kernels_cuda_w4,
    kernels_cuda_w4_stream,
    kernels_cuda_w8a8,
    kernels_cuda_wide_attention,
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
    *kernels_cuda_depthwise.KERNELS,
    *kernels_cuda_few_attention.KERNELS,
    *kernels_cuda_index.KERNELS,
    *kernels_cuda_move.KERNELS,
    *kernels_cuda_norm.KERNELS,
    *kernels_cuda_pool.KERNELS,
    *kernels_cuda_reduce.KERNELS,
    *kernels_cuda_rope.KERNELS,
    *kernels_cuda_sample.KERNELS,
    *kernels_cuda_w4.KERNELS,
    *kernels_cuda_w4_stream.KERNELS,
    *kernels_cuda_w8a8.KERNELS,
    *kernels_cuda_wide_attention.KERNELS,
)
