"""Model files and modules become a Program: `load` is the one way in.

Every op is float here and every tensor keeps the user's layout at the boundary; passes do the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.frontends.decoder_options import DecoderOptions
from edgec.ir import Program

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is read.

    `example_inputs`: positional inputs that fix shapes and dtypes; needed for a module whose factory gives
    none. `model`: "package.module:function", which makes the module that a state dict belongs to. `trust`:
    let a pickle in the file run its code. `strict`: trace by bytecode (torch.export strict mode) where the
    default trace fails. `dynamic_shapes`: as torch.export takes it. `decoder`: context and entries of a language
    model.
    """

    example_inputs: tuple[Any, ...] | None = None
    model: str | None = None
    trust: bool = False
    strict: bool = False
    dynamic_shapes: Any = None
    decoder: DecoderOptions = field(default_factory=DecoderOptions)


def load(
    model: str | os.PathLike[str] | torch.nn.Module | torch.export.ExportedProgram | Program,
    options: LoadOptions = LoadOptions(),
) -> Program:
    """The Program, with the one graph `infer`, of a file, a module or an exported program. A folder with a
    config.json and a generating model of transformers, given without example inputs, become the entries of
    torch_decoder.py. A Program is what it is.

    Raises UserError: EDGEC-E30x for what kind of file it is, -E31x for an unsafe one, -E32x where torch
    cannot export it, -E33x for weights and shapes, -E34x for language models, -E401 for unsupported operators,
    all of them together.
    """
    if isinstance(model, Program):
        return model
    import torch

    from edgec.frontends.checkpoint import load_file
    from edgec.frontends.model_folder import is_model_folder, load_folder
    from edgec.frontends.torch_decoder import import_decoder, is_decoder
    from edgec.frontends.torch_export import import_program
    from edgec.frontends.torch_trace import export_module

    if isinstance(model, torch.export.ExportedProgram):
        return import_program(model)
    if isinstance(model, torch.nn.Module):
        if options.example_inputs is None and is_decoder(model):
            return import_decoder(model, options.decoder)
        return import_program(export_module(model, options))
    if is_model_folder(Path(model)):
        empty, weights = load_folder(Path(model))
        return import_decoder(empty, options.decoder, weights)
    loaded = load_file(model, options.model, options.example_inputs, options.trust)
    if loaded.program is not None:
        return import_program(loaded.program)
    assert loaded.module is not None
    return import_program(export_module(loaded.module, options, loaded.example_inputs))


__all__ = ["DecoderOptions", "LoadOptions", "load"]
