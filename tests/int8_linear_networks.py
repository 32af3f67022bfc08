"""Quantised networks with linear layers that train: a chain over tokens, built by hand, and networks that the whole
pipeline made of PyTorch modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from edgec import pipeline
from edgec.build import Builder
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, DType, Graph, Loc, Program, Type, per_channel, per_tensor
from edgec.ops.linear import LinearAttrs
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.training.options import TrainSpec
from examples.models.digits_cnn import DigitsCnn
from examples.models.encoder import EncoderBlock
from examples.models.seeded import seeded

TOKENS = (2, 5, 12)
CLASSES = 3
# Layers of the chain: outputs, bias, zero of the output. At zero -128 the clamp is that of a ReLU.
CHAIN = {"a": (16, True, -128), "b": (16, False, 7), "c": (8, True, -20)}
SCALE = 0.05


def chain() -> Program:
    """x int8[2,5,12] -> three linear layers in int8 -> logits float[2,5,3]."""
    rng = np.random.default_rng(7)
    b = Builder("infer")
    at = b.input("x", Type(TOKENS, DType.I8, per_tensor(SCALE, 11)))
    for layer, (outputs, biased, zero) in CHAIN.items():
        channels = b.types[at].dims[-1]
        w = rng.integers(-127, 128, (outputs, channels)).astype(np.int8)
        scale = rng.uniform(0.5, 1.5, outputs) * 1.2 / (73 * np.sqrt(channels))
        operands = [b.constant(w, f"{layer}.w", per_channel(scale, 0))]
        if biased:
            bias = rng.integers(-4000, 4000, outputs).astype(np.int32)
            scales = np.float32(SCALE) * np.float32(scale)
            operands.append(b.constant(bias, f"{layer}.b", per_channel(scales, 0)))
        quant = per_tensor(SCALE, zero)
        (at,) = b.node("linear", (at, *operands), LinearAttrs(), name=layer, loc=Loc(layer), quants=(quant,))
    b.loc = Loc("head")
    real = b.call("dequantize", at)
    head = b.constant(rng.normal(size=(CLASSES, b.types[at].dims[-1])).astype(np.float32), "head.w")
    b.output(b.call("linear", real, head, attrs=LinearAttrs(), name="logits"), "logits")
    return b.program()


class Mlp(nn.Module):
    """x[N,12] -> logits[N,3]: two hidden layers, the second without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 18), nn.Linear(18, 13, bias=False)
        self.head = nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


class HiddenDigits(DigitsCnn):
    """The digits' network with a hidden linear layer of 20 outputs before its head."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(32, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.wide(self.stem(x)))
        return self.head(self.hidden(self.deep(x).mean(dim=(2, 3))).relu())


class SmallVit(nn.Module):
    """x[N,1,8,8] -> logits[N,4]: patches of 4, one block of 16 channels and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, 4)
        self.position = nn.Parameter(0.3 * torch.randn(1, 4, 16))
        self.block = EncoderBlock(16, 2, 32)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.block(x)).mean(1))


MAKERS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "mlp": lambda: seeded(Mlp, (1, 12)),
    "digits": lambda: seeded(HiddenDigits, (1, 1, 8, 8)),
    "vit": lambda: seeded(SmallVit, (1, 1, 8, 8)),
}


@cache
def quantized(name: str, spec: TrainSpec) -> Program:
    """The network by name as it is before anything trains, calibrated on 32 normal samples."""
    module, inputs = MAKERS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(module, LoadOptions(example_inputs=inputs))
    rng = np.random.default_rng(0)
    ports = program.graphs[0].input_ports
    arrays: dict[str, Array] = {
        p.label: rng.normal(size=(32, *x.shape[1:])).astype(np.float32)
        for p, x in zip(ports, inputs, strict=True)
    }
    options = Options(train=spec)
    return pipeline.run(program, pipeline.graph_steps(options, arrays), options, arrays).step("quantize")


def trained(name: str, spec: TrainSpec, gradients: Format | None = None) -> Program:
    """The network by name with what learns of it."""
    how = integers(gradients or spec.gradients, spec.rounding, spec.seed)
    return train(quantized(name, spec), spec, how)


def samples(graph: Graph, count: int, classes: int, seed: int = 0) -> list[dict[str, Array]]:
    """Inputs of `count` steps, int8 over the range, labels in turn."""
    rng = np.random.default_rng(seed)
    x, label = graph.inputs
    rows = label.type.size
    return [
        {
            x.name: rng.integers(-128, 128, x.type.dims).astype(np.int8),
            label.name: ((index + np.arange(rows)) % classes).astype(np.int32),
        }
        for index in range(count)
    ]
