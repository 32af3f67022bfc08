"""What a recording of a control loop must hold, whatever went wrong: limits, stops within bounds, causes in the log."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgec.control.record import Recording
from edgec.control.settings import SOURCES, STOPS, Axis, Settings
from edgec.ir import Array

CHUNK, EXTRA, HOLD, STOP, REST, NOTHING = range(len(SOURCES))
TARGETS = ("absolute", "lag", "discrete")
# float32: a sum of two numbers and its difference again.
ULPS = 8 * np.finfo(np.float32).eps


def broken(recording: Recording) -> list[str]:
    """What does not hold, in words; nothing where all does."""
    p = recording.periods
    segments = np.zeros(len(p), np.int64)
    starts = recording.happened("reset")["tick"]
    segments = np.searchsorted(starts, p["tick"], side="right")
    found = []
    if len(p) != len(recording.observations) or len(p) != len(recording.actions) or recording.dropped:
        found.append("records are missing")
    for number, axis in enumerate(recording.settings.axes):
        for rule in (_range, _motion, _change, _jerk, _position, _held):
            bad = rule(recording, axis, p, p["action"][:, number], segments)
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                found.append(f"axis {number} ({axis.kind}): {rule.__name__} at period {p['tick'][at]}")
    found += _stops(recording, p, segments)
    found += _watches(recording, p, segments)
    return found


def _sent(p: Array) -> Array:
    return np.asarray(p["source"] != NOTHING)


def _range(_: Recording, axis: Axis, p: Array, a: Array, __: Array) -> Array:
    low, high = np.float32(axis.action_range[0]), np.float32(axis.action_range[1])
    return _sent(p) & ~((a >= low) & (a <= high))


def _way(axis: Axis, x: Array) -> Array:
    if not axis.wraps:
        return x
    return np.asarray(np.remainder(x.astype(np.float64) + np.pi, 2 * np.pi) - np.pi)


def _before(p: Array, a: Array, segments: Array) -> tuple[Array, Array]:
    """(the last period's command, whether there was one since the last reset)."""
    last = np.concatenate([a[:1], a[:-1]])
    sent = _sent(p)
    had = np.concatenate([[False], sent[:-1] & (segments[1:] == segments[:-1])])
    return last, had


def _motions(axis: Axis, p: Array, a: Array, segments: Array) -> tuple[Array, Array]:
    """(motion of each command, whether it has one)."""
    if axis.kind not in TARGETS:
        return a.astype(np.float64), _sent(p)
    last, had = _before(p, a, segments)
    return _way(axis, a.astype(np.float64) - last), had & _sent(p)


def _motion(_: Recording, axis: Axis, p: Array, a: Array, segments: Array) -> Array:
    motion, has = _motions(axis, p, a, segments)
    if axis.kind == "discrete" or axis.kind == "model":
        return np.zeros(len(p), bool)
    played = np.isin(p["source"], (CHUNK, EXTRA)) if axis.kind == "acceleration" else True
    slack = 8 * ULPS * (1 + np.abs(a))
    return has & played & (np.abs(motion) > axis.motion_max + slack)


def _change(_: Recording, axis: Axis, p: Array, a: Array, segments: Array) -> Array:
    """Of axes without position limits; a hold stops at once."""
    if np.isinf(axis.change_max) or axis.kind == "discrete" or np.isfinite(axis.position_range).any():
        return np.zeros(len(p), bool)
    motion, has = _motions(axis, p, a, segments)
    before = np.concatenate([[0.0], np.where(has, motion, 0.0)[:-1]])
    _, had = _before(p, a, segments)
    change = motion - np.where(had, before, 0.0)
    played = np.isin(p["source"], (CHUNK, EXTRA)) & np.concatenate([[False], had[:-1]])
    return has & played & (np.abs(change) > axis.change_max + 8 * ULPS * (1 + np.abs(a)))


def _jerk(_: Recording, axis: Axis, p: Array, a: Array, segments: Array) -> Array:
    """Of three actions of the policy in a row, on axes without position limits."""
    if np.isinf(axis.jerk_max) or axis.kind == "discrete" or np.isfinite(axis.position_range).any():
        return np.zeros(len(p), bool)
    motion, has = _motions(axis, p, a, segments)
    played = np.isin(p["source"], (CHUNK, EXTRA)) & has
    in_row = _run(played, segments) >= 3
    jerk = np.concatenate([[0.0, 0.0], np.diff(motion, 2)])
    return in_row & (np.abs(jerk) > axis.jerk_max + 16 * ULPS * (1 + np.abs(a)))


def _position(recording: Recording, axis: Axis, p: Array, a: Array, segments: Array) -> Array:
    """Where the observation is of now: the command leads out of no limit, and no further out of one."""
    low, high = axis.position_range
    if axis.position < 0 or not np.isfinite(axis.position_range).any() or axis.kind == "discrete":
        return np.zeros(len(p), bool)
    place = p["state"][:, axis.position].astype(np.float64)
    slack = 16 * ULPS * (1 + np.abs(place))
    if axis.kind in TARGETS:
        last, had = _before(p, a, segments)
        start = np.where(had, last, place)
        goal = a.astype(np.float64)
        good = _sent(p)
    else:
        start, goal = place, place + axis.gain * a.astype(np.float64)
        bad = np.isin(p["tick"], recording.happened("bad-observation")["tick"])
        good = _sent(p) & ~bad & (p["now"] == p["observed"])
    out = (goal > np.maximum(high, start) + slack) | (goal < np.minimum(low, start) - slack)
    return good & np.isfinite(start) & out


def _held(_: Recording, axis: Axis, p: Array, a: Array, segments: Array) -> Array:
    """Held and resting commands move nothing."""
    held = np.isin(p["source"], (HOLD, REST))
    if axis.kind in ("delta", "velocity"):
        return held & (a != 0)
    if axis.kind in TARGETS:
        last, had = _before(p, a, segments)
        return held & had & (a != last)
    return np.zeros(len(p), bool)


def _stops(recording: Recording, p: Array, segments: Array) -> list[str]:
    """A stop has its cause in the log, comes to rest in stop_periods, and stays until the reset."""
    settings, found = recording.settings, []
    stopped = p["stop"] != 0
    told = {(int(e["tick"]), int(e["value"])) for e in recording.happened("stop")}
    changes = np.flatnonzero(
        stopped & ~np.concatenate([[False], stopped[:-1] & (segments[1:] == segments[:-1])])
    )
    for at in changes:
        end = int(np.searchsorted(segments, segments[at], side="right"))
        tick, cause = int(p["tick"][at]), int(p["stop"][at])
        if (tick, cause) not in told:
            found.append(f"the stop at period {tick} for {STOPS[cause]} is not in the log")
        if (p["stop"][at:end] != cause).any():
            found.append(f"the stop at period {tick} does not last")
        sources = p["source"][at:end]
        sources = sources[sources != NOTHING]
        right = np.where(np.arange(len(sources)) < settings.stop_periods, STOP, REST)
        if (sources != right).any():
            found.append(f"the stop at period {tick} does not come to rest")
    if len(told) != len(changes):
        found.append("stops in the log that are none")
    acts = np.isin(p["source"], (CHUNK, EXTRA, HOLD))
    if (acts & stopped).any():
        found.append("an action after a stop")
    return found


def _runs(flags: Array, segments: Array) -> Iterator[Array]:
    """Counts of periods in a row, of each period, of flags within a segment."""
    edge = np.concatenate([[True], segments[1:] != segments[:-1]])
    fresh = edge | ~flags
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(flags)), 0))
    yield np.where(flags, np.arange(len(flags)) - start + (flags[start]).astype(int), 0)


