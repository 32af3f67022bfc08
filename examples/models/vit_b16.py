"""ViT-B/16 (Dosovitskiy et al. 2021: dim 768, 12 heads, 12 layers) with random weights at 224x224."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.encoder import EncoderBlock
from examples.models.seeded import Made, seeded

DIM, HEADS, PATCH, CLASSES = 768, 12, 16, 1000


class VitB16(nn.Module):
    """x[N,3,size,size] -> logits[N,1000]."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, DIM) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (size // PATCH) ** 2 + 1, DIM) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(DIM, HEADS, 4 * DIM) for _ in range(layers)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def factory(size: int = 224, layers: int = 12) -> Made:
    return seeded(lambda: VitB16(size, layers), (1, 3, size, size))


def small() -> Made:
    """Two layers at 64x64."""
    return factory(64, 2)
