"""Tiny language models of transformers, and a dialogue with their Programs in the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec import interp
from edgec.frontends.torch_decoder import entry_lengths
from edgec.ir import Array, Program
from edgec.ops.token_choice import settings_of

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Mistral": {"sliding_window": 6},
    "Llama, scaled positions": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "Llama, tied": {"tie_word_embeddings": True},
    "Phi3": {"pad_token_id": 0},
    "Qwen3": {"head_dim": 8},
    "Gemma": {"head_dim": 8},
    "Glm": {"head_dim": 8, "pad_token_id": 0},
    "Cohere": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "Starcoder2": {},
}
LETTERS = "abcdefghijklmnopqrstuvwxyz "
PROMPT = np.array([3, 9, 27, 5, 1, 60, 33], np.int32)


def model(kind: str, seed: int = 0, **shape: int) -> Any:
    """A model of this kind with drawn weights, large enough that logits differ; `shape` changes SHAPE."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    name = kind.split(",")[0]
    config = getattr(transformers, name + "Config")(**(SHAPE | shape), **KINDS[kind])
    made = getattr(transformers, name + "ForCausalLM")(config).eval()
    torch.manual_seed(seed)
    for parameter in made.parameters():
        deviation = 0.3 * (SHAPE["hidden_size"] / parameter.shape[-1]) ** 0.5
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, deviation)
    return made


def save(made: Any, folder: Path) -> None:
    """A Hugging Face folder of the model with a tokenizer of letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made.save_pretrained(folder)
    words = {"<s>": 0, "</s>": 1, **{c: i + 2 for i, c in enumerate(LETTERS)}}
    words |= {chr(0x3B1 + i): i for i in range(len(words), 64)}
    letters = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    letters.pre_tokenizer, letters.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder)


def expected(made: Any, prompt: Array, count: int) -> list[int]:
    """The tokens that transformers' own greedy generation appends to `prompt`."""
    import torch

    ids = torch.tensor(prompt[None], dtype=torch.long)
    given = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found: list[int] = made.generate(ids, **given)[0, len(prompt) :].tolist()
    return found


class Session:
    """One instance of a Program in the interpreter."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.state: Mapping[str, Array] = {}

    def call(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by label."""
        graph = self.program.graph(entry)
        given = {p.ref: inputs[p.label] for p in graph.input_ports}
        found, self.state = interp.run(self.program, graph, given, self.state)
        return {p.label: found[p.ref] for p in graph.output_ports}

    def greedy(self, prompt: Array, count: int) -> list[int]:
        """`count` tokens after the prompt, which goes through the longest entries that fit."""
        self.call("begin", {"settings": settings_of(0.0, 0, 1.0, 0)})
        done = 0
        while done < len(prompt):
            n = next(n for n in entry_lengths(self.program.graphs) if n <= len(prompt) - done)
            out = self.call(f"prefill_{n}", {"tokens": prompt[done : done + n]})
            done += n
        tokens = [int(out["token"][0])]
        while len(tokens) < count:
            tokens.append(int(self.call("decode", {})["token"][0]))
        return tokens
