"""The journal of a measurement: JSON lines, one for each finished task, so that a killed run goes on where it was.

The first line says what is measured, as hashes of model, data and options. Each line carries its own checksum and is
appended with one write and one sync: a kill tears the last line at most, and a torn last line is taken off.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from edgec.errors import UserError, cannot_write

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """What a journal measures: sha256 of the model, of the data and of the options."""

    model: str
    data: str
    options: str


@dataclass(frozen=True, slots=True)
class Result:
    """Of one fine-tuning: held-out samples that came out right, of so many."""

    right: int
    of: int


class Journal:
    """An open journal, which no other process can open. `results` by the task's name."""

    def __init__(self, path: Path, descriptor: int, results: dict[str, Result]) -> None:
        self.path = path
        self.results = results
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, subject: Subject, resume: bool) -> Journal:
        """The journal at `path`, made where there is none. Raises UserError EDGEC-E270 where there is one and not
        `resume`, E271 where it is damaged, E272 where it is of another subject, E277 where a run has it open, EB09
        where it cannot be written."""
        try:
            if not path.exists():
                _create(path, subject)
            elif not resume:
                raise UserError(
                    "EDGEC-E270",
                    f"give --resume to go on with {path}, or delete it to measure anew: it holds the results of "
                    "an earlier run",
                )
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise cannot_write("EDGEC-EB09", path, error) from error
        try:
            _lock(descriptor, path)
            return cls(path, descriptor, _read(descriptor, path, subject))
        except BaseException:
            os.close(descriptor)
            raise

    def add(self, task: str, result: Result) -> None:
        """Append a result; it is on the disk when this returns. Raises UserError EDGEC-EB09."""
        line = _line({"task": task, "right": result.right, "of": result.of})
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(28, os.strerror(28))  # a full disk takes a part of it
            os.fsync(self._descriptor)
        except OSError as error:
            raise cannot_write("EDGEC-EB09", self.path, error) from error
        self.results[task] = result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _create(path: Path, subject: Subject) -> None:
    """A journal with its first line, whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            head = {
                "format": FORMAT,
                "model": subject.model,
                "data": subject.data,
                "options": subject.options,
            }
            file.write(_line(head))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too leaves nothing
        os.unlink(temporary)
        raise


def _lock(descriptor: int, path: Path) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            "EDGEC-E277",
            f"wait for the other run, or give another -o: {path} is in use by a running `edgec tune`",
        ) from None


def _line(record: Mapping[str, object]) -> bytes:
    text = json.dumps(record)
    return json.dumps({**record, "crc": _crc(text)}).encode() + b"\n"


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _read(descriptor: int, path: Path, subject: Subject) -> dict[str, Result]:
    """The results so far; what a kill left of a last line is cut off."""
    content = b""
    while part := os.pread(descriptor, 1 << 20, len(content)):
        content += part
    whole, _, torn = content.rpartition(b"\n")
    lines = whole.split(b"\n")
    if torn:
        os.ftruncate(descriptor, len(content) - len(torn))
    head = _record(lines[0], 1, path)
    _refuse_other(head, path, subject)
    results = {}
    for number, line in enumerate(lines[1:], 2):
        record = _record(line, number, path)
        results[str(record["task"])] = Result(int(record["right"]), int(record["of"]))
    return results


def _record(line: bytes, number: int, path: Path) -> dict[str, Any]:
    keys = ("format", "model", "data", "options") if number == 1 else ("task", "right", "of")
    try:
        record = json.loads(line)
        crc = record.pop("crc")
        if crc == _crc(json.dumps(record)) and tuple(record) == keys:
            return dict(record)
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise UserError(
        "EDGEC-E271",
        f"delete {path} to measure anew, or bring back a copy of it: its line {number} is damaged or not a journal's",
    )


def _refuse_other(head: Mapping[str, Any], path: Path, subject: Subject) -> None:
    if head["format"] != FORMAT:
        raise UserError(
            "EDGEC-E272",
            f"delete {path} to measure anew: it has format {head['format']}, this edgec writes {FORMAT}",
        )
    mine = {"model": subject.model, "data": subject.data, "options": subject.options}
    other = [name for name, hashed in mine.items() if head[name] != hashed]
    if other:
        raise UserError(
            "EDGEC-E272",
            f"give another -o, or delete {path} to measure anew: it was measured with other {' and '.join(other)}",
        )
