"""model.h, the C API of a compiled network, and model_desc.c, the table that a generic firmware main
walks."""

from __future__ import annotations

from typing import Final

from edgec.backends.ctext import C_TYPE, comment_safe, identifier, literal
from edgec.plan import Entry, Plan, PlanPort

ARENA_ALIGN: Final = 16


def prefix(plan: Plan) -> str:
    """Type and function prefix: edgec_<name>."""
    return "edgec_" + identifier(plan.name)


def invoke_name(plan: Plan, entry: Entry) -> str:
    """The function that runs an entry: edgec_<name>_invoke for `infer`, edgec_<name>_<entry> otherwise."""
    return f"{prefix(plan)}_{'invoke' if entry.name == 'infer' else identifier(entry.name)}"


def port_name(plan: Plan, entry: Entry, kind: str, index: int) -> str:
    """C name of an input or output, unique in the model: input_image, decode_output_logits."""
    ports = entry.inputs if kind == "input" else entry.outputs
    stems = [identifier(p.port.label) for p in ports]
    stem = stems[index] if stems.count(stems[index]) == 1 else f"{stems[index]}_{index}"
    return f"{kind}_{stem}" if entry.name == "infer" else f"{identifier(entry.name)}_{kind}_{stem}"


def _ports(plan: Plan) -> list[tuple[Entry, str, int, PlanPort]]:
    return [
        (entry, kind, i, port)
        for entry in plan.entries
        for kind, ports in (("input", entry.inputs), ("output", entry.outputs))
        for i, port in enumerate(ports)
    ]


def model_header(plan: Plan) -> str:
    """model.h: instance, init, invoke, one typed accessor a port, and quantisation parameters as
    constants."""
    name, upper = prefix(plan), prefix(plan).upper()
    lines = [
        f'#ifndef {upper}_MODEL_H\n#define {upper}_MODEL_H\n\n#include <stdint.h>\n\n#include "edgec.h"\n'
    ]
    lines.append('#ifdef __cplusplus\nextern "C" {\n#endif\n')
    for a in plan.arenas:
        macro = f"{upper}_ARENA_{identifier(a.memory).upper()}_BYTES"
        lines.append(f"/* Bytes of memory {comment_safe(a.memory)} that init takes, {ARENA_ALIGN}-byte aligned. */")
        lines.append(f"#define {macro} {max(a.bytes, 1)}")
    lines.append("\n/* real value = SCALE * (integer - ZERO) */")
    for entry, kind, i, port in _ports(plan):
        lines += _port_constants(f"{upper}_{port_name(plan, entry, kind, i).upper()}", port)
    lines.append("\n/* One instance. Many may live side by side: they share nothing but the constants. */")
    members = [f"    uint8_t *{identifier(a.memory)};" for a in plan.arenas] or ["    uint8_t *unused;"]
    lines.append("typedef struct {\n" + "\n".join(members) + f"\n}} {name};\n")
    arenas = "".join(f", void *{identifier(a.memory)}" for a in plan.arenas)
    lines.append("/* Takes the arenas and sets every state to its initial value. EC_NULL_POINTER or EC_MISALIGNED")
    lines.append(f" * where an arena is NULL or not {ARENA_ALIGN}-byte aligned. */")
    lines.append(f"ec_status {name}_init({name} *m{arenas});\n")
    lines.append("/* An invoke overwrites its inputs: fill each of them before. Outputs are valid until the next. */")
    lines += [f"ec_status {invoke_name(plan, entry)}({name} *m);" for entry in plan.entries]
    lines.append("")
    for entry, kind, i, port in _ports(plan):
        c_type = C_TYPE[port.type.dtype]
        lines.append(f"{c_type} *{name}_{port_name(plan, entry, kind, i)}({name} *m);")
    lines.append("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n")
    return "\n".join(lines)


def _port_constants(stem: str, port: PlanPort) -> list[str]:
    dims = ", ".join(str(d) for d in port.type.dims)
    axes = ",".join(str(a) for a in port.port.axes)
    lines = [
        f"#define {stem}_SIZE {port.type.size} /* elements of [{dims}]; its axes are PyTorch's {axes} */"
    ]
    if port.type.quant is not None:
        scale, zero = port.type.quant.per_tensor
        lines += [f"#define {stem}_SCALE {literal(float(scale))}", f"#define {stem}_ZERO ({zero})"]
    return lines


def accessors(plan: Plan, pointer_of: dict[str, str]) -> str:
    """The accessors' bodies for model.c; `pointer_of` maps a buffer's name to its C expression."""
    name = prefix(plan)
    lines = []
    for entry, kind, i, port in _ports(plan):
        c_type = C_TYPE[port.type.dtype]
        lines.append(f"{c_type} *{name}_{port_name(plan, entry, kind, i)}({name} *m)\n{{")
        lines.append(f"    return {pointer_of[port.buffer]};\n}}\n")
    return "\n".join(lines)


def descriptor(plan: Plan) -> str:
    """model_desc.c: static arenas, one instance and the tables of ec_model_desc (runtime_c/include/edgec.h)."""
    name = prefix(plan)
    lines = ['#include <stddef.h>\n\n#include "edgec.h"\n#include "model.h"\n']
    for a in plan.arenas:
        memory = identifier(a.memory)
        lines.append(
            f"EC_ARENA({memory}) EC_ALIGN({ARENA_ALIGN}) static uint8_t arena_{memory}[{max(a.bytes, 1)}];"
        )
    lines.append(f"static {name} instance;\n")
    arenas = "".join(f", arena_{identifier(a.memory)}" for a in plan.arenas)
    lines.append(f"static ec_status init(void *p)\n{{\n    return {name}_init(({name} *)p{arenas});\n}}\n")
    for entry, kind, i, _ in _ports(plan):
        port = port_name(plan, entry, kind, i)
        lines.append(f"static void *{port}(void *p)\n{{\n    return {name}_{port}(({name} *)p);\n}}\n")
    entries = []
    for entry in plan.entries:
        stem = identifier(entry.name)
        lines.append(f"static ec_status invoke_{stem}(void *p)\n{{")
        lines.append(f"    return {invoke_name(plan, entry)}(({name} *)p);\n}}\n")
        for kind, ports in (("input", entry.inputs), ("output", entry.outputs)):
            names = [port_name(plan, entry, kind, i) for i in range(len(ports))]
            rows = [f'    {{"{n}", {n}, {p.type.bytes}u}},' for n, p in zip(names, ports, strict=True)]
            lines += [
                f"static const ec_port_desc {kind}s_{stem}[] = {{",
                *(rows or ["    {NULL, NULL, 0u},"]),
                "};\n",
            ]
        counts = f"{len(entry.inputs)}u, {len(entry.outputs)}u"
        entries.append(f'    {{"{stem}", invoke_{stem}, inputs_{stem}, outputs_{stem}, {counts}}},')
    lines += ["static const ec_entry_desc entries[] = {", *entries, "};\n"]
    rows = [
        f'    {{"{identifier(a.memory)}", arena_{identifier(a.memory)}, {max(a.bytes, 1)}u}},'
        for a in plan.arenas
    ]
    lines += ["static const ec_arena_desc arenas[] = {", *(rows or ['    {"none", NULL, 0u},']), "};\n"]
    counts = f"{len(plan.entries)}u,\n    {len(plan.arenas)}u"
    lines.append(
        f'const ec_model_desc ec_model = {{\n    "{identifier(plan.name)}", init, &instance, sizeof(instance), '
        f"entries, arenas, {counts},\n}};\n"
    )
    return "\n".join(lines)
