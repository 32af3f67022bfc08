"""Concats of every r-th row and column as transposes."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.interp import run
from edgec.ir import Array, Program
from edgec.passes.join_cells import join_cells
from edgec.text import read
from edgec.verify import verify


def _merging(places: list[tuple[int, int]], channels_last: bool = True) -> Program:
    lines = []
    for k, (i, j) in enumerate(places):
        lines.append(f"%r{k}: f32[1,2,6,3] = slice(%x) {{axis=1, start={i}, stop=4, step=2}}")
        lines.append(f"%c{k}: f32[1,2,3,3] = slice(%r{k}) {{axis=2, start={j}, stop=6, step=2}}")
    shape, axis = ("[1,2,3,12]", 3) if channels_last else ("[1,2,12,3]", 2)
    lines.append(f"%y: f32{shape} = concat(%c0, %c1, %c2, %c3) {{axis={axis}}}")
    return Program((read("graph g(%x: f32[1,4,6,3]) { " + "\n".join(lines) + " return %y }"),), {}, {})


def _made(program: Program, x: Array) -> Array:
    return run(program, program.graphs[0], {"x": x})[0]["y"]


@pytest.mark.parametrize("places", [[(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]])
def test_the_four_cells_of_a_patch_are_one_transpose(places: list[tuple[int, int]]) -> None:
    before = _merging(places)
    after = join_cells(before)
    verify(after)
    assert [n.op for n in after.graphs[0].nodes] == ["reshape", "transpose", "reshape"]
    x = np.arange(72, dtype=np.float32).reshape(1, 4, 6, 3)
    assert np.array_equal(_made(before, x), _made(after, x))


def test_cells_in_another_order_or_along_another_axis_stay() -> None:
    other = _merging([(1, 0), (0, 0), (0, 1), (1, 1)])
    across = _merging([(0, 0), (1, 0), (0, 1), (1, 1)], channels_last=False)
    assert join_cells(other) is other
    assert join_cells(across) is across
