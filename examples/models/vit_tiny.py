"""ViT-Tiny (Touvron et al. 2021: dim 192, 3 heads, 12 layers, patches of 16 at 224x224) with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.encoder import EncoderBlock
from examples.models.seeded import Made, seeded

DIM, HEADS, LAYERS, PATCH, SIZE, CLASSES = 192, 3, 12, 16, 224, 1000


class VitTiny(nn.Module):
    """x[N,3,224,224] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, DIM) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, DIM) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(DIM, HEADS, 4 * DIM) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def factory() -> Made:
    return seeded(VitTiny, (1, 3, SIZE, SIZE))
