"""The text form of Graphs and Programs: `show` writes it, `read` and `read_program` read it back.

`read(show(graph)) == graph`, and likewise for a Program, whose constants are named by type and digest, never
printed:

    program {
      constant @w: f32[8,3,3,3] sha256 5f2c...
      state $cache: f32[1,4] kept sha256 09ab...
      graph infer(%x: f32[1,8,8,3]) {
        in %x "image" (0,2,3,1)
        %a: f32[1,8,8,8] = conv2d(%x, @w) {pad=(1,1,1,1)}  // stem.conv net.py:41
        out %a "logits" (0,3,1,2)
        update $cache = %a
        return %a
      }
    }

Attributes that have their default value are left out. Floats print so that they read back exactly. Text of
the user's (layers, files, labels) is printed bare where it is a plain word and else as a JSON string in
ASCII, in which `*/` is broken, so that it can neither end a line nor a C comment.

grammar    text = graph | "program" "{" {constant | state | graph} "}"
           graph = "graph" word "(" [value {"," value}] ")" "{" {port | node | update} "return" [refs] "}"
           node = [value {"," value} "="] word "(" [refs] ")" ["{" name "=" item {"," ...} "}"] ["//" loc]
           loc = word [word ":" int]
           type = dtype "[" [dim {"," dim}] "]" ["q(" ... ")"];  dim = int | name "<=" int
           item = int | float | "inf" | "nan" | "None" | "True" | "False" | string | dim | "(" {item ","} ")"
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Final, NoReturn, TypeVar

from edgec.errors import InternalError, UserError
from edgec.ir import (
    NO_ATTRS,
    Array,
    Attrs,
    Bound,
    Constant,
    Dim,
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

_BARE: Final = re.compile(r"[A-Za-z0-9_.\-/<>\[\]]+")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_REF: Final = re.compile(r"[%@$][A-Za-z][A-Za-z0-9_.]*")
_NUMBER: Final = re.compile(r"-?(?:inf\b|nan\b|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_BLANK_IN_LINE: Final = re.compile(r"[ \t]*")
_WORDS: Final[dict[str, object]] = {"None": None, "True": True, "False": False}

T = TypeVar("T")


def show(it: Graph | Program) -> str:
    """The text of a graph or program, ending in a newline."""
    if isinstance(it, Graph):
        return "\n".join(_graph_lines(it)) + "\n"
    lines = ["program {"]
    for name, constant in it.constants.items():
        lines.append(f"  constant @{name}: {show_type(constant.type)} sha256 {_word(constant.digest)}")
    for name, state in it.state.items():
        head = f"  state ${name}: {show_type(state.type)} {state.persistence.value}"
        lines.append(f"{head} sha256 {_word(state.initial.digest)}")
    for graph in it.graphs:
        lines.extend("  " + line for line in _graph_lines(graph))
    return "\n".join([*lines, "}"]) + "\n"


def show_type(t: Type) -> str:
    """`i8[1,48,48,16] q(scale=0.0234375, zero=-128)`."""
    shape = ",".join(_dim(d) for d in t.shape)
    return f"{t.dtype.value}[{shape}]" + ("" if t.quant is None else " " + _quant(t.quant))


def show_node(node: Node) -> str:
    """One line, without indentation."""
    outputs = ", ".join(f"%{v.name}: {show_type(v.type)}" for v in node.outputs)
    attrs = _attrs(node)
    call = f"{node.op}({', '.join(_ref(r) for r in node.inputs)})" + (f" {{{attrs}}}" if attrs else "")
    comment = show_loc(node.loc)
    return (f"{outputs} = " if outputs else "") + call + (f"  // {comment}" if comment else "")


def read(text: str) -> Graph:
    """The graph that `text` shows. Raises UserError EDGEC-E371, with the line, where it is not a graph."""
    reader = Reader(text, {})
    graph = reader.graph()
    reader.end()
    return graph


def read_program(text: str, constants: Mapping[str, Constant] | None = None) -> Program:
    """The Program that `text` shows. `constants` gives the content by digest; a constant that is not there
    raises UserError EDGEC-E372 when its data is read."""
    reader = Reader(text, constants or {})
    program = reader.program()
    reader.end()
    return program


def _graph_lines(graph: Graph) -> list[str]:
    inputs = ", ".join(f"%{v.name}: {show_type(v.type)}" for v in graph.inputs)
    lines = [f"graph {graph.name}({inputs}) {{"]
    lines += [f"  in {show_port(p)}" for p in graph.input_ports]
    lines += ["  " + show_node(node) for node in graph.nodes]
    lines += [f"  out {show_port(p)}" for p in graph.output_ports]
    lines += [f"  update ${state} = {_ref(ref)}" for state, ref in graph.updates]
    returned = ", ".join(_ref(r) for r in graph.outputs)
    return [*lines, f"  return {returned}".rstrip(), "}"]


def show_port(port: Port) -> str:
    return f"{_ref(port.ref)} {quoted(port.label)} {show_item(port.axes)}"


def _ref(ref: str) -> str:
    return ref if ref[:1] in ("@", "$") else "%" + ref


def _dim(d: Dim) -> str:
    return f"{d.name}<={d.max}" if isinstance(d, Bound) else str(d)


def _quant(q: Quant) -> str:
    if q.axis is None and len(q.scale) == 1 and len(q.zero) == 1:
        return f"q(scale={q.scale[0]!r}, zero={q.zero[0]})"
    axis = "" if q.axis is None else f"axis={q.axis}, "
    zero = "" if q.zero == (0,) * len(q.scale) else f", zero=[{','.join(map(str, q.zero))}]"
    return f"q({axis}scale=[{','.join(map(repr, q.scale))}]{zero})"


def _attrs(node: Node) -> str:
    shown = []
    for f in fields(node.attrs):
        value = getattr(node.attrs, f.name)
        if f.default is MISSING or value != f.default:
            shown.append(f"{f.name}={show_item(value)}")
    return ", ".join(shown)


def show_item(value: object) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(show_item, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Bound):
        return _dim(value)
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    raise InternalError(
        f"an attribute holds {value!r} of type {type(value).__name__}, which has no text form"
    )


def quoted(text: str) -> str:
    return json.dumps(text).replace("*/", "*\\/")


def _word(text: str) -> str:
    return text if _BARE.fullmatch(text) else quoted(text)


def show_loc(loc: Loc) -> str:
    if loc.file or loc.line:
        return f"{_word(loc.layer)} {_word(loc.file)}:{loc.line}"
    return _word(loc.layer) if loc.layer else ""


class Reader:
    """Recursive descent, one method a rule. `at` is the next character; lines are counted only for errors."""

    def __init__(self, text: str, constants: Mapping[str, Constant]) -> None:
        self.text = text
        self.at = 0
        self.known = constants

    def fail(self, expected: str) -> NoReturn:
        line = self.text.count("\n", 0, self.at) + 1
        start = self.text.rfind("\n", 0, self.at) + 1
        shown = self.text[start:].split("\n", 1)[0]
        raise UserError(
            "EDGEC-E371",
            f"correct line {line} of the graph text: expected {expected} "
            f"in column {self.at - start + 1} of {shown!r}",
        )

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """The token at the next non-blank character, None (and no move past it) where it is another one."""
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def accept(self, mark: str) -> bool:
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(repr(mark))

    def token(self, pattern: re.Pattern[str], what: str) -> str:
        found = self.take(pattern)
        return found if found is not None else self.fail(what)

    def several(self, rule: Callable[[], T], end: str) -> tuple[T, ...]:
        """Comma-separated items up to the mark `end`; a comma may stand before it."""
        items: list[T] = []
        while not self.accept(end):
            items.append(rule())
            if not self.accept(","):
                self.expect(end)
                break
        return tuple(items)

    def end(self) -> None:
        self.accept("")
        if self.at != len(self.text):
            self.fail("the end of the text")

    def name(self) -> str:
        return self.token(_NAME, "a name")

    def ref(self) -> str:
        found = self.token(_REF, "a reference (%value, @constant or $state)")
        return found[1:] if found[0] == "%" else found

    def sigil(self, mark: str) -> str:
        found = self.token(_REF, f"a name that starts with {mark}")
        return found[1:] if found[0] == mark else self.fail(f"a name that starts with {mark}")

    def integer(self) -> int:
        found = self.token(_NUMBER, "an integer")
        return int(found) if found.lstrip("-").isdigit() else self.fail("an integer")

    def number(self) -> int | float:
        found = self.token(_NUMBER, "a number")
        return int(found) if found.lstrip("-").isdigit() else float(found)

    def string(self) -> str:
        found = self.token(_STRING, "a string")
        try:
            return str(json.loads(found))
        except json.JSONDecodeError:
            self.at -= len(found)
            self.fail("a JSON string")

    def word(self) -> str:
        bare = self.take(_BARE)
        return bare if bare is not None else self.string()

    def dim(self) -> Dim:
        name = self.take(_NAME)
        if name is None:
            return self.integer()
        self.expect("<=")
        return Bound(name, self.integer())

    def tensor_type(self) -> Type:
        name = self.name()
        if name not in DType._value2member_map_:
            self.fail("an element type such as f32 or i8")
        self.expect("[")
        shape = self.several(self.dim, "]")
        return Type(shape, DType(name), self.quant() if self.accept("q(") else None)

    def quant(self) -> Quant:
        axis: int | None = None
        scale: tuple[float, ...] = ()
        zero: tuple[int, ...] | None = None
        while not self.accept(")"):
            key = self.name()
            self.expect("=")
            if key == "axis":
                axis = self.integer()
            elif key == "scale":
                scale = tuple(float(s) for s in self.one_or_list(self.number))
            elif key == "zero":
                zero = self.one_or_list(self.integer)
            else:
                self.fail("axis, scale or zero")
            self.accept(",")
        return Quant(scale, zero if zero is not None else (0,) * len(scale), axis)

    def one_or_list(self, rule: Callable[[], T]) -> tuple[T, ...]:
        return self.several(rule, "]") if self.accept("[") else (rule(),)

    def item(self) -> object:
        if self.accept("("):
            return self.several(self.item, ")")
        if self.text.startswith('"', self.at):
            return self.string()
        number = self.take(_NUMBER)
        if number is not None:
            return int(number) if number.lstrip("-").isdigit() else float(number)
        name = self.name()
        if name in _WORDS:
            return _WORDS[name]
        self.expect("<=")
        return Bound(name, self.integer())

    def ints(self) -> tuple[int, ...]:
        self.expect("(")
        return self.several(self.integer, ")")

    def value(self) -> Value:
        name = self.sigil("%")
        self.expect(":")
        return Value(name, self.tensor_type())

    def port(self) -> Port:
        return Port(self.ref(), self.string(), self.ints())

    def node(self) -> Node:
        outputs: list[Value] = []
        self.accept("")
        if self.text.startswith("%", self.at):
            outputs.append(self.value())
            while self.accept(","):
                outputs.append(self.value())
            self.expect("=")
        op = self.name()
        if op not in OPS:
            self.at -= len(op)
            self.fail("the name of an op")
        self.expect("(")
        inputs = self.several(self.ref, ")")
        attrs = self.attrs(OPS[op].attrs)
        return Node(op, inputs, tuple(outputs), attrs, self.loc())

    def attrs(self, kind: type[Attrs]) -> Attrs:
        given: dict[str, object] = {}
        allowed = {f.name: f for f in fields(kind)}
        if self.accept("{"):
            while not self.accept("}"):
                key = self.name()
                if key not in allowed:
                    self.at -= len(key)
                    self.fail(f"one of the attributes {', '.join(allowed) or '(none)'}")
                self.expect("=")
                self.accept("")
                given[key] = self.item()
                self.accept(",")
        missing = [n for n, f in allowed.items() if n not in given and f.default is MISSING]
        if missing:
            self.fail(f"the attribute {missing[0]}")
        return kind(**given) if given or kind is not Attrs else NO_ATTRS

    def loc(self) -> Loc:
        """A comment on the node's own line."""
        blank = _BLANK_IN_LINE.match(self.text, self.at)
        at = blank.end() if blank else self.at
        if not self.text.startswith("//", at):
            return Loc("")
        self.at = at + 2
        layer = self.word()
        end = self.text.find("\n", self.at)
        if not self.text[self.at : end if end >= 0 else None].strip():
            return Loc(layer)
        file = self.word()
        self.expect(":")
        return Loc(layer, file, self.integer())

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.name()
        self.expect("(")
        inputs = self.several(self.value, ")")
        self.expect("{")
        nodes: list[Node] = []
        updates: list[tuple[str, str]] = []
        ports: dict[str, list[Port]] = {"in": [], "out": []}
        while not self.accept("return"):
            if self.accept("in "):
                ports["in"].append(self.port())
            elif self.accept("out "):
                ports["out"].append(self.port())
            elif self.accept("update "):
                state = self.sigil("$")
                self.expect("=")
                updates.append((state, self.ref()))
            else:
                nodes.append(self.node())
        outputs = self.several(self.ref, "}")
        return Graph(
            name, inputs, tuple(nodes), outputs, tuple(updates), tuple(ports["in"]), tuple(ports["out"])
        )

    def program(self) -> Program:
        self.expect("program")
        self.expect("{")
        graphs: list[Graph] = []
        constants: dict[str, Constant] = {}
        state: dict[str, State] = {}
        while not self.accept("}"):
            if self.accept("constant "):
                name = self.sigil("@")
                self.expect(":")
                t = self.tensor_type()
                constants[name] = self.constant(name, t)
            elif self.accept("state "):
                name = self.sigil("$")
                self.expect(":")
                t = self.tensor_type()
                persistence = self.persistence()
                state[name] = State(t, self.constant(name, t), persistence)
            else:
                graphs.append(self.graph())
        return Program(tuple(graphs), constants, state)

    def persistence(self) -> Persistence:
        words = [p.value for p in Persistence]
        found = self.name()
        return Persistence(found) if found in words else self.fail(_alternatives(words))

    def constant(self, name: str, t: Type) -> Constant:
        self.expect("sha256")
        digest = self.word()
        known = self.known.get(digest)
        return Constant(t, known.load if known is not None else _absent(name, digest), digest)


def _alternatives(words: Iterable[str]) -> str:
    return "one of " + ", ".join(words)


def _absent(name: str, digest: str) -> Callable[[], Array]:
    def load() -> Array:
        raise UserError(
            "EDGEC-E372",
            "give the constants of the program along with its text: "
            f"@{name} (sha256 {digest[:12]}) is not among them",
        )

    return load
