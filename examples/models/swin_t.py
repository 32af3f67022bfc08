"""Swin-T (Liu et al. 2021) with random weights at 224x224: windows of 7, shifted by 3 in every second block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded

WIDTH, DEPTHS, HEADS, WINDOW = 96, (2, 2, 6, 2), (3, 6, 12, 24), 7


def relative_index(window: int) -> Tensor:
    """[W*W,W*W]: row of the bias table for each pair of places in a window."""
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = (at[:, :, None] - at[:, None, :]) + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def shift_mask(size: int, window: int, shift: int) -> Tensor:
    """[windows,W*W,W*W]: -100 between places that the shift brought into one window, else 0."""
    region = torch.zeros(size, size)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(cuts):
        for j, columns in enumerate(cuts):
            region[rows, columns] = 3 * i + j
    parts = region.view(size // window, window, size // window, window).permute(0, 2, 1, 3)
    flat = parts.reshape(-1, window * window)
    return (flat[:, None, :] != flat[:, :, None]).float() * -100.0


class WindowAttention(nn.Module):
    """Attention within windows of x[N,S,S,dim], with a bias for each relative place."""

    def __init__(self, dim: int, heads: int, size: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, min(WINDOW, size)
        self.shift = self.window // 2 if shifted and size > self.window else 0
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.randn((2 * self.window - 1) ** 2, heads) * 0.02)
        self.register_buffer("index", relative_index(self.window), persistent=False)
        mask = shift_mask(size, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, size, _, dim = x.shape
        w, count = self.window, size // self.window
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(n, count, w, count, w, dim).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, dim)
        qkv = self.qkv(x).reshape(len(x), w * w, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * (dim // self.heads) ** -0.5) @ k.transpose(-2, -1)
        bias = self.bias[self.index.view(-1)].view(w * w, w * w, self.heads)
        scores = scores + bias.permute(2, 0, 1).unsqueeze(0)
        if self.mask is not None:
            windows = count * count
            scores = scores.view(n, windows, self.heads, w * w, w * w) + self.mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, w * w, w * w)
        y = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(-1, w * w, dim)
        y = self.out(y)
        y = y.view(n, count, count, w, w, dim).permute(0, 1, 3, 2, 4, 5).reshape(n, size, size, dim)
        return torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, size: int, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, size, shifted)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    """Four neighbours of x[N,S,S,C] become one of 2C channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, dim=-1)))


class SwinT(nn.Module):
    """x[N,3,size,size] -> logits[N,1000]; size / 4 is a multiple of 7 in every stage."""

    def __init__(self, size: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.first_norm = nn.LayerNorm(WIDTH)
        layers: list[nn.Module] = []
        dim, side = WIDTH, size // 4
        for stage, (depth, heads) in enumerate(zip(depths, HEADS, strict=False)):
            if stage:
                layers.append(Merge(dim))
                dim, side = 2 * dim, side // 2
            layers += [Block(dim, heads, side, index % 2 == 1) for index in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.norm(self.layers(x)).mean(dim=(1, 2)))


def factory(size: int = 224, depths: tuple[int, ...] = DEPTHS) -> Made:
    return seeded(lambda: SwinT(size, depths), (1, 3, size, size))


def small() -> Made:
    """Two stages of two blocks at 56x56."""
    return factory(56, (2, 2))
