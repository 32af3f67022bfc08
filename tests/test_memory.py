"""The memory planner: offsets against brute force, in-place results, several memories, what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plan_c import Program as Compiled
from plan_cases import MCUNET_LIKE, board, chain, lowered, mobile_net_s8, residual

from edgec import interp
from edgec.backends.kernels_c import KERNELS as TABLE
from edgec.errors import TargetError
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.fit import check_flash
from edgec.passes.memory import arena_bytes, dead_spans, live_lower_bound, plan_memory
from edgec.passes.offsets import Block, live_bound, pack
from edgec.plan import Plan, Target, Use
from edgec.verify_plan import verify_plan

RNG_GRAPHS = 600


def brute_force_height(blocks: list[Block]) -> int:
    """The least height at which every block finds an offset, by trying all offsets of all blocks in units."""
    height = live_bound(blocks, 1)
    while not _fits(blocks, [], height):
        height += 1
    return height


def _fits(blocks: list[Block], placed: list[tuple[Block, int]], height: int) -> bool:
    if len(placed) == len(blocks):
        return True
    block = blocks[len(placed)]
    rivals = [(at, at + other.bytes) for other, at in placed if block.meets(other)]
    for at in range(height - block.bytes + 1):
        free = all(at >= end or at + block.bytes <= start for start, end in rivals)
        if free and _fits(blocks, [*placed, (block, at)], height):
            return True
    return False


def random_blocks(rng: np.random.Generator, most: int, unit: int) -> list[Block]:
    """Up to 8 blocks of 1 to `most` units that live anywhere within 10 items."""
    blocks = []
    for i in range(int(rng.integers(1, 9))):
        first = int(rng.integers(0, 10))
        last = min(9, first + int(rng.integers(0, 5)))
        blocks.append(Block(f"b{i}", int(rng.integers(1, most + 1)) * unit, first, last))
    return blocks


def top(blocks: list[Block], offsets: dict[str, int]) -> int:
    return max(offsets[b.name] + b.bytes for b in blocks)


def assert_disjoint(blocks: list[Block], offsets: dict[str, int]) -> None:
    for i, a in enumerate(blocks):
        for b in blocks[i + 1 :]:
            if a.meets(b):
                assert (
                    offsets[a.name] + a.bytes <= offsets[b.name]
                    or offsets[b.name] + b.bytes <= offsets[a.name]
                )


def test_offsets_are_the_brute_force_optimum_on_random_graphs_of_up_to_8_tensors() -> None:
    rng = np.random.default_rng(1)
    for _ in range(RNG_GRAPHS):
        blocks = random_blocks(rng, most=5, unit=1)
        offsets = pack(blocks, 1)
        assert_disjoint(blocks, offsets)
        assert top(blocks, offsets) == brute_force_height(blocks), blocks


def test_aligned_offsets_are_the_optimum_of_the_rounded_sizes() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        blocks = random_blocks(rng, most=4, unit=16)
        ragged = [Block(b.name, b.bytes - int(rng.integers(0, 16)), b.first, b.last) for b in blocks]
        offsets = pack(ragged, 16)
        in_units = [Block(b.name, b.bytes // 16, b.first, b.last) for b in blocks]
        assert all(at % 16 == 0 for at in offsets.values())
        assert top(blocks, offsets) == 16 * brute_force_height(in_units)


def test_large_random_graphs_stay_disjoint_and_near_the_live_bound() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        blocks = [
            Block(f"b{i}", int(rng.integers(1, 4000)), i, i + int(rng.integers(0, 6))) for i in range(60)
        ]
        offsets = pack(blocks, 16)
        assert_disjoint(blocks, offsets)
        assert top(blocks, offsets) <= 1.15 * live_bound(blocks, 16)


def test_planning_twice_gives_the_same_plan() -> None:
    plan = lowered(residual())
    assert plan_memory(plan, board()) == plan_memory(plan, board())


def test_relu_takes_over_the_buffer_of_its_dying_operand() -> None:
    plan = plan_memory(lowered(chain("relu", "relu")), board())
    assert [b.inside for b in plan.buffers] == [None, "x", "x"]
    assert arena_bytes(plan) == 256


def test_operand_that_is_read_later_is_not_taken_over() -> None:
    plan = plan_memory(lowered(residual()), board())
    # relu reads x first, add reads it again: only add may write over it.
    assert plan.buffer("relu").inside is None
    assert plan.buffer("add").inside is not None


def test_every_planned_case_passes_the_verifier() -> None:
    for program in (chain("relu"), chain("relu", "neg"), residual()):
        verify_plan(plan_memory(lowered(program), board()), board())


def test_state_is_updated_in_place_once_its_last_reader_has_run() -> None:
    from plan_cases import counter

    plan = plan_memory(lowered(counter()), board())
    assert plan.entries[0].updates == ()
    assert plan.buffer("add").inside == "state.count"


def test_state_that_is_read_after_its_new_value_is_made_keeps_its_copy() -> None:
    from plan_cases import counter

    plan = plan_memory(lowered(counter(read_late=True)), board())
    assert plan.entries[0].updates == (("state.count", "add", 256),)


def test_swapped_states_are_saved_before_either_is_overwritten() -> None:
    from plan_cases import swap

    (entry,) = plan_memory(lowered(swap()), board()).entries
    assert [to for to, _, _ in entry.updates] == ["a.next", "b.next", "state.a", "state.b"]


def test_entries_overlap_and_state_stands_before_both() -> None:
    from plan_cases import two_entries

    plan = plan_memory(lowered(two_entries()), board())
    verify_plan(plan, board())
    (arena,) = plan.arenas
    assert arena.persistent_bytes == 256
    inputs = [b for b in plan.buffers if b.use is Use.INPUT]
    assert [b.offset for b in inputs] == [256, 256]


def test_the_buffer_with_most_accesses_lives_in_the_fastest_memory() -> None:
    plan = plan_memory(lowered(residual()), two_banks(fast=256))
    memories = {b.name: b.memory for b in plan.buffers if b.inside is None}
    assert memories == {"relu": "fast", "x": "slow"}  # relu: written, read, taken over by add, read
    verify_plan(plan, two_banks(fast=256))


def test_aliases_stay_in_the_memory_of_their_root() -> None:
    plan = plan_memory(lowered(residual()), two_banks(fast=256))
    for b in plan.buffers:
        if b.inside is not None:
            assert b.memory == plan.buffer(b.inside).memory


def test_what_fits_no_memory_is_reported_for_the_largest() -> None:
    with pytest.raises(TargetError, match=r"needs 512 bytes of RAM \(large overflows\) at layer net.relu"):
        plan_memory(lowered(residual()), board(("fast", 128, 3), ("large", 192, 2), ("slow", 64, 1)))


def test_a_net_over_two_memories_computes_what_the_interpreter_does(tmp_path: Path) -> None:
    program = mobile_net_s8(33, MCUNET_LIKE[:3])
    banks = board(("fast", 4096, 2), ("slow", 1 << 16, 1))
    plan = plan_memory(choose_kernels(program, banks, TABLE), banks)
    verify_plan(plan, banks)
    assert [a.memory for a in plan.arenas] == ["fast", "slow"]
    (graph,) = program.graphs
    x = np.random.default_rng(0).integers(-128, 128, size=graph.inputs[0].type.dims).astype(np.int8)
    expected = [y.tobytes() for y in interp.run(program, graph, {"x": x})[0].values()]
    compiled = Compiled(plan, banks, tmp_path)
    assert compiled.run({"x": x}, 0x00) == compiled.run({"x": x}, 0xA5) == expected


def two_banks(fast: int) -> Target:
    return board(("fast", fast, 3), ("slow", 4096, 1))


def test_plan_that_does_not_fit_names_peak_layer_and_largest_buffers() -> None:
    with pytest.raises(TargetError) as caught:
        plan_memory(lowered(residual()), board(("sram", 400, 1)))
    assert str(caught.value) == (
        "EDGEC-E501: testboard needs 512 bytes of sram at layer net.relu (net.py:1), 400 bytes exist (the test; "
        "0 bytes are kept for stack and data). Try --precision int8 (about 128 bytes) or a target with 512 bytes "
        "of RAM (`edgec targets`). Largest buffers: net.relu 256 bytes, x 256 bytes"
    )
    assert caught.value.exit_code == 5


def test_budget_below_the_target_is_the_limit_that_is_named() -> None:
    with pytest.raises(TargetError, match=r"400 bytes are given by --ram"):
        plan_memory(lowered(residual()), board(), 400)


def test_flash_that_does_not_fit_names_the_largest_constants() -> None:
    with pytest.raises(TargetError) as caught:
        check_flash(board(), 300 * 1024, (("fc.w", 200 * 1024), ("stem.w", 20 * 1024)), 256 * 1024)
    assert str(caught.value) == (
        "EDGEC-E502: testboard needs 300 KiB of flash, 256 KiB given by --flash. Try --precision int8 where it is "
        "fp32, a narrower network, or a target with more flash (`edgec targets`). "
        "Largest constants: fc.w 200 KiB, stem.w 20 KiB"
    )


def test_dead_bytes_and_live_bytes_make_up_the_arena() -> None:
    plan: Plan = plan_memory(lowered(residual()), board())
    spans = dead_spans(plan, "infer", "sram")
    # Before the first item only x lives; before the second x and relu; at the end only the result.
    assert [sum(s.end - s.start for s in item) for item in spans] == [256, 0, 256]


def test_arena_of_a_chain_is_its_live_bound() -> None:
    plan = plan_memory(lowered(chain("exp", "exp", "exp")), board())
    assert arena_bytes(plan) == live_lower_bound(plan, board()) == 512
