"""The four networks of MLPerf Tiny, with TensorFlow's padding: "same" pads the odd row after, also at stride 2.

Topologies: github.com/mlcommons/tiny, benchmark/training (keyword spotting, visual wake words, image classification,
anomaly detection). Dropout has no effect in evaluation and is left out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from examples.models.settled import Made, settle


class SamePad(nn.Module):
    """Zero padding as TensorFlow's "same" gives it for one input size."""

    def __init__(self, size: tuple[int, int], kernel: tuple[int, int], stride: int) -> None:
        super().__init__()
        amounts = []
        for n, k in zip(reversed(size), reversed(kernel), strict=True):  # the last axis comes first
            total = max(0, (-(-n // stride) - 1) * stride + k - n)
            amounts += [total // 2, total - total // 2]
        self.amounts = tuple(amounts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.amounts)


def conv(
    i: int,
    o: int,
    kernel: tuple[int, int],
    stride: int,
    size: tuple[int, int],
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Same-padded convolution of maps of `size`, batch norm, ReLU."""
    layers = [
        SamePad(size, kernel, stride),
        nn.Conv2d(i, o, kernel, stride, groups=groups),
        nn.BatchNorm2d(o),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class DsCnn(nn.Module):
    """Keyword spotting: 49 frames of 10 MFCCs [N,1,49,10] -> 12 probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 64, (10, 4), 2, (49, 10))
        blocks: list[nn.Module] = []
        for _ in range(4):
            blocks += [conv(64, 64, (3, 3), 1, (25, 5), groups=64), conv(64, 64, (1, 1), 1, (25, 5))]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2d((25, 5))
        self.classify = nn.Linear(64, 12)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.blocks(self.stem(features))).flatten(1)
        return F.softmax(self.classify(x), 1)


class MobileNetV1Quarter(nn.Module):
    """Visual wake words: MobileNetV1 of width 0.25 on [N,3,96,96] -> 2 probabilities."""

    PLAN = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, 8, (3, 3), 2, (96, 96))]
        channels, size = 8, 48
        for out, stride in self.PLAN:
            layers.append(conv(channels, channels, (3, 3), stride, (size, size), groups=channels))
            size = -(-size // stride)
            layers.append(conv(channels, out, (1, 1), 1, (size, size)))
            channels = out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(3)
        self.classify = nn.Linear(256, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return F.softmax(self.classify(self.pool(self.features(image)).flatten(1)), 1)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut, which a 1x1 convolution strides and widens where it must."""

    def __init__(self, i: int, o: int, stride: int, size: int) -> None:
        super().__init__()
        small = size // stride
        self.first = conv(i, o, (3, 3), stride, (size, size))
        self.second = conv(o, o, (3, 3), 1, (small, small), relu=False)
        self.shortcut = nn.Conv2d(i, o, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet8(nn.Module):
    """Image classification: CIFAR-10 images [N,3,32,32] -> 10 probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, (3, 3), 1, (32, 32))
        self.stacks = nn.Sequential(Residual(16, 16, 1, 32), Residual(16, 32, 2, 32), Residual(32, 64, 2, 16))
        self.pool = nn.AvgPool2d(8)
        self.classify = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return F.softmax(self.classify(self.pool(self.stacks(self.stem(image))).flatten(1)), 1)


class AutoEncoder(nn.Module):
    """Anomaly detection: five frames of 128 mel bands [N,640] -> their reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
        layers: list[nn.Module] = []
        for i, o in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(128, 640))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.layers(frames)


def kws() -> Made:
    torch.manual_seed(1)
    return settle(DsCnn(), (1, 1, 49, 10))


def vww() -> Made:
    torch.manual_seed(2)
    return settle(MobileNetV1Quarter(), (1, 3, 96, 96))


def ic() -> Made:
    torch.manual_seed(3)
    return settle(ResNet8(), (1, 3, 32, 32))


def ad() -> Made:
    torch.manual_seed(4)
    return settle(AutoEncoder(), (1, 640), batch=32)


factory = kws
