"""A soak: hours of a control loop in virtual time, with faults; the log says whether anything drifts or gets lost."""

from __future__ import annotations

import hashlib
import resource
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgec.control.faults import FAULTS, Fault, Rate, Script, Surroundings, Trial
from edgec.control.record import Recording, parse
from edgec.control.replay import replay
from edgec.control.settings import SOURCES, Settings

# Five hours at 100 Hz.
PERIODS: Final = 1_800_000
_PART: Final = 30_000  # periods that are looked at together
_RATES: Final[dict[Fault, Rate]] = dict.fromkeys(FAULTS, Rate(0.0005, 1, 10))
STORM: Final = Script(seed=1, rates=_RATES, size=2.0)
AROUND: Final = Surroundings(seed=1, latency=(0.5, 2.5), excess=1.1, reset_after=5)


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak found. `log`: SHA-256 of all records, the same on each run and computer."""

    periods: int
    records: int
    lost: int  # records that are not in the log
    faults: dict[str, int]
    counts: dict[str, int]  # by the loop
    drift: dict[str, tuple[int, int]]  # what the log counts otherwise: (loop, log)
    memory_kib: int  # by which the process has grown after the second part
    replayed: int  # periods of the first part that came out of a replay again
    log: str

    @property
    def good(self) -> bool:
        """Whether nothing was lost, and the log says what the loop says."""
        return not self.lost and not self.drift


def soak(
    settings: Settings,
    periods: int = PERIODS,
    *,
    script: Script = STORM,
    around: Surroundings = AROUND,
) -> Soak:
    """Run so many periods, record all of them, and count again from the log what the loop has counted.

    Raises UserError EDGEC-E281, E29E.
    """
    trial = Trial(settings, around, script)
    hashed, header = hashlib.sha256(), b""
    seen: Counter[str] = Counter()
    number = replayed = first_kib = 0
    for begin in range(0, periods, _PART):
        data = trial.run(min(_PART, periods - begin))
        hashed.update(data)
        part = parse(header + data, Path("soak"), first=number)
        number += count(part, begin, seen) + part.dropped
        if not header:
            header = data[: struct.unpack_from("<I", data, 12)[0]]
            replayed = replay(part).periods
        elif not first_kib:
            first_kib = memory_kib()
    counts = trial.counts
    return Soak(
        periods=periods,
        records=number - trial.dropped,
        lost=trial.dropped,
        faults=trial.faults,
        counts=counts,
        drift={name: (counts[name], seen[name]) for name in counts if counts[name] != seen[name]},
        memory_kib=memory_kib() - first_kib if first_kib else 0,
        replayed=replayed,
        log=hashed.hexdigest(),
    )


# Counts of the loop by the events that tell them.
_TOLD: Final = {
    "late": "late",
    "dropped": "dropped",
    "refused": "refused",
    "bad_observations": "bad-observation",
    "beyond": "beyond",
    "split": "split",
}


def count(part: Recording, begin: int, seen: Counter[str]) -> int:
    """Count what the log of a part tells, which is to begin with the period `begin`. The number of its records."""
    actions = part.actions
    source = np.bincount(actions["source"], minlength=len(SOURCES))
    in_order = bool((part.periods["tick"] == np.arange(begin, begin + len(actions))).all())
    seen["ticks"] += len(actions) if in_order else 0
    seen["asked"] += len(part.questions)
    seen["taken"] += int(actions["handover"].sum())
    seen["clipped"] += int(actions["clipped"].sum())
    seen["held"] += int(source[SOURCES.index("hold")])
    seen["extra"] += int(source[SOURCES.index("extra")])
    seen["stops"] += len(part.happened("stop"))
    seen["overruns"] += int((part.observations["flags"] & 1).sum())
    for count, event in _TOLD.items():
        seen[count] += int(part.happened(event)["value"].sum())
    rows = (part.observations, part.questions, part.chunks, actions, part.events)
    return sum(map(len, rows))


def memory_kib() -> int:
    """What the process holds now; 0 where the system does not say."""
    place = Path("/proc/self/statm")
    if not place.exists():
        return 0
    return int(place.read_text().split()[1]) * resource.getpagesize() // 1024
