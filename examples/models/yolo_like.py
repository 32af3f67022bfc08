"""A detector in the manner of YOLOv8-n without non-maximum suppression; random weights.

Cross-stage blocks, spatial pyramid pooling, a neck that goes up and down again, and a head for each of three scales
whose box edges are means of distributions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, damp, seeded

WIDTHS, DEPTHS, CLASSES, BINS = (16, 32, 64, 128, 256), (1, 2, 2, 1), 80, 16
STRIDES = (8, 16, 32)


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.SiLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, beside the input where `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3))
        self.residual = residual
        if residual:
            damp(self.layers[1][1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class CrossStage(nn.Module):
    """Half of the channels goes through bottlenecks, every one of which is kept; all halves join."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.first = conv(inputs, outputs)
        self.blocks = nn.ModuleList(Bottleneck(half, residual) for _ in range(depth))
        self.last = conv((2 + depth) * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.last(torch.cat(parts, dim=1))


class PyramidPool(nn.Module):
    """The map beside its maxima over 5, 9 and 13 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.last = conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, dim=1))


class Head(nn.Module):
    """Edge distributions and class scores of one scale: [N,4*BINS+CLASSES,H,W]."""

    def __init__(self, channels: int, boxes: int, classes: int) -> None:
        super().__init__()
        self.boxes = nn.Sequential(
            conv(channels, boxes, 3), conv(boxes, boxes, 3), nn.Conv2d(boxes, 4 * BINS, 1)
        )
        self.classes = nn.Sequential(
            conv(channels, classes, 3), conv(classes, classes, 3), nn.Conv2d(classes, CLASSES, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.boxes(x), self.classes(x)], dim=1)


def places(size: int) -> tuple[Tensor, Tensor]:
    """Centres [2,cells] of all cells of the three scales, in cells, and their strides [1,cells]."""
    centres, strides = [], []
    for stride in STRIDES:
        at = torch.arange(size // stride) + 0.5
        rows, columns = torch.meshgrid(at, at, indexing="ij")
        centres.append(torch.stack([columns.flatten(), rows.flatten()]))
        strides.append(torch.full((1, centres[-1].shape[1]), float(stride)))
    return torch.cat(centres, dim=1), torch.cat(strides, dim=1)


class YoloLike(nn.Module):
    """x[N,3,size,size] -> boxes and scores [N,4+80,cells]: centre, width and height in pixels, probabilities."""

    def __init__(self, size: int) -> None:
        super().__init__()
        w = WIDTHS
        self.stem = nn.Sequential(
            conv(3, w[0], 3, 2), conv(w[0], w[1], 3, 2), CrossStage(w[1], w[1], DEPTHS[0], True)
        )
        self.down3 = nn.Sequential(conv(w[1], w[2], 3, 2), CrossStage(w[2], w[2], DEPTHS[1], True))
        self.down4 = nn.Sequential(conv(w[2], w[3], 3, 2), CrossStage(w[3], w[3], DEPTHS[2], True))
        self.down5 = nn.Sequential(
            conv(w[3], w[4], 3, 2), CrossStage(w[4], w[4], DEPTHS[3], True), PyramidPool(w[4])
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4 = CrossStage(w[4] + w[3], w[3], 1, False)
        self.up3 = CrossStage(w[3] + w[2], w[2], 1, False)
        self.to4 = conv(w[2], w[2], 3, 2)
        self.out4 = CrossStage(w[2] + w[3], w[3], 1, False)
        self.to5 = conv(w[3], w[3], 3, 2)
        self.out5 = CrossStage(w[3] + w[4], w[4], 1, False)
        self.heads = nn.ModuleList(Head(c, 64, 80) for c in w[2:])
        centres, strides = places(size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def neck(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.down3(self.stem(x))
        c4 = self.down4(c3)
        c5 = self.down5(c4)
        p4 = self.up4(torch.cat([self.up(c5), c4], dim=1))
        p3 = self.up3(torch.cat([self.up(p4), c3], dim=1))
        n4 = self.out4(torch.cat([self.to4(p3), p4], dim=1))
        n5 = self.out5(torch.cat([self.to5(n4), c5], dim=1))
        return p3, n4, n5

    def forward(self, x: Tensor) -> Tensor:
        maps = [head(p).flatten(2) for head, p in zip(self.heads, self.neck(x), strict=True)]
        edges, scores = torch.cat(maps, dim=2).split((4 * BINS, CLASSES), dim=1)
        n, _, cells = edges.shape
        weights = edges.view(n, 4, BINS, cells).softmax(dim=2)
        near, far = (weights * self.bins.view(1, 1, BINS, 1)).sum(dim=2).chunk(2, dim=1)
        low, high = self.centres - near, self.centres + far
        boxes = torch.cat([(low + high) / 2, high - low], dim=1) * self.strides
        return torch.cat([boxes, scores.sigmoid()], dim=1)


def factory(size: int = 320) -> Made:
    return seeded(lambda: YoloLike(size), (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
