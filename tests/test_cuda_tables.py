"""What the tables of a GPU artifact say of shared memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgec.backends.cuda_tables import shared_percent
from edgec.plan import Grid
from edgec.targets.load import load_target

STREAM = Grid("ec_linear_w4_stream_body", (), (132, 1, 1), 256)
PLAIN = Grid("ec_copy_body", (), (1, 1, 1), 128)
CACHED = Grid("ec_depthwise_conv2d_body", (), (1, 1, 1), 128, cached=True)


def tables(target: str, entries: int, *grids: Grid) -> Any:
    launches = {("infer", str(i)): [(f"k{i}", grid)] for i, grid in enumerate(grids)}
    return SimpleNamespace(
        target=load_target(target), plan=SimpleNamespace(entries=[None] * entries), launches=launches
    )


@pytest.mark.parametrize(
    ("target", "entries", "grids", "percent"),
    [
        ("h200", 1, (PLAIN, PLAIN), 100),
        ("h200", 1, (PLAIN, *[CACHED] * 2), 50),  # windows through L1
        ("h200", 1, (*[PLAIN] * 20, CACHED), 100),  # too few of them
        ("h200", 3, (PLAIN, CACHED), 0),  # several entries: the driver
        ("h200", 3, (PLAIN, STREAM), 100),  # which takes all of it
        ("orin", 1, (PLAIN, PLAIN), 0),  # kernels do not overlap
        ("orin", 3, (PLAIN, STREAM), 0),
    ],
)
def test_one_part_of_shared_memory_for_all_kernels(
    target: str, entries: int, grids: tuple[Grid, ...], percent: int
) -> None:
    assert shared_percent(tables(target, entries, *grids)) == percent
