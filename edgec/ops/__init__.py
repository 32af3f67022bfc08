"""The op table. One file an op or a close family; each enters its records in OPS when imported."""

from __future__ import annotations

import importlib
from typing import Final

from edgec.ops.define import OPS

FILES: Final = (
    "conv2d",
    "conv",
    "linear",
    "linear_w4",
    "linear_w8a8",
    "pool",
    "pool_gradient",
    "trained",
    "gradient",
    "gradient_float",
    "train_conv",
    "train_sums",
    "resize",
    "unary",
    "activation",
    "binary",
    "compare",
    "select",
    "reduce",
    "cast",
    "shape",
    "gather",
    "norm",
    "softmax",
    "attention",
    "strided_attention",
    "cached_attention",
    "rope",
    "token_choice",
    "window_attention",
    "linear_attention",
    "loss",
    "optimizer",
    "conv_gradient",
    "linear_gradient",
)

for _file in FILES:
    importlib.import_module(f"edgec.ops.{_file}")

__all__ = ["OPS"]
