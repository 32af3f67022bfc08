"""`edgec` in this process, for the tests of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.cli import main

COMPILE = ("compile", "-q", "--no-build", "--target", "cortex-m0", "-o", "out")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Command:
    """Runs the command line in `here`."""

    here: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> Answer:
        self.capture.readouterr()
        code = main([str(w) for w in words])
        found = self.capture.readouterr()
        return Answer(
            code, found.out.replace(str(self.here), "HERE"), found.err.replace(str(self.here), "HERE")
        )

    def works(self, *words: object) -> Answer:
        """The answer of a command that must succeed."""
        answer = self(*words)
        assert answer.code == 0, answer.err
        return answer

    def refused(self, code: int, text: str, *words: object) -> None:
        """Hold that the command ends with `code`, says exactly `text`, and leaves every file as it was."""
        before = self.tree()
        answer = self(*words)
        assert answer.err == text + "\n"
        assert answer.code == code
        assert self.tree() == before

    def tree(self) -> dict[str, bytes | None]:
        """Content of every file, by path; build folders left out, which commands may fill."""
        paths = [p for p in self.here.rglob("*") if "build" not in p.relative_to(self.here).parts]
        return {str(p.relative_to(self.here)): p.read_bytes() if p.is_file() else None for p in paths}
