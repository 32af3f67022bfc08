"""Inverted residuals that become fewer calls: which do, which do not, and what the joined calls hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgec.backends import cuda_blocks_s8
from edgec.backends.cuda_blocks_s8 import find_blocks
from edgec.backends.cuda_inverted_s8 import BLOCK_AT, Layout, Shape, choose, constants_of, layout, shares
from edgec.backends.kernels_cuda import KERNELS
from edgec.ir import Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_blocks import join_blocks
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.memory import plan_memory
from edgec.plan import Plan, Target
from edgec.plan_text import arrays_of, read_plan, show_plan
from edgec.targets.load import load_target
from edgec.verify_plan import verify_plan
from tests.inverted_residuals import CASES, program

H200, ORIN = load_target("h200"), load_target("orin")
PROGRAM = program()


def unjoined(network: Program, target: Target = H200) -> Plan:
    return join_epilogues(choose_kernels(network, target, KERNELS, "model"))


def joined(network: Program, target: Target = H200) -> Plan:
    plan = join_blocks(unjoined(network, target), partial(find_blocks, target=target))
    verify_plan(plan_memory(plan, target), target)
    return plan


def one(label: str) -> Program:
    """The program of one case."""
    (place,) = (i for i, c in enumerate(CASES) if c.label == label)
    return replace(PROGRAM, graphs=PROGRAM.graphs[place : place + 1])


def ops(plan: Plan) -> Sequence[str]:
    return [c.op for c in plan.entries[0].calls]


def test_every_case_becomes_its_calls() -> None:
    plan = joined(PROGRAM)
    assert [len(e.calls) for e in plan.entries] == [c.calls for c in CASES]
    assert sum(c.macs for e in plan.entries for c in e.calls) == sum(
        c.macs for e in unjoined(PROGRAM).entries for c in e.calls
    )


def test_a_joined_plan_reads_back() -> None:
    plan = joined(one("gated"))
    again = read_plan(show_plan(plan), (*KERNELS, *cuda_blocks_s8.KERNELS), arrays_of(plan))
    assert again.entries == plan.entries


def test_a_gpu_without_clusters_keeps_its_calls() -> None:
    plan = unjoined(PROGRAM, ORIN)
    assert join_blocks(plan, partial(find_blocks, target=ORIN)) is plan


@pytest.mark.parametrize("value", ["a", "d"])
def test_a_map_that_is_an_output_too_stays(value: str) -> None:
    network = one("stride 2")
    graph = network.graphs[0]
    port = replace(graph.output_ports[0], ref=value, label=value)
    both = replace(graph, outputs=(*graph.outputs, value), output_ports=(*graph.output_ports, port))
    made = joined(replace(network, graphs=(both,)))
    assert len(made.entries[0].calls) == {"a": 2, "d": 3}[value]


def test_constants_that_only_the_old_calls_read_go() -> None:
    plan = joined(one("gated"))
    assert ops(plan) == ["expanded_depthwise", "squeeze_excite", "gated_conv2d"]
    assert sorted(c.layout for c in plan.constants) == ["s8_inverted"] * 3
    assert {b.name for b in plan.buffers} - {"counters"} == {"x", "dd", "dd.sums", "gg", "y"}


SHAPES = (
    Shape(1, 14, 14, 96, 576, 14, 14, 96, 3, 1, True),
    Shape(1, 7, 7, 192, 1152, 7, 7, 0, 5, 1, True),
    Shape(1, 1, 784, 240, 240, 1, 784, 40, 0, 1, False),
    Shape(3, 33, 17, 24, 24, 17, 9, 16, 3, 2, False),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_shared_memory_of_every_share_holds_all_without_overlap(shape: Shape) -> None:
    assert H200.gpu is not None
    for share in shares(shape):
        found: Layout = layout(shape, share)
        constants = constants_of(shape, share)
        ends = [found.at[name] + size for name, size in constants]
        starts = [found.at[name] for name, _ in constants]
        assert starts == sorted(starts) and all(a <= b for a, b in zip(ends, starts[1:], strict=False))
        assert starts[0] == BLOCK_AT and ends[-1] <= BLOCK_AT + found.block <= found.bytes
        assert all(at % 128 == 0 and at <= found.bytes for at in found.at.values())
        assert share.parts * share.blocks * 32 >= shape.hidden
    chosen = choose(shape, H200.gpu)
    assert chosen is not None and layout(shape, chosen).bytes <= H200.gpu.shared_bytes


def test_more_tiles_than_the_kernels_divide_exactly_are_refused() -> None:
    assert H200.gpu is not None
    shape = replace(SHAPES[0], images=2**21)
    assert choose(shape, H200.gpu) is None


def test_the_last_share_holds_zeros_where_there_are_no_channels() -> None:
    plan = joined(one("5x5, stride 2"))
    (call,) = plan.entries[0].calls
    (block,) = plan.constants
    fields = dict(call.params)
    records = int(fields["at_records1"]) - BLOCK_AT
    channels = 32 * int(fields["blocks"])
    last = block.data[-1, records : records + 18 * channels].view(np.int32).reshape(-1, 9, 4)
    absent = channels * block.data.shape[0] - int(fields["hidden"])
    assert absent == 8 and not last[-1].any() and last[: -absent // 8, :8, 1].all()
