"""report: what it holds is documented, adds up, and its pages and pictures can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli_command import COMPILE, Command

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def report(edgec: Command, made: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(edgec.works("report", made / "m0", "--json").out)
    return found


def keys(value: object) -> Iterator[str]:
    """Every key of an object in JSON, those of the objects in it included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_every_key_is_documented(report: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z_]+", text))
    memories = set(report["arena_bytes"]) | set(report["budget_bytes"])
    assert set(keys(report)) - memories <= words


def test_the_peak_is_the_item_with_the_most_live_bytes_and_fits_the_arena(report: dict[str, Any]) -> None:
    (timeline,) = report["entries"][0]["timelines"]
    live = timeline["live_bytes"]
    assert live[timeline["peak_item"]] == max(live) <= report["arena_bytes"]["ram"]
    for i, size in enumerate(live):
        assert size == sum(b["bytes"] for b in timeline["buffers"] if b["first"] <= i <= b["last"])


def test_layers_have_macs_bytes_and_an_snr_that_int8_explains(report: dict[str, Any]) -> None:
    layers = report["entries"][0]["layers"]
    assert [row["layer"] for row in layers] == ["conv", "conv2", "fc"]
    assert sum(row["macs"] for row in layers) == report["macs"]
    assert [row["out_bytes"] for row in layers] == [256, 128, 3]
    # 8 bits give about 6 dB a bit, less the head room of the range; saturation by minmax is none
    assert all(30 < row["snr_db"] < 60 and row["saturated_percent"] < 0.1 for row in layers)


def test_histograms_count_every_element(report: dict[str, Any]) -> None:
    for row in report["entries"][0]["layers"]:
        counts, low, high = row["histogram"]
        assert sum(counts) == np.prod(row["out"])
        assert low < high
    sizes = {"i8": 1, "i32": 4, "f32": 4}
    for row in report["weights"]:
        assert sum(row["histogram"][0]) == row["bytes"] // sizes[row["dtype"]]
    assert any(row["histogram"][1] < 0 < row["histogram"][2] for row in report["weights"])


def test_the_text_marks_the_peak_and_names_every_layer(edgec: Command, made: Path) -> None:
    text = edgec.works("report", made / "m0").out
    assert text.count(" <- peak\n") + text.endswith(" <- peak\n") >= 1
    for name in ("conv ", "conv2", "fc"):
        assert name in text


def test_html_is_one_page_without_scripts_or_links_out(edgec: Command, made: Path) -> None:
    edgec.works("report", made / "m0", "--html", "r.html")
    page = (edgec.here / "r.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert "<script" not in page
    assert "http://" not in page and "https://" not in page
    for word in ("Memory", "Layers", "Weights", "Activations", "Every layer", "conv2"):
        assert word in page


def test_png_is_large_enough_to_be_read(edgec: Command, made: Path) -> None:
    edgec.works("report", made / "m0", "--png", "r.png")
    data = (edgec.here / "r.png").read_bytes()
    assert data.startswith(PNG)
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert width >= 1000 and height >= 400


def test_pictures_of_the_same_artifact_are_the_same_bytes(edgec: Command, made: Path) -> None:
    for name in ("a.html", "b.html"):
        edgec.works("report", made / "m0", "--html", name)
    assert (edgec.here / "a.html").read_bytes() == (edgec.here / "b.html").read_bytes()


def test_a_float_model_has_a_report_too(edgec: Command) -> None:
    edgec.works(*COMPILE, "net.pt2", "--precision", "fp32")
    edgec.works("report", "out", "--html", "r.html", "--png", "r.png")
    assert "conv2" in edgec.works("report", "out").out


def test_a_model_without_layers_has_a_report_too(edgec: Command) -> None:
    edgec.works(*COMPILE, "-", "--model", "tests.cli_models:nothing_to_do", "--calib", "random")
    edgec.works("report", "out", "--html", "r.html", "--png", "r.png")
