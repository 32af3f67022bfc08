"""ResNet-18 (He et al. 2015) with random weights at 224x224."""

from __future__ import annotations

from torch import Tensor, nn

from examples.models.seeded import Made, seeded


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the input, or beside its 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 3, stride)
        self.second = _conv(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + self.short(x)).relu()


class ResNet18(nn.Module):
    """x[N,3,224,224] -> logits[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, channels = [], 64
        for outputs, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            blocks.append(BasicBlock(channels, outputs, stride))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.stem(x).relu()))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def factory() -> Made:
    return seeded(ResNet18, (1, 3, 224, 224))
