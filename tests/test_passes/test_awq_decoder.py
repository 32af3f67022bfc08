"""AWQ and SmoothQuant on decoder-only models of transformers: packed projections, caches, three entries."""

from __future__ import annotations

import numpy as np
import pytest
from decoders import PROMPT, Session, model

from edgec import pipeline
from edgec.frontends.torch_decoder import DecoderOptions, import_decoder
from edgec.ir import Array, Program
from edgec.passes.awq import awq, score_rows
from edgec.passes.blocks import block_of
from edgec.passes.folds import apply_scales, find_sites
from edgec.passes.quantize_w4 import W4Scheme, quantize_w4
from edgec.passes.smooth import Smoothing, smooth
from edgec.verify import verify

SCHEME = W4Scheme(group=32, fold_norm_gains=False)
OPTIONS = DecoderOptions(context=24, prefill=(16,), logits=True)


@pytest.fixture(scope="module")
def program() -> Program:
    """A Llama of two layers, with eight channels of each norm 50 times as large, which leaves its function."""
    import torch

    made = model("Llama", hidden_size=64, intermediate_size=128)
    with torch.no_grad():
        for layer in made.model.layers:
            a, m = layer.self_attn, layer.mlp
            for norm, readers in (
                (layer.input_layernorm, (a.q_proj, a.k_proj, a.v_proj)),
                (layer.post_attention_layernorm, (m.gate_proj, m.up_proj)),
            ):
                norm.weight[::8] *= 50
                for reader in readers:
                    reader.weight[:, ::8] /= 50
    options = pipeline.Options(precision="fp32")
    return pipeline.run(import_decoder(made, OPTIONS), pipeline.float_steps(), options, {}).program


def samples(program: Program) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{program.graphs[0].inputs[0].name: rng.integers(0, 64, 16).astype(np.int32)} for _ in range(8)]


def logits(p: Program) -> Array:
    """Of the token after each of eight prompts, and of one after that: prefill and the cache that it left."""
    rng, found = np.random.default_rng(5), []
    for _ in range(8):
        session = Session(p)
        session.call("begin", {"settings": np.zeros(4, np.int32)})
        prompt = rng.integers(0, 64, 16).astype(np.int32)
        found.append(session.call("prefill_16", {"tokens": prompt})["logits"])
        found.append(session.call("prefill_1", {"tokens": PROMPT[:1]})["logits"])
    return np.concatenate(found)


def noise(p: Program, q: Program) -> float:
    a, b = logits(p).astype(np.float64), logits(q).astype(np.float64)
    return float(np.square(a - b).sum() / np.square(a).sum())


def test_every_layer_folds_in_every_entry(program: Program) -> None:
    sites = find_sites(program)
    assert [s.why for s in sites] == [""] * 9
    assert {len(s.groups) for s in sites} == {3}
    rng = np.random.default_rng(1)
    scales = [(s, s.together(np.exp(rng.normal(size=s.channels)))) for s in sites]
    after = apply_scales(program, scales)
    verify(after)
    assert len(after.constants) == len(program.constants)
    assert noise(program, after) < 1e-9  # float32


def test_blocks_run_through_the_cache_to_the_output_projection(program: Program) -> None:
    graph = program.graph("prefill_16")
    packed, gated = (s.group("prefill_16") for s in find_sites(program)[:3:2])
    assert packed is not None and gated is not None
    block = block_of(graph, packed.layers)
    assert [n.op for n in block.nodes] == ["linear", "cached_attention", "reshape", "linear"]
    assert {r for r in block.given if r[0] == "$"} == {"$keys_0", "$values_0", "$position"}
    assert [n.op for n in block_of(graph, gated.layers).nodes] == ["linear", "split", "silu", "mul", "linear"]


def test_value_rows_of_a_packed_projection_are_no_scores(program: Program) -> None:
    graph = program.graph("prefill_16")
    packed = find_sites(program)[0].group("prefill_16")
    assert packed is not None
    rows = score_rows(graph, packed.layers[0].outputs[0].name, 128)
    np.testing.assert_array_equal(rows, np.arange(128) < 96)  # 4 heads of q and 2 of k, of 16 channels


def test_awq_rescues_a_decoder(program: Program) -> None:
    after, scaled, clipped = awq(program, samples(program), SCHEME)
    verify(after)
    plain, better = (quantize_w4(p, SCHEME) for p in (program, after))
    assert all(d.why == "" for d in scaled[:8] if d.exponent is not None)
    assert len(clipped) == 8
    assert noise(program, better) < 0.5 * noise(program, plain)
    codes = [{r for n in g.nodes if n.op == "linear_w4" for r in n.inputs[1:4]} for g in better.graphs[:3]]
    assert codes[0] == codes[1] == codes[2], "prefill and decode read the same codes"


def test_smoothquant_folds_into_a_decoder(program: Program) -> None:
    after, done = smooth(program, samples(program), Smoothing(0.5))
    verify(after)
    assert [d.alpha for d in done] == [0.5] * 9
    assert noise(program, after) < 1e-9
