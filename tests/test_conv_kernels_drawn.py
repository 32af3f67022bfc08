"""Convolution, pooling, linear and matmul kernels on drawn shapes: every tail, padding, dilation and grouping."""

from __future__ import annotations

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import Attrs
from edgec.ops import OPS
from edgec.ops.conv import ConvTranspose2dAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Example, NoQuant, Op, TypeRule
from edgec.ops.examples import ExampleNode, float_node, quantized_node
from edgec.ops.linear import LinearAttrs, MatmulAttrs
from edgec.ops.pool import AvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.sample import normal
from edgec.plan import Kernel

DRAWS = 60
Shape = tuple[int, ...]


def pick(rng: np.random.Generator, low: int, high: int, count: int) -> Shape:
    return tuple(int(v) for v in rng.integers(low, high + 1, count))


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    a, b = pick(rng, low, high, 2)
    return a, b


def drawn_pad(rng: np.random.Generator, most: int) -> tuple[int, int, int, int]:
    top, bottom, left, right = pick(rng, 0, most, 4)
    return top, bottom, left, right


def conv2d(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    groups, kernel = int(rng.choice([1, 1, 2, 3])), pair(rng, 1, 4)
    channels = int(rng.choice([1, 1, 2, 5, 9])) * groups
    depthwise = bool(rng.integers(0, 3) == 0)
    groups = channels if depthwise else groups
    outputs = groups * int(rng.integers(1, 4))
    act = (0.0, 1.0) if rng.integers(0, 2) else None
    if rng.integers(0, 3) == 0:
        sizes = pick(rng, 1, 9, 2)
        pointwise = Conv2dAttrs(pair(rng, 1, 3), act=act)
        return pointwise, ((1, *sizes, 3 * channels), (outputs, 1, 1, 3 * channels), (outputs,))
    attrs = Conv2dAttrs(pair(rng, 1, 3), drawn_pad(rng, 4), pair(rng, 1, 3), groups, act)
    w = (outputs, *kernel, channels // groups)
    return attrs, ((1, *pick(rng, 1, 9, 2), channels), w, (outputs,))


def conv_transpose2d(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    groups, stride = int(rng.choice([1, 2])), pair(rng, 1, 4)
    channels, outputs = groups * int(rng.integers(1, 6)), groups * int(rng.integers(1, 4))
    extra = tuple(int(rng.integers(0, s)) for s in stride)
    attrs = ConvTranspose2dAttrs(
        stride, drawn_pad(rng, 3), (extra[0], extra[1]), pair(rng, 1, 4), groups, (-0.5, 2.0)
    )
    w = (outputs, *pick(rng, 1, 4, 2), channels // groups)
    return attrs, ((2, *pick(rng, 1, 5, 2), channels), w, (outputs,))


def linear(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    k, o = pick(rng, 1, 33, 2)
    return LinearAttrs((-1.0, np.inf)), ((int(rng.integers(1, 10)), k), (o, k), (o,))


def matmul(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    m, k, n = pick(rng, 1, 20, 3)
    whole = pick(rng, 1, 3, int(rng.integers(0, 4)))
    a, b = (tuple(s if rng.integers(0, 2) else 1 for s in whole) for _ in range(2))
    turned = bool(rng.integers(0, 2))
    return MatmulAttrs(turned), ((*a, m, k), (*b, n, k) if turned else (*b, k, n))


def max_pool2d(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    attrs = MaxPool2dAttrs(pair(rng, 1, 4), pair(rng, 1, 3), drawn_pad(rng, 2), pair(rng, 1, 2))
    return attrs, ((1, *pick(rng, 1, 9, 2), int(rng.integers(1, 9))),)


def avg_pool2d(rng: np.random.Generator) -> tuple[Attrs, tuple[Shape, ...]]:
    divisor = int(rng.integers(1, 9)) if rng.integers(0, 3) == 0 else None
    counts = bool(rng.integers(0, 2))
    attrs = AvgPool2dAttrs(pair(rng, 1, 4), pair(rng, 1, 3), drawn_pad(rng, 2), counts, divisor)
    return attrs, ((1, *pick(rng, 1, 9, 2), int(rng.integers(1, 9))),)


DRAWN = {f.__name__: f for f in (conv2d, conv_transpose2d, linear, matmul, max_pool2d, avg_pool2d)}
HOST = harness.host("simd")
CASES = [
    pytest.param(k, id=f"{k.op}-{k.symbol}")
    for k in KERNELS
    if k.op in DRAWN and k.source and not {"dsp", "mve"} & set(k.source.split("/"))
]


def drawn_nodes(op: Op, rng: np.random.Generator) -> list[ExampleNode]:
    """One drawn node in its forms; none where the draw breaks the op's type rule."""
    attrs, shapes = DRAWN[op.name](rng)
    example = Example(f"{attrs} {shapes}", attrs, normal(*shapes), None)
    try:
        node = float_node(op, example)
    except TypeRule:
        return []
    return [node] if isinstance(op.quant, NoQuant) else [node, quantized_node(op, example)]


@pytest.mark.parametrize("kernel", CASES)
def test_kernel_equals_its_op_on_drawn_shapes(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(7)
    seen = 0
    for _ in range(20 * DRAWS):
        if seen >= DRAWS:
            break
        for node in drawn_nodes(OPS[kernel.op], rng):
            view = node.view(tuple(range(1, len(node.inputs))) if kernel.op != "matmul" else ())
            if not kernel.accepts(view, HOST):
                continue
            seen += 1
            outputs = harness.run_whole(kernel, view, node.inputs)
            compare(node, outputs[0])
            if kernel.halo is not None:
                compare(node, harness.run_rows(kernel, view, node.inputs, seen % 3)[0][None])
    assert seen >= DRAWS, f"{kernel.symbol} accepted only {seen} drawn nodes"
    assert "runtime error" not in capfd.readouterr().err


def compare(node: ExampleNode, actual: np.ndarray) -> None:
    expected = node.expected[0]
    if expected.dtype == np.int8:
        np.testing.assert_array_equal(actual, expected, err_msg=node.example.label)
    else:
        scale = float(np.abs(expected).max(initial=1.0))
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e-5 * scale, err_msg=node.example.label)
