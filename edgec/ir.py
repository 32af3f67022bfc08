"""The intermediate representation: Type, Value, Node, Graph, Program. Nothing in this file acts.

All records are frozen; a pass builds new ones. References between them are names:
`x` is a value of the graph, `@stem.w` a constant of the Program, `$cache` a state of the Program.
Names hold letters, digits, `_`, `.` and never a user's text: the user's names live in `Loc.layer` and
`Port.label`.
Activations are NHWC, weights OHWI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


class DType(Enum):
    """Element types. `b8` is a boolean in a byte; `bf16` needs the package ml_dtypes for its arrays."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    B8 = "b8"

    @property
    def bytes(self) -> int:
        return 1 if self is DType.B8 else int(self.value.lstrip("bfiu")) // 8

    @property
    def numpy(self) -> np.dtype[np.generic]:
        if self is DType.BF16:
            import ml_dtypes  # registers the name with numpy

            half: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
            return half
        return np.dtype(_NUMPY[self])

    @property
    def is_float(self) -> bool:
        return self.value.startswith(("f", "bf"))

    @property
    def is_half(self) -> bool:
        """Two-byte floats."""
        return self in (DType.F16, DType.BF16)


_NUMPY: Final[dict[DType, str]] = {
    DType.F64: "float64",
    DType.F32: "float32",
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.I64: "int64",
    DType.I32: "int32",
    DType.I16: "int16",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.B8: "bool",
}
OF_NUMPY: Final[dict[str, DType]] = {numpy_name: dtype for dtype, numpy_name in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class Bound:
    """A size known only at run time: `name` is the int32 scalar value that holds it, `max` what the planner
    reserves."""

    name: str
    max: int


Dim = int | Bound


@dataclass(frozen=True, slots=True)
class Quant:
    """Real value = scale * (q - zero). One scale and zero for the whole tensor, or one per index along
    `axis`.

    Scales are float32 values held in Python floats, so that they print and read back exactly.
    """

    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int | None = None

    @property
    def per_tensor(self) -> tuple[float, int]:
        """(scale, zero) of a per-tensor quantisation."""
        assert self.axis is None
        return self.scale[0], self.zero[0]


def per_tensor(scale: float, zero: int) -> Quant:
    """Per-tensor Quant; the scale is rounded to float32."""
    return Quant((float(np.float32(scale)),), (int(zero),))


def per_channel(scale: npt.ArrayLike, axis: int) -> Quant:
    """Symmetric per-channel Quant along `axis`; scales are rounded to float32."""
    scales = tuple(float(s) for s in np.asarray(scale, np.float32))
    return Quant(scales, (0,) * len(scales), axis)


@dataclass(frozen=True, slots=True)
class Type:
    """Shape, element type and quantisation of one tensor."""

    shape: tuple[Dim, ...]
    dtype: DType
    quant: Quant | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape with every Bound at its maximum."""
        return tuple(d.max if isinstance(d, Bound) else d for d in self.shape)

    @property
    def size(self) -> int:
        """Elements, Bounds at their maximum."""
        n = 1
        for d in self.dims:
            n *= d
        return n

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    @property
    def bounds(self) -> tuple[Bound, ...]:
        return tuple(d for d in self.shape if isinstance(d, Bound))


@dataclass(frozen=True, slots=True)
class Loc:
    """Where in the user's model a node comes from. `layer` is the module path (any text), `file:line` its
    source."""

    layer: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else ""
        return f"{self.layer} ({place})" if self.layer and place else self.layer or place or "?"


@dataclass(frozen=True, slots=True)
class Value:
    """A named, typed tensor."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Attrs:
    """Attributes of an op without any. Each op with attributes has its own frozen dataclass deriving from
    this."""


NO_ATTRS: Final = Attrs()


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `inputs` are references (value, @constant, $state)."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[Value, ...]
    attrs: Attrs
    loc: Loc


@dataclass(frozen=True, slots=True)
class Port:
    """A graph's input or output as the user sees it.

    `ref` is the value inside the graph; `label` the user's name for it; `axes[i]` is the user's axis that
    axis i of
    the value is: value = user_array.transpose(axes).
    """

    ref: str
    label: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Inputs, nodes in execution order, outputs, and `updates`: pairs (state name without `$`, value holding
    its next content)."""

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    updates: tuple[tuple[str, str], ...] = ()
    input_ports: tuple[Port, ...] = ()
    output_ports: tuple[Port, ...] = ()


class Persistence(Enum):
    """What becomes of a state between calls."""

    RESET = "reset"  # its initial value again at every reset
    KEPT = "kept"  # lives as long as the instance, from init to init
    SAVED = "saved"  # outlives power cycles: the application stores it and writes it back after init


@dataclass(frozen=True, slots=True)
class Constant:
    """A typed array that is loaded when first read, so that large weights stay in their file."""

    type: Type
    load: Callable[[], Array] = field(compare=False, repr=False)
    digest: str  # sha256 of dtype, shape and bytes: equal constants compare equal

    @property
    def data(self) -> Array:
        return self.load()


@dataclass(frozen=True, slots=True)
class State:
    """Named, typed memory of a Program that outlives a call."""

    type: Type
    initial: Constant
    persistence: Persistence


@dataclass(frozen=True, slots=True)
class Program:
    """Graphs with the constants and the state that they share."""

    graphs: tuple[Graph, ...]
    constants: Mapping[str, Constant]
    state: Mapping[str, State]

    def graph(self, name: str) -> Graph:
        for graph in self.graphs:
            if graph.name == name:
                return graph
        raise KeyError(name)

    def type_of(self, graph: Graph) -> dict[str, Type]:
        """Type of every reference that `graph` can make."""
        types: dict[str, Type] = {v.name: v.type for v in graph.inputs}
        for node in graph.nodes:
            types.update((v.name, v.type) for v in node.outputs)
        types.update(("@" + name, c.type) for name, c in self.constants.items())
        types.update(("$" + name, s.type) for name, s in self.state.items())
        return types


Pass = Callable[[Program], Program]


def uses(graph: Graph) -> Iterator[str]:
    """Every reference that the graph reads: node inputs, outputs, updates, and the names of Bounds."""
    for node in graph.nodes:
        yield from node.inputs
        for value in node.outputs:
            for bound in value.type.bounds:
                yield bound.name
    yield from graph.outputs
    for _, ref in graph.updates:
        yield ref
