"""Every CUDA kernel compiles for sm_87 and sm_90 without spills: the cases of tests/cuda, no GPU needed.

Each record's first cases are planned for orin and h200, so that the tiles chosen for both are compiled.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import cuda_harness
import pytest

from edgec.backends import cuda, cuda_blocks_s8, kernels_cuda, kernels_cuda_wide_attention
from edgec.backends.cuda_tiles import HOPPER
from edgec.cuda import build as cuda_build
from edgec.errors import TargetError
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_blocks import join_blocks
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.memory import plan_memory
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target
from tests import inverted_residuals

FOLDER = Path(__file__).parent / "cuda"
EACH = 3  # cases of a record
HOPPER_ALONE = {k.symbol for k in kernels_cuda_wide_attention.KERNELS} | {
    "ec_cached_attention_few_cuda",
    "ec_linear_w4_wgmma_cuda",
    "ec_linear_w4_stream_cuda",
}
SPILLING = re.compile(r"spills (\d+) bytes")  # a source that states its spills


def by_record() -> dict[str, list[cuda_harness.Case]]:
    """A few cases of each record that the tests name, of different element types where there are."""
    found: dict[str, list[cuda_harness.Case]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        module = cuda_harness.module_of(path)
        for case in module.cases() if hasattr(module, "cases") else ():
            mine = found.setdefault(case.symbol, [])
            kinds = {tuple(t.dtype for t in c.in_types) for c in mine}
            if len(mine) < EACH or tuple(t.dtype for t in case.in_types) not in kinds:
                mine.append(case)
    return found


CASES = by_record()


def pairs() -> list[Any]:
    """(record, target), for both chips. Pointwise loops are one body with another expression each: the second chip is
    for `make test-all`."""
    symbols = sorted(CASES) if cuda_harness.nvcc_is_here() else ["every record"]
    return [
        pytest.param(s, name, marks=(pytest.mark.slow,) if s.startswith("ec_pw_") and name == "h200" else ())
        for name in ("orin", "h200")
        for s in symbols
    ]


@pytest.mark.skipif(
    not cuda_harness.nvcc_is_here(), reason="LEFT OUT, nothing compiled for GPUs: nvcc is not installed"
)
@pytest.mark.parametrize(("symbol", "name"), pairs())
def test_a_record_compiles_without_spills(symbol: str, name: str, tmp_path: Path) -> None:
    target = load_target(name)
    assert target.gpu is not None
    if symbol in HOPPER_ALONE and target.gpu.compute != HOPPER:
        with pytest.raises(TargetError, match="EDGEC-E402"):
            cuda_harness.lowered(CASES[symbol], target)
        return
    plan = cuda_harness.lowered(CASES[symbol], target)
    cuda_harness.write(tmp_path / "a", plan, target)
    units = sorted((tmp_path / "a" / "src" / "units").glob("*.cu"))
    cuda_build.compile_units(tmp_path / "a" / "src", units, tmp_path, target.gpu.compute)
    stated = {int(n) for u in units for n in SPILLING.findall(u.read_text(encoding="utf-8"))}
    for unit in units:
        spilled = cuda_build.usage(tmp_path / f"{unit.stem}.cubin").spilled_bytes
        assert spilled == 0 or spilled in stated, unit.stem


def test_every_record_has_cases() -> None:
    named = {k.symbol for k in kernels_cuda.KERNELS if k.source}
    assert named - set(CASES) == set()


def test_every_source_has_a_record() -> None:
    sources = {f"cuda/{p.name}" for p in (ROOT / "cuda").glob("*.cu")}
    assert sources == {k.source for k in (*kernels_cuda.KERNELS, *cuda_blocks_s8.KERNELS) if k.source}


@pytest.mark.skipif(
    not cuda_harness.nvcc_is_here(), reason="LEFT OUT, nothing compiled for GPUs: nvcc is not installed"
)
def test_joined_inverted_residuals_compile_without_spills(tmp_path: Path) -> None:
    target = load_target("h200")
    plan = join_epilogues(choose_kernels(inverted_residuals.program(), target, kernels_cuda.KERNELS, "cases"))
    plan = plan_memory(join_blocks(plan, partial(cuda_blocks_s8.find_blocks, target=target)), target)
    cuda_harness.write(tmp_path / "a", plan, target)
    units = sorted((tmp_path / "a" / "src" / "units").glob("*.cu"))
    assert {u.stem.rpartition("_s8")[0] for u in units} == {
        *("ec_inverted", "ec_expanded", "ec_squeeze", "ec_gated")
    }
    cuda_build.compile_units(tmp_path / "a" / "src", units, tmp_path, 90)
    assert all(cuda_build.usage(tmp_path / f"{u.stem}.cubin").spilled_bytes == 0 for u in units)


def test_the_checksum_is_that_of_the_c_code() -> None:
    import numpy as np

    pieces = ((0, np.arange(5, dtype=np.uint8)), (256, np.arange(3, dtype=np.float32)))
    words = np.zeros(34, np.uint64)
    words.view(np.uint8)[:5] = np.arange(5)
    words.view(np.uint8)[256:268] = np.arange(3, dtype=np.float32).view(np.uint8)
    assert cuda.checksum(pieces) == sum(int(w) * (2 * i + 1) for i, w in enumerate(words)) % 2**64
