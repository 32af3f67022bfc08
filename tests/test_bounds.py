"""Sizes known only at run time: text, verifier, interpreter, reserved memory, refusal, and loops that count."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from artifacts import artifact
from plan_c import Program as Compiled
from plan_cases import Net

from edgec import interp
from edgec.backends import c
from edgec.backends.kernels_c import KERNELS
from edgec.errors import TargetError, UserError
from edgec.ir import Array, Bound, DType, Program, Type, per_tensor
from edgec.ops.binary import BinaryAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.shape import ReshapeAttrs
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.join_loops import join_loops
from edgec.passes.memory import plan_memory
from edgec.plan import Plan
from edgec.plan_text import arrays_of, read_plan, show_plan
from edgec.targets.load import load_target
from edgec.text import read, show
from edgec.verify import GraphError, verify
from edgec.verify_plan import verify_plan

MAX = 16
COUNT = Type((), DType.I32)
HOST = load_target("host")


def points(name: str = "n", most: int = MAX, *inner: int) -> Type:
    return Type((Bound(name, most), *(inner or (3,))), DType.F32)


def cloud() -> Program:
    """exp(relu(x) + bias) * x for at most MAX points of 3 numbers, as [1,n,3] in the middle; n counts them."""
    net = Net("infer")
    n = net.input("n", COUNT)
    x = net.input("x", points(n))
    bias = net.constant(np.float32([0.5, -1, 2]), "bias")
    shifted = net.call("add", net.op("relu", x), bias, attrs=BinaryAttrs())
    wide = net.call("reshape", shifted, attrs=ReshapeAttrs((1, -1, 3)))
    flat = net.call("reshape", net.op("exp", wide), attrs=ReshapeAttrs((-1, 3)))
    net.output(net.call("mul", flat, x, attrs=BinaryAttrs()), "y")
    return net.program()


def planned(program: Program) -> Plan:
    plan = plan_memory(join_loops(choose_kernels(program, HOST, KERNELS)), HOST)
    verify_plan(plan, HOST)
    return plan


def sized(program: Program, count: int) -> dict[str, Array]:
    """Inputs of the interpreter: of their true size."""
    rng = np.random.default_rng(count)
    return {"n": np.int32(count), "x": rng.normal(size=(count, 3)).astype(np.float32)}


def test_bounds_round_trip_as_text() -> None:
    graph = cloud().graphs[0]
    assert "%x: f32[n<=16,3]" in show(graph)
    assert read(show(graph)) == graph


def test_a_bound_needs_an_int32_scalar() -> None:
    net = Net("infer")
    x = net.input("x", points("missing"))
    net.output(net.op("relu", x), "y")
    with pytest.raises(GraphError, match="the bound missing of %x is not defined here"):
        verify(net.program())


def test_a_bound_has_one_maximum_in_a_graph() -> None:
    net = Net("infer")
    n = net.input("n", COUNT)
    net.output(net.op("relu", net.input("x", points(n))), "y")
    net.output(net.op("relu", net.input("z", points(n, 8))), "w")
    with pytest.raises(GraphError, match="the bound n has two maxima, 16 and 8"):
        verify(net.program())


@pytest.mark.parametrize("count", [0, 1, 7, MAX])
def test_the_interpreter_computes_true_sizes(count: int) -> None:
    program = cloud()
    x = sized(program, count)["x"]
    (y,) = interp.run(program, program.graphs[0], sized(program, count))[0].values()
    expected = np.exp(np.maximum(x, 0) + np.float32([0.5, -1, 2])) * x
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_the_planner_reserves_the_maximum() -> None:
    plan = planned(cloud())
    assert plan.buffer("x").bytes == MAX * 3 * 4


def test_a_plan_with_counts_reads_back_from_its_text() -> None:
    plan = planned(cloud())
    assert "count (%n + 0)" in show_plan(plan)
    assert read_plan(show_plan(plan), KERNELS, arrays_of(plan)).entries == plan.entries


def test_the_count_lives_until_its_last_loop() -> None:
    plan = planned(cloud())
    counted = [i for i, call in enumerate(plan.entries[0].calls) if call.count is not None]
    assert plan.buffer("n").last == counted[-1]


@pytest.mark.parametrize("count", [0, 1, 7, MAX])
@pytest.mark.parametrize("poison", [0x00, 0xFF])
def test_generated_loops_stop_at_the_count(tmp_path: Path, count: int, poison: int) -> None:
    """Bytes beyond the count are poison on the way in (0xFF is NaN) and still poison or untouched on the way out."""
    program = cloud()
    inputs = sized(program, count)
    (expected,) = interp.run(program, program.graphs[0], inputs)[0].values()
    filled = np.frombuffer(bytes([poison]) * (MAX * 3 * 4), np.float32).reshape(MAX, 3).copy()
    filled[:count] = inputs["x"]
    (raw,) = Compiled(planned(program), HOST, tmp_path).run({"n": inputs["n"], "x": filled}, poison)
    made = np.frombuffer(raw, np.float32).reshape(MAX, 3)
    np.testing.assert_allclose(made[:count], expected, rtol=1e-5)


def test_the_loop_runs_to_the_count_and_no_further() -> None:
    text = c.emit(planned(cloud()), HOST, c.Origin("0", "test"))["src/model.c"]
    assert "row < count" in text and not re.search(r"row < 16\b", text)


@pytest.mark.parametrize("count", [-1, MAX + 1])
def test_a_count_beyond_the_maximum_is_refused_by_a_status(tmp_path: Path, count: int) -> None:
    program = Compiled(planned(cloud()), HOST, tmp_path)
    inputs = {"n": np.int32(count), "x": np.zeros((MAX, 3), np.float32)}
    program.run(inputs, 0, status=5)  # EC_BAD_ARGUMENT


def test_the_header_names_the_bound() -> None:
    header = c.emit(planned(cloud()), HOST, c.Origin("0", "test"))["src/model.h"]
    assert "#define EDGEC_MODEL_INPUT_X_SIZE 48 /* elements of [n <= 16, 3];" in header


def test_an_artifact_sends_the_user_to_the_c_api(tmp_path: Path) -> None:
    made = artifact(cloud(), "host", tmp_path / "a")
    assert made.golden_steps() == ((0, 0),)
    with pytest.raises(UserError, match=r"EDGEC-E234: call infer through model\.h: x, y has a size"):
        made.run({"n": np.int32(3), "x": np.zeros((MAX, 3), np.float32)})


@pytest.mark.parametrize("op", ["linear", "int8 add", "inner axis"])
def test_what_takes_no_bound_is_refused_by_name(op: str) -> None:
    net = Net("infer")
    n = net.input("n", COUNT)
    if op == "linear":
        weight = net.constant(np.ones((2, 3), np.float32), "w")
        y = net.call("linear", net.input("x", points(n)), weight, attrs=LinearAttrs())
    elif op == "int8 add":
        q = per_tensor(0.1, 0)
        x = net.input("x", Type((Bound(n, MAX), 3), DType.I8, q))
        y = net.node("add", (x, x), BinaryAttrs(), quants=[q])[0]
    else:
        y = net.op("relu", net.input("x", Type((2, Bound(n, MAX)), DType.F32)))
    net.output(y, "y")
    with pytest.raises(TargetError) as caught:
        planned(net.program())
    text = str(caught.value)
    assert text.startswith("EDGEC-E402") and "n<=16" in text
    assert "a size known only at run time (name<=max) runs in float pointwise ops" in text
