"""Compiling a language model holds one layer's float weights at a time: measured by what numpy allocates."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from edgec import compiler, pipeline
from edgec.cuda import artifact as cuda_artifact
from edgec.frontends import DecoderOptions
from edgec.frontends.model_folder import empty_model, require_transformers
from edgec.frontends.torch_decoder import import_decoder
from edgec.frontends.torch_export import Weights
from edgec.ir import Array, Constant, Program
from edgec.pipeline import Options, Precision
from examples.models.llama import random_weights

LAYERS, HIDDEN, WIDE, WORDS = 6, 512, 2048, 4000
LARGEST = 4 * 2 * WIDE * HIDDEN  # bytes in float32 of gate and up, which are one layer after the passes
WEIGHTS = 4 * (LAYERS * (4 * HIDDEN * HIDDEN + 3 * WIDE * HIDDEN) + 2 * WORDS * HIDDEN)


READ: list[str] = []  # names of matrices, each time one is drawn


def counted(source: Weights) -> Weights:
    """The same weights, noting when a matrix is read."""

    def weights(name: str) -> Constant | None:
        found = source(name)
        if found is None or len(found.type.dims) < 2:
            return found

        def load() -> Array:
            READ.append(name)
            return found.data

        return replace(found, load=load)

    return weights


def program() -> Program:
    """A Llama of 12 times the largest layer, with weights drawn when they are read."""
    config = require_transformers().LlamaConfig(
        vocab_size=WORDS,
        hidden_size=HIDDEN,
        intermediate_size=WIDE,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=128,
    )
    model = empty_model(config)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return import_decoder(model, DecoderOptions(64, (8,)), counted(random_weights(shapes, False)))


@pytest.fixture(scope="module")
def imported() -> Program:
    return program()


def peak(work: object) -> int:
    """Bytes that `work` holds at most beyond what there was."""
    assert callable(work)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_the_network_is_many_times_its_largest_layer() -> None:
    assert WEIGHTS > 10 * LARGEST


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_import_and_passes_read_no_matrix(imported: Program, precision: Precision) -> None:
    options = Options(precision=precision)
    pipeline.run(imported, pipeline.graph_steps(options, {}), options, {})
    assert READ == []


@pytest.mark.parametrize("precision", ["fp16", "w4a16"])
def test_compiling_holds_one_layer(
    imported: Program, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_artifact, "MOST_GOLDEN_MACS", -1)
    request = compiler.Request(imported, "h200", Options(precision=precision), name="lm")
    compiled: list[compiler.Compiled] = []
    # A layer's parts, the layer joined of them, its rounded form; in w4a16 also the network's packed weights.
    packed = WEIGHTS // 8 + WEIGHTS // 64 if precision == "w4a16" else 0
    assert peak(lambda: compiled.append(compiler.plan(request))) < 3 * LARGEST + packed
    # The sources as text, and pieces of the weights; the weights themselves are 8 times LARGEST in fp16.
    assert peak(lambda: compiler.write(compiled[0], tmp_path / "out")) < 5 * LARGEST
