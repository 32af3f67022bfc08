"""The report of one compile: memory over time, layers with MACs, bytes and fidelity, histograms, what runs
in float.

`build` makes the JSON that lies in the artifact; `text` shows it; pictures and the HTML page are in
`report_html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec import interp, log
from edgec.fixedpoint import dequantize_array
from edgec.ir import Array, Node, Program, Quant, Type
from edgec.plan import Call, ConstantArg, Entry, Plan, Stream, Target, Use
from edgec.training import report as train_report

MOST_HISTOGRAM_BYTES: Final = 1 << 30

Json = dict[str, Any]
_BINS = 32


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Of one value's finite elements: signal to quantisation noise in dB, percent beyond the int8 range, histogram."""

    snr_db: float | None
    saturated_percent: float
    histogram: tuple[list[int], float, float]  # counts, low edge, high edge


def fidelity(
    reference: Program,
    program: Program,
    graph: str,
    samples: Sequence[tuple[dict[str, Array], dict[str, Array]]],
) -> dict[str, Fidelity]:
    """Fidelity of each value of `program` that `reference` (the float network) also has.

    `samples`: (inputs of reference, inputs of program) by value name. Sums run over all samples.
    """
    names = {v.name for node in program.graph(graph).nodes for v in node.outputs}
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    clipped: dict[str, list[int]] = {}
    last: dict[str, Array] = {}
    types = program.type_of(program.graph(graph))
    for float_inputs, own_inputs in log.progress(samples, "fidelity", len(samples)):
        expected: dict[str, Array] = {}

        def keep(node: Node, results: tuple[Array, ...], into: dict[str, Array] = expected) -> None:
            into.update((v.name, y) for v, y in zip(node.outputs, results, strict=True) if v.name in names)

        def measure(node: Node, results: tuple[Array, ...], want: dict[str, Array] = expected) -> None:
            for value, y in zip(node.outputs, results, strict=True):
                name = value.name
                real: Array = _real(y, value.type)
                last[name] = real
                if name in want and want[name].shape == y.shape:
                    truth = want[name].astype(np.float64)
                    if value.type.quant is not None and value.type.quant.axis is None:  # no parameter
                        count = clipped.setdefault(name, [0, 0])
                        count[0] += _outside(truth, value.type.quant)
                        count[1] += y.size
                    finite = np.isfinite(truth) & np.isfinite(real)  # masks hold minus infinity
                    signal[name] = signal.get(name, 0.0) + float(np.sum(truth[finite] ** 2))
                    noise[name] = noise.get(name, 0.0) + float(
                        np.sum(np.subtract(truth[finite], real[finite]) ** 2)
                    )

        interp.run(reference, reference.graph(graph), float_inputs, observe=keep)
        interp.run(program, program.graph(graph), own_inputs, observe=measure)
    rows = {}
    for name in names:
        if name not in last or (not types[name].dtype.is_float and types[name].quant is None):
            continue
        snr = None
        if signal.get(name, 0.0) > 0.0:
            snr = _decibels(signal[name], noise[name])
        outside, total = clipped.get(name, [0, 1])
        rows[name] = Fidelity(snr, 100.0 * outside / max(1, total), histogram(last[name]))
    return rows


