"""The documentation says what the program does: tables are regenerated, commands are parsed, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edgec import support
from edgec.cli import parser
from edgec.targets.load import load_target, load_targets

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])


def commands(page: Path) -> list[str]:
    """Every `edgec ...` command line in the page's code blocks and inline code."""
    text = page.read_text(encoding="utf-8")
    lines = [line.strip().removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(edgec [a-z][^`]*)`", text)
    blocks = [line for line in lines if re.match(r"edgec [a-z]+ ", line)]
    return [re.sub(r"\s#.*", "", c) for c in (*blocks, *inline) if "…" not in c and "..." not in c]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_docs_parse(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)[1:]
        if len(words) > 1:  # `edgec compile` alone names the command
            parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(
        r"`((?:edgec|frontends|passes|backends|runtime_c|targets|tests|docs|examples|benchmarks)/[\w./-]+)`",
        text,
    ):
        assert (ROOT / name).exists(), name


def test_the_operator_table_is_true(request: pytest.FixtureRequest) -> None:
    places = ("cortex-m4", "cortex-m0", "orin")
    made = support.markdown(support.table([load_target(name) for name in places]), *places)
    page = ROOT / "docs" / "operators.md"
    text = page.read_text(encoding="utf-8")
    if request.config.getoption("--update"):
        page.write_text(text[: text.index("| op |")] + made + "\n", encoding="utf-8")
    assert made in page.read_text(encoding="utf-8")


def test_the_readme_names_every_target() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in load_targets():
        assert f"`{target.name}`" in text
