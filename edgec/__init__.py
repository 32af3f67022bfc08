"""edgec compiles trained networks for the edge: C for microcontrollers, one set of integers on every
target."""

from __future__ import annotations

from pathlib import Path as _Path

# In a checkout frontends/, passes/, ... sit beside edgec/; in a wheel they sit inside it.
_root = _Path(__file__).parent.parent
if (_root / "runtime_c" / "__init__.py").is_file():
    __path__.append(str(_root))

__version__ = "0.1.0"
