"""Networks with random weights whose activations stay sane: seeded, batch norms settled on random batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]


def seeded(make: Callable[[], nn.Module], shape: tuple[int, ...], seed: int = 0) -> Made:
    """(`make()` in eval mode, one standard normal input of `shape`), without touching the global generator.

    Batch norms take the statistics of a few random batches: with the initial ones (mean 0, variance 1) the
    activations of a deep random net vanish or explode, and int8 ranges would mean nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make()
        batches = [torch.randn(4, *shape[1:]) for _ in range(3)]
        example = torch.randn(shape)
    settle(net, batches)
    return net.eval(), (example,)


def seeded_with(
    make: Callable[[], nn.Module], inputs: Callable[[], tuple[Tensor, ...]], seed: int = 0
) -> Made:
    """(`make()` in eval mode, `inputs()`), both drawn under `seed`, for networks without batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval(), inputs()


def damp(norm: nn.Module, factor: float = 0.25) -> nn.Module:
    """`norm` with its gain set to `factor`: the last norm of a residual branch, so that the sum stays near the
    input, as in a trained network. With gains of 1 a deep random net amplifies every rounding error a hundredfold."""
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.weight, factor)
    return norm


def settle(net: nn.Module, batches: list[Tensor]) -> None:
    """Set every batch norm's running statistics to their average over `batches`."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # cumulative average
        norm.reset_running_stats()
    net.train()
    with torch.no_grad():
        for batch in batches if norms else ():
            net(batch)
    net.eval()


class SamePad(nn.Module):
    """Zero padding such that a following window yields ceil(size / stride) outputs, the odd row at the end.

    This is TensorFlow's "same", which PyTorch's symmetric padding cannot say for even sizes and stride 2.
    """

    def __init__(self, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
        self.pad = (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.pad)
