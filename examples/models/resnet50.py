"""ResNet-50 (He et al. 2015; stride in the 3x3 convolution) with random weights at 224x224."""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.seeded import Made, damp, seeded

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # (width, blocks, stride of the first)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside the input, or beside its 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = _conv(inputs, width, 1)
        self.spatial = _conv(width, width, 3, stride)
        self.expand = _conv(width, outputs, 1)
        damp(self.expand[1])
        self.short = nn.Identity() if inputs == outputs else _conv(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.reduce(x))
        y = self.relu(self.spatial(y))
        return self.relu(self.expand(y) + self.short(x))


class ResNet50(nn.Module):
    """x[N,3,H,W] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 64, 7, 2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, channels = [], 64
        for width, count, first in STAGES:
            for index in range(count):
                blocks.append(Bottleneck(channels, width, first if index == 0 else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.relu(self.stem(x))))
        return self.head(self.average(x).flatten(1))


def factory(size: int = 224) -> Made:
    return seeded(ResNet50, (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
