"""The scheduler: against every order of small graphs, and what it must not do."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from plan_cases import Net, chain, counter

from edgec.ir import DType, Program, Type
from edgec.passes.schedule import order, peak_bytes, problem_of, schedule
from edgec.text import read


def random_program(seed: int, nodes: int) -> Program:
    """Adds and exps of values drawn at random; each reads one or two that exist. Sizes differ by reduction."""
    from edgec.ops.slicing import SliceAttrs

    rng = np.random.default_rng(seed)
    net = Net("infer")
    values = [net.input("x", Type((64,), DType.F32))]
    for i in range(nodes):
        x = values[int(rng.integers(len(values)))]
        size = net.types[x].dims[0]
        if rng.integers(2) and size > 8:
            # Every other element: a copy, not a view.
            y = net.call("slice", x, attrs=SliceAttrs(0, 1, size - 1, 2), name=f"n{i}")
        else:
            y = net.op("exp", x, name=f"n{i}")
        values.append(y)
    net.output(values[-1], "y")
    net.output(values[len(values) // 2], "z")
    return net.program()


def best_peak(program: Program) -> int:
    """The least peak over all permutations that respect the data."""
    graph = program.graphs[0]
    problem = problem_of(program, graph)
    best = None
    for nodes in permutations(range(len(graph.nodes))):
        done, fine = 0, True
        for node in nodes:
            fine = fine and not problem.needs[node] & ~done
            done |= 1 << node
        if fine:
            peak = peak_bytes(problem, nodes)
            best = peak if best is None else min(best, peak)
    assert best is not None
    return best


def test_peak_is_the_least_of_all_orders_on_small_graphs() -> None:
    for seed in range(40):
        program = random_program(seed, 6)
        graph = order(program, program.graphs[0])
        problem = problem_of(program, graph)
        assert peak_bytes(problem, tuple(range(len(graph.nodes)))) == best_peak(program), seed


def test_every_node_runs_after_those_it_reads() -> None:
    for seed in range(10):
        program = random_program(seed, 40)
        graph = order(program, program.graphs[0])
        known = {v.name for v in graph.inputs}
        for node in graph.nodes:
            assert set(node.inputs) <= known
            known |= {v.name for v in node.outputs}
        assert {n.outputs[0].name for n in graph.nodes} == {
            n.outputs[0].name for n in program.graphs[0].nodes
        }


def test_a_program_in_its_best_order_is_returned_as_it_is() -> None:
    program = chain("exp", "relu")
    assert schedule(program) is program


def test_scheduling_twice_gives_the_same_order() -> None:
    program = random_program(3, 30)
    assert schedule(program) == schedule(program)


def test_a_late_reader_of_a_state_does_not_wait_for_its_new_value() -> None:
    program = counter(read_late=True)
    # `late` needs the new count itself, so the order stays.
    assert schedule(program) is program


def test_readers_of_a_state_run_before_its_new_value_is_made() -> None:
    net = Net("infer")
    from plan_cases import F64, zeros

    x = net.input("x", F64)
    count = zeros(net, "count")
    new = net.op("add", count, x, name="new")
    net.updates.append(("count", new))
    net.output(net.op("exp", count, name="old"), "y")
    program = schedule(net.program())
    assert [n.outputs[0].name for n in program.graphs[0].nodes] == ["old", "new"]


def test_a_node_that_reads_two_outputs_of_one_node_is_scheduled_after_it() -> None:
    graph = read(
        """
        graph infer(%x: f32[2,4]) {
          %a: f32[4], %b: f32[4] = unbind(%x) {axis=0}
          %y: f32[4] = add(%a, %b) {act=None}
          return %y
        }
        """
    )
    program = Program((graph,), {}, {})
    assert [n.op for n in schedule(program).graphs[0].nodes] == ["unbind", "add"]
