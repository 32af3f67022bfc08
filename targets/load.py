"""Targets: reads targets/<name>.toml into edgec.plan.Target and reports all that is wrong at once.

A new board is one TOML file here, or anywhere: `--target path/to/board.toml` works too. `emulator` names one
of the QEMU machines in machines.toml. Sizes are written "320K" with K = 1024.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from edgec.errors import UserError
from edgec.plan import Emulator, Gpu, Memory, Target, Toolchain

FOLDER: Final = Path(__file__).parent
MACHINES_FILE: Final = FOLDER / "machines.toml"
FEATURES: Final = ("dsp", "fpu", "mve", "simd", "unaligned")
FAMILIES: Final = ("c", "cuda")
COMPUTE: Final = (80, 86, 87, 89, 90, 110)  # capabilities that the kernels are compiled for
TIMERS: Final = ("cmsdk", "systick", "nrf51")
LEAST_RESERVE_BYTES: Final = 2048  # test firmware: 1 KB of data, 1 KB of stack


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|b)?\s*", re.IGNORECASE | re.ASCII)
_FACTOR: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MEMORY_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_T = TypeVar("_T", int, float, str, bool)


def parse_size(text: str | int) -> int:
    """Bytes of "320K", "1M", "1.5M", "4096"; K = 1024. Raises UserError E215 for anything else.

    >>> parse_size("320K")
    327680
    """
    match = _SIZE.fullmatch(str(text))
    if match is not None:
        value = float(match[1]) * _FACTOR[(match[2] or "").lower()]
        if value == int(value) and 0 < value < 1 << 48:
            return int(value)
    raise UserError(
        "EDGEC-E215",
        "write a size as a whole number of bytes above 0, with K, M or G for 1024, 1024², 1024³ "
        f"(320K, 1.5M, 4096); {str(text)!r} is not one",
    )


def target_names() -> tuple[str, ...]:
    """Names of the targets that come with edgec, in order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml") if path != MACHINES_FILE))


def load_targets() -> tuple[Target, ...]:
    """All targets that come with edgec."""
    return tuple(load_target(name) for name in target_names())


def load_target(name: str) -> Target:
    """The target of this name, or of the TOML file at this path (text that ends in .toml).

    Raises UserError: E210 unknown name, E211 unreadable file, E212 wrong content (all problems at once).
    """
    path = target_file(name)
    table = _Table(_read(path), "", [])
    if not _FILE_NAME.fullmatch(path.stem):
        table.problems.append("rename the file with letters, digits, dot, _ and - alone: it names the target")
    target = _target(path.stem, table)
    table.finish()
    if table.problems or target is None:
        lines = "".join(f"\n  {p}" for p in table.problems)
        raise UserError(
            "EDGEC-E212", f"correct the target file {path}: {len(table.problems)} problems{lines}"
        )
    return target


def target_file(name: str) -> Path:
    """The TOML file of a target by name or path. Raises UserError E210."""
    if name.endswith(".toml"):
        return Path(name)
    if name in target_names():
        return FOLDER / f"{name}.toml"
    raise UserError("EDGEC-E210", _unknown_target(name))


def _unknown_target(name: str) -> str:
    names = target_names()
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    suggestion = f"use --target {near[0]}" if near else "choose a target that exists"
    return (
        f"{suggestion}: there is no target {name!r}. Targets: {', '.join(names)}, or the path of a .toml file"
    )


