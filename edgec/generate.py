"""Generating text with an artifact of a language model: the prompt through the prefill entries, then decode steps.

Works on any instance that keeps its state between calls (`Runner`): the CUDA library in this process, or the host's.
Token, position and sampling stay on the device; a step gives one token back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from edgec.errors import TargetError, UserError
from edgec.ir import Array
from edgec.ops.token_choice import settings_of

if TYPE_CHECKING:
    from edgec.artifact import Artifact

MAX_TEMPERATURE: Final = 1000.0
NEEDED: Final = ("begin", "prefill_1", "decode")


class Runner(Protocol):
    """One instance of a compiled model."""

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one call by label; state lives on."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. `temperature` 0: the likeliest. `top_k` 0: of all tokens. `top_p`: of the likeliest that
    hold this share."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(slots=True)
class Speed:
    """What a generation took; `context`: of its cache. `first_s`: until the first token, the prompt included;
    `decode_s`: all tokens after."""

    prompt_tokens: int = 0
    tokens: int = 0
    context: int = 0
    first_s: float = 0.0
    decode_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Of the decode steps."""
        return (self.tokens - 1) / self.decode_s if self.tokens > 1 and self.decode_s > 0 else 0.0

    @property
    def prompt_per_s(self) -> float:
        """Tokens of the prompt a second."""
        return self.prompt_tokens / self.first_s if self.first_s > 0 else 0.0


def check_sampling(sampling: Sampling) -> None:
    """Raise UserError EDGEC-E243 for values outside of their range."""
    checks = (
        ("temperature", sampling.temperature, 0.0 <= sampling.temperature <= MAX_TEMPERATURE, "0 to 1000"),
        ("top_k", sampling.top_k, 0 <= sampling.top_k < 1 << 31, "0 (all tokens) or more"),
        ("top_p", sampling.top_p, 0.0 < sampling.top_p <= 1.0, "above 0, up to 1"),
    )
    for name, value, holds, wanted in checks:
        if not holds:
            raise UserError("EDGEC-E243", f"choose a {name} of {wanted}: {value} was given")


def tokens(
    runner: Runner,
    entries: Sequence[str],
    prompt: Sequence[int],
    most: int,
    sampling: Sampling = Sampling(),
    stop: frozenset[int] = frozenset(),
    speed: Speed | None = None,
) -> Iterator[int]:
    """The tokens that follow `prompt`, at most `most` of them and as many as the cache holds; one of `stop` is the
    last. `entries`: names of the program's entries. Raises UserError EDGEC-E240 to -E243."""
    speed = speed if speed is not None else Speed()
    lengths = _lengths(entries)
    check_sampling(sampling)
    if not len(prompt):
        raise UserError(
            "EDGEC-E241", "give a prompt: it holds no token, and a model continues what it is given"
        )
    settings = settings_of(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed)
    context = int(runner.run("begin", {"settings": settings})["context"][0])
    if len(prompt) > context:
        raise UserError(
            "EDGEC-E242",
            f"shorten the prompt, or compile with a larger --context: it has {len(prompt)} tokens, the cache of this "
            f"artifact holds {context}",
        )
    if most < 1:
        return
    began = time.perf_counter()
    last = 0
    for begin, length in chunks(len(prompt), lengths):
        ids = np.asarray(prompt[begin : begin + length], np.int32)
        last = int(runner.run(f"prefill_{length}", {"tokens": ids})["token"][0])
    now = time.perf_counter()
    speed.context, speed.prompt_tokens, speed.first_s, speed.tokens = context, len(prompt), now - began, 1
    yield last
    room = context - len(prompt) + 1
    while speed.tokens < min(most, room) and last not in stop:
        began = time.perf_counter()
        last = int(runner.run("decode", {})["token"][0])
        speed.tokens += 1
        speed.decode_s += time.perf_counter() - began  # without what the caller does with the token
        yield last


def _lengths(entries: Sequence[str]) -> tuple[int, ...]:
    """Prefill lengths, longest first. Raises UserError EDGEC-E240."""
    if not set(NEEDED) <= set(entries):
        raise UserError(
            "EDGEC-E240",
            f"compile a language model (a folder of transformers, or such a module): this artifact has the entries "
            f"{', '.join(entries)}, generating takes begin, prefill_1 and decode",
        )
    found = (name.removeprefix("prefill_") for name in entries if name.startswith("prefill_"))
    return tuple(sorted(map(int, found), reverse=True))


