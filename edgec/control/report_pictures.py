"""Pictures of a recording of a control loop: histograms of times, jumps and errors, the time lines of chunks and
actions. They need matplotlib."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.control.record import Recording
from edgec.control.report import latencies, report, roll_errors, seams
from edgec.control.settings import SOURCES
from edgec.report_html import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from edgec.control.settings import Floats

_PERIODS: Final = 300  # of the time lines
_LANES: Final = 3  # of the chunks' bars
_DOTS_PER_INCH: Final = 110


def page(recording: Recording) -> str:
    """The report as one HTML page. Raises TargetError EDGEC-EA04 without matplotlib."""
    made, to = figure(recording), io.StringIO()
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "edgec"}):
        made.savefig(to, format="svg", metadata={"Date": None})
    svg = to.getvalue()[to.getvalue().index("<svg") :]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>edgec control report</title>'
        "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto}svg{max-width:100%;height:auto}</style>"
        f"<h1>Control loop</h1><pre>{html.escape(report(recording).text())}</pre>{svg}</html>\n"
    )


def png(recording: Recording) -> bytes:
    """The pictures as one. Raises TargetError EDGEC-EA04 without matplotlib."""
    made, to = figure(recording), io.BytesIO()
    made.savefig(to, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return to.getvalue()


def figure(recording: Recording) -> Figure:
    """All pictures, one below the other. Raises TargetError EDGEC-EA04 without matplotlib."""
    made = new_figure(9.0, 15.0)
    panels = made.subplots(6, 1)
    periods: Floats = recording.periods
    series = (
        ("woken late, ms", periods["lateness"] / 1e6),
        ("observation to chunk, ms", latencies(recording)),
        ("jump at a seam", seams(recording)),
        ("state not as foreseen", roll_errors(recording)),
    )
    for panel, (title, values) in zip(panels, series, strict=False):
        _histogram(panel, title, values)
    _chunks(panels[4], recording)
    _actions(panels[5], recording)
    return made


def _histogram(panel: Any, title: str, values: Floats) -> None:
    finite = values[np.isfinite(values)]
    panel.set_title(title if len(finite) else f"{title}: none")
    if len(finite):
        panel.hist(finite, bins=60)
        panel.set_yscale("log")


def _chunks(panel: Any, recording: Recording) -> None:
    """A bar for each chunk from its question to its arrival, one from the first to the last period that it played."""
    periods: Floats = recording.periods[-_PERIODS:]
    arrived = {int(c["sequence"]): int(c["tick"]) for c in recording.chunks}
    thinking, playing = [], []
    first, last = (int(periods["tick"][i]) for i in (0, -1)) if len(periods) else (0, 0)
    played = periods[np.isin(periods["source"], (SOURCES.index("chunk"), SOURCES.index("extra")))]
    for question in recording.questions[recording.questions["tick"] >= first]:
        sequence, tick = int(question["sequence"]), int(question["tick"])
        end = arrived.get(sequence, last)
        thinking.append((tick, max(end - tick, 1), sequence % _LANES))
        ticks = played["tick"][played["sequence"] == sequence]
        if len(ticks):
            playing.append((int(ticks[0]), int(ticks[-1] - ticks[0]) + 1, sequence % _LANES))
    for bars, colour, label in (
        (thinking, "#f28e2b", "asked until it came"),
        (playing, "#4e79a7", "played"),
    ):
        starts, lengths, lanes = np.array(bars).reshape(-1, 3).T
        low = lanes + (0.45 if label == "played" else 0.0)
        panel.bar(starts, 0.4, lengths, low, align="edge", color=colour, label=label)
    panel.set(title="chunks, the last periods", xlabel="period", yticks=[])
    panel.legend(fontsize="small", loc="upper left")


def _actions(panel: Any, recording: Recording) -> None:
    """The last periods' actions; a line where a chunk was taken up, red where nothing was planned."""
    periods: Floats = recording.periods[-_PERIODS:]
    for axis in range(len(recording.settings.axes)):
        panel.step(
            periods["tick"], periods["action"][:, axis], where="post", linewidth=0.8, label=f"axis {axis}"
        )
    for tick in periods["tick"][periods["handover"] != 0]:
        panel.axvline(tick, color="0.85", linewidth=0.6, zorder=0)
    unplanned = periods["tick"][periods["source"] != SOURCES.index("chunk")]
    for tick in unplanned:
        panel.axvspan(tick, tick + 1, color="tab:red", alpha=0.15, linewidth=0)
    panel.set(title="actions, the last periods", xlabel="period")
    panel.legend(fontsize="small", loc="upper left")
