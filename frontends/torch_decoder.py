"""A decoder-only language model becomes a Program of entries that share weights, caches and sampling state.

    begin      settings i32[4] -> context      a new text: position 0, how to sample (edgec/ops/token_choice.py)
    prefill_N  tokens i32[N] -> token i32[1]   N tokens of the prompt, for each chosen N and for 1
    decode     -> token i32[1]                 the last token, which is state, gives the next

States: position i32[1] (tokens in the caches), token i32[1], settings i32[4], context i32[1] (S, which never changes)
and each layer's keys and values [1,B,S,D]. The models of Hugging Face come in unmodified: their attention is replaced
through the interface that transformers has for it (ALL_ATTENTION_FUNCTIONS) by one operator that updates the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.build import Builder, constant
from edgec.errors import UserError
from edgec.frontends.checkpoint import first_line
from edgec.frontends.decoder_options import DecoderOptions
from edgec.frontends.merge import merge
from edgec.frontends.quiet import quiet
from edgec.frontends.torch_export import Weights, import_program
from edgec.frontends.torch_weights import Held, lazy_constant_of
from edgec.ir import Constant, DType, Graph, Loc, Node, Persistence, Program, State, Type
from edgec.lazy import zeros
from edgec.ops.token_choice import SETTINGS

if TYPE_CHECKING:
    import torch

INTERFACE: Final = "edgec"  # name of our attention function among those of transformers
INSIDE: Final = "model."  # where the wrapper holds the user's model
REFUSED: Final = ("softcap", "s_aux", "head_mask")  # arguments of attention that change its formula


def is_decoder(model: Any) -> bool:
    """Whether `model` is a model of transformers that generates text from text."""
    inside = any(c.__module__.startswith("transformers.") for c in type(model).__mro__)
    config = getattr(model, "config", None)
    whole = hasattr(config, "get_text_config") and not getattr(config, "is_encoder_decoder", False)
    return inside and whole and bool(model.can_generate())


def import_decoder(
    model: torch.nn.Module, options: DecoderOptions, weights: Weights | None = None
) -> Program:
    """The Program of a decoder-only model of transformers.

    `weights` gives the constant of each parameter by its name in the model; None: the model's own tensors, read
    where they lie. Raises UserError EDGEC-E34x for what is no such model or does not fit the options, and what
    import_program raises.
    """
    _check(model, options)
    source = _Cached(weights if weights is not None else own_weights(model))
    programs = [_exported(model, n, options, source) for n in options.lengths]
    entries = [_entry(p, f"prefill_{n}", options) for n, p in zip(options.lengths, programs, strict=True)]
    # The longest prefill first: it is the entry that calibration runs.
    return merge([*reversed(entries), _decode(entries[0]), _begin(options)])


def own_weights(model: torch.nn.Module) -> Weights:
    """The parameters of `model` where they lie."""
    parameters = dict(model.named_parameters(remove_duplicate=False))

    def weights(name: str) -> Constant | None:
        return lazy_constant_of(Held(parameters[name], name, True)) if name in parameters else None

    return weights


class _Cached:
    """Weights by the wrapper's names; each is asked for once."""

    def __init__(self, source: Weights) -> None:
        self.source = source
        self.found: dict[str, Constant | None] = {}

    def __call__(self, name: str) -> Constant | None:
        name = name.removeprefix(INSIDE)
        if name not in self.found:
            self.found[name] = self.source(name)
        return self.found[name]


def _check(model: Any, options: DecoderOptions) -> None:
    kind = type(model).__name__
    if not is_decoder(model):
        raise UserError(
            "EDGEC-E349",
            f"give a decoder-only model of transformers, such as LlamaForCausalLM: {kind} generates no text by itself",
        )
    if not getattr(model, "_supports_attention_backend", False):
        raise UserError(
            "EDGEC-E341",
            f"choose a model whose attention transformers lets us replace (Llama, Qwen2, Mistral and most newer "
            f"ones): {kind} has its own (_supports_attention_backend is not set)",
        )
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or options.context
    bad = [n for n in options.lengths if not 1 <= n <= options.context]
    context_fits = 2 <= options.context <= longest
    if not context_fits or bad:
        what = f"prefill of {bad[0]}" if context_fits else f"context of {options.context}"
        raise UserError(
            "EDGEC-E342",
            f"choose a context of 2 to {longest} tokens (max_position_embeddings of {kind}) and prefill lengths "
            f"within it: a {what} was asked for, the context being {options.context}",
        )


