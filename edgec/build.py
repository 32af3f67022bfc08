"""Builder: makes graphs whose types are inferred, never stated. Frontends, VJPs and passes all build through
it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgec.errors import InternalError
from edgec.ir import (
    NO_ATTRS,
    OF_NUMPY,
    Array,
    Attrs,
    Constant,
    DType,
    Graph,
    Loc,
    Node,
    Persistence,
    Port,
    Program,
    Quant,
    State,
    Type,
    Value,
)
from edgec.ops import OPS
from edgec.ops.define import TypeRule

_UNSAFE = re.compile(r"[^A-Za-z0-9_.]+")


def constant(data: npt.ArrayLike, quant: Quant | None = None) -> Constant:
    """Constant that holds `data` in memory (made read-only and C-contiguous)."""
    array: Array = np.array(data, order="C")
    array.setflags(write=False)
    t = Type(array.shape, OF_NUMPY[array.dtype.name], quant)
    head = f"{t.dtype.value}{t.shape}".encode()
    return Constant(t, lambda: array, hashlib.sha256(head + array.tobytes()).hexdigest())


def safe_name(text: str) -> str:
    """`text` with everything but letters, digits, `_` and `.` replaced, so that it can be a name in the IR
    and in C."""
    name = _UNSAFE.sub("_", text)[:80].strip("._") or "t"
    return name if name[0].isalpha() else "t" + name


class Builder:
    """Collects the nodes of one graph. References are as in `ir`: `x`, `@constant`, `$state`.

    `types` holds the type of every reference made so far; `loc` is given to each new node.
    """

    def __init__(
        self,
        name: str,
        constants: Mapping[str, Constant] | None = None,
        state: Mapping[str, State] | None = None,
    ) -> None:
        self.name = name
        self.constants: dict[str, Constant] = dict(constants or {})
        self.state: dict[str, State] = dict(state or {})
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.input_ports: list[Port] = []
        self.outputs: list[str] = []
        self.output_ports: list[Port] = []
        self.updates: list[tuple[str, str]] = []
        self.types: dict[str, Type] = {"@" + n: c.type for n, c in self.constants.items()}
        self.types.update(("$" + n, s.type) for n, s in self.state.items())
        self.loc = Loc("")
        self._serial: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """A name not used yet, made of `stem`."""
        stem = safe_name(stem)
        name = stem
        while name in self.types or "@" + name in self.types or "$" + name in self.types:
            self._serial[stem] = self._serial.get(stem, 0) + 1
            name = f"{stem}_{self._serial[stem]}"
        return name

    def input(self, label: str, t: Type, axes: tuple[int, ...] | None = None, name: str | None = None) -> str:
        """New graph input; `label` is the user's name, `axes` as in `ir.Port`."""
        ref = self.fresh(name or label)
        self.inputs.append(Value(ref, t))
        self.types[ref] = t
        self.input_ports.append(Port(ref, label, axes if axes is not None else tuple(range(len(t.shape)))))
        return ref

    def constant(self, data: npt.ArrayLike | Constant, stem: str = "c", quant: Quant | None = None) -> str:
        """`@name` of a constant with this content; one that exists already under the same type is used
        again."""
        new = data if isinstance(data, Constant) else constant(data, quant)
        for name, old in self.constants.items():
            if old.digest == new.digest and old.type == new.type:
                return "@" + name
        name = self.fresh(stem)
        self.constants[name] = new
        self.types["@" + name] = new.type
        return "@" + name

    def add_state(self, stem: str, initial: Constant, persistence: Persistence) -> str:
        """`$name` of a new state."""
        name = self.fresh(stem)
        self.state[name] = State(initial.type, initial, persistence)
        self.types["$" + name] = initial.type
        return "$" + name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Attrs = NO_ATTRS,
        *,
        name: str | None = None,
        loc: Loc | None = None,
        quants: Sequence[Quant | None] | None = None,
    ) -> tuple[str, ...]:
        """Append a node and return its output references. Types come from the op's `infer`; `quants` sets the
        quantisation of each output (its dtype then becomes i8). Raises InternalError where the type rule is
        broken."""
        where = loc if loc is not None else self.loc
        in_types = tuple(self.types[r] for r in inputs)
        try:
            out_types = OPS[op].infer(attrs, in_types)
        except TypeRule as error:
            shown = ", ".join(
                f"{r}: {t.dtype.value}{list(t.shape)}" for r, t in zip(inputs, in_types, strict=True)
            )
            raise InternalError(f"{op}({shown}) {attrs} at {where}: {error}") from error
        if quants is not None:
            out_types = tuple(
                t if q is None else Type(t.shape, DType.I8, q) for t, q in zip(out_types, quants, strict=True)
            )
        stem = name or op
        values = []
        for t in out_types:
            ref = self.fresh(stem)
            self.types[ref] = t
            values.append(Value(ref, t))
        self.nodes.append(Node(op, tuple(inputs), tuple(values), attrs, where))
        return tuple(v.name for v in values)

    def call(self, op: str, *inputs: str, attrs: Attrs = NO_ATTRS, name: str | None = None) -> str:
        """`node` for an op with one output: returns its reference."""
        return self.node(op, inputs, attrs, name=name)[0]

    def copy(self, node: Node, renamed: Mapping[str, str]) -> None:
        """Append `node` as it is, its inputs replaced by `renamed`; output names are kept."""
        inputs = tuple(renamed.get(r, r) for r in node.inputs)
        self.nodes.append(
            node if inputs == node.inputs else Node(node.op, inputs, node.outputs, node.attrs, node.loc)
        )
        self.types.update((v.name, v.type) for v in node.outputs)

    def output(self, ref: str, label: str, axes: tuple[int, ...] | None = None) -> None:
        """Make `ref` an output, `label` its name to the user."""
        self.outputs.append(ref)
        rank = len(self.types[ref].shape)
        self.output_ports.append(Port(ref, label, axes if axes is not None else tuple(range(rank))))

    def graph(self) -> Graph:
        """The finished graph."""
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.nodes),
            tuple(self.outputs),
            tuple(self.updates),
            tuple(self.input_ports),
            tuple(self.output_ports),
        )

    def program(self) -> Program:
        """The graph with the constants and state that it uses."""
        return Program((self.graph(),), self.constants, self.state)
