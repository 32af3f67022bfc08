"""ConvNeXt-T (Liu et al. 2022) with random weights at 224x224."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded

WIDTHS, DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of x[N,C,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """7x7 depthwise, layer norm, two linear layers with GELU, layer scale; beside the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, 4 * dim)
        self.gelu = nn.GELU()
        self.reduce = nn.Linear(4 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.reduce(self.gelu(self.expand(self.norm(y)))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class ConvNextT(nn.Module):
    """x[N,3,H,W] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 4, 4), LayerNorm2d(WIDTHS[0], eps=1e-6)]
        channels = WIDTHS[0]
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            if width != channels:
                layers += [LayerNorm2d(channels, eps=1e-6), nn.Conv2d(channels, width, 2, 2)]
            layers += [Block(width) for _ in range(depth)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.features(x).mean(dim=(2, 3))))


def factory(size: int = 224) -> Made:
    return seeded(ConvNextT, (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
