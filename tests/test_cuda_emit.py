"""Plans for GPUs: their text reads back, and the sources of one network are golden."""

from __future__ import annotations

from pathlib import Path

import cuda_harness
import pytest
import torch

from edgec import compiler
from edgec.backends import cuda
from edgec.backends.kernels_cuda import KERNELS
from edgec.pipeline import Options
from edgec.plan import Plan
from edgec.plan_text import arrays_of, read_plan, show_plan
from edgec.targets.load import load_target

GOLDEN = Path(__file__).parent / "golden" / "cuda"


class Net(torch.nn.Module):
    """A convolution with an activation and a residual, a pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 16, 3, 2, 1)
        self.block = torch.nn.Conv2d(16, 16, 3, 1, 1)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.block(y) + y)
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


def planned(precision: str, name: str) -> Plan:
    options = Options(precision=precision)  # type: ignore[arg-type]
    calib = "random" if precision == "int8" else None
    request = compiler.Request(Net().eval(), name, options, calib, (torch.zeros(1, 3, 16, 16),), name="net")
    return compiler.plan(request).plan


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_plan_reads_back(precision: str) -> None:
    plan = planned(precision, "orin")
    assert read_plan(show_plan(plan), KERNELS, arrays_of(plan)).entries == plan.entries


def test_the_sources_of_a_network_are_golden(request: pytest.FixtureRequest) -> None:
    emitted = cuda.emit(planned("fp16", "orin"), load_target("orin"), "/* head */\n")
    files = {k: v for k, v in emitted.files.items() if k.startswith(("src/model", "src/units", "src/cubins"))}
    flat = {name.removeprefix("src/").replace("/", "_"): text for name, text in files.items()}
    if request.config.getoption("--update"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        for old in GOLDEN.iterdir():
            old.unlink()
        for name, text in flat.items():
            (GOLDEN / name).write_text(text, encoding="utf-8")
    assert {p.name: p.read_text(encoding="utf-8") for p in GOLDEN.iterdir()} == flat


@pytest.mark.parametrize(("name", "percent"), [("orin", 0), ("h200", 50)])
def test_all_kernels_divide_an_sm_alike(name: str, percent: int) -> None:
    plan = planned("fp16", name)
    text = cuda.emit(plan, load_target(name), "").files["src/model.c"]
    assert f"states, {len(plan.state)}u, {percent}u}};" in text


def test_equal_plans_give_equal_bytes() -> None:
    target = load_target("h200")
    first, second = (cuda.emit(planned("fp16", "h200"), target, "") for _ in range(2))
    assert first.files == second.files
    assert first.weights.checksum == second.weights.checksum


def test_the_harness_names_a_difference() -> None:
    (case, *_) = cuda_harness.cases_of(Path(__file__).parent / "cuda" / "test_plain.py")
    (expected,) = case.expected()
    assert cuda_harness.difference(expected, expected, case) == ""
    assert cuda_harness.difference(expected + 1, expected, case) != ""
