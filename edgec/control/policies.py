"""Policies for edgec.control.realtime: ONNX Runtime sessions and edgec's artifacts.

Their inputs are known by name: `state` f32[S], as the policy is told it; `prefix` f32[H,A], the committed actions,
zeros from `delay` on; `delay`, in periods; `payload`, what the robot sends beside the state. A model has those of them
that it reads, each with as many elements, in any shape (axes without a size count as 1) and dtype. Its first output is
the chunk, horizon times axes numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.control.loop import Question
from edgec.control.models import Input, Model, artifact_model, onnx_model
from edgec.control.realtime import Policy
from edgec.control.realtime_types import Payload
from edgec.control.settings import Settings
from edgec.errors import UserError
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.artifact import Artifact


def _sizes(settings: Settings, payload: Payload | None) -> dict[str, int]:
    """Elements of what a model may read."""
    sizes = {"state": settings.states, "prefix": settings.horizon * len(settings.axes), "delay": 1}
    return sizes if payload is None else {**sizes, "payload": int(np.prod(payload.shape))}


def unknown_input(sizes: Mapping[str, int], model: Model, one: Input) -> UserError:
    """EDGEC-E293, of an input that is none of these, or has another number of elements."""
    known = ", ".join(f"{name} of {size}" for name, size in sizes.items())
    return UserError(
        "EDGEC-E293",
        f"give the policy inputs of these names and numbers of elements: {known}; {model.where} has {one.name} "
        f"of {one.elements}",
    )


def _given(
    inputs: tuple[Input, ...], settings: Settings, question: Question, payload: Array | None
) -> dict[str, Array]:
    """What a question says, in the form of the model's inputs."""
    found: dict[str, Array] = {}
    for one in inputs:
        value: Array
        if one.name == "state":
            value = question.state
        elif one.name == "delay":
            value = np.array(question.delay)
        elif one.name == "prefix":
            value = np.zeros((settings.horizon, len(settings.axes)), np.float32)
            value[: question.delay] = question.prefix
        else:
            assert payload is not None
            value = payload
        found[one.name] = one.form(value)
    return found


def model_policy(model: Model, settings: Settings, payload: Payload | None = None) -> Policy:
    """A model that is asked by a control loop. Raises UserError EDGEC-E293; the policy E294 where its output has
    another number of elements than a chunk."""
    sizes = _sizes(settings, payload)
    for one in model.inputs:
        if sizes.get(one.name) != one.elements:
            raise unknown_input(sizes, model, one)
    shape = (settings.horizon, len(settings.axes))

    def policy(question: Question, picture: Array | None) -> Array:
        found = model.call(_given(model.inputs, settings, question, picture))
        if found.size != shape[0] * shape[1]:
            raise UserError(
                "EDGEC-E294",
                f"let the policy's first output be the chunk, {shape[0]} x {shape[1]} numbers (horizon, axes): that of "
                f"{model.where} has the shape {list(found.shape)}",
            )
        return found.astype(np.float32).reshape(shape)

    return policy


def onnx_policy(
    model: Path, settings: Settings, payload: Payload | None = None, *, threads: int = 1
) -> Policy:
    """An ONNX file. Raises TargetError EDGEC-EA09 without onnxruntime, UserError EDGEC-E293, E294, E295."""
    return model_policy(onnx_model(model, threads=threads), settings, payload)


@contextmanager
def artifact_policy(
    artifact: Artifact, settings: Settings, payload: Payload | None = None, *, entry: str = "infer"
) -> Iterator[Policy]:
    """An artifact of edgec, on this computer, or on its GPU where it is for one; without the GIL while it computes.
    Raises UserError EDGEC-E230, E293, E294."""
    with artifact_model(artifact, entry=entry) as model:
        yield model_policy(model, settings, payload)
