"""Kernels that renew an operand in its own memory: a cache of keys is never copied where nothing reads the old one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.backends.kernels_cuda import KERNELS
from edgec.build import constant
from edgec.ir import Persistence, Port, Program, State
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.memory import plan_memory
from edgec.plan import Plan
from edgec.targets.load import load_target
from edgec.text import read
from edgec.verify_plan import verify_plan

PLACES = "q=(0,0,8,16), k=(0,0,8,16), v=(0,0,8,16)"
ATTRS = f"scale=0.5, batch=1, tokens=1, heads=2, kv_heads=2, depth=8, value_depth=8, {PLACES}"
CACHE = "f16[1,2,32,8]"


def call(n: int, keys: str, values: str) -> str:
    return (
        f"%y{n}: f16[1,1,2,8], %k{n}: {CACHE}, %v{n}: {CACHE} = "
        f"cached_attention(%x, %x, %x, {keys}, {values}, $at) {{{ATTRS}}}"
    )


def planned(text: str) -> Plan:
    cache = constant(np.zeros((1, 2, 32, 8), np.float16))
    at = constant(np.zeros(1, np.int32))
    state = {
        n: State(c.type, c, Persistence.KEPT) for n, c in (("keys", cache), ("values", cache), ("at", at))
    }
    target, graph = load_target("orin"), read(text)
    ports = [
        tuple(Port(r, r, (0, 1, 2, 3)[:rank]) for r in refs)
        for refs, rank in ((("x",), 3), (graph.outputs, 4))
    ]
    graph = replace(graph, input_ports=ports[0], output_ports=ports[1])
    plan = plan_memory(choose_kernels(Program((graph,), {}, state), target, KERNELS), target)
    verify_plan(plan, target)
    return plan


def homes(plan: Plan, call: int) -> list[str | None]:
    """The buffers in whose memory the new caches of a call stand."""
    return [plan.buffer(o.buffer).inside for o in plan.entries[0].calls[call].outputs[1:]]


def test_a_state_is_renewed_in_its_own_memory() -> None:
    body = call(1, "$keys", "$values")
    plan = planned(
        f"graph g(%x: f16[1,1,16]) {{ {body} update $keys = %k1 update $values = %v1 return %y1 }}"
    )
    assert homes(plan, 0) == ["state.keys", "state.values"]
    assert plan.entries[0].updates == ()


def test_a_second_call_renews_what_the_first_made() -> None:
    body = call(1, "$keys", "$values") + " " + call(2, "%k1", "%v1")
    plan = planned(f"graph g(%x: f16[1,1,16]) {{ {body} return %y2 }}")
    assert homes(plan, 0) == [None, None]  # the states stay as they are: their content is copied once
    assert homes(plan, 1) == ["k1", "v1"]


def test_what_is_read_later_is_not_overwritten() -> None:
    body = call(1, "$keys", "$values") + " " + call(2, "%k1", "%v1")
    plan = planned(f"graph g(%x: f16[1,1,16]) {{ {body} return %y2, %k1 }}")
    assert homes(plan, 1) == [None, "v1"]
