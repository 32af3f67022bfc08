"""A two-block transformer over audio frames, small enough for a microcontroller; random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.encoder import EncoderBlock
from examples.models.seeded import Made, seeded

FRAMES, BANDS, DIM, HEADS, HIDDEN, CLASSES = 50, 40, 64, 4, 128, 12


class AudioTransformer(nn.Module):
    """x[N,50,40], frames by mel bands -> logits[N,12]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(BANDS, DIM)
        self.position = nn.Parameter(torch.randn(1, FRAMES, DIM) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(DIM, HEADS, HIDDEN) for _ in range(2)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.embed(x) + self.position)
        return self.head(self.norm(x).mean(dim=1))


def factory() -> Made:
    return seeded(AudioTransformer, (1, FRAMES, BANDS))
