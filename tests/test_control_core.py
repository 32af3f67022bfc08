"""The C library of the control loop: built once, or the compiler's refusal is told."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from edgec.control import core
from edgec.errors import TargetError


def test_a_compiler_that_refuses_is_named(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    with pytest.raises(TargetError) as caught:
        core.build(tmp_path / "loop.so", ("-std=c11", "-Werror", "-Dec_loop_end="))
    first, _, rest = str(caught.value).partition("\n")
    assert first == f"EDGEC-E861: check the C compiler {compiler}: it refuses the control loop"
    assert "error" in rest and not list(tmp_path.iterdir())


def test_python_and_c_agree_on_the_structures(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    names = {
        "ec_axis": core.CAxis,
        "ec_delay_config": core.CDelayConfig,
        "ec_control_config": core.CConfig,
        "ec_observation": core.CObservation,
        "ec_request": core.CRequest,
        "ec_tick_result": core.CTick,
        "ec_counts": core.CCounts,
        "ec_histogram": core.CHistogram,
    }
    checks = "\n".join(f'_Static_assert(sizeof({c}) == {ctypes.sizeof(p)}, "{c}");' for c, p in names.items())
    offsets = "\n".join(
        f'_Static_assert(offsetof({c}, {field}) == {getattr(p, field).offset}, "{c}.{field}");'
        for c, p in names.items()
        for field, *_ in p._fields_
    )
    source.write_text(f'#include "ec_control.h"\n{checks}\n{offsets}\n', encoding="utf-8")
    core.build(tmp_path / "sizes.so", (*core.FLAGS, f"-I{core.sources()[0].parent}", str(source)))
