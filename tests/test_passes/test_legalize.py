"""Legalisation of splits and concats with more pieces than kernels take: before and after as graph text."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.ir import Program
from edgec.passes.legalize import PARTS_MAX, legalize
from edgec.text import read, show
from edgec.verify import verify


def program(text: str) -> Program:
    return Program((read(text),), {}, {})


def body(p: Program) -> list[str]:
    """Node lines of the only graph."""
    return [line.strip() for line in show(p.graphs[0]).splitlines()[1:-2]]


def same_numbers(before: Program, after: Program) -> None:
    verify(after)
    rng = np.random.default_rng(0)
    inputs = {
        v.name: rng.normal(size=v.type.dims).astype(np.float32) for g in before.graphs for v in g.inputs
    }
    (a, _), (b, _) = (interp.run(p, p.graphs[0], inputs) for p in (before, after))
    for x, y in zip(before.graphs[0].outputs, after.graphs[0].outputs, strict=True):
        np.testing.assert_array_equal(a[x], b[y])


def split_into(count: int) -> Program:
    outputs = ", ".join(f"%y{i}: f32[3,1]" for i in range(count))
    names = ", ".join(f"%y{i}" for i in range(count))
    sizes = ",".join(["1"] * count)
    return program(
        f"graph g(%x: f32[3,{count}]) {{ {outputs} = split(%x) {{axis=1, sizes=({sizes})}} return {names} }}"
    )


def concat_of(count: int) -> Program:
    inputs = ", ".join(f"%x{i}: f32[2,1]" for i in range(count))
    names = ", ".join(f"%x{i}" for i in range(count))
    return program(
        f"graph g({inputs}) {{ %y: f32[2,{count}] = concat({names}) {{axis=1}} return %y }}",
    )


def test_a_split_into_five_becomes_slices() -> None:
    before = split_into(5)
    after = legalize(before)
    assert body(after)[2] == "%y2: f32[3,1] = slice(%x) {axis=1, start=2, stop=3}"
    assert len(body(after)) == 5
    same_numbers(before, after)


def test_a_split_that_a_kernel_takes_stays() -> None:
    before = split_into(4)
    assert legalize(before) is before


def test_an_unbind_into_five_becomes_selects() -> None:
    before = program(
        "graph g(%x: f32[2,5]) { %a: f32[2], %b: f32[2], %c: f32[2], %d: f32[2], %e: f32[2] = unbind(%x) "
        "{axis=1} return %a, %b, %c, %d, %e }"
    )
    after = legalize(before)
    assert body(after)[4] == "%e: f32[2] = select(%x) {axis=1, index=4}"
    same_numbers(before, after)


def test_a_concat_of_nine_becomes_two_levels() -> None:
    before = concat_of(9)
    after = legalize(before)
    assert body(after) == [
        "%y.part: f32[2,8] = concat(%x0, %x1, %x2, %x3, %x4, %x5, %x6, %x7) {axis=1}",
        "%y: f32[2,9] = concat(%y.part, %x8) {axis=1}",
    ]
    same_numbers(before, after)


@pytest.mark.parametrize("count", [10, 64, 65, 70])
def test_a_concat_of_many_has_no_node_with_more_operands_than_kernels_take(count: int) -> None:
    before = concat_of(count)
    after = legalize(before)
    assert max(len(n.inputs) for n in after.graphs[0].nodes) <= PARTS_MAX
    same_numbers(before, after)


def test_a_concat_that_a_kernel_takes_stays() -> None:
    before = concat_of(8)
    assert legalize(before) is before
