"""Row streaming: which chains are formed, how high rings are, and that every row is there when it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plan_c import Program as Compiled
from plan_cases import MCUNET_LIKE, MOBILENET_V2_035, Block, board, lowered, mobile_net, mobile_net_s8

from edgec import interp
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.memory import Span, arena_bytes, live_lower_bound, plan_memory
from edgec.passes.stream import made_before, ring_rows, stream
from edgec.plan import Call, Halo, Plan, Stream, Use
from edgec.verify_plan import PlanError, verify_plan

BIG = board(("sram", 1 << 20, 1))


def planned(ram: int | None, mode: str = "auto", size: int = 32) -> Plan:
    plan = lowered(mobile_net(size))
    streamed = stream(plan, BIG, ram, "all" if mode == "all" else "auto")
    return plan_memory(streamed, BIG)


def streams(plan: Plan) -> list[Stream]:
    return [item for item in plan.entries[0].items if isinstance(item, Stream)]


def test_nothing_is_streamed_where_the_plan_fits() -> None:
    plan = lowered(mobile_net())
    assert stream(plan, BIG) is plan


def test_all_takes_the_arena_below_0_6_of_the_unstreamed_one() -> None:
    assert arena_bytes(planned(None, "all")) <= 0.6 * arena_bytes(planned(None))


def test_budget_is_met_with_fewer_row_calls_than_all() -> None:
    least, most = arena_bytes(planned(None, "all")), arena_bytes(planned(None))
    budget = (least + 3 * most) // 4
    plan = planned(budget)
    assert arena_bytes(plan) <= budget
    assert sum(len(s.calls) for s in streams(plan)) < sum(len(s.calls) for s in streams(planned(None, "all")))


@pytest.mark.parametrize("size", [16, 17, 31, 33])
def test_streamed_plans_pass_the_verifier(size: int) -> None:
    plan = planned(None, "all", size)
    assert streams(plan)
    verify_plan(plan, BIG)


def test_rings_that_are_one_row_lower_lose_rows() -> None:
    plan = planned(None, "all")
    found = 0
    for index, item in enumerate(plan.entries[0].items):
        if isinstance(item, Stream):
            for ring, rows in item.rings:
                if rows > 1:
                    with pytest.raises(PlanError) as caught:
                        verify_plan(_with_ring(plan, index, ring, rows - 1), BIG)
                    assert caught.value.invariant == 8
                    found += 1
    assert found


def _with_ring(plan: Plan, index: int, ring: str, rows: int) -> Plan:
    """The Plan with one ring claimed to hold `rows` rows, its maker agreeing."""
    entry = plan.entries[0]
    item = entry.items[index]
    assert isinstance(item, Stream)
    calls = tuple(
        replace(c, params=tuple((n, rows if n == "ring_y" else v) for n, v in c.params))
        if c.outputs[0].buffer == ring
        else c
        for c in item.calls
    )
    rings = tuple((n, rows if n == ring else r) for n, r in item.rings)
    items = (*entry.items[:index], replace(item, calls=calls, rings=rings), *entry.items[index + 1 :])
    return replace(plan, entries=(replace(entry, items=items),))


def test_residual_block_runs_in_place_of_its_input() -> None:
    plan = plan_memory(stream(lowered(mobile_net(blocks=(Block(6, 1, 8),))), BIG, None, "all"), BIG)
    verify_plan(plan, BIG)
    results = [plan.buffer(s.calls[-1].outputs[0].buffer) for s in streams(plan) if s.calls[-1].op == "add"]
    assert results
    assert all(b.inside is not None for b in results)


def test_params_of_both_sides_name_the_rows_of_their_ring() -> None:
    for item in streams(planned(None, "all")):
        for (ring, rows), maker, reader in zip(item.rings, item.calls, item.calls[1:], strict=False):
            position = [getattr(a, "buffer", None) for a in reader.inputs].index(ring)
            assert dict(maker.params)["ring_y"] == dict(reader.params)[f"ring_{position}"] == rows


def test_calls_of_a_stream_share_one_scratch() -> None:
    for item in streams(planned(None, "all")):
        assert len({c.scratch.buffer for c in item.calls if c.scratch is not None}) == 1


def test_state_and_outputs_are_never_rings() -> None:
    plan = planned(None, "all")
    assert plan.buffer(plan.entries[0].outputs[0].buffer).use is Use.OUTPUT


def test_ring_before_a_3x3_window_holds_3_rows_and_5_where_it_is_dilated() -> None:
    call = _call(Halo(3, 1, 1, 1), 10)
    assert ring_rows(call, 10) == 3
    assert ring_rows(_call(Halo(3, 1, 2, 2), 10), 10) == 5
    assert ring_rows(_call(Halo(1, 2, 0, 1), 5), 10) == 1


def test_rows_made_before_a_row_follow_from_the_windows_below() -> None:
    calls = [_call(Halo(3, 2, 1, 1), 8), _call(Halo(3, 1, 1, 1), 8), _call(Halo(1, 1, 0, 1), 8)]
    assert made_before(calls, 0) == [2, 1, 0]
    assert made_before(calls, 7) == [8, 8, 7]


def _call(halo: Halo, rows: int) -> Call:
    call = lowered(mobile_net()).entries[0].calls[0]
    return replace(call, halo=halo, rows=rows)


def test_chains_do_not_cross_a_value_that_two_calls_read() -> None:
    plan = planned(None, "all")
    for item in streams(plan):
        for maker, reader in zip(item.calls, item.calls[1:], strict=False):
            name = maker.outputs[0].buffer
            readers = [
                c for c in plan.entries[0].calls if name in [getattr(a, "buffer", "") for a in c.inputs]
            ]
            assert readers == [reader]


def drawn(seed: int) -> Program:
    """A net whose sizes, windows, strides and dilations are drawn."""
    rng = np.random.default_rng(seed)
    blocks = [
        Block(
            int(rng.integers(1, 5)),
            int(rng.integers(1, 3)),
            int(rng.choice([4, 8, 8, 12])),
            int(rng.choice([3, 5])),
            int(rng.integers(1, 3)),
        )
        for _ in range(3)
    ]
    return mobile_net_s8(int(rng.integers(17, 40)), blocks, 8, seed)


@pytest.mark.parametrize("seed", range(6))
def test_streamed_equals_unstreamed_equals_interpreter_whatever_dead_memory_holds(
    seed: int, tmp_path: Path
) -> None:
    program = drawn(seed)
    (graph,) = program.graphs
    x = np.random.default_rng(seed).integers(-128, 128, size=graph.inputs[0].type.dims).astype(np.int8)
    expected = [y.tobytes() for y in interp.run(program, graph, {"x": x})[0].values()]
    plan = choose_kernels(program, BIG, KERNELS)
    streamed = stream(plan, BIG, None, "all")
    assert streamed is not plan
    for name, one in (("whole", plan), ("rows", streamed)):
        compiled = Compiled(plan_memory(one, BIG), BIG, tmp_path / name)
        assert compiled.run({"x": x}, 0x00) == expected
        assert compiled.run({"x": x}, 0xA5) == expected


def test_filling_memory_that_is_live_changes_the_result(tmp_path: Path) -> None:
    """The control of the test above: its hook reaches the arena between items."""
    program = drawn(0)
    x = (
        np.random.default_rng(0)
        .integers(-128, 128, size=program.graphs[0].inputs[0].type.dims)
        .astype(np.int8)
    )
    plan = plan_memory(choose_kernels(program, BIG, KERNELS), BIG)
    (arena,) = plan.arenas
    all_after_first = ((), (Span(0, arena.bytes),), *((),) * (len(plan.entries[0].items) - 1))
    honest = Compiled(plan, BIG, tmp_path / "honest").run({"x": x}, 0xA5)
    assert (
        Compiled(plan, BIG, tmp_path / "wrong", {arena.memory: all_after_first}).run({"x": x}, 0xA5) != honest
    )


@pytest.mark.parametrize("blocks", [MOBILENET_V2_035, MCUNET_LIKE], ids=["mobilenet_v2_035", "mcunet_like"])
def test_a_budget_of_0_6_of_the_arena_is_met_at_96x96(blocks: tuple[Block, ...]) -> None:
    plan = choose_kernels(mobile_net_s8(96, blocks, 16), BIG, KERNELS)
    whole = arena_bytes(plan_memory(plan, BIG))
    budget = whole * 6 // 10
    streamed = plan_memory(stream(plan, BIG, budget), BIG, budget)
    verify_plan(streamed, BIG)
    assert arena_bytes(streamed) <= budget


@pytest.mark.parametrize("blocks", [MOBILENET_V2_035, MCUNET_LIKE], ids=["mobilenet_v2_035", "mcunet_like"])
@pytest.mark.parametrize("mode", ["whole", "rows"])
def test_arena_is_within_1_15_of_the_live_bytes_at_96x96(blocks: tuple[Block, ...], mode: str) -> None:
    plan = choose_kernels(mobile_net_s8(96, blocks, 16), BIG, KERNELS)
    planned = plan_memory(plan if mode == "whole" else stream(plan, BIG, None, "all"), BIG)
    assert arena_bytes(planned) <= 1.15 * live_lower_bound(planned, BIG)


def test_a_result_over_rows_that_are_still_read_breaks_the_verifier() -> None:
    plan = choose_kernels(mobile_net_s8(32, [Block(1, 1, 8)]), BIG, KERNELS)
    streamed = plan_memory(stream(plan, BIG, None, "all"), BIG)
    index, item = next((i, s) for i, s in enumerate(streamed.entries[0].items) if isinstance(s, Stream))
    taken = streamed.buffer(str(getattr(item.calls[0].inputs[0], "buffer", "")))
    result = streamed.buffer(item.calls[-1].outputs[0].buffer)
    assert result.inside == taken.name
    # Were each input row as short as an output row, the first window would be written over before it is read.
    params = tuple((n, v * 4 if n == "ring_0" else v) for n, v in item.calls[0].params)
    calls = (replace(item.calls[0], params=params), *item.calls[1:])
    entry = streamed.entries[0]
    items = (*entry.items[:index], replace(item, calls=calls), *entry.items[index + 1 :])
    with pytest.raises(PlanError, match="plan invariant 8"):
        verify_plan(replace(streamed, entries=(replace(entry, items=items),)), BIG)
