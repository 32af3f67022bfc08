"""Tables and picture of docs/training.md from results/learning.json and results/scheme_arithmetic.json.

    python benchmarks/performance_learning.py

Writes docs/learning_schemes.svg and what stands between the comments `begin NAME` and `end NAME` of docs/training.md.
"""

from __future__ import annotations

import json
from typing import Any, Final

import performance_pictures
from environment import RESULTS
from performance_pictures import DOCS, OURS

PAGE: Final = DOCS / "training.md"
PICTURE: Final = "learning_schemes.svg"
Row = dict[str, Any]


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _title(row: Row) -> str:
    """What learns, and how it is not the product's default."""
    scheme = "biases alone" if row["scheme"] == "bias" else f"scheme {row['scheme']}"
    what = {
        "none": "",
        "skip": ", gradients beside residual blocks dropped",
        "truncate": ", updates truncated",
    }[row["ablation"]]
    rounding = ", updates rounded to the nearest" if row["rounding"] == "nearest" else ""
    return f"{scheme}{what}{rounding}"


def _limit(row: Row) -> str:
    if row["at_least"] > 0:
        return f"≥ {row['at_least']:g} %"
    return f"≤ {row['at_most']:g} %" if row["at_most"] < 100 else ""


def learning(result: dict[str, Any]) -> str:
    """The table of what is learnt."""
    lines = [
        f"`python benchmarks/training.py --all --learn` on {result['date']}, {result['processor']}: "
        f"{result['epochs']} epochs of {result['train_images']:,} images, one a step, rate {result['rate']:g} with "
        f"warming up and a cosine; percent of {result['test_images']:,} new images that are told right.\n",
        "| what learns | gradients | seed | right | held to | SRAM of a step |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        sram = f"{row['sram_bytes']:,} B" if row["sram_bytes"] else ""
        lines.append(
            f"| {_title(row)} | {row['gradients']} | {row['seed']} | {row['accuracy']:.1f} % | {_limit(row)} | {sram} |"
        )
    return "\n".join(lines) + "\n"


def scheme_arithmetic(result: dict[str, Any]) -> str:
    """The table of labels and of the totals of a step, the model's beside the Plan's."""
    lines = [
        f"`python benchmarks/scheme_arithmetic.py` on {result['date']}: published / ours, then bytes of the model / of "
        "the Plan.\n",
        "| scheme | label, KiB | trained | whole maps, both gradients | row by row, fp32 | row by row, int8 |",
        "|---|---|---|---|---|---|",
    ]
    cells = {(r["scheme"], r["front"], r["gradients"]): r for r in result["rows"]}
    for label, (published, ours) in result["labels_kib"].items():
        scheme = int(label)
        shown = [
            _pair(cells[scheme, front, gradients]["total"])
            for front, gradients in (("whole", "int8"), ("row by row", "fp32"), ("row by row", "int8"))
        ]
        assert cells[scheme, "whole", "int8"]["total"] == cells[scheme, "whole", "fp32"]["total"]
        trained = _pair(cells[scheme, "whole", "int8"]["trained"])
        lines.append(f"| {label} | {published} / {ours:.1f} | {trained} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _pair(figures: list[int]) -> str:
    return " / ".join(f"{n:,}" for n in figures)


def curve(rows: list[Row]) -> list[Row]:
    """The points of accuracy against memory, the least memory first."""
    return sorted((row for row in rows if row["sram_bytes"]), key=lambda row: int(row["sram_bytes"]))


def draw(rows: list[Row]) -> None:
    """docs/learning_schemes.svg: percent told right against the SRAM of a step."""
    drawn, ax = performance_pictures.figure(7)
    points = curve(rows)
    places = [row["sram_bytes"] / 1024 for row in points]
    shares = [row["accuracy"] for row in points]
    ax.plot(
        places, shares, color=OURS, marker="o", label="edgec, int8 gradients, stochastic rounding, seed 0"
    )
    for row, x, y in zip(points, places, shares, strict=True):
        ax.annotate(
            row["scheme"], (x, y), textcoords="offset points", xytext=(0, -12), ha="center", fontsize=8
        )
    ax.set_xlabel("SRAM of a training step, KiB, all of it")
    ax.set_ylabel("new images told right, %")
    ax.set_ylim(min(shares) - 4, 100)
    ax.set_title("MCUNet-5FPS 128², ten shapes: what trains, by scheme", fontsize=10)
    performance_pictures.save(drawn, ax, PICTURE)


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` between the comments of `name`."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{PAGE} has no comments 'begin {name}' and 'end {name}'")
    return f"{before}{begin}{text}{end}{after}"


def page(text: str) -> str:
    """The page with both tables as the results say."""
    text = replaced(text, "learning", learning(load("learning")))
    return replaced(text, "scheme_arithmetic", scheme_arithmetic(load("scheme_arithmetic")))


def main() -> None:
    """Write the picture and the tables."""
    draw(load("learning")["rows"])
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
