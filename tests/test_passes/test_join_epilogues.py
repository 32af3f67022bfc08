"""Pointwise calls that become the epilogue of the call before them: which do, what is passed, what is generated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.backends.cuda_epilogue import emit_epilogue
from edgec.backends.kernels_cuda import KERNELS
from edgec.build import constant
from edgec.ir import Array, Port, Program
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.join_loops import join_loops
from edgec.passes.memory import plan_memory
from edgec.plan import Call, Plan
from edgec.targets.load import load_target
from edgec.text import read
from edgec.verify_plan import verify_plan

H200 = load_target("h200")
MAP = "f16[2,6,6,16]"
CONV = f"%a: {MAP} = conv2d(%x, @w) {{pad=(1,1,1,1)}}"


def program(text: str, **constants: Array) -> Program:
    graph = read(text)
    shapes = {v.name: v.type.dims for v in (*graph.inputs, *(o for n in graph.nodes for o in n.outputs))}
    ports = {name: Port(name, name, tuple(range(len(dims)))) for name, dims in shapes.items()}
    graph = replace(
        graph,
        input_ports=tuple(ports[v.name] for v in graph.inputs),
        output_ports=tuple(ports[r] for r in graph.outputs),
    )
    return Program((graph,), {n: constant(c) for n, c in constants.items()}, {})


def joined(text: str) -> Plan:
    w = np.zeros((16, 3, 3, 16), np.float16)
    used = {"w": w, "c": np.ones(16, np.float16), "s": np.ones((1,), np.float16)}
    plan = choose_kernels(
        program(text, **{n: c for n, c in used.items() if f"@{n}" in text}), H200, KERNELS, "model"
    )
    done = plan_memory(join_epilogues(join_loops(plan)), H200)
    verify_plan(done, H200)
    return done


def calls(plan: Plan) -> tuple[Call, ...]:
    return plan.entries[0].calls


def graph(body: str, *more: str) -> str:
    return f"graph infer({', '.join((f'%x: {MAP}', *more))}) {{ {body} }}"


CASES = {
    "an activation": (graph(f"{CONV} %y: {MAP} = silu(%a) return %y"), ["conv2d + silu"]),
    "a residual and its clamp": (
        graph(f"{CONV} %y: {MAP} = add(%a, %r) {{act=(0.0, inf)}} return %y", f"%r: {MAP}"),
        ["conv2d + add"],
    ),
    "a chain": (
        graph(f"{CONV} %b: {MAP} = gelu(%a) %d: {MAP} = mul(%b, @c) %y: {MAP} = add(%d, %x) return %y"),
        ["conv2d + gelu + mul + add"],
    ),
    "the later of two makers": (
        graph(
            f"{CONV} %b: {MAP} = conv2d(%r, @w) {{pad=(1,1,1,1)}} %y: {MAP} = add(%a, %b) return %y",
            f"%r: {MAP}",
        ),
        ["conv2d", "conv2d + add"],
    ),
    "a loop that reads the value twice": (
        graph(f"{CONV} %b: {MAP} = sigmoid(%a) %y: {MAP} = mul(%a, %b) return %y"),
        ["conv2d + sigmoid + mul"],
    ),
    "a maker that others stand behind": (
        graph(f"{CONV} %g: {MAP} = exp(%x) %h: {MAP} = neg(%g) %y: {MAP} = mul(%a, %h) return %y, %g"),
        ["exp", "conv2d + neg + mul"],
    ),
    "a gate by image and channel": (
        graph(f"{CONV} %y: {MAP} = mul(%a, %g) return %y", "%g: f16[2,1,1,16]"),
        ["conv2d + mul"],
    ),
    "a value that two nodes read": (
        graph(f"{CONV} %b: {MAP} = exp(%a) %y: {MAP} = neg(%a) return %y, %b"),
        ["conv2d", "exp", "neg"],
    ),
    "a value that is an output": (graph(f"{CONV} %y: {MAP} = exp(%a) return %y, %a"), ["conv2d", "exp"]),
    "a result of another type": (
        graph(f"{CONV} %y: b8[2,6,6,16] = lt(%a, %x) return %y"),
        ["conv2d", "lt"],
    ),
    "a result of another shape": (
        graph(f"{CONV} %y: f16[2,2,6,6,16] = add(%a, %z) return %y", "%z: f16[2,1,1,1,1]"),
        ["conv2d", "add"],
    ),
}


@pytest.mark.parametrize("label", CASES)
def test_calls_join_where_the_value_between_has_one_reader_of_its_type(label: str) -> None:
    text, titles = CASES[label]
    assert [c.title for c in calls(joined(text))] == titles


def test_operands_beyond_the_kernels_own_come_last() -> None:
    text = graph(f"{CONV} %d: {MAP} = mul(%a, @c) %y: {MAP} = add(%d, %r) return %y", f"%r: {MAP}")
    (call,) = calls(joined(text))
    assert [s.operands for s in call.loop] == [(0, 1), (-1, 2), (-2, 3)]
    assert len(call.inputs) == len(call.in_types) == 4
    assert call.in_types[2].dims == (16,) and call.in_types[3].dims == (2, 6, 6, 16)


def test_a_residual_may_be_overwritten_unless_the_kernel_reads_it_too() -> None:
    other = graph(f"{CONV} %y: {MAP} = add(%a, %r) return %y", f"%r: {MAP}")
    same = graph(f"{CONV} %y: {MAP} = add(%a, %x) return %y")
    assert [calls(joined(text))[0].in_place for text in (other, same)] == [(2,), ()]


def test_loads_follow_the_operands_shape() -> None:
    text = graph(
        f"{CONV} %b: {MAP} = mul(%a, @c) %d: {MAP} = mul(%b, %g) %e: {MAP} = mul(%d, @s) %y: {MAP} = add(%e, %r)"
        " return %y",
        "%g: f16[2,1,1,16]",
        f"%r: {MAP}",
    )
    name, struct = emit_epilogue(calls(joined(text))[0])
    loads = [line.strip() for line in struct.splitlines() if "ec_load_run" in line]
    assert loads == [
        "ec_load_run<__half, V>(a0, (const __half *)e0 + (column));",
        "ec_load_run<__half, V>(a1, (const __half *)e1 + ((uint32_t)index % 16u + (uint32_t)index / 576u * 16u));",
        "ec_load_run<__half, 1>(a2, (const __half *)e2 + (0));",
        "ec_load_run<__half, V>(a3, (const __half *)e3 + (index));",
    ]
    assert struct.startswith(f"struct {name} {{")


def test_a_plan_without_such_calls_is_returned_as_it_is() -> None:
    plan = choose_kernels(program(graph(f"%y: {MAP} = exp(%x) return %y")), H200, KERNELS, "model")
    assert join_epilogues(plan) is plan
