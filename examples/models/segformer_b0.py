"""SegFormer-B0 (Xie et al. 2021) with random weights: a pyramid of transformers and a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded

WIDTHS, HEADS, REDUCTIONS, DEPTHS = (32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1), (2, 2, 2, 2)
CLASSES, HEAD_WIDTH = 150, 256


def as_map(x: Tensor, h: int, w: int) -> Tensor:
    """x[N,HW,C] as [N,C,H,W]."""
    return x.transpose(1, 2).reshape(x.shape[0], -1, h, w)


class EfficientAttention(nn.Module):
    """Attention whose keys and values come from a map that is `reduction` times smaller each way."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        if reduction > 1:
            self.reduce = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        n, t, dim = x.shape
        q = self.q(x).reshape(n, t, self.heads, dim // self.heads).transpose(1, 2)
        if self.reduction > 1:
            x = self.norm(self.reduce(as_map(x, h, w)).flatten(2).transpose(1, 2))
        kv = self.kv(x).reshape(n, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, kv[0], kv[1])
        return self.out(y.transpose(1, 2).reshape(n, t, dim))


class MixMlp(nn.Module):
    """Linear, 3x3 depthwise, GELU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 4 * dim)
        self.depthwise = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim)
        self.gelu = nn.GELU()
        self.reduce = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        y = self.depthwise(as_map(self.expand(x), h, w)).flatten(2).transpose(1, 2)
        return self.reduce(self.gelu(y))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = EfficientAttention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MixMlp(dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        x = x + self.attention(self.norm1(x), h, w)
        return x + self.mlp(self.norm2(x), h, w)


class Stage(nn.Module):
    """Overlapping patches, blocks, norm: x[N,C,H,W] -> [N,dim,H/s,W/s]."""

    def __init__(self, inputs: int, index: int) -> None:
        super().__init__()
        dim = WIDTHS[index]
        kernel, stride = (7, 4) if index == 0 else (3, 2)
        self.patches = nn.Conv2d(inputs, dim, kernel, stride, kernel // 2)
        self.first_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(dim, HEADS[index], REDUCTIONS[index]) for _ in range(DEPTHS[index]))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        h, w = x.shape[2:]
        x = self.first_norm(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x, h, w)
        return as_map(self.norm(x), h, w)


class SegformerB0(nn.Module):
    """x[N,3,H,W] -> logits[N,150,H/4,W/4]."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.stages = nn.ModuleList(Stage(channels, index) for index, channels in enumerate(inputs))
        self.projections = nn.ModuleList(nn.Linear(width, HEAD_WIDTH) for width in WIDTHS)
        self.fuse = nn.Conv2d(4 * HEAD_WIDTH, HEAD_WIDTH, 1, bias=False)
        self.norm = nn.BatchNorm2d(HEAD_WIDTH)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(HEAD_WIDTH, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for stage, projection in zip(self.stages, self.projections, strict=True):
            x = stage(x)
            h, w = x.shape[2:]
            y = as_map(projection(x.flatten(2).transpose(1, 2)), h, w)
            size = maps[0].shape[2:] if maps else (h, w)
            maps.append(nn.functional.interpolate(y, size=size, mode="bilinear", align_corners=False))
        y = torch.cat(maps[::-1], dim=1)
        return self.head(self.relu(self.norm(self.fuse(y))))


def factory(size: int = 224) -> Made:
    return seeded(SegformerB0, (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
