"""Generated epilogues: the pointwise steps that follow a product, a convolution or the like, on its results in
registers.

    struct NAME {
        const void *e0, *e1;
        template <int V> void apply(float (&v)[V], size_t index, int column) const;
    };

`v` are V neighbouring channels of the output, `index` the place of the first in the output, `column` its channel. The
steps are those of a generated loop; half types are carried in float32 and rounded once, by the kernel's store.
passes/join_epilogues.py makes the calls: step 0 is the kernel's own, operands beyond its own are e0, e1, ...
"""

from __future__ import annotations

import zlib
from typing import Final

from edgec.backends.ctext import C_TYPE
from edgec.backends.cuda_pointwise import carried, step_text
from edgec.backends.cuda_record import CUDA_TYPE
from edgec.backends.pointwise import Step, steps_of
from edgec.backends.strided import broadcast
from edgec.ir import Type
from edgec.plan import Call

_HEAD: Final = (
    "    template <int V>\n"
    "    __device__ __forceinline__ void apply(float (&v)[V], size_t index, int column) const"
)
_INDEX_MOST: Final = 2**31


def emit_epilogue(call: Call) -> tuple[str, str]:
    """(name, text) of the struct for a call with more steps than its own. Equal structs have equal names."""
    if call.out_types[0].quant is not None:
        from edgec.backends.cuda_epilogue_s8 import s8_struct as struct
    else:
        struct = _struct
    text = struct("NAME", call)
    name = f"ec_epilogue_{zlib.crc32(text.encode()):08x}"
    return name, struct(name, call)


def _struct(name: str, call: Call) -> str:
    own = len(call.loop[0].operands)
    extra = call.in_types[own:]
    lines = [f"struct {name} {{"]
    if extra:
        lines.append(f"    const void *{', *'.join(f'e{k}' for k in range(len(extra)))};")
    lines += [_HEAD, "    {"]
    for k, t in enumerate(extra):
        lines += ["        " + line for line in _load(k, t, call.out_types[0])]
    lines += ["#pragma unroll", "        for (int j = 0; j < V; j++) {"]
    lines += ["            " + line for line in _steps(steps_of(call), own)]
    return "\n".join([*lines, "        }", "    }", "};", "", ""])


def _load(k: int, operand: Type, output: Type) -> list[str]:
    """a<k>: what the V channels read of an operand, as floats."""
    place, vector = place_of(operand, output)
    kind = CUDA_TYPE[operand.dtype]
    width = "V" if vector else "1"
    return [
        f"float a{k}[{width}];",
        f"ec_load_run<{kind}, {width}>(a{k}, (const {kind} *)e{k} + ({place}));",
    ]


def place_of(operand: Type, output: Type) -> tuple[str, bool]:
    """(element of the operand that `index` reads, whether its neighbours are neighbours)."""
    plan = broadcast(output.dims, [operand.dims, output.dims])
    sizes, strides = plan.sizes, plan.strides[0]
    if len(sizes) == 1 and strides[-1]:
        return "index", True
    if len(sizes) == 2 and strides == (0, 1) and sizes[1] == output.dims[-1]:
        return "column", True
    index = "(uint32_t)index" if output.size < _INDEX_MOST else "index"
    terms, below = [], 1
    for axis in reversed(range(len(sizes))):
        if strides[axis]:
            place = f"{index} / {below}u" if below > 1 else index
            place = f"{place} % {sizes[axis]}u" if axis else place
            terms.append(f"{place} * {strides[axis]}u" if strides[axis] > 1 else place)
        below *= sizes[axis]
    return " + ".join(terms) or "0", strides[-1] != 0


def _steps(steps: tuple[Step, ...], own: int) -> list[str]:
    """One local a step; the last is the result."""
    lines = ["const float t0 = v[j];"]
    for n, step in enumerate(steps):
        if n:
            names = tuple(f"a{k - own}_j" if k >= 0 else f"t{-1 - k}" for k in step.operands)
            used = sorted({k - own for k in step.operands if k >= 0})
            lines += [f"const float a{k}_j = a{k}[sizeof(a{k}) == sizeof(float) ? 0 : j];" for k in used]
            lines.append(f"const {C_TYPE[carried(step.result)]} t{n} = {step_text(step, names)};")
    lines.append(f"v[j] = t{len(steps) - 1};")
    return list(dict.fromkeys(lines))
