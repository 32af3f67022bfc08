"""MCUNet's int8 network as PyTorch trains it: integers in float32, round and clamp straight through.

Weights and biases of a sparse scheme alone require gradients; of a slice, a parameter that is copied over the whole.
The one saved tensor of a quantisation is its mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgec.frontends.mcu_pickle import read_tree
from edgec.training.options import Scheme


class Requantise(torch.autograd.Function):
    """clamp(round(acc * factor) + zero, -128, 127); backward where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, acc: Tensor, factor: Tensor, zero: int) -> Tensor:
        value = acc.mul_(factor).round_().add_(zero)
        ctx.save_for_backward((value >= -128) & (value <= 127), factor)
        ctx.mark_dirty(acc)
        return value.clamp_(-128, 127)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inside, factor = ctx.saved_tensors
        return grads[0] * inside * factor, None, None


class Conv(nn.Module):
    """A convolution of the file, its integers in float32."""

    def __init__(self, conv: Mapping[str, Any]) -> None:
        super().__init__()
        p = conv["params"]
        self.stride, self.groups = int(conv["stride"]), int(conv["groups"] or 1)
        kernel = conv["kernel_size"]
        self.pad = (kernel if isinstance(kernel, int) else kernel[0]) // 2
        self.scale_out = float(p["y_scale"])
        self.zero_in, self.zero_out = int(p["x_zero"]), int(p["y_zero"])
        scale = np.asarray(p["w_scales"], np.float32) * np.float32(p["x_scale"]) / np.float32(p["y_scale"])
        self.register_buffer("factor", torch.from_numpy(scale.astype(np.float32).reshape(1, -1, 1, 1)))
        self.weight = nn.Parameter(torch.from_numpy(np.asarray(p["weight"], np.float32).copy()), False)
        self.bias = nn.Parameter(torch.from_numpy(np.asarray(p["bias"], np.float32).copy()), False)
        self.part: nn.Parameter | None = None
        self.index: Tensor | None = None

    def slice(self, ratio: float) -> None:
        """Train the input channels of the largest real weights, floor(ratio C) of them."""
        count = int(ratio * self.weight.shape[1])
        if count == self.weight.shape[1]:
            self.weight.requires_grad_()
            return
        real = self.weight.detach() * self.factor.reshape(-1, 1, 1, 1)  # type: ignore[operator]
        self.index = real.square().sum((0, 2, 3)).argsort(descending=True)[:count].sort().values
        self.part = nn.Parameter(self.weight[:, self.index].clone())

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight if self.part is None else self.weight.index_copy(1, self.index, self.part)
        acc = nn.functional.conv2d(x - self.zero_in, w, self.bias, self.stride, self.pad, 1, self.groups)
        return Requantise.apply(acc, self.factor, self.zero_out)  # type: ignore[no-any-return]


class Block(nn.Module):
    """An inverted bottleneck, with the addition of its input where the file has one."""

    def __init__(self, block: Mapping[str, Any]) -> None:
        super().__init__()
        names = ("pointwise1", "depthwise", "pointwise2")
        self.convs = nn.Sequential(*(Conv(block[n]) for n in names if block.get(n) is not None))
        self.residual = None if block.get("residual") is None else block["residual"]["params"]
        if self.residual is not None:
            self.register_buffer("unit", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        if self.residual is None:
            return y  # type: ignore[no-any-return]
        p, last = self.residual, self.convs[-1]
        own = float(p["y_scale"])
        total = (x - p["x_zero"]) * (float(p["x_scale"]) / own)
        total = total + (y - last.zero_out) * (last.scale_out / own)
        return Requantise.apply(total, self.unit, int(p["y_zero"]))  # type: ignore[no-any-return]


class Network(nn.Module):
    """image[1,3,128,128] of int8 values in float32 -> logits[1,classes]."""

    def __init__(self, path: Path, classes: int) -> None:
        super().__init__()
        tree = read_tree(path)
        self.body = nn.Sequential(Conv(tree["first_conv"]), *(Block(b) for b in tree["blocks"]))
        last = tree["blocks"][-1]["pointwise2"]
        self.zero, self.scale = int(last["params"]["y_zero"]), float(last["params"]["y_scale"])
        self.head = nn.Linear(int(last["out_channel"]), classes)
        self.register_buffer("unit", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = Requantise.apply(self.body(x).mean((2, 3)), self.unit, 0)  # type: ignore[no-untyped-call]
        return self.head((pooled - self.zero) * self.scale)  # type: ignore[no-any-return]

    def train_only(self, scheme: Scheme | None) -> None:
        """What the scheme names requires gradients; with none everything."""
        convs = [m for m in self.modules() if isinstance(m, Conv)]
        if scheme is None:
            self.requires_grad_()
            return
        for conv in convs[len(convs) - scheme.biases :]:
            conv.bias.requires_grad_()
        for part in scheme.weights:
            assert part.conv is not None
            if part.ratio > 0:
                convs[part.conv].slice(part.ratio)
                convs[part.conv].bias.requires_grad_()
