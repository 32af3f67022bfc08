"""Where the MCUNet model of the tests lies; tests that need it are left out without it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgec.ir import Array

FOLDER = Path(os.environ.get("EDGEC_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))
FILE = FOLDER / "mcunet" / "mcunet-5fps.pkl"
needed = pytest.mark.skipif(not FILE.exists(), reason=f"needs {FILE} (EDGEC_MODELS)")


def golden_image(size: int = 128) -> Array:
    """The image of the published checksums, int8 NHWC."""
    i = np.arange(3 * size * size)
    values = ((7919 * i + 104729 * (i // 128)) % 255) - 127
    return np.ascontiguousarray(values.astype(np.int8).reshape(1, 3, size, size).transpose(0, 2, 3, 1))
