"""What kind of file a model is in, and the module or exported program that is in it.

The file is read once; what is checked is what torch then reads (archive.py). Kinds are told by content,
never by the file's name.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgec.errors import UserError
from edgec.frontends.archive import (
    Records,
    check_saved_records,
    is_zip,
    read_records,
    without_root,
    write_records,
)
from edgec.frontends.pickle_check import imported_names
from edgec.frontends.program_check import checked_program_records
from edgec.frontends.quiet import quiet

if TYPE_CHECKING:
    import torch

MAX_FILE_BYTES: Final = 4 << 30


class Kind(Enum):
    """Kinds of model files; the value is how messages call them."""

    PROGRAM = "an exported program (torch.export.save)"
    STATE_DICT = "a state dict (torch.save of tensors)"
    MODULE = "a whole pickled module (torch.save of a module)"
    SCRIPT = "a TorchScript archive (torch.jit.save)"
    PACKAGE = "a compiled AOTInductor package"
    OLD_PICKLE = "a pickle in the format of PyTorch before 1.6, or of another program"
    ONNX = "an ONNX model"
    TFLITE = "a TensorFlow Lite model"
    SAFETENSORS = "a safetensors file"
    HDF5 = "an HDF5 file (Keras)"
    OTHER_ZIP = "a zip archive that PyTorch did not write"
    EMPTY = "an empty file"
    UNKNOWN = "no model file that edgec knows"


_CURES: Final[dict[Kind, tuple[str, str]]] = {
    Kind.SCRIPT: (
        "EDGEC-E304",
        "export the original module: torch.export.save(torch.export.export(model, example_inputs), "
        "'model.pt2')",
    ),
    Kind.PACKAGE: ("EDGEC-E304", "save the exported program itself: torch.export.save(program, 'model.pt2')"),
    Kind.OLD_PICKLE: (
        "EDGEC-E304",
        "load it in PyTorch and save it again: torch.save(model.state_dict(), path)",
    ),
    Kind.ONNX: ("EDGEC-E304", "export from PyTorch with torch.export.save; ONNX files are not supported yet"),
    Kind.TFLITE: (
        "EDGEC-E304",
        "export from PyTorch with torch.export.save; TFLite files are not supported yet",
    ),
    Kind.SAFETENSORS: (
        "EDGEC-E304",
        "load it into the module and save an exported program; safetensors files are not supported yet",
    ),
    Kind.HDF5: ("EDGEC-E304", "export from PyTorch with torch.export.save; Keras files are not supported"),
    Kind.OTHER_ZIP: ("EDGEC-E303", "give a file that torch.export.save or torch.save wrote"),
    Kind.EMPTY: ("EDGEC-E301", "save the model again"),
    Kind.UNKNOWN: ("EDGEC-E303", "give a file that torch.export.save or torch.save wrote"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A module with its example inputs, or an exported program; the other is None."""

    module: torch.nn.Module | None
    example_inputs: tuple[Any, ...] | None
    program: torch.export.ExportedProgram | None


def read_model_file(path: str | os.PathLike[str]) -> bytes:
    """The whole file. Raises UserError EDGEC-E300 where it cannot be read."""
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise UserError(
                "EDGEC-E300", f"give a smaller model: {path} has {size} bytes, the limit is {MAX_FILE_BYTES}"
            )
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            "EDGEC-E300", f"give the path of a model file that can be read. {os.fspath(path)!a}: {reason}"
        ) from None


def kind_of(data: bytes, records: Records | None) -> Kind:
    """The kind of file; `records` are those of the zip archive where it is one."""
    if not data:
        return Kind.EMPTY
    if records is not None:
        return _kind_of_archive(records)
    if data[4:8] == b"TFL3":
        return Kind.TFLITE
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        return Kind.HDF5
    if data[:1] == b"\x80" and len(data) > 1 and data[1] <= 5:
        return Kind.OLD_PICKLE
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < len(data):
        return Kind.SAFETENSORS
    # An ONNX ModelProto begins with field 1 (ir_version, a varint), then a length-delimited or varint field.
    if data[:1] == b"\x08" and len(data) > 16 and data[1] < 32 and data[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42):
        return Kind.ONNX
    return Kind.UNKNOWN


def _kind_of_archive(records: Records) -> Kind:
    inner = {without_root(name) for name in records}
    if any(name.startswith("data/aotinductor/") for name in inner):
        return Kind.PACKAGE
    if "serialized_exported_program.json" in records or any(name.startswith("models/") for name in inner):
        return Kind.PROGRAM
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return Kind.SCRIPT
    if "data.pkl" not in inner:
        return Kind.OTHER_ZIP
    pickle = next(content for name, content in records.items() if without_root(name) == "data.pkl")
    imports = imported_names(pickle)
    # A pickled module imports its class and, whatever its layers, the sets and functions that nn.Module
    # holds.
    if any(name.startswith("torch.nn.modules.") or name.startswith("torch.fx.") for name in imports):
        return Kind.MODULE
    return Kind.STATE_DICT