def _read(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            "EDGEC-E211", f"give the path of a target file that can be read: {path}: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError("EDGEC-E211", f"correct the TOML of the target file {path}: {error}") from None


@dataclass(slots=True)
class _Table:
    """A TOML table being read. `problems` is shared by a file's tables; `place` says which one this is."""

    data: Mapping[str, object]
    place: str
    problems: list[str]
    known: set[str] = field(default_factory=set)

    def get(self, key: str, kind: type[_T], check: Callable[[_T], str | None] = lambda _: None) -> _T | None:
        """The value of a required key; None after noting a problem. `check` says what is wrong, or None."""
        self.known.add(key)
        if key not in self.data:
            self.problems.append(f"{self.place}add the key {key} ({_KIND_NAMES[kind]}): it is missing")
            return None
        return self.checked(key, self.data[key], kind, check)

    def checked(
        self, key: str, value: object, kind: type[_T], check: Callable[[_T], str | None]
    ) -> _T | None:
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problems.append(f"{self.place}make {key} {_KIND_NAMES[kind]}: it is {value!r}")
            return None
        wrong = check(value)
        if wrong is not None:
            self.problems.append(f"{self.place}{key} {wrong}: it is {value!r}")
            return None
        return value

    def optional(self, key: str, kind: type[_T]) -> _T | None:
        """The value of a key that may be absent."""
        self.known.add(key)
        return self.get(key, kind) if key in self.data else None

    def strings(self, key: str, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
        """A list of texts, each from `allowed` unless that is None."""
        self.known.add(key)
        value = self.data.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            state = "is missing" if key not in self.data else f"is {value!r}"
            self.problems.append(f"{self.place}make {key} a list of texts: it {state}")
            return ()
        for item in value:
            if allowed is not None and item not in allowed:
                self.problems.append(f"{self.place}{key} may hold {', '.join(allowed)}: it holds {item!r}")
        return tuple(value)

    def size(self, key: str) -> int:
        """Bytes of a size; 1 after a problem."""
        text = self.get(key, str)
        if text is None:
            return 1
        try:
            return parse_size(text)
        except UserError:
            self.problems.append(f'{self.place}{key} must be a size such as "320K": it is {text!r}')
            return 1

    def tables(self, key: str) -> tuple[_Table, ...]:
        """The tables of a non-empty array of tables."""
        self.known.add(key)
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            self.problems.append(f"{self.place}add at least one [[{key}]] table")
            return ()
        named = [(v, v.get("name", i + 1)) for i, v in enumerate(value)]
        return tuple(_Table(v, f"[[{key}]] {n}: ", self.problems) for v, n in named)

    def table(self, key: str) -> _Table:
        """A sub-table."""
        self.known.add(key)
        value = self.data.get(key)
        if not isinstance(value, dict):
            self.problems.append(f"{self.place}add the table [{key}]: it is missing")
            return _Table({}, f"[{key}]: ", [])
        return _Table(value, f"[{key}]: ", self.problems)

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for key in self.data:
            if key not in self.known:
                near = difflib.get_close_matches(key, sorted(self.known), n=1)
                cure = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(self.known))}"
                self.problems.append(f"{self.place}remove the unknown key {key}; {cure}")


