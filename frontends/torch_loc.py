"""Where in the user's model a node of an exported program comes from."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING, Final

from edgec.ir import Loc

if TYPE_CHECKING:
    import torch

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH: Final = re.compile(
    r"[/\\]torch[/\\](nn|_\w+|functional|export|fx|utils|ao|autograd|amp)[/\\.]|^<|importlib"
)


def loc_of(node: torch.fx.Node) -> Loc:
    """The module path as layer, and the innermost line of the trace that is not PyTorch's own."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next((str(entry[0]) for entry in reversed(list(stack.values()))), "")
    file, line = user_line(node.meta.get("stack_trace") or "")
    return Loc(path.removeprefix("L['self']").lstrip("."), file, line)


def user_line(trace: str) -> tuple[str, int]:
    """(file, line) of the last frame in the text of a stack that lies outside of PyTorch, ("", 0) without one."""
    for file, line in reversed(_FRAME.findall(trace)):
        if not _TORCH.search(file):
            return file, int(line)
    return "", 0


def raised_at(trace: TracebackType | None) -> tuple[str, int]:
    """(file, line) of the innermost frame of a traceback that lies outside of PyTorch and of edgec."""
    found = ("", 0)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not _TORCH.search(file) and not module.startswith(("torch.", "edgec.", "contextlib")):
            found = (file, trace.tb_lineno)
        trace = trace.tb_next
    return found
