"""Times every distinct product and convolution of the vision networks, batch 1, 224x224, fp16, next to PyTorch.

    python benchmarks/cuda_layers.py [--network resnet50] [--choices] [--json]

A figure is what one more launch adds to a CUDA graph of many, each with weights of its own that together exceed the
L2; activations are in the L2, as inside a network. PyTorch runs the same in the same way (cudnn.benchmark, NHWC). The
bound is the larger of multiply-accumulates at the target's rate and bytes at its bandwidth. With --choices every tile
and split of the cost model is timed, not only the one it chooses. With --json writes results/cuda_layers.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import cuda_launch
import environment
import numpy as np
import torch
from cuda_harness import Case
from cuda_launch import TARGET

from edgec.backends import cuda_gemm, cuda_tiles
from edgec.backends.cuda_tiles import Choice, Product
from edgec.ops import OPS
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.linear import LinearAttrs

ROTATED_BYTES: Final = 160 << 20  # of weights, so that they come from memory
TURNS_MOST: Final = 40


@dataclass(frozen=True)
class Layer:
    """`count` of them in the network. A linear layer is a map of 1x1 taps: `size` places, one row."""

    network: str
    size: tuple[int, int]
    channels: int
    outputs: int
    taps: int = 1
    stride: int = 1
    pad: int = 0
    count: int = 1

    @property
    def places(self) -> int:
        return self.out(0) * self.out(1)

    def out(self, axis: int) -> int:
        return (self.size[axis] + 2 * self.pad - self.taps) // self.stride + 1

    @property
    def label(self) -> str:
        window = f" {self.taps}x{self.taps}/{self.stride}" if self.taps > 1 or self.stride > 1 else ""
        return f"{self.places} x {self.outputs} x {self.channels}{window}"


def _line(network: str, rows: int, outputs: int, channels: int, count: int = 1) -> Layer:
    return Layer(network, (1, rows), channels, outputs, count=count)


def _resnet50() -> Iterator[Layer]:
    yield Layer("resnet50", (224, 224), 3, 64, 7, 2, 3)
    before = 64
    for size, middle, blocks in ((56, 64, 3), (28, 128, 4), (14, 256, 6), (7, 512, 3)):
        stride = 1 if size == 56 else 2
        large = (size * stride, size * stride)
        yield Layer("resnet50", large, before, middle)
        yield Layer("resnet50", large, middle, middle, 3, stride, 1)
        yield Layer("resnet50", large, before, 4 * middle, stride=stride)
        yield Layer("resnet50", (size, size), middle, 4 * middle, count=blocks)
        yield Layer("resnet50", (size, size), 4 * middle, middle, count=blocks - 1)
        yield Layer("resnet50", (size, size), middle, middle, 3, 1, 1, blocks - 1)
        before = 4 * middle
    yield _line("resnet50", 1, 1000, 2048)


def _inverted(network: str, stages: tuple[tuple[int, int, int, int], ...]) -> Iterator[Layer]:
    """(map size, channels in, expanded, out) of each stage's pointwise convolutions."""
    for size, inputs, expanded, outputs in stages:
        if inputs:
            yield Layer(network, (size, size), inputs, expanded)
        if outputs:
            yield Layer(network, (size, size), expanded, outputs)


def _mobilenet_v2() -> Iterator[Layer]:
    yield Layer("mobilenet_v2", (224, 224), 3, 32, 3, 2, 1)
    yield from _inverted(
        "mobilenet_v2",
        (
            *((112, 0, 32, 16), (112, 16, 96, 0), (56, 0, 96, 24), (56, 24, 144, 24), (28, 0, 144, 32)),
            *((28, 32, 192, 32), (14, 0, 192, 64), (14, 64, 384, 64), (14, 0, 384, 96), (14, 96, 576, 96)),
            *((7, 0, 576, 160), (7, 160, 960, 160), (7, 0, 960, 320), (7, 320, 1280, 0)),
        ),
    )
    yield _line("mobilenet_v2", 1, 1000, 1280)


