"""EfficientNet-B0 (Tan and Le 2019, table 1) with random weights at 224x224."""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.seeded import Made, damp, seeded

# (expansion, channels, repeats, stride of the first, depthwise kernel)
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(inplace=True),
    )


class SqueezeExcite(nn.Module):
    """x times a gate for each channel, made of the channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.silu = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.silu(self.reduce(self.pool(x)))).sigmoid()


class MobileBlock(nn.Module):
    """Pointwise, depthwise, squeeze and excite, pointwise; beside the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        last = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs
        if self.residual:
            damp(last[1])
        self.layers = nn.Sequential(
            *([_conv(inputs, hidden, 1)] if expansion != 1 else []),
            _conv(hidden, hidden, kernel, stride, groups=hidden),
            SqueezeExcite(hidden, inputs // 4),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetB0(nn.Module):
    """x[N,3,H,W] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, first, kernel in STAGES:
            for index in range(repeats):
                stride = first if index == 0 else 1
                layers.append(MobileBlock(channels, outputs, expansion, kernel, stride))
                channels = outputs
        self.features = nn.Sequential(*layers, _conv(channels, 1280, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def factory(size: int = 224) -> Made:
    return seeded(EfficientNetB0, (1, 3, size, size))


def small() -> Made:
    """At 64x64."""
    return factory(64)
