"""Language models on a GPU: the tokens of transformers in fp32, logits near them in half precision.

python tests/cuda/test_decoder.py [w4a16 Llama ...]     one line a check
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec import compiler, generate
from edgec.cuda.library import Instance, Library
from edgec.frontends import DecoderOptions
from edgec.ir import Array
from edgec.ops.token_choice import settings_of
from edgec.pipeline import Options
from tests.decoders import Session, expected, model

SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
KINDS = ("Llama", "Qwen2", "Mistral", "Llama, scaled positions", "Llama, tied")
PROMPT = np.random.default_rng(1).integers(0, 1000, 77).astype(np.int32)
TOLERANCE = {
    "fp32": 1e-3,
    "fp16": 2e-2,
    "bf16": 8e-2,
}  # of the largest logit; bf16 has 3 bits fewer than fp16


class Loaded:
    """A compiled model on the GPU, its arena filled with NaN before the first call."""

    def __init__(self, made: Any, precision: str, place: str) -> None:
        options = DecoderOptions(context=256, prefill=(16, 64), logits=True)
        request = compiler.Request(made, "h200", Options(precision=precision), name="lm", decoder=options)  # type: ignore[arg-type]
        folder = Path(place) / "artifact"
        compiled = compiler.plan(request)
        compiler.write(compiled, folder)
        self.program = compiled.done.program
        self.library = Library(folder)
        self.instance: Instance = self.library.instance()
        self.instance.fill(0xFF)
        self.entries = list(self.library.entries)

    def close(self) -> None:
        self.instance.close()
        self.library.close()

    def tokens(self, count: int, sampling: generate.Sampling) -> list[int]:
        """New tokens after PROMPT."""
        found = generate.tokens(self.instance, self.entries, PROMPT.tolist(), count, sampling)
        return list(found)

    def logits(self) -> Array:
        """Of the last token of PROMPT, and of the next two tokens, on the GPU."""
        return prompted(self.instance.run)

    def interpreted(self) -> Array:
        """The same by the interpreter."""
        return prompted(Session(self.program).call)


def prompted(call: Any) -> Array:
    """Logits f32[3,V] of the last token of PROMPT and of two decode steps; `call` as Instance.run."""
    call("begin", {"settings": settings_of(0.0, 0, 1.0, 0)})
    for begin, length in generate.chunks(len(PROMPT), (64, 16, 1)):
        out = call(f"prefill_{length}", {"tokens": PROMPT[begin : begin + length]})
    rows = [out["logits"], *(call("decode", {})["logits"] for _ in range(2))]
    return np.concatenate(rows).astype(np.float32)


def tokens_that_differ(kind: str, precision: str) -> int:
    """How many of 40 greedy tokens are not those of transformers in float32."""
    made = model(kind, **SHAPE)
    with tempfile.TemporaryDirectory() as place:
        loaded = Loaded(made, precision, place)
        found = loaded.tokens(40, generate.Sampling())
        again = loaded.tokens(40, generate.Sampling())
        loaded.close()
    assert found == again, "a second text differs from the first"
    return sum(a != b for a, b in zip(found, expected(made, PROMPT, 40), strict=True))


def logits_distance(kind: str, precision: str) -> float:
    """Largest difference of the prompt's last logits, relative to the largest."""
    import torch

    made = model(kind, **SHAPE)
    with torch.no_grad():
        wanted = made(torch.tensor(PROMPT[None]).long()).logits[0, -1:].float().numpy()
    with tempfile.TemporaryDirectory() as place:
        loaded = Loaded(made, precision, place)
        found = loaded.logits()[:1]
        loaded.close()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def interpreter_distance(precision: str) -> float:
    """Largest difference of logits from the interpreter's on the same quantised Program, relative to the largest."""
    with tempfile.TemporaryDirectory() as place:
        loaded = Loaded(model("Llama", **SHAPE), precision, place)
        found, wanted = loaded.logits(), loaded.interpreted()
        loaded.close()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_in_fp32_are_those_of_transformers(kind: str) -> None:
    assert tokens_that_differ(kind, "fp32") == 0


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_logits_are_near_those_of_transformers(kind: str, precision: str) -> None:
    assert logits_distance(kind, precision) <= TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["w4a16", "w8a8"])
def test_low_precisions_are_near_the_interpreter(precision: str) -> None:
    assert interpreter_distance(precision) <= TOLERANCE["fp16"]


def test_a_seed_gives_the_same_text_again() -> None:
    with tempfile.TemporaryDirectory() as place:
        loaded = Loaded(model("Llama", **SHAPE), "fp16", place)
        one, two, other = (loaded.tokens(30, generate.Sampling(1.0, 50, 0.9, seed)) for seed in (3, 3, 4))
        loaded.close()
    assert one == two
    assert one != other


def main(wanted: list[str]) -> int:
    """Every check whose label holds one of `wanted` (all: none given) in one line; a failure does not end the rest."""
    failed = 0
    checks = [(f"{k} fp32: tokens that differ", lambda k=k: tokens_that_differ(k, "fp32")) for k in KINDS]
    checks += [
        (f"{k} {p}: logits' distance", lambda k=k, p=p: logits_distance(k, p))
        for k in ("Llama", "Mistral")
        for p in TOLERANCE
    ]
    checks += [(f"{p}: from the interpreter", lambda p=p: interpreter_distance(p)) for p in ("w4a16", "w8a8")]
    for label, check in checks:
        if wanted and not any(w in label for w in wanted):
            continue
        try:
            print(f"{label} {check():.3g}", flush=True)
        except Exception as error:
            failed += 1
            print(f"{label} FAILED {type(error).__name__}: {str(error)[:800]}", flush=True)
            traceback.print_exc(limit=-3)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
