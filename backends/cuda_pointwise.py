"""Generated CUDA kernels of pointwise ops on plain (not quantised) numbers: the only kernels without a source file.

The steps and most expressions are those of `pointwise`. Half types are computed in float32: loaded, carried from step
to step and rounded once, where they are stored or cast. Loads and stores are vectors of up to 16 bytes wherever the
innermost axis allows it; sizes and strides are literals.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgec.backends.ctext import C_TYPE
from edgec.backends.cuda_record import CUDA_TYPE
from edgec.backends.pointwise import Step, expression, steps_of
from edgec.backends.strided import Strided, broadcast
from edgec.ir import DType, Type
from edgec.plan import Call, Grid, Target

HEADER: Final = '#include "ec_cuda.cuh"\n\n'
VECTOR_BYTES: Final = 16
INDEX_MAX: Final = 2**31
NARROW: Final = (DType.I16, DType.I8, DType.U8)


def _gelu(step: Step, a: str) -> str:
    if dict(step.fields)["tanh"]:  # 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u))
        u = f"{a} * (-1.59576917f - 0.0713548213f * {a} * {a})"
        return f"__fdividef({a}, 1.0f + __expf({u}))"
    return f"0.5f * {a} * (1.0f + ec_erf_half(0.707106769f * {a}))"


_SIXTH = "0.166666672f"
# What half types take instead of the exact functions: errors of some 2**-21, a result holds 11 bits at most
_FAST: Final[dict[str, Callable[[Step, str], str]]] = {
    "exp": lambda s, a: f"__expf({a})",
    "elu": lambda s, a: f"{a} > 0.0f ? {a} : {s.number('alpha')} * expm1f({a})",
    "sigmoid": lambda s, a: f"__fdividef(1.0f, 1.0f + __expf(-{a}))",
    "silu": lambda s, a: f"__fdividef({a}, 1.0f + __expf(-{a}))",
    "gelu": _gelu,
    "hardswish": lambda s, a: f"{a} <= -3.0f ? 0.0f : ({a} >= 3.0f ? {a} : {a} * ({a} + 3.0f) * {_SIXTH})",
    "hardsigmoid": lambda s, a: f"{a} <= -3.0f ? 0.0f : ({a} >= 3.0f ? 1.0f : ({a} + 3.0f) * {_SIXTH})",
}


def carried(dtype: DType) -> DType:
    """The type in which the elements of `dtype` are carried from step to step."""
    return DType.F32 if dtype.is_half else dtype


def loaded(dtype: DType, element: str) -> str:
    """The carried value of an element of this type."""
    return f"ec_float({element})" if dtype.is_half else element


def rounded(dtype: DType, value: str) -> str:
    """The element of this type nearest to a carried value."""
    return f"ec_element<{CUDA_TYPE[dtype]}>::of({value})" if dtype.is_half else value


def step_text(step: Step, operands: tuple[str, ...]) -> str:
    """The CUDA expression of a step over the names of its carried operands, as a carried result."""
    inside = replace(step, dtype=carried(step.dtype), result=carried(step.result))
    if step.op == "cast" and step.result.is_half:
        value = operands[0] if step.dtype is DType.F32 else f"(float){operands[0]}"
        return operands[0] if step.dtype is step.result else loaded(step.result, rounded(step.result, value))
    if step.op == "rsqrt":
        return f"rsqrtf({operands[0]})"
    if step.dtype.is_half and step.op in _FAST:
        return _FAST[step.op](inside, operands[0])
    text = expression(inside, operands)
    if inside.result in NARROW and not text.startswith("("):
        return f"({C_TYPE[inside.result]})({text})"
    return text


def step_lines(steps: Sequence[Step], name_of: Callable[[int], str]) -> list[str]:
    """One local `t<n>` a step, carried; `name_of(k)` is the carried value of operand k >= 0 of the loop."""
    lines = []
    for n, step in enumerate(steps):
        names = tuple(name_of(k) if k >= 0 else f"t{-1 - k}" for k in step.operands)
        lines.append(f"const {C_TYPE[carried(step.result)]} t{n} = {step_text(step, names)};")
    return lines


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop over the merged axes of `plan`, `vector` elements of the innermost at once. `operands`: types of the
    inputs, then of the output, as are the strides."""

    steps: tuple[Step, ...]
    operands: tuple[Type, ...]
    plan: Strided
    vector: int

    @property
    def total(self) -> int:
        return self.operands[-1].size


def vector_of(plan: Strided, operands: Sequence[Type]) -> int:
    """Elements that one thread handles: as many as 16 bytes of the widest operand hold, and the innermost axis and
    all outer strides are multiples of. A loop over one axis may leave a rest."""
    running = [k for k in range(len(operands)) if plan.strides[k][-1]]
    vector = VECTOR_BYTES // max(operands[k].dtype.bytes for k in running or (len(operands) - 1,))
    if len(plan.sizes) == 1:
        return vector if plan.sizes[0] >= vector else 1
    while vector > 1:
        outer = [s for k in running for s in plan.strides[k][:-1]]
        if all(n % vector == 0 for n in (plan.sizes[-1], *outer)):
            break
        vector //= 2
    return vector


