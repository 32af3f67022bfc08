"""The report as pictures and as one HTML page without scripts. Every name in it is escaped."""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import TargetError, cannot_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
_COLOURS = {
    "input": "#4e79a7",
    "output": "#59a14f",
    "activation": "#f28e2b",
    "scratch": "#bab0ac",
    "ring": "#b07aa1",
    "state": "#e15759",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches. Raises TargetError EA04 without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise TargetError(
            "EDGEC-EA04", "run pip install 'edgec[report]': pictures need matplotlib, which is not installed"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def memory_figure(report: Json) -> Figure:
    """Memory timeline of each entry and memory: items on x, offsets on y, one box a buffer, the peak marked."""
    timelines = [(e, t) for e in report["entries"] for t in e["timelines"] if t["live_bytes"]]
    widest = max((len(t["live_bytes"]) for _, t in timelines), default=1)
    figure = new_figure(min(24.0, max(10.0, 0.3 * widest)), 4.6 * max(1, len(timelines)))
    for row, (entry, timeline) in enumerate(timelines):
        ax = figure.add_subplot(len(timelines), 1, row + 1)
        _boxes(ax, timeline)
        _peak(ax, timeline, report["arena_bytes"][timeline["memory"]])
        count = len(timeline["live_bytes"])
        layers: dict[int, str] = {}
        for layer in entry["layers"]:
            layers.setdefault(layer["item"], layer["layer"] or layer["op"])
        step = max(1, -(-count // 60))
        ax.set_xticks(range(0, count, step))
        names = [f"{_label(layers.get(i, ''), 22)} {i}" for i in range(0, count, step)]
        ax.set_xticklabels(names, rotation=90, fontsize=6)
        ax.set(xlim=(-0.6, count - 0.4), ylabel="byte of the arena")
        ax.set_title(f"{report['model']} {entry['name']}: memory {timeline['memory']}", fontsize=10)
        ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _boxes(ax: Any, timeline: Json) -> None:
    """One box a buffer: as wide as it lives, as high as it is large; the large ones bear their size."""
    from matplotlib.patches import Rectangle

    top = max((b["offset"] + b["bytes"] for b in timeline["buffers"]), default=1)
    count, seen = len(timeline["live_bytes"]), set()
    for b in timeline["buffers"]:
        first, last = max(b["first"], 0), min(b["last"], count - 1)
        label = None if b["use"] in seen else b["use"]
        seen.add(b["use"])
        box = Rectangle((first - 0.5, b["offset"]), last - first + 1, b["bytes"], label=label, alpha=0.85)
        box.set(facecolor=_COLOURS[b["use"]], edgecolor="white", linewidth=0.6)
        ax.add_patch(box)
        if b["bytes"] > 0.08 * top and (last - first + 1) > 0.05 * count:
            middle = ((first + last) / 2, b["offset"] + b["bytes"] / 2)
            ax.text(*middle, f"{b['bytes']:,}", ha="center", va="center", fontsize=6, color="white")


def _peak(ax: Any, timeline: Json, arena: int) -> None:
    """Mark the item with the most live bytes, and the arena's size."""
    at, live = timeline["peak_item"], timeline["live_bytes"]
    ax.axvspan(at - 0.5, at + 0.5, color="#d62728", alpha=0.15, label=f"peak, item {at}: {live[at]:,} B live")
    ax.step(
        [-0.5, *(i + 0.5 for i in range(len(live)))],
        [live[0], *live],
        color="#d62728",
        linewidth=1.2,
        label="live",
    )
    ax.axhline(arena, color="#333333", linewidth=0.8, linestyle="--", label=f"arena: {arena:,} B")
    ax.set_ylim(0, arena * 1.05 + 1)


def _label(name: str, length: int) -> str:
    """The end of a layer's name for a picture: without control characters, and without `$`, which begins a formula."""
    return "".join(c if c.isprintable() else "?" for c in name[-length:]).replace("$", "?")


def layer_figure(report: Json) -> Figure:
    """MACs, bytes of constants and of the output, and SNR of each layer."""
    layers = [row for e in report["entries"] for row in e["layers"]]
    panels = [
        ("macs", "MACs", "#4e79a7"),
        ("constant_bytes", "constant bytes", "#f28e2b"),
        ("out_bytes", "output bytes", "#b07aa1"),
    ]
    if any(row["snr_db"] is not None for row in layers):
        panels.append(("snr_db", "SNR against float, dB", "#59a14f"))
    figure = new_figure(min(24.0, max(10.0, 0.22 * len(layers))), 1.9 * len(panels) + 1)
    for row, (key, title, colour) in enumerate(panels):
        ax = figure.add_subplot(len(panels), 1, row + 1)
        ax.bar(range(len(layers)), [layer[key] or 0 for layer in layers], color=colour)
        ax.set_ylabel(title, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set(xlim=(-0.6, max(1, len(layers)) - 0.4), xticks=[])
    ax.set_xticks(range(len(layers)))
    ax.set_xticklabels([_label(r["layer"] or r["op"], 22) for r in layers], rotation=90, fontsize=6)
    return figure


def histogram_figure(rows: list[tuple[str, list[int], float, float]]) -> Figure:
    """A small histogram for each (name, counts, low, high), logarithmic counts."""
    columns = 6
    lines = max(1, -(-len(rows) // columns))
    figure = new_figure(11, 1.4 * lines)
    for i, (name, counts, low, high) in enumerate(rows):
        ax = figure.add_subplot(lines, columns, i + 1)
        width = (high - low) / len(counts) or 1.0
        ax.bar(
            [low + width * k for k in range(len(counts))], counts, width=width, align="edge", color="#4e79a7"
        )
        ax.set_title(_label(name, 22), fontsize=6)
        ax.set_yscale("symlog")
        ax.tick_params(labelsize=5)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def write_png(path: Path, report: Json) -> None:
    """The memory timeline as a PNG."""
    write_whole(path, _png(memory_figure(report)))


def write_html(path: Path, report: Json, sizes: Json | None) -> None:
    """One page: summary, memory timeline, layers, histograms of weights and activations."""
    weights = [(r["name"], *r["histogram"]) for r in report["weights"] if r["bytes"] >= 64][:60]
    values = [
        (r["layer"] or r["value"], *r["histogram"])
        for e in report["entries"]
        for r in e["layers"]
        if r["histogram"]
    ][:60]
    figures = [("Memory", memory_figure(report)), ("Layers", layer_figure(report))]
    figures += [("Weights", histogram_figure(weights))] if weights else []
    figures += [("Activations", histogram_figure(values))] if values else []
    pictures = "".join(
        f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{base64.b64encode(_png(f)).decode()}">'
        for title, f in figures
    )
    title = html.escape(f"{report['model']} for {report['target']}")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;font-size:13px}}td,th{{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}}
td:nth-child(-n+4),th:nth-child(-n+4){{text-align:left}}img{{max-width:100%}}</style></head>
<body><h1>{title}</h1>{_summary(report, sizes)}{pictures}{_layers(report)}</body></html>
"""
    write_whole(path, page.encode())


def _summary(report: Json, sizes: Json | None) -> str:
    rows = [("MACs", f"{report['macs']:,}")]
    rows += [(f"arena {n}", f"{b:,} B") for n, b in report["arena_bytes"].items()]
    rows += [("constants", f"{report['constant_bytes']:,} B")]
    if sizes:
        rows += [
            ("RAM of the image", f"{sizes['ram_bytes']:,} B"),
            ("flash of the image", f"{sizes['flash_bytes']:,} B"),
        ]
    cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in rows)
    islands = "".join(
        f"<li>{html.escape(i['layer'])} ({html.escape(i['op'])}): {html.escape(i['why'])}</li>"
        for i in report["float_islands"]
    )
    return f"<table>{cells}</table>" + (f"<h2>Runs in float</h2><ul>{islands}</ul>" if islands else "")


def _layers(report: Json) -> str:
    head = (
        "<tr><th>#</th><th>layer</th><th>op</th><th>kernel</th><th>output</th><th>MACs</th><th>constants</th>"
    )
    head += "<th>SNR dB</th><th>saturated</th></tr>"
    rows = []
    for entry in report["entries"]:
        for r in entry["layers"]:
            snr = "" if r["snr_db"] is None else f"{r['snr_db']:.1f}"
            saturated = "" if r["saturated_percent"] is None else f"{r['saturated_percent']:.1f}%"
            cells: tuple[object, ...] = (
                r["item"],
                r["layer"],
                r["op"],
                r["kernel"],
                "x".join(map(str, r["out"])),
                f"{r['macs']:,}",
            )
            cells += (f"{r['constant_bytes']:,}", snr, saturated)
            rows.append("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>")
    return f"<h2>Every layer</h2><table>{head}{''.join(rows)}</table>"


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename."""
    path = Path(os.path.abspath(path))
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:  # Ctrl-C too leaves nothing
            os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write("EDGEC-EB04", path, error) from error
