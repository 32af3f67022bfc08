"""C names of all that a Plan holds: each its own, whatever the Plan's names have in common.

`a.b` and `a_b` are two buffers but one identifier, and labels are a user's text: names are told apart by a
number, without regard to case because macros are upper case. Same Plan, same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edgec.backends.ctext import identifier
from edgec.ir import Persistence
from edgec.plan import Argument, BufferArg, Call, Entry, Plan, PlanPort
from edgec.training.options import APPLY, EVALUATE, TRAIN_STEP

Kind = Literal["input", "output"]
_LONGEST: Final = 60
# Public names of a network that learns, beside those of its entries.
RESERVED: Final = frozenset(
    {"CLASSES", "ACCUMULATE", "SET_LEARNING_RATE", "LEARNING_RATE", "STEPS", "SAVED_BYTES", "SAVED_READ"}
    | {"SAVED_WRITE", "GRAPH_HASH", "GRAPH_HASH_BYTES", "LAYOUT_HASH", "LAYOUT_HASH_BYTES", "SAVE", "LOAD"}
)


@dataclass(frozen=True, slots=True)
class NamedPort:
    """An accessor: edgec_<model>_<name>."""

    name: str
    entry: Entry
    kind: Kind
    port: PlanPort


@dataclass(frozen=True, slots=True)
class Names:
    """C names of a Plan by the Plan's own: `prefix` begins every public name, `params` are by (entry, call),
    `invokes` by entry, `members` by memory, `saved` by state buffer. The last four of these follow `prefix`."""

    plan: Plan
    prefix: str
    members: Mapping[str, str]
    buffers: Mapping[str, str]
    constants: Mapping[str, str]
    initial: Mapping[str, str]
    params: Mapping[tuple[str, str], str]
    invokes: Mapping[str, str]
    saved: Mapping[str, str]
    ports: tuple[NamedPort, ...]

    def pointer(self, arg: Argument) -> str:
        """The C expression of an argument."""
        if not isinstance(arg, BufferArg):
            return self.constants[arg.constant]
        name = self.buffers[arg.buffer]
        return f"(void *)((uint8_t *){name} + {arg.at})" if arg.at else name

    def source(self, ref: str) -> str:
        """The C expression of an update's source: a buffer, or `@name`."""
        return self.constants[ref[1:]] if ref[0] == "@" else self.buffers[ref]

    def call(self, entry: Entry, call: Call) -> str:
        """The params of a call."""
        return self.params[entry.name, call.name]

    @property
    def arena_macros(self) -> tuple[str, ...]:
        """One size macro an arena."""
        upper = self.prefix.upper()
        return tuple(f"{upper}_{self.members[a.memory].upper()}_BYTES" for a in self.plan.arenas)


def names_of(plan: Plan) -> Names:
    """The names of everything in `plan`."""
    public = {"INIT", "RESET"}
    calls = [(e.name, c.name) for e in plan.entries for c in e.calls]
    entries = [e.name for e in plan.entries]
    own = (TRAIN_STEP, EVALUATE, APPLY) if TRAIN_STEP in entries else ()
    if own:  # functions of these names check and copy, and call the entries
        public |= {e.upper() for e in own} | RESERVED
    invokes = _distinct([_invoke(e, e in own) for e in entries], public)
    kept = [s.buffer for s in plan.state if s.persistence is Persistence.SAVED]
    saved = _distinct([f"saved_{_short(n.removeprefix('state.'))}" for n in kept], public)
    members = _distinct([f"arena_{identifier(a.memory)}" for a in plan.arenas], set())
    return Names(
        plan=plan,
        prefix="edgec_" + _short(plan.name),
        members=dict(zip((a.memory for a in plan.arenas), members, strict=True)),
        buffers=_mapping("T_", (b.name for b in plan.buffers)),
        constants=_mapping("W_", (c.name for c in plan.constants)),
        initial=_mapping("S_", (s.buffer for s in plan.state)),
        params=dict(
            zip(calls, _distinct([f"p_{identifier(f'{e}_{c}')}" for e, c in calls], set()), strict=True)
        ),
        invokes=dict(zip(entries, invokes, strict=True)),
        saved=dict(zip(kept, saved, strict=True)),
        ports=_ports(plan, public),
    )


def _invoke(entry: str, taken: bool) -> str:
    """The name of the function that runs an entry; `taken`: the entry's own name is another function's."""
    if entry == "infer":
        return "invoke"
    return f"invoke_{entry}" if taken else _short(entry)


def _ports(plan: Plan, public: set[str]) -> tuple[NamedPort, ...]:
    kinds: tuple[Kind, Kind] = ("input", "output")
    found = [
        (e, kind, p)
        for e in plan.entries
        for kind in kinds
        for p in (e.inputs if kind == "input" else e.outputs)
    ]
    stems = [
        ("" if e.name == "infer" else f"{identifier(e.name)}_")
        + f"{kind}_{identifier(p.port.label)[:_LONGEST]}"
        for e, kind, p in found
    ]
    return tuple(NamedPort(name, *one) for name, one in zip(_distinct(stems, public), found, strict=True))


def _short(text: str) -> str:
    """An identifier part of a public name: C99 promises 63 significant characters, strings 4095."""
    return identifier(text)[:_LONGEST]


def _mapping(stem: str, names: Iterable[str]) -> dict[str, str]:
    listed = list(names)
    return dict(zip(listed, _distinct([stem + identifier(n) for n in listed], set()), strict=True))


def _distinct(stems: list[str], taken: set[str]) -> list[str]:
    """The stems, numbered from the second of a kind on; `taken`, in upper case, receives them."""
    out = []
    for stem in stems:
        name, count = stem, 1
        while name.upper() in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name.upper())
        out.append(name)
    return out
