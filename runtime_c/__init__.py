"""The C runtime: `ROOT` is the one way to find its files, in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent
