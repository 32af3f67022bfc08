"""Settings of a control loop from a TOML file.

    mode = "vlash"
    rate_hz = 50
    horizon = 16
    execute = 8
    state = ["x", "y", "grip"]           # names of the measured numbers, in their order

    [[axes]]                             # one table a number of the action, in its order
    name = "x"
    kind = "delta"
    limits = [-0.02, 0.02]               # what the actuator takes: required
    position = "x"                       # a name of `state`

    [estimate]                           # how the delay is estimated, where `delay` is not given
    window = 64

Other keys are the fields of settings.Settings, settings.Axis and settings.Estimate. A file that does not say otherwise
has the watches of WATCHES.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from edgec.control.settings import BEYONDS, KINDS, LATES, MODES, Axis, Estimate, Settings
from edgec.errors import UserError

REQUIRED: Final = ("mode", "rate_hz", "horizon", "execute", "state", "axes")
WATCHES: Final = {"stall_s": 2.0, "age_max_s": 0.5}
CHOICES: Final = {"mode": MODES, "kind": KINDS, "late": LATES, "beyond": BEYONDS}
PAIRS: Final = {"limits": "action_range", "position_limits": "position_range"}
PLACES: Final = ("position", "velocity")
LISTS: Final = ("state_scale", "state_offset")
_KINDS: Final = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def read_settings(path: Path) -> Settings:
    """The settings in `path`. Raises UserError EDGEC-E284 for an axis without limits, E285 for a key or value that is
    none, E286 where the file cannot be read."""
    return settings_from(_table(path), str(path))


def names_in(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the measured numbers and of the axes, of a file that `read_settings` takes; an axis without one is
    named by its number."""
    table = _table(path)
    return tuple(table["state"]), tuple(str(a.get("name", i)) for i, a in enumerate(table["axes"]))


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError("EDGEC-E286", f"give a TOML file with control settings: {path}: {reason}") from None


def settings_from(table: Mapping[str, Any], where: str) -> Settings:
    """The settings in a table that was read from `where`."""
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise UserError("EDGEC-E285", f"give {', '.join(missing)}: {where} has no such key")
    names = table["state"]
    if not (
        isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)
    ):
        raise UserError("EDGEC-E285", f'give state as names, each once, such as ["x", "y"]: {where}')
    if not (
        isinstance(table["axes"], list) and table["axes"] and all(isinstance(a, dict) for a in table["axes"])
    ):
        raise UserError("EDGEC-E285", f"give a table [[axes]] for each number of the action: {where}")
    own = {k: v for k, v in table.items() if k not in ("state", "axes", "estimate")}
    words = _checked(own, Settings, ("states", "axes", "estimate"), where)
    axes = tuple(_axis(a, names, f"{where}, axis {i}") for i, a in enumerate(table["axes"]))
    estimate = Estimate(**_checked(table.get("estimate", {}), Estimate, (), f"{where}, [estimate]"))
    return Settings(states=len(names), axes=axes, estimate=estimate, **(WATCHES | words))


def _axis(table: Mapping[str, Any], names: list[str], where: str) -> Axis:
    table = dict(table)
    name = table.pop("name", None)
    where = where if name is None else f"{where} ({name})"
    if "limits" not in table:
        raise UserError(
            "EDGEC-E284",
            f"give limits = [least, most], the commands that the actuator takes: {where} has none, and nothing is sent "
            "to a robot without",
        )
    pairs: dict[str, Any] = {PAIRS[k]: _pair(k, table.pop(k), where) for k in PAIRS if k in table}
    places: dict[str, Any] = {k: _place(k, table.pop(k), names, where) for k in PLACES if k in table}
    own = _checked(table, Axis, (*PAIRS.values(), *PLACES), where)
    if "kind" not in own:
        raise UserError("EDGEC-E285", f"give kind, one of {', '.join(KINDS)}: {where}")
    return Axis(**own, **pairs, **places)


def _pair(key: str, value: Any, where: str) -> tuple[float, float]:
    numbers = isinstance(value, list) and len(value) == 2 and all(_is_number(x) for x in value)
    if not numbers or not value[0] <= value[1]:
        raise UserError("EDGEC-E285", f"give {key} = [least, most], not {value!r}: {where}")
    return float(value[0]), float(value[1])


def _place(key: str, value: Any, names: list[str], where: str) -> int:
    if value not in names:
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f" ({near[0]}?)" if near else ""
        raise UserError("EDGEC-E285", f"give {key} as a name of state, not {value!r}{hint}: {where}")
    return names.index(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _checked(table: Mapping[str, Any], owner: type, taken: tuple[str, ...], where: str) -> dict[str, Any]:
    """The entries as arguments of `owner`. `taken`: fields that stand under other keys."""
    known = {f.name: str(f.type) for f in fields(owner) if f.name not in taken}
    found = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; {near[0]}?" if near else ""
            raise UserError("EDGEC-E285", f"remove {key}: {where} has no such key{hint}")
        found[key] = _value(key, value, known[key], where)
    return found


def _value(key: str, value: Any, kind: str, where: str) -> Any:
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise UserError(
                "EDGEC-E285", f"give {key} as one of {', '.join(CHOICES[key])}, not {value!r}: {where}"
            )
        return value
    if key in LISTS:
        if not (isinstance(value, list) and all(_is_number(x) for x in value)):
            raise UserError("EDGEC-E285", f"give {key} as a number for each of state, not {value!r}: {where}")
        return tuple(float(x) for x in value)
    wanted = bool if kind == "bool" else int if kind.startswith("int") else float
    right = (
        isinstance(value, bool)
        if wanted is bool
        else _is_number(value) and (wanted is float or isinstance(value, int))
    )
    if not right:
        raise UserError("EDGEC-E285", f"give {key} as {_KINDS[wanted]}, not {value!r}: {where}")
    return wanted(value)