# Export


def _exported(model: Any, tokens: int, options: DecoderOptions, weights: Weights) -> Program:
    """The Program with the one graph `infer` over `tokens` tokens."""
    import torch

    wrapper = _wrapper(model, tokens, options.context)
    with _replaced_attention(model, wrapper.attend), quiet():
        try:
            exported = torch.export.export(wrapper, (torch.zeros(tokens, dtype=torch.long),))
        except UserError:
            raise
        except Exception as error:  # whatever the model's forward raises
            raise UserError(
                "EDGEC-E343",
                f"check that {type(model).__name__} runs with a static cache in transformers: its export failed with "
                f"{type(error).__name__}: {first_line(error)}",
            ) from error
    return import_program(exported, weights)


@contextmanager
def _replaced_attention(model: Any, attend: Callable[..., Any]) -> Iterator[None]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config, was_training = model.config.get_text_config(), model.training
    before = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(INTERFACE, attend)
    model.eval()
    config._attn_implementation = INTERFACE
    try:
        yield
    finally:
        config._attn_implementation = before
        model.train(was_training)


def _operator() -> Any:
    """edgec::cached_attention, registered with PyTorch when first needed; it only stands in exported graphs."""
    import torch

    if hasattr(torch.ops, "edgec") and hasattr(torch.ops.edgec, "cached_attention"):
        return torch.ops.edgec.cached_attention
    schema = (
        "(Tensor q, Tensor k, Tensor v, Tensor keys, Tensor values, Tensor position, float scale, int window)"
        " -> (Tensor, Tensor, Tensor)"
    )
    torch.library.define("edgec::cached_attention", schema)

    def shapes(
        q: Any, k: Any, v: Any, keys: Any, values: Any, position: Any, scale: float, window: int
    ) -> Any:
        y = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])
        return y, torch.empty_like(keys), torch.empty_like(values)

    torch.library.register_fake("edgec::cached_attention", shapes)
    return torch.ops.edgec.cached_attention


