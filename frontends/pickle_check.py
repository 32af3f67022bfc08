"""Decides from the opcodes alone whether a pickle can do anything but rebuild tensors and plain data.

Nothing is executed. The pickle is run on an abstract stack that knows of each element only whether it is an
importable name, an object built by calling one, or plain data. Opcodes, importable names, the targets of
calls and of state setting are each held against a list of what `torch.save` of tensors writes; whatever else
is refused.
Opcode meanings: CPython, Lib/pickletools.py. The list of names is a subset of the one that
`torch.load(weights_only=True)` allows (torch/_weights_only_unpickler.py).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edgec.errors import UserError

MAX_OPCODES: Final = 20_000_000

_STORAGES: Final = (
    "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
)  # fmt: skip
_DTYPES: Final = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip

# Names that may be called, and those that may only be passed on.
CALLABLE: Final = frozenset(
    (
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch.serialization _get_layout",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch._utils _rebuild_parameter",
    )
)
PASSIVE: Final = frozenset(
    (
        *(f"torch {name}Storage" for name in _STORAGES),
        "torch.storage UntypedStorage",
        *(f"torch {name}" for name in _DTYPES),
    )
)

_PLAIN: Final = (
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "EMPTY_TUPLE",
    "EMPTY_LIST",
    "EMPTY_DICT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINSTRING",
)


@dataclass(slots=True)
class _Element:
    """What is known of a stack element: `kind` is mark, name, built or data; `name` the importable name."""

    kind: str
    name: str = ""


@dataclass(slots=True)
class _Machine:
    """The abstract pickle machine; `where` names the record in messages."""

    where: str
    stack: list[_Element] = field(default_factory=list)
    memo: dict[int, _Element] = field(default_factory=dict)
    stopped: bool = False

    def refuse(self, why: str) -> UserError:
        return UserError(
            "EDGEC-E310",
            "do not open this file unless you trust whoever made it: ask them for a state dict saved with "
            "torch.save(model.state_dict(), path) or a program saved with torch.export.save, or pass "
            f"--trust, which lets the file run its code. The pickle in {self.where} {why}; edgec reads "
            "only pickles that rebuild tensors and plain data",
        )

    def pop(self) -> _Element:
        if not self.stack or self.stack[-1].kind == "mark":
            raise self.refuse("takes from an empty stack, it is corrupt")
        return self.stack.pop()

    def pop_to_mark(self) -> list[_Element]:
        items: list[_Element] = []
        while self.stack:
            top = self.stack.pop()
            if top.kind == "mark":
                return items
            items.append(top)
        raise self.refuse("has no mark where it needs one, it is corrupt")

    def push_data(self) -> None:
        self.stack.append(_Element("data"))


def _global(m: _Machine, arg: object) -> None:
    name = str(arg)
    if name not in CALLABLE and name not in PASSIVE:
        raise m.refuse(f"imports {name.replace(' ', '.')!a}")
    m.stack.append(_Element("name", name))


def _reduce(m: _Machine, arg: object) -> None:
    m.pop()
    target = m.pop()
    if target.kind != "name" or target.name not in CALLABLE:
        raise m.refuse(f"calls {target.name.replace(' ', '.') or 'a value'!a}")
    m.stack.append(_Element("built", target.name))


def _build(m: _Machine, arg: object) -> None:
    m.pop()
    target = m.pop()
    # A state dict carries its metadata as an attribute of an OrderedDict; nothing else needs BUILD.
    if target.kind != "built" or target.name != "collections OrderedDict":
        raise m.refuse(f"sets the state of {target.name.replace(' ', '.') or 'a value'!a}")
    m.stack.append(target)


def _tuple(count: int) -> Callable[[_Machine, object], None]:
    def step(m: _Machine, arg: object) -> None:
        for _ in range(count):
            m.pop()
        m.push_data()

    return step


def _tuple_to_mark(m: _Machine, arg: object) -> None:
    m.pop_to_mark()
    m.push_data()


def _fill(count: int | None) -> Callable[[_Machine, object], None]:
    """APPEND(S) and SETITEM(S): `count` elements, or all down to the mark, go into the container below
    them."""

    def step(m: _Machine, arg: object) -> None:
        if count is None:
            m.pop_to_mark()
        else:
            for _ in range(count):
                m.pop()
        container = m.pop()
        if container.kind == "name" or (
            container.kind == "built" and container.name != "collections OrderedDict"
        ):
            raise m.refuse(f"fills {container.name.replace(' ', '.')!a} as if it were a container")
        m.stack.append(container)

    return step


def _persistent(m: _Machine, arg: object) -> None:
    m.pop()
    m.push_data()


def _put(m: _Machine, arg: object) -> None:
    if not m.stack or not isinstance(arg, int):
        raise m.refuse("stores from an empty stack, it is corrupt")
    m.memo[arg] = m.stack[-1]


def _get(m: _Machine, arg: object) -> None:
    if not isinstance(arg, int) or arg not in m.memo:
        raise m.refuse("recalls what it never stored, it is corrupt")
    m.stack.append(m.memo[arg])


def _stop(m: _Machine, arg: object) -> None:
    m.pop()
    m.stopped = True


_STEPS: Final[dict[str, Callable[[_Machine, object], None]]] = {
    "PROTO": lambda m, arg: None,
    "MARK": lambda m, arg: m.stack.append(_Element("mark")),
    "GLOBAL": _global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "TUPLE": _tuple_to_mark,
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _fill(1),
    "APPENDS": _fill(None),
    "SETITEM": _fill(2),
    "SETITEMS": _fill(None),
    "BINPERSID": _persistent,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "STOP": _stop,
    **{name: lambda m, arg: m.push_data() for name in _PLAIN},
}


def check_pickle(data: bytes, where: str) -> None:
    """Raise UserError EDGEC-E310 unless `data` is one pickle that can only rebuild tensors and plain data."""
    machine = _Machine(where)
    try:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise machine.refuse(f"has more than {MAX_OPCODES} steps")
            step = _STEPS.get(opcode.name)
            if step is None:
                raise machine.refuse(f"uses the opcode {opcode.name}")
            step(machine, arg)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise machine.refuse(f"is corrupt ({error})") from None
    if not machine.stopped:
        raise machine.refuse("has no end")


def imported_names(data: bytes) -> tuple[str, ...]:
    """`module.name` of everything that the pickle's GLOBAL opcodes import, up to where it is readable."""
    names: list[str] = []
    try:
        for opcode, arg, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                names.append(str(arg).replace(" ", "."))
    except (ValueError, IndexError, UnicodeDecodeError):
        pass
    return tuple(names)
