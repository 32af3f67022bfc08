"""Half precision: types, constants and ports change together; numbers stay within half a percent or two."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgec import interp, pipeline, samples
from edgec.build import constant
from edgec.errors import UserError
from edgec.ir import Array, Constant, DType, Port, Program, Type
from edgec.ops import OPS
from edgec.ops.define import TypeRule
from edgec.passes.half import FLOAT32, FLOAT32_INPUTS, half
from edgec.text import read, show
from edgec.verify import verify
from tests.example_networks import transformed

# The random inverted bottlenecks (mobilenet_v2_035, mcunet_like) amplify any rounding about a hundredfold.
NETWORKS = ("digits", "kws", "vww", "ic", "ad", "audio_transformer")
TOLERANCE = {
    DType.F16: 2e-2,
    DType.BF16: 8e-2,
}  # relative to the largest output: 11 and 8 bits through all layers


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def halved(text: str, dtype: DType = DType.F16, **constants: Array) -> Program:
    after = half(program(text, **constants), dtype)
    verify(after)
    return after


def test_values_constants_and_ports_change() -> None:
    after = halved(
        "graph g(%x: f32[1,2]) {\n  %y: f32[1,3] = linear(%x, @w) {}\n  return %y\n}",
        w=np.ones((3, 2), np.float32),
    )
    assert "f32" not in show(after)
    assert after.graphs[0].inputs[0].type.dtype is DType.F16
    assert after.constants["w"].type == Type((3, 2), DType.F16)
    assert after.constants["w"].data.dtype == np.float16


def test_integers_and_booleans_stay() -> None:
    text = """graph g(%i: i32[2], %m: b8[2,4]) {
  %r: f32[2,4] = embedding(@table, %i) {}
  %y: f32[2,4] = masked_fill(%r, %m) {value=0.0}
  return %y
}"""
    after = halved(text, table=np.ones((5, 4), np.float32))
    assert [v.type.dtype for v in after.graphs[0].inputs] == [DType.I32, DType.B8]
    assert all(v.type.dtype is DType.F16 for n in after.graphs[0].nodes for v in n.outputs)


def test_a_program_without_floats_is_the_same_object() -> None:
    before = program("graph g(%i: i32[2]) {\n  %y: i32[2] = neg(%i) {}\n  return %y\n}")
    assert half(before, DType.F16) is before


def test_constants_are_read_only_when_asked_for() -> None:
    loads = []

    def load() -> Array:
        loads.append(1)
        return np.ones((3, 2), np.float32)

    before = program("graph g(%x: f32[1,2]) {\n  %y: f32[1,3] = linear(%x, @w) {}\n  return %y\n}", w=load())
    loads.clear()
    lazy = Constant(before.constants["w"].type, load, before.constants["w"].digest)
    after = half(Program(before.graphs, {"w": lazy}, {}), DType.F16)
    assert loads == []
    assert after.constants["w"].digest != lazy.digest
    assert after.constants["w"].data.dtype == np.float16
    assert loads == [1]


def test_large_masks_stop_at_the_largest_number_and_infinities_stay() -> None:
    mask = np.array([0.0, -1e9, -math.inf], np.float32)
    after = halved("graph g(%x: f32[3]) {\n  %y: f32[3] = add(%x, @m) {}\n  return %y\n}", m=mask)
    np.testing.assert_array_equal(after.constants["m"].data, np.array([0, -65504, -math.inf], np.float16))
    filled = (
        "graph g(%x: f32[3], %m: b8[3]) {\n  %y: f32[3] = masked_fill(%x, %m) {value=-1e9}\n  return %y\n}"
    )
    assert "value=-65504.0" in show(halved(filled))
    padded = "graph g(%x: f32[3]) {\n  %y: f32[5] = pad(%x) {pads=((1, 1),), value=-1e9}\n  return %y\n}"
    assert "value=-65504.0" in show(halved(padded))


def test_casts_to_float_become_casts_to_half() -> None:
    after = halved('graph g(%i: i32[3]) {\n  %y: f32[3] = cast(%i) {dtype="f32"}\n  return %y\n}')
    assert 'cast(%i) {dtype="f16"}' in show(after)


def test_what_leads_to_an_angle_stays_in_float32() -> None:
    text = """graph g(%i: i32[3], %x: f32[3]) {
  %p: f32[3] = cast(%i) {dtype="f32"}
  %a: f32[3] = mul(%p, @rate) {}
  %s: f32[3] = sin(%a) {}
  %y: f32[3] = mul(%s, %x) {}
  return %y
}"""
    after = halved(text, rate=np.array([0.7, 0.8, 0.9], np.float32))
    types = {v.name: v.type.dtype for n in after.graphs[0].nodes for v in n.outputs}
    assert [types[n] for n in "pasy"] == [DType.F32, DType.F32, DType.F32, DType.F16]
    assert after.constants["rate"].type.dtype is DType.F32
    inputs = {"i": np.array([900, 1000, 1100], np.int32), "x": np.ones(3, np.float16)}
    (y,) = interp.run(after, after.graphs[0], inputs)[0].values()
    wanted = np.sin(np.array([630.0, 800.0, 990.0]))
    np.testing.assert_allclose(y.astype(np.float64), wanted, atol=1e-3)


def test_state_changes_with_its_updates() -> None:
    from edgec.build import Builder
    from edgec.ir import Persistence

    b = Builder("step")
    x = b.input("x", Type((2,), DType.F32))
    s = b.add_state("total", constant(np.zeros(2, np.float32)), Persistence.KEPT)
    y = b.call("add", s, x, attrs=OPS["add"].attrs())
    b.updates.append(("total", y))
    b.output(y, "y")
    after = half(b.program(), DType.F16)
    verify(after)
    assert after.state["total"].type.dtype is DType.F16
    assert after.state["total"].initial.data.dtype == np.float16


def test_bf16_without_ml_dtypes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    before = program("graph g(%x: f32[3]) {\n  %y: f32[3] = neg(%x) {}\n  return %y\n}")
    with pytest.raises(UserError) as caught:
        half(before, DType.BF16)
    assert str(caught.value) == (
        "EDGEC-EA05: run pip install 'edgec[bf16]': bf16 needs ml_dtypes, which is not installed"
    )


def float_examples() -> list[Any]:
    """Every op's float examples."""
    return [
        pytest.param(op, example, id=f"{op.name}-{example.label}")
        for op in OPS.values()
        for example in op.examples
    ]