def chunks(count: int, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(begin, length) of the prefill calls for `count` tokens: always the longest that fits; one length is 1."""
    begin = 0
    while begin < count:
        length = next(n for n in lengths if n <= count - begin)
        yield begin, length
        begin += length


# Artifacts


@contextmanager
def opened(artifact: Artifact, on: str | None) -> Iterator[Runner]:
    """A fresh instance of the artifact on this computer ("host") or its GPU ("cuda"); None: where it belongs. Raises
    UserError EDGEC-E239 for a place that it is not for."""
    own = "cuda" if artifact.target.family == "cuda" else "host"
    if on not in (None, own):
        raise UserError("EDGEC-E239", f"use --on {own}: {artifact.folder} is for {artifact.target.name}")
    if own == "host":
        from edgec.host_library import HostInstance

        yield HostInstance(artifact)
        return
    from edgec.cuda.library import Library
    from edgec.cuda.run import UserInstance

    library = Library(artifact.folder)
    instance = library.instance()
    try:
        yield UserInstance(instance)
    finally:
        instance.close()
        library.close()


def bytes_per_token(artifact: Artifact, context: int, tokens_seen: float) -> int:
    """What a decode step reads: every weight but the embedding's table, and the cache of `tokens_seen` tokens."""
    entry = next(e for e in artifact.report()["entries"] if e["name"] == "decode")
    weights = sum(row["constant_bytes"] for row in entry["layers"] if "embedding" not in row["op"])
    caches = sum(a["persistent_bytes"] for a in artifact.manifest["arenas"])
    return int(weights + caches * min(tokens_seen / context, 1.0))


def figures(artifact: Artifact, speed: Speed) -> dict[str, float | int | None]:
    """Speed as numbers. `bound_share`: of the rate at which the target's memory could give the bytes of a token; None
    for a target without a stated bandwidth."""
    gpu = artifact.target.gpu
    seen = speed.prompt_tokens + speed.tokens / 2
    needed = bytes_per_token(artifact, max(speed.context, 1), seen)
    bound = gpu.bandwidth / needed if gpu is not None and needed else None
    return {
        "prompt_tokens": speed.prompt_tokens,
        "tokens": speed.tokens,
        "prompt_tokens_per_s": round(speed.prompt_per_s, 2),
        "tokens_per_s": round(speed.tokens_per_s, 2),
        "bytes_per_token": needed,
        "bound_share": None if bound is None else round(speed.tokens_per_s / bound, 4),
    }


def summary(artifact: Artifact, speed: Speed) -> str:
    """Speed in one line."""
    f = figures(artifact, speed)
    line = (
        f"prompt {f['prompt_tokens']} tokens, {f['prompt_tokens_per_s']:,.1f} tokens/s; "
        f"{f['tokens']} new tokens, {f['tokens_per_s']:,.1f} tokens/s"
    )
    if f["bound_share"] is not None:
        line += (
            f" ({f['bound_share']:.0%} of the bandwidth bound: {f['bytes_per_token']:,} B a token, "
            f"{artifact.target.name} reads {artifact.target.gpu.bandwidth / 1e9:,.0f} GB/s)"  # type: ignore[union-attr]
        )
    return line


# Text


class Tokenizer:
    """A tokenizer of transformers from its folder. Raises UserError EDGEC-E245, TargetError EDGEC-EA06."""

    def __init__(self, folder: Path) -> None:
        try:
            import transformers
        except ImportError:
            raise TargetError(
                "EDGEC-EA06",
                "run pip install 'edgec[lm]': tokenizers need transformers, which is not installed",
            ) from None
        if not folder.is_dir():
            raise UserError("EDGEC-E245", f"give a folder with a tokenizer: {folder} is none")
        try:
            self._own: Any = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # of whatever is wrong with the files
            raise UserError(
                "EDGEC-E245",
                "give a folder with a tokenizer (tokenizer.json or what transformers saved): that of "
                f"{folder} cannot be read ({type(error).__name__})",
            ) from None

    @property
    def stop(self) -> frozenset[int]:
        """The tokens that end a text."""
        end = self._own.eos_token_id
        return frozenset(() if end is None else (int(end),))

    def encode(self, text: str) -> list[int]:
        """Token ids, with those that the model expects at the start."""
        return [int(i) for i in self._own.encode(text)] if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._own.decode(list(ids), skip_special_tokens=True))


def stream_text(found: Iterator[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """The text of the tokens, piece by piece; a character that several tokens make comes when it is whole.

    Only the last tokens are decoded again: those of the piece before, on which spaces may depend, and the new ones.
    """
    ids: list[int] = []
    start = told = 0  # ids[start:told] is the piece before
    for token in found:
        ids.append(token)
        before, now = decode(ids[start:told]), decode(ids[start:])
        if len(now) > len(before) and not now.endswith("\N{REPLACEMENT CHARACTER}"):
            yield now[len(before) :]
            start, told = told, len(ids)
    rest = decode(ids[start:])[len(decode(ids[start:told])) :]
    if rest:
        yield rest
