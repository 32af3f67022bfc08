"""The command line with GPU targets, on a computer without a GPU: what is built, and what is refused."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import cuda_harness
import numpy as np
import pytest

from edgec.artifact import Artifact
from edgec.cuda import build as cuda_build
from tests.cli_command import Command

CROSS = shutil.which("aarch64-linux-gnu-gcc") is not None
x86 = platform.machine() == "x86_64"
NO_GPU = (
    "EDGEC-E812: install NVIDIA's driver, or run it on a machine with a CUDA GPU: the CUDA driver cannot be opened: "
    "libcuda.so.1 is missing"
)
NO_NVCC = f"EDGEC-EA02: {cuda_build.NVCC_CURE}: nvcc is not on the PATH"
NO_CROSS = (
    "EDGEC-EA02: install the cross compiler: apt install gcc-aarch64-linux-gnu (Debian, Ubuntu): "
    "aarch64-linux-gnu-gcc is not on the PATH"
)
needs_nvcc = pytest.mark.skipif(
    not cuda_harness.nvcc_is_here() or not x86,
    reason="LEFT OUT, nothing built for GPUs: nvcc is not installed, or this is no x86-64 computer",
)
needs_cross = pytest.mark.skipif(not CROSS, reason="LEFT OUT: no cross compiler for aarch64")
HELD = ["cuda"] if cuda_harness.gpu_is_here() else []
no_gpu = pytest.mark.skipif(cuda_harness.gpu_is_here(), reason="this computer has a GPU")


def path_without(here: Path, *tools: str) -> str:
    """A PATH on which everything is found but `tools`."""
    folder = here / "bin"
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            if program.name not in tools:
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return str(folder)


def hide(monkeypatch: pytest.MonkeyPatch, here: Path, *tools: str) -> None:
    monkeypatch.setenv("PATH", path_without(here, *tools))
    if "nvcc" in tools:
        monkeypatch.setattr(cuda_build, "INSTALLED_NVCC", here / "no" / "nvcc")


def sections(library: Path) -> str:
    """What readelf says of its head and its symbols."""
    command = ["readelf", "-h", "-s", "-W", str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def orin(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of net.pt2 for orin, not built."""
    from edgec.cli import main

    out = tmp_path_factory.mktemp("orin") / "orin"
    words = ["compile", "-q", "--no-build", str(files / "net.pt2"), "--target", "orin", "-o", str(out)]
    assert main(words) == 0
    return out


@needs_nvcc
@needs_cross
def test_compile_for_orin_builds_a_jetson_library_and_its_twin(edgec: Command) -> None:
    answer = edgec.works("compile", "net.pt2", "--target", "orin", "-o", "out", "--json")
    result = json.loads(answer.out)
    assert result["checked"] == ["aarch64-sm_87", "x86_64-sm_90", *HELD]
    assert HELD or f"not checked for cuda: {NO_GPU}\n" in answer.err
    assert (result["target"], result["precision"]) == ("orin", "fp16")
    assert answer.err.endswith("artifact out; next: edgec report out\n")
    machines = {"aarch64-sm_87": "AArch64", "x86_64-sm_90": "Advanced Micro Devices X86-64"}
    units = {p.stem for p in Path("out/src/units").glob("*.cu")}
    for folder, machine in machines.items():
        library = Path("out/build") / folder / "libedgec_net.so"
        told = sections(library)
        assert re.search(rf"Machine: +{machine}\n", told)
        assert set(re.findall(r"\bedgec_net_\w+", told)) >= {"edgec_net_load", "edgec_net_error"}
        whole = library.read_bytes()
        cubins = {p.stem: p.read_bytes() for p in library.parent.glob("*.cubin")}
        assert set(cubins) == units
        assert all(cubin in whole for cubin in cubins.values())


