"""What the firmware that learns (runtime_c/ports/train_main.c) is compiled with: sizes in model_train.h, and in
model_train.c the functions of model.h and model_store.h under names that are the same for every network."""

from __future__ import annotations

from typing import Final

from edgec.backends.c_learning import saved_bytes
from edgec.backends.c_names import Names, names_of
from edgec.plan import Entry, Plan
from edgec.training.learned import Learned
from edgec.training.options import CORRECT, EVALUATE, LABEL, TRAIN_STEP

PAYLOAD_BYTES: Final = (128, 1024)  # least and most of a frame; the firmware holds two
SECTORS: Final = 2
_SECTOR_BYTES: Final = 4096
_RECORD_BYTES: Final = 256  # what the store puts round a payload, at most
_HASH_BYTES: Final = 8


def emit(plan: Plan, learned: Learned) -> dict[str, str]:
    """{path below the artifact: text}."""
    names = names_of(plan)
    return {"src/model_train.h": _header(names, learned), "src/model_train.c": _functions(names)}


def _entry(plan: Plan, name: str) -> Entry:
    (found,) = [e for e in plan.entries if e.name == name]
    return found


def _header(names: Names, learned: Learned) -> str:
    plan, upper = names.plan, names.prefix.upper()
    ports = _entry(plan, TRAIN_STEP).inputs
    sample = sum(p.type.bytes for p in ports if p.port.label != LABEL)
    label = sum(p.type.bytes for p in ports if p.port.label == LABEL)
    least, most = PAYLOAD_BYTES
    payload = max(least, min(most, sample + label))
    sector = -(-(saved_bytes(names) + _RECORD_BYTES) // _SECTOR_BYTES) * _SECTOR_BYTES
    rows = {
        "EC_TRAIN_NAME": f'"{names.prefix.removeprefix("edgec_")}"',
        "EC_TRAIN_GRAPH_HASH": f"{upper}_GRAPH_HASH_BYTES",
        "EC_TRAIN_LAYOUT_HASH": f"{upper}_LAYOUT_HASH_BYTES",
        "EC_TRAIN_GRAPH_WORD": f"{upper}_GRAPH_HASH",
        "EC_TRAIN_LAYOUT_WORD": f"{upper}_LAYOUT_HASH",
        "EC_TRAIN_INPUT_BYTES": f"{sample}u",
        "EC_TRAIN_LABEL_BYTES": f"{label}u",
        "EC_TRAIN_OUTPUT_BYTES": f"{sum(p.type.bytes for p in _entry(plan, 'infer').outputs)}u",
        "EC_TRAIN_WEIGHT_BYTES": f"{upper}_SAVED_BYTES",
        "EC_TRAIN_CLASSES": f"{learned.classes}u",
        "EC_LINK_BUFFER_BYTES": f"({payload}u + EC_LINK_FRAME_BYTES)",
        "EC_FLASH_SECTORS": f"{SECTORS}u",
        "EC_FLASH_SECTOR_BYTES": f"{sector}u",
    }
    width = max(map(len, rows))
    defines = "\n".join(f"#define {name:<{width}} {value}" for name, value in rows.items())
    return f"""#ifndef MODEL_TRAIN_H
#define MODEL_TRAIN_H

#include "model.h"

/*
 * What crosses the link and what is saved; buffers of the link; the flash where a port has none of its own. The
 * build says how many samples the replay buffer holds.
 */
{defines}
#ifndef EC_REPLAY_SAMPLES
#define EC_REPLAY_SAMPLES 0
#endif

#endif
"""


def _functions(names: Names) -> str:
    name = names.prefix
    entries = [e.name for e in names.plan.entries]
    numbers = [
        f"    {entries.index('infer')}u, {entries.index(TRAIN_STEP)}u, {entries.index(EVALUATE)}u,",
        f"    {_label(names, TRAIN_STEP)}u, {_label(names, EVALUATE)}u,",
    ]
    lines = [
        '#include "ec_learner.h"\n#include "model_store.h"\n\n#include <stddef.h>\n#include <string.h>\n',
        f"static {name} *model(void)\n{{\n    return ({name} *)ec_model.instance;\n}}\n",
        "const ec_learner_entries ec_learner = {",
        *numbers,
        "};\n",
        _labelled(names, TRAIN_STEP),
        _labelled(names, EVALUATE),
        _call(name, "ec_status", "set_rate", "set_learning_rate", "float rate", ", rate"),
        _call(name, "float", "rate", "learning_rate", "void", ""),
        _call(name, "uint32_t", "steps", "steps", "void", ""),
        _call(name, "ec_status", "reset", "reset", "void", ""),
    ]
    parameters, arguments = "uint32_t offset, void *data, uint32_t bytes", ", offset, data, bytes"
    lines += [
        _call(name, "ec_status", "saved_read", "saved_read", parameters, arguments),
        _call(name, "ec_store_status", "save", "save", "ec_store *store", ", store"),
        _call(name, "ec_store_status", "load", "load", "const ec_store *store", ", store"),
    ]
    return "\n".join(lines)


def _label(names: Names, entry: str) -> int:
    return [p.port.label for p in _entry(names.plan, entry).inputs].index(LABEL)


def _call(name: str, kind: str, own: str, theirs: str, parameters: str, arguments: str) -> str:
    return f"{kind} ec_learner_{own}({parameters})\n{{\n    return {name}_{theirs}(model(){arguments});\n}}\n"


def _labelled(names: Names, entry: str) -> str:
    """train_step or evaluate on what stands in place. The label may come from any address, so bytes are copied."""
    ports = _entry(names.plan, entry)
    (label,) = [
        one
        for one in names.ports
        if one.entry is ports and one.kind == "input" and one.port.port.label == LABEL
    ]
    counted = any(p.port.label == CORRECT for p in ports.outputs)
    arguments = ", ".join(
        ["model()", *("NULL" for _ in ports.inputs), "loss", *(["correct"] if counted else [])]
    )
    return (
        f"ec_status ec_learner_{entry}(const void *label, float *loss, int32_t *correct)\n{{\n"
        f"    *correct = 0;\n    memcpy({names.prefix}_{label.name}(model()), label, {label.port.type.bytes}u);\n"
        f"    return {names.prefix}_{entry}({arguments});\n}}\n"
    )
