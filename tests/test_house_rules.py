"""The rules of docs/architecture.md that can be read off the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ops import OPS
from edgec.runtime_c import ROOT as RUNTIME

ROOT = Path(__file__).parent.parent
FOLDERS = ("frontends", "passes", "backends", "targets", "runtime_c")
# What each folder may import of the others; `edgec` is the folder edgec/ itself.
ALLOWED = {
    "frontends": {"edgec", "frontends"},
    "passes": {"edgec", "passes"},
    "backends": {"edgec", "backends", "runtime_c"},
    "targets": {"edgec", "targets"},
}
# Files of edgec/ that may import the other folders.
DRIVERS = {
    f"edgec/{name}.py"
    for name in (
        *("pipeline", "compiler", "commands", "artifact", "verdict", "support", "bisect", "__init__"),
        *("control/core", "cuda/artifact", "cuda/library", "tune/search", "tune/command", "tune/training"),
    )
}
SOURCES = sorted(p for folder in ("kernels", "train") for p in (RUNTIME / folder).rglob("*.c"))
CODE = re.compile(r"\bEDGEC-(E[0-9A-F]{3})\b")
CODE_IN_TEST = re.compile(r"\b(E[0-9A-F]{3})\b")  # some tests add the first word later
MODULES = sorted(p for folder in ("edgec", *ALLOWED) for p in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports: edgec.passes.fold gives passes, edgec.ir gives edgec."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "edgec":
                found.add(parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "edgec")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_keep_their_direction(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    if folder == "edgec":
        if path.relative_to(ROOT).as_posix() not in DRIVERS:
            assert imports(path) <= {"edgec"} | ({"targets"} if path.stem in {"device"} else set())
    else:
        assert imports(path) <= ALLOWED[folder]


def test_every_kernel_record_has_its_source_and_symbol() -> None:
    for kernel in KERNELS:
        if kernel.source:
            text = (RUNTIME / kernel.source).read_text(encoding="utf-8")
            assert f"{kernel.symbol}(" in text, kernel.symbol


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_every_kernel_source_has_a_record(path: Path) -> None:
    assert str(path.relative_to(RUNTIME)) in {k.source for k in KERNELS}


def test_every_kernel_is_declared_in_a_header() -> None:
    headers = "".join(p.read_text(encoding="utf-8") for p in (RUNTIME / "include").glob("*.h"))
    missing = {k.symbol for k in KERNELS if k.source and f"{k.symbol}(" not in headers}
    assert not missing


def test_every_op_has_two_examples_and_a_doc() -> None:
    assert all(len(op.examples) >= 2 and op.doc for op in OPS.values())


def test_kernel_symbols_are_unique() -> None:
    symbols = [(k.op, k.symbol) for k in KERNELS]
    assert len(symbols) == len(set(symbols))


def test_no_kernel_allocates_or_prints() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for word in ("malloc(", "free(", "printf(", "alloca("):
            assert word not in text, (path.name, word)


def test_integer_kernels_hold_no_floating_point() -> None:
    for path in SOURCES:
        stem = path.stem
        if "_s8" in stem and not any(w in stem for w in ("quantize", "dequantize", "_f32")):
            code = [line.split("/*")[0] for line in path.read_text(encoding="utf-8").splitlines()]
            words = " ".join(line for line in code if not line.lstrip().startswith("*"))
            assert " float " not in words, stem
            assert " double " not in words, stem


def test_every_error_code_has_a_test() -> None:
    codes = {c for p in MODULES for c in CODE.findall(p.read_text(encoding="utf-8"))}
    tests = (p for p in (ROOT / "tests").rglob("*.py") if p != Path(__file__))
    tested = {c for p in tests for c in CODE_IN_TEST.findall(p.read_text(encoding="utf-8"))}
    assert codes - tested == set()


def test_no_two_test_files_share_a_name() -> None:
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert {n for n in names if names.count(n) > 1} == set()  # pytest imports them as modules of that name


def test_files_stay_readable_in_length() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text().splitlines())) > 600}
    assert not long