def test_the_sources_for_orin_need_no_tool(edgec: Command, orin: Path) -> None:
    manifest = json.loads((orin / "manifest.json").read_text(encoding="utf-8"))
    (entry,) = manifest["entries"]
    assert entry["launches"]
    units = [p.name for p in (orin / "src" / "units").glob("*.cu")]
    assert units
    for name in ("Makefile", "weights.bin", "src/model.c", "src/model.h", "src/cubins.S", "golden/out.bin"):
        assert (orin / name).is_file()
    assert not (orin / "build").exists()
    edgec.works("report", orin)


def test_without_nvcc_compile_says_that_neither_library_was_built(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, edgec.here, "nvcc")
    answer = edgec.works("compile", "net.pt2", "--target", "orin", "-o", "out", "--json")
    assert json.loads(answer.out)["checked"] == []
    assert f"not built for aarch64-sm_87: {NO_NVCC}\n" in answer.err
    if x86:
        assert f"not built for x86_64-sm_90: {NO_NVCC}\n" in answer.err
    assert not list(Path("out").rglob("*.so"))


@needs_nvcc
def test_without_the_cross_compiler_the_twin_alone_is_built(
    edgec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, edgec.here, "aarch64-linux-gnu-gcc")
    answer = edgec.works("compile", "net.pt2", "--target", "orin", "-o", "out", "--json")
    assert json.loads(answer.out)["checked"] == ["x86_64-sm_90", *HELD]
    assert f"not built for aarch64-sm_87: {NO_CROSS}\n" in answer.err


@needs_nvcc
@no_gpu
@pytest.mark.parametrize("on", [(), ("--on", "cuda")])
def test_without_a_gpu_run_and_bench_say_what_to_install(
    edgec: Command, orin: Path, on: tuple[str, ...]
) -> None:
    edgec.refused(8, NO_GPU, "-q", "run", orin, "--input", "one.npz", *on)
    edgec.refused(8, NO_GPU, "-q", "bench", orin, *on)


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_a_cuda_artifact_runs_on_a_gpu_alone(edgec: Command, orin: Path, place: str) -> None:
    text = f"EDGEC-E239: use --on cuda: {orin} is for orin"
    edgec.refused(2, text, "run", orin, "--input", "one.npz", "--on", place)
    edgec.refused(2, text, "bench", orin, "--on", place)


def test_a_c_artifact_does_not_run_on_a_gpu(edgec: Command, made: Path) -> None:
    for name, places, target in (("m0", "host or qemu", "cortex-m0"), ("host", "host", "host")):
        text = f"EDGEC-E239: use --on {places}: {made / name} is for {target}"
        edgec.refused(2, text, "run", made / name, "--input", "one.npz", "--on", "cuda")
        edgec.refused(2, text, "bench", made / name, "--on", "cuda")


def test_check_counts_arena_and_weights_for_orin(edgec: Command) -> None:
    (row,) = json.loads(edgec.works("check", "-q", "net.pt2", "--target", "orin", "--json").out)
    found = re.fullmatch(r"arena ([\d,]+) B and weights ([\d,]+) B of 60,129,542,144 B", row.pop("reason"))
    assert found is not None
    arena, weights = (int(n.replace(",", "")) for n in found.groups())
    assert row == {
        "target": "orin",
        "fits": True,
        "ram_bytes": arena + weights,
        "flash_bytes": weights,
        "proposals": [],
    }


def test_check_takes_each_target_at_its_own_precision(edgec: Command) -> None:
    def rows(*names: str) -> list[dict[str, object]]:
        words = [word for name in names for word in ("--target", name)]
        found: list[dict[str, object]] = json.loads(
            edgec.works("check", "-q", "net.pt2", *words, "--json").out
        )
        return found

    assert rows("orin", "cortex-m0") == rows("orin") + rows("cortex-m0")


