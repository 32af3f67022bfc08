"""int8 training once more, in PyTorch and plain integers: what tests hold passes/straight_through.py against.

Written from the formulas (forward: docs/quantization.md; backward: clamp and round straight through, Lin et al. 2022)
and from no code of edgec: the network comes from the dicts of the file, forward sums are int64, gradients float64 by
autograd, or pairs in block floating point pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

F64 = torch.float64
Ints = np.ndarray[Any, np.dtype[np.int64]]


def fixed(real: float) -> tuple[int, int]:
    """(m, s): 31-bit mantissa and right shift of a multiplier."""
    fraction, exponent = math.frexp(real)
    m = round(fraction * 2**31)
    if m == 2**31:
        m, exponent = m // 2, exponent + 1
    return (0, 1) if 31 - exponent > 62 else (m, 31 - exponent)


def requantized(acc: Tensor, real: Tensor) -> Tensor:
    """floor(acc * m / 2**s + 1/2) by output channel (axis 1), in int64."""
    m, s = (
        torch.tensor(c, dtype=torch.int64).reshape(1, -1, 1, 1)
        for c in zip(*(fixed(r) for r in real.tolist()), strict=True)
    )
    return (acc.to(torch.int64) * m + (1 << (s - 1))) >> s


class Round(torch.autograd.Function):
    """clamp(zero + requantized(acc)); backward g * eff where nothing was clamped, and in living channels."""

    @staticmethod
    def forward(ctx: Any, acc: Tensor, real: Tensor, alive: Tensor, zero: int) -> Tensor:
        v = requantized(acc.clamp(-(2.0**31), 2.0**31 - 1), real) + zero
        inside = (v >= -128) & (v <= 127)
        ctx.save_for_backward(inside, torch.where(alive, real, 0.0))
        return v.clamp(-128, 127).to(F64)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inside, real = ctx.saved_tensors
        return grads[0] * inside * real.reshape(1, -1, 1, 1), None, None, None


class Sum(torch.autograd.Function):
    """The int8 addition; backward g * s_i / s_y where nothing was clamped."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, ratios: tuple[float, float], zeros: tuple[int, int, int]
    ) -> Tensor:
        shift = min(21 - math.frexp(max(ratios))[1], 31)
        ma, mb = (min(2**21 - 1, round(r * 2**shift)) for r in ratios)
        total = (a.to(torch.int64) - zeros[0]) * ma + (b.to(torch.int64) - zeros[1]) * mb
        v = ((total + (1 << (shift - 1))) >> shift) + zeros[2]
        ctx.save_for_backward((v >= -128) & (v <= 127))
        ctx.ratios = ratios
        return v.clamp(-128, 127).to(F64)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (inside,) = ctx.saved_tensors
        g = grads[0] * inside
        return g * ctx.ratios[0], g * ctx.ratios[1], None, None


