"""The four networks of MLPerf Tiny with random weights: keyword spotting, wake words, image classes, anomalies.

Layer shapes as in the reference models (mlcommons/tiny, benchmark/training), TensorFlow's "same" padding
included. Multiply-accumulates: 2.66 M, 7.49 M, 12.5 M, 0.264 M.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.seeded import Made, SamePad, seeded

Pair = tuple[int, int]


def _conv(
    inputs: int, outputs: int, size: Pair, kernel: Pair, stride: Pair, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Same-padded convolution of a map of `size`, batch norm, ReLU."""
    layers: list[nn.Module] = [
        SamePad(size, kernel, stride),
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def _separable(inputs: int, outputs: int, size: Pair, stride: int) -> nn.Sequential:
    """3x3 depthwise, then pointwise."""
    small = (-(-size[0] // stride), -(-size[1] // stride))
    return nn.Sequential(
        _conv(inputs, inputs, size, (3, 3), (stride, stride), groups=inputs),
        _conv(inputs, outputs, small, (1, 1), (1, 1)),
    )


class DsCnn(nn.Module):
    """x[N,1,49,10], frames by cepstral coefficients -> probabilities[N,12]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 64, (49, 10), (10, 4), (2, 2))
        self.blocks = nn.Sequential(*(_separable(64, 64, (25, 5), 1) for _ in range(4)))
        self.pool = nn.AvgPool2d((25, 5))
        self.head = nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.head(x.flatten(1)).softmax(dim=1)


class MobileNetV1(nn.Module):
    """MobileNetV1 of width 0.25: x[N,3,96,96] -> probabilities[N,2]."""

    BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8, (96, 96), (3, 3), (2, 2))
        channels, size, blocks = 8, 48, []
        for outputs, stride in self.BLOCKS:
            blocks.append(_separable(channels, outputs, (size, size), stride))
            channels, size = outputs, -(-size // stride)
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2d(3)
        self.head = nn.Linear(256, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.head(x.flatten(1)).softmax(dim=1)


class Residual(nn.Module):
    """Two 3x3 convolutions beside the input, or beside its 1x1 convolution where the stride is 2."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        small = -(-size // stride)
        self.first = _conv(inputs, outputs, (size, size), (3, 3), (stride, stride))
        self.second = _conv(outputs, outputs, (small, small), (3, 3), (1, 1), relu=False)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.short(x) + self.second(self.first(x))).relu()


class ResNet8(nn.Module):
    """x[N,3,32,32] -> probabilities[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16, (32, 32), (3, 3), (1, 1))
        self.blocks = nn.Sequential(Residual(16, 16, 32, 1), Residual(16, 32, 32, 2), Residual(32, 64, 16, 2))
        self.pool = nn.AvgPool2d(8)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.head(x.flatten(1)).softmax(dim=1)


class Autoencoder(nn.Module):
    """x[N,640], five frames of 128 mel bands -> x again[N,640]."""

    WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())
                for a, b in zip(self.WIDTHS, self.WIDTHS[1:], strict=False)
            )
        )
        self.head = nn.Linear(self.WIDTHS[-1], self.WIDTHS[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


def ds_cnn() -> Made:
    return seeded(DsCnn, (1, 1, 49, 10))


def mobilenet_v1_025() -> Made:
    return seeded(MobileNetV1, (1, 3, 96, 96))


def resnet8() -> Made:
    return seeded(ResNet8, (1, 3, 32, 32))


def autoencoder() -> Made:
    return seeded(Autoencoder, (1, 640))
