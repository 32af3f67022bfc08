"""A network in the manner of EfficientViT-B1 (Cai et al. 2023): inverted bottlenecks and multi-scale linear
attention with ReLU kernels, at 224x224; random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, damp, seeded

WIDTHS, DEPTHS, HEAD_DIM = (16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 16


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.Hardswish()) if act else nn.Sequential(*layers)


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def separable(channels: int) -> nn.Module:
    """Depthwise and pointwise, beside the input."""
    last = _conv(channels, channels, 1, act=False)
    damp(last[1])
    return Residual(nn.Sequential(_conv(channels, channels, 3, groups=channels), last))


def bottleneck(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Pointwise to four times the channels, depthwise, pointwise; beside the input where shapes allow."""
    hidden = 4 * inputs
    last = _conv(hidden, outputs, 1, act=False)
    body = nn.Sequential(_conv(inputs, hidden, 1), _conv(hidden, hidden, 3, stride, groups=hidden), last)
    if stride != 1 or inputs != outputs:
        return body
    damp(last[1])
    return Residual(body)


class LinearAttention(nn.Module):
    """q (k^T v) / (q sum(k)) with q and k behind ReLU, on the map itself and on its 5x5 aggregation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_DIM
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.aggregate = nn.Sequential(
            nn.Conv2d(3 * channels, 3 * channels, 5, padding=2, groups=3 * channels, bias=False),
            nn.Conv2d(3 * channels, 3 * channels, 1, groups=3 * self.heads, bias=False),
        )
        self.relu = nn.ReLU()
        self.out = _conv(2 * channels, channels, 1, act=False)
        damp(self.out[1])

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, self.aggregate(qkv)], dim=1)
        qkv = qkv.reshape(n, 2 * self.heads, 3 * HEAD_DIM, h * w).transpose(-1, -2)
        q, k, v = qkv.chunk(3, dim=-1)
        q, k = self.relu(q), self.relu(k)
        v = nn.functional.pad(v, (0, 1), value=1.0)
        y = q @ (k.transpose(-1, -2) @ v)
        y = y[..., :-1] / (y[..., -1:] + 1e-6)
        return self.out(y.transpose(-1, -2).reshape(n, -1, h, w))


class EfficientVitB1(nn.Module):
    """x[N,3,H,W] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            _conv(3, WIDTHS[0], 3, 2),
            *(separable(WIDTHS[0]) for _ in range(DEPTHS[0])),
        ]
        channels = WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(WIDTHS[1:], DEPTHS[1:], strict=True)):
            layers.append(bottleneck(channels, width, 2))
            if stage < 2:
                layers += [bottleneck(width, width, 1) for _ in range(depth - 1)]
            else:
                for _ in range(depth):
                    layers += [Residual(LinearAttention(width)), bottleneck(width, width, 1)]
            channels = width
        self.features = nn.Sequential(*layers, _conv(channels, 1536, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(1536, 1600, bias=False)
        self.norm = nn.LayerNorm(1600)
        self.act = nn.Hardswish()
        self.head = nn.Linear(1600, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x)).flatten(1)
        return self.head(self.act(self.norm(self.hidden(x))))


def factory(size: int = 224) -> Made:
    return seeded(EfficientVitB1, (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
