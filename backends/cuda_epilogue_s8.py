"""Generated epilogues of int8 kernels: the quantised pointwise steps that follow, on requantised values in registers.

    struct NAME {
        const void *e0, *e1;
        template <int V> void apply_s8(int32_t (&v)[V], size_t index, int column) const;
    };

`v` are V neighbouring channels of the output as int8 values in int32, `index` the place of the first in the output,
`column` its channel. Each step is the arithmetic of the kernel whose call it was (ec_binary_s8.cu, ec_unary_s8.cu) with
that call's params as literals, so that the integers are the same. Operands are int8 tensors and tables of 256 bytes.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.cuda_epilogue import place_of
from edgec.backends.kernels_c_pointwise import TABLE_OPS
from edgec.ir import Type
from edgec.plan import Call, LoopStep

_HEAD: Final = (
    "    template <int V>\n"
    "    __device__ __forceinline__ void apply_s8(int32_t (&v)[V], size_t index, int column) const"
)
_MERGE: Final = {"minimum": "min", "maximum": "max"}


def s8_struct(name: str, call: Call) -> str:
    """The struct for a call with more steps than its own."""
    own = len(call.loop[0].operands)
    extra = call.in_types[own:]
    tables = {s.operands[1] - own for s in call.loop[1:] if s.op in TABLE_OPS}
    lines = ['#include "ec_requant.cuh"\n', f"struct {name} {{"]
    if extra:
        lines.append(f"    const void *{', *'.join(f'e{k}' for k in range(len(extra)))};")
    lines += [_HEAD, "    {"]
    for k, t in enumerate(extra):
        if k not in tables:
            lines += ["        " + line for line in _load(k, t, call.out_types[0])]
    lines += ["#pragma unroll", "        for (int j = 0; j < V; j++) {"]
    lines += ["            " + line for line in _steps(call.loop, own)]
    return "\n".join([*lines, "        }", "    }", "};", "", ""])


def _load(k: int, operand: Type, output: Type) -> list[str]:
    """a<k>: what the V channels read of an operand."""
    place, vector = place_of(operand, output)
    width = "V" if vector else "1"
    return [f"int32_t a{k}[{width}];", f"ec_load_s8<{width}>(a{k}, (const int8_t *)e{k} + ({place}));"]


def _steps(steps: tuple[LoopStep, ...], own: int) -> list[str]:
    """One local a step; the last is the result."""
    lines = ["const int32_t t0 = v[j];"]

    def operand(k: int) -> str:
        return f"t{-1 - k}" if k < 0 else f"a{k - own}[sizeof(a{k - own}) == sizeof(int32_t) ? 0 : j]"

    for n, step in enumerate(steps):
        if n and step.op in TABLE_OPS:
            entry = f"(const int8_t *)e{step.operands[1] - own} + (t{-1 - step.operands[0]} + 128)"
            lines.append(f"const int32_t t{n} = __ldg({entry});")
        elif n:
            lines.append(f"const int32_t t{n} = {_value(step, tuple(operand(k) for k in step.operands))};")
    return [*lines, f"v[j] = t{len(steps) - 1};"]


def _value(step: LoopStep, operands: tuple[str, ...]) -> str:
    """The CUDA expression of a step that is no table."""
    f = dict(step.fields)
    if step.op == "requantize":
        requant = f"({f['multiplier']}), {f['shift']}, ({f['zero_out']}), -128, 127"
        return f"ec_requantize_s8({operands[0]} - ({f['zero_in']}), {requant})"
    a, b = operands
    first, second = f"({a} - ({f['zero_a']}))", f"({b} - ({f['zero_b']}))"
    if step.op == "mul":
        value = f"ec_requantize({first} * {second}, {f['multiplier_a']}, {f['shift']})"
    elif step.op in _MERGE:
        parts = f"{first} * ({f['multiplier_a']}), {second} * ({f['multiplier_b']})"
        value = f"(({_MERGE[step.op]}({parts}) + (1 << {int(f['shift']) - 1})) >> {f['shift']})"
    else:
        total = f"({f['offset']}) + {a} * ({f['multiplier_a']}) + {b} * ({f['multiplier_b']})"
        value = f"(({total}) >> {f['shift']})"
    return f"ec_clamp({value} + ({f['zero_out']}), {f['act_min']}, {f['act_max']})"
