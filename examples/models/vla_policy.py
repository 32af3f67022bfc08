"""A vision-language-action policy in the manner of pi0 (Black et al. 2024), of reduced depth; random weights.

An image encoder and a prefix language model read the image and the instruction once; a narrower action expert
attends to the keys and values of every layer of the prefix, and turns noise into a chunk of actions by flow matching,
in ten Euler steps that are unrolled here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.models.encoder import EncoderBlock
from examples.models.seeded import Made, seeded_with

HEAD_DIM, ROPE_BASE = 64, 10000.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Depths and widths; `heads` query heads of 64 share one key and value head."""

    image: int = 224
    patch: int = 14
    vision_dim: int = 384
    vision_layers: int = 4
    words: int = 4096
    tokens: int = 32
    dim: int = 512
    expert_dim: int = 256
    heads: int = 8
    layers: int = 4
    state: int = 32
    chunk: int = 50
    steps: int = 10

    @property
    def prefix(self) -> int:
        """Tokens of image and instruction."""
        return (self.image // self.patch) ** 2 + self.tokens


def rotary(positions: Tensor) -> tuple[Tensor, Tensor]:
    """(cosines, sines), each [T,HEAD_DIM]."""
    rate = ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angle = positions[:, None] * rate[None]
    return torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions of x[N,A,T,HEAD_DIM]."""
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat([-second, first], dim=-1) * turn[1]


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (1 + gain)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + self.gain)


class Layer(nn.Module):
    """One layer's weights for one of the two token kinds."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = RmsNorm(dim), RmsNorm(dim)
        self.q = nn.Linear(dim, heads * HEAD_DIM, bias=False)
        self.k, self.v = (nn.Linear(dim, HEAD_DIM, bias=False) for _ in range(2))
        self.out = nn.Linear(heads * HEAD_DIM, dim, bias=False)
        self.gate, self.up = (nn.Linear(dim, 4 * dim, bias=False) for _ in range(2))
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def qkv(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        n, t, _ = x.shape
        x = self.norm1(x)
        q = self.q(x).view(n, t, self.heads, HEAD_DIM).transpose(1, 2)
        k, v = (part(x).view(n, t, 1, HEAD_DIM).transpose(1, 2) for part in (self.k, self.v))
        return rotate(q, turn), rotate(k, turn), v

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.out(y.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))
        y = self.norm2(x)
        return x + self.down(nn.functional.gelu(self.gate(y), approximate="tanh") * self.up(y))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


class VlaPolicy(nn.Module):
    """image[N,3,S,S], tokens i64[N,L], state[N,32], noise[N,chunk,32] -> actions[N,chunk,32]."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.sizes = s
        self.patches = nn.Conv2d(3, s.vision_dim, s.patch, s.patch)
        self.places = nn.Parameter(torch.randn(1, (s.image // s.patch) ** 2, s.vision_dim) * 0.02)
        blocks = (
            EncoderBlock(s.vision_dim, s.vision_dim // 64, 4 * s.vision_dim) for _ in range(s.vision_layers)
        )
        self.vision = nn.Sequential(*blocks, nn.LayerNorm(s.vision_dim))
        self.bridge = nn.Linear(s.vision_dim, s.dim)
        self.words = nn.Embedding(s.words, s.dim)
        self.prefix = nn.ModuleList(Layer(s.dim, s.heads) for _ in range(s.layers))
        self.expert = nn.ModuleList(Layer(s.expert_dim, s.heads) for _ in range(s.layers))
        self.state_in = nn.Linear(s.state, s.expert_dim)
        self.action_in = nn.Linear(s.state, s.expert_dim)
        self.time = nn.Sequential(
            nn.Linear(2 * s.expert_dim, s.expert_dim), nn.SiLU(), nn.Linear(s.expert_dim, s.expert_dim)
        )
        self.norm = RmsNorm(s.expert_dim)
        self.action_out = nn.Linear(s.expert_dim, s.state)
        own = s.chunk + 1  # the state's token does not see the actions
        mask = torch.ones(own, s.prefix + own, dtype=torch.bool)
        mask[0, s.prefix + 1 :] = False
        self.register_buffer("mask", mask, persistent=False)
        cosines, sines = rotary(torch.arange(s.prefix + own))
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        rate = torch.exp(torch.linspace(math.log(4e-3), math.log(4.0), s.expert_dim // 2))
        times = 1.0 - torch.arange(s.steps) / s.steps
        angle = 2 * math.pi * times[:, None] / rate[None]
        self.register_buffer("times", torch.cat([angle.sin(), angle.cos()], 1), persistent=False)

    def read(self, image: Tensor, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer of the prefix."""
        length = self.sizes.prefix
        turn = (self.cosines[:length], self.sines[:length])
        x = self.patches(image).flatten(2).transpose(1, 2) + self.places
        x = torch.cat([self.bridge(self.vision(x)), self.words(tokens)], dim=1)
        kept = []
        for index, layer in enumerate(self.prefix):
            q, k, v = layer.qkv(x, turn)
            kept.append((k, v))
            if index + 1 < len(self.prefix):
                x = layer.after(x, attend(q, k, v))
        return kept

    def velocity(
        self, kept: list[tuple[Tensor, Tensor]], state: Tensor, actions: Tensor, step: int
    ) -> Tensor:
        """What the expert makes of the noisy actions at this step's time."""
        s = self.sizes
        turn = (self.cosines[s.prefix :], self.sines[s.prefix :])
        time = self.times[step].expand(actions.shape[0], s.chunk, -1)
        embedded = self.time(torch.cat([self.action_in(actions), time], dim=-1))
        x = torch.cat([state, embedded], dim=1)
        for layer, (k_prefix, v_prefix) in zip(self.expert, kept, strict=True):
            q, k, v = layer.qkv(x, turn)
            k, v = torch.cat([k_prefix, k], dim=2), torch.cat([v_prefix, v], dim=2)
            x = layer.after(x, attend(q, k, v, self.mask))
        return self.action_out(self.norm(x)[:, 1:])

    def forward(self, image: Tensor, tokens: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        kept = self.read(image, tokens)
        own = self.state_in(state).unsqueeze(1)
        actions = noise
        for step in range(self.sizes.steps):
            actions = actions - self.velocity(kept, own, actions, step) / self.sizes.steps
        return actions


def made(s: Sizes) -> Made:
    def inputs() -> tuple[Tensor, ...]:
        image = torch.randn(1, 3, s.image, s.image)
        tokens = torch.randint(0, s.words, (1, s.tokens))
        return image, tokens, torch.randn(1, s.state), torch.randn(1, s.chunk, s.state)

    return seeded_with(lambda: VlaPolicy(s), inputs)


def factory() -> Made:
    return made(Sizes())


def small() -> Made:
    """Two layers, narrow, two steps, 28x28 pixels."""
    return made(
        Sizes(
            image=28,
            vision_dim=64,
            vision_layers=1,
            words=50,
            tokens=4,
            dim=64,
            expert_dim=32,
            heads=2,
            layers=2,
            chunk=5,
            steps=2,
        )
    )
