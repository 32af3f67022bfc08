"""Networks for the tests of the command line, as `--model tests.cli_models:FUNCTION` names them: good ones, and one
for each mistake that a model can hold."""

from __future__ import annotations

import torch
from torch import nn

ONE = torch.ones(1, 4)


class Net(nn.Module):
    """Two convolutions and a linear layer on 1x1x8x8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(128, 3)

    def forward(self, image):  # type: ignore[no-untyped-def]
        y = torch.relu(self.norm(self.conv(image)))
        return self.fc(torch.relu(self.conv2(y)).flatten(1))


def net():  # type: ignore[no-untyped-def]
    return Net().eval(), (torch.zeros(1, 1, 8, 8),)


class Twice(nn.Module):
    """One linear layer that runs twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.head(torch.relu(self.fc(torch.relu(self.fc(x)))))


def twice():  # type: ignore[no-untyped-def]
    return Twice(), (ONE,)


def small():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 2)), (ONE,)


def small_without_inputs():  # type: ignore[no-untyped-def]
    return small()[0]


def larger():  # type: ignore[no-untyped-def]
    return nn.Sequential(nn.Linear(5, 2)), (torch.ones(1, 5),)


def number():  # type: ignore[no-untyped-def]
    return 3


def raising():  # type: ignore[no-untyped-def]
    raise RuntimeError("no weights today")


def exiting():  # type: ignore[no-untyped-def]
    raise SystemExit(3)


def _poisoned(value: float):  # type: ignore[no-untyped-def]
    module, inputs = small()
    with torch.no_grad():
        module[0].weight[0, 1] = value
    return module, inputs


def nan_weight():  # type: ignore[no-untyped-def]
    return _poisoned(float("nan"))


def infinite_weight():  # type: ignore[no-untyped-def]
    return _poisoned(float("inf"))


class Function(nn.Module):
    """A module that computes `function`."""

    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.function(x)


class Branch(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        if x.sum() > 0:
            return x + 1
        return x * 2


def branch():  # type: ignore[no-untyped-def]
    return Branch(), (ONE,)


def branchless():  # type: ignore[no-untyped-def]
    """What the error for `branch` says to do."""
    return Function(lambda x: torch.where(x.sum() > 0, x + 1, x * 2)), (ONE,)


def chosen_elements():  # type: ignore[no-untyped-def]
    return Function(lambda x: x[x > 0]), (ONE,)


def unsupported():  # type: ignore[no-untyped-def]
    return Function(lambda x: torch.cumprod(x, 1) + torch.special.i0(x) + torch.cumprod(x * 2, 1)), (ONE,)


def double():  # type: ignore[no-untyped-def]
    return Function(lambda x: x * 2), (ONE.double(),)


def complex_numbers():  # type: ignore[no-untyped-def]
    return Function(lambda x: x * 2j), (ONE,)


def writes_into_input():  # type: ignore[no-untyped-def]
    return Function(lambda x: x.add_(1) * 2), (ONE,)


def seven_axes():  # type: ignore[no-untyped-def]
    return Function(lambda x: x * 2), (torch.ones(1, 1, 1, 1, 1, 1, 2),)


class Failing(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        raise ValueError("wrong size")


def failing():  # type: ignore[no-untyped-def]
    return Failing(), (ONE,)


def returns_nothing():  # type: ignore[no-untyped-def]
    return Function(lambda x: None), (ONE,)


def giant_input():  # type: ignore[no-untyped-def]
    """10^9 elements that take four bytes here."""
    return Function(lambda x: x * 2), (torch.zeros(1).expand(1_000_000_000),)


def giant_value():  # type: ignore[no-untyped-def]
    return Function(lambda x: x.expand(1, 1_000_000_000) * 2), (torch.ones(1, 1),)


def beyond_int32():  # type: ignore[no-untyped-def]
    return Function(lambda x: x.expand(1 << 20, 1 << 20) + 1), (torch.ones(1, 1),)


def two_inputs():  # type: ignore[no-untyped-def]
    class Sum(nn.Module):
        def forward(self, left, right):  # type: ignore[no-untyped-def]
            return left + right

    return Sum(), (ONE, ONE)


def index():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return nn.Embedding(10, 4), (torch.zeros(1, 3, dtype=torch.int64),)


def wide_image():  # type: ignore[no-untyped-def]
    """An inverted bottleneck whose whole maps are large and whose rows are small."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    )
    return layers, (torch.zeros(1, 1, 32, 32),)


def nothing_to_do():  # type: ignore[no-untyped-def]
    return nn.Identity(), (ONE,)
