"""Pictures of docs/performance.md, drawn from benchmarks/results/*.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from performance_cuda import summed, w4_bound_us

DOCS: Final = Path(__file__).parent.parent / "docs"
OURS, OURS_LIGHT, THEIRS, THIRD = "#4e79a7", "#a0cbe8", "#bab0ac", "#f28e2b"
Row = dict[str, Any]


def figure(width: float) -> tuple[Any, Any]:
    """An empty figure of one plot, the same bytes at every run."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "edgec"
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, 3), layout="constrained")
    ax = drawn.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return drawn, ax


def save(drawn: Any, ax: Any, name: str) -> None:
    ax.legend(frameon=False, fontsize=8)
    drawn.savefig(DOCS / name, metadata={"Date": None})


def mcu(rows: list[Row]) -> None:
    """docs/mcu.svg: instructions per MAC of both, side by side."""
    drawn, ax = figure(7)
    names = [row["network"].upper() for row in rows]
    theirs = [row["peer"][0] / row["macs"] for row in rows]
    ours = [row["per_mac"] for row in rows]
    for shift, values, label, colour in (
        (-0.2, theirs, "TFLM + CMSIS-NN", THEIRS),
        (0.2, ours, "edgec", OURS),
    ):
        bars = ax.bar([i + shift for i in range(len(rows))], values, 0.38, label=label, color=colour)
        ax.bar_label(bars, fmt="%.2f", fontsize=8)
    ax.set_xticks(range(len(rows)), names)
    ax.set_ylabel("instructions per MAC")
    ax.set_title("Cortex-M4 (QEMU mps2-an386), int8", fontsize=10)
    save(drawn, ax, "mcu.svg")


def vision(rows: list[Row]) -> None:
    """docs/cuda_vision.svg: microseconds of each network, PyTorch's best beside ours."""
    from examples.networks import NETWORKS

    drawn, ax = figure(9)
    places = range(len(rows))
    best = [1000 * min(row["pytorch"].values()) for row in rows]
    fp16 = [1000 * row["fp16"]["ms"] for row in rows]
    for shift, values, label, colour in (
        (-0.27, best, "best of PyTorch, fp16", THEIRS),
        (0.0, fp16, "edgec, fp16", OURS),
    ):
        bars = ax.bar([i + shift for i in places], values, 0.26, label=label, color=colour)
        ax.bar_label(bars, fmt="%.0f", fontsize=8)
    int8 = [(i, 1000 * row["int8"]["ms"]) for i, row in enumerate(rows) if "int8" in row]
    bars = ax.bar(
        [i + 0.27 for i, _ in int8], [us for _, us in int8], 0.26, label="edgec, int8", color=OURS_LIGHT
    )
    ax.bar_label(bars, fmt="%.0f", fontsize=8)
    ax.set_xticks(places, [NETWORKS[row["network"]].title for row in rows], fontsize=8)
    ax.set_ylabel("us, batch 1")
    ax.set_title("Vision networks, 224x224, one H200: lower is better", fontsize=10)
    save(drawn, ax, "cuda_vision.svg")


def w4(rows: list[Row]) -> None:
    """docs/cuda_w4.svg: the four linear layers by batch, with the bound as a line, on a scale of powers."""
    drawn, ax = figure(9)
    batches = sorted({row["batch"] for row in rows})
    for shift, key, label, colour in (
        (-0.27, "torch_fp16", "cuBLAS fp16", THEIRS),
        (0.0, "torch_int4", "torch int4", THIRD),
        (0.27, "w4", "edgec W4A16", OURS),
    ):
        values = [summed(rows, batch, key) for batch in batches]
        bars = ax.bar([i + shift for i in range(len(batches))], values, 0.26, label=label, color=colour)
        ax.bar_label(bars, fmt="%.0f", fontsize=7)
    ax.set_yscale("log")
    ax.set_ylim(10, 4000)
    bounds = [w4_bound_us(batch) for batch in batches]
    ax.plot(range(len(batches)), bounds, "k--", linewidth=1, marker="_", label="bound")
    ax.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches], fontsize=8)
    ax.set_ylabel("us, four layers")
    ax.set_title("Linear layers of Llama-3-8B, one H200: lower is better", fontsize=10)
    save(drawn, ax, "cuda_w4.svg")


def training_memory(figures: list[tuple[str, int]]) -> None:
    """docs/training_memory.svg: bytes of a training step, ours first, on a scale of powers."""
    drawn, ax = figure(9)
    titles = [title for title, _ in figures][::-1]
    values = [n for _, n in figures][::-1]
    colours = [OURS if title.startswith("edgec") else THEIRS for title in titles]
    bars = ax.barh(titles, values, 0.62, color=colours)
    ax.bar_label(bars, [f"{n / 1e3:,.0f} kB, {n / values[-1]:,.0f}×" for n in values], fontsize=8, padding=3)
    ax.set_xscale("log")
    ax.set_xlim(1e5, 5e9)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel("bytes")
    ax.set_title("One training step of MCUNet-5FPS 128², batch 1: less is better", fontsize=10)
    drawn.savefig(DOCS / "training_memory.svg", metadata={"Date": None})
