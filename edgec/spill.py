"""Large arrays in a file instead of in memory: what a Plan holds of a network's weights.

The file has no name once it is open, and goes with the last array. The system drops pages from memory as it needs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Final

import numpy as np

from edgec.errors import cannot_write
from edgec.ir import Array, Constant

LARGE_BYTES: Final = 1 << 20


def spilled(array: Array) -> Array:
    """The same content, read-only, mapped from a file in TMPDIR; a small array as it is. Raises UserError
    EDGEC-EB08."""
    if array.nbytes < LARGE_BYTES or isinstance(array, np.memmap):
        return array
    try:
        with tempfile.TemporaryFile(prefix="edgec-weights-") as file:
            np.ascontiguousarray(array).tofile(file)
            file.flush()
            return np.memmap(file, array.dtype, "r", shape=array.shape)
    except OSError as error:
        raise cannot_write("EDGEC-EB08", f"{tempfile.gettempdir()} (TMPDIR)", error) from error


class Contents:
    """The content of a Program's constants, each read once."""

    def __init__(self, constants: Mapping[str, Constant]) -> None:
        self.constants = constants
        self._held: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        constant = self.constants[name]
        if constant.type.bytes < LARGE_BYTES:
            return constant.data
        if name not in self._held:
            self._held[name] = spilled(constant.data)
        return self._held[name]
