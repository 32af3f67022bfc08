"""MobileNetV2 (Sandler et al. 2018, table 2) with random weights, of any width."""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.inverted import Bottleneck, conv_bn
from examples.models.seeded import Made, damp, seeded

# (expansion, channels, repeats, stride of the first)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def eighths(channels: float) -> int:
    """The nearest multiple of 8 that is not more than 10 % below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MobileNetV2(nn.Module):
    """x[N,3,H,W] -> logits[N,classes]."""

    def __init__(self, width: float, classes: int = 1000) -> None:
        super().__init__()
        channels = eighths(32 * width)
        layers: list[nn.Module] = [conv_bn(3, channels, 3, 2)]
        for expansion, base, repeats, first in STAGES:
            outputs = eighths(base * width)
            for i in range(repeats):
                stride = first if i == 0 else 1
                layers.append(Bottleneck(channels, channels * expansion, outputs, 3, stride))
                channels = outputs
        last = eighths(1280 * max(1.0, width))
        self.features = nn.Sequential(*layers, conv_bn(channels, last, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def width_035() -> Made:
    """Width 0.35 at 96x96, two classes: for a microcontroller."""
    return seeded(lambda: MobileNetV2(0.35, classes=2), (1, 3, 96, 96))


def width_100() -> Made:
    """Width 1.0 at 224x224, 1000 classes."""
    return seeded(lambda: MobileNetV2(1.0), (1, 3, 224, 224))


factory = width_035


def damped(size: int = 224) -> Made:
    """`width_100` with small residual branches, whose numbers half precision does not blur."""

    def make() -> nn.Module:
        net = MobileNetV2(1.0)
        for module in net.modules():
            if isinstance(module, Bottleneck) and module.residual:
                damp(module.layers[-1][1])
        return net

    return seeded(make, (1, 3, size, size))


def damped_small() -> Made:
    """At 64x64."""
    return damped(64)
