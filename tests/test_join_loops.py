"""Generated pointwise calls that become one loop: which do, that they compute the same, what they save."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import plan_c
import pytest

from edgec import interp
from edgec.backends.kernels_c import KERNELS
from edgec.build import constant
from edgec.ir import Array, Port, Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_loops import MOST_STEPS, join_loops
from edgec.passes.memory import plan_memory
from edgec.passes.stream import stream
from edgec.plan import Plan, Stream
from edgec.plan_text import arrays_of, read_plan, show_plan
from edgec.targets.load import load_target
from edgec.text import read
from edgec.verify_plan import verify_plan

HOST = load_target("host")
SHAPE = "f32[1,6,5,4]"


def program(text: str, **constants: Array) -> Program:
    """Program of one graph, each of whose inputs and outputs has a port."""
    graph = read(text)
    shapes = {v.name: v.type.dims for v in (*graph.inputs, *(o for n in graph.nodes for o in n.outputs))}
    ports = {name: Port(name, name, tuple(range(len(dims)))) for name, dims in shapes.items()}
    graph = replace(
        graph,
        input_ports=tuple(ports[v.name] for v in graph.inputs),
        output_ports=tuple(ports[r] for r in graph.outputs),
    )
    return Program((graph,), {n: constant(c) for n, c in constants.items()}, {})


def lowered(p: Program) -> Plan:
    return choose_kernels(p, HOST, KERNELS, "model")


def titles(plan: Plan) -> list[str]:
    return [c.title for c in plan.entries[0].calls]


CASES = {
    "a gate": (
        f"""graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = tanh(%x) %b: {SHAPE} = sigmoid(%x)
        %c: {SHAPE} = mul(%a, %b) return %c }}""",
        ["tanh + sigmoid + mul"],
    ),
    "a clamp that is fused into a sum": (
        f"""graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = add(%x, @c) {{act=(-0.5, 0.5)}} %b: {SHAPE} = mul(%a, %a)
        %d: {SHAPE} = sub(%b, %x) {{act=(0.0, inf)}} return %d }}""",
        ["add + mul + sub"],
    ),
    "a choice by comparison": (
        """graph infer(%x: f32[3,7], %z: f32[7]) { %c: b8[3,7] = lt(%x, %z) %n: f32[3,7] = neg(%x)
        %y: f32[3,7] = where(%c, %n, %x) return %y }""",
        ["lt + neg + where"],
    ),
    "a value that two nodes read": (
        f"""graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = exp(%x) %b: {SHAPE} = neg(%a) %s: f32[1,6,5,1] =
        reduce_sum(%a) {{axes=(3,), keepdims=True}} %y: {SHAPE} = mul(%b, %s) return %y }}""",
        ["exp", "neg", "reduce_sum", "mul"],
    ),
    "a smaller value": (
        f"""graph infer(%x: {SHAPE}, %z: f32[4]) {{ %a: f32[4] = exp(%z) %y: {SHAPE} = mul(%x, %a) return %y }}""",
        ["exp", "mul"],
    ),
    "a value that is an output": (
        f"graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = exp(%x) %y: {SHAPE} = neg(%a) return %y, %a }}",
        ["exp", "neg"],
    ),
    "a reshaped value": (
        f"graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = exp(%x) %r: f32[120] = reshape(%a) {{shape=(120)}} "
        "%y: f32[120] = neg(%r) return %y }",
        ["exp", "neg"],
    ),
    "two images": (
        "graph infer(%x: f32[2,3,3,2]) { %a: f32[2,3,3,2] = exp(%x) %y: f32[2,3,3,2] = neg(%a) return %y }",
        ["exp", "exp", "neg", "neg"],
    ),
}


def of(case: str) -> Program:
    c = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    return program(CASES[case][0].replace("shape=(120)", "shape=(120,)"), c=c)


@pytest.mark.parametrize("case", CASES)
def test_calls_join_where_nothing_else_reads_what_stands_between(case: str) -> None:
    assert titles(join_loops(lowered(of(case)))) == CASES[case][1]


@pytest.mark.parametrize("case", CASES)
def test_joined_loops_compute_what_the_interpreter_does(case: str, tmp_path: Path) -> None:
    p = of(case)
    plan = plan_memory(join_loops(lowered(p)), HOST)
    verify_plan(plan, HOST)
    rng = np.random.default_rng(2)
    inputs = {v.name: rng.normal(size=v.type.dims).astype(np.float32) for v in p.graphs[0].inputs}
    wanted, _ = interp.run(p, p.graphs[0], inputs)
    found = plan_c.Program(plan, HOST, tmp_path).run(inputs, 0xA5)
    for ref, data in zip(p.graphs[0].outputs, found, strict=True):
        flat = np.frombuffer(data, np.float32)
        np.testing.assert_allclose(flat, np.ravel(wanted[ref]).astype(np.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_with_joined_loops_reads_back_from_its_text(case: str) -> None:
    plan = plan_memory(join_loops(lowered(of(case))), HOST)
    assert show_plan(read_plan(show_plan(plan), KERNELS, arrays_of(plan))) == show_plan(plan)


def test_nothing_to_join_is_the_same_object() -> None:
    plan = lowered(of("a smaller value"))
    assert join_loops(plan) is plan


def test_a_joined_loop_needs_no_buffer_between() -> None:
    # x and its product both live until the sum: two maps, of which joining leaves one
    p = program(
        f"""graph infer(%x: {SHAPE}) {{ %a: {SHAPE} = silu(%x) %b: {SHAPE} = mul(%x, @c)
        %y: {SHAPE} = add(%a, %b) return %y }}""",
        c=np.full(4, 0.1, np.float32),
    )
    plan = lowered(p)
    before, after = (plan_memory(q, HOST).arenas[0].bytes for q in (plan, join_loops(plan)))
    assert (before, after) == (2 * 480, 480)


def test_a_long_chain_stays_within_the_steps_of_one_loop() -> None:
    nodes = "".join(f"%v{i + 1}: f32[8] = sin(%v{i}) " for i in range(MOST_STEPS + 4))
    p = program(f"graph infer(%v0: f32[8]) {{ {nodes} return %v{MOST_STEPS + 4} }}")
    assert [len(c.loop) for c in join_loops(lowered(p)).entries[0].calls] == [MOST_STEPS, 4]


def test_joined_loops_stream_row_by_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    w = [rng.normal(size=s).astype(np.float32) for s in ((8, 3, 3, 2), (2, 3, 3, 8))]
    p = program(
        """graph infer(%x: f32[1,12,6,2]) {
          %a: f32[1,12,6,8] = conv2d(%x, @v) {pad=(1,1,1,1)}
          %b: f32[1,12,6,8] = tanh(%a)
          %c: f32[1,12,6,8] = mul(%b, @s)
          %y: f32[1,12,6,2] = conv2d(%c, @w) {pad=(1,1,1,1)}
          return %y }""",
        v=w[0],
        w=w[1],
        s=rng.normal(size=8).astype(np.float32),
    )
    plan = plan_memory(stream(join_loops(lowered(p)), HOST, mode="all"), HOST)
    verify_plan(plan, HOST)
    (streamed,) = (i for i in plan.entries[0].items if isinstance(i, Stream))
    assert streamed.calls[1].title == "tanh + mul"
    x = rng.normal(size=(1, 12, 6, 2)).astype(np.float32)
    apart = plan_memory(lowered(p), HOST)
    found, wanted = (
        plan_c.Program(q, HOST, tmp_path / n).run({"x": x}, 0xA5) for q, n in ((plan, "a"), (apart, "b"))
    )
    assert found == wanted
