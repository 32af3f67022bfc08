"""A module becomes an exported program: torch.export with the user's mistakes told apart and named."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from edgec.errors import UserError
from edgec.frontends.checkpoint import first_line
from edgec.frontends.quiet import quiet
from edgec.frontends.torch_loc import raised_at, user_line

if TYPE_CHECKING:
    import torch


class TraceOptions(Protocol):
    """What of LoadOptions the trace needs."""

    @property
    def example_inputs(self) -> tuple[Any, ...] | None: ...
    @property
    def strict(self) -> bool: ...
    @property
    def dynamic_shapes(self) -> Any: ...


def export_module(
    module: torch.nn.Module, options: TraceOptions, inputs: tuple[Any, ...] | None = None
) -> torch.export.ExportedProgram:
    """The module in evaluation mode, exported; the user's module is left in the mode it had.

    Raises UserError EDGEC-E320 for control flow that depends on data, -E321 for other failures of the trace,
    -E323 without example inputs, -E325 for names that torch.export cannot take.
    """
    import torch

    given = options.example_inputs if options.example_inputs is not None else inputs
    if given is None:
        raise UserError(
            "EDGEC-E323",
            "give example inputs: example_inputs=(...) in Python, or a --model factory that returns (module, inputs). "
            "They fix the sizes and types of the model's inputs",
        )
    _check_names(module)
    arguments = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    with _evaluating(module), quiet():
        try:
            return torch.export.export(
                module, arguments, strict=options.strict, dynamic_shapes=options.dynamic_shapes
            )
        except Exception as error:  # torch.export raises whatever the user's forward raises
            raise _explained(error) from None


def _check_names(module: torch.nn.Module) -> None:
    """PyTorch's exporter writes the names of submodules bare or between double quotes into Python code."""
    names = [
        name for name, _ in (*module.named_modules(), *module.named_parameters(), *module.named_buffers())
    ]
    for name in names:
        unfit = any(ch in '"\\' or ord(ch) < 32 for ch in name)
        if unfit or any(keyword.iskeyword(part) for part in name.split(".")):
            raise UserError(
                "EDGEC-E325",
                "rename this part of the model: names may not hold double quotes, backslashes, line ends or Python "
                f"keywords, on which torch.export fails. It is called {name[:200]!a}",
            )


def _explained(error: Exception) -> UserError:
    file, line = _place(error)
    where = f" at {file}:{line}" if file else ""
    kind = type(error).__name__
    text = str(error)
    data_dependent = kind in (
        "GuardOnDataDependentSymNode",
        "UserError",
        "Unsupported",
        "DataDependentOutputException",
    )
    if (
        data_dependent and ("ata-dependent" in text or "ynamic control flow" in text)
    ) or "DataDependent" in kind:
        return UserError(
            "EDGEC-E320",
            "make the model's path independent of the data: torch.where in place of if, fixed loop counts, no .item(). "
            f"The control flow{where} depends on the values of a tensor, and a compiled program has one path",
        )
    return UserError(
        "EDGEC-E321",
        "mend the model so that it runs on the example inputs and torch.export accepts it. "
        f"It failed{where} with {kind}: {first_line(error)}",
    )


def _place(error: BaseException) -> tuple[str, int]:
    """The user's line: from the traceback, from the error that caused it, or from the text that torch writes."""
    found = raised_at(error.__traceback__)
    cause = error.__cause__ or error.__context__
    if not found[0] and cause is not None:
        found = _place(cause)
    return found if found[0] else user_line(str(error))


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
