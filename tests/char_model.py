"""A character-level transformer (RMS norms, grouped queries, SwiGLU), trained on the spot on Python's own manual, and
outlier channels that leave its function as it is.

About 430,000 parameters; a character costs 1.97 nats after half a minute on one core (3.2 where nothing but the
frequencies of characters is known).
"""

from __future__ import annotations

import copy
import functools
import math
import pydoc_data.topics
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgec import interp, pipeline
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, Program

LENGTH, BATCH, WIDTH, HIDDEN, LAYERS, HEADS, KEY_HEADS, VOCABULARY = 64, 16, 128, 384, 2, 4, 2, 96
STEPS, OUTLIERS, FACTOR = 600, 40, 200.0


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (WIDTH,), self.weight, 1e-5)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depth = WIDTH // HEADS
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, KEY_HEADS * self.depth, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        q, k, v = (f(x).view(n, t, -1, self.depth).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).reshape(n, t, WIDTH))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention, self.post, self.mlp = Norm(), Attention(), Norm(), Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.post(x))


class Characters(nn.Module):
    """Logits of the next character for tokens[N, LENGTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = Norm(), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


@functools.cache
def characters() -> Array:
    """The manual as codes 0..95: printable ASCII, all else 95."""
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 32
    return np.where((codes < 0) | (codes > 94), 95, codes)


def batches(count: int, seed: int, held_out: bool = False) -> list[Array]:
    """[BATCH, LENGTH + 1] characters each; the last tenth of the text is held out."""
    text = characters()
    cut = len(text) * 9 // 10
    part = text[cut:] if held_out else text[:cut]
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(part) - LENGTH - 1, (count, BATCH))
    return [np.stack([part[s : s + LENGTH + 1] for s in row]) for row in starts]


@functools.cache
def trained() -> Characters:
    """The model after STEPS steps of AdamW; the same in every run on one kind of processor."""
    torch.manual_seed(0)
    model = Characters()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
    for step, batch in enumerate(batches(STEPS, 1)):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        tokens = torch.from_numpy(batch)
        logits = model(tokens[:, :-1])
        loss = functional.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def with_outliers(model: Characters, factor: float = FACTOR) -> Characters:
    """The same function with OUTLIERS channels of each linear layer's input `factor` times as large: gains and rows
    of v and up are multiplied, the columns that read them divided."""
    spiked = copy.deepcopy(model)
    rng = np.random.default_rng(7)

    def spread(rows: Any, readers: list[Any], repeat: int = 1) -> None:
        size = rows.shape[0]
        chosen = torch.ones(size)
        chosen[torch.from_numpy(rng.choice(size, OUTLIERS, replace=False))] = factor
        rows *= chosen.reshape(-1, *[1] * (rows.dim() - 1))
        columns = (
            chosen.reshape(KEY_HEADS, 1, -1).expand(-1, repeat, -1).reshape(-1) if repeat > 1 else chosen
        )
        for w in readers:
            w /= columns

    with torch.no_grad():
        for layer in spiked.layers:
            a, m = layer.attention, layer.mlp
            spread(layer.norm.weight, [a.q.weight, a.k.weight, a.v.weight])
            spread(a.v.weight, [a.o.weight], HEADS // KEY_HEADS)
            spread(layer.post.weight, [m.gate.weight, m.up.weight])
            spread(m.up.weight, [m.down.weight])
    return spiked


def program_of(model: Characters) -> Program:
    """The float32 Program after all passes that keep its meaning."""
    tokens = torch.zeros(BATCH, LENGTH, dtype=torch.int32)
    options = pipeline.Options(precision="fp32")
    return pipeline.run(load(model, LoadOptions((tokens,))), pipeline.float_steps(), options, {}).program


def samples(count: int, seed: int = 2) -> list[dict[str, Array]]:
    """Calibration inputs of the Program."""
    return [{"tokens": b[:, :-1].astype(np.int32)} for b in batches(count, seed)]


def cross_entropy(program: Program, count: int = 6) -> float:
    """Nats a character on held-out text, by the interpreter."""
    graph, losses = program.graphs[0], []
    for batch in batches(count, 3, held_out=True):
        outputs, _ = interp.run(program, graph, {graph.inputs[0].name: batch[:, :-1].astype(np.int32)})
        logits = np.asarray(outputs[graph.outputs[0]], np.float64)
        top = logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
        right = np.take_along_axis(logits, batch[:, 1:, None], -1)[..., 0]
        losses.append(float((log_sum - right).mean()))
    return float(np.mean(losses))
