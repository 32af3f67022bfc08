"""Which machine instructions an artifact's model and kernels consist of, by the disassembler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests import example_networks as examples

pytestmark = [
    pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc"),
    pytest.mark.slow,
]

Instructions = Callable[..., tuple[str, ...]]
NETWORKS = ("kws", "audio_transformer")  # convolutions; linear, attention, layer norms and tables
FLOAT = re.compile(r"^v[a-z]")  # every instruction of the floating-point unit
DOUBLE = re.compile(r"\.f64\b")
# Vectors of the M-profile: their registers, their predication, and loops by elements
VECTOR = re.compile(r"\bq[0-7]\b|^(vctp|vpt|vpst|vpsel|dlstp|wlstp|letp|lctp)")
VECTOR_FLOAT = re.compile(r"\.(f16|f32|f64)\b")
DSP = re.compile(r"^(smlad|smuad|smlald|sxtb16|pkhbt|pkhtb|qadd8|ssub8)")


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Instructions:
    """Mnemonic and operands of every instruction of the model and its kernels for (target, network, precision):
    start-up code, main and MVE kernels left out; with `mve` those of MVE kernels alone."""

    @cache
    def built(target: str, network: str, precision: str) -> tuple[Path, ...]:
        folder = tmp_path_factory.mktemp("a") / "artifact"
        examples.artifact(folder, examples.compiled(network, target, precision=precision)).built("qemu")
        objects = tuple(p for p in (folder / "build").rglob("*.o") if "port" not in p.parts)
        assert any("kernels" in p.parts for p in objects)
        return objects

    @cache
    def listed(target: str, network: str, precision: str, mve: bool = False) -> tuple[str, ...]:
        objects = [p for p in built(target, network, precision) if ("mve" in p.parts) == mve]
        words = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", *map(str, objects)]
        listing = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found = (re.match(r"\s+[0-9a-f]+:\t(.+)", line) for line in listing.splitlines())
        return tuple(m[1] for m in found if m is not None and not m[1].startswith("."))

    return listed


def matching(pattern: re.Pattern[str], found: tuple[str, ...]) -> list[str]:
    return [i for i in found if pattern.search(i)]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_an_int8_model_has_no_floating_point_instruction(
    instructions: Instructions, target: str, network: str
) -> None:
    assert matching(FLOAT, instructions(target, network, "int8")) == []


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_vectors_are_in_mve_kernels_alone(instructions: Instructions, precision: str) -> None:
    assert matching(VECTOR, instructions("cortex-m55", "audio_transformer", precision)) == []


@pytest.mark.parametrize("network", NETWORKS)
def test_mve_kernels_of_an_int8_model_have_vectors_and_no_float(
    instructions: Instructions, network: str
) -> None:
    found = instructions("cortex-m55", network, "int8", mve=True)
    assert matching(VECTOR, found)
    assert matching(VECTOR_FLOAT, found) == []


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_a_single_precision_unit_gets_no_double(instructions: Instructions, target: str) -> None:
    assert matching(DOUBLE, instructions(target, "audio_transformer", "fp32")) == []


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_a_core_with_dsp_instructions_gets_them(instructions: Instructions, target: str) -> None:
    assert matching(DSP, instructions(target, "kws", "int8"))


def test_a_core_without_dsp_instructions_gets_none(instructions: Instructions) -> None:
    assert matching(DSP, instructions("cortex-m0", "kws", "int8")) == []


def test_an_fp32_model_uses_the_floating_point_unit(instructions: Instructions) -> None:
    assert matching(FLOAT, instructions("cortex-m4", "audio_transformer", "fp32"))


def test_the_patterns_find_what_they_are_for() -> None:
    assert VECTOR.search("vmlava.s8\tr2, q0, q1")
    assert VECTOR.search("dlstp.8\tlr, r2")
    assert VECTOR.search("dls\tlr, lr") is None
    assert FLOAT.search("vldr\ts0, [r0]")
    assert DOUBLE.search("vadd.f64\td0, d1, d2")
