"""docs/networks.md says which network compiles for `orin` at which precision: every cell is planned again here.

`pytest tests/test_networks_table.py --update` writes the table anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.networks import CNNS, NETWORKS
from tests.network_programs import table

PAGE = Path(__file__).parent.parent / "docs" / "networks.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "w8a8", "w4a16")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def generated() -> str:
    return table("orin", PRECISIONS)


def test_the_table_of_networks_is_true(generated: str, request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    held, _, after = rest.partition(END)
    if request.config.getoption("--update"):
        PAGE.write_text(before + BEGIN + generated + END + after, encoding="utf-8")
        return
    assert held == generated


def test_every_network_compiles_in_half_precision(generated: str) -> None:
    for line in generated.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:4] == ["yes", "yes", "yes"], line


def test_every_cnn_compiles_in_int8(generated: str) -> None:
    for name in CNNS:
        (line,) = (x for x in generated.splitlines() if x.startswith(f"| {NETWORKS[name].title} |"))
        assert line.split("|")[5].strip() == "yes", line
