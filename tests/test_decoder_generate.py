"""Generating text: on this computer through the C host library, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_command import Command
from decoders import PROMPT, Session, expected, model, save

import edgec
from edgec import generate
from edgec.artifact import Artifact
from edgec.compiler import Request, plan, write
from edgec.errors import UserError
from edgec.frontends import DecoderOptions, LoadOptions, load
from edgec.generate import Sampling, Speed, chunks, stream_text
from edgec.pipeline import Options

OPTIONS = DecoderOptions(context=24, prefill=(4,))


@pytest.fixture(scope="module")
def made() -> Any:
    return model("Llama")


@pytest.fixture(scope="module")
def folder(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("hf")
    save(made, here)
    return here


@pytest.fixture(scope="module")
def artifact(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("artifact") / "lm"
    request = Request(str(folder), "host", Options(precision="fp32"), name="lm", decoder=OPTIONS)
    write(plan(request), out)
    return Artifact(out)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capfd)


def test_the_host_gives_the_tokens_of_transformers(artifact: Artifact, made: Any) -> None:
    assert list(artifact.generate(PROMPT.tolist(), max_tokens=12)) == expected(made, PROMPT, 12)


def test_the_golden_vectors_hold(artifact: Artifact) -> None:
    artifact.check("host", sanitize=True)


def test_a_folder_gives_the_tokens_of_its_module(folder: Path, made: Any) -> None:
    program = load(folder, LoadOptions(decoder=OPTIONS))
    assert Session(program).greedy(PROMPT, 8) == expected(made, PROMPT, 8)


def test_a_folder_in_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    import torch

    tied = model("Llama, tied").to(torch.bfloat16)
    tied.save_pretrained(tmp_path)
    program = load(tmp_path, LoadOptions(decoder=OPTIONS))
    assert Session(program).greedy(PROMPT, 8) == expected(tied.float(), PROMPT, 8)


def test_sampling_on_the_host_equals_the_interpreter(artifact: Artifact, made: Any) -> None:
    session = Session(load(made, LoadOptions(decoder=OPTIONS)))

    class Interpreted:
        def run(self, entry: str, inputs: Any) -> Any:
            return session.call(entry, inputs)

    chosen = Sampling(1.0, 20, 0.9, seed=3)
    wanted = list(generate.tokens(Interpreted(), artifact.entry_names, PROMPT.tolist(), 12, chosen))
    found = list(
        artifact.generate(PROMPT.tolist(), max_tokens=12, temperature=1.0, top_k=20, top_p=0.9, seed=3)
    )
    assert found == wanted
    other = list(
        artifact.generate(PROMPT.tolist(), max_tokens=12, temperature=1.0, top_k=20, top_p=0.9, seed=4)
    )
    assert found != other


def test_chunks_do_not_change_what_is_drawn(artifact: Artifact) -> None:
    def drawn(prefill: list[str]) -> list[int]:
        entries = ["begin", "prefill_1", "decode", *prefill]
        with generate.opened(artifact, None) as runner:
            return list(generate.tokens(runner, entries, PROMPT.tolist(), 8, Sampling(1.0, seed=1)))

    assert drawn(["prefill_4"]) == drawn([])


def test_generation_ends_with_the_cache(artifact: Artifact) -> None:
    speed = Speed()
    with generate.opened(artifact, None) as runner:
        found = list(generate.tokens(runner, artifact.entry_names, PROMPT.tolist(), 99, speed=speed))
    assert len(found) == speed.tokens == 24 - len(PROMPT) + 1
    assert (speed.prompt_tokens, speed.context) == (len(PROMPT), 24)


def test_generation_ends_with_a_stop_token(artifact: Artifact) -> None:
    tokens = list(artifact.generate(PROMPT.tolist(), max_tokens=12))
    stop = tokens[3]
    found = list(artifact.generate(PROMPT.tolist(), max_tokens=12, stop=(stop,)))
    assert found == tokens[: tokens.index(stop) + 1]
    assert list(artifact.generate(PROMPT.tolist(), max_tokens=0)) == []


def test_prompts_go_through_the_longest_entries_that_fit() -> None:
    assert list(chunks(11, (4, 2, 1))) == [(0, 4), (4, 4), (8, 2), (10, 1)]


def test_a_character_of_several_tokens_comes_whole() -> None:
    whole = "a\N{SNOWMAN}b".encode()

    def decode(ids: Any) -> str:
        return bytes(ids).decode(errors="replace")

    assert list(stream_text(iter(whole), decode)) == ["a", "\N{SNOWMAN}", "b"]


def test_bytes_per_token_are_the_weights_without_the_table_and_the_cache_so_far(artifact: Artifact) -> None:
    from edgec.generate import bytes_per_token

    weights = sum(p.numel() for p in model("Llama").parameters()) - 64 * 32
    caches = sum(a["persistent_bytes"] for a in artifact.manifest["arenas"])
    found = bytes_per_token(artifact, 24, 12)
    more = found - 4 * weights - caches / 2  # zeros that the C kernels take for absent biases
    assert 0 <= more <= 0.05 * found


def refused(artifact: Artifact, prompt: list[int], **chosen: Any) -> str:
    with pytest.raises(UserError) as error:
        list(artifact.generate(prompt, **chosen))
    return str(error.value)


def test_a_prompt_longer_than_the_cache_is_refused(artifact: Artifact) -> None:
    assert refused(artifact, list(range(25))) == (
        "EDGEC-E242: shorten the prompt, or compile with a larger --context: it has 25 tokens, the cache of this "
        "artifact holds 24"
    )


def test_an_empty_prompt_is_refused(artifact: Artifact) -> None:
    assert refused(artifact, []) == (
        "EDGEC-E241: give a prompt: it holds no token, and a model continues what it is given"
    )


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"temperature": -1.0}, "choose a temperature of 0 to 1000: -1.0 was given"),
        ({"temperature": float("nan")}, "choose a temperature of 0 to 1000: nan was given"),
        ({"top_k": -1}, "choose a top_k of 0 (all tokens) or more: -1 was given"),
        ({"top_p": 0.0}, "choose a top_p of above 0, up to 1: 0.0 was given"),
    ],
)
def test_sampling_outside_of_its_range_is_refused(artifact: Artifact, chosen: Any, text: str) -> None:
    assert refused(artifact, [1], **chosen) == f"EDGEC-E243: {text}"


def test_an_artifact_of_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    import torch

    net = torch.nn.Linear(3, 2)
    other = edgec.compile(net, (torch.zeros(1, 3),), target="host", precision="fp32", out=tmp_path / "out")
    assert refused(other, [1]) == (
        "EDGEC-E240: compile a language model (a folder of transformers, or such a module): this artifact has the "
        "entries infer, generating takes begin, prefill_1 and decode"
    )


def test_a_place_that_the_artifact_is_not_for_is_refused(artifact: Artifact) -> None:
    assert refused(artifact, [1], on="cuda") == f"EDGEC-E239: use --on host: {artifact.folder} is for host"


def test_the_command_prints_the_text(run: Command, artifact: Artifact, folder: Path) -> None:
    words = ("generate", artifact.folder, "--tokenizer", folder, "--prompt", "abc", "--max-tokens", 9)
    answer = run.works(*words)
    assert len(answer.out.rstrip("\n")) >= 7  # of 9 tokens; two of the 64 are no text
    assert "9 new tokens, " in answer.err
    as_json = run.works(*words, "--json")
    assert '"prompt_tokens": 3' in as_json.out


def test_a_folder_without_a_tokenizer_is_refused(run: Command, artifact: Artifact) -> None:
    words = ("generate", artifact.folder, "--prompt", "a", "--tokenizer")
    run.refused(2, "EDGEC-E245: give a folder with a tokenizer: nowhere is none", *words, "nowhere")
    (run.here / "empty").mkdir()
    run.refused(
        2,
        "EDGEC-E245: give a folder with a tokenizer (tokenizer.json or what transformers saved): that of empty cannot "
        "be read (ValueError)",
        *words,
        "empty",
    )


def test_the_command_refuses_an_empty_prompt(run: Command, artifact: Artifact, folder: Path) -> None:
    run.refused(
        2,
        "EDGEC-E241: give a prompt: it holds no token, and a model continues what it is given",
        *("generate", artifact.folder, "--tokenizer", folder, "--prompt", ""),
    )


def load_refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load(folder, LoadOptions(decoder=OPTIONS))
    return str(error.value).replace(str(folder), "FOLDER")


def test_a_folder_whose_config_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    text = load_refused(tmp_path)
    assert text.startswith(
        "EDGEC-E345: give a folder whose config.json transformers can read: that of FOLDER gives OSError: "
    )


def test_a_folder_of_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    assert load_refused(tmp_path).startswith(
        "EDGEC-E346: give a decoder-only model of transformers: T5Config gives ValueError: "
    )


def test_a_folder_without_a_weight_is_refused(tmp_path: Path, made: Any) -> None:
    made.config.save_pretrained(tmp_path)
    assert load_refused(tmp_path) == (
        "EDGEC-E347: give a folder with the model's own safetensors: those of FOLDER lack model.embed_tokens.weight "
        "and 20 more differ, the model has [64, 32]"
    )


def test_a_weight_of_another_shape_is_refused(tmp_path: Path, made: Any) -> None:
    made.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(
        text.replace('"vocab_size": 64', '"vocab_size": 32'), encoding="utf-8"
    )
    assert load_refused(tmp_path) == (
        "EDGEC-E347: give a folder with the model's own safetensors: those of FOLDER hold model.embed_tokens.weight as "
        "[64, 32] and 1 more differ, the model has [32, 32]"
    )


@pytest.mark.parametrize("damage", ["cut", "length", "text"])
def test_damaged_safetensors_are_refused(tmp_path: Path, made: Any, damage: str) -> None:
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {"cut": data[:-64], "length": b"\xff" * 8 + data[8:], "text": data[:8] + b"?" * 90}[damage]
    )
    assert load_refused(tmp_path).startswith(
        "EDGEC-E348: download the model again: FOLDER/model.safetensors is no safetensors file of float weights ("
    )


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    import torch

    broken = model("Llama")
    with torch.no_grad():
        broken.model.norm.weight[3] = float("nan")
    broken.save_pretrained(tmp_path)
    program = load(tmp_path, LoadOptions(decoder=OPTIONS))
    with pytest.raises(UserError) as error:
        program.constants["model.norm.weight"].data  # noqa: B018
    assert str(error.value) == (
        "EDGEC-E330: train or load the model again. The weight 'model.norm.weight' [32] holds NaN or infinite values"
    )
