"""Policies of a simulation that are models in files.

Their inputs are known by name, each with so many numbers a robot: `state` f32[S], as the policy is told it; `target`,
`velocity` and `place` f32[2], what a camera sees: the target, its motion in a period, and the robot; `delay`, in
periods; `prefix` f32[H,2], the committed actions. A model has those of them that it reads, for one robot or, along the
first axis, for several at once. Its first output holds their chunks, horizon times 2 numbers a robot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.control.models import Model, is_model, model_of
from edgec.control.policies import unknown_input
from edgec.control.simulate import Case, Policy, settings_of
from edgec.errors import UserError

if TYPE_CHECKING:
    from edgec.control.settings import Floats

ORDER = ("state", "target", "velocity", "place", "delay", "prefix")  # of a Policy's arguments


def _rows(model: Model, case: Case) -> int | None:
    """Robots that the model answers at once, None: any number. Raises UserError EDGEC-E293, E296."""
    sizes = {"state": settings_of(case).states, "target": 2, "velocity": 2, "place": 2, "delay": 1}
    sizes["prefix"] = case.horizon * 2
    found = {one.name: one.rows(sizes.get(one.name, 0)) for one in model.inputs}
    for one in model.inputs:
        if one.name not in sizes or found[one.name] == 0:
            raise unknown_input(sizes, model, one)
    fixed = {rows for rows in found.values() if rows is not None}
    if len(fixed) > 1:
        several = ", ".join(f"{name} of {rows}" for name, rows in found.items() if rows is not None)
        raise UserError(
            "EDGEC-E296", f"give all inputs of the policy as many robots: {model.where} has {several}"
        )
    return fixed.pop() if fixed else None if found else 1


def _answers(model: Model, case: Case) -> Policy:
    rows = _rows(model, case)

    def answer(*seen: Floats) -> Floats:
        count = len(seen[0])
        given = dict(zip(ORDER, seen, strict=True))
        chunks = np.empty((count, case.horizon, 2), np.float32)
        at_once = rows or count
        for begin in range(0, count, at_once):
            robots = np.minimum(np.arange(begin, begin + at_once), count - 1)  # the last one fills up
            output = model.call(
                {one.name: one.form(given[one.name][robots], at_once) for one in model.inputs}
            )
            if output.size != at_once * chunks[0].size:
                raise UserError(
                    "EDGEC-E294",
                    f"let the policy's first output be the chunks, {at_once} x {case.horizon} x 2 numbers (robots, "
                    f"horizon, axes): that of {model.where} has the shape {list(output.shape)}",
                )
            found = output.astype(np.float32).reshape(at_once, case.horizon, 2)
            chunks[begin : begin + at_once] = found[: count - begin]
        return chunks

    return answer


@contextmanager
def model_policy(name: str, case: Case) -> Iterator[Policy]:
    """The policy of an .onnx file or of an artifact's folder. Raises UserError EDGEC-E282, E293, E296, E297, and what
    model_of raises; the policy E294."""
    path = Path(name)
    if not is_model(path):
        raise UserError(
            "EDGEC-E282",
            f"give --policy expert, an .onnx file or the folder of an artifact: {name} is none of them",
        )
    with model_of(path) as model:
        if model.remembers:
            raise UserError(
                "EDGEC-E297",
                f"give a policy without state: {path} remembers {model.remembers} bytes from call to call, and is "
                f"asked for {case.robots} robots in turn",
            )
        yield _answers(model, case)
