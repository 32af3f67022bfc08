"""The control thread beside a busy processor and a busy interpreter: achieved rate, lateness, heap calls.

Each run is a process of its own: a robot in C (tests/c/control_robot.c), a policy in Python, and a thread that spins in
Python. Beside it one busy process runs on each core, so that nothing is idle. Heap calls are counted by a preloaded
library (tests/c/control_heap.c) from the start of sense to the end of act.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environment
import numpy as np

from edgec.control.core import FLAGS
from edgec.control.loop import Question
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import CFunction, CRobot, Options, Payload, RealTime
from edgec.control.settings import Axis, Settings
from edgec.ir import Array

ROOT = Path(__file__).parent.parent
PRIORITY = 50
RATES = (100.0, 500.0)
DEGRADED_HZ = 100.0  # what must hold without SCHED_FIFO
RATE_SHARE = 0.001  # of the rate: 100 +- 0.1 Hz
LATENESS_NS = {True: 1_000_000, False: 5_000_000}  # p99, with SCHED_FIFO and without
PAYLOAD = Payload((256,))  # ROBOT_PAYLOAD


def build(folder: Path) -> tuple[Path, Path]:
    """(robot, heap): shared libraries."""
    made = []
    for name in ("control_robot", "control_heap"):
        to = folder / f"{name}.so"
        source = ROOT / "tests" / "c" / f"{name}.c"
        include = f"-I{ROOT / 'runtime_c' / 'control'}"
        subprocess.run(["gcc", *FLAGS, "-shared", include, str(source), "-o", str(to)], check=True)
        made.append(to)
    return made[0], made[1]


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """One process that computes on each core, no longer than this one lives."""
    spin = (
        "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nparent = os.getppid()\n"
        "while os.getppid() == parent:\n    for _ in range(100000): pass"
    )
    cores = sorted(os.sched_getaffinity(0))
    processes = [subprocess.Popen([sys.executable, "-c", spin, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def settings_of(rate_hz: float) -> Settings:
    """A robot of two joints; chunks long enough for a policy that waits for the interpreter."""
    axes = tuple(Axis("delta", (-1.0, 1.0), position=i) for i in range(2))
    horizon = round(0.5 * rate_hz)
    return Settings(
        "vlash", rate_hz, horizon=horizon, execute=horizon // 2, states=2, axes=axes, stop_after=1_000_000
    )


def run(rate_hz: float, seconds: float, fifo: bool, robot_library: str) -> dict[str, Any]:
    """One run, in this process."""
    c = ctypes.CDLL(robot_library)
    heap = ctypes.CDLL(None)
    c.robot_bytes.restype = heap.heap_calls.restype = ctypes.c_uint64
    c.robot_outside.restype = c.robot_wrong.restype = ctypes.c_uint64
    body = ctypes.create_string_buffer(c.robot_bytes())
    c.robot_init(body, ctypes.c_float(1.0))
    address = {
        name: ctypes.cast(getattr(c, f"robot_{name}"), ctypes.c_void_p).value or 0
        for name in ("sense", "act", "payload", "trace")
    }
    user = ctypes.addressof(body)
    robot = CRobot(address["sense"], address["act"], user, address["payload"], keep=body)
    settings = settings_of(rate_hz)

    def policy(question: Question, payload: Array | None) -> Array:
        at, steps = question.state.astype(np.float32), []
        for _ in range(settings.horizon):
            steps.append(np.clip(0.2 * (np.sin(question.tick / 50) - at), -0.5, 0.5))
            at = at + steps[-1]
        return np.array(steps, np.float32)

    options = Options(
        payload=PAYLOAD,
        periods=round(seconds * rate_hz),
        trace=CFunction(address["trace"], user),
        realtime=RealTime(control_priority=PRIORITY if fifo else 0, lock_memory=fifo),
    )
    done = False

    def spin() -> None:
        while not done:
            pass

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    loop = RealtimeLoop(settings, robot, policy, options)
    found = loop.run()
    done = True
    return {
        "rate_hz": rate_hz,
        "sched_fifo": fifo,
        "realtime": loop.grants.status,
        "degraded": bool(loop.grants.refused),
        "heap_calls": int(heap.heap_calls()),
        "outside_limits": int(c.robot_outside(body)),
        "out_of_order": int(c.robot_wrong(body)),
        **found.json(),
    }


def failures(row: dict[str, Any]) -> list[str]:
    """What is wrong with a run; nothing: it passes."""
    rate, late = row["rate_hz"], row["quantiles"]["lateness"]["p99"]
    limit = LATENESS_NS[row["sched_fifo"]]
    wrong = [row["realtime"]] if row["degraded"] else []
    if abs(row["achieved_hz"] - rate) > RATE_SHARE * rate:
        wrong.append(f"{row['achieved_hz']:.2f} Hz, not {rate:g} +- {RATE_SHARE * rate:g}")
    if late > limit:
        wrong.append(f"p99 lateness {late / 1e6:.2f} ms, at most {limit / 1e6:g}")
    wrong += [f"{name} {row[name]}" for name in ("heap_calls", "outside_limits", "out_of_order") if row[name]]
    return wrong


def required(row: dict[str, Any]) -> bool:
    """Whether the run must pass. Without SCHED_FIFO the loop promises DEGRADED_HZ; what it reaches beyond is shown."""
    return bool(row["sched_fifo"]) or row["rate_hz"] <= DEGRADED_HZ


def verdict(row: dict[str, Any]) -> str:
    """What is said of a run."""
    if not row["failures"]:
        return "within the limits"
    return ("" if required(row) else "degraded, not required: ") + "; ".join(row["failures"])


def stolen_s() -> float:
    """Seconds so far in which the computer that this virtual one runs on gave its processors to others."""
    line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")


def run_beside(rate_hz: float, seconds: float, fifo: bool, robot: Path, heap: Path) -> dict[str, Any]:
    """A run in a process of its own, with what is wrong with it."""
    command = [sys.executable, __file__, str(rate_hz), str(seconds), str(int(fifo)), str(robot)]
    paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    before = stolen_s()
    more = {"LD_PRELOAD": str(heap), "PYTHONPATH": paths}
    done = subprocess.run(command, env={**os.environ, **more}, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return {**row, "stolen_s": round(stolen_s() - before, 2), "failures": failures(row)}


def measure(seconds: float, store: bool) -> int:
    """All runs. Exit code."""
    rows = []
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, busy_cores():
        robot, heap = build(Path(folder))
        for rate in RATES:
            for fifo in (True, False):
                rows.append(run_beside(rate, seconds, fifo, robot, heap))
                print(text_of(rows[-1]), flush=True)
    if store:
        path = environment.write(
            "control_realtime",
            rows,
            seconds=seconds,
            load_before=load_before,
            limits={
                "rate_share": RATE_SHARE,
                "p99_lateness_ns": {"sched_fifo": LATENESS_NS[True], "without": LATENESS_NS[False]},
            },
            beside="one busy process on each core, and a thread that spins in Python in the same process",
        )
        print(f"wrote {path}")
    return 1 if any(row["failures"] for row in rows if required(row)) else 0


def text_of(row: dict[str, Any]) -> str:
    """One line."""
    late, work = row["quantiles"]["lateness"], row["quantiles"]["execution"]
    times = ", ".join(f"{name} {late[name] / 1e3:.0f}" for name in ("p50", "p99", "p99.9", "max"))
    return (
        f"{row['rate_hz']:g} Hz {'SCHED_FIFO' if row['sched_fifo'] else 'without   '}: {row['achieved_hz']:.3f} Hz, "
        f"lateness us {times}; work p99 {work['p99'] / 1e3:.0f} us; {row['missed']} missed, {row['heap_calls']} heap "
        f"calls, delay {row['delay']}, {row['stolen_s']} s stolen: {verdict(row)}"
    )


if __name__ == "__main__":
    rate_given, seconds_given, fifo_given, library_given = sys.argv[1:]
    print(json.dumps(run(float(rate_given), float(seconds_given), fifo_given == "1", library_given)))
