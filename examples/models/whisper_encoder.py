"""The encoder of Whisper-tiny (Radford et al. 2022: dim 384, 6 heads, 4 layers, 30 s of audio); random weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded

BANDS, DIM, HEADS = 80, 384, 6


def sinusoids(length: int, channels: int) -> Tensor:
    """[length,channels]: sines, then cosines."""
    rate = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angle = torch.arange(length)[:, None] * rate[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Attention(nn.Module):
    """Self-attention of x[N,T,dim]; keys have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(dim, dim) for _ in range(3))
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, t, dim = x.shape
        q, k, v = (
            part(x).view(n, t, self.heads, dim // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, dim))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WhisperEncoder(nn.Module):
    """mel[N,80,frames] -> [N,frames/2,384]."""

    def __init__(self, frames: int, layers: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, DIM, 3, padding=1)
        self.conv2 = nn.Conv1d(DIM, DIM, 3, stride=2, padding=1)
        self.register_buffer("position", sinusoids(frames // 2, DIM), persistent=False)
        self.blocks = nn.ModuleList(Block(DIM, HEADS) for _ in range(layers))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, mel: Tensor) -> Tensor:
        gelu = nn.functional.gelu
        x = gelu(self.conv2(gelu(self.conv1(mel)))).permute(0, 2, 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def factory(frames: int = 3000, layers: int = 4) -> Made:
    return seeded(lambda: WhisperEncoder(frames, layers), (1, BANDS, frames))


def small() -> Made:
    """Two layers, 60 frames."""
    return factory(60, 2)
