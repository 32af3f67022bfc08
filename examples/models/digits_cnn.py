"""A small CNN for scikit-learn's 8x8 handwritten digits: about 10,000 weights, trained in seconds on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded

HELD_OUT = 360
EPOCHS = 40
BATCH = 64


class DigitsCnn(nn.Module):
    """x[N,1,8,8] with pixels in 0..1 -> logits[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 16)
        self.wide = _conv(16, 24)
        self.pool = nn.MaxPool2d(2)
        self.deep = _conv(24, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.wide(self.stem(x)))
        x = self.deep(x).mean(dim=(2, 3))
        return self.head(x)


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


@dataclass(frozen=True, slots=True)
class Digits:
    """Images [N,1,8,8] in 0..1 and labels [N]; the held-out ones are never trained or calibrated on."""

    train_x: npt.NDArray[np.float32]
    train_y: npt.NDArray[np.int64]
    held_out_x: npt.NDArray[np.float32]
    held_out_y: npt.NDArray[np.int64]


def load() -> Digits:
    """scikit-learn's digits, split once and for all: 1437 to train on, 360 held out."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, None] / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    kept, held = order[:-HELD_OUT], order[-HELD_OUT:]
    return Digits(images[kept], labels[kept], images[held], labels[held])


def train(
    digits: Digits, epochs: int = EPOCHS, progress: Callable[[int, float], None] | None = None
) -> DigitsCnn:
    """A trained network in eval mode. `progress(epoch, loss)` is called after each epoch."""
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DigitsCnn()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
        steps = epochs * -(-len(y) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        for epoch in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(y)).split(BATCH):
                loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(rows)
            if progress is not None:
                progress(epoch + 1, total / len(y))
    return net.eval()


def accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Share of rows whose largest logit is the label's."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def factory() -> Made:
    """The network with random weights, for what needs no trained ones."""
    return seeded(DigitsCnn, (1, 1, 8, 8))
