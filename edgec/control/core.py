"""runtime_c/control through ctypes: its library is built with this computer's C compiler and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from ctypes import POINTER, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec import device
from edgec.cache import cache_folder
from edgec.control.settings import BEYONDS, KINDS, LATES, MODES, Axis, Settings
from edgec.errors import TargetError, UserError
from edgec.ir import Array

FLAGS: Final = ("-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-Wall", "-Wextra", "-Werror", "-pthread")
ALIGNMENT: Final = 64


class CAxis(ctypes.Structure):
    """ec_axis"""

    _fields_ = (
        ("kind", c_int),
        ("position", c_int32),
        ("velocity", c_int32),
        *(
            (name, c_float)
            for name in (
                *(
                    "gain",
                    "travel",
                    "brake",
                    "brake_max",
                    "alpha",
                    "rate",
                    "hold_action",
                    "action_min",
                    "action_max",
                ),
                *("position_min", "position_max", "motion_max", "change_max", "jerk_max"),
            )
        ),
        ("wraps", c_int32),
        ("action_scale", c_float),
        ("action_offset", c_float),
    )


# ec_model: the state f32[S] of the next period, in place, from the action f32[A].
CModel = ctypes.CFUNCTYPE(None, c_void_p, POINTER(c_float), POINTER(c_float))


class CDelayConfig(ctypes.Structure):
    """ec_delay_config"""

    _fields_ = (
        ("window", c_uint32),
        ("warm_up", c_uint32),
        ("calm", c_uint32),
        ("share", c_double),
        ("guard_ns", c_int64),
        ("first", c_uint32),
    )


class CConfig(ctypes.Structure):
    """ec_control_config"""

    _fields_ = (
        ("mode", c_int),
        ("axes", c_uint32),
        ("states", c_uint32),
        ("horizon", c_uint32),
        ("execute", c_uint32),
        ("delay", c_int32),
        ("delay_min", c_uint32),
        ("delay_trained", c_uint32),
        ("beyond", c_int),
        ("period_ns", c_int64),
        ("quantum", c_uint32),
        ("continuous", c_uint32),
        ("ensemble_ratio", c_float),
        ("blend", c_uint32),
        ("blend_quintic", c_uint32),
        ("extra", c_uint32),
        ("stop_after", c_uint32),
        ("stop_periods", c_uint32),
        ("late", c_int),
        ("late_tolerance", c_uint32),
        ("stall_ns", c_int64),
        ("age_max_ns", c_int64),
        ("frozen_max", c_uint32),
        ("overrun_max", c_uint32),
        ("absurd", c_float),
        ("estimate", CDelayConfig),
        ("axis", POINTER(CAxis)),
        ("state_scale", POINTER(c_float)),
        ("state_offset", POINTER(c_float)),
        ("model", c_void_p),
        ("model_user", c_void_p),
    )


class CObservation(ctypes.Structure):
    """ec_observation"""

    _fields_ = (
        ("now_ns", c_int64),
        ("observed_ns", c_int64),
        ("frame", c_uint64),
        ("state", POINTER(c_float)),
        ("overrun", c_uint32),
    )


class CRequest(ctypes.Structure):
    """ec_request"""

    _fields_ = (
        ("sequence", c_uint64),
        ("tick", c_int64),
        ("handover", c_int64),
        ("observed_ns", c_int64),
        ("asked_ns", c_int64),
        ("delay", c_uint32),
        ("state", POINTER(c_float)),
        ("prefix", POINTER(c_float)),
    )


class CTick(ctypes.Structure):
    """ec_tick_result"""

    _fields_ = (
        ("source", c_int),
        ("sequence", c_uint64),
        ("index", c_uint32),
        ("handover", c_uint32),
        ("clipped", c_uint32),
        ("stop", c_int),
    )


COUNTS: Final = (
    *("asked", "taken", "late", "dropped", "refused", "held", "extra", "clipped", "split", "stops"),
    *("bad_observations", "beyond", "overruns", "ticks"),
)


class CCounts(ctypes.Structure):
    """ec_counts"""

    _fields_ = tuple((name, c_uint64) for name in COUNTS)


HISTOGRAM_BUCKETS: Final = 64 * 37


class CHistogram(ctypes.Structure):
    """ec_histogram"""

    _fields_ = (
        ("count", c_uint64),
        ("sum", c_uint64),
        ("least", c_uint64),
        ("most", c_uint64),
        ("bucket", c_uint32 * HISTOGRAM_BUCKETS),
    )


class CReplayed(ctypes.Structure):
    """ec_replay_result"""

    _fields_ = (
        ("records", c_uint64),
        ("periods", c_uint64),
        ("tick", c_int64),
        ("recorded", c_size_t),
        ("replayed_bytes", c_size_t),
    )


def sources() -> list[Path]:
    """The C files of the loop."""
    from edgec.runtime_c import ROOT

    return sorted((ROOT / "control").glob("*.c"))


def build(to: Path, flags: tuple[str, ...] = FLAGS) -> Path:
    """The loop as a shared library. Raises TargetError EDGEC-EA02, E861."""
    compiler = shutil.which("gcc") or shutil.which("cc") or device.require_tool("gcc")
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    command = [compiler, *flags, "-shared", *map(str, sources()), "-lm", "-o", str(temporary)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise TargetError(
            "EDGEC-E861", f"check the C compiler {compiler}: it refuses the control loop\n{done.stderr}"
        )
    temporary.replace(to)
    return to


@cache
def library() -> ctypes.CDLL:
    """The loop, built where there is none of these sources."""
    hashed = hashlib.sha256(" ".join(FLAGS).encode())
    for path in (*sources(), *sorted(sources()[0].parent.glob("*.h"))):
        hashed.update(path.name.encode() + path.read_bytes())
    path = cache_folder() / "control" / f"{hashed.hexdigest()[:32]}.so"
    if not path.is_file():
        build(path)
    return declared(ctypes.CDLL(str(path)))


def declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """`found` with the types of its functions."""
    loops = c_void_p
    types: dict[str, tuple[Any, list[Any]]] = {
        "ec_control_check": (c_int, [POINTER(CConfig)]),
        "ec_control_text": (ctypes.c_char_p, [c_int]),
        "ec_stop_text": (ctypes.c_char_p, [c_int]),
        "ec_control_delay_limit": (c_uint32, [POINTER(CConfig)]),
        "ec_loop_bytes": (c_size_t, [POINTER(CConfig)]),
        "ec_loop_init": (c_int, [POINTER(CConfig), c_void_p, c_size_t, POINTER(c_void_p)]),
        "ec_loop_begin": (POINTER(CRequest), [c_void_p, POINTER(CObservation)]),
        "ec_loop_deliver": (c_int, [c_void_p, c_uint64, c_void_p, c_int64]),
        "ec_loop_end": (CTick, [c_void_p, c_void_p]),
        "ec_loop_stop": (None, [c_void_p, c_int]),
        "ec_loop_reset": (None, [c_void_p]),
        "ec_loop_stopped": (c_int, [c_void_p]),
        "ec_loop_delay": (c_uint32, [c_void_p]),
        "ec_loop_counts": (POINTER(CCounts), [c_void_p]),
        "ec_loop_statistics": (POINTER(CHistogram), [c_void_p, c_int]),
        "ec_histogram_add": (None, [POINTER(CHistogram), c_int64]),
        "ec_histogram_quantile": (c_uint64, [POINTER(CHistogram), c_double]),
        "ec_histogram_merge": (None, [POINTER(CHistogram), POINTER(CHistogram)]),
        "ec_virtual_bytes": (c_size_t, [POINTER(CConfig), c_uint32]),
        "ec_virtual_init": (c_int, [POINTER(CConfig), c_uint32, c_void_p, c_size_t, POINTER(c_void_p)]),
        "ec_virtual_begin": (c_uint32, [loops, *[c_void_p] * 5]),
        "ec_virtual_answer": (None, [loops, c_uint32, c_void_p, c_void_p, c_void_p]),
        "ec_virtual_end": (None, [loops, c_void_p, c_void_p]),
        "ec_virtual_loop": (c_void_p, [loops, c_uint32]),
        "ec_threads_bytes": (c_size_t, [POINTER(CConfig), c_void_p]),
        "ec_threads_init": (c_int, [POINTER(CConfig), c_void_p, c_void_p, c_size_t, POINTER(c_void_p)]),
        "ec_threads_start": (c_int, [c_void_p]),
        "ec_threads_infer": (c_int, [c_void_p]),
        "ec_threads_stop": (None, [c_void_p]),
        "ec_threads_reset": (None, [c_void_p]),
        "ec_threads_running": (ctypes.c_bool, [c_void_p]),
        "ec_threads_wait": (c_int, [c_void_p, c_int64]),
        "ec_threads_statistics": (ctypes.c_bool, [c_void_p, c_void_p]),
        "ec_threads_text": (ctypes.c_char_p, [c_int]),
        "ec_mailbox_bytes": (c_size_t, [POINTER(CConfig), c_size_t]),
        "ec_mailbox_init": (c_void_p, [POINTER(CConfig), c_size_t, c_void_p]),
        "ec_mailbox_wait": (ctypes.c_bool, [c_void_p] * 3),
        "ec_mailbox_post": (None, [c_void_p, c_void_p, c_void_p, c_int64, c_uint64]),
        "ec_mailbox_close": (None, [c_void_p]),
        "ec_mailbox_lost": (c_uint64, [c_void_p]),
        "ec_settings_hash": (c_uint64, [POINTER(CConfig)]),
        "ec_recorder_least": (c_size_t, [POINTER(CConfig)]),
        "ec_recorder_bytes": (c_size_t, [POINTER(CConfig), c_size_t]),
        "ec_recorder_init": (
            c_int,
            [POINTER(CConfig), ctypes.c_char_p, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)],
        ),
        "ec_recorded_begin": (POINTER(CRequest), [c_void_p, c_void_p, POINTER(CObservation), c_int64]),
        "ec_recorded_deliver": (c_int, [c_void_p, c_void_p, c_uint64, c_void_p, c_int64]),
        "ec_recorded_end": (CTick, [c_void_p, c_void_p, c_void_p]),
        "ec_recorded_stop": (None, [c_void_p, c_void_p, c_int]),
        "ec_recorded_reset": (None, [c_void_p, c_void_p]),
        "ec_recorder_dropped": (c_uint64, [c_void_p]),
        "ec_record_scan": (
            c_size_t,
            [
                c_void_p,
                c_void_p,
                c_size_t,
                POINTER(c_uint64),
                POINTER(c_uint64),
                c_void_p,
                c_void_p,
                c_size_t,
            ],
        ),
        "ec_recorder_take": (c_size_t, [c_void_p, c_void_p, c_size_t]),
        "ec_replay_bytes": (c_size_t, [POINTER(CConfig)]),
        "ec_replay_record_bytes": (c_size_t, [POINTER(CConfig)]),
        "ec_replay": (
            c_int,
            [POINTER(CConfig), c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, POINTER(CReplayed)],
        ),
        "ec_trial_bytes": (c_size_t, [POINTER(CConfig), c_size_t]),
        "ec_trial_init": (
            c_int,
            [POINTER(CConfig), *[c_void_p] * 2, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)],
        ),
        "ec_trial_run": (None, [c_void_p, c_uint64]),
        "ec_trial_loop": (c_void_p, [c_void_p]),
        "ec_trial_recorder": (c_void_p, [c_void_p]),
        "ec_trial_faults": (c_void_p, [c_void_p]),
        "ec_trial_state": (POINTER(c_float), [c_void_p]),
        "ec_faults_bytes": (c_size_t, [POINTER(CConfig)]),
        "ec_faults_init": (c_int, [POINTER(CConfig), c_void_p, c_void_p, c_size_t, POINTER(c_void_p)]),
        "ec_faults_counts": (POINTER(c_uint64), [c_void_p]),
        "ec_roll": (None, [POINTER(CConfig), c_void_p, c_void_p]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


def _c_axis(axis: Axis) -> CAxis:
    same = ("position", "velocity", "gain", "travel", "brake", "brake_max", "alpha", "rate", "hold_action")
    more = ("motion_max", "change_max", "jerk_max", "wraps", "action_scale", "action_offset")
    made = CAxis(kind=KINDS.index(axis.kind), **{name: getattr(axis, name) for name in (*same, *more)})
    made.action_min, made.action_max = axis.action_range
    made.position_min, made.position_max = axis.position_range
    return made


def _floats(values: tuple[float, ...] | None) -> Any:
    return None if values is None else (c_float * len(values))(*values)


def c_config(settings: Settings, model: Any = None) -> CConfig:
    """The same settings for C; it keeps what it points to, but for the robot's `model`."""
    same = (
        "horizon",
        "execute",
        "states",
        "delay",
        "delay_min",
        "period_ns",
        "quantum",
        "continuous",
        "blend",
    )
    more = (
        "blend_quintic",
        "extra",
        "stop_after",
        "stop_periods",
        "late_tolerance",
        "frozen_max",
        "overrun_max",
    )
    estimate = settings.estimate
    trained = settings.execute if settings.delay_trained is None else settings.delay_trained
    return CConfig(
        mode=MODES.index(settings.mode),
        axes=len(settings.axes),
        delay_trained=trained,
        beyond=BEYONDS.index(settings.beyond),
        ensemble_ratio=float(np.exp(-settings.ensemble_decay)),
        late=LATES.index(settings.late),
        stall_ns=round(1e9 * settings.stall_s),
        age_max_ns=round(1e9 * settings.age_max_s),
        estimate=CDelayConfig(
            window=estimate.window,
            warm_up=estimate.warm_up,
            calm=estimate.calm,
            share=estimate.share,
            guard_ns=round(estimate.guard * settings.period_ns),
            first=estimate.first,
        ),
        axis=(CAxis * len(settings.axes))(*map(_c_axis, settings.axes)),
        state_scale=_floats(settings.state_scale),
        state_offset=_floats(settings.state_offset),
        model=ctypes.cast(model, c_void_p) if model is not None else None,
        **{name: getattr(settings, name) for name in (*same, *more, "absurd")},
    )


def check(status: int, settings: Settings) -> None:
    """Raise UserError EDGEC-E281 where C refuses the settings."""
    if status:
        text = library().ec_control_text(status).decode()
        raise UserError(
            "EDGEC-E281",
            f"change the control settings: {text} (mode {settings.mode}, horizon {settings.horizon}, execute "
            f"{settings.execute}, delay {settings.delay}, {len(settings.axes)} axes, {settings.states} states)",
        )


def aligned_bytes(count: int) -> Array:
    """So many zeros that begin at a multiple of 64."""
    raw = np.zeros(count + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count]


def pointer(a: Array) -> c_void_p:
    """Of the first element of a contiguous array."""
    assert a.flags.c_contiguous
    return c_void_p(a.ctypes.data)
