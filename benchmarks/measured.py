"""What a compiled model takes as a process of its own on this computer (Linux).

The high-water mark is /proc/self/status's VmHWM: unlike getrusage's it forgets the process that started this one.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from host_model import HostModel

from edgec.runtime_c import ROOT

_MAIN = """#include <stdint.h>
#include <stdio.h>
#include "model.h"

static uint8_t arena[{arena}] __attribute__((aligned(64)));
static edgec_model model;

int main(void)
{{
    int status = (int)edgec_model_init(&model, arena);
    for (int i = 0; i < 3 && status == 0; i++) {{
        status = (int)edgec_model_{invoke}(&model);
    }}
    FILE *file = fopen("/proc/self/status", "r");
    for (int c = file != NULL ? fgetc(file) : EOF; c != EOF; c = fgetc(file)) {{
        putchar(c);
    }}
    return file == NULL || status != 0;
}}
"""


def high_water_bytes(status: str) -> int:
    """The most bytes that were resident, by the text of /proc/self/status."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    assert found is not None, status
    return 1024 * int(found[1])


def process_bytes(model: HostModel, invoke: str, folder: Path) -> int:
    """The most bytes resident in a process that calls the function `invoke` three times, on zeros. `folder`: the
    model's."""
    (arena,) = model.plan.arenas
    source, program = folder / "main.c", folder / "main"
    source.write_text(_MAIN.format(arena=arena.bytes, invoke=invoke), encoding="utf-8")
    include = [f"-I{p}" for p in (folder / "src", ROOT / "include")]
    library = [str(folder / "model.so"), f"-Wl,-rpath,{folder}"]
    subprocess.run(
        ["gcc", "-std=c99", "-O2", *include, str(source), *library, "-o", str(program)], check=True
    )
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    return high_water_bytes(done.stdout)
