"""Generated bodies of pointwise ops on plain (not quantised) numbers: the only kernels without a source file.

A table gives each op its C expression; `loop` writes one loop nest, with literal sizes and strides, for a
sequence of them. Arithmetic is in the element's own type, integers wrap. `emit` serves the calls of these
records.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from edgec.backends.ctext import C_TYPE, literal
from edgec.backends.strided import Strided, broadcast, merged, natural, strides_to
from edgec.ir import Attrs, Bound, DType, Type
from edgec.ops.activation import ClampAttrs, EluAttrs, GeluAttrs, LeakyReluAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.select import MaskedFillAttrs
from edgec.ops.unary import PowScalarAttrs
from edgec.plan import ROW_BY_ROW, Call, Halo, Kernel, Launch, NodeView, Target

Fields = tuple[tuple[str, int | float], ...]

INTEGERS: Final = (DType.I64, DType.I32, DType.I16, DType.I8, DType.U8)


@dataclass(frozen=True, slots=True)
class Step:
    """One op of a loop. `operands`: k >= 0 is input k of the loop, -1 - s the result of step s. `dtype` is
    that of the numbers it works on, `result` that of its result; `fields` are its attributes as numbers."""

    op: str
    fields: Fields
    operands: tuple[int, ...]
    dtype: DType
    result: DType

    def number(self, name: str) -> str | None:
        """C literal of the field in the step's dtype; None where there is none (an open bound)."""
        value = dict(self.fields).get(name)
        if value is None:
            return None
        if self.dtype is DType.F32:
            return literal(float(value))
        whole = int(value)
        return literal(whole) if -(2**31) <= whole < 2**31 else f"{whole}LL"


def _wrap(step: Step, a: str, sign: str, b: str) -> str:
    """a sign b; integers in an unsigned type, so that overflow wraps instead of being undefined."""
    if step.dtype is DType.F32:
        return f"{a} {sign} {b}"
    wide = "uint64_t" if step.dtype is DType.I64 else "uint32_t"
    return f"({C_TYPE[step.dtype]})(({wide}){a} {sign} ({wide}){b})"


def _within(step: Step, value: str) -> str:
    """`value` between the fields low and high; NaN passes."""
    low, high = step.number("low"), step.number("high")
    text = value
    if high is not None:
        text = f"{value} > {high} ? {high} : {value}"
    if low is not None:
        text = f"{value} < {low} ? {low} : ({text})"
    return text


def _zero(step: Step) -> str:
    return "0.0f" if step.dtype is DType.F32 else "0"


def _gelu(step: Step, a: str) -> str:
    if dict(step.fields)["tanh"]:
        return f"0.5f * {a} * (1.0f + tanhf(0.797884583f * ({a} + 0.0447150022f * {a} * {a} * {a})))"
    return f"0.5f * {a} * (1.0f + erff(0.707106769f * {a}))"


def _pow(step: Step, a: str) -> str:
    exponent = dict(step.fields)["exponent"]
    plain = {1.0: a, 2.0: f"{a} * {a}", 3.0: f"{a} * {a} * {a}", -1.0: f"1.0f / {a}"}
    return plain.get(float(exponent), f"powf({a}, {step.number('exponent')})")


def _cast(step: Step, a: str) -> str:
    if step.result is DType.B8:
        return f"(uint8_t)({a} != {_zero(step)})"
    return f"({C_TYPE[step.result]}){a}"


