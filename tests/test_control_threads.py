"""The control loop with its threads: counts, stops and rest, with robots in C and in Python. Nothing is said of times:
benchmarks/control.py measures those."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from control_programs import CONTROL, build, needs_aarch64, run, run_aarch64, values

from edgec.control import core, realtime, realtime_types
from edgec.control.loop import Question
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import GRANTS, Grants, Observation, Options, Payload, RealTime
from edgec.control.record import Recorder, RecordingFile, read
from edgec.control.replay import replay
from edgec.control.settings import STOPS, Axis, Settings
from edgec.errors import TargetError, UserError
from edgec.ir import Array

PROGRAM = ("control_threads.c", "control_robot.c", "control_heap.c")
PERIODS = 200
RUNS, ASKED, PERIODS_UP, STOPPED, ACT = range(5)
SETTINGS = Settings(
    "vlash",
    100.0,
    horizon=32,
    execute=16,
    states=2,
    axes=tuple(Axis("delta", (-1.0, 1.0), position=i) for i in range(2)),
    stop_after=100_000,
    stop_periods=10,
)


def scenario(name: str, periods: int = PERIODS) -> dict[str, float]:
    """A run of tests/c/control_threads.c: what holds in all of them, and its numbers."""
    done = run(build(PROGRAM), name, periods)
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(done.stdout)
    assert found["wrong"] == 0 and found["outside"] == 0
    assert found["periods"] == found["ticks"] == found["senses"] == found["traces"]
    assert found["periods"] + found["missed"] == found["grid"]
    assert found["asks_seen"] == found["asked"]
    assert found["beats"] == np.ceil(found["periods"] / 10)
    return found


def test_the_loop_runs_its_periods_and_comes_to_rest() -> None:
    found = scenario("works")
    assert found["end"] == PERIODS_UP and found["status"] == 0
    assert found["periods"] == PERIODS + 11  # 10 to come to rest, one at rest
    assert found["acts"] == found["periods"] and found["rests"] == 1 and found["last"] == 0
    assert found["taken"] > 0 and found["delivered"] <= found["asked"]
    assert found["sense_errors"] == found["act_errors"] == found["infer_errors"] == 0


def test_no_heap_call_in_a_period() -> None:
    assert scenario("works")["heap"] == 0


def test_the_count_of_heap_calls_sees_them() -> None:
    found = scenario("allocates")
    assert found["heap"] == 2 * found["periods"]


def test_a_policy_that_hangs_stops_the_loop() -> None:
    found = scenario("hangs", 0)
    assert (found["end"], STOPS[int(found["stop"])]) == (STOPPED, "stall")
    assert found["status"] == 7 and found["rests"] == 1 and found["last"] == 0
    assert found["taken"] == 3


@pytest.mark.parametrize("name", ["exits", "returns"])
def test_an_inference_thread_that_ends_stops_the_loop(name: str) -> None:
    found = scenario(name, 0)
    assert (found["end"], STOPS[int(found["stop"])]) == (STOPPED, "stall")
    assert found["status"] == 0 and found["rests"] == 1 and found["last"] == 0


@pytest.mark.parametrize("name", ["fails", "nan"])
def test_a_policy_without_a_good_chunk_is_asked_again(name: str) -> None:
    found = scenario(name)
    assert found["taken"] == 3
    assert found["refused"] == found["delivered"] - 3 > 0
    assert found["infer_errors"] == (found["refused"] if name == "fails" else 0)


def test_commands_that_do_not_arrive_end_the_run() -> None:
    found = scenario("act_fails", 0)
    assert found["end"] == ACT and found["act_errors"] == 3 and found["acts"] == 53


def test_a_robot_that_is_not_seen_stops_the_loop() -> None:
    found = scenario("sense_fails", 0)
    assert (found["end"], STOPS[int(found["stop"])]) == (STOPPED, "observation")
    assert found["sense_errors"] == found["bad_observations"] == found["periods"] - 50
    assert found["rests"] == 1 and found["last"] == 0


def test_time_may_come_from_a_callback() -> None:
    found = scenario("virtual")
    assert found["periods"] == PERIODS + 11 and found["missed"] == 0 and found["overruns"] == 0


def test_a_clock_that_jumps_keeps_the_grid() -> None:
    found = scenario("jump")
    assert found["periods"] == PERIODS + 11
    assert found["missed"] == 199 and found["overruns"] == 1  # a second of 200 Hz


def test_statistics_are_whole_while_the_loop_runs() -> None:
    assert scenario("statistics")["copies"] > 1


def test_a_driver_behind_a_mailbox_sends_the_newest_commands() -> None:
    done = run(build(PROGRAM), "mailbox", PERIODS)
    found = values(done.stdout)
    assert found["wrong"] == found["outside"] == found["last"] == found["sense_errors"] == 0
    assert found["acts"] + found["lost"] == found["periods"] == PERIODS + 11
    assert found["senses"] == found["acts"] + 1 and found["taken"] > 0 and found["skips"] == 0


def test_a_driver_whose_first_observation_is_too_old_observes_again() -> None:
    done = run(build(PROGRAM), "mailbox_old", PERIODS)
    found = values(done.stdout)
    assert found["skips"] > 0 and found["taken"] > 0
    assert found["wrong"] == found["outside"] == found["last"] == found["sense_errors"] == 0
    assert found["senses"] == found["acts"] + found["skips"] + 1


@needs_aarch64
@pytest.mark.parametrize(
    ("name", "end"),
    [("works", PERIODS_UP), ("mailbox_old", PERIODS_UP), ("nan", PERIODS_UP), ("hangs", STOPPED)],
)
def test_the_threads_run_on_an_aarch64_processor(name: str, end: int) -> None:
    done = run_aarch64(PROGRAM[:2], name, 0 if end == STOPPED else PERIODS)
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(done.stdout)
    assert found["end"] == end and found["taken"] > 0
    assert found["wrong"] == found["outside"] == found["last"] == 0


def test_structures_are_as_large_in_c(tmp_path: Path) -> None:
    of_c = {
        "ec_control_config": core.CConfig,
        "ec_observation": core.CObservation,
        "ec_request": core.CRequest,
        "ec_tick_result": core.CTick,
        "ec_sensed": realtime_types.CSensed,
        "ec_sent": realtime_types.CSent,
        "ec_threads_config": realtime_types.CThreadsConfig,
        "ec_grants": realtime_types.CGrants,
        "ec_statistics": realtime_types.CStatistics,
    }
    lines = "".join(f"size_t {name}_bytes(void) {{ return sizeof({name}); }}\n" for name in of_c)
    (tmp_path / "sizes.c").write_text(f'#include "ec_threads.h"\n{lines}')
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        f"-I{CONTROL}",
        str(tmp_path / "sizes.c"),
        "-o",
        str(tmp_path / "s.so"),
    ]
    subprocess.run(command, check=True)
    sizes = ctypes.CDLL(str(tmp_path / "s.so"))
    found = {name: getattr(sizes, f"{name}_bytes")() for name in of_c}
    assert found == {name: ctypes.sizeof(structure) for name, structure in of_c.items()}


def test_what_is_not_granted_is_said() -> None:
    found = scenario("degraded")
    assert (found["control_priority"], found["control_cpu"], found["inference_cpu"]) == (-1, 22, 0)
    assert found["end"] == PERIODS_UP


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="takes a permission away: needs root and setpriv",
)
def test_without_the_permission_it_runs_and_says_so() -> None:
    command = ["setpriv", "--bounding-set=-sys_nice", str(build(PROGRAM)), "works", "50", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = values(done.stdout)
    assert found["control_priority"] == errno.EPERM
    assert found["end"] == PERIODS_UP and found["periods"] == 61


def test_nothing_runs_without_what_is_required() -> None:
    done = run(build(PROGRAM), "require", PERIODS)
    found = values(done.stdout)
    assert found["status"] == 5 and found["senses"] == found["acts"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brings_the_robot_to_rest(number: signal.Signals) -> None:
    with subprocess.Popen([str(build(PROGRAM)), "works", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started=1\n"
        process.send_signal(number)
        found = values(process.stdout.read())
    assert process.returncode == 0
    assert found["end"] == ASKED
    assert found["last"] == 0
    assert found["rests"] == (1 if found["acts"] else 0)


class Body:
    """A robot in Python that moves by each action."""

    def __init__(self) -> None:
        self.place = np.zeros(2, np.float32)
        self.commands: list[Array] = []
        self.threads: set[str] = set()

    def sense(self) -> Observation:
        return Observation(self.place.copy(), np.full((2, 3), len(self.commands) % 200, np.uint8))

    def act(self, action: Array) -> None:
        self.place += action
        self.commands.append(action)
        self.threads.add(threading.current_thread().name)


def steer(question: Question, payload: Array | None) -> Array:
    """Each action closes a fifth of what is left to (3, 3)."""
    at, steps = question.state.astype(np.float32), []
    for _ in range(SETTINGS.horizon):
        steps.append(np.clip(0.2 * (3 - at), -0.5, 0.5))
        at = at + steps[-1]
    return np.array(steps, np.float32)


OPTIONS = Options(payload=Payload((2, 3)), periods=100)


def test_a_robot_and_a_policy_in_python() -> None:
    body, seen = Body(), []

    def policy(question: Question, payload: Array | None) -> Array:
        assert payload is not None
        seen.append((payload.shape, payload.dtype, len(set(payload.flat)), threading.current_thread().name))
        return steer(question, payload)

    loop = RealtimeLoop(SETTINGS, body, policy, OPTIONS)
    found = loop.run()
    assert (found.end, found.stop) == ("periods", "asked")
    assert found.periods == found.counts["ticks"] == 111
    assert len(body.commands) + found.commands_lost == found.periods
    assert not body.commands[-1].any()  # at rest
    assert body.threads == {"edgec-robot"}
    assert set(seen) == {((2, 3), np.dtype(np.uint8), 1, "edgec-policy")}
    assert found.counts["taken"] > 0 and found.counts["asked"] >= len(seen)
    assert found.histogram("lateness").count == found.periods
    assert not loop.running and loop.grants.status == "rt=not asked"
    assert loop.statistics().periods == found.periods


def test_statistics_while_it_runs_and_a_stop() -> None:
    loop = RealtimeLoop(SETTINGS, Body(), steer, replace(OPTIONS, periods=0))
    loop.start()
    first = loop.statistics()
    assert first.end == "runs" and loop.statistics().periods > first.periods
    loop.stop()
    last = loop.wait()
    assert last.end == "asked" and last.periods > first.periods
    assert set(last.json()) >= {"achieved_hz", "quantiles", "counts", "missed"}


def test_a_replay_gives_the_same_bits(tmp_path: Path) -> None:
    recorder, path = Recorder(SETTINGS), tmp_path / "run.rec"
    with RecordingFile(path, recorder):
        found = RealtimeLoop(SETTINGS, Body(), steer, replace(OPTIONS, recorder=recorder)).run()
    replayed = replay(read(path))
    assert replayed.difference is None and replayed.gap_at is None
    assert replayed.periods == found.periods and recorder.dropped == 0


def test_a_stopped_loop_rests_until_its_reset() -> None:
    body = Body()
    seen = body.sense
    body.sense = lambda: replace(seen(), frame=7)  # type: ignore[method-assign]
    options = replace(OPTIONS, periods=0, end_on_stop=False)
    loop = RealtimeLoop(replace(SETTINGS, frozen_max=3), body, steer, options)
    loop.start()
    while loop.statistics().stop != "frozen":
        pass
    assert loop.running
    body.sense = seen  # type: ignore[method-assign]
    while loop.statistics().stop == "frozen":
        loop.reset()
    loop.stop()
    assert loop.wait().counts["stops"] >= 2


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end


def test_a_loop_that_was_reset_goes_on_once_the_robot_is_seen_again() -> None:
    """Nothing is sent between the reset and the next good observation; the driver is asked for one all the same."""
    body, blind = Body(), threading.Event()
    seen = body.sense
    body.sense = lambda: replace(seen(), observed_ns=1 if blind.is_set() else None)  # type: ignore[method-assign]
    settings = replace(SETTINGS, age_max_s=0.2)
    loop = RealtimeLoop(settings, body, steer, replace(OPTIONS, periods=0, end_on_stop=False))
    loop.start()
    wait_until(lambda: loop.statistics().counts["taken"] > 0)
    blind.set()
    wait_until(lambda: loop.statistics().stop == "observation")
    for _ in range(3):
        loop.reset()
        time.sleep(0.1)  # periods in which there is nothing to send
    sent = len(body.commands)
    blind.clear()
    wait_until(lambda: len(body.commands) > sent + 10 and loop.statistics().stop == "none")
    loop.stop()
    assert loop.wait().end == "asked" and not body.commands[-1].any()


def test_what_the_policy_raises_is_raised_when_the_robot_rests() -> None:
    def policy(question: Question, payload: Array | None) -> Array:
        if question.sequence == 2:
            raise ZeroDivisionError("in the policy")
        return steer(question, payload)

    body = Body()
    with pytest.raises(ZeroDivisionError, match="in the policy"):
        RealtimeLoop(SETTINGS, body, policy, replace(OPTIONS, periods=0)).run()
    assert not body.commands[-1].any()


def test_what_sense_raises_is_raised_when_the_robot_rests() -> None:
    body = Body()
    sense = body.sense

    def fails() -> Observation:
        if len(body.commands) > 20:
            raise OSError("the camera is gone")
        return sense()

    body.sense = fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the camera is gone"):
        RealtimeLoop(SETTINGS, body, steer, replace(OPTIONS, periods=0)).run()
    assert len(body.commands) > 21 and not body.commands[-1].any()


def test_a_first_sense_that_fails_starts_nothing() -> None:
    body = Body()
    body.sense = lambda: Observation(np.zeros(3, np.float32))  # type: ignore[method-assign]
    wanted = (
        r"^EDGEC-E292: return a state of 2 numbers and the payload \(\(2, 3\), dtype\('uint8'\)\) from sense: the "
        r"state's shape is \(3,\), the payload is None$"
    )
    with pytest.raises(UserError, match=wanted):
        RealtimeLoop(SETTINGS, body, steer, OPTIONS).run()
    assert not body.commands


def test_a_chunk_of_another_shape_is_refused() -> None:
    wanted = (
        r"^EDGEC-E291: return a chunk of shape \(32, 2\) \(horizon, axes\) from the policy: it has \(4, 2\)$"
    )
    with pytest.raises(UserError, match=wanted):
        RealtimeLoop(SETTINGS, Body(), lambda question, payload: steer(question, payload)[:4], OPTIONS).run()


def test_options_that_cannot_be_are_refused() -> None:
    wanted = (
        "^EDGEC-E290: change the options of the run: a callback is absent, or an option is out of its range: "
    )
    with pytest.raises(UserError, match=wanted):
        RealtimeLoop(SETTINGS, Body(), steer, Options(realtime=RealTime(control_priority=100)))
    loop = RealtimeLoop(SETTINGS, Body(), steer, OPTIONS)
    loop.run()
    with pytest.raises(
        UserError, match=r"^EDGEC-E290: change the options of the run: it was started already"
    ):
        loop.start()


def test_what_is_required_and_not_granted_is_an_error() -> None:
    asked = RealTime(control_cpu=1000, require=True)
    wanted = (
        r"^EDGEC-E870: run with the permission for real time \(CAP_SYS_NICE, CAP_IPC_LOCK or limits.conf\), or "
        r"without `require`: the system does not grant what real time needs: rt=degraded\(control_cpu EINVAL: "
        r"Invalid argument\)$"
    )
    with pytest.raises(TargetError, match=wanted):
        RealtimeLoop(SETTINGS, Body(), steer, replace(OPTIONS, realtime=asked)).run()


def test_threads_that_cannot_be_made_are_an_error() -> None:
    loop = RealtimeLoop(SETTINGS, Body(), steer, OPTIONS)
    wanted = (
        "^EDGEC-E871: end other programs or raise the limit of threads: the system makes no more threads$"
    )
    with pytest.raises(TargetError, match=wanted):
        loop._start_checked(realtime.NO_THREAD)


def test_a_policy_that_does_not_return_is_an_error() -> None:
    release = threading.Event()

    def policy(question: Question, payload: Array | None) -> Array:
        if question.sequence == 3:
            release.wait()
        return steer(question, payload)

    body = Body()
    loop = RealtimeLoop(
        replace(SETTINGS, stall_s=0.1), body, policy, replace(OPTIONS, periods=0, patience_s=0.1)
    )
    wanted = (
        r"^EDGEC-E872: look why the policy does not return: it was asked more than 0.1 s ago; the loop came to rest "
        r"\(stop: stall\)$"
    )
    with pytest.raises(TargetError, match=wanted):
        loop.run()
    release.set()
    assert not body.commands[-1].any()


def test_sigterm_and_ctrl_c_come_to_rest_first() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        body = Body()
        act = body.act

        def act_then_kill(action: Array, number: int = number, act: object = act, body: Body = body) -> None:
            act(action)  # type: ignore[operator]
            if len(body.commands) == 20:
                os.kill(os.getpid(), number)

        body.act = act_then_kill  # type: ignore[method-assign]
        loop = RealtimeLoop(SETTINGS, body, steer, replace(OPTIONS, periods=0))
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                loop.run()
        else:
            assert loop.run().end == "asked"
        assert not body.commands[-1].any()


def test_a_program_that_ends_brings_the_robot_to_rest(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    program = f"""
import atexit, sys, time
sys.path[:0] = [{str(tests)!r}, {str(tests.parent)!r}]
from test_control_threads import OPTIONS, SETTINGS, Body, RealtimeLoop, replace, steer
body = Body()
atexit.register(lambda: print(len(body.commands), body.commands[-1].any()))
loop = RealtimeLoop(SETTINGS, body, steer, replace(OPTIONS, periods=0))
loop.start()
while len(body.commands) < 20:
    time.sleep(0.01)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "False"


def test_grants_say_what_is_degraded() -> None:
    nothing = dict.fromkeys(GRANTS, "not asked")
    assert Grants(nothing).status == "rt=not asked"
    assert Grants({**nothing, "control_priority": "granted"}).status == "rt=granted(control_priority)"
    refused = Grants({**nothing, "control_priority": "EPERM: Operation not permitted", "stack": "granted"})
    assert refused.status == "rt=degraded(control_priority EPERM: Operation not permitted)"
    assert refused.refused == {"control_priority": "EPERM: Operation not permitted"}