# Of steps that learn; networks in half types do not.
LEARNING = ("gradient_quantize", "when_finite")


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize(("op", "example"), float_examples())
def test_every_op_has_a_half_form(op: Any, example: Any, dtype: DType) -> None:
    """Its type rule takes half types as it takes float32, or the op is in the list of those that stay."""
    arrays = example.make(np.random.default_rng(0))
    before = tuple(constant(a).type for a in arrays)
    kept = FLOAT32_INPUTS.get(op.name, ())
    changed = tuple(
        Type(t.shape, dtype) if t.dtype is DType.F32 and i not in kept else t for i, t in enumerate(before)
    )
    if changed == before or op.name in FLOAT32 or op.name in LEARNING:
        return
    try:
        op.infer(example.attrs, before)
    except TypeRule:
        return
    op.infer(example.attrs, changed)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stay_near_float32(name: str, dtype: DType) -> None:
    done = transformed(name, "fp32")
    before = done.program
    after = half(before, dtype)
    verify(after)
    arrays = {k: v[:1] for k, v in done.done.arrays.items()}
    want, found = pipeline.outputs(before, arrays), pipeline.outputs(after, arrays)
    for a, b in zip(want, found, strict=True):
        assert float(np.abs(a - b.astype(np.float32)).max()) <= TOLERANCE[dtype] * float(np.abs(a).max())


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("given", [DType.F32, DType.F16, DType.BF16])
def test_samples_of_any_float_enter_a_half_port(dtype: DType, given: DType) -> None:
    after = halved("graph g(%x: f32[1,2]) {\n  %y: f32[1,2] = neg(%x) {}\n  return %y\n}", dtype)
    g = replace(after.graphs[0], input_ports=(Port("x", "x", (0, 1)),))
    x = np.array([[1.0, -2.5]], given.numpy)
    (inputs,) = samples.to_device({"x": x}, g.input_ports, after.type_of(g), "test")
    assert inputs["x"].dtype == dtype.numpy
    assert inputs["x"].astype(np.float32).tolist() == [[1.0, -2.5]]
