"""BERT-base (Devlin et al. 2019) and MiniLM-L6 (a sentence encoder) with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.models.seeded import Made, seeded_with


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the two networks differ in."""

    dim: int
    heads: int
    layers: int
    words: int = 30522
    tokens: int = 128


BASE = Sizes(768, 12, 12)
MINILM = Sizes(384, 12, 6)


class Attention(nn.Module):
    """Self-attention of x[N,T,dim] under a boolean mask [N,1,1,T]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=1e-12)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.norm2 = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.mlp(x))


class Bert(nn.Module):
    """tokens i64[N,T], mask i64[N,T] -> the last layer [N,T,dim], and the mean over the tokens of the mask [N,dim]."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.words = nn.Embedding(s.words, s.dim)
        self.positions = nn.Embedding(512, s.dim)
        self.kinds = nn.Embedding(2, s.dim)
        for table in (self.words, self.positions, self.kinds):
            nn.init.normal_(table.weight, std=0.02)
        self.norm = nn.LayerNorm(s.dim, eps=1e-12)
        self.layers = nn.ModuleList(Layer(s.dim, s.heads) for _ in range(s.layers))
        self.register_buffer("order", torch.arange(512), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        order = self.order[: tokens.shape[1]]
        x = self.words(tokens) + self.positions(order) + self.kinds(torch.zeros_like(tokens))
        x = self.norm(x)
        allowed = (mask != 0)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, allowed)
        weight = mask[..., None].to(x.dtype)
        return x, (x * weight).sum(dim=1) / weight.sum(dim=1)


def made(s: Sizes) -> Made:
    def inputs() -> tuple[Tensor, ...]:
        mask = torch.ones(1, s.tokens, dtype=torch.int64)
        mask[:, s.tokens - s.tokens // 4 :] = 0
        return torch.randint(0, s.words, (1, s.tokens)), mask

    return seeded_with(lambda: Bert(s), inputs)


def base() -> Made:
    return made(BASE)


def minilm() -> Made:
    return made(MINILM)


def small() -> Made:
    """Two layers of 64 channels, 16 tokens of 100 words."""
    return made(Sizes(64, 4, 2, 100, 16))
