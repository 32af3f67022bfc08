"""The Op record: all that edgec knows of one operation, every field required.

A new op is one file in this folder that calls `define(Op(...))` and is named in `ops/__init__.py`. Its
examples are its
tests: infer against ref, vjp against finite differences, the integer form against float, PyTorch as second
opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from edgec.ir import Array, Attrs, DType, Quant, Type, per_channel, per_tensor

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Types = tuple[Type, ...]
Arrays = tuple[Array, ...]


class TypeRule(Exception):
    """An op's inputs break its type rule. `infer` raises it; the verifier and the Builder add where it
    happened."""


def require(condition: bool, message: str) -> None:
    """Raise TypeRule(message) unless condition."""
    if not condition:
        raise TypeRule(message)


@dataclass(frozen=True, slots=True)
class NoGrad:
    """The op has no gradient; `why` says so to the user."""

    why: str


@dataclass(frozen=True, slots=True)
class NoQuant:
    """The op has no integer form and runs in float between dequantize and quantize; `why` goes into the
    report. `integers`: it computes with the integers of quantised operands as they are."""

    why: str
    integers: bool = False


# (builder, node, gradient of each output or None) -> gradient of each input, None where there is none.
Vjp = Callable[["Builder", "Node", Sequence[str | None]], Sequence[str | None]]

# What a quantised op's input is:
#   activation   int8, per-tensor, any scale
#   shared       int8, must have the quantisation of the output (concat, pooling, reshape)
#   weight       int8, symmetric; per output channel along `QuantRule.weight_axis`, or per tensor where that
# is None
#   bias         int32 at scale(input 0) * scale(weight)
#   parameter    float constant that the kernel's tables are made of (norm gains, PReLU slopes); stays
# float32 in the IR
#   index        integers or booleans, not quantised
Role = Literal["activation", "shared", "weight", "bias", "parameter", "index"]

# How the output's quantisation is found:
#   calibrated   from the observed range
#   shared       equal to that of the `shared` inputs (or of input 0 where none is marked)
#   (scale, zero) fixed by the op, e.g. softmax (1/256, -128)
#   plain        the output is not quantised (indices, booleans)
OutputQuant = Literal["calibrated", "shared", "plain"] | tuple[float, int]


@dataclass(frozen=True, slots=True)
class QuantRule:
    """The integer form of an op.

    `roles`: one per input, the last repeated for variadic ops. `weight_axis`: channel axis of the weight.
    `ref(attrs, input types, inputs, output types) -> outputs` is the contract, in numpy integers, that every
    kernel
    equals bit for bit. `max_lsb`: largest distance, in output steps, of `ref` from the float op on
    dequantised inputs
    rounded to the output's quantisation (the test of the examples holds it).
    """

    roles: tuple[Role, ...]
    output: OutputQuant
    ref: Callable[[Any, Types, Arrays, Types], Arrays]
    max_lsb: float
    weight_axis: int | None = None

    def role(self, index: int) -> Role:
        return self.roles[min(index, len(self.roles) - 1)]


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic of one node: multiply-accumulates, and other element operations."""

    macs: int
    elementwise: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs for an op's tests. `make(rng)` returns the input arrays; `torch(torch_module, *tensors)` the
    expected
    outputs by PyTorch from the same arrays (a tensor or a tuple), or None where PyTorch has no such op.

    `tolerance` is relative to the largest expected magnitude. `variadic` inputs are simply all in the tuple.
    """

    label: str
    attrs: Attrs
    make: Callable[[np.random.Generator], Arrays]
    torch: Callable[..., Any] | None
    tolerance: float = 1e-5


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. `infer` raises TypeRule; `ref` works on numpy arrays and defines the float meaning."""

    name: str
    doc: str
    attrs: type[Attrs]
    infer: Callable[[Any, Types], Types]
    ref: Callable[[Any, Arrays], Arrays]
    vjp: Vjp | NoGrad
    quant: QuantRule | NoQuant
    cost: Callable[[Any, Types, Types], Cost]
    examples: tuple[Example, ...]


OPS: Final[dict[str, Op]] = {}


def define(op: Op) -> Op:
    """Enter `op` in the table; called once at import by the op's file."""
    assert op.name not in OPS, f"op {op.name} is defined twice"
    assert len(op.examples) >= 2, f"op {op.name} needs at least two examples"
    OPS[op.name] = op
    return op


def integer_form(op: Op, in_types: Types, out_types: Types) -> QuantRule | None:
    """The QuantRule by which a node of these types runs, None where it runs by `ref`.

    A node is an integer node when any activation or any output is quantised.
    """
    if isinstance(op.quant, NoQuant):
        return None
    return op.quant if any(t.quant is not None for t in (*in_types, *out_types)) else None


def run(op: Op, attrs: Attrs, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
    """Outputs of one node in numpy: the integer form where the types are quantised, else the float
    reference. Half types are computed in float32; only the result is rounded."""
    rule = integer_form(op, in_types, out_types)
    if rule is None:
        if any(t.dtype.is_half for t in in_types):
            inputs = tuple(
                x.astype(np.float32) if t.dtype.is_half else x for x, t in zip(inputs, in_types, strict=True)
            )
        outputs = op.ref(attrs, inputs)
    else:
        outputs = rule.ref(attrs, in_types, inputs, out_types)
    return tuple(
        np.asarray(y).astype(t.dtype.numpy, copy=False) for y, t in zip(outputs, out_types, strict=True)
    )


def elementwise_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """Cost of an op that touches each output element once."""
    return Cost(0, outputs[0].size)


def no_cost(attrs: Attrs, inputs: Types, outputs: Types) -> Cost:
    """Cost of an op that only moves or renames."""
    return Cost(0, 0)


__all__ = [
    "OPS",
    "Arrays",
    "Cost",
    "DType",
    "Example",
    "NoGrad",
    "NoQuant",
    "Op",
    "Quant",
    "QuantRule",
    "Type",
    "TypeRule",
    "Types",
    "define",
    "elementwise_cost",
    "integer_form",
    "no_cost",
    "per_channel",
    "per_tensor",
    "require",
    "run",
]
