"""The three error classes, their codes and exit codes. Nothing else raises to the user.

An error says first what to do, then what is wrong with the numbers, where in the user's model, and which limit from
where. The code fixes the exit code, so that a script can tell the causes apart (design, "The command line").
"""

from __future__ import annotations

import errno
from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes of the `edgec` command."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    MODEL_REJECTED = 3
    UNSUPPORTED_OP = 4
    DOES_NOT_FIT = 5
    ACCURACY_GATE = 6
    SPEED_GATE = 7
    DEVICE = 8
    VERIFICATION = 9
    TOOL_MISSING = 10
    CANNOT_WRITE = 11
    INTERRUPTED = 130


# First digit of a code names its kind; the exit code follows from it.
_EXIT_OF_KIND: dict[str, Exit] = {
    "1": Exit.INTERNAL,
    "2": Exit.USAGE,
    "3": Exit.MODEL_REJECTED,
    "4": Exit.UNSUPPORTED_OP,
    "5": Exit.DOES_NOT_FIT,
    "6": Exit.ACCURACY_GATE,
    "7": Exit.SPEED_GATE,
    "8": Exit.DEVICE,
    "9": Exit.VERIFICATION,
    "A": Exit.TOOL_MISSING,
    "B": Exit.CANNOT_WRITE,
}


class EdgecError(Exception):
    """Base of the three classes: `code` is `EDGEC-E` and three characters, the first of which fixes the exit
    code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def exit_code(self) -> Exit:
        return _EXIT_OF_KIND[self.code[len("EDGEC-E")]]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class UserError(EdgecError):
    """The model, the data or the options are at fault."""


def cannot_write(code: str, place: object, error: OSError) -> UserError:
    """The error for a file or folder that could not be written: the cure follows from the system's reason."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    cure = "free space or choose another place" if full else "choose a place that can be written"
    return UserError(code, f"{cure}: {place}: {error.strerror or error}")


class TargetError(EdgecError):
    """It does not fit, or is not supported there."""


class InternalError(EdgecError):
    """Our bug. The message asks for the stages folder."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "EDGEC-E100",
            f"{message}. This is a bug in edgec: please report it with the folder that --stages DIR writes",
        )
