"""Lowering to Plans, their text form and their verifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from plan_cases import (
    F64,
    KERNELS,
    Net,
    board,
    chain,
    counter,
    kernel,
    lowered,
    mobile_net,
    residual,
    swap,
    two_entries,
    views_case,
)

from edgec.build import Builder
from edgec.errors import TargetError, UserError
from edgec.ir import Bound, DType, Program, Type
from edgec.ops.conv2d import Conv2dAttrs
from edgec.passes.memory import plan_memory
from edgec.passes.stream import stream
from edgec.plan import BufferArg, ConstantArg, Plan, Stream, Use
from edgec.plan_text import arena_map, arrays_of, read_plan, show_plan
from edgec.verify_plan import PlanError, verify_plan

BIG = board(("sram", 1 << 20, 1))
CASES: dict[str, Callable[[], Program]] = {
    "chain": lambda: chain("relu", "exp"),
    "residual": residual,
    "counter": counter,
    "swap": swap,
    "two entries": two_entries,
    "views": views_case,
    "mobile net": mobile_net,
}


def planned(program: Program) -> Plan:
    return plan_memory(stream(lowered(program), BIG, None, "all"), BIG)


@pytest.mark.parametrize("case", CASES)
def test_every_case_passes_the_verifier(case: str) -> None:
    verify_plan(planned(CASES[case]()), BIG)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_reads_back_from_its_text(case: str) -> None:
    plan = planned(CASES[case]())
    text = show_plan(plan)
    again = read_plan(text, KERNELS, arrays_of(plan))
    assert show_plan(again) == text
    assert (again.entries, again.buffers, again.arenas) == (plan.entries, plan.buffers, plan.arenas)


def test_text_that_is_no_plan_names_the_line() -> None:
    text = show_plan(planned(chain("relu"))).replace("align 16", "align x", 1)
    with pytest.raises(UserError, match=r"correct line 3 .* expected an integer"):
        read_plan(text, KERNELS, {})


def test_arena_map_lists_offset_size_and_life() -> None:
    shown = arena_map(planned(chain("relu", "exp")))
    assert shown.splitlines()[0] == "sram: 512 bytes, 0 of them persistent"
    assert "          0 ..       256        256 B  infer -1..1    input      x" in shown.splitlines()


def test_the_accepting_kernel_of_lowest_rank_is_chosen() -> None:
    slow, fast = kernel("exp", rank=9), kernel("exp", rank=3)
    refusing = replace(kernel("exp", rank=1), accepts=lambda view, target: False)
    (call,) = lowered(chain("exp"), (slow, refusing, fast)).entries[0].calls
    assert call.kernel is fast


def test_all_nodes_without_kernel_are_named_with_layers_and_lines() -> None:
    with pytest.raises(TargetError) as caught:
        lowered(chain("exp", "relu", "neg"), (kernel("relu"),))
    assert str(caught.value) == (
        "EDGEC-E402: replace these layers, or compile with --precision fp32 or for another target: testboard has "
        "no kernel for 2 nodes (see `edgec ops`)\n"
        "  exp(f32[64]) at net.exp (net.py:1)\n"
        "  neg(f32[64]) at net.neg (net.py:3)"
    )
    assert caught.value.exit_code == 4


def test_reshape_and_outermost_slice_are_aliases_without_a_call() -> None:
    plan = lowered(views_case())
    assert [c.op for c in plan.entries[0].calls] == ["exp", "exp"]
    assert [(plan.buffer(n).inside, plan.buffer(n).at) for n in ("flat", "tail")] == [("x", 0), ("x", 128)]


def test_batch_is_unrolled_into_one_call_an_image() -> None:
    net = Builder("infer")
    x = net.input("x", Type((3, 4, 4, 2), DType.F32))
    w = net.constant(np.ones((3, 1, 1, 2), np.float32), "w")
    net.output(net.call("conv2d", x, w, attrs=Conv2dAttrs(), name="y"), "y")
    calls = lowered(net.program()).entries[0].calls
    assert [c.name for c in calls] == ["y.n0", "y.n1", "y.n2"]
    assert [c.inputs for c in calls] == [(BufferArg("x", 128 * n),) for n in range(3)]
    assert [c.outputs for c in calls] == [(BufferArg("y", 192 * n),) for n in range(3)]


def test_a_weight_with_as_many_outputs_as_images_is_not_split() -> None:
    net = Builder("infer")
    x = net.input("x", Type((3, 4, 4, 2), DType.F32))
    w = net.input("w", Type((3, 1, 1, 2), DType.F32))
    net.output(net.call("conv2d", x, w, attrs=Conv2dAttrs()), "y")
    assert [c.inputs[1] for c in lowered(net.program()).entries[0].calls] == [BufferArg("w")] * 3


def test_equal_constants_are_stored_once() -> None:
    net = Builder("infer")
    x = net.input("x", Type((1, 4, 4, 2), DType.F32))
    w = net.constant(np.ones((2, 1, 1, 2), np.float32), "w")
    net.output(net.call("conv2d", net.call("conv2d", x, w, attrs=Conv2dAttrs()), w, attrs=Conv2dAttrs()), "y")
    assert len(lowered(net.program()).constants) == 1


def test_a_constant_operand_can_be_passed_as_a_pointer() -> None:
    net = Net("infer")
    x = net.input("x", F64)
    net.output(net.op("add", x, net.constant(np.ones(64, np.float32), "one")), "y")
    plan = plan_memory(lowered(net.program()), BIG)
    assert plan.entries[0].calls[0].inputs[1] == ConstantArg("one")
    verify_plan(plan, BIG)


def test_a_constant_output_is_copied_out_at_the_end() -> None:
    net = Net("infer")
    net.input("x", F64)
    net.output(net.constant(np.ones(64, np.float32), "one"), "y")
    plan = plan_memory(lowered(net.program()), BIG)
    assert plan.entries[0].updates == (("out.one", "@one", 256),)
    verify_plan(plan, BIG)


def test_an_input_that_is_an_output_keeps_its_buffer_to_the_end() -> None:
    net = Net("infer")
    x = net.input("x", F64)
    net.output(x, "same")
    net.output(net.op("relu", x), "y")
    plan = plan_memory(lowered(net.program()), BIG)
    assert plan.entries[0].outputs[0].buffer == "x"
    assert plan.buffer("relu").inside is None
    verify_plan(plan, BIG)


def test_a_state_that_is_an_output_shows_its_content_before_the_update() -> None:
    program = counter()
    graph = replace(program.graphs[0], outputs=("$count",))
    plan = plan_memory(lowered(replace(program, graphs=(graph,))), BIG)
    assert plan.entries[0].updates == (("out.count", "state.count", 256), ("state.count", "add", 256))
    verify_plan(plan, BIG)


def edited(plan: Plan, name: str, **fields: object) -> Plan:
    buffers = tuple(replace(b, **fields) if b.name == name else b for b in plan.buffers)  # type: ignore[arg-type]
    return replace(plan, buffers=buffers)


def two_buffers() -> Plan:
    return planned(chain("exp"))


def overwritten() -> Plan:
    """add(relu(x), x) with all three in one place."""
    plan = edited(planned(residual()), "add", inside="x", offset=0)
    return edited(plan, "relu", inside="x", offset=0)


BROKEN: dict[str, tuple[int, Callable[[], Plan]]] = {
    "a call names a buffer that is not there": (
        1, lambda: replace(two_buffers(), buffers=two_buffers().buffers[:1]),
    ),
    "two buffers have one name": (1, lambda: replace(two_buffers(), buffers=two_buffers().buffers[:1] * 2)),
    "a buffer is not aligned": (2, lambda: edited(two_buffers(), "exp", offset=8)),
    "a buffer ends beyond its arena": (2, lambda: edited(two_buffers(), "exp", offset=1024)),
    "an alias ends beyond its root": (3, lambda: edited(planned(chain("relu", "exp")), "relu", at=16, offset=16)),
    "an alias outlives its root": (3, lambda: edited(planned(chain("relu")), "x", last=0)),
    "two live buffers share bytes": (4, lambda: edited(two_buffers(), "exp", offset=0)),
    "an activation lies in the persistent section": (
        4, lambda: edited(planned(counter(True)), "late", offset=0, inside=None),
    ),
    "a buffer is read after its end": (5, lambda: edited(planned(chain("exp", "exp")), "exp", last=0)),
    "an operand is overwritten before its last reader": (
        6, lambda: edited(overwritten(), "x", last=2, offset=0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_the_verifier_names_the_invariant_that_is_broken(case: str) -> None:
    invariant, make = BROKEN[case]
    with pytest.raises(PlanError) as caught:
        verify_plan(make(), BIG)
    assert caught.value.invariant == invariant, caught.value


def test_a_kernel_of_another_op_breaks_invariant_9() -> None:
    plan = two_buffers()
    entry = plan.entries[0]
    call = replace(entry.calls[0], kernel=kernel("neg"))
    with pytest.raises(PlanError, match="plan invariant 9"):
        verify_plan(replace(plan, entries=(replace(entry, items=(call,)),)), BIG)


def test_a_result_over_an_operand_of_a_kernel_that_is_not_in_place_breaks_invariant_7() -> None:
    plan = edited(edited(two_buffers(), "exp", inside="x", offset=0), "x", last=1, offset=0)
    with pytest.raises(PlanError, match="plan invariant 7"):
        verify_plan(plan, BIG)


def test_streamed_plan_has_rings_in_its_buffers() -> None:
    plan = planned(mobile_net())
    names = {name for item in plan.entries[0].items if isinstance(item, Stream) for name, _ in item.rings}
    assert names == {b.name for b in plan.buffers if b.use is Use.RING}


def test_the_count_of_a_bounded_tensor_lives_as_long_as_the_tensor_is_used() -> None:
    net = Net("infer")
    count = net.input("count", Type((), DType.I32))
    x = net.input("x", Type((Bound(count, 64),), DType.F32))
    net.output(net.op("exp", net.op("exp", x, name="a"), name="b"), "y")
    plan = plan_memory(lowered(net.program()), BIG)
    assert (plan.buffer("count").first, plan.buffer("count").last) == (-1, 1)
    assert plan.buffer("a").bytes == 256
    verify_plan(plan, BIG)
    assert read_plan(show_plan(plan), KERNELS, {}).entries == plan.entries