_SIX = "6.0f"
# op -> (step, operand) -> expression; operands are names, so that they may be repeated
_UNARY: Final[dict[str, Callable[[Step, str], str]]] = {
    "neg": lambda s, a: f"-{a}" if s.dtype is DType.F32 else _wrap(s, "0", "-", a),
    "abs": lambda s, a: f"fabsf({a})" if s.dtype is DType.F32 else f"{a} < 0 ? {_wrap(s, '0', '-', a)} : {a}",
    "sqrt": lambda s, a: f"sqrtf({a})",
    "rsqrt": lambda s, a: f"1.0f / sqrtf({a})",
    "exp": lambda s, a: f"expf({a})",
    "log": lambda s, a: f"logf({a})",
    "sin": lambda s, a: f"sinf({a})",
    "cos": lambda s, a: f"cosf({a})",
    "erf": lambda s, a: f"erff({a})",
    "pow_scalar": _pow,
    "relu": lambda s, a: f"{a} < {_zero(s)} ? {_zero(s)} : {a}",
    "relu6": lambda s, a: (
        f"{a} < 0.0f ? 0.0f : ({a} > {_SIX} ? {_SIX} : {a})"
        if s.dtype is DType.F32
        else f"{a} < 0 ? 0 : ({a} > 6 ? 6 : {a})"
    ),
    "clamp": _within,
    "elu": lambda s, a: f"{a} > 0.0f ? {a} : {s.number('alpha')} * (expf({a}) - 1.0f)",
    "leaky_relu": lambda s, a: f"{a} > 0.0f ? {a} : {a} * {s.number('slope')}",
    "hardswish": lambda s, a: f"{a} <= -3.0f ? 0.0f : ({a} >= 3.0f ? {a} : {a} * ({a} + 3.0f) / {_SIX})",
    "hardsigmoid": lambda s, a: f"{a} <= -3.0f ? 0.0f : ({a} >= 3.0f ? 1.0f : ({a} + 3.0f) / {_SIX})",
    "sigmoid": lambda s, a: f"1.0f / (1.0f + expf(-{a}))",
    "tanh": lambda s, a: f"tanhf({a})",
    "gelu": _gelu,
    "silu": lambda s, a: f"{a} / (1.0f + expf(-{a}))",
    "logical_not": lambda s, a: f"(uint8_t)!{a}",
    "cast": _cast,
}

_BINARY: Final[dict[str, Callable[[Step, str, str], str]]] = {
    "add": lambda s, a, b: _wrap(s, a, "+", b),
    "sub": lambda s, a, b: _wrap(s, a, "-", b),
    "mul": lambda s, a, b: _wrap(s, a, "*", b),
    "div": lambda s, a, b: f"{a} / {b}",
    "pow": lambda s, a, b: f"powf({a}, {b})",
    # a where it is NaN; b where that is
    "minimum": lambda s, a, b: f"{a} < {b} || {a} != {a} ? {a} : {b}",
    "maximum": lambda s, a, b: f"{a} > {b} || {a} != {a} ? {a} : {b}",
    "prelu": lambda s, a, b: f"{a} > 0.0f ? {a} : {a} * {b}",
    "masked_fill": lambda s, a, b: f"{b} ? {s.number('value')} : {a}",
    "eq": lambda s, a, b: f"(uint8_t)({a} == {b})",
    "ne": lambda s, a, b: f"(uint8_t)({a} != {b})",
    "lt": lambda s, a, b: f"(uint8_t)({a} < {b})",
    "le": lambda s, a, b: f"(uint8_t)({a} <= {b})",
    "gt": lambda s, a, b: f"(uint8_t)({a} > {b})",
    "ge": lambda s, a, b: f"(uint8_t)({a} >= {b})",
    "logical_and": lambda s, a, b: f"(uint8_t)({a} && {b})",
    "logical_or": lambda s, a, b: f"(uint8_t)({a} || {b})",
}

