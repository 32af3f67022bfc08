"""MobileNetV2 (Sandler et al. 2018, table 2) of width 0.35 at 96x96 and of width 1.0 at 224x224, 1000 classes."""

from __future__ import annotations

import torch
from torch import nn

from examples.models.settled import Made, settle

# expansion, channels, repeats, stride
PLAN = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def rounded(channels: float, step: int = 8) -> int:
    """Channels to a multiple of `step`, never below 0.9 of what was asked for."""
    near = max(step, int(channels + step / 2) // step * step)
    return near + step if near < 0.9 * channels else near


def conv(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU6()) if act else nn.Sequential(*layers)


class InvertedBottleneck(nn.Module):
    """Widen, depthwise, narrow; added to the input where shapes agree."""

    def __init__(self, i: int, o: int, expansion: int, stride: int, kernel: int = 3) -> None:
        super().__init__()
        wide = i * expansion
        widen = [conv(i, wide, 1)] if expansion > 1 else []
        self.body = nn.Sequential(
            *widen, conv(wide, wide, kernel, stride, groups=wide), conv(wide, o, 1, act=False)
        )
        self.adds = stride == 1 and i == o

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileNetV2(nn.Module):
    """[N,3,H,W] -> class scores."""

    def __init__(self, width: float, classes: int = 1000) -> None:
        super().__init__()
        channels = rounded(32 * width)
        layers: list[nn.Module] = [conv(3, channels, 3, 2)]
        for expansion, base, repeats, stride in PLAN:
            for place in range(repeats):
                out = rounded(base * width)
                layers.append(InvertedBottleneck(channels, out, expansion, stride if place == 0 else 1))
                channels = out
        last = rounded(1280 * max(1.0, width))
        self.features = nn.Sequential(*layers, conv(channels, last, 1))
        self.classify = nn.Linear(last, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(image).mean((2, 3)))


def width_035() -> Made:
    torch.manual_seed(5)
    return settle(MobileNetV2(0.35), (1, 3, 96, 96))


def width_100() -> Made:
    torch.manual_seed(6)
    return settle(MobileNetV2(1.0), (1, 3, 224, 224), batch=2)


factory = width_035