def _decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), 99 at most."""
    return 99.0 if noise == 0.0 else min(99.0, 10.0 * float(np.log10(signal / noise)))


def _outside(truth: Array, quant: Quant) -> int:
    """Elements beyond the int8 range by more than half a step. Those a fused ReLU maps to the end of it are inside."""
    scale, zero = quant.per_tensor
    low, high = scale * (-128.5 - zero), scale * (127.5 - zero)
    return int(np.count_nonzero(np.less(truth, low) | np.greater(truth, high)))


def _real(y: Array, t: Type) -> Array:
    return dequantize_array(y, t.quant) if t.quant is not None else y.astype(np.float64)


def histogram(x: Array) -> tuple[list[int], float, float]:
    """(counts of equal bins, low edge, high edge) of finite elements."""
    real = np.asarray(x, np.float64)
    counts, edges = np.histogram(real[np.isfinite(real)], bins=_BINS)
    return [int(c) for c in counts], float(f"{edges[0]:.6g}"), float(f"{edges[-1]:.6g}")


def memory_timeline(plan: Plan, entry: Entry, memory: str) -> Json:
    """Buffers of one arena with offset, size and lifetime, and the bytes live at each item."""
    chosen = [
        b for b in plan.buffers if b.memory == memory and b.inside is None and b.entry in ("", entry.name)
    ]
    rows = []
    live = [0] * len(entry.items)
    for b in chosen:
        first, last = (0, len(entry.items) - 1) if b.use is Use.STATE else (b.first, b.last)
        rows.append(
            {
                "name": b.name,
                "offset": b.offset,
                "bytes": b.bytes,
                "first": first,
                "last": last,
                "use": b.use.value,
            }
        )
        for i in range(max(0, first), min(last, len(entry.items) - 1) + 1):
            live[i] += b.bytes
    return {
        "memory": memory,
        "buffers": rows,
        "live_bytes": live,
        "peak_item": int(np.argmax(live)) if live else 0,
    }


def build(
    plan: Plan,
    target: Target,
    program: Program,
    found: dict[str, dict[str, Fidelity]],
    islands: Sequence[Json],
) -> Json:
    """The report as JSON. `found`: fidelity by entry name; `islands`: float nodes in an int8 network, with
    reasons."""
    entries = []
    for entry in plan.entries:
        values = found.get(entry.name, {})
        layers = []
        for index, item in enumerate(entry.items):
            for call in item.calls if isinstance(item, Stream) else (item,):
                fid = values.get(call.name)
                layers.append({
                    "item": index,
                    "layer": call.loc.layer,
                    "where": f"{call.loc.file}:{call.loc.line}" if call.loc.file else "",
                    "value": call.name,
                    "op": call.title,
                    "kernel": call.kernel.symbol,
                    "in": list(call.in_types[0].dims) if call.in_types else [],
                    "out": list(call.out_types[0].dims),
                    "macs": call.macs,
                    "constant_bytes": sum(c.data.nbytes for c in plan.constants if c.name in _read(call)),
                    "out_bytes": call.out_types[0].bytes,
                    "streamed": isinstance(item, Stream),
                    "snr_db": None if fid is None or fid.snr_db is None else round(fid.snr_db, 2),
                    "saturated_percent": None if fid is None else round(fid.saturated_percent, 3),
                    "histogram": None if fid is None else list(fid.histogram),
                })  # fmt: skip
        timelines = [memory_timeline(plan, entry, a.memory) for a in plan.arenas]
        entries.append({"name": entry.name, "layers": layers, "timelines": timelines})
    return {
        "model": plan.name,
        "target": target.name,
        "macs": sum(c.macs for e in plan.entries for c in e.calls),
        "arena_bytes": {a.memory: a.bytes for a in plan.arenas},
        "constant_bytes": sum(c.data.nbytes for c in plan.constants),
        "budget_bytes": {m.name: m.bytes for m in target.memories},
        "entries": entries,
        "float_islands": list(islands),
        "weights": _weights(program),
    }


def _read(call: Call) -> frozenset[str]:
    """Names of the Plan's constants that the call reads."""
    arguments = (*call.inputs, *call.constants)
    return frozenset(a.constant for a in arguments if isinstance(a, ConstantArg))


def _weights(program: Program) -> list[Json]:
    """Each constant of the network with the histogram of its real values: packed ones mix several in one array.
    None of a network whose weights are too many to read for that."""
    if sum(c.type.bytes for c in program.constants.values()) > MOST_HISTOGRAM_BYTES:
        return []
    rows: list[Json] = []
    for name, constant in program.constants.items():
        t = constant.type
        if t.size > 1 and (t.dtype.is_float or t.quant is not None):
            counts = list(histogram(_real(constant.data, t)))
            rows.append({"name": name, "dtype": t.dtype.value, "bytes": t.bytes, "histogram": counts})
    return rows


