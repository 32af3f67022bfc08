"""Text from artifacts of language models on a GPU, as users ask for it: by the artifact and by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgec import cli
from edgec.artifact import Artifact
from edgec.compiler import Request, plan, write
from edgec.errors import UserError
from edgec.frontends import DecoderOptions
from edgec.pipeline import Options
from tests.decoders import PROMPT, expected, model, save

OPTIONS = DecoderOptions(context=24, prefill=(4,))


@pytest.fixture(scope="module")
def made() -> Any:
    return model("Llama")


@pytest.fixture(scope="module")
def folder(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("hf")
    save(made, here)
    return here


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def artifact(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    out = tmp_path_factory.mktemp("artifact") / "lm"
    write(plan(Request(str(folder), "h200", Options(precision="fp32"), name="lm", decoder=OPTIONS)), out)
    return Artifact(out)


def test_the_golden_vectors_hold(artifact: Artifact) -> None:
    artifact.check("cuda")


def test_the_tokens_are_those_of_transformers(artifact: Artifact, made: Any) -> None:
    found = list(artifact.generate(PROMPT.tolist(), max_tokens=12))
    assert found == expected(made, PROMPT, 12)
    assert list(artifact.generate(PROMPT.tolist(), max_tokens=12, on="cuda")) == found


def test_the_command_gives_the_text_and_the_speed(
    artifact: Artifact, folder: Path, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = ["generate", str(artifact.folder), "--tokenizer", str(folder), "--prompt", "abc", "--on", "cuda"]
    assert cli.main([*words, "--max-tokens", "9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tokens = expected(made, tokenizer("abc", return_tensors="np")["input_ids"][0], 9)
    stop = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
    assert found["text"] == tokenizer.decode(tokens[:stop], skip_special_tokens=True)
    assert found["tokens_per_s"] > 0
    assert 0 < found["bound_share"] < 1


def test_a_prompt_longer_than_the_cache_is_refused_and_the_artifact_still_works(artifact: Artifact) -> None:
    with pytest.raises(UserError) as caught:
        list(artifact.generate(list(range(25))))
    assert str(caught.value) == (
        "EDGEC-E242: shorten the prompt, or compile with a larger --context: it has 25 tokens, the cache of this "
        "artifact holds 24"
    )
    assert len(list(artifact.generate(PROMPT.tolist(), max_tokens=3))) == 3