_KIND_NAMES: Final[Mapping[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


def _one_of(allowed: Iterable[str]) -> Callable[[str], str | None]:
    names = tuple(allowed)
    return lambda value: None if value in names else f"must be one of {', '.join(names)}"


def _one_of_numbers(allowed: Iterable[int]) -> Callable[[int], str | None]:
    numbers = tuple(allowed)
    return lambda value: None if value in numbers else f"must be one of {', '.join(map(str, numbers))}"


def _above_zero(value: float) -> str | None:
    return None if value > 0 else "must be above 0"


def _address(value: int) -> str | None:
    return None if 0 <= value < 1 << 32 else "must be an address below 2^32"


def _alignment(value: int) -> str | None:
    allowed = (4, 8, 16, 32, 64, 256)
    return None if value in allowed else "must be 4, 8, 16, 32, 64 or 256"


def _memory_name(value: str) -> str | None:
    return None if _MEMORY_NAME.fullmatch(value) else "must be small letters, digits and _, a letter first"


def _memories(table: _Table, kinds: tuple[str, ...] = ("ram", "flash")) -> tuple[Memory, ...]:
    memories = tuple(_memory(t) for t in table.tables("memory"))
    names = [m.name for m in memories]
    for kind in kinds:
        if memories and all(m.kind != kind for m in memories):
            table.problems.append(f'{table.place}add a [[memory]] with kind = "{kind}": there is none')
    for name in sorted({n for n in names if names.count(n) > 1}):
        table.problems.append(f"{table.place}give each [[memory]] its own name: {name} is used twice")
    ordered = sorted(memories, key=lambda m: m.origin)
    for below, above in pairwise(ordered):
        if below.origin + below.bytes > above.origin:
            table.problems.append(
                f"{table.place}memories may not overlap: {below.name} ends at "
                f"0x{below.origin + below.bytes:x}, {above.name} begins at 0x{above.origin:x}"
            )
    return memories


def _memory(table: _Table) -> Memory:
    memory = Memory(
        name=table.get("name", str, _memory_name) or "?",
        kind=table.get("kind", str, _one_of(("ram", "flash"))) or "?",
        origin=table.get("origin", int, _address) or 0,
        bytes=table.size("size"),
        align=table.get("align", int, _alignment) or 4,
        speed=table.get("speed", int, _above_zero) or 1,
        source=table.get("source", str) or "",
    )
    table.finish()
    return memory


def _target(name: str, table: _Table) -> Target | None:
    family = table.get("family", str, _one_of(FAMILIES)) or ""
    cuda = family == "cuda"
    target = Target(
        name=name,
        title=table.get("title", str) or "",
        family=family,
        isa=table.get("isa", str) or "",
        features=table.strings("features", FEATURES),
        clock_hz=table.get("clock", int, _above_zero) or 0,
        memories=_memories(table, ("ram",) if cuda else ("ram", "flash")),
        reserve_ram_bytes=table.size("reserve_ram"),
        toolchain=_toolchain(table.table("toolchain")),
        emulator=_emulator(table, "emulator"),
        source=table.get("source", str) or "",
        emulator_large=_emulator(table, "emulator_large"),
        gpu=_gpu(table.table("gpu")) if cuda else None,
    )
    ram = sum(m.bytes for m in target.rams)
    if target.has("mve") and not target.toolchain.mve_cflags:
        table.problems.append("[toolchain]: add the key mve_cflags (a list of texts): features hold mve")
    if not table.problems and not LEAST_RESERVE_BYTES <= target.reserve_ram_bytes < ram:
        table.problems.append(
            f"reserve_ram must lie between 2K and the {ram} bytes of all RAM: "
            f"it is {target.reserve_ram_bytes}"
        )
    return target


def _toolchain(table: _Table) -> Toolchain:
    toolchain = Toolchain(
        cc=table.get("cc", str) or "",
        cflags=table.strings("cflags", None),
        ldflags=table.strings("ldflags", None),
        mve_cflags=table.strings("mve_cflags", None) if "mve_cflags" in table.data else (),
    )
    table.finish()
    return toolchain


def _gpu(table: _Table) -> Gpu:
    gpu = Gpu(
        compute=table.get("compute", int, _one_of_numbers(COMPUTE)) or 0,
        sms=table.get("sms", int, _above_zero) or 0,
        shared_bytes=table.size("shared"),
        l2_bytes=table.size("l2"),
        bandwidth=int(table.get("bandwidth", float, _above_zero) or 0),
        fp32_flops=table.get("fp32_flops", float, _above_zero) or 0.0,
        fp16_flops=table.get("fp16_flops", float, _above_zero) or 0.0,
        int8_ops=table.get("int8_ops", float, _above_zero) or 0.0,
        integrated=table.get("integrated", bool) or False,
    )
    table.get("source", str)
    table.finish()
    return gpu


def _emulator(table: _Table, key: str) -> Emulator | None:
    name = table.optional(key, str)
    if name is None:
        return None
    machines = load_machines()
    if name not in machines:
        table.problems.append(f"{table.place}{key} must be one of {', '.join(machines)}: it is {name!r}")
        return None
    return machines[name]


def load_machines() -> dict[str, Emulator]:
    """The QEMU machines of machines.toml by name. Raises UserError E212 where that file is wrong."""
    problems: list[str] = []
    machines: dict[str, Emulator] = {}
    for name, data in _read(MACHINES_FILE).items():
        table = _Table(data if isinstance(data, dict) else {}, f"[{name}]: ", problems)
        machines[name] = Emulator(
            machine=name,
            cpu=table.get("cpu", str) or "",
            port=table.get("port", str) or "",
            memories=_memories(table),
            instructions_per_tick=table.get("instructions_per_tick", float, _above_zero) or 1.0,
            trap_unaligned=table.get("trap_unaligned", bool) or False,
            timer=table.get("timer", str, _one_of(TIMERS)) or "",
            timer_base=table.get("timer_base", int, _address) or 0,
            uart_base=table.get("uart_base", int, _address) or 0,
        )
        table.finish()
    if problems:
        lines = "".join(f"\n  {p}" for p in problems)
        raise UserError(
            "EDGEC-E212", f"correct the target file {MACHINES_FILE}: {len(problems)} problems{lines}"
        )
    return machines
