"""ResNet-18 (He et al. 2015) on [N,3,224,224], 1000 classes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from examples.models.settled import Made, settle


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(o)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """[N,3,H,W] -> class scores."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        layers: list[nn.Module] = []
        channels = 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Block(channels, out, stride), Block(out, out, 1)]
            channels = out
        self.blocks = nn.Sequential(*layers)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(512, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(self.average(self.blocks(self.pool(self.stem(image)))).flatten(1))


def factory() -> Made:
    torch.manual_seed(7)
    return settle(ResNet18(), (1, 3, 224, 224), batch=2)
