"""Decoder-only language models of transformers, unmodified, become Programs with the same tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decoders import KINDS, PROMPT, Session, expected, model

from edgec import compiler, pipeline
from edgec.errors import UserError
from edgec.frontends.torch_decoder import DecoderOptions, import_decoder
from edgec.ir import Program
from edgec.text import read_program, show
from edgec.verify import verify

OPTIONS = DecoderOptions(context=24, prefill=(4,), logits=True)


def lowered(program: Program) -> Program:
    """After every float pass."""
    return pipeline.run(program, pipeline.float_steps(), pipeline.Options(precision="fp32"), {}).program


@pytest.fixture(scope="module")
def llama() -> Program:
    return import_decoder(model("Llama"), OPTIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_gives_the_tokens_of_transformers(kind: str) -> None:
    made = model(kind)
    program = import_decoder(made, OPTIONS)
    wanted = expected(made, PROMPT, 12)
    assert Session(program).greedy(PROMPT, 12) == wanted
    assert Session(lowered(program)).greedy(PROMPT, 12) == wanted


def test_logits_are_those_of_transformers() -> None:
    import torch

    made = model("Llama")
    program = lowered(import_decoder(made, OPTIONS))
    session = Session(program)
    session.call("begin", {"settings": np.zeros(4, np.int32)})
    session.call("prefill_4", {"tokens": PROMPT[:4]})
    found = session.call("prefill_1", {"tokens": PROMPT[4:5]})["logits"]
    with torch.no_grad():
        wanted = made(torch.tensor(PROMPT[None, :5]).long()).logits[0, -1:].numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()  # float32, sums in another order


def test_entries_share_weights_and_state(llama: Program) -> None:
    assert [g.name for g in llama.graphs] == ["prefill_4", "prefill_1", "decode", "begin"]
    assert sorted(llama.state) == [
        *("context", "keys_0", "keys_1", "position", "settings", "token", "values_0", "values_1"),
    ]
    assert "model.layers.1.self_attn.q_proj.weight" in llama.constants
    read_by = [{r for n in g.nodes for r in n.inputs if r.endswith(".weight")} for g in llama.graphs[:3]]
    assert read_by[0] == read_by[1] == read_by[2]


def test_decode_takes_no_input(llama: Program) -> None:
    decode = llama.graph("decode")
    assert decode.inputs == ()
    assert [state for state, _ in decode.updates][-1] == "token"


def test_a_decode_layer_is_nine_nodes_after_the_passes(llama: Program) -> None:
    decode = lowered(llama).graph("decode")
    layer = [n.op for n in decode.nodes if n.loc.layer.startswith("model.layers.0.")]
    assert layer == [
        *("rms_norm", "linear", "cached_attention", "reshape", "linear"),
        *("rms_norm", "linear", "split", "silu", "mul", "linear"),
    ]


def test_4_bit_layers_take_the_norms_of_few_rows_alone() -> None:
    made = model("Llama", hidden_size=128, intermediate_size=256)
    options = DecoderOptions(context=64, prefill=(32,))
    request = compiler.Request(made, "h200", pipeline.Options(precision="w4a16"), name="lm", decoder=options)
    program = compiler.plan(request).done.program
    norms = {g.name: sum(n.op == "rms_norm" for n in g.nodes) for g in program.graphs}
    assert norms == {"prefill_32": 5, "prefill_1": 1, "decode": 1, "begin": 0}


def test_the_program_reads_back_from_its_text(llama: Program) -> None:
    program = lowered(llama)
    verify(program)
    assert show(read_program(show(program))) == show(program)


def test_a_new_text_starts_at_position_0_in_the_same_instance(llama: Program) -> None:
    session = Session(llama)
    first = session.greedy(PROMPT, 6)
    assert session.greedy(PROMPT[:3], 4) != first[:4]
    assert session.greedy(PROMPT, 6) == first


def test_the_model_is_left_as_it_was() -> None:
    made = model("Llama").train()
    before = made.config._attn_implementation
    import_decoder(made, OPTIONS)
    assert made.config._attn_implementation == before
    assert made.training


def refused(made: Any, options: DecoderOptions = OPTIONS) -> str:
    with pytest.raises(UserError) as error:
        import_decoder(made, options)
    return str(error.value)


def test_an_encoder_is_refused() -> None:
    import torch

    assert refused(torch.nn.Linear(2, 2)) == (
        "EDGEC-E349: give a decoder-only model of transformers, such as LlamaForCausalLM: Linear generates no text by "
        "itself"
    )


def test_a_model_with_its_own_attention_is_refused() -> None:
    made = model("Llama")
    made._supports_attention_backend = False
    assert refused(made) == (
        "EDGEC-E341: choose a model whose attention transformers lets us replace (Llama, Qwen2, Mistral and most newer "
        "ones): LlamaForCausalLM has its own (_supports_attention_backend is not set)"
    )


def test_a_context_beyond_the_models_positions_is_refused() -> None:
    assert refused(model("Llama"), DecoderOptions(context=65)) == (
        "EDGEC-E342: choose a context of 2 to 64 tokens (max_position_embeddings of LlamaForCausalLM) and prefill "
        "lengths within it: a context of 65 was asked for, the context being 65"
    )
    assert refused(model("Llama"), DecoderOptions(context=16, prefill=(8, 32))) == (
        "EDGEC-E342: choose a context of 2 to 64 tokens (max_position_embeddings of LlamaForCausalLM) and prefill "
        "lengths within it: a prefill of 32 was asked for, the context being 16"
    )


def test_a_model_whose_forward_fails_is_refused() -> None:
    made = model("Llama")

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such luck")

    made.model.layers[1].forward = broken
    assert refused(made) == (
        "EDGEC-E343: check that LlamaForCausalLM runs with a static cache in transformers: its export failed with "
        "RuntimeError: no such luck"
    )


def test_attention_with_a_softcap_is_refused() -> None:
    made = model("Llama")
    attention = made.model.layers[0].self_attn
    forward = attention.forward
    attention.forward = lambda *args, **kwargs: forward(*args, softcap=50.0, **kwargs)
    assert refused(made) == (
        "EDGEC-E344: choose a model whose attention is softmax(scale q k^T) v, causal or with a sliding window: that "
        "of LlamaForCausalLM has softcap"
    )
