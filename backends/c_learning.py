"""The C API of a network that learns: train_step, evaluate, learning rate, factory reset, and the bytes to save.

All that learning changes is the states that are saved, one after the other in the order of the Plan. Hashes tell
whose bytes they are: see edgec/training/learned.py.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.c_names import NamedPort, Names
from edgec.backends.c_state import initial
from edgec.backends.ctext import C_TYPE, identifier, wrapped
from edgec.ir import Persistence
from edgec.plan import PlanState
from edgec.training.learned import Learned
from edgec.training.options import APPLY, CORRECT, EVALUATE, LEARNING_RATE, PENDING, STEP, TRAIN_STEP

_HASH_BYTES: Final = 8
_LONGEST: Final = 40


def saved_states(names: Names) -> list[PlanState]:
    """The states whose bytes are what was learnt."""
    return [s for s in names.plan.state if s.persistence is Persistence.SAVED]


def saved_bytes(names: Names) -> int:
    """Bytes of all of them."""
    return sum(s.data.nbytes for s in saved_states(names))


def _ports(names: Names, entry: str, kind: str) -> list[NamedPort]:
    return [one for one in names.ports if one.entry.name == entry and one.kind == kind]


def _local(one: NamedPort) -> str:
    """The parameter for an input port."""
    return f"in_{identifier(one.port.port.label)[:_LONGEST]}"


def _signature(names: Names, entry: str) -> str:
    inputs = ", ".join(
        f"const {C_TYPE[one.port.type.dtype]} *{_local(one)}" for one in _ports(names, entry, "input")
    )
    correct = ", int32_t *correct" if len(_ports(names, entry, "output")) > 1 else ""
    return f"ec_status {names.prefix}_{entry}({names.prefix} *m, {inputs}, float *loss{correct})"


def declarations(names: Names, learned: Learned) -> list[str]:
    """What model.h says of learning."""
    name, upper = names.prefix, names.prefix.upper()
    lines = [
        "\n/* Learning. Inputs are in the device's own layout and type; NULL where they stand already behind the",
        " * accessors of the entry. A label outside of its classes, EC_BAD_ARGUMENT, and a loss that is not finite,",
        " * EC_NOT_FINITE, leave all as it was. */",
    ]
    if learned.classes:
        lines.append(f"#define {upper}_CLASSES {learned.classes}")
    if learned.accumulate > 1:
        lines.append("/* So many steps make one update, along their mean gradient. */")
        lines.append(f"#define {upper}_ACCUMULATE {learned.accumulate}")
    for entry in (TRAIN_STEP, EVALUATE):
        lines.append(wrapped(_signature(names, entry) + ";", ""))
    lines += [
        "/* From 0 up, else EC_BAD_ARGUMENT. */",
        f"ec_status {name}_set_learning_rate({name} *m, float rate);",
        f"float {name}_learning_rate(const {name} *m);",
        "/* Updates since the factory weights. */",
        f"uint32_t {name}_steps(const {name} *m);",
        "/* Factory weights, and all else as after init. */",
        f"ec_status {name}_reset({name} *m);",
        "\n/* All that was learnt, as bytes: store them, and write them back after init. A hash that differs says",
        " * that they belong to another network, or to another choice of what trains. */",
        f"#define {upper}_SAVED_BYTES {saved_bytes(names)}u",
    ]
    for what, digest in (("GRAPH", learned.graph_hash), ("LAYOUT", learned.layout_hash)):
        data = ", ".join(f"0x{b:02x}" for b in bytes.fromhex(digest)[:_HASH_BYTES])
        lines.append(f"#define {upper}_{what}_HASH 0x{digest[:8]}u")
        lines.append(f"#define {upper}_{what}_HASH_BYTES {{{data}}}")
    return [
        *lines,
        *(wrapped(_copy_signature(names, what) + ";", "") for what in ("saved_read", "saved_write")),
    ]


def bodies(names: Names, learned: Learned) -> list[str]:
    """The functions that `declarations` declares, for model.c."""
    return [
        *(_run(names, learned, entry) for entry in (TRAIN_STEP, EVALUATE)),
        _rate_functions(names),
        _reset(names),
        _saved_place(names),
        _saved_copy(names, "saved_read"),
        _saved_copy(names, "saved_write"),
    ]


def _buffer(names: Names, state: str) -> str:
    return names.buffers[f"state.{state}"]


def _not_ready(names: Names) -> str:
    member = next(iter(names.members.values()))
    return f"    if (m->{member} == NULL) {{\n        return EC_NOT_READY;\n    }}"


def _run(names: Names, learned: Learned, entry: str) -> str:
    """train_step or evaluate: copy in, check, run, copy out, apply where it is time."""
    inputs, outputs = _ports(names, entry, "input"), _ports(names, entry, "output")
    lines = [wrapped(_signature(names, entry), ""), "{"]
    lines.append("    if (m == NULL || loss == NULL) {\n        return EC_NULL_POINTER;\n    }")
    lines.append(_not_ready(names))
    for one in inputs:
        copy = f"memcpy({names.buffers[one.port.buffer]}, {_local(one)}, {one.port.type.bytes});"
        lines += [f"    if ({_local(one)} != NULL) {{", wrapped(copy, "        "), "    }"]
    if learned.classes:
        label = names.buffers[inputs[-1].port.buffer]
        lines += [
            f"    for (int32_t i = 0; i < {inputs[-1].port.type.size}; i++) {{",
            f"        int32_t label = ((const int32_t *){label})[i];",
            f"        if (label < 0 || label >= {learned.classes}) {{",
            "            return EC_BAD_ARGUMENT;\n        }\n    }",
        ]
    lines.append(f"    ec_status status = {names.prefix}_{names.invokes[entry]}(m);")
    lines.append("    if (status != EC_OK) {\n        return status;\n    }")
    lines.append(wrapped(f"memcpy(loss, {names.buffers[outputs[0].port.buffer]}, sizeof *loss);", "    "))
    for one in outputs:
        if one.port.port.label == CORRECT:
            copy = f"memcpy(correct, {names.buffers[one.port.buffer]}, sizeof *correct);"
            lines += ["    if (correct != NULL) {", wrapped(copy, "        "), "    }"]
    lines.append("    if (!(*loss - *loss == 0.0f)) {\n        return EC_NOT_FINITE;\n    }")
    if entry == TRAIN_STEP and learned.accumulate > 1:
        lines.append(f"    if (*(const int32_t *){_buffer(names, PENDING)} >= {learned.accumulate}) {{")
        lines.append(f"        return {names.prefix}_{names.invokes[APPLY]}(m);\n    }}")
    lines.append("    return EC_OK;\n}\n")
    return "\n".join(lines)


def _rate_functions(names: Names) -> str:
    name, rate, step = names.prefix, _buffer(names, LEARNING_RATE), _buffer(names, STEP)
    lines = [
        f"ec_status {name}_set_learning_rate({name} *m, float rate)\n{{",
        "    if (m == NULL) {\n        return EC_NULL_POINTER;\n    }",
        _not_ready(names),
        "    if (!(rate >= 0.0f) || !(rate - rate == 0.0f)) {\n        return EC_BAD_ARGUMENT;\n    }",
        f"    *(float *){rate} = rate;\n    return EC_OK;\n}}\n",
        f"float {name}_learning_rate(const {name} *m)\n{{\n    return *(const float *){rate};\n}}\n",
        f"uint32_t {name}_steps(const {name} *m)\n{{\n    return (uint32_t)*(const int32_t *){step};\n}}\n",
    ]
    return "\n".join(lines)


def _reset(names: Names) -> str:
    lines = [
        f"ec_status {names.prefix}_reset({names.prefix} *m)\n{{",
        "    if (m == NULL) {\n        return EC_NULL_POINTER;\n    }",
        _not_ready(names),
        *(initial(names, s) for s in names.plan.state),
    ]
    return "\n".join([*lines, "    return EC_OK;\n}\n"])


def _saved_place(names: Names) -> str:
    """The helper that finds byte `offset` of the saved states."""
    lines = [
        "/* Where byte `offset` of what is saved stands, and how many bytes follow it there. */",
        f"static uint8_t *saved_place(const {names.prefix} *m, uint32_t offset, uint32_t *bytes)\n{{",
    ]
    for s in saved_states(names):
        size = f"{s.data.nbytes}u"
        lines += [
            f"    if (offset < {size}) {{\n        *bytes = {size} - offset;",
            f"        return (uint8_t *){names.buffers[s.buffer]} + offset;\n    }}\n    offset -= {size};",
        ]
    return "\n".join([*lines, "    *bytes = 0u;\n    return NULL;\n}\n"])


def _copy_signature(names: Names, what: str) -> str:
    model, data = ("const ", "") if what == "saved_read" else ("", "const ")
    own = f"{model}{names.prefix} *m"
    return f"ec_status {names.prefix}_{what}({own}, uint32_t offset, {data}void *data, uint32_t bytes)"


def _saved_copy(names: Names, what: str) -> str:
    reads, total = what == "saved_read", f"{saved_bytes(names)}u"
    lines = [
        wrapped(_copy_signature(names, what), "") + "\n{",
        f"    {'' if reads else 'const '}uint8_t *at = data;",
        "    if (m == NULL || data == NULL) {\n        return EC_NULL_POINTER;\n    }",
        _not_ready(names),
        f"    if (offset > {total} || bytes > {total} - offset) {{\n        return EC_BAD_ARGUMENT;\n    }}",
        "    while (bytes > 0u) {\n        uint32_t some;",
        "        uint8_t *place = saved_place(m, offset, &some);",
        "        some = some < bytes ? some : bytes;",
        f"        memcpy({'at, place' if reads else 'place, at'}, some);",
        "        at += some;\n        offset += some;\n        bytes -= some;\n    }",
        "    return EC_OK;\n}\n",
    ]
    return "\n".join(lines)
