"""Names from the user's model that try to get out of where they stand: of C comments, HTML, terminals, folders."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgec import compiler
from edgec.artifact import Artifact
from edgec.frontends import LoadOptions, load
from edgec.ir import Graph, Loc, Program
from tests import cli_models
from tests.cli_command import COMPILE, Command

HOSTILE = (
    "*/ int x; /*",
    "a\"b'c\\",
    "line\nbreak\r\n#define int char",
    "??/ ??' trigraph",
    "\u202ereversed\u2066\u200b",
    "%s%n%99999d",
    "$(touch owned)`touch owned`",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "../../../etc/passwd",
    "\x1b[2J\x07\x00bell",
    "$\\frac{1}{0}$",
    "x" * 65536,
    "",
)


def renamed(program: Program, name: str) -> Program:
    """`program` with `name` as the layer and the file of every node."""

    def one(graph: Graph) -> Graph:
        nodes = tuple(replace(node, loc=Loc(name, name, 7)) for node in graph.nodes)
        return replace(graph, nodes=nodes)

    return replace(program, graphs=tuple(one(g) for g in program.graphs))


@pytest.fixture(scope="module")
def program() -> Program:
    module, inputs = cli_models.net()
    return load(module, LoadOptions(inputs))


def compiled(program: Program, out: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setattr(compiler, "load", lambda request: program)
    request = compiler.Request("net", "cortex-m0", calib="random")
    compiler.write(compiler.plan(request), out)
    return Artifact(out)


def sources(artifact: Artifact) -> dict[str, str]:
    """Each C file without its comments."""
    files = {p.relative_to(artifact.folder): p.read_bytes() for p in artifact.folder.glob("src/**/*.[ch]")}
    for path, text in files.items():
        assert text.isascii(), path
        assert b"??/" not in text, path
    return {str(p): re.sub(r"/\*.*?\*/", "", t.decode(), flags=re.DOTALL) for p, t in files.items()}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n[:20]))
def test_c_is_that_of_the_plainly_named_model(
    program: Program, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sources(compiled(renamed(program, "layer"), tmp_path / "plain", monkeypatch))
    hostile = sources(compiled(renamed(program, name), tmp_path / "hostile", monkeypatch))
    assert hostile == plain


def test_the_c_of_all_hostile_names_at_once_builds_and_computes(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = program.graphs[0].nodes
    named = tuple(replace(n, loc=Loc(HOSTILE[i % len(HOSTILE)])) for i, n in enumerate(nodes))
    hostile = replace(program, graphs=(replace(program.graphs[0], nodes=named),))
    compiled(hostile, tmp_path / "out", monkeypatch).check("host")
    assert not list(tmp_path.rglob("owned"))


class Tags(HTMLParser):
    """The tags and attributes of a page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def page(edgec: Command, artifact: Artifact) -> str:
    edgec.works("report", "-q", artifact.folder, "--html", "r.html", "--png", "r.png")
    assert (edgec.here / "r.png").read_bytes().startswith(b"\x89PNG")
    return (edgec.here / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [" ".join(HOSTILE[:10]), HOSTILE[10]], ids=["all", "formula"])
def test_no_name_adds_a_tag_to_the_report(
    edgec: Command, program: Program, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = page(edgec, compiled(renamed(program, "layer"), edgec.here / "plain", monkeypatch))
    hostile = page(edgec, compiled(renamed(program, name), edgec.here / "hostile", monkeypatch))
    assert Tags(hostile).found == Tags(plain).found


@pytest.mark.parametrize("name", [HOSTILE[i] for i in (2, 4, 9)], ids=["line ends", "bidi", "escapes"])
def test_no_name_writes_control_characters_to_a_terminal(
    edgec: Command, program: Program, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compiled(renamed(program, name), edgec.here / "out", monkeypatch)
    text = edgec.works("report", made.folder).out
    assert all(c == "\n" or c.isprintable() for c in text)
    plain = compiled(renamed(program, "layer"), edgec.here / "plain", monkeypatch)
    assert len(text.splitlines()) == len(edgec.works("report", plain.folder).out.splitlines())


def test_no_name_writes_control_characters_into_an_error(
    edgec: Command, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "load", lambda request: renamed(program, "\x1b[2J\u202e"))
    answer = edgec(*COMPILE, "net.pt2", "--calib", "calib.npz", "--ram", "128")
    assert answer.code == 5
    assert r"\x1b[2J\u202e" in answer.err
    assert all(c == "\n" or c.isprintable() for c in answer.err)


def test_hostile_file_names_become_plain_c_names(edgec: Command) -> None:
    name = "*int main;?? '\u202e\n.pt2"
    (edgec.here / name).symlink_to(edgec.here / "net.pt2")
    edgec.works(*COMPILE, name, "--calib", "calib.npz")
    assert Artifact(edgec.here / "out").manifest["name"] == "int_main"
    assert "edgec_int_main_invoke" in (edgec.here / "out" / "src" / "model.h").read_text(encoding="ascii")
