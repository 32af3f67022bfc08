"""Inverted bottlenecks with 3x3, 5x5 and 7x7 depthwise kernels at 80x80, about 11 M multiply-accumulates.

Of the shape that MCUNet's search (Lin et al. 2020) finds for visual wake words on a 320 KB microcontroller: large
kernels, few channels, widths that vary from block to block. Not a copy of one of its networks.
"""

from __future__ import annotations

import torch
from torch import nn

from examples.models.mobilenet_v2 import InvertedBottleneck, conv
from examples.models.settled import Made, settle

# expansion, channels, kernel, stride
PLAN = (
    (1, 8, 3, 1),
    (4, 16, 7, 2),
    (3, 16, 3, 1),
    (3, 16, 5, 1),
    (4, 24, 7, 2),
    (4, 24, 5, 1),
    (4, 24, 5, 1),
    (5, 40, 7, 2),
    (4, 40, 3, 1),
    (4, 48, 5, 1),
    (4, 48, 3, 1),
    (5, 96, 7, 2),
    (4, 96, 3, 1),
    (5, 160, 5, 1),
)


class McuNetLike(nn.Module):
    """[N,3,80,80] -> 2 scores."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        channels = 16
        layers: list[nn.Module] = [conv(3, channels, 3, 2)]
        for expansion, out, kernel, stride in PLAN:
            layers.append(InvertedBottleneck(channels, out, expansion, stride, kernel))
            channels = out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(self.pool(self.features(image)).flatten(1))


def factory() -> Made:
    torch.manual_seed(8)
    return settle(McuNetLike(), (1, 3, 80, 80))