def load_file(
    path: str | os.PathLike[str], factory: str | None, example_inputs: tuple[Any, ...] | None, trust: bool
) -> Loaded:
    """The model in a file.

    `factory` ("package.module:function") makes the module that a state dict belongs to; the path `-` takes that
    module with its own weights. With `trust` the file's pickles are executed without a check, and whole
    pickled modules load.
    """
    if os.fspath(path) == "-":
        return _made_by(factory, example_inputs)
    data = read_model_file(path)
    where = os.path.basename(os.fspath(path))
    records = read_records(data, where) if is_zip(data) else None
    kind = kind_of(data, records)
    if kind in _CURES:
        code, cure = _CURES[kind]
        raise UserError(code, f"{cure}. {where} is {kind.value}")
    assert records is not None
    if kind is Kind.PROGRAM and factory is not None:
        raise UserError(
            "EDGEC-E309",
            f"leave out --model, or give a state dict with it. {where} is {kind.value}, a whole model",
        )
    if kind is Kind.PROGRAM:
        return Loaded(None, None, _load_program(data, records, where, trust))
    if kind is Kind.MODULE:
        loaded = _load_module(data, where, example_inputs, trust)
        if loaded.example_inputs is None and factory is not None:
            return replace(loaded, example_inputs=call_factory(factory)[1])
        return loaded
    return _load_state_dict(data, records, where, factory, example_inputs, trust)


def _made_by(factory: str | None, example_inputs: tuple[Any, ...] | None) -> Loaded:
    """The module that the factory makes, with the weights that it gives it: what the path `-` means."""
    if factory is None:
        raise UserError(
            "EDGEC-E306",
            "name the function that makes the module: --model package.module:function. `-` is no file",
        )
    module, inputs = call_factory(factory)
    return Loaded(module, example_inputs if example_inputs is not None else inputs, None)


def _load_program(data: bytes, records: Records, where: str, trust: bool) -> torch.export.ExportedProgram:
    import torch

    source = data if trust else write_records(checked_program_records(records, where))
    try:
        with quiet():
            return torch.export.load(io.BytesIO(source))
    except Exception as error:  # torch raises anything here, from KeyError to AssertionError
        raise UserError(
            "EDGEC-E340",
            f"export the model again with this PyTorch ({torch.__version__}): torch.export.load cannot read "
            f"{where}: {first_line(error)}",
        ) from None


def _load_module(data: bytes, where: str, example_inputs: tuple[Any, ...] | None, trust: bool) -> Loaded:
    import torch

    if not trust:
        raise UserError(
            "EDGEC-E305",
            "save an exported program (torch.export.save) or a state dict "
            "(torch.save(model.state_dict(), path)) instead, or pass --trust, which lets the file run "
            f"its code. {where} is {Kind.MODULE.value}; such a pickle can run any code when it is loaded",
        )
    try:
        module = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:
        raise UserError(
            "EDGEC-E305",
            f"put the module's source on PYTHONPATH. {where} cannot be loaded: {first_line(error)}",
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise UserError(
            "EDGEC-E305", f"save a torch.nn.Module. {where} holds an object of type {type(module).__name__}"
        )
    return Loaded(module.eval(), example_inputs, None)


def _load_state_dict(
    data: bytes,
    records: Records,
    where: str,
    factory: str | None,
    example_inputs: tuple[Any, ...] | None,
    trust: bool,
) -> Loaded:
    import torch

    source = data
    if not trust:
        check_saved_records(records, where)
        source = write_records(records)
    if factory is None:
        raise UserError(
            "EDGEC-E306",
            "name the function that makes the module: --model package.module:function (it returns the "
            f"module and its example inputs). {where} is {Kind.STATE_DICT.value}, which "
            "holds weights alone",
        )
    try:
        state = torch.load(io.BytesIO(source), map_location="cpu", weights_only=not trust)
    except Exception as error:
        raise UserError(
            "EDGEC-E302", f"save the state dict again. {where} cannot be read: {first_line(error)}"
        ) from None
    module, inputs = call_factory(factory)
    _fill_module(module, state, where, factory)
    return Loaded(module, example_inputs if example_inputs is not None else inputs, None)


def _fill_module(module: torch.nn.Module, state: object, where: str, factory: str) -> None:
    import torch

    # Training scripts often save the state dict beside the epoch and the optimizer's state.
    if isinstance(state, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(state.get(key), Mapping):
                state = state[key]
                break
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(
            "EDGEC-E307",
            f"save the state dict alone: torch.save(model.state_dict(), path). {where} holds something else "
            f"({type(state).__name__})",
        )
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {list(state[name].shape)} in the file, {list(expected[name].shape)} in the module"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if missing or extra or shapes:
        parts = [f"missing from the file: {_some(missing)}"] if missing else []
        parts += [f"not in the module: {_some(extra)}"] if extra else []
        raise UserError(
            "EDGEC-E307",
            f"give the factory that made these weights: {where} does not fit the module of {factory}. "
            + "; ".join(parts + shapes[:4]),
        )
    module.load_state_dict(state)


def _some(names: list[str]) -> str:
    shown = ", ".join(ascii(n[:80]) for n in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def call_factory(factory: str) -> tuple[torch.nn.Module, tuple[Any, ...] | None]:
    """(module in eval mode, example inputs or None) of "package.module:function".

    The current folder is searched too. Raises UserError EDGEC-E308.
    """
    import torch

    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise UserError(
            "EDGEC-E308", f"write --model as package.module:function. {factory!a} has no such form"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results
            made = getattr(importlib.import_module(module_name), function_name)()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UserError(
            "EDGEC-E308",
            f"mend the factory {factory}, or put its folder on PYTHONPATH. It raised {type(error).__name__}: "
            f"{first_line(error)}",
        ) from None
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise UserError(
            "EDGEC-E308",
            f"return a torch.nn.Module, or (module, example inputs), from {factory}. It returned "
            f"{type(made).__name__}",
        )
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    return module.eval(), tuple(inputs) if inputs is not None else None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, its type where it has none."""
    return next(
        (line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__
    )
