"""Runs a control loop in real time: the control thread is C's, and never waits for Python.

    run = RealtimeLoop(settings, robot, policy)
    statistics = run.run(seconds=60)

`policy` is a Python callable or a C function. A callable runs in a Python thread that spends its waits in C.

`robot` is CRobot, whose C functions run in the control thread, or an object with `sense()` and `act(action)`. These run
in a Python thread of their own and exchange with the control thread through slots (runtime_c/control/ec_mailbox.h). For
each period it sends the newest command, if there is one, waits until `sense_lead` of a period is left, and senses: what
the control thread uses is that old, or older where Python was late, and carries its true time, so that it counts in the
delay and against `age_max_s`. The control thread's lateness is C's either way; that of `act` is Python's: with a driver
in Python a command goes out when the interpreter gets to it, some milliseconds late where other threads compute in
Python. Where that matters, write the driver in C.
"""

from __future__ import annotations

import atexit
import ctypes
import signal
import threading
import time
from collections.abc import Callable
from ctypes import POINTER, c_float, c_int32, c_void_p
from types import FrameType
from typing import Any, Final, Protocol

import numpy as np

from edgec.control.core import CRequest, aligned_bytes, c_config, check, library, pointer
from edgec.control.loop import Question
from edgec.control.realtime_types import (
    GRANTS,
    CCallbacks,
    CFunction,
    CGrants,
    CRealTime,
    CRobot,
    CSent,
    CStatistics,
    CThreadsConfig,
    Grants,
    Observation,
    Options,
    RealTime,
    Statistics,
    granted_text,
)
from edgec.control.settings import Settings
from edgec.errors import TargetError, UserError
from edgec.ir import Array

# (what it is asked, payload or None) -> chunk f32[H,A]
Policy = Callable[[Question, "Array | None"], Array]

# Statuses of ec_threads_status, and what infer returns to end its thread.
NO_THREAD, NOT_GRANTED, RUNNING, HANGS = 4, 5, 6, 7
INFER_END: Final = -1
POLL_S: Final = 0.02
POLICY_THREAD: Final = "edgec-policy"
# What C functions that never returned still use.
_ABANDONED: list[object] = []

_Infer = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(CRequest), c_void_p, POINTER(c_float))


class Robot(Protocol):
    """A robot's driver in Python. Both are called in one thread, which is not the control thread."""

    def sense(self) -> Observation:
        """What it observes now."""

    def act(self, action: Array) -> None:
        """Send a command f32[A]."""


