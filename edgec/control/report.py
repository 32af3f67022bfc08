"""What a recording of a control loop says: lateness, latencies, jumps at the seams, errors of foresight, stops."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.control.record import EVENTS, Recording
from edgec.control.settings import SOURCES, STOPS, Settings

if TYPE_CHECKING:
    from edgec.control.settings import Floats

_SHARES: Final = {"p50": 0.5, "p99": 0.99, "max": 1.0}
_DELTAS: Final = "vlash: aligned never corrects what is nearer than a delay, naive overshoots by it"
_TARGETS: Final = (
    "aligned: as good as vlash or better without training; vlash for policies trained with offsets"
)
# By kind of axis: the mode to take where a policy takes longer than a period, and why; benchmarks/control_modes.py
# measures it.
ADVICE: Final = {
    "delta": _DELTAS,
    "velocity": _DELTAS,
    "acceleration": "vlash: naive and aligned grow without bound from a few periods of delay on",
    "absolute": _TARGETS,
    "lag": _TARGETS,
    "discrete": "any: a command is repeated until it changes",
    "model": "vlash, if the model is right: its error is shown below",
}


@dataclass(frozen=True, slots=True)
class ControlReport:
    """Times in ms, jumps and errors in the user's units; each with p50, p99 and max, or None where there is none."""

    periods: int
    rate_hz: float
    mode: str
    lateness_ms: dict[str, float] | None
    latency_ms: dict[str, float] | None
    seam_jump: dict[str, float] | None
    roll_error: dict[str, float] | None
    sources: dict[str, int]
    events: dict[str, int]
    stops: list[dict[str, Any]]
    missing_records: int
    advice: dict[str, str]

    def json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        lines = [f"{self.periods:,} periods in mode {self.mode}, {self.rate_hz:.2f} Hz"]
        titles = {
            "lateness_ms": "woken late, ms",
            "latency_ms": "observation to chunk, ms",
            "seam_jump": "jump at a seam",
            "roll_error": "state not as foreseen",
        }
        for name, title in titles.items():
            found = getattr(self, name)
            if found is not None:
                lines.append(f"{title:<26}" + "  ".join(f"{k} {v:.4g}" for k, v in found.items()))
        shares = "  ".join(f"{k} {v:,}" for k, v in self.sources.items() if v)
        lines.append(f"{'actions':<26}{shares}")
        happened = "  ".join(f"{k} {v:,}" for k, v in self.events.items() if v)
        lines.append(f"{'events':<26}{happened or 'none'}")
        lines += [f"stopped in period {s['tick']:,}: {s['cause']}" for s in self.stops]
        lines += [f"{kind:<26}{text}" for kind, text in self.advice.items()]
        return "\n".join(lines)


def report(recording: Recording) -> ControlReport:
    """What the recording says."""
    periods: Floats = recording.periods
    spent = float(periods["now"][-1] - periods["now"][0]) if len(periods) > 1 else 0.0
    told: dict[str, Floats] = {name: recording.happened(name) for name in EVENTS}
    events = {name: int(rows["value"].sum()) for name, rows in told.items()}
    events |= {name: len(told[name]) for name in ("asked-stop", "reset", "stop")}
    stops: Floats = recording.happened("stop")
    return ControlReport(
        periods=len(periods),
        rate_hz=1e9 * (len(periods) - 1) / spent if spent > 0 else recording.settings.rate_hz,
        mode=recording.settings.mode,
        lateness_ms=_quantiles(periods["lateness"] / 1e6),
        latency_ms=_quantiles(latencies(recording)),
        seam_jump=_quantiles(seams(recording)),
        roll_error=_quantiles(roll_errors(recording)),
        sources={name: int((periods["source"] == i).sum()) for i, name in enumerate(SOURCES)},
        events=events,
        stops=[{"tick": int(s["tick"]), "cause": STOPS[int(s["value"])]} for s in stops],
        missing_records=recording.dropped,
        advice=advice(recording.settings),
    )


def advice(settings: Settings) -> dict[str, str]:
    """By kind of axis, the mode to take and why."""
    kinds = dict.fromkeys(axis.kind for axis in settings.axes)
    return {kind: ADVICE[kind] for kind in kinds}


def latencies(recording: Recording) -> Floats:
    """Milliseconds from the observation to the chunk, of each answer."""
    questions: Floats = recording.questions
    chunks: Floats = recording.chunks
    _, asked, answered = np.intersect1d(questions["sequence"], chunks["sequence"], return_indices=True)
    return np.asarray((chunks["published"][answered] - questions["observed"][asked]) / 1e6)


def seams(recording: Recording) -> Floats:
    """How far the first action of each chunk is from the last command before it."""
    periods: Floats = recording.periods
    at = np.flatnonzero(periods["handover"][1:]) + 1
    at = at[np.diff(periods["tick"])[at - 1] == 1]
    jump = periods["action"][at] - periods["action"][at - 1]
    return np.asarray(np.sqrt((jump.astype(np.float64) ** 2).sum(1)))


def roll_errors(recording: Recording) -> Floats:
    """How far the state is, at each hand-over of mode vlash, from what the policy was told."""
    settings = recording.settings
    if settings.mode != "vlash":
        return np.zeros(0)
    questions: Floats = recording.questions
    periods: Floats = recording.periods
    _, asked, came = np.intersect1d(questions["handover"], periods["tick"], return_indices=True)
    scale = np.asarray(settings.state_scale or np.ones(settings.states))
    offset = np.asarray(settings.state_offset or np.zeros(settings.states))
    error = periods["state"][came] - (questions["state"][asked] * scale + offset)
    return np.asarray(np.sqrt((error.astype(np.float64) ** 2).sum(1)))


def _quantiles(values: Floats) -> dict[str, float] | None:
    found = values[np.isfinite(values)]
    if not len(found):
        return None
    return {name: float(np.quantile(found, share, method="higher")) for name, share in _SHARES.items()}
