"""Random weights with plausible batch norms: statistics are those of random inputs, gains and offsets vary."""

from __future__ import annotations

import torch
from torch import nn

Made = tuple[nn.Module, tuple[torch.Tensor, ...]]


def settle(module: nn.Module, shape: tuple[int, ...], batch: int = 8) -> Made:
    """(module in evaluation mode, one random example input of `shape`), after two batches through its batch norms."""
    norms = [m for m in module.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, 0.0, 0.2)
        norm.momentum = None  # the plain average of the batches
    if norms:
        module.train()
        with torch.no_grad():
            for _ in range(2):
                module(torch.randn(batch, *shape[1:]))
    return module.eval(), (torch.randn(*shape),)
