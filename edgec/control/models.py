"""Models in files, run on this computer: ONNX files by ONNX Runtime, artifacts of edgec by their own library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgec.errors import TargetError, UserError
from edgec.ir import Array

if TYPE_CHECKING:
    from edgec.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Input:
    """Of a model; None is an axis of any size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many, where axes without a size count as 1."""
        return int(np.prod([d or 1 for d in self.shape], dtype=np.int64))

    def rows(self, elements: int) -> int | None:
        """How many times so many elements it takes, along its first axis; None: as often as one likes; 0: it takes
        another number of them."""
        if self.elements == elements:
            return None if self.shape[:1] == (None,) else 1
        rest = int(np.prod([d or 1 for d in self.shape[1:]], dtype=np.int64))
        return self.shape[0] if self.shape and rest == elements else 0

    def form(self, values: Array, rows: int = 1) -> Array:
        """Values in its dtype and shape."""
        sizes = [d or 1 for d in self.shape]
        if self.shape[:1] == (None,):
            sizes[0] = rows
        return np.ascontiguousarray(np.asarray(values).astype(self.dtype)).reshape(sizes)


@dataclass(frozen=True, slots=True)
class Model:
    """`call`: from its inputs by name to its first output. `remembers`: bytes that live on from call to call."""

    where: Path
    inputs: tuple[Input, ...]
    call: Callable[[Mapping[str, Array]], Array]
    remembers: int = 0


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


def onnx_model(path: Path, *, threads: int = 1) -> Model:
    """An ONNX file, run by ONNX Runtime on the CPU; its threads sleep while they wait, so that they leave a control
    thread its processor. Raises TargetError EDGEC-EA09 without onnxruntime, UserError EDGEC-E295."""
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
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes differ between versions
        raise UserError("EDGEC-E295", f"check the policy {path}: ONNX Runtime refuses it: {error}") from error
    inputs = tuple(
        Input(
            one.name,
            tuple(d if isinstance(d, int) else None for d in one.shape),
            _ONNX_DTYPES.get(one.type, one.type),
        )
        for one in session.get_inputs()
    )
    output = session.get_outputs()[0].name
    return Model(path, inputs, lambda given: np.asarray(session.run([output], dict(given))[0]))


@contextmanager
def artifact_model(artifact: Artifact, *, entry: str = "infer") -> Iterator[Model]:
    """An artifact, on this computer, or on its GPU where it is for one. Raises UserError EDGEC-E230."""
    from edgec.artifact import port_from_json
    from edgec.generate import opened
    from edgec.samples import user_shape

    ports = [port_from_json(j) for j in artifact.entry(entry)[1]["inputs"]]
    inputs = tuple(
        Input(
            port.label, user_shape(port, t), "float32" if t.quant or t.dtype.is_half else str(t.dtype.numpy)
        )
        for port, t in ports
    )
    learns = "training" in artifact.manifest  # its weights are kept there, and inference leaves them
    remembers = 0 if learns else sum(arena["persistent_bytes"] for arena in artifact.manifest["arenas"])
    with opened(artifact, None) as runner:
        yield Model(
            artifact.folder, inputs, lambda given: next(iter(runner.run(entry, given).values())), remembers
        )


def is_model(path: Path) -> bool:
    """Whether the name is that of a model: an .onnx file, or the folder of an artifact."""
    return path.suffix == ".onnx" or (path / "manifest.json").is_file()


@contextmanager
def model_of(path: Path) -> Iterator[Model]:
    """The model of a name that is one. Raises what onnx_model and artifact_model raise."""
    from edgec.artifact import Artifact

    if path.suffix == ".onnx":
        yield onnx_model(path)
    else:
        with artifact_model(Artifact(path)) as found:
            yield found