def _efficientnet_b0() -> Iterator[Layer]:
    yield from _inverted(
        "efficientnet_b0",
        (
            *((112, 0, 32, 16), (56, 24, 144, 24), (28, 0, 144, 40), (28, 40, 240, 40), (14, 0, 240, 80)),
            *((14, 80, 480, 80), (14, 0, 480, 112), (14, 112, 672, 112), (7, 0, 672, 192)),
            *((7, 192, 1152, 192), (7, 0, 1152, 320)),
        ),
    )
    for wide, narrow in ((96, 4), (240, 10), (480, 20), (672, 28), (1152, 48)):
        yield Layer("efficientnet_b0", (1, 1), wide, narrow)
        yield Layer("efficientnet_b0", (1, 1), narrow, wide)


def _convnext_t() -> Iterator[Layer]:
    yield Layer("convnext_t", (224, 224), 3, 96, 4, 4)
    for size, c, blocks in ((56, 96, 3), (28, 192, 3), (14, 384, 9), (7, 768, 3)):
        if size < 56:
            yield Layer("convnext_t", (2 * size, 2 * size), c // 2, c, 2, 2)
        yield _line("convnext_t", size * size, 4 * c, c, blocks)
        yield _line("convnext_t", size * size, c, 4 * c, blocks)
    yield _line("convnext_t", 1, 1000, 768)


def _vit_b16() -> Iterator[Layer]:
    yield Layer("vit_b16", (224, 224), 3, 768, 16, 16)
    for outputs, channels in ((2304, 768), (768, 768), (3072, 768), (768, 3072)):
        yield _line("vit_b16", 197, outputs, channels, 12)


def _swin_t() -> Iterator[Layer]:
    for size, c, blocks in ((56, 96, 2), (28, 192, 2), (14, 384, 6), (7, 768, 2)):
        if size < 56:
            yield _line("swin_t", size * size, c, 2 * c)
        for outputs, channels in ((3 * c, c), (c, c), (4 * c, c), (c, 4 * c)):
            yield _line("swin_t", size * size, outputs, channels, blocks)


NETWORKS: Final[dict[str, Callable[[], Iterator[Layer]]]] = {
    "resnet50": _resnet50,
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_b0": _efficientnet_b0,
    "convnext_t": _convnext_t,
    "vit_b16": _vit_b16,
    "swin_t": _swin_t,
}


def case_of(layer: Layer) -> Case:
    """The layer's node with a bias, random content."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, *layer.size, layer.channels)).astype(np.float16)
    w = rng.normal(size=(layer.outputs, layer.taps, layer.taps, layer.channels)).astype(np.float16)
    b = rng.normal(size=layer.outputs).astype(np.float16)
    attrs: Any = Conv2dAttrs((layer.stride,) * 2, (layer.pad,) * 4)
    if layer.size[0] == 1 and layer.taps == 1:
        return Case(layer.label, "linear", LinearAttrs(), (x[0, 0], w[:, 0, 0], b), constants=(1, 2))
    return Case(layer.label, "conv2d", attrs, (x, w, b), constants=(1, 2))


class Rotated(cuda_launch.Buffers):
    """Buffers of a node whose constants are others at each turn."""

    def __init__(self, node: cuda_launch.Node, case: Case) -> None:
        super().__init__(node, case, 1)
        size = sum(t.numel() for t in node.constants.values())
        turns = max(1, min(TURNS_MOST, ROTATED_BYTES // max(size, 1)))
        self.copies = [{n: t.clone() for n, t in node.constants.items()} for _ in range(turns)]

    def pointers(self, turn: int) -> list[int]:
        self.node.constants = self.copies[turn % len(self.copies)]
        return super().pointers(turn)


def ours_us(layers: list[tuple[Layer, Choice | None]]) -> list[tuple[float, str]]:
    """Microseconds, and what the first launch is, of each layer with its choice (the model's where None)."""
    prepared, texts = [], {}
    for layer, choice in layers:
        case = case_of(layer)
        found = (lambda product, gpu, c=choice: c) if choice is not None else cuda_tiles.choose
        with mock.patch.object(cuda_gemm, "choose", found):
            plan, call, units, launches = cuda_launch.lowered(case)
        texts |= units
        prepared.append((case, plan, call, launches))
    cubins = cuda_launch.compiled(texts, "sm_90a")
    out = []
    for case, plan, call, launches in prepared:
        buffers = Rotated(cuda_launch.loaded(plan, call, launches, cubins), case)
        us = cuda_launch.graph_us(
            lambda turn, b=buffers: b.launch(turn, torch.cuda.current_stream().cuda_stream)
        )
        grid = launches[0][1]
        out.append((us, f"{grid.template[0]} x {grid.blocks[0] * grid.blocks[1]}"))
    return out


def torch_us(layer: Layer) -> float:
    """Microseconds of PyTorch's convolution or linear layer."""
    x, w, b = (torch.from_numpy(a).cuda() for a in case_of(layer).arrays)
    turns = max(1, min(TURNS_MOST, ROTATED_BYTES // (w.numel() * 2)))
    if w.ndim == 2:
        weights = [w.clone() for _ in range(turns)]
        return cuda_launch.graph_us(lambda t: torch.nn.functional.linear(x, weights[t % turns], b))
    x, w = x.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2)
    weights = [w.clone(memory_format=torch.channels_last) for _ in range(turns)]
    return cuda_launch.graph_us(
        lambda t: torch.nn.functional.conv2d(x, weights[t % turns], b, layer.stride, layer.pad)
    )


def macs(layer: Layer) -> int:
    case = case_of(layer)
    types = case.in_types
    return OPS[case.op].cost(case.attrs, types, OPS[case.op].infer(case.attrs, types)).macs


def bound_us(layer: Layer) -> float:
    """The larger of arithmetic at the peak rate and weights at the bandwidth."""
    assert TARGET.gpu is not None
    weights = 2 * layer.outputs * layer.channels * layer.taps**2
    return max(2e6 * macs(layer) / TARGET.gpu.fp16_flops, 1e6 * weights / TARGET.gpu.bandwidth)


def choices_of(layer: Layer) -> list[Choice]:
    """Every choice that fits the layer's sizes."""
    k = layer.channels * layer.taps**2
    product = Product(layer.places, layer.outputs, k, 2)
    return [
        c
        for c in cuda_tiles.candidates(product, TARGET.gpu)
        if c.tiles(product) * c.splits <= 3000 and c.tile.rows < 2 * max(layer.places, 16)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--choices", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.zeros(1, device="cuda")  # makes the context
    torch.backends.cudnn.benchmark = True
    rows = []
    for network in given.network or NETWORKS:
        layers = list(NETWORKS[network]())
        plain = ours_us([(layer, None) for layer in layers])
        total = {"ours": 0.0, "torch": 0.0, "bound": 0.0}
        for layer, (us, what) in zip(layers, plain, strict=True):
            peer, bound = torch_us(layer), bound_us(layer)
            rate = 2e-6 * macs(layer) / us
            print(
                f"{network:16s} {layer.count:2d} of {layer.label:28s} {us:6.2f} us  PyTorch {peer:6.2f}"
                f"  {rate:6.1f} TFLOP/s  {100 * bound / us:4.1f} % of the bound  {what}",
                flush=True,
            )
            row = {"network": network, "layer": layer.label, "count": layer.count, "us": us, "torch": peer}
            if given.choices:
                options = choices_of(layer)
                timed = ours_us([(layer, c) for c in options])
                row["choices"] = [
                    (t[0], list(vars_of(c)), c.splits, c.cluster) for t, c in zip(timed, options, strict=True)
                ]
            rows.append({**row, "bound": bound})
            for key, value in (("ours", us), ("torch", peer), ("bound", bound)):
                total[key] += layer.count * value
        print(f"{network}: " + ", ".join(f"{k} {v:.0f} us" for k, v in total.items()), flush=True)
    if given.json:
        versions = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        print(f"wrote {environment.write('cuda_layers', rows, **versions)}")


def vars_of(choice: Choice) -> Iterator[int]:
    """The tile's numbers."""
    tile = choice.tile
    yield from (tile.rows, tile.columns, tile.warps_m, tile.warps_n, tile.warps_k, tile.stages)


if __name__ == "__main__":
    sys.exit(main())
