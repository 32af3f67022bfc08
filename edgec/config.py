"""Options from edgec.toml and from the environment, for what the command line leaves out.

    [edgec]                # flags that stand before the subcommand
    seed = 7
    [compile]              # one table a subcommand; keys are its long options, with - or _
    target = "cortex-m4"
    calib = "calib.npz"    # paths count from the file's own folder

The file is the one after --config or in EDGEC_CONFIG, or the nearest edgec.toml from the working directory
upwards. The command line comes before EDGEC_<COMMAND>_<OPTION> (EDGEC_<FLAG> for a flag of [edgec]), that before
the file, and the file before the defaults. A list is comma-separated in the environment. `--trust` and `--model`,
which let a model's files run code, are taken from the command line alone. Raises UserError EDGEC-E208 for a name that
is none, E209 for a value that is none, E20A for a file that cannot be read.
"""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgec.errors import UserError

FILE: Final = "edgec.toml"
GLOBAL: Final = "edgec"
RUNS_CODE: Final = ("trust", "model")
LEFT_OUT: Final = ("help", "version", "config")
BOOLEANS: Final = {"1": True, "true": True, "yes": True, "on": True} | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
OVERRULED: Final = {"target": "all_targets"}  # a list from here gives way to that flag

Tables = dict[str, dict[str, argparse.Action]]  # options by command, by long name


@dataclass(frozen=True, slots=True)
class Settings:
    """What was found. `path`: the file, None where there is none; `lists`: values by command and attribute of the
    options that collect: argparse would add to a default, not replace it."""

    path: Path | None = None
    lists: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def complete(self, args: argparse.Namespace) -> None:
        """Fill in the lists that the command line left out."""
        for name, value in self.lists.get(args.command or "", {}).items():
            if not getattr(args, name) and not getattr(args, OVERRULED.get(name, ""), False):
                setattr(args, name, value)


def configure(
    top: argparse.ArgumentParser, words: Sequence[str], environment: Mapping[str, str], here: Path
) -> Settings:
    """Give the parsers of `top` the defaults that file and environment set. `words`: the command line."""
    if any(w in ("-h", "--help", "--version") for w in words):
        return Settings()  # help must work where the file does not
    path = _file(words, environment, here)
    parsers, tables = _tables(top)
    found: dict[tuple[str, str], object] = {}
    if path is not None:
        for (command, name), value in _read(path, tables).items():
            where = f"[{command}] {name} in {path}"
            found[command, name] = _value(tables[command][name], value, where, path.parent)
    for (command, name), (variable, text) in _variables(environment, tables).items():
        found[command, name] = _value(tables[command][name], text, variable, here)
    settings = Settings(path)
    for (command, name), made in found.items():
        action = tables[command][name]
        action.required = False
        if isinstance(made, list):
            settings.lists.setdefault(command, {})[action.dest] = made
        else:
            parsers[command].set_defaults(**{action.dest: made})
    return settings


def _file(words: Sequence[str], environment: Mapping[str, str], here: Path) -> Path | None:
    given = environment.get("EDGEC_CONFIG")
    for index, word in enumerate(words, 1):
        if word == "--config" and index < len(words):
            given = words[index]
        elif word.startswith("--config="):
            given = word.partition("=")[2]
    if given:
        return here / given
    return next((p / FILE for p in (here, *here.parents) if (p / FILE).is_file()), None)


def _tables(top: argparse.ArgumentParser) -> tuple[dict[str, argparse.ArgumentParser], Tables]:
    """(parser by table, its options by long name). A subcommand's own options only."""
    sub = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    parsers: dict[str, argparse.ArgumentParser] = {GLOBAL: top, **sub.choices}
    flags = {a.dest for a in top._actions}
    tables: Tables = {}
    for command, parser in parsers.items():
        tables[command] = {
            o[2:]: a
            for a in parser._actions
            for o in a.option_strings
            if o.startswith("--")
            and not (isinstance(a, argparse.BooleanOptionalAction) and o.startswith("--no-"))
            and o[2:] not in LEFT_OUT
            and (command == GLOBAL or a.dest not in flags)
        }
    return parsers, tables


