"""docs/performance.md is what its generator prints, and its log of versions ends where the results stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import performance_cuda
import performance_page
import performance_training
import pytest

from examples.networks import NETWORKS

ROOT = Path(__file__).parent.parent


def result(name: str) -> dict[str, Any]:
    found = performance_page.load(name)
    assert found is not None
    return found


def last(log: str, what: str) -> float:
    """The last measurement of `what` in the log of versions."""
    rows = next(part["rows"] for part in performance_page.read_history()["log"] if part["name"] == log)
    return float([measured for named, _, _, measured in rows if named == what][-1])


def test_the_page_is_what_its_generator_prints() -> None:
    page = performance_page.page()
    assert page == (ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), (
        "run `PYTHONPATH=. python benchmarks/performance_page.py`"
    )


def test_each_benchmark_of_the_gpu_has_a_section() -> None:
    written = {path.stem for path in performance_page.RESULTS.glob("cuda_*.json")}
    assert written == set(performance_page.CUDA)


def test_results_say_where_they_were_measured() -> None:
    for name in performance_page.CUDA:
        found = result(name)
        assert found["gpu"] and found["torch"] and found["date"] and found["edgec"], name


@pytest.mark.parametrize("row", result("cuda_vision")["rows"], ids=lambda row: row["network"])
def test_the_log_of_vision_ends_at_the_results(row: dict[str, Any]) -> None:
    title = NETWORKS[row["network"]].title
    assert last("vision_fp16", title) == pytest.approx(
        row["fp16"]["ms"], abs=0.0006
    )  # three decimals are logged
    if "int8" in row:
        assert last("vision_int8", title) == pytest.approx(1000 * row["int8"]["ms"], abs=0.6)


def test_the_log_of_4_bit_layers_ends_at_the_results() -> None:
    rows = result("cuda_linears")["rows"]
    for batch in {row["batch"] for row in rows}:
        assert last("w4a16", f"batch {batch}") == pytest.approx(
            performance_cuda.summed(rows, batch, "w4"), abs=0.06
        )


def test_the_log_of_decoding_ends_at_the_result() -> None:
    ours = next(row for row in result("cuda_decode")["rows"] if row.get("precision") == "w4a16")
    assert last("decode", "8B shape, 32 layers, w4a16") == pytest.approx(ours["step_ms"], abs=0.0006)


def test_the_log_of_attention_ends_at_the_results() -> None:
    rows = {row["shape"]: row["us"] for row in result("cuda_attention")["rows"]}
    log = next(part for part in performance_page.read_history()["log"] if part["name"] == "attention")
    for what in {row[0] for row in log["rows"]}:
        assert last("attention", what) == pytest.approx(rows[what], rel=0.005)  # three figures are logged


def test_the_log_of_layers_ends_at_the_results() -> None:
    rows = result("cuda_layers")["rows"]
    for network in {row["network"] for row in rows}:
        total = sum(row["count"] * row["us"] for row in rows if row["network"] == network)
        assert last("layers", NETWORKS[network].title) == pytest.approx(total, abs=0.6)


def test_the_kernels_of_a_decode_step_add_up() -> None:
    profile = performance_page.read_history()["profile"]
    assert sum(count for _, count, _ in profile["rows"]) == profile["launches"]
    assert sum(us for _, _, us in profile["rows"]) == pytest.approx(profile["total_us"], abs=1)


def test_training_takes_as_little_memory_as_the_docs_say() -> None:
    found = result("training_memory")
    assert all(found["gains"][name] >= least for name, least in found["limits"].items())
    step = f"{found['rows']['int8']['sram_bytes']:,} B"
    theirs = found["rows"]["torch"]
    peer = f"{theirs['live_bytes'] / 1e6:.1f} MB of tensors in a process of {theirs['process_bytes'] / 1e6:.0f} MB"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert step in readme and peer in readme
    assert step in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    measured = [r for r in result("training")["rows"] if r["scheme"] == 99 and r["gradients"] == "int8"]
    assert [r["sram_bytes"] for r in measured] == [found["rows"]["int8"]["sram_bytes"]]


def test_the_kernels_of_a_training_step_add_up() -> None:
    for name in ("train_kernels", "train_kernels_fp32"):
        found = result(name)
        layers = performance_training.layers(found["rows"])
        for phase in ("forward", "backward"):
            total = found["totals"][phase]["instructions"]
            assert sum(layer[phase] for layer in layers.values()) == total
