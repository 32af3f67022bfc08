"""`edgec control run`: a robot and a policy by name, a loop between them in real time."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.control.models import is_model, model_of
from edgec.control.policies import model_policy
from edgec.control.realtime import Policy, RealtimeLoop
from edgec.control.realtime_types import Grants, Options, RealTime, Statistics
from edgec.control.record import Recorder, RecordingFile
from edgec.control.robots import as_robot
from edgec.control.settings import Settings
from edgec.errors import UserError


@dataclass(frozen=True, slots=True)
class Run:
    """What to run. `robot`, `policy`: package.module:function that returns it; a policy may also be an .onnx file or
    the folder of an artifact. `record`: a file to write."""

    settings: Settings
    state_names: tuple[str, ...]
    axis_names: tuple[str, ...]
    robot: str
    policy: str
    seconds: float | None
    record: Path | None
    realtime: RealTime


def run(asked: Run) -> tuple[Statistics, Grants]:
    """Run until the time is over, the loop stops or Ctrl-C. Raises UserError EDGEC-E289 for a name that gives nothing,
    and what RealtimeLoop raises."""
    driver = as_robot(made(asked.robot, "--robot"), asked.state_names, asked.axis_names)
    recorder = None if asked.record is None else Recorder(asked.settings)
    with policy_of(asked.policy, asked.settings) as policy:
        loop = RealtimeLoop(
            asked.settings, driver, policy, Options(realtime=asked.realtime, recorder=recorder)
        )
        file = (
            nullcontext()
            if recorder is None or asked.record is None
            else RecordingFile(asked.record, recorder)
        )
        with file:
            return loop.run(asked.seconds), loop.grants


@contextmanager
def policy_of(name: str, settings: Settings) -> Iterator[Policy]:
    """A policy by name."""
    path = Path(name)
    if is_model(path):
        with model_of(path) as model:
            yield model_policy(model, settings)
    else:
        made_policy: Policy = made(name, "--policy")
        yield made_policy


def made(name: str, option: str) -> Any:
    """What the function package.module:function returns; the current folder is searched too."""
    module, _, function = name.partition(":")
    if not module or not function:
        files = ", an .onnx file or the folder of an artifact" if option == "--policy" else ""
        raise UserError("EDGEC-E289", f"write {option} as package.module:function{files}, not {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UserError(
            "EDGEC-E289", f"mend {name} or put its folder on PYTHONPATH: {type(error).__name__}: {error}"
        ) from None
