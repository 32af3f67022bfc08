"""Where what was compiled once is kept for the next time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """EDGEC_CACHE, or .cache/edgec in the user's home."""
    given = os.environ.get("EDGEC_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "edgec"