def text(report: Json, sizes: Json | None) -> str:
    """The report for a terminal. `sizes`: ram_bytes and flash_bytes of the built image where there is one."""
    lines = [f"{report['model']} for {report['target']}: {report['macs']:,} MACs"]
    arenas = ", ".join(f"{name} {size:,} B" for name, size in report["arena_bytes"].items())
    lines.append(f"arena {arenas}; constants {report['constant_bytes']:,} B")
    if sizes:
        lines.append(f"image: RAM {sizes['ram_bytes']:,} B, flash {sizes['flash_bytes']:,} B")
    for entry in report["entries"]:
        lines.append(f"\n{entry['name']}")
        titles = f"{'op':<20} {'output':<14} {'MACs':>10} {'SNR dB':>7} {'saturated':>9}"
        lines.append(f"  #  {'layer':<30} {titles}")
        for row in entry["layers"]:
            snr = "" if row["snr_db"] is None else f"{row['snr_db']:.1f}"
            saturated = "" if row["saturated_percent"] is None else f"{row['saturated_percent']:.1f}%"
            shape = "x".join(str(d) for d in row["out"])
            mark = "~" if row["streamed"] else " "
            what = f"{row['item']:3}{mark} {one_line(row['layer'])[:30]:<30} {row['op'][:20]:<20} {shape:<14}"
            lines.append(f"{what} {row['macs']:>10,} {snr:>7} {saturated:>9}")
        for timeline in entry["timelines"]:
            lines += _bars(timeline)
    if any(row["streamed"] for e in report["entries"] for row in e["layers"]):
        lines.append("~ runs row by row with its neighbours")
    lines += train_report.text(report["training"]) if "training" in report else []
    lines += sensitivity_text(report.get("sensitivity", ()))
    for row in report.get("linear_layers", ()):
        lines.append(choice_text(row))
    for island in report["float_islands"]:
        lines.append(f"float: {one_line(island['layer'])} ({island['op']}): {island['why']}")
    return "\n".join(lines)


def choice_text(row: Json) -> str:
    """What one linear layer became: the predicted microseconds are those of fp16 and of the rounded form."""
    predicted = row.get("predicted_us")
    times = f" [{predicted[0]:.2f} -> {predicted[1]:.2f} us predicted]" if predicted else ""
    return f"{row['became']}: {row['entry']} {one_line(row['layer'])}: {row['why']}{times}"


def sensitivity_text(rows: Sequence[Json]) -> list[str]:
    """Lines of a table of `passes.sensitivity` rows."""
    if not rows:
        return []
    titles = f"{'op':<14} {'network dB':>10} {'its MSE':>9} {'own dB':>7} {'its MSE':>9}"
    lines = [f"{'layer rounded alone':<40} {titles}"]
    for row in rows:
        own = "" if row["layer_snr_db"] is None else f"{row['layer_snr_db']:.1f}"
        own_mse = "" if row["layer_mse"] is None else f"{row['layer_mse']:.1e}"
        network = f"{row['network_snr_db']:>10.1f} {row['network_mse']:>9.1e}"
        name = one_line(row["layer"])[:40] or "(all of them)"
        lines.append(f"{name:<40} {row['op'][:14]:<14} {network} {own:>7} {own_mse:>9}")
    return lines


def one_line(text: str) -> str:
    """A user's name without line ends and other control characters, which it may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _bars(timeline: Json) -> list[str]:
    """Live bytes per item as bars, the peak marked."""
    live = timeline["live_bytes"]
    if not live:
        return []
    top = max(max(live), 1)
    lines = [f"  live bytes in {timeline['memory']}, item by item"]
    for i, size in enumerate(live):
        mark = " <- peak" if i == timeline["peak_item"] else ""
        lines.append(f"{i:3}  {'#' * round(40 * size / top):<40} {size:>9,}{mark}")
    return lines
