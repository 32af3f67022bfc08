"""ViT-Tiny (Touvron et al. 2021, DeiT-Ti): 224x224 in patches of 16, width 192, 3 heads, 12 blocks, 1000 classes."""

from __future__ import annotations

import torch
from torch import nn

from examples.models.settled import Made, settle
from examples.models.transformer import Block

SIZE, PATCH, WIDTH, HEADS, BLOCKS = 224, 16, 192, 3, 12


class VitTiny(nn.Module):
    """[N,3,224,224] -> class scores, read from the class token."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, 4 * WIDTH) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classify = nn.Linear(WIDTH, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.classify(self.norm(self.blocks(x))[:, 0])


def factory() -> Made:
    torch.manual_seed(10)
    return settle(VitTiny(), (1, 3, SIZE, SIZE))
