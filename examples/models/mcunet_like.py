"""A network in the manner of MCUNet (Lin et al. 2020): inverted bottlenecks with 3x3, 5x5 and 7x7 depthwise kernels.

Random weights; x[1,3,80,80], two classes, 11.6 M multiply-accumulates.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.inverted import Bottleneck, conv_bn
from examples.models.seeded import Made, seeded

# (hidden channels, output channels, depthwise kernel, stride)
BLOCKS = (
    (16, 8, 3, 1),
    (48, 16, 3, 2),
    (48, 16, 3, 1),
    (48, 16, 3, 1),
    (48, 24, 7, 2),
    (144, 24, 3, 1),
    (120, 24, 5, 1),
    (144, 40, 7, 2),
    (240, 40, 7, 1),
    (240, 48, 3, 1),
    (192, 48, 3, 1),
    (240, 96, 5, 2),
    (480, 96, 3, 1),
    (384, 96, 3, 1),
    (288, 160, 7, 1),
)


class McunetLike(nn.Module):
    """x[N,3,80,80] -> logits[N,2]."""

    def __init__(self) -> None:
        super().__init__()
        channels, layers = 16, [conv_bn(3, 16, 3, 2)]
        for hidden, outputs, kernel, stride in BLOCKS:
            layers.append(Bottleneck(channels, hidden, outputs, kernel, stride))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


def factory() -> Made:
    return seeded(McunetLike, (1, 3, 80, 80))
