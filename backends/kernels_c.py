"""The kernel table of the C backend: every record, one module a family. Nothing is registered elsewhere."""

from __future__ import annotations

from typing import Final

from edgec.backends import (
    kernels_c_conv,
    kernels_c_decoder,
    kernels_c_dsp,
    kernels_c_linear,
    kernels_c_mve,
    kernels_c_norm,
    kernels_c_pointwise,
    kernels_c_pool,
    kernels_c_shape,
    kernels_c_simd,
    kernels_c_train_dense,
    kernels_c_train_dsp,
    kernels_c_train_f32,
    kernels_c_train_mve,
    kernels_c_train_s8,
    kernels_c_train_sums,
)
from edgec.plan import Kernel

KERNELS: Final[tuple[Kernel, ...]] = (
    *kernels_c_conv.KERNELS,
    *kernels_c_linear.KERNELS,
    *kernels_c_pool.KERNELS,
    *kernels_c_pointwise.KERNELS,
    *kernels_c_norm.KERNELS,
    *kernels_c_shape.KERNELS,
    *kernels_c_decoder.KERNELS,
    *kernels_c_dsp.KERNELS,
    *kernels_c_mve.KERNELS,
    *kernels_c_simd.KERNELS,
    *kernels_c_train_f32.KERNELS,
    *kernels_c_train_s8.KERNELS,
    *kernels_c_train_sums.KERNELS,
    *kernels_c_train_dsp.KERNELS,
    *kernels_c_train_dense.KERNELS,
    *kernels_c_train_mve.KERNELS,
)
