"""In which language is a passage written? Passages of files that this machine holds, those of the test unseen in
training, and a body that has learnt to fill in masked words of the training files.

Everything is drawn from a seed; another machine holds other files.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from edgec.ir import Array
from edgec.training.options import Scheme, WeightSlice
from examples.models.bert import Bert, Sizes

BUILD: Final = Path(__file__).resolve().parents[1] / "build"
KINDS: Final = {
    "Python": (sysconfig.get_paths()["stdlib"], "*.py"),
    "C": ("/usr/include", "*.h"),
    "C++": ("/usr/include/c++", "*"),
    "Perl": ("/usr/share/perl", "*.pm"),
    "CMake": ("/usr/share", "*.cmake"),
    "Vim": ("/usr/share/vim", "*.vim"),
    "XML": ("/usr/share", "*.xml"),
    "HTML": ("/usr/share/doc", "*.html"),
}
FILES, LEAST_FILES, FILE_BYTES = 120, 40, 16 << 10  # of a kind; of a file's beginning
WORDS, TOKENS, LEAST = 2048, 64, 32
PAD, UNKNOWN, MASKED, FIRST = 0, 1, 2, 3
SIZES: Final = Sizes(192, 4, 6, WORDS, TOKENS)
READ_AT_ONCE, READING_RATE = 16, 5e-4
TRAIN, TEST = 400, 125  # passages of a kind, at most
LINEARS: Final = ("attention.query", "attention.key", "attention.value", "attention.out", "mlp.0", "mlp.2")
BATCH: Final = 8
_WORD: Final = re.compile(r"[A-Za-z]+|[0-9]+|\n|[^\sA-Za-z0-9]")


class Classifier(nn.Module):
    """tokens i64[N,T], mask i64[N,T] -> logits[N,classes] of the mean over the tokens of the mask."""

    def __init__(self, body: Bert, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.norm.normalized_shape[0], classes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.body(tokens, mask)[1])


def sparse_scheme() -> Scheme:
    """Biases of the last half of the blocks, weights of the last third."""
    count = SIZES.layers
    blocks = range(count - count // 3, count)
    layers = [f"body.layers.{i}.{part}" for i in blocks for part in LINEARS]
    return Scheme(len(LINEARS) * (count // 2), tuple(WeightSlice(layer, None, 1.0) for layer in layers))


def trains_sparsely(parameter: str) -> bool:
    """Whether PyTorch's parameter of this name trains in the same scheme."""
    if parameter.startswith("head."):
        return True
    found = re.fullmatch(r"body\.layers\.(\d+)\.(.+)\.(weight|bias)", parameter)
    if found is None or found[2] not in LINEARS:
        return False
    block = int(found[1])
    if found[3] == "bias":
        return block >= SIZES.layers - SIZES.layers // 2
    return block >= SIZES.layers - SIZES.layers // 3


@dataclass(frozen=True, slots=True)
class Passages:
    """tokens i32[N,T], padded behind the mask i32[N,T]; label i32[N]."""

    tokens: Array
    mask: Array
    label: Array


@dataclass(frozen=True, slots=True)
class Task:
    """`reading`: passages of all training files, for the body alone."""

    train: Passages
    test: Passages
    reading: Passages