class RealtimeLoop:
    """One run of a loop. Raises UserError EDGEC-E281 where the settings cannot be, E290 where the options cannot."""

    def __init__(
        self,
        settings: Settings,
        robot: Robot | CRobot,
        policy: Policy | CFunction,
        options: Options | None = None,
    ) -> None:
        self.settings, self.options = settings, options or Options()
        self._robot, self._policy = robot, policy
        self._c = library()
        self._c.ec_threads_grants.restype, self._c.ec_threads_grants.argtypes = CGrants, [c_void_p]
        self._control = c_config(settings, self.options.model)
        check(self._c.ec_control_check(self._control), settings)
        self._error: BaseException | None = None
        self._seen = threading.Event()
        self._infer = _Infer(self._answer)
        self._mailbox: c_void_p | None = None
        self._last: Statistics | None = None
        self._reading = threading.Lock()
        self._python_threads: list[threading.Thread] = []
        if not isinstance(robot, CRobot):
            self._make_mailbox()
        self._config = self._c_threads_config()
        self._memory = aligned_bytes(self._c.ec_threads_bytes(self._control, ctypes.byref(self._config)))
        self._threads = c_void_p()
        self._start_checked(
            self._c.ec_threads_init(
                self._control,
                ctypes.byref(self._config),
                pointer(self._memory),
                len(self._memory),
                self._threads,
            )
        )

    # Making

    def _make_mailbox(self) -> None:
        size = self.options.payload.size_bytes if self.options.payload else 0
        self._mailbox_memory = aligned_bytes(self._c.ec_mailbox_bytes(self._control, size))
        made = self._c.ec_mailbox_init(self._control, size, pointer(self._mailbox_memory))
        assert made
        self._mailbox = c_void_p(made)

    def _address(self, name: str) -> int:
        return ctypes.cast(getattr(self._c, name), c_void_p).value or 0

    def _callbacks(self) -> CCallbacks:
        options, made = self.options, CCallbacks()
        if isinstance(self._robot, CRobot):
            robot = self._robot
            made.sense, made.act, made.robot = robot.sense, robot.act, robot.user
            made.payload = robot.payload
        else:
            made.sense, made.act = self._address("ec_mailbox_sense"), self._address("ec_mailbox_act")
            made.payload, made.robot = self._address("ec_mailbox_payload"), self._mailbox
            made.skip = self._address("ec_mailbox_skip")
        if isinstance(self._policy, CFunction):
            made.infer, made.policy = self._policy.address, self._policy.user
        else:
            made.infer = ctypes.cast(self._infer, c_void_p)
        for name in ("heartbeat", "trace"):
            function: CFunction | None = getattr(options, name)
            if function is not None:
                setattr(made, name, function.address)
                setattr(made, f"{name}_user", function.user)
        return made

    def _c_threads_config(self) -> CThreadsConfig:
        options, asked = self.options, self.options.realtime
        return CThreadsConfig(
            callbacks=self._callbacks(),
            realtime=_c_realtime(asked),
            payload_bytes=options.payload.size_bytes if options.payload else 0,
            periods=options.periods,
            heartbeat_periods=options.heartbeat_periods,
            end_on_stop=options.end_on_stop,
            act_errors_max=options.act_errors_max,
            inference_outside=not isinstance(self._policy, CFunction),
            recorder=None if options.recorder is None else options.recorder.handle,
            faults=None if options.faults is None else options.faults.handle,
        )

    def _start_checked(self, status: int) -> None:
        """Raise what a status of ec_threads means to a user."""
        if not status:
            return
        text = self._c.ec_threads_text(status).decode()
        if status == NOT_GRANTED:
            raise TargetError(
                "EDGEC-E870",
                f"run with the permission for real time (CAP_SYS_NICE, CAP_IPC_LOCK or limits.conf), or without "
                f"`require`: {text}: {self.grants.status}",
            )
        if status == NO_THREAD:
            raise TargetError("EDGEC-E871", f"end other programs or raise the limit of threads: {text}")
        raise UserError("EDGEC-E290", f"change the options of the run: {text}: {self.options}")

    # The policy's thread

    def _answer(self, _user: int, asked: Any, payload: int | None, to: Any) -> int:
        """infer of ec_callbacks, in Python."""
        try:
            settings, request = self.settings, asked.contents
            shape = (settings.horizon, len(settings.axes))
            prefix = np.ctypeslib.as_array(request.prefix, (max(request.delay, 1), shape[1]))
            question = Question(
                request.sequence,
                request.tick,
                request.handover,
                request.delay,
                np.ctypeslib.as_array(request.state, (settings.states,)).copy(),
                prefix[: request.delay].copy(),
            )
            assert not isinstance(self._policy, CFunction)
            chunk = np.asarray(self._policy(question, self._payload_at(payload)), np.float32)
            if chunk.shape != shape:
                raise UserError(
                    "EDGEC-E291",
                    f"return a chunk of shape {shape} (horizon, axes) from the policy: it has {chunk.shape}",
                )
            np.ctypeslib.as_array(to, shape)[:] = chunk
        except BaseException as error:
            self._fail(error)
            return INFER_END
        return 0

    def _payload_at(self, address: int | None) -> Array | None:
        """A copy of what the robot sent: the slot is the control thread's again later."""
        payload = self.options.payload
        if not address or payload is None:
            return None
        raw = ctypes.string_at(address, payload.size_bytes)
        return np.frombuffer(raw, payload.dtype).reshape(payload.shape)

    def _serve(self) -> None:
        """The Python thread of the policy: C's inference loop, which calls _answer."""
        status = self._c.ec_threads_infer(self._threads)
        try:
            self._start_checked(status)
        except TargetError as error:
            self._fail(error)

    # The driver's thread

    def _post(self, frame: int) -> None:
        """Sense, and give it to the control thread."""
        assert not isinstance(self._robot, CRobot)
        now = time.monotonic_ns()
        seen = self._robot.sense()
        settings, payload = self.settings, self.options.payload
        state = np.ascontiguousarray(seen.state, np.float32)
        given = None if seen.payload is None else np.ascontiguousarray(seen.payload)
        wanted = None if payload is None else (payload.shape, np.dtype(payload.dtype))
        found = None if given is None else (given.shape, given.dtype)
        if state.shape != (settings.states,) or wanted != found:
            raise UserError(
                "EDGEC-E292",
                f"return a state of {settings.states} numbers and the payload {wanted} from sense: "
                f"the state's shape is {state.shape}, the payload is {found}",
            )
        observed = now if seen.observed_ns is None else seen.observed_ns
        raw = None if given is None else pointer(given)
        self._c.ec_mailbox_post(self._mailbox, pointer(state), raw, observed, seen.frame or frame)

    def _drive(self) -> None:
        """The Python thread of the robot: a command, a pause, an observation. After an error it still sends what brings
        the robot to rest."""
        assert not isinstance(self._robot, CRobot)
        sent, frame = CSent(), 1
        action = np.zeros(len(self.settings.axes), np.float32)
        lead_ns = self.options.sense_lead * self.settings.period_ns
        try:
            self._post(frame)
        except BaseException as error:
            self._fail(error)
        self._seen.set()
        while self._c.ec_mailbox_wait(self._mailbox, ctypes.byref(sent), pointer(action)):
            try:
                if sent.action:
                    self._robot.act(action.copy())
                if self._error is None:
                    time.sleep(max(0.0, (sent.next_ns - lead_ns - time.monotonic_ns()) / 1e9))
                    frame += 1
                    self._post(frame)
            except BaseException as error:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The first error ends the run; wait raises it."""
        self._error = self._error or error
        self._c.ec_threads_stop(self._threads)

    def _start_python(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._python_threads.append(thread)

    # What users call

    def start(self) -> None:
        """Start the threads. Raises TargetError EDGEC-E870 where real time is required and not granted, E871 where the
        system makes no threads; what the first `sense` raises."""
        if self._mailbox is not None:
            self._start_python("edgec-robot", self._drive)
            self._seen.wait()
        if self._error is None:
            try:
                self._start_checked(self._c.ec_threads_start(self._threads))
            except TargetError:
                self._close()
                raise
        else:
            self._close()
            raise self._error
        if not isinstance(self._policy, CFunction):
            self._start_python(POLICY_THREAD, self._serve)
        atexit.register(self._at_exit)

    def stop(self) -> None:
        """Come to rest and end. Safe in any thread and in signal handlers."""
        self._c.ec_threads_stop(self._threads)

    def reset(self) -> None:
        """Leave the rest after a stop, with `end_on_stop` off."""
        self._c.ec_threads_reset(self._threads)

    @property
    def running(self) -> bool:
        """Whether the control thread runs."""
        return bool(self._c.ec_threads_running(self._threads))

    @property
    def grants(self) -> Grants:
        """What the system granted so far."""
        found = self._c.ec_threads_grants(self._threads)
        return Grants({name: granted_text(getattr(found, name)) for name in GRANTS})

    def statistics(self) -> Statistics:
        """Whole ones, at most two periods old; for each call the control thread makes a copy of 76 KiB."""
        with self._reading:
            return self._read_statistics()

    def _read_statistics(self) -> Statistics:
        found = CStatistics()
        self._c.ec_threads_statistics(self._threads, ctypes.byref(found))
        while self.running and not self._c.ec_threads_statistics(self._threads, ctypes.byref(found)):
            time.sleep(min(POLL_S, self.settings.period_ns / 2e9))
        while self._c.ec_threads_statistics(self._threads, ctypes.byref(found)):
            pass  # the last one
        if found.periods == 0 and self._last is not None:
            return self._last
        self._last = Statistics(found, self._lost())
        return self._last

    def wait(self) -> Statistics:
        """Wait for the end. Raises what the policy or the driver raised; TargetError EDGEC-E872 where the policy does
        not return."""
        while self.running:
            time.sleep(POLL_S)
        patience_ns = round(self.options.patience_s * 1e9)
        status = self._c.ec_threads_wait(self._threads, patience_ns)
        self._close(hangs=status == HANGS)
        atexit.unregister(self._at_exit)
        statistics = self.statistics()
        if self._error is not None:
            raise self._error
        if status == HANGS:
            _ABANDONED.append(self)
            raise TargetError(
                "EDGEC-E872",
                f"look why the policy does not return: it was asked more than {self.options.patience_s:g} s ago; "
                f"the loop came to rest (stop: {statistics.stop})",
            )
        return statistics

    def run(self, seconds: float | None = None) -> Statistics:
        """Start, wait for the end. After `seconds`, at SIGTERM and at Ctrl-C the robot comes to rest; then
        KeyboardInterrupt is raised for Ctrl-C."""
        caught: list[int] = []

        def on_signal(number: int, _frame: FrameType | None) -> None:
            caught.append(number)
            self.stop()

        main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = [signal.signal(number, on_signal) for number in signals]
        try:
            self.start()
            end = None if seconds is None else time.monotonic() + seconds
            while self.running:
                time.sleep(POLL_S)
                if end is not None and time.monotonic() >= end:
                    self.stop()
            statistics = self.wait()
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
        if signal.SIGINT in caught:
            raise KeyboardInterrupt
        return statistics

    # Ending

    def _lost(self) -> int:
        return 0 if self._mailbox is None else int(self._c.ec_mailbox_lost(self._mailbox))

    def _close(self, hangs: bool = False) -> None:
        """The driver's thread sends the last command and ends; a policy that hangs is not waited for again."""
        if self._mailbox is not None:
            self._c.ec_mailbox_close(self._mailbox)
        for thread in self._python_threads:
            thread.join(0.0 if hangs and thread.name == POLICY_THREAD else self.options.patience_s)

    def _at_exit(self) -> None:
        """The program ends: not before the robot is at rest."""
        self.stop()
        while self.running:
            time.sleep(POLL_S)
        self._c.ec_threads_wait(self._threads, round(self.options.patience_s * 1e9))
        self._close()


def _c_realtime(asked: RealTime) -> CRealTime:
    return CRealTime(
        control_priority=asked.control_priority,
        inference_priority=asked.inference_priority,
        control_cpu=-1 if asked.control_cpu is None else asked.control_cpu,
        inference_cpu=-1 if asked.inference_cpu is None else asked.inference_cpu,
        lock_memory=asked.lock_memory,
        require=asked.require,
    )
