"""The generated files: golden text of three small models, and names that a user chose badly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from artifacts import artifact, compiled, drawn, interpreted, ran
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_programs import decoder, digits, streamed

from edgec.backends import c
from edgec.backends.ctext import LINE, comment_safe, identifier
from edgec.build import Builder
from edgec.ir import DType, Program, Type
from edgec.ops.binary import BinaryAttrs
from edgec.pipeline import Options
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target

GOLDEN = Path(__file__).parent / "golden"
ORIGIN = c.Origin("0", "edgec compile")
MODELS: dict[str, tuple[Program, str, Options]] = {
    "digits": (digits(), "cortex-m0", Options()),
    "decoder": (decoder(), "cortex-m0", Options()),
    "streamed": (streamed(), "rp2040-pico", Options(precision="fp32", stream="all")),
}
NAMED = [(name, file) for name in MODELS for file in ("model.c", "model.h")]


def emitted(program: Program, target: str, name: str, options: Options | None = None) -> dict[str, str]:
    made = compiled(program, target, name, options)
    return c.emit(made.plan, load_target(target), ORIGIN)


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_generated_files_equal_the_golden_ones(request: pytest.FixtureRequest, name: str, file: str) -> None:
    program, target, options = MODELS[name]
    text = emitted(program, target, name, options)[f"src/{file}"]
    path = GOLDEN / name / file
    if request.config.getoption("--update"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "look at the change, then pytest --update"


@pytest.mark.parametrize("name", MODELS)
def test_no_line_of_code_is_longer_than_100_columns(name: str) -> None:
    program, target, options = MODELS[name]
    files = emitted(program, target, name, options)
    code = [line for text in files.values() for line in text.splitlines() if not line.startswith(("#", "/*"))]
    assert [line for line in code if len(line) > LINE] == []


def test_emitting_twice_gives_the_same_bytes() -> None:
    program, target, options = MODELS["decoder"]
    assert emitted(program, target, "d", options) == emitted(decoder(), target, "d", options)


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        (
            '"',
            "'; system(\"x\"); '",
            "a\nb\r\n",
            "*/ int x; /*",
            "??/\n??>",
            "\\",
            "//",
            "#define x",
            "%s%n",
            "x" * 65536,
        )
    ),
    st.lists(st.sampled_from(('"', "*/", "/*", "??/", "\n", "\\\n", "a", "é", "\0", "'")), max_size=30).map(
        "".join
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layer=HOSTILE, image=HOSTILE, output=HOSTILE)
def test_a_hostile_name_gives_the_c_of_its_harmless_form(layer: str, image: str, output: str) -> None:
    """Layers stand in comments, labels in identifiers; nothing else of them reaches C."""
    hostile = emitted(digits(layer, image, output), "cortex-m0", "digits")
    plain = digits("LAYER", identifier(image), identifier(output))
    harmless = emitted(plain, "cortex-m0", "digits")
    for own in ("conv", "pool", "head"):
        shown = comment_safe(f"{layer}.{own}")
        harmless = {path: text.replace(f"LAYER.{own}", shown) for path, text in harmless.items()}
    assert hostile == harmless


@settings(max_examples=200, deadline=None)
@given(text=HOSTILE)
def test_a_comment_holds_only_harmless_characters(text: str) -> None:
    safe = comment_safe(text)
    assert safe.isascii() and len(safe) <= 80
    assert not set(safe) & set("*/\\?\"'\n\r#%\0")


@pytest.mark.parametrize(
    "text", ['"', "a\nb", "*/ int x; /*", "??/", "\\", "x" * 65536, "??=define y", "é" * 80]
)
def test_a_hostile_name_builds_under_every_warning(tmp_path: Path, text: str) -> None:
    files = emitted(digits(text, text, text), "cortex-m0", text)
    syntax_only(tmp_path, files)


def twins() -> Program:
    """Labels, values and entries that are one identifier, or one macro, without their numbers."""
    b = Builder("infer")
    x, y, z = (b.input(label, Type((4,), DType.F32), name=label) for label in ("a.b", "a_b", "A-B"))
    total = b.call("add", b.call("exp", x, name="t.u"), b.call("sin", y, name="t_u"), attrs=BinaryAttrs())
    b.output(b.call("mul", total, z, attrs=BinaryAttrs(), name="T_U"), "a.b")
    again = Builder("init", b.constants, b.state)
    again.output(again.call("exp", again.input("x", Type((4,), DType.F32))), "y")
    return Program((b.graph(), again.graph()), again.constants, again.state)


def test_names_that_would_be_one_identifier_get_numbers() -> None:
    header = emitted(twins(), "cortex-m0", "m")["src/model.h"]
    for accessor in ("input_a_b(", "input_a_b_2(", "input_A_B_3(", "output_a_b(", "init_2(edgec_m *m);"):
        assert f"edgec_m_{accessor}" in header


def test_names_that_would_be_one_identifier_run_apart(tmp_path: Path) -> None:
    program = twins()
    calls = drawn(program, ["infer", "init"], 0)
    made = artifact(program, "cortex-m0", tmp_path / "a")
    found, expected = (
        np.frombuffer(raw, np.float32) for raw in (ran(made, program, calls), interpreted(program, calls))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_may_hold_infinity(tmp_path: Path) -> None:
    b = Builder("infer")
    x = b.input("x", Type((1, 3), DType.F32))
    mask = b.constant(np.array([0, -np.inf, np.inf], np.float32), "mask")
    b.output(b.call("add", x, mask, attrs=BinaryAttrs()), "y")
    program = b.program()
    calls = drawn(program, ["infer"], 0)
    assert ran(artifact(program, "host", tmp_path / "a"), program, calls) == interpreted(program, calls)


def syntax_only(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    flags = [
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wshadow",
        "-Wconversion",
        "-fsyntax-only",
    ]
    include = ["-I", str(folder / "src"), "-I", str(ROOT / "include"), "-I", str(ROOT)]
    units = [str(folder / p) for p in files if p.endswith(".c")]
    done = subprocess.run(["gcc", *flags, *include, *units], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
