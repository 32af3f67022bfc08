"""What `edgec tune --train` found, as rows, as text and as a picture."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

from edgec.report_html import new_figure, write_whole
from edgec.tune.evolution import HEAD_ONLY, Choice
from edgec.tune.search import Tuned


def rows(tuned: Tuned) -> list[dict[str, Any]]:
    """One a part that was trained alone: what it adds, what it costs, whether the scheme has it."""
    cost, items, table, chosen = tuned.cost, tuned.items, tuned.contributions, tuned.found.choice
    found = []
    for k in items.biases:
        part = Choice(k)
        title = f"biases of the last {k}"
        found.append(_row(tuned, title, None, part, part, table.biases[k], chosen.biases == k))
    for number, ratio in items.slices:
        alone, trained = Choice(0, ((number, ratio),)), items.beside((number, ratio))
        gain = table.slices[number, ratio]
        inside = (number, ratio) in chosen.slices
        found.append(_row(tuned, cost.layers[number].title, ratio, alone, trained, gain, inside))
    return found


def _row(
    tuned: Tuned, title: str, ratio: float | None, alone: Choice, trained: Choice, gain: float, inside: bool
) -> dict[str, Any]:
    least = tuned.cost.extra_bytes(HEAD_ONLY)
    return {
        "part": title,
        "ratio": None if ratio is None else str(Fraction(ratio)),
        "accuracy": tuned.accuracy[trained],
        "contribution": gain,
        "bytes": tuned.cost.extra_bytes(alone) - least,
        "backward_macs": tuned.cost.macs(alone),
        "chosen": inside,
    }


def json(tuned: Tuned) -> dict[str, Any]:
    """For machines."""
    choice, cost = tuned.found.choice, tuned.cost
    return {
        "biases": choice.biases,
        "weights": [{"layer": cost.layers[i].title, "ratio": str(Fraction(r))} for i, r in choice.slices],
        "accuracy": tuned.accuracy[choice],
        "accuracy_head": tuned.accuracy[HEAD_ONLY],
        "accuracy_biases": tuned.accuracy[Choice(tuned.items.most)],
        "sum_of_contributions": tuned.found.total,
        "memory_bytes": tuned.memory_bytes,
        "backward_macs": cost.macs(choice),
        "backward_instructions": cost.instructions(choice),
        "seeds": list(tuned.items.seeds),
        "left_out": list(tuned.left_out),
        "contributions": rows(tuned),
    }


def text(tuned: Tuned) -> str:
    """For people: a table of all parts, then the scheme."""
    lines = [f"{'part':<36} {'ratio':>5} {'accuracy':>9} {'adds':>7} {'bytes':>10} {'backward MACs':>14}"]
    for row in rows(tuned):
        mark = "  chosen" if row["chosen"] else ""
        lines.append(
            f"{row['part'][:36]:<36} {row['ratio'] or '':>5} {100 * row['accuracy']:>7.2f} % "
            f"{100 * row['contribution']:>+7.2f} {row['bytes']:>10,} {row['backward_macs']:>14,}{mark}"
        )
    found = json(tuned)
    lines += [
        "",
        f"scheme: biases of the last {found['biases']} layers, {len(found['weights'])} slices; "
        f"{tuned.memory_bytes:,} bytes, about {found['backward_instructions']:,} instructions backward",
        f"accuracy on held-out data: {100 * found['accuracy']:.2f} %; the head alone "
        f"{100 * found['accuracy_head']:.2f} %, with biases {100 * found['accuracy_biases']:.2f} %",
    ]
    return "\n".join(lines)


def write_png(path: Path, tuned: Tuned) -> None:
    """Contributions as a picture: biases by their count, slices by layer. Raises TargetError EDGEC-EA04 without
    matplotlib, UserError where it cannot be written."""
    figure = new_figure(10.0, 6.0)
    first, second = figure.subplots(2, 1)
    counts = tuned.items.biases
    gains = tuned.contributions
    first.plot(counts, [100 * gains.biases[k] for k in counts], marker="o", markersize=3)
    first.set_xticks(counts)
    first.set(xlabel="biases of the last k layers", ylabel="points against the head alone")
    numbers = sorted({number for number, _ in tuned.items.slices})
    ratios = sorted({ratio for _, ratio in tuned.items.slices})
    for place, ratio in enumerate(ratios):
        own = [n for n in numbers if (n, ratio) in gains.slices]
        at = [numbers.index(n) + (place - (len(ratios) - 1) / 2) * 0.8 / len(ratios) for n in own]
        heights = [100 * gains.slices[n, ratio] for n in own]
        edges = ["black" if (n, ratio) in tuned.found.choice.slices else "none" for n in own]
        second.bar(at, heights, 0.8 / len(ratios), label=str(Fraction(ratio)), edgecolor=edges)
    second.set_xticks(
        range(len(numbers)), [tuned.cost.layers[n].title[:24] for n in numbers], rotation=90, fontsize=7
    )
    second.set(ylabel="points against biases alone")
    if ratios:
        second.legend(title="ratio; chosen: outlined")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})  # same table, same bytes
    write_whole(path, drawn.getvalue())
