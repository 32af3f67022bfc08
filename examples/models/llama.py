"""Llama-3 shapes (1B and 8B) with random weights that are drawn tensor by tensor when they are read.

The model is transformers' own LlamaForCausalLM without its weights; compiling it holds one tensor at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from edgec.frontends import DecoderOptions
from edgec.frontends.model_folder import empty_model, require_transformers
from edgec.frontends.torch_decoder import import_decoder
from edgec.frontends.torch_export import Weights
from edgec.ir import Array, Constant, DType, Program, Type
from edgec.lazy import described

STD: Final = 0.02  # of a weight, as Llama is initialised
PIECE: Final = 1 << 22  # elements drawn at a time
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "tie_word_embeddings": True,
    },
}


def config(shape: str, layers: int | None = None) -> Any:
    """LlamaConfig of a shape in SHAPES, with fewer layers where asked for."""
    fields = SHAPES[shape] | ({} if layers is None else {"num_hidden_layers": layers})
    return require_transformers().LlamaConfig(**fields)


def drawn(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """float32: uniform of deviation STD for matrices, about 1 for gains; the same for the same name and seed."""
    key = hashlib.sha256(f"{seed} {name}".encode()).digest()
    rng = np.random.Generator(np.random.SFC64(np.frombuffer(key, np.uint32)))
    centre, reach = (1.0, 0.1) if len(shape) == 1 else (0.0, STD * 3.0**0.5)
    out = np.empty(shape, np.float32)
    flat = out.reshape(-1)
    for begin in range(0, flat.size, PIECE):  # so that there is never a second array of this size
        part = flat[begin : begin + PIECE]
        part[:] = rng.integers(-(1 << 15), 1 << 15, part.size, np.int16)
        part *= np.float32(reach / (1 << 15))
        part += np.float32(centre)
    return out


def random_weights(shapes: Mapping[str, tuple[int, ...]], tied: bool, seed: int = 0) -> Weights:
    """A constant for each name, drawn each time it is read. `tied`: the head is the embedding's table."""

    def weights(name: str) -> Constant | None:
        if name not in shapes:
            return None
        own = "model.embed_tokens.weight" if tied and name == "lm_head.weight" else name
        t = Type(shapes[own], DType.F32)
        return described(t, lambda: drawn(own, shapes[own], seed), "drawn", own, seed)

    return weights


def llama(shape: str, options: DecoderOptions, layers: int | None = None, seed: int = 0) -> Program:
    """The Program of a shape: prefill entries, decode, begin."""
    chosen = config(shape, layers)
    model = empty_model(chosen)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return import_decoder(model, options, random_weights(shapes, bool(chosen.tie_word_embeddings), seed))
