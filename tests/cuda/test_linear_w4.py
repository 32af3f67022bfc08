"""Linear layers with 4-bit weights against their op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.ir import Array, DType
from edgec.ops.linear_w4 import LinearW4Attrs

FEW, MANY, WIDE = "ec_linear_w4_cuda", "ec_linear_w4_gemm_cuda", "ec_linear_w4_wgmma_cuda"


def case(
    rng: np.random.Generator,
    symbol: str,
    attrs: LinearW4Attrs,
    x: tuple[int, ...],
    outputs: int,
    dtype: DType = DType.F16,
    symmetric: bool = False,
    bias: bool = False,
) -> Case:
    """One layer of random weights."""
    groups = (outputs, x[-1] // attrs.group)
    arrays: tuple[Array, ...] = (
        floats(rng, x, dtype),
        rng.integers(0, 256, (outputs, x[-1] // 2)).astype(np.uint8),
        rng.uniform(0.01, 0.1, groups).astype(np.float32).astype(dtype.numpy),
        np.full(groups, 8, np.uint8) if symmetric else rng.integers(0, 16, groups).astype(np.uint8),
    )
    if bias:
        arrays += (floats(rng, (outputs,), dtype),)
    what = (
        f"{dtype.value} g{attrs.group} {'symmetric' if symmetric else 'zeros'} {attrs.gated} {attrs.norm_eps}"
    )
    label = f"{symbol} {what} {x} -> {outputs}"
    constants = tuple(range(1, len(arrays)))
    return Case(label, "linear_w4", attrs, arrays, constants=constants, symbol=symbol)


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for rows in (1, 2, 3, 7, 8, 9, 13, 16):
        for group, symmetric in ((64, True), (64, False), (128, True), (128, False)):
            outputs, channels = int(rng.integers(1, 400)), group * int(rng.integers(1, 9))
            attrs = LinearW4Attrs(group, (-20.0, 30.0) if rows % 2 else None)
            yield case(rng, FEW, attrs, (rows, channels), outputs, symmetric=symmetric, bias=rows > 4)
    for rows, channels, outputs in (
        (1, 4096, 6144),
        (2, 14336, 512),
        (16, 4096, 4096),
        (1, 128, 40000),
        (5, 1024, 1030),
    ):
        yield case(rng, FEW, LinearW4Attrs(128), (rows, channels), outputs)
    for rows, norm, gated in (
        (1, 1e-5, False),
        (4, None, True),
        (1, 1e-5, True),
        (16, 1e-6, True),
        (11, 1e-5, False),
    ):
        for outputs in (1000, 512, 26):
            yield case(
                rng, FEW, LinearW4Attrs(64, None, gated, norm), (1, rows, 1024), outputs, bias=outputs == 512
            )
    for dtype in (DType.BF16,):
        for symbol, rows in ((FEW, 1), (FEW, 16), (MANY, 33), (WIDE, 9), (WIDE, 33), (WIDE, 70)):
            yield case(rng, symbol, LinearW4Attrs(128), (rows, 512), 96, dtype)
            yield case(rng, symbol, LinearW4Attrs(64), (rows, 320), 100, dtype, symmetric=True, bias=True)
    for symbol in (MANY, WIDE):
        for rows in (1 if symbol == MANY else 9, 17, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130):
            for group, symmetric in ((64, False), (128, True)):
                outputs, channels = int(rng.integers(1, 700)), group * int(rng.integers(1, 20))
                attrs = LinearW4Attrs(group, (-20.0, 30.0) if rows % 2 else None)
                yield case(rng, symbol, attrs, (rows, channels), outputs, symmetric=symmetric, bias=rows > 64)
        for rows, channels, outputs in (
            (128, 4096, 4096),
            (64, 14336, 512),
            (300, 1024, 2000),
            (20, 2048, 16),
        ):
            yield case(rng, symbol, LinearW4Attrs(128), (rows, channels), outputs)
            yield case(rng, symbol, LinearW4Attrs(128, None, True), (rows, channels), outputs)
    for rows, outputs in ((16, 28672), (64, 28672), (128, 26000)):  # a block has all channels
        yield case(rng, WIDE, LinearW4Attrs(64), (rows, 320), outputs, bias=True)
        yield case(
            rng, WIDE, LinearW4Attrs(128, None, True), (rows, 384), outputs, DType.BF16, symmetric=True
        )


def test_linear_w4_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