class Mean(torch.autograd.Function):
    """The rounded average of a map, ties to even; backward g / pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return torch.round(x.mean((2, 3)))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        n, c, h, w = ctx.shape
        return (grads[0].reshape(n, c, 1, 1) / (h * w)).expand(n, c, h, w)


@dataclass
class Conv:
    """One convolution: integers OIHW, and what one forward pass left."""

    name: str
    params: Mapping[str, Any]
    stride: int
    pad: int
    groups: int
    weight: Tensor = field(init=False)
    bias: Tensor = field(init=False)
    x: Tensor = field(init=False)
    inside: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.weight = torch.tensor(self.params["weight"].astype(np.float64), requires_grad=True)
        room = 2**31 - 1 - 256 * np.abs(self.params["weight"].astype(np.int64)).sum((1, 2, 3))
        clipped = np.clip(self.params["bias"].astype(np.int64), -room, room)
        self.bias = torch.tensor(clipped.astype(np.float64), requires_grad=True)

    def scale(self, name: str) -> float:
        return float(np.float32(self.params[name]))

    @property
    def scale_w(self) -> Tensor:
        return torch.tensor(np.asarray(self.params["w_scales"], np.float32).astype(np.float64))

    @property
    def alive(self) -> Tensor:
        return torch.tensor(self.scale_w.numpy() >= 1e-6 * np.median(self.scale_w.numpy()))

    @property
    def real(self) -> Tensor:
        return self.scale("x_scale") * self.scale_w / self.scale("y_scale")

    def __call__(self, x: Tensor) -> Tensor:
        self.x = x.detach()
        acc = nnf.conv2d(x - self.params["x_zero"], self.weight, None, self.stride, self.pad, 1, self.groups)
        acc = acc + self.bias.reshape(1, -1, 1, 1)
        v = requantized(acc.detach().clamp(-(2.0**31), 2.0**31 - 1), self.real) + self.params["y_zero"]
        self.inside = (v >= -128) & (v <= 127)
        out: Tensor = Round.apply(acc, self.real, self.alive, self.params["y_zero"])
        return out


@dataclass
class Block:
    """Convolutions and, where there is one, the addition of the block's input."""

    convs: list[Conv]
    add: Mapping[str, Any] | None
    inside: Tensor = field(init=False)

    @property
    def ratios(self) -> tuple[float, float]:
        assert self.add is not None
        y = float(np.float32(self.add["y_scale"]))
        return float(np.float32(self.add["x_scale"])) / y, self.convs[-1].scale("y_scale") / y

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = conv(y)
        if self.add is None:
            return y
        zeros = (self.add["x_zero"], self.convs[-1].params["y_zero"], self.add["y_zero"])
        out: Tensor = Sum.apply(x, y, self.ratios, zeros)
        shift = min(21 - math.frexp(max(self.ratios))[1], 31)
        ma, mb = (min(2**21 - 1, round(r * 2**shift)) for r in self.ratios)
        total = (x.detach().to(torch.int64) - zeros[0]) * ma + (y.detach().to(torch.int64) - zeros[1]) * mb
        v = ((total + (1 << (shift - 1))) >> shift) + zeros[2]
        self.inside = (v >= -128) & (v <= 127)
        return out