def test_a_network_beyond_a_gpus_memory_is_refused_with_what_it_needs(edgec: Command) -> None:
    text = (Path(cuda_build.__file__).parents[2] / "targets" / "orin.toml").read_text(encoding="utf-8")
    small = text.replace('reserve_ram = "8G"', 'reserve_ram = "2K"').replace('size = "64G"', 'size = "4K"')
    (edgec.here / "small.toml").write_text(small, encoding="utf-8")
    words = ("net.pt2", "--target", "small.toml")
    answer = edgec("compile", "-q", "--no-build", *words, "-o", "out")
    assert answer.code == 5
    assert re.fullmatch(
        r"EDGEC-E507: small needs \d+ bytes of device memory \(\d+ bytes of weights, \d+ bytes of activations and "
        r"state\), 2048 bytes exist \(data sheet: 64 GB LPDDR5, 256 bit, shared by CPU and GPU; 2048 bytes are kept "
        r"for everything else\)\. Try --precision fp16 where it is fp32, 4-bit weights, or a target with more memory "
        r"\(`edgec targets`\)\n",
        answer.err,
    )
    assert not (edgec.here / "out").exists()
    answer = edgec("check", "-q", *words)
    assert (answer.code, answer.err) == (
        5,
        "EDGEC-E507: use a smaller model, or another target: the model does not fit small\n",
    )
    assert "EDGEC-E507: small needs " in answer.out


def test_generate_refuses_a_network_that_is_no_language_model(edgec: Command, orin: Path) -> None:
    words = ("generate", orin, "--prompt", "a", "--tokenizer", "nowhere")
    edgec.refused(2, "EDGEC-E245: give a folder with a tokenizer: nowhere is none", *words)
    edgec.refused(
        2,
        f"EDGEC-E239: use --on cuda: {orin} is for orin",
        *words[:-1],
        tokenizer(edgec.here),
        "--on",
        "host",
    )


def tokenizer(here: Path) -> Path:
    """A folder with a tokenizer of four words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2, "?": 3}, unk_token="?"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=own, unk_token="?").save_pretrained(here / "words")
    return here / "words"


@needs_nvcc
@no_gpu
def test_generate_without_a_gpu_says_what_to_install(edgec: Command, orin: Path) -> None:
    edgec.refused(8, NO_GPU, "-q", "generate", orin, "--prompt", "a", "--tokenizer", tokenizer(edgec.here))


def test_doctor_knows_the_tools_of_gpu_targets(edgec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, edgec.here, "nvcc", "aarch64-linux-gnu-gcc")
    answer = edgec.works("doctor", "--json")
    rows = {row["tool"]: row for row in json.loads(answer.out)}
    for tool, cure in (
        ("nvcc", f"{cuda_build.NVCC_CURE} (for GPU targets)"),
        (
            "aarch64-linux-gnu-gcc",
            "apt-get install gcc-aarch64-linux-gnu (for Jetson targets on another computer)",
        ),
    ):
        assert (rows[tool]["found"], rows[tool]["required"], rows[tool]["cure"]) == (False, False, cure)
        assert f"missing  {tool:<24} {cure}\n" in edgec("doctor").out


@needs_nvcc
def test_doctor_tells_the_release_of_nvcc(edgec: Command) -> None:
    rows = {row["tool"]: row for row in json.loads(edgec.works("doctor", "--json").out)}
    assert re.search(r"release \d+\.\d", rows["nvcc"]["version"])


@pytest.mark.parametrize(("share", "told"), [(0.015, ""), (0.025, "output {} of infer, sample 0,")])
def test_outputs_in_half_precision_are_held_within_two_percent(orin: Path, share: float, told: str) -> None:
    made = Artifact(orin)
    golden = (orin / "golden" / "out.bin").read_bytes()
    expected = np.frombuffer(golden, np.float16)
    found = expected.copy()
    found[-1] += np.float16(share * np.abs(expected).max())
    label = made.manifest["entries"][0]["outputs"][0]["label"]
    assert made._difference(found.tobytes(), golden) == told.format(label)