def task(seed: int) -> Task:
    """The passages of a seed: a quarter of each kind's files is the test."""
    rng = np.random.default_rng(seed)
    kept: list[tuple[int, str]] = []
    held: list[tuple[int, str]] = []
    for label, (kind, (folder, pattern)) in enumerate(KINDS.items()):
        found = [p for p in sorted(Path(folder).rglob(pattern)) if p.is_file()]
        if len(found) < LEAST_FILES:
            raise SystemExit(
                f"{folder} holds {len(found)} files {pattern}: the task needs {LEAST_FILES} of {kind}"
            )
        chosen = [found[i] for i in rng.permutation(len(found))[:FILES]]
        texts = [p.read_bytes()[:FILE_BYTES].decode("utf-8", "replace") for p in chosen]
        held += [(label, text) for text in texts[: len(texts) // 4]]
        kept += [(label, text) for text in texts[len(texts) // 4 :]]
    counts = Counter(word for _, text in kept for word in _WORD.findall(text))
    number = {w: FIRST + i for i, (w, _) in enumerate(counts.most_common(WORDS - FIRST))}
    reading = _passages(kept, number)
    return Task(_balanced(reading, TRAIN, rng), _balanced(_passages(held, number), TEST, rng), reading)


def _passages(texts: list[tuple[int, str]], number: dict[str, int]) -> Passages:
    rows, masks, labels = [], [], []
    for label, text in texts:
        words = [number.get(w, UNKNOWN) for w in _WORD.findall(text)]
        for at in range(0, len(words), TOKENS):
            part = words[at : at + TOKENS]
            if len(part) >= LEAST:
                rows.append(part + [PAD] * (TOKENS - len(part)))
                masks.append([1] * len(part) + [0] * (TOKENS - len(part)))
                labels.append(label)
    return Passages(*(np.array(x, np.int32) for x in (rows, masks, labels)))


def _balanced(passages: Passages, most: int, rng: np.random.Generator) -> Passages:
    """At most so many passages of each kind, mixed."""
    order = rng.permutation(len(passages.label))
    chosen = [[i for i in order if passages.label[i] == label][:most] for label in range(len(KINDS))]
    at = rng.permutation([i for part in chosen for i in part])
    return Passages(passages.tokens[at], passages.mask[at], passages.label[at])


def batches(passages: Passages, size: int, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Batches by input name, without end: each epoch in another order, what fills no batch left out."""
    while True:
        order = rng.permutation(len(passages.label))
        for at in range(0, len(order) - size + 1, size):
            yield batch(passages, order[at : at + size])


def batch(passages: Passages, rows: Array) -> dict[str, Array]:
    """These passages by input name."""
    return {
        "tokens": passages.tokens[rows],
        "mask": passages.mask[rows],
        "label": passages.label[rows],
    }


def fresh() -> Bert:
    """A body with BERT's own initial weights; PyTorch's larger ones let a norm behind each sum forget its words."""
    body = Bert(SIZES)
    for layer in body.layers.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return body


def read(passages: Passages, steps: int, seed: int) -> Bert:
    """A body that has filled in masked words, 15 of 100, in so many batches; that of an earlier call where it has read
    the same passages."""
    digest = hashlib.sha256(passages.tokens.tobytes() + torch.__version__.encode()).hexdigest()[:16]
    kept = BUILD / f"text_body-{steps}-{seed}-{digest}.pt"
    if kept.is_file():
        body = fresh()
        body.load_state_dict(torch.load(kept, weights_only=True))
        print(f"the body of {kept}", flush=True)
        return body.requires_grad_(False)
    body = _reader(passages, steps, seed)
    BUILD.mkdir(exist_ok=True)
    torch.save(body.state_dict(), kept)
    return body.requires_grad_(False)


def _reader(passages: Passages, steps: int, seed: int) -> Bert:
    torch.manual_seed(seed)
    body = fresh()
    out = nn.Linear(SIZES.dim, WORDS)
    parameters = [*body.parameters(), *out.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=READING_RATE)
    rng = np.random.default_rng(seed)
    for step, given in zip(range(steps), batches(passages, READ_AT_ONCE, rng), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = READING_RATE * min(1.0, (step + 1) / 30, 2 * (1 - step / steps))
        tokens, mask = (torch.from_numpy(given[n]).long() for n in ("tokens", "mask"))
        hidden = torch.from_numpy(rng.random(tokens.shape) < 0.15) & (mask == 1)
        x, _ = body(tokens.masked_fill(hidden, MASKED), mask)
        loss = nn.functional.cross_entropy(out(x[hidden]), tokens[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"the body has read {steps} batches, loss {loss.item():.2f}", flush=True)
    return body
