"""The inverted bottleneck that MobileNetV2 and its successors are made of."""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution with PyTorch's symmetric padding, batch norm, ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if relu else nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """Pointwise to `hidden` channels, depthwise, pointwise back without activation; beside the input where
    shapes allow."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        expand = [conv_bn(inputs, hidden, 1, 1)] if hidden != inputs else []
        self.layers = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, kernel, stride, groups=hidden),
            conv_bn(hidden, outputs, 1, 1, relu=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)
