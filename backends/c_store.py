"""model_store.h and model_store.c: what was learnt, kept in flash by runtime_c/store, so that a power cut loses none.

They stand apart from model.c, so that a firmware without a store need not link one.
"""

from __future__ import annotations

from typing import Final

from edgec.backends.c_names import Names, names_of
from edgec.plan import Plan

COPIED: Final = 64  # bytes at a time between model and store: of the stack


def emit(plan: Plan, head: str) -> dict[str, str]:
    """{path below the artifact: text} for a Plan that learns; `head` is each file's first line."""
    names = names_of(plan)
    return {"src/model_store.h": head + _header(names), "src/model_store.c": head + _source(names)}


def _header(names: Names) -> str:
    name, upper = names.prefix, names.prefix.upper()
    return f"""#ifndef {upper}_MODEL_STORE_H
#define {upper}_MODEL_STORE_H

#include "ec_store.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {{
#endif

/* An ec_store_layout whose records are this model's, in `areas` areas of `sectors` sectors each, from sector
 * `first` on. */
#define {upper}_STORE_LAYOUT(first, sectors, areas) \\
    {{(first), (sectors), (areas), {upper}_SAVED_BYTES, {upper}_GRAPH_HASH, {upper}_LAYOUT_HASH}}

/* Saves all that was learnt: after a power cut at any moment the store holds this or what it held before. Erases
 * where it must, which takes long: an application that may not wait calls ec_store_erase_step before. */
ec_store_status {name}_save(const {name} *m, ec_store *store);

/* Brings back what was saved last. EC_STORE_EMPTY where nothing was, EC_STORE_WRONG_GRAPH and
 * EC_STORE_WRONG_LAYOUT where it is another network's or another choice of what trains: all stays as it is then.
 * Where the flash cannot be read, the factory weights are in place. */
ec_store_status {name}_load({name} *m, const ec_store *store);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(names: Names) -> str:
    name, total = names.prefix, f"{names.prefix.upper()}_SAVED_BYTES"
    return f"""#include "model_store.h"

#include <stddef.h>

#define COPIED {COPIED}u

static uint32_t part_at(uint32_t offset)
{{
    uint32_t rest = {total} - offset;
    return rest < COPIED ? rest : COPIED;
}}

ec_store_status {name}_save(const {name} *m, ec_store *store)
{{
    uint8_t part[COPIED];
    if (m == NULL || store == NULL || {name}_saved_read(m, 0, part, part_at(0)) != EC_OK) {{
        return EC_STORE_NULL_POINTER;
    }}
    ec_store_status status = EC_STORE_MORE;
    while (status == EC_STORE_MORE) {{
        status = ec_store_erase_step(store);
    }}
    if (status == EC_STORE_OK) {{
        status = ec_store_save_begin(store, {total});
    }}
    for (uint32_t at = 0; at < {total} && status == EC_STORE_OK; at += part_at(at)) {{
        (void){name}_saved_read(m, at, part, part_at(at));
        status = ec_store_save_chunk(store, part, part_at(at));
    }}
    if (status == EC_STORE_OK) {{
        return ec_store_save_commit(store);
    }}
    if (status != EC_STORE_BUSY) {{ /* a save that another has begun stays */
        ec_store_abort(store);
    }}
    return status;
}}

ec_store_status {name}_load({name} *m, const ec_store *store)
{{
    uint8_t part[COPIED];
    ec_store_record record;
    if (m == NULL || store == NULL || {name}_saved_read(m, 0, part, part_at(0)) != EC_OK) {{
        return EC_STORE_NULL_POINTER;
    }}
    ec_store_status status = ec_store_find(store, &record);
    if (status != EC_STORE_OK) {{
        return status;
    }}
    if (record.length != {total}) {{
        return EC_STORE_WRONG_LAYOUT;
    }}
    for (uint32_t at = 0; at < {total} && status == EC_STORE_OK; at += part_at(at)) {{
        status = ec_store_read(store, at, part, part_at(at));
        if (status == EC_STORE_OK) {{
            (void){name}_saved_write(m, at, part, part_at(at));
        }}
    }}
    if (status != EC_STORE_OK) {{
        (void){name}_reset(m);
    }}
    return status;
}}
"""