def _run(flags: Array, segments: Array) -> Array:
    return next(_runs(np.asarray(flags), segments))


def _watches(recording: Recording, p: Array, segments: Array) -> list[str]:
    """What goes on for too long has stopped the loop."""
    settings, found = recording.settings, []
    acts = (p["stop"] == 0) & _sent(p)
    began = _began(acts, segments)
    if settings.mode != "sync":
        first = _since_chunk(p, segments)
        starved = _run(np.isin(p["source"], (EXTRA, HOLD)) & first & acts, segments)
        if (starved > settings.stop_after).any():
            found.append("starved for too long")
    bad = np.isin(p["tick"], recording.happened("bad-observation")["tick"])
    if settings.age_max_s:
        blind = _run(bad & began, segments)
        if (acts & (blind * settings.period_ns > round(1e9 * settings.age_max_s))).any():
            found.append("blind for too long")
    if settings.overrun_max:
        overruns = _run(p["overrun"], segments)
        if (acts & (overruns >= settings.overrun_max) & began).any():
            found.append("overruns for too long")
    if settings.stall_s:
        found += _stalls(recording, settings, p, acts)
    return found


def _began(acts: Array, segments: Array) -> Array:
    """Whether something was sent since the reset, before this period."""
    total = np.cumsum(acts) - acts
    edge = np.concatenate([[True], segments[1:] != segments[:-1]])
    base = np.maximum.accumulate(np.where(edge, total, 0))
    return np.asarray(total > base)


def _since_chunk(p: Array, segments: Array) -> Array:
    return _began(np.isin(p["source"], (CHUNK, EXTRA)), segments)


def _stalls(recording: Recording, settings: Settings, p: Array, acts: Array) -> list[str]:
    """No question stays without answer for longer than stall_s while the loop acts."""
    latest_first = recording.chunks[::-1]
    answered = dict(zip(latest_first["sequence"].tolist(), latest_first["tick"].tolist(), strict=True))
    most = round(1e9 * settings.stall_s) // settings.period_ns + 1
    for question in recording.questions:
        sequence, tick = int(question["sequence"]), int(question["tick"])
        if answered.get(sequence, tick + most + 1) > tick + most:
            row = int(np.searchsorted(p["tick"], tick + most))
            if row < len(p) and acts[tick : row + 1].all():
                return [f"the question of period {tick} has no answer for too long"]
    return []
