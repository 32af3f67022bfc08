"""Policies for edgec.control.realtime: ONNX Runtime sessions and edgec's artifacts.

Their inputs are known by name: `state` f32[S], as the policy is told it; `prefix` f32[H,A], the committed actions,
zeros from `delay` on; `delay`, in periods; `payload`, what the robot sends beside the state. A model has those of them
that it reads, each with as many elements, in any shape (axes without a size count as 1) and dtype. Its first output is
the chunk, horizon times axes numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.control.loop import Question
from edgec.control.realtime import Policy
from edgec.control.realtime_types import Payload
from edgec.control.settings import Settings
from edgec.errors import TargetError, UserError
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.artifact import Artifact

NAMES: Final = ("state", "prefix", "delay", "payload")


@dataclass(frozen=True, slots=True)
class Input:
    """Of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def _sizes(settings: Settings, payload: Payload | None) -> dict[str, int]:
    """Elements of what a model may read."""
    sizes = {"state": settings.states, "prefix": settings.horizon * len(settings.axes), "delay": 1}
    return sizes if payload is None else {**sizes, "payload": int(np.prod(payload.shape))}


def _check(inputs: Sequence[Input], settings: Settings, payload: Payload | None, where: object) -> None:
    """Raise UserError EDGEC-E293 where an input is none of NAMES or has another number of elements."""
    sizes = _sizes(settings, payload)
    for one in inputs:
        wanted, has = sizes.get(one.name), int(np.prod(one.shape))
        if wanted != has:
            known = ", ".join(f"{name} of {size}" for name, size in sizes.items())
            raise UserError(
                "EDGEC-E293",
                f"give the policy inputs of these names and numbers of elements: {known}; {where} has {one.name} "
                f"of {has}",
            )


def _given(
    inputs: Sequence[Input], settings: Settings, question: Question, payload: Array | None
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
        found[one.name] = np.ascontiguousarray(value.astype(one.dtype)).reshape(one.shape)
    return found


def _chunk(output: Any, settings: Settings, where: object) -> Array:
    """A model's output as a chunk. Raises UserError EDGEC-E294 where it has another number of elements."""
    values: Array = np.asarray(output, np.float32)
    shape = (settings.horizon, len(settings.axes))
    if values.size != shape[0] * shape[1]:
        raise UserError(
            "EDGEC-E294",
            f"let the policy's first output be the chunk, {shape[0]} x {shape[1]} numbers (horizon, axes): that of "
            f"{where} has the shape {list(values.shape)}",
        )
    return values.reshape(shape)


_ONNX_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def onnx_policy(
    model: Path, settings: Settings, payload: Payload | None = None, *, threads: int = 1
) -> Policy:
    """An ONNX file, run by ONNX Runtime on the CPU; its threads sleep while they wait, so that they leave the control
    thread its processor. Raises TargetError EDGEC-EA09 without onnxruntime, UserError EDGEC-E293, E294, E295."""
    try:
        import onnxruntime
    except ImportError:
        raise TargetError(
            "EDGEC-EA09", "run pip install onnxruntime: policies in ONNX need it, and it is not installed"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes differ between versions
        raise UserError(
            "EDGEC-E295", f"check the policy {model}: ONNX Runtime refuses it: {error}"
        ) from error
    inputs = [
        Input(
            one.name,
            tuple(d if isinstance(d, int) else 1 for d in one.shape),
            _ONNX_DTYPES.get(one.type, one.type),
        )
        for one in session.get_inputs()
    ]
    _check(inputs, settings, payload, model)
    output = session.get_outputs()[0].name

    def policy(question: Question, picture: Array | None) -> Array:
        return _chunk(session.run([output], _given(inputs, settings, question, picture))[0], settings, model)

    return policy


@contextmanager
def artifact_policy(
    artifact: Artifact, settings: Settings, payload: Payload | None = None, *, entry: str = "infer"
) -> Iterator[Policy]:
    """An artifact of edgec, on this computer, or on its GPU where it is for one; without the GIL while it computes.
    Raises UserError EDGEC-E230, E293, E294."""
    from edgec.artifact import port_from_json
    from edgec.generate import opened
    from edgec.samples import user_shape

    ports = [port_from_json(j) for j in artifact.entry(entry)[1]["inputs"]]
    inputs = [
        Input(port.label, user_shape(port, t), "float32" if t.quant is not None else str(t.dtype.numpy))
        for port, t in ports
    ]
    _check(inputs, settings, payload, artifact.folder)
    with opened(artifact, None) as runner:

        def policy(question: Question, picture: Array | None) -> Array:
            outputs = runner.run(entry, _given(inputs, settings, question, picture))
            return _chunk(next(iter(outputs.values())), settings, artifact.folder)

        yield policy
