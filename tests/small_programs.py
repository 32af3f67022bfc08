"""Three small networks that stand for all in tests of generated files: int8, float with a Stream, state and entries."""

from __future__ import annotations

import numpy as np
from entry_programs import Decoder
from plan_cases import Block, mobile_net

from edgec.build import Builder
from edgec.ir import DType, Loc, Program, Type, per_channel, per_tensor
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.pool import MaxPool2dAttrs
from edgec.ops.shape import ReshapeAttrs

PIXELS, CODES, LOGITS = per_tensor(1 / 16, -128), per_tensor(0.05, -128), per_tensor(0.125, 3)


def digits(layer: str = "net", image: str = "image", output: str = "output", seed: int = 0) -> Program:
    """8x8 pixels, a convolution with ReLU, pooling and a linear layer, in int8."""
    rng = np.random.default_rng(seed)
    b = Builder("infer")
    x = b.input(image, Type((1, 8, 8, 1), DType.I8, PIXELS), axes=(0, 2, 3, 1), name="image")

    def weights(*shape: int, scale_in: float, name: str) -> tuple[str, str]:
        w = rng.integers(-127, 128, shape).astype(np.int8)
        scale = rng.uniform(0.002, 0.004, shape[0]).astype(np.float32)
        bias = rng.integers(-300, 300, shape[0]).astype(np.int32)
        return (
            b.constant(w, f"{name}.weight", per_channel(scale, 0)),
            b.constant(bias, f"{name}.bias", per_channel(scale * np.float32(scale_in), 0)),
        )

    b.loc = Loc(f"{layer}.conv", "net.py", 12)
    operands = (x, *weights(4, 3, 3, 1, scale_in=1 / 16, name="conv"))
    conv = b.node("conv2d", operands, Conv2dAttrs(pad=(1, 1, 1, 1), act=(0.0, float("inf"))), quants=[CODES])[
        0
    ]
    b.loc = Loc(f"{layer}.pool", "net.py", 13)
    pool = b.node("max_pool2d", (conv,), MaxPool2dAttrs((2, 2), (2, 2), (0, 0, 0, 0)), quants=[CODES])[0]
    flat = b.node("reshape", (pool,), ReshapeAttrs((1, 64)), quants=[CODES])[0]
    b.loc = Loc(f"{layer}.head", "net.py", 15)
    head = (flat, *weights(10, 64, scale_in=0.05, name="head"))
    b.output(b.node("linear", head, LinearAttrs(), name="logits", quants=[LOGITS])[0], output)
    return b.program()


def streamed() -> Program:
    """A first stage and two inverted bottlenecks in float, small enough to read."""
    return mobile_net(16, (Block(2, 2, 8), Block(2, 1, 8)), channels=4)


def decoder() -> Program:
    """Two entries that share weights, caches and position, in int8."""
    return Decoder(quantised=True).program()