class Network:
    """The body of the network, up to the pooled features."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.blocks = [Block([_conv("first_conv", tree["first_conv"])], None)]
        for index, block in enumerate(tree["blocks"]):
            convs = [
                _conv(f"blocks.{index}.{n}", block[n])
                for n in ("pointwise1", "depthwise", "pointwise2")
                if block.get(n) is not None
            ]
            self.blocks.append(
                Block(convs, None if block["residual"] is None else block["residual"]["params"])
            )
        self.classifier = tree["classifier"]["params"]

    @property
    def convs(self) -> list[Conv]:
        return [c for b in self.blocks for c in b.convs]

    def __call__(self, image: Tensor) -> Tensor:
        """Pooled features, in their integers."""
        x = image.to(F64)
        for block in self.blocks:
            x = block(x)
        out: Tensor = Mean.apply(x)
        return out


def _conv(name: str, conv: Mapping[str, Any]) -> Conv:
    return Conv(name, conv["params"], conv["stride"], conv["kernel_size"][0] // 2, conv["groups"] or 1)


@dataclass(frozen=True)
class Pair:
    """factor * q * 2**e where `inside` is true: q int64 NCHW."""

    q: Tensor
    e: int
    inside: Tensor
    factor: float


def block_float(acc: Tensor) -> tuple[Tensor, int]:
    """(q, shift) of sums NCHW, pixel after pixel as a device writes them."""
    pixels = acc.permute(0, 2, 3, 1).reshape(-1, acc.shape[1]).to(torch.int64).tolist()
    shift, written = 0, []
    for pixel in pixels:
        most = max(abs(a) for a in pixel)
        while (most + ((1 << shift) >> 1)) >> shift > 127:
            shift += 1
            written = [[(q + 1) >> 1 for q in old] for old in written]
        written.append([(a + ((1 << shift) >> 1)) >> shift for a in pixel])
    n, c, h, w = acc.shape
    return torch.tensor(written).reshape(n, h, w, c).permute(0, 3, 1, 2), shift


def added(terms: list[Pair]) -> Pair:
    """The sum of two pairs, or one without its mask and factor."""
    parts = []
    for t in terms:
        fraction, k = math.frexp(t.factor)
        parts.append((torch.where(t.inside, t.q, 0) * round(fraction * 2**14), t.e + k - 14))
    common = max(e for _, e in parts) - 8
    total = torch.zeros_like(parts[0][0])
    for value, e in parts:
        if e >= common:
            total = total + (value << (e - common))
        elif common - e <= 30:
            total = total + ((value + (1 << (common - e - 1))) >> (common - e))
    q, shift = block_float(total)
    return Pair(q, common + shift, torch.ones_like(q, dtype=torch.bool), 1.0)


class Integer:
    """One backward pass in pairs. `steps`: by layer, (dW, db) in integers and the factor with which they count, f32
    by output, before the rate and 2**e."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: dict[str, tuple[Tensor, Tensor, Ints, Ints, int]] = {}

    def features(self, gradient: Any, scale: float, last: Tensor) -> Pair:
        """The pair of the gradient of the real features, spread over the last map."""
        largest = np.abs(gradient).max()
        e = math.frexp(largest)[1] - 7
        if math.floor(largest * np.float32(2.0**-e) + np.float32(0.5)) > 127:
            e += 1
        q = np.floor(gradient * np.float32(2.0**-e) + np.float32(0.5))
        n, c, h, w = last.shape
        spread = torch.tensor(q.astype(np.int64)).reshape(n, c, 1, 1).expand(n, c, h, w)
        return Pair(spread, e, torch.ones_like(spread, dtype=torch.bool), scale / (h * w))

    def walk(self, pair: Pair, first: int) -> None:
        """From the last block down to convolution number `first`."""
        stop = self.network.convs[first].name
        for block in reversed(self.network.blocks):
            down, skip = pair, None
            if block.add is not None:
                joined = pair.inside & block.inside
                skip = Pair(pair.q, pair.e, joined, pair.factor * block.ratios[0])
                down = Pair(pair.q, pair.e, joined, pair.factor * block.ratios[1])
            for conv in reversed(block.convs):
                down = self.conv(conv, down)
                if conv.name == stop:
                    return
            pair = down if skip is None else added([skip, down])

    def conv(self, conv: Conv, pair: Pair) -> Pair:
        """Note the layer's steps; return the pair of its input."""
        w = conv.weight.detach()
        h = torch.where(pair.inside & conv.inside, pair.q, 0)
        x = (conv.x - conv.params["x_zero"]).to(F64)
        dw = torch.nn.grad.conv2d_weight(x, list(w.shape), h.to(F64), conv.stride, conv.pad, 1, conv.groups)
        s_w, s_x, s_y = conv.scale_w.numpy(), conv.scale("x_scale"), conv.scale("y_scale")
        alive = conv.alive.numpy()
        self.steps[conv.name] = (
            dw.to(torch.int64),
            h.sum((0, 2, 3)),
            np.where(alive, pair.factor * s_x / (s_w * s_y), 0).astype(np.float32),
            np.where(alive, pair.factor / (s_w * s_x * s_y), 0).astype(np.float32),
            pair.e,
        )
        eff = np.where(alive, s_x * s_w / s_y * pair.factor, 0.0)
        taps = w.shape[0] // conv.groups * math.ceil(w.shape[2] / conv.stride) ** 2
        most = min(128, (2**31 - 1) // (127 * 127 * taps))
        e = min(k for k in range(-60, 60) if math.floor(eff.max() * 2.0**-k + 0.5) <= most)
        scaled = h * torch.tensor(np.floor(eff * 2.0**-e + 0.5).astype(np.int64)).reshape(1, -1, 1, 1)
        acc = torch.nn.grad.conv2d_input(
            list(conv.x.shape), w, scaled.to(F64), conv.stride, conv.pad, 1, conv.groups
        )
        assert acc.abs().max() < 2**31
        q, shift = block_float(acc)
        return Pair(q, pair.e + e + shift, torch.ones_like(q, dtype=torch.bool), 1.0)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox-4x32-10 (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c[0], c[1], c[2], c[3]


def moved(old: Ints, gradient: Ints, rates: Any, words: list[int], low: int, high: int) -> Ints:
    """old + floor(u - gradient * rate), in float32, within [low, high]; u the upper 24 bits of a word."""
    u = np.array([np.float32(word >> 8) / np.float32(2**24) for word in words], np.float32).reshape(old.shape)
    step = np.floor(u - gradient.astype(np.float32) * rates.astype(np.float32))
    return np.clip(old + step.astype(np.int64), low, high)
