"""Full texts of errors that no other test meets, each raised by what causes it."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec import device, generate
from edgec.artifact import Artifact
from edgec.build import Builder
from edgec.cuda import build as cuda_build
from edgec.errors import EdgecError, TargetError, UserError
from edgec.frontends import LoadOptions, load
from edgec.ir import DType, Program, Type
from edgec.passes.calibrate import calibrate
from edgec.passes.fit import check_device_memory
from edgec.targets.load import load_target

KIB = 1024


def negation() -> Program:
    b = Builder("infer")
    x = b.input("x", Type((3,), DType.F32))
    b.output(b.call("neg", x), "y")
    return b.program()


def test_a_calibration_method_that_is_none_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        calibrate(negation(), [{"x": np.zeros(3, np.float32)}], "best")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "EDGEC-E205: choose one of minmax, percentile, entropy, mse: best is no calibration method"
    )


@pytest.mark.parametrize("share", [50.0, 100.1])
def test_a_percentile_outside_of_its_range_is_refused(share: float) -> None:
    with pytest.raises(UserError) as caught:
        calibrate(negation(), [{"x": np.zeros(3, np.float32)}], "percentile", share=share)
    assert str(caught.value) == f"EDGEC-E206: give a percentile above 50 and up to 100: here it is {share}"


def test_a_gpus_memory_that_is_exceeded_by_one_byte_is_told_in_full() -> None:
    orin = load_target("orin")
    room = 56 * KIB**3
    check_device_memory(orin, KIB, room - KIB)
    with pytest.raises(TargetError) as caught:
        check_device_memory(orin, KIB + 1, room - KIB)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "EDGEC-E507: orin needs 58720257 KiB of device memory (58720255 KiB of weights, 1025 bytes of activations and "
        "state), 58720256 KiB exist (data sheet: 64 GB LPDDR5, 256 bit, shared by CPU and GPU; 8388608 KiB are kept "
        "for everything else). Try --precision fp16 where it is fp32, 4-bit weights, or a target with more memory "
        "(`edgec targets`)"
    )


def test_a_computer_without_a_library_for_its_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(TargetError) as caught:
        cuda_build.runnable(load_target("orin"))
    assert str(caught.value) == (
        "EDGEC-E811: run it on the device: libraries for orin are not built for riscv64"
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A linear layer for the host."""
    import torch

    torch.manual_seed(0)
    return edgec.compile(
        torch.nn.Linear(3, 2),
        (torch.zeros(1, 3),),
        target="host",
        precision="fp32",
        out=tmp_path_factory.mktemp("texts") / "out",
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda whole: whole[:3] + bytes([whole[3] ^ 1]) + whole[4:], "output {port} of infer, sample 0,"),
        (lambda whole: whole[:-4], "the number of output bytes ({size}, not {less})"),
    ],
)
def test_outputs_that_leave_the_golden_vectors_are_named(
    artifact: Artifact, change: object, text: str
) -> None:
    path = artifact.folder / "golden" / "out.bin"
    whole = path.read_bytes()
    artifact.check("host")
    assert callable(change)
    path.write_bytes(change(whole))
    try:
        with pytest.raises(TargetError) as caught:
            artifact.check("host")
    finally:
        path.write_bytes(whole)
    (port,) = artifact.manifest["entries"][0]["outputs"]
    what = text.format(port=port["label"], size=len(whole), less=len(whole) - 4)
    assert str(caught.value) == (
        f"EDGEC-E901: report this with the artifact {artifact.folder}: {what} on host differs from the interpreter's "
        "(golden/out.bin)"
    )
    assert caught.value.exit_code == 9


def test_a_program_that_is_gone_or_none_is_told(artifact: Artifact, tmp_path: Path) -> None:
    built = replace(artifact.built("host"), program=tmp_path / "gone")
    with pytest.raises(TargetError) as caught:
        device.run(built, b"", ((0, 0),), device.RunOptions())
    assert str(caught.value) == f"EDGEC-E803: build the artifact again: {built.program} does not exist"
    built.program.write_text("no program")
    with pytest.raises(TargetError) as caught:
        device.sizes(built)
    head = f"EDGEC-E803: build the artifact again: {built.program} is not a program\n"
    assert str(caught.value).startswith(head)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 0", "the host program ended without results ([Errno 2] No such file or directory: 'FOLDER/stats.json')"),
        ("echo broken >&2; exit 3", "the host program ended with exit code 3\nbroken"),
        ("kill -9 $$", "report this with the artifact: the host program was ended by signal 9\n"),
    ],
)  # fmt: skip
def test_a_program_that_ends_badly_is_told(tmp_path: Path, script: str, text: str) -> None:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(TargetError) as caught:
        device.run(device.Built("host", path, ""), b"", ((0, 1),), device.RunOptions(timeout_s=60))
    assert caught.value.exit_code == 8
    found = str(caught.value)
    if "FOLDER" in text:
        before, after = text.split("FOLDER")
        assert found.startswith(f"EDGEC-E803: {before}") and found.endswith(after)
    else:
        assert found == f"EDGEC-E803: {text}"


LM = "EDGEC-EA06: run pip install 'edgec[lm]': {} need transformers, which is not installed"


def test_without_transformers_a_tokenizer_and_a_model_folder_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for what, call in (
        ("tokenizers", lambda: generate.Tokenizer(tmp_path)),
        ("language models", lambda: load(tmp_path, LoadOptions())),
    ):
        with pytest.raises(EdgecError) as caught:
            call()
        assert (str(caught.value), caught.value.exit_code) == (LM.format(what), 10)