_INTEGER_TOO: Final = (
    *("neg", "abs", "relu", "relu6", "clamp", "cast", "add", "sub", "mul", "minimum", "maximum"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "masked_fill"),
)
_LOGIC: Final = ("logical_not", "logical_and", "logical_or")
# Their result never takes over an operand's buffer: it may have another element type
_RETYPED: Final = ("cast", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or")
OPS: Final = (*_UNARY, *_BINARY, "where")


def expression(step: Step, operands: tuple[str, ...]) -> str:
    """The C expression of a step over the names of its operands, in the type `step.result`."""
    if step.op == "where":
        return f"{operands[0]} ? {operands[1]} : {operands[2]}"
    if step.op in _UNARY:
        return _UNARY[step.op](step, operands[0])
    return _BINARY[step.op](step, operands[0], operands[1])


def worked_on(op: str, inputs: tuple[Type, ...]) -> DType:
    """The element type that an op computes in: that of its numbers, not of its condition."""
    return inputs[1].dtype if op == "where" else inputs[0].dtype


def single(op: str, fields: Fields, inputs: tuple[Type, ...], output: Type) -> tuple[Step, ...]:
    """The steps of one node; a clamp fused into it is a step of its own."""
    dtype = worked_on(op, inputs)
    bounds = tuple(f for f in fields if f[0] in ("low", "high"))
    if op == "clamp" or not bounds:
        return (Step(op, fields, tuple(range(len(inputs))), dtype, output.dtype),)
    first = Step(op, (), tuple(range(len(inputs))), dtype, output.dtype)
    return first, Step("clamp", bounds, (-1,), output.dtype, output.dtype)


def steps_of(call: Call) -> tuple[Step, ...]:
    """The steps of a call: those of its loop, or its one op."""
    if not call.loop:
        fields = tuple(f for f in call.params if not f[0].startswith("ring_"))
        return single(call.op, fields, call.in_types, call.out_types[0])
    steps: list[Step] = []
    results: list[tuple[int, Type]] = []  # of each step of the loop: the operand that stands for it, its type
    shape = call.out_types[0].shape
    for one in call.loop:
        operands = tuple(k if k >= 0 else results[-1 - k][0] for k in one.operands)
        types = tuple(call.in_types[k] if k >= 0 else results[-1 - k][1] for k in one.operands)
        result = Type(shape, one.result)
        for step in single(one.op, one.fields, types, result):
            # a clamp fused into the op reads the op's own result, all others the loop's operands
            places = (-len(steps),) if step.operands == (-1,) else tuple(operands[k] for k in step.operands)
            steps.append(replace(step, operands=places))
        results.append((-len(steps), result))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rings of a loop over rows: rows that the buffer of each input, and of the output, holds."""

    inputs: tuple[int, ...]
    output: int


def _index(strides: tuple[int, ...]) -> str:
    terms = [f"i{k}" if s == 1 else f"i{k} * {s}" for k, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


def _statements(steps: tuple[Step, ...], inputs: tuple[Type, ...], plan: Strided, prefix: str) -> list[str]:
    """The innermost body: loads, one local a step, the store."""
    lines = [
        f"const {C_TYPE[t.dtype]} v{k} = {prefix}{k}[{_index(s)}];"
        for k, (t, s) in enumerate(zip(inputs, plan.strides, strict=False))
    ]
    for n, step in enumerate(steps):
        names = tuple(f"v{k}" if k >= 0 else f"t{-1 - k}" for k in step.operands)
        text = expression(step, names)
        if step.result in (DType.I16, DType.I8, DType.U8) and not text.startswith("("):
            text = f"({C_TYPE[step.result]})({text})"
        lines.append(f"const {C_TYPE[step.result]} t{n} = {text};")
    lines.append(f"{prefix}y[{_index(plan.strides[-1])}] = t{len(steps) - 1};")
    return lines


def _nest(sizes: tuple[int, ...], body: list[str], depth: int) -> list[str]:
    """`body` inside one for loop a size."""
    lines = []
    for k, size in enumerate(sizes):
        lines.append("    " * (depth + k) + f"for (int32_t i{k} = 0; i{k} < {size}; i{k}++) {{")
    lines += ["    " * (depth + len(sizes)) + line for line in body]
    lines += ["    " * (depth + k) + "}" for k in reversed(range(len(sizes)))]
    return lines


def loop(
    symbol: str, steps: tuple[Step, ...], inputs: tuple[Type, ...], output: Type, rows: Rows | None
) -> str:
    """A static C function that runs `steps` for each element of the output, over inputs that broadcast to it.

    Arguments: (inputs..., output), with `rows` (row0, row1, inputs..., output) for NHWC maps of one image, and
    (count, inputs..., output) where the output has a Bound, whose size at run time is `count`.
    """
    dense = natural(output.dims)
    pointers = [f"const {C_TYPE[t.dtype]} *x{k}" for k, t in enumerate(inputs)]
    pointers.append(f"{C_TYPE[output.dtype]} *xy")
    if rows is None and not output.bounds:
        plan = broadcast(output.dims, [*(t.dims for t in inputs), output.dims])
        body = _nest(plan.sizes, _statements(steps, inputs, plan, "x"), 1)
        return _function(symbol, pointers, body)
    strides = [*(strides_to(output.dims, t.dims) for t in inputs), dense]
    axis, rings, span = _outer_loop(output, rows)
    plan = merged(output.dims[axis + 1 :], [s[axis + 1 :] for s in strides])
    lines = [f"    for (int32_t row = {span[0]}; row < {span[1]}; row++) {{"]
    kinds = [*(f"const {C_TYPE[t.dtype]}" for t in inputs), C_TYPE[output.dtype]]
    for k, (stride, ring) in enumerate(
        zip(strides, rings or (output.dims[axis],) * len(strides), strict=True)
    ):
        name = "y" if k == len(inputs) else str(k)
        place = "row" if ring >= output.dims[axis] else f"row % {ring}"
        at = f" + {place} * {stride[axis]}" if stride[axis] else ""
        lines.append(f"        {kinds[k]} *r{name} = x{name}{at};")
    lines += _nest(plan.sizes, _statements(steps, inputs, plan, "r"), 2)
    lines.append("    }")
    sizes = ["int32_t count"] if rows is None else ["int32_t row0", "int32_t row1"]
    return _function(symbol, [*sizes, *pointers], lines)


def _outer_loop(output: Type, rows: Rows | None) -> tuple[int, tuple[int, ...], tuple[str, str]]:
    """(axis, rings, first and end) of the loop round the others: over rows, or over a size known at run time."""
    if rows is not None:
        return 1, (*rows.inputs, rows.output), ("row0", "row1")
    return bounded_axis(output), (), ("0", "count")


def bounded_axis(t: Type) -> int:
    """The axis whose size is known only at run time."""
    return next(i for i, d in enumerate(t.shape) if isinstance(d, Bound))


def _function(symbol: str, arguments: list[str], body: list[str]) -> str:
    head = f"static void {symbol}("
    lines = [head]
    for n, argument in enumerate(arguments):
        text = argument + (")" if n == len(arguments) - 1 else ",")
        if len(lines[-1]) + len(text) + 1 > 100:
            lines.append(" " * len(head) + text)
        else:
            lines[-1] += text if lines[-1].endswith("(") else " " + text
    return "\n".join([*lines, "{", *body, "}", ""])


def emit(call: Call) -> tuple[str, str]:
    """(symbol, C text) of the body for a call whose kernel has no source. Equal bodies have equal symbols."""
    rings = dict(call.params)
    rows = None
    if call.halo is not None:
        inputs = tuple(int(rings[f"ring_{k}"]) for k in range(len(call.in_types)))
        rows = Rows(inputs, int(rings["ring_y"]))
    output = call.out_types[0]
    steps = steps_of(call)
    text = loop("NAME", steps, call.in_types, output, rows)
    symbol = f"{call.kernel.symbol}_{zlib.crc32(text.encode()):08x}"
    return symbol, loop(symbol, steps, call.in_types, output, rows)


def attribute_fields(attrs: Attrs) -> Fields:
    """An op's attributes as numbers; an open bound has no field, a cast's type is its output's."""
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    match attrs:
        case PowScalarAttrs():
            return (("exponent", attrs.exponent),)
        case EluAttrs():
            return (("alpha", attrs.alpha),)
        case LeakyReluAttrs():
            return (("slope", attrs.slope),)
        case GeluAttrs():
            return (("tanh", int(attrs.approximate == "tanh")),)
        case MaskedFillAttrs():
            return (("value", attrs.value),)
        case ClampAttrs():
            bounds = (attrs.min, attrs.max)
        case BinaryAttrs():
            bounds = attrs.act or bounds
    low = (("low", bounds[0]),) if bounds[0] != float("-inf") else ()
    high = (("high", bounds[1]),) if bounds[1] != float("inf") else ()
    return (*low, *high)


def fits(node: NodeView, floats: tuple[DType, ...]) -> bool:
    """Whether a generated loop does the node, where it computes on integers and on these float types."""
    types = (*node.inputs, *node.outputs)
    if any(t.quant is not None or t.bounds for t in types):
        return False
    op, dtype = node.node.op, worked_on(node.node.op, node.inputs)
    if op in _LOGIC:
        return True
    if op == "cast":
        return all(t.dtype in (*floats, *INTEGERS, DType.B8) for t in types)
    if op in ("eq", "ne", "where", "masked_fill") and dtype is DType.B8:
        return True
    return dtype in floats or (dtype in INTEGERS and op in _INTEGER_TOO)


def _accepts(node: NodeView, target: Target) -> bool:
    return fits(node, (DType.F32,))


def _accepts_bounded(node: NodeView, target: Target) -> bool:
    """One Bound, outermost of the axes that are not 1, so that what counts is the tensors' beginning."""
    y = node.outputs[0]
    if len(y.bounds) != 1 or any(d != 1 for d in y.dims[: bounded_axis(y)]):
        return False
    plain = NodeView(
        node.node,
        tuple(replace(t, shape=t.dims) for t in node.inputs),
        tuple(replace(t, shape=t.dims) for t in node.outputs),
        node.constants,
    )
    return _accepts(plain, target)


def _accepts_rows(node: NodeView, target: Target) -> bool:
    dims = node.outputs[0].dims
    return len(dims) == 4 and dims[0] == 1 and _accepts(node, target)


def launch(node: NodeView, target: Target) -> Launch:
    """The attributes as fields, without a struct; all inputs as pointers."""
    return Launch("", attribute_fields(node.node.attrs), tuple(range(len(node.inputs))), ())


def _launch_rows(node: NodeView, target: Target) -> Launch:
    out = node.outputs[0].dims
    fields = list(attribute_fields(node.node.attrs))
    for k, t in enumerate(node.inputs):
        fields.append((f"ring_{k}", out[1] if strides_to(out, t.dims)[1] else 1))
    fields.append(("ring_y", out[1]))
    return Launch("", tuple(fields), tuple(range(len(node.inputs))), ())


def _row_by_row(node: NodeView) -> Halo:
    return ROW_BY_ROW


def in_place_of(op: str) -> tuple[int, ...]:
    """Operands whose buffer the result may take over."""
    if op in _RETYPED:
        return ()
    if op == "where":
        return (1, 2)
    return (0, 1) if op in ("add", "sub", "mul", "div", "minimum", "maximum", "pow") else (0,)


def _records(op: str) -> tuple[Kernel, ...]:
    in_place = in_place_of(op)
    return (
        Kernel(op, f"ec_pw_rows_{op}", "", 95, _accepts_rows, _launch_rows, None, _row_by_row, in_place),
        Kernel(op, f"ec_pw_{op}", "", 110, _accepts, launch, None, None, in_place),
        Kernel(op, f"ec_pw_n_{op}", "", 120, _accepts_bounded, launch, in_place=in_place, bounded=True),
    )


KERNELS: Final[tuple[Kernel, ...]] = tuple(kernel for op in OPS for kernel in _records(op))
