"""Dead code and the rewriting that passes share."""

from __future__ import annotations

import numpy as np

from edgec.build import constant
from edgec.ir import NO_ATTRS, Node, Program
from edgec.match import Rewrite, rewrite
from edgec.passes.dead import remove_dead
from edgec.text import read
from edgec.verify import verify

C = constant(np.ones(4, np.float32))


def test_unread_nodes_and_constants_go() -> None:
    g = read(
        "graph g(%x: f32[4]) { %a: f32[4] = add(%x, @c) %b: f32[4] = neg(%a) %y: f32[4] = relu(%x) return %y }"
    )
    after = remove_dead(Program((g,), {"c": C, "d": C}, {}))
    assert [n.op for n in after.graphs[0].nodes] == ["relu"]
    assert after.constants == {}


def test_a_constant_that_another_graph_reads_stays() -> None:
    one = read("graph one(%x: f32[4]) { %y: f32[4] = relu(%x) return %y }")
    two = read("graph two(%x: f32[4]) { %y: f32[4] = add(%x, @c) return %y }")
    p = Program((one, two), {"c": C}, {})
    assert remove_dead(p) is p


def test_what_an_update_or_the_size_of_a_value_needs_is_alive() -> None:
    g = read(
        """graph g(%n: i32[], %x: f32[n<=4]) {
          %k: i32[] = neg(%n)
          %y: f32[n<=4] = relu(%x)
          update $s = %y
          return %n }"""
    )
    assert [n.op for n in remove_dead(Program((g,), {}, {})).graphs[0].nodes] == ["relu"]


def test_a_rewritten_graph_keeps_its_names_and_shares_constants_with_its_sisters() -> None:
    def to_constant(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if node.op != "relu":
            return None
        return at.builder.node(
            "add", (node.inputs[0], at.builder.constant(C)), at_attrs(), name=node.outputs[0].name
        )

    graphs = tuple(read(f"graph {n}(%x: f32[4]) {{ %y: f32[4] = relu(%x) return %y }}") for n in ("a", "b"))
    after = rewrite(Program(graphs, {}, {}), to_constant)
    verify(after)
    assert list(after.constants.values()) == [C]
    assert [g.outputs for g in after.graphs] == [("y",), ("y",)]


def at_attrs():  # type: ignore[no-untyped-def]
    from edgec.ops import OPS

    return OPS["add"].attrs()


def test_the_name_of_a_size_is_never_replaced() -> None:
    g = read("graph g(%m: i32[]) { %n: i32[] = neg(%m) %k: i32[] = neg(%n) return %k }")
    sized = read("graph g(%m: i32[], %x: f32[m<=4]) { %n: i32[] = neg(%m) return %n, %x }")
    assert rewrite(Program((sized,), {}, {}), lambda at, node: None).graphs[0] is sized
    replaced = rewrite(
        Program((g,), {}, {}), lambda at, node: at.builder.node("abs", node.inputs, NO_ATTRS, name="z")
    )
    assert [n.op for n in replaced.graphs[0].nodes] == ["abs", "abs"]
