"""docs/protocol.md against the header, the C tables, the Python enums and the answers of a device."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgec.link import frame as link_frame
from edgec.link.frame import STATUS_TEXT, Frame, Request, Status
from edgec.link.host import Link
from edgec.runtime_c import ROOT as RUNTIME
from tests.link_devices import Device, Wire
from tests.test_link import GRAPH, LAYOUT, QUICK, label, sample

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
HEADER = (RUNTIME / "link" / "ec_link.h").read_text(encoding="utf-8")
SOURCE = (RUNTIME / "link" / "ec_link.c").read_text(encoding="utf-8")
SIZES = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "f32": 4, "[8]": 8, "[]": 0}


def enumerators(kind: str) -> list[tuple[int, str, str]]:
    """(number, name, comment) of an enum of the header."""
    body = next(b for b in re.findall(r"typedef enum \{(.*?)\} (\w+);", HEADER, re.S) if b[1] == kind)[0]
    found = re.findall(r"EC_LINK_(\w+) = (\d+),?\s*(?:/\* (.*?) \*/)?", body)
    return [(int(number), name, comment) for name, number, comment in found]


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_requests_are_those_of_the_header_and_of_python() -> None:
    table = [(int(r[0]), r[1].upper().replace(" ", "_"), r[4]) for r in rows("Requests")]
    assert table == enumerators("ec_link_type")
    assert [(number, name) for number, name, _ in table] == [(int(r), r.name) for r in Request]


def test_the_statuses_are_those_of_the_header_and_of_python() -> None:
    table = [(int(number), name, text) for number, name, text in rows("Statuses")]
    assert [(n, name, "" if name == "OK" else text) for n, name, text in table] == enumerators(
        "ec_link_status"
    )
    assert table == [(int(s), s.name, STATUS_TEXT[s]) for s in Status]


def fixed(cell: str) -> tuple[int, bool]:
    """(bytes of the fixed fields, whether more may follow)."""
    kinds = [field.split()[0] for field in cell.split(", ")] if cell else []
    return sum(SIZES[k] for k in kinds), "[]" in kinds


def test_the_payloads_are_as_long_as_the_device_demands() -> None:
    source = SOURCE.replace("BEGIN_BYTES", str(8 + 2 * link_frame.HASH_BYTES))
    kinds = re.findall(r"\{do_\w+, EC_LINK_(\w+), (\d+), (\d), \d\}", source)
    demanded = {name: (int(length), exact == "0") for name, length, exact in kinds}
    told = {r[1].upper().replace(" ", "_"): fixed(r[2]) for r in rows("Requests")}
    assert told.pop("HELLO") == (6, False)
    assert told == demanded


def test_the_answers_are_as_long_as_the_page_says() -> None:
    link = Link(Wire(Device()), QUICK)
    lengths: dict[str, int] = {}
    answers = link._answer_to

    def noted(asked: Frame, wait_s: float) -> Frame | None:
        answer = answers(asked, wait_s)
        assert answer is not None and answer.status == Status.OK
        lengths[Request(asked.kind).name] = len(answer.payload)
        return answer

    link._answer_to = noted  # type: ignore[method-assign]
    link.hello()
    link.set_rate(0.1)
    link.keep(0, sample(0), label(0))
    link.set_replay(1)
    link.request(Request.INPUT, bytes([Request.TRAIN, 0, 0, 0, 0]) + sample(0))
    link.train(sample(1), label(1))
    link.evaluate(sample(1), label(1))
    link.infer(sample(1))
    link.save()
    link.load()
    link.push(link.pull(), GRAPH, LAYOUT)
    link.request(Request.WEIGHTS_ABORT)
    link.reset()
    told = {r[1].upper().replace(" ", "_"): fixed(r[3]) for r in rows("Requests")}
    assert lengths.keys() == told.keys()
    for name, (size, more) in told.items():
        assert lengths[name] > size if more else lengths[name] == size, name


@pytest.mark.parametrize("line", [r for r in rows("Frames") if r[0].isdigit()], ids=lambda r: r[0])
def test_the_frame_is_laid_out_as_the_page_says(line: list[str]) -> None:
    offsets = dict(zip(("0", "1", "2", "4", "8", "12"), (0, 1, 2, 4, 8, 12), strict=True))
    frame = Frame(7, 0, 0x44434241, 0x54535251, b"payload")
    data = link_frame.unwrap(link_frame.encode(frame)[1:-1])
    assert data is not None
    fields = {0: b"\x07", 1: b"\x00", 2: b"\x07\x00", 4: b"ABCD", 8: b"QRST", 12: b"payload"}
    at = offsets[line[0]]
    assert data[at : at + len(fields[at])] == fields[at]
    assert line[1] in (str(len(fields[at])), "n")


def test_every_error_code_of_the_link_is_on_the_page() -> None:
    files = [ROOT / "edgec" / "link" / f"{n}.py" for n in ("host", "errors", "places", "finetune")]
    codes = {c for f in files for c in re.findall(r"EDGEC-E82\w", f.read_text(encoding="utf-8"))}
    assert codes == {r[0] for r in rows("Errors on the host")}


def test_the_version_is_the_same_on_both_sides() -> None:
    assert f"#define EC_LINK_VERSION {link_frame.VERSION}u" in HEADER
    assert f"#define EC_LINK_HEADER_BYTES {link_frame.HEADER.size}u" in HEADER
    assert f"#define EC_LINK_HASH_BYTES {link_frame.HASH_BYTES}u" in HEADER