def _place(strides: Sequence[int]) -> str:
    terms = [f"i{k}" if s == 1 else f"i{k} * {s}" for k, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


def _load(k: int, loop: _Loop, vector: int) -> str:
    """The declaration of what a thread reads of input k: a vector, or the one element that all of it share."""
    kind, strides = CUDA_TYPE[loop.operands[k].dtype], loop.plan.strides[k]
    source = f"((const {kind} *)in{k} + ({_place(strides)}))"
    if strides[-1] == 0:
        return f"const {kind} x{k} = *{source};"
    vectors = f"ec_vector<{kind}, {vector}>"
    return f"const {vectors} x{k} = *(const {vectors} *){source};"


def _body(loop: _Loop, vector: int, depth: int) -> list[str]:
    """Loads, the steps for each element, the store."""
    inputs, y = loop.operands[:-1], loop.operands[-1]
    kind = CUDA_TYPE[y.dtype]
    vectors = f"ec_vector<{kind}, {vector}>"
    lines = [_load(k, loop, vector) for k in range(len(inputs))]
    lines += [f"{vectors} y;", "#pragma unroll", f"for (int j = 0; j < {vector}; j++) {{"]
    for k, t in enumerate(inputs):
        element = f"x{k}.at[j]" if loop.plan.strides[k][-1] else f"x{k}"
        lines.append(f"    const {C_TYPE[carried(t.dtype)]} v{k} = {loaded(t.dtype, element)};")
    lines += ["    " + line for line in step_lines(loop.steps, lambda k: f"v{k}")]
    lines.append(f"    y.at[j] = {rounded(y.dtype, f't{len(loop.steps) - 1}')};")
    lines += ["}", f"*({vectors} *)(({kind} *)out0 + ({_place(loop.plan.strides[-1])})) = y;"]
    return [line if line.startswith("#") else "    " * depth + line for line in lines]


def _indices(loop: _Loop, index: str) -> list[str]:
    """i0.. of the element that vector `i` begins with."""
    sizes, lines = loop.plan.sizes, []
    rest = "i"
    for axis in reversed(range(len(sizes))):
        count = sizes[axis] // loop.vector if axis == len(sizes) - 1 else sizes[axis]
        step = f" * {loop.vector}u" if axis == len(sizes) - 1 and loop.vector > 1 else ""
        place = f"{rest} % {count}u" if axis else rest
        lines.append(f"    const {index} i{axis} = {place if axis == 0 or not step else f'({place})'}{step};")
        if axis:
            lines.append(f"    const {index} q{axis} = {rest} / {count}u;")
            rest = f"q{axis}"
    return lines


def _kernel(symbol: str, loop: _Loop, threads: int) -> str:
    index = "uint32_t" if loop.total < INDEX_MAX else "uint64_t"
    count, rest = divmod(loop.total, loop.vector)
    pointers = [f"const void *in{k}" for k in range(len(loop.operands) - 1)]
    lines = [
        f'extern "C" __global__ void __launch_bounds__({threads})',
        f"{symbol}({', '.join([*pointers, 'void *out0'])})",
        "{",
        "    ec_wait_previous();",
        "    ec_launch_next();",
        f"    const {index} i = ({index})blockIdx.x * {threads}u + threadIdx.x;",
    ]
    if not rest:
        lines += [f"    if (i >= {count}u) {{", "        return;", "    }"]
        return "\n".join([*lines, *_indices(loop, index), *_body(loop, loop.vector, 1), "}", ""])
    lines += [
        f"    if (i < {count}u) {{",
        f"        const {index} i0 = i * {loop.vector}u;",
        *_body(loop, loop.vector, 2),
        f"    }} else if (i < {count + rest}u) {{",
        f"        const {index} i0 = i + {count * (loop.vector - 1)}u;",
        *_body(loop, 1, 2),
        "    }",
    ]
    return "\n".join([*lines, "}", ""])


def threads_for(count: int, target: Target) -> int:
    """Threads of a block where `count` are needed: fewer where that spreads them over more SMs."""
    sms = target.gpu.sms if target.gpu is not None else 1
    return 256 if count >= sms * 256 else 128 if count >= sms * 64 else 64


def emit_loop(call: Call, target: Target) -> tuple[str, str, Grid]:
    """(symbol, text, grid) of the kernel of a call whose record has no source: one op or a joined loop.

    The text is a translation unit with one `extern "C" __global__` function over (in0, in1, ..., out0), which waits for
    the previous kernel itself. Equal kernels have equal symbols. grid.body is the symbol.
    """
    output = call.out_types[0]
    plan = broadcast(output.dims, [*(t.dims for t in call.in_types), output.dims])
    operands = (*call.in_types, output)
    loop = _Loop(steps_of(call), operands, plan, vector_of(plan, operands))
    needed = loop.total // loop.vector + loop.total % loop.vector
    threads = threads_for(needed, target)
    symbol = f"{call.kernel.symbol}_{zlib.crc32(_kernel('NAME', loop, threads).encode()):08x}"
    grid = Grid(symbol, (), (-(-needed // threads), 1, 1), threads)
    return symbol, HEADER + _kernel(symbol, loop, threads), grid
