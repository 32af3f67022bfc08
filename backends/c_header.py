"""model.h, the C API of a compiled network, and model_desc.c, the table that a generic firmware main
walks."""

from __future__ import annotations

from typing import Final

from edgec.backends import c_learning
from edgec.backends.c_names import NamedPort, Names
from edgec.backends.ctext import C_TYPE, comment_safe, identifier, literal
from edgec.ir import Bound, Persistence
from edgec.training.learned import Learned

ARENA_ALIGN: Final = 16


def model_header(names: Names, learned: Learned | None = None) -> str:
    """model.h: instance, init, invoke, one typed accessor a port, and quantisation parameters as constants; what
    learns, where something does."""
    plan, name, upper = names.plan, names.prefix, names.prefix.upper()
    lines = [
        f'#ifndef {upper}_MODEL_H\n#define {upper}_MODEL_H\n\n#include <stdint.h>\n\n#include "edgec.h"\n'
    ]
    lines.append('#ifdef __cplusplus\nextern "C" {\n#endif\n')
    for a, macro in zip(plan.arenas, names.arena_macros, strict=True):
        lines.append(
            f"/* Bytes of memory {comment_safe(a.memory)} that init takes, {ARENA_ALIGN}-byte aligned. */"
        )
        lines.append(f"#define {macro} {max(a.bytes, 1)}")
    lines.append("\n/* real value = SCALE * (integer - ZERO) */")
    for one in names.ports:
        lines += _port_constants(f"{upper}_{one.name.upper()}", one)
    lines.append("\n/* One instance. Many may live side by side: they share nothing but the constants. */")
    members = [f"    uint8_t *{m};" for m in names.members.values()] or ["    uint8_t *unused;"]
    lines.append("typedef struct {\n" + "\n".join(members) + f"\n}} {name};\n")
    lines += _set_up(names, learned)
    lines.append(
        "/* An invoke overwrites its inputs: fill each of them before. Outputs are valid until the next. */"
    )
    lines += [f"ec_status {name}_{invoke}({name} *m);" for invoke in names.invokes.values()]
    lines.append("")
    lines += [f"{C_TYPE[one.port.type.dtype]} *{name}_{one.name}({name} *m);" for one in names.ports]
    lines += _saved(names)
    lines += c_learning.declarations(names, learned) if learned is not None else []
    lines.append("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n")
    return "\n".join(lines)


def _set_up(names: Names, learned: Learned | None) -> list[str]:
    """Declarations of init and, where a state has that persistence and nothing learns, reset."""
    name = names.prefix
    arenas = "".join(f", void *{m}" for m in names.members.values())
    lines = [
        "/* Takes the arenas and sets every state to its initial value. EC_NULL_POINTER or EC_MISALIGNED",
        f" * where an arena is NULL or not {ARENA_ALIGN}-byte aligned. */",
        f"ec_status {name}_init({name} *m{arenas});\n",
    ]
    if learned is None and has_reset(names):
        listed = ", ".join(
            comment_safe(s.buffer.removeprefix("state."))
            for s in names.plan.state
            if s.persistence is Persistence.RESET
        )
        lines.append(f"/* Sets {comment_safe(listed)} to the initial value; all other state stays. */")
        lines.append(f"ec_status {name}_reset({name} *m);\n")
    return lines


def has_reset(names: Names) -> bool:
    """Whether a state goes back to its initial value at a reset."""
    return any(s.persistence is Persistence.RESET for s in names.plan.state)


def _saved(names: Names) -> list[str]:
    """Sizes of and pointers to the states that outlive power cycles."""
    if not names.saved:
        return []
    name, upper = names.prefix, names.prefix.upper()
    lines = ["\n/* State that outlives a power cycle: store these bytes, and write them back after init. */"]
    for buffer, saved in names.saved.items():
        lines.append(f"#define {upper}_{saved.upper()}_BYTES {names.plan.buffer(buffer).bytes}")
        lines.append(f"void *{name}_{saved}({name} *m);")
    return lines


def _port_constants(stem: str, one: NamedPort) -> list[str]:
    t = one.port.type
    dims = ", ".join(f"{d.name} <= {d.max}" if isinstance(d, Bound) else str(d) for d in t.shape)
    axes = ",".join(str(a) for a in one.port.port.axes)
    lines = [f"#define {stem}_SIZE {t.size} /* elements of [{dims}]; its axes are PyTorch's {axes} */"]
    if t.quant is not None:
        scale, zero = t.quant.per_tensor
        lines += [f"#define {stem}_SCALE {literal(float(scale))}", f"#define {stem}_ZERO ({zero})"]
    return lines


def accessors(names: Names) -> str:
    """The accessors' bodies for model.c."""
    name = names.prefix
    made = [(C_TYPE[one.port.type.dtype], one.name, one.port.buffer) for one in names.ports]
    made += [("void", saved, buffer) for buffer, saved in names.saved.items()]
    return "\n".join(
        f"{c_type} *{name}_{own}({name} *m)\n{{\n    return {names.buffers[buffer]};\n}}\n"
        for c_type, own, buffer in made
    )


def descriptor(names: Names) -> str:
    """model_desc.c: static arenas, one instance and the tables of ec_model_desc (runtime_c/include/edgec.h)."""
    plan, name = names.plan, names.prefix
    lines = ['#include <stddef.h>\n\n#include "edgec.h"\n#include "model.h"\n']
    for a, macro in zip(plan.arenas, names.arena_macros, strict=True):
        memory = names.members[a.memory]
        lines.append(f"EC_ARENA({a.memory}) EC_ALIGN({ARENA_ALIGN}) static uint8_t {memory}[{macro}];")
    lines.append(f"static {name} instance;\n")
    arenas = "".join(f", {m}" for m in names.members.values())
    lines.append(f"static ec_status init(void *p)\n{{\n    return {name}_init(({name} *)p{arenas});\n}}\n")
    for one in names.ports:
        lines.append(
            f"static void *get_{one.name}(void *p)\n{{\n    return {name}_{one.name}(({name} *)p);\n}}\n"
        )
    entries = []
    for entry in plan.entries:
        stem = names.invokes[entry.name]
        lines.append(f"static ec_status run_{stem}(void *p)\n{{")
        lines.append(f"    return {name}_{stem}(({name} *)p);\n}}\n")
        counts = []
        for kind in ("input", "output"):
            ports = [one for one in names.ports if one.entry is entry and one.kind == kind]
            counts.append(f"{len(ports)}u")
            rows = [f'    {{"{one.name}", get_{one.name}, {one.port.type.bytes}u}},' for one in ports]
            head = f"static const ec_port_desc {kind}s_of_{stem}[] = {{"
            lines += [head, *(rows or ["    {NULL, NULL, 0u},"]), "};\n"]
        tables = f"inputs_of_{stem}, outputs_of_{stem}, {', '.join(counts)}"
        entries.append(f'    {{"{stem}", run_{stem}, {tables}}},')
    lines += ["static const ec_entry_desc entries[] = {", *entries, "};\n"]
    rows = [f'    {{"{identifier(memory)}", {m}, sizeof {m}}},' for memory, m in names.members.items()]
    lines += ["static const ec_arena_desc arenas[] = {", *(rows or ['    {"none", NULL, 0u},']), "};\n"]
    counts_text = f"{len(plan.entries)}u,\n    {len(plan.arenas)}u"
    lines.append(
        f'const ec_model_desc ec_model = {{\n    "{name.removeprefix("edgec_")}", init, &instance, sizeof(instance), '
        f"entries, arenas, {counts_text},\n}};\n"
    )
    return "\n".join(lines)
