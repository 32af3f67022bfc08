"""Two transformer blocks over audio: 50 frames of 40 mel bands -> 12 keywords."""

from __future__ import annotations

import torch
from torch import nn

from examples.models.settled import Made, settle
from examples.models.transformer import Block

FRAMES, BANDS, WIDTH, HEADS, KEYWORDS = 50, 40, 64, 4, 12


class AudioTransformer(nn.Module):
    """[N,50,40] -> keyword scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(BANDS, WIDTH)
        self.position = nn.Parameter(torch.randn(1, FRAMES, WIDTH) * 0.1)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, 2 * WIDTH) for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classify = nn.Linear(WIDTH, KEYWORDS)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.embed(frames) + self.position)
        return self.classify(self.norm(x).mean(1))


def factory() -> Made:
    torch.manual_seed(9)
    return settle(AudioTransformer(), (1, FRAMES, BANDS))