def _wrapper(model: Any, tokens: int, context: int) -> Any:
    """A module from token ids to the last logits that holds the caches and the position as buffers."""
    import torch
    from transformers.cache_utils import Cache, CacheLayerMixin

    config, operator = model.config.get_text_config(), _operator()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    class Layer(CacheLayerMixin):  # type: ignore[no-untyped-call,unused-ignore]
        """Hands the new keys and values to the attention, which updates the caches."""

        is_compileable, is_sliding = True, False

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
            self.is_initialized = True

        def lazy_initialization(self, *args: Any) -> None: ...

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            return key_states, value_states

        def get_seq_length(self) -> int:
            return 0

        def get_max_length(self) -> int:
            return context

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return context, 0

    class Wrapper(torch.nn.Module):
        position: Any
        model: Any

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("position", torch.zeros(1, dtype=torch.long))
            for i in range(config.num_hidden_layers):
                for name in ("keys", "values"):
                    self.register_buffer(
                        f"{name}.{i}".replace(".", "_"), torch.zeros(1, heads, context, depth)
                    )
            self.cache = Cache(layers=[Layer() for _ in range(config.num_hidden_layers)])

        def attend(self, module: Any, query: Any, key: Any, value: Any, mask: Any, **given: Any) -> Any:
            _check_attention(model, mask, given)
            keys, values = (self.get_buffer(f"{n}_{module.layer_idx}") for n in ("keys", "values"))
            scale, window = given.get("scaling"), given.get("sliding_window") or 0
            scale = depth**-0.5 if scale is None else scale
            y, new_keys, new_values = operator(query, key, value, keys, values, self.position, scale, window)
            keys.copy_(new_keys)
            values.copy_(new_values)
            return y, None

        def forward(self, ids: Any) -> Any:
            place = (self.position + torch.arange(tokens))[None]
            logits = self.model(
                input_ids=ids[None],
                position_ids=place,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            self.position.add_(tokens)
            return logits.reshape(1, logits.shape[-1])

    return Wrapper()


def _check_attention(model: Any, mask: Any, given: dict[str, Any]) -> None:
    odd = [name for name in REFUSED if given.get(name) is not None]
    if mask is not None or odd:
        what = ", ".join(odd) or "a mask of its own"
        raise UserError(
            "EDGEC-E344",
            f"choose a model whose attention is softmax(scale q k^T) v, causal or with a sliding window: that of "
            f"{type(model).__name__} has {what}",
        )


# Entries


def _entry(program: Program, name: str, options: DecoderOptions) -> Program:
    """The imported graph with the choice of the next token at its end."""
    program = _without_wrapper(program)
    graph = program.graphs[0]
    b = Builder(name, program.constants, program.state)
    b.types.update(program.type_of(graph))
    b.nodes, b.inputs, b.updates = list(graph.nodes), list(graph.inputs), list(graph.updates)
    b.input_ports = [replace(p, label="tokens") for p in graph.input_ports]
    b.loc = Loc("sample")
    _add_state(b, "settings", SETTINGS)
    _add_state(b, "token", 1)
    logits, after = graph.outputs[0], dict(graph.updates)["position"]
    token = b.call("sample", logits, "$settings", after, name="next_token")
    b.updates.append(("token", token))
    b.output(token, "token")
    if options.logits:
        b.output(logits, "logits")
    return b.program()


def _without_wrapper(program: Program) -> Program:
    """Constants and layers as the user's model names them."""
    names = {name: name.removeprefix(INSIDE) for name in program.constants}

    def inner(node: Node) -> Node:
        layer = node.loc.layer.removeprefix(INSIDE)
        inputs = tuple("@" + names[r[1:]] if r[0] == "@" else r for r in node.inputs)
        loc = replace(node.loc, layer="" if layer == INSIDE[:-1] else layer)
        return replace(node, inputs=inputs, loc=loc)

    (graph,) = program.graphs
    constants = {names[name]: c for name, c in program.constants.items()}
    return Program((replace(graph, nodes=tuple(map(inner, graph.nodes))),), constants, program.state)


def _add_state(b: Builder, name: str, size: int) -> None:
    t = Type((size,), DType.I32)
    b.state[name] = State(t, zeros(t), Persistence.RESET)
    b.types["$" + name] = t


def _decode(entry: Program) -> Program:
    """The entry of one token, which reads the last one from the state."""
    graph = entry.graphs[0]
    (given,) = graph.inputs

    def source(ref: str) -> str:
        return "$token" if ref == given.name else ref

    nodes = tuple(replace(n, inputs=tuple(map(source, n.inputs))) for n in graph.nodes)
    decode = replace(graph, name="decode", inputs=(), input_ports=(), nodes=nodes)
    return replace(entry, graphs=(decode,))


def _begin(options: DecoderOptions) -> Program:
    """The entry that starts a text."""
    b = Builder("begin")
    settings = b.input("settings", Type((SETTINGS,), DType.I32))
    _add_state(b, "settings", SETTINGS)
    _add_state(b, "position", 1)
    b.updates += [("settings", settings), ("position", b.constant(constant(np.zeros(1, np.int32)), "start"))]
    held = b.add_state("context", constant(np.array([options.context], np.int32)), Persistence.KEPT)
    b.output(held, "context")
    return b.program()


def entry_lengths(graphs: tuple[Graph, ...]) -> tuple[int, ...]:
    """Lengths of the prefill entries, longest first."""
    names = [g.name.removeprefix("prefill_") for g in graphs if g.name.startswith("prefill_")]
    return tuple(sorted(map(int, names), reverse=True))