def _read(path: Path, tables: Tables) -> dict[tuple[str, str], object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            "EDGEC-E20A", f"check the path of --config: {path} cannot be read ({error.strerror})"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError("EDGEC-E20A", f"correct the file: {path} is not TOML ({error})") from error
    found: dict[tuple[str, str], object] = {}
    for table, options in content.items():
        if table not in tables:
            raise _unknown(f"[{table}]", table, tables, str(path), "table")
        if not isinstance(options, dict):
            raise UserError(
                "EDGEC-E208", f"write [{table}] and its options below it: {path} has {table} = ..."
            )
        for key, value in options.items():
            name = key.replace("_", "-")
            if name in RUNS_CODE:
                raise UserError(
                    "EDGEC-E208",
                    f"give --{name} on the command line: it lets a file run code, and {path} may come with one",
                )
            if name not in tables[table]:
                if name in tables[GLOBAL]:
                    raise UserError("EDGEC-E208", f"write {key} below [{GLOBAL}]: {path} has it in [{table}]")
                raise _unknown(key, name, tables[table], f"[{table}] of {path}", "option")
            found[table, name] = value
    return found


def _variables(environment: Mapping[str, str], tables: Tables) -> dict[tuple[str, str], tuple[str, str]]:
    """(name of the variable, its text) by command and option."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for variable, text in environment.items():
        first, _, rest = variable.removeprefix("EDGEC_").partition("_")
        whole = variable.removeprefix("EDGEC_").lower().replace("_", "-")
        if not variable.startswith("EDGEC_"):
            continue
        if whole in tables[GLOBAL]:
            found[GLOBAL, whole] = variable, text
        elif first.lower() in tables and rest:
            command, name = first.lower(), rest.lower().replace("_", "-")
            if name in RUNS_CODE or name not in tables[command]:
                raise _unknown(variable, name, tables[command], "the environment", "option")
            found[command, name] = variable, text
    return found


def _unknown(shown: str, name: str, known: Mapping[str, object], where: str, what: str) -> UserError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    names = [n for n in known if n not in RUNS_CODE]
    cure = f"write {near[0]}" if near else f"use one of {', '.join(names)}" if names else "remove it"
    return UserError("EDGEC-E208", f"{cure}: {shown} in {where} is no {what} of edgec")


def _value(action: argparse.Action, value: object, where: str, folder: Path) -> object:
    """`value` as the command line would have made it. From the environment it is a string."""
    if isinstance(action, (argparse._StoreTrueAction, argparse.BooleanOptionalAction)):
        made = BOOLEANS.get(value.lower()) if isinstance(value, str) else value
        return made if isinstance(made, bool) else _refuse(where, "true or false", value)
    if isinstance(action, argparse._AppendAction):
        listed = value.split(",") if isinstance(value, str) else value
        names = isinstance(listed, list) and all(isinstance(v, str) for v in listed)
        return listed if names else _refuse(where, "a list of strings", value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return _refuse(where, "a string or a number", value)
    if isinstance(action, argparse._CountAction):
        return int(value) if str(value) in ("0", "1", "2", "3") else _refuse(where, "0 to 3", value)
    if action.choices is not None and value not in action.choices:
        known = [str(c) for c in action.choices]
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
        cure = f"{near[0]} (one of {', '.join(known)})" if near else f"one of {', '.join(known)}"
        return _refuse(where, cure, value)
    return _converted(action, str(value), where, folder)


def _converted(action: argparse.Action, text: str, where: str, folder: Path) -> object:
    """`text` through the option's own type; a path counts from `folder`."""
    if action.type is None:
        return text
    if action.type is Path:
        return Path(text) if text == "random" else Path(os.path.normpath(folder / text))
    assert callable(action.type)
    try:
        return action.type(text)
    except argparse.ArgumentTypeError as error:
        raise UserError("EDGEC-E209", f"{error}: that is the value of {where}") from error
    except ValueError:
        return _refuse(where, "a number", text)


def _refuse(where: str, wanted: str, value: object) -> object:
    raise UserError("EDGEC-E209", f"write {wanted}: {where} is {value!r}")
