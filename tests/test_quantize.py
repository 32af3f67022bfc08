"""Quantisation to int8 on small nets: structure as text, numbers against float."""

from __future__ import annotations

import numpy as np
import pytest

from edgec import interp
from edgec.build import constant
from edgec.errors import TargetError, UserError
from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import Array, DType, Loc, Persistence, Program, State, Type, per_tensor
from edgec.ops import OPS
from edgec.passes.calibrate import METHODS, Method, calibrate
from edgec.passes.quantize import Scheme, float_islands, quantize
from edgec.passes.scales import affine_quant
from edgec.passes.weights import quantize_bias, quantize_layer
from edgec.text import read
from edgec.verify import verify


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def f32(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def samples(p: Program, count: int = 8, seed: int = 1) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [
        {v.name: rng.normal(size=v.type.dims).astype(v.type.dtype.numpy) for v in p.graphs[0].inputs}
        for _ in range(count)
    ]


def int8(p: Program, scheme: Scheme | None = None, method: Method = "minmax") -> Program:
    quantized = quantize(p, calibrate(p, samples(p), method), scheme or Scheme())
    verify(quantized)
    return quantized


def ops(p: Program) -> list[str]:
    return [n.op for n in p.graphs[0].nodes]


def run(p: Program, inputs: dict[str, Array]) -> list[Array]:
    """Outputs of the first graph in real numbers, from float inputs."""
    g = p.graphs[0]
    types = p.type_of(g)
    given = {
        v.name: quantize_array(inputs[v.name], v.type.quant) if v.type.quant else inputs[v.name]
        for v in g.inputs
    }
    outputs, _ = interp.run(p, g, given)
    quants = [types[r].quant for r in g.outputs]
    return [
        dequantize_array(outputs[r], q) if q else outputs[r] for r, q in zip(g.outputs, quants, strict=True)
    ]


def snr_db(p: Program, quantized: Program) -> float:
    """Signal to noise of the first output over the calibration samples."""
    pairs = [(run(p, s)[0], run(quantized, s)[0]) for s in samples(p)]
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a, _ in pairs)
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return 10 * float(np.log10(signal / noise))


NET = """graph infer(%x: f32[1,8,8,3]) {
  %c: f32[1,4,4,8] = conv2d(%x, @w, @b) {stride=(2,2), pad=(1,1,1,1), act=(0.0,inf)}
  %d: f32[1,4,4,8] = conv2d(%c, @dw) {pad=(1,1,1,1), groups=8, act=(0.0,6.0)}
  %s: f32[1,4,4,8] = add(%c, %d)
  %p: f32[1,2,2,8] = max_pool2d(%s) {kernel=(2,2), stride=(2,2)}
  %f: f32[1,32] = reshape(%p) {shape=(1,32)}
  %y: f32[1,5] = linear(%f, @l, @lb)
  return %y
}"""


def net() -> Program:
    return program(
        NET,
        w=f32(8, 3, 3, 3) / 5,
        b=f32(8, seed=1),
        dw=f32(8, 3, 3, 1, seed=2) / 3,
        l=f32(5, 32, seed=3) / 6,
        lb=f32(5, seed=4),
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_small_net_in_int8_stays_near_float(method: Method) -> None:
    # 8-bit rounding at each of six layers leaves about 30 dB; below 25 a layer is wrong, not rounded.
    assert snr_db(net(), int8(net(), method=method)) > (25 if method != "entropy" else 15)


def test_each_integer_node_is_near_its_float_op_on_the_same_inputs() -> None:
    q = int8(net())
    g, types = q.graphs[0], q.type_of(q.graphs[0])
    held = {"x": quantize_array(samples(net())[0]["x"], types["x"].quant)}  # type: ignore[arg-type]
    interp.run(q, g, held.copy(), observe=lambda node, y: held.update({node.outputs[0].name: y[0]}))

    def real(ref: str) -> Array:
        quant = types[ref].quant
        assert quant is not None
        return dequantize_array(q.constants[ref[1:]].data if ref[0] == "@" else held[ref], quant)

    for node in g.nodes:
        (wanted,) = OPS[node.op].ref(node.attrs, tuple(real(r) for r in node.inputs))
        noise = ((real(node.outputs[0].name) - wanted) ** 2).sum() + 1e-12
        # One rounding to 8 bits of a bell-shaped value leaves about 40 dB; a wrong scale or clamp leaves
        # under 20.
        assert 10 * np.log10((wanted**2).sum() / noise) > 33, node.op


def test_one_scale_a_tensor_is_worse_than_one_a_channel() -> None:
    assert snr_db(net(), int8(net())) > snr_db(net(), int8(net(), Scheme(weights="tensor")))


def test_every_node_of_the_small_net_runs_in_integers() -> None:
    quantized = int8(net())
    assert ops(quantized) == ops(net())
    assert all(v.type.dtype is DType.I8 for n in quantized.graphs[0].nodes for v in n.outputs)
    assert float_islands(quantized) == ()


def test_a_float_op_stands_between_dequantize_and_quantize() -> None:
    p = program(
        """graph infer(%x: f32[1,4]) {
          %a: f32[1,4] = linear(%x, @w)
          %m: f32[1,4] = div(%a, %x)
          %y: f32[1,4] = linear(%m, @w)
          return %y }""",
        w=f32(4, 4),
    )
    quantized = int8(p)
    assert ops(quantized) == ["linear", "dequantize", "dequantize", "div", "quantize", "linear"]
    islands = float_islands(quantized)
    assert [i.op for i in islands] == ["dequantize", "dequantize", "div", "quantize"]
    assert "quotient" in islands[2].why
    assert islands[3].why == "brings a float value back to integers"


def test_a_layer_kept_in_float_by_request_says_so() -> None:
    p = program(
        """graph infer(%x: f32[1,4]) {
          %a: f32[1,4] = linear(%x, @w)  // head
          %y: f32[1,4] = linear(%a, @w)  // tail
          return %y }""",
        w=f32(4, 4),
    )
    scheme = Scheme(keep_float=frozenset({"head"}))
    quantized = int8(p, scheme)
    assert ops(quantized) == ["linear", "quantize", "linear"]
    assert [i.why for i in float_islands(quantized, scheme) if i.op == "linear"] == [
        "kept in float by request"
    ]


def test_concat_brings_its_inputs_to_one_scale() -> None:
    p = program(
        """graph infer(%x: f32[1,4], %z: f32[1,4]) {
          %a: f32[1,4] = linear(%x, @w)
          %b: f32[1,4] = linear(%z, @v)
          %y: f32[1,8] = concat(%a, %b) {axis=1}
          return %y }""",
        w=f32(4, 4),
        v=f32(4, 4, seed=5) * 20,
    )
    quantized = int8(p)
    assert ops(quantized) == ["linear", "linear", "concat"]
    assert len({v.type.quant for n in quantized.graphs[0].nodes for v in n.outputs}) == 1


def test_a_fixed_scale_is_requantised_for_concat() -> None:
    p = program(
        """graph infer(%x: f32[1,4], %z: f32[1,4]) {
          %a: f32[1,4] = sigmoid(%x)
          %b: f32[1,4] = linear(%z, @v)
          %y: f32[1,8] = concat(%a, %b) {axis=1}
          return %y, %a }""",
        v=f32(4, 4) * 20,
    )
    quantized = int8(p)
    assert ops(quantized) == ["sigmoid", "linear", "requantize", "concat"]
    assert quantized.graphs[0].nodes[0].outputs[0].type.quant == per_tensor(1 / 256, -128)


def test_concat_of_equal_fixed_scales_keeps_them() -> None:
    p = program(
        """graph infer(%x: f32[1,4], %z: f32[1,4]) {
          %a: f32[1,4] = sigmoid(%x)
          %b: f32[1,4] = sigmoid(%z)
          %y: f32[1,8] = concat(%a, %b) {axis=1}
          return %y }""",
    )
    assert ops(int8(p)) == ["sigmoid", "sigmoid", "concat"]


def test_a_constant_operand_becomes_int8() -> None:
    p = program("graph infer(%x: f32[2,4]) { %y: f32[2,4] = mul(%x, @c) return %y }", c=f32(4))
    quantized = int8(p)
    (c,) = quantized.constants.values()
    assert c.type.dtype is DType.I8
    assert c.type.quant is not None
    assert snr_db(p, quantized) > 35  # one rounding of x, c and y


def test_a_movement_between_float_nodes_stays_float() -> None:
    p = program(
        """graph infer(%x: f32[2,4]) {
          %a: f32[2,4] = div(%x, %x)
          %r: f32[4,2] = reshape(%a) {shape=(4,2)}
          %y: f32[4,2] = log_softmax(%r) {axis=1}
          return %y }"""
    )
    assert ops(int8(p)) == ["div", "reshape", "log_softmax"]


def test_indices_stay_integers_without_scale() -> None:
    p = program(
        """graph infer(%x: i32[3]) {
          %e: f32[3,4] = embedding(@t, %x)
          %y: f32[3,2] = linear(%e, @w)
          return %y }""",
        t=f32(5, 4),
        w=f32(2, 4),
    )
    ids = [{"x": np.array([0, 4, 2], np.int32)}]
    quantized = quantize(p, calibrate(p, ids))
    verify(quantized)
    assert ops(quantized) == ["embedding", "linear"]
    assert quantized.graphs[0].inputs == p.graphs[0].inputs


def test_a_state_stays_float_and_is_quantised_where_it_is_read() -> None:
    g = read(
        """graph infer(%x: f32[1,4]) {
          %s: f32[1,4] = add(%x, $acc)
          update $acc = %s
          return %s }"""
    )
    zero = constant(np.zeros((1, 4), np.float32))
    p = Program((g,), {}, {"acc": State(Type((1, 4), DType.F32), zero, Persistence.KEPT)})
    assert ops(int8(p)) == ["quantize", "add", "dequantize"]


def test_a_value_that_is_always_zero_gets_a_usable_scale() -> None:
    p = program(
        """graph infer(%x: f32[1,4]) {
          %a: f32[1,4] = linear(%x, @w)
          %y: f32[1,4] = linear(%a, @v, @b)
          return %y }""",
        w=np.zeros((4, 4), np.float32),
        v=f32(4, 4),
        b=f32(4),
    )
    quantized = int8(p)
    np.testing.assert_allclose(run(quantized, samples(p)[0])[0][0], f32(4), atol=0.01)


def test_a_dead_channel_keeps_its_bias() -> None:
    w = f32(3, 4)
    w[1] = 0
    x = per_tensor(0.02, 0)
    bias = np.array([0.1, 2000.0, -0.2], np.float32)
    _, quant = quantize_layer(w, bias, x, 0, True)
    data, bias_quant = quantize_bias(bias, x, quant)
    np.testing.assert_allclose(dequantize_array(data, bias_quant), bias, rtol=1e-3)


def test_a_tiny_channel_with_a_large_bias_gets_a_scale_that_holds_it() -> None:
    w = f32(2, 4) * np.array([[1.0], [1e-12]], np.float32)
    x = per_tensor(0.02, 3)
    bias = np.array([0.5, 7.0], np.float32)
    _, quant = quantize_layer(w, bias, x, 0, True)
    data, bias_quant = quantize_bias(bias, x, quant)
    np.testing.assert_allclose(dequantize_array(data, bias_quant), bias, rtol=1e-4)


def test_sums_that_leave_32_bits_are_refused() -> None:
    p = program(
        """graph infer(%x: f32[1,140000]) {
          %y: f32[1,1] = linear(%x, @w)  // huge net.py:7
          return %y }""",
        w=np.ones((1, 140000), np.float32),
    )
    with pytest.raises(TargetError) as error:
        int8(p)
    assert error.value.code == "EDGEC-E441"
    assert str(error.value).startswith(
        "EDGEC-E441: keep huge (net.py:7) in float (--keep-float huge) or split its input channels: "
        "sums of its 140000 products"
    )


def test_results_beyond_every_int8_range_are_refused() -> None:
    p = program(
        """graph infer(%x: f32[1,4]) {
          %y: f32[1,4] = linear(%x, @w)  // wild net.py:7
          %z: f32[1,8] = concat(%y, %x) {axis=1}  // wild net.py:8
          return %z }""",
        w=np.full((4, 4), 1e20, np.float32),
    )
    with pytest.raises(UserError) as error:
        int8(p)
    assert str(error.value).startswith(
        "EDGEC-E356: scale the weights or inputs of wild (net.py:7) down, or compile with --precision fp32: "
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 0.0), (-3.2, 1.7), (2.0, 5.0), (-1e-8, 1e-8)])
def test_zero_is_exact_in_every_activation_scale(low: float, high: float) -> None:
    quant = affine_quant(low, high)
    q = quantize_array([0.0, low, high], quant)
    real = dequantize_array(q, quant)
    assert real[0] == 0.0
    np.testing.assert_allclose(real[1:], [min(low, 0) if low < 0 else low, high], atol=quant.scale[0])


def test_a_percentile_cuts_an_outlier_that_minmax_keeps() -> None:
    p = program("graph infer(%x: f32[1,100000]) { %y: f32[1,100000] = relu(%x) return %y }")
    data = f32(1, 100000)
    data[0, 0] = 1000
    (g,) = p.graphs
    assert calibrate(p, [{"x": data}]).get(g, "x")[1] == 1000
    assert calibrate(p, [{"x": data}], "percentile", share=99.99).get(g, "x")[1] < 10


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_long_tails_are_clipped(method: Method) -> None:
    p = program("graph infer(%x: f32[1,100000]) { %y: f32[1,100000] = relu(%x) return %y }")
    data = np.random.default_rng(0).laplace(size=(1, 100000)).astype(np.float32)
    data[0, 0] = 40
    assert 2 < calibrate(p, [{"x": data}], method).get(p.graphs[0], "x")[1] < 36


def test_a_mask_of_minus_infinity_reaches_far_below_the_scores() -> None:
    p = program(
        """graph infer(%x: f32[2,4], %m: b8[2,4]) {
          %f: f32[2,4] = masked_fill(%x, %m) {value=-inf}
          %y: f32[2,4] = softmax(%f) {axis=1}
          return %y }"""
    )
    mask = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], bool)
    quantized = quantize(p, calibrate(p, [{"x": f32(2, 4), "m": mask}]))
    verify(quantized)
    assert run(quantized, {"x": f32(2, 4), "m": mask})[0][mask].max() <= 1 / 256


BAD = {
    "EDGEC-E350": [],
    "EDGEC-E351": [{}],
    "EDGEC-E352": [{"x": f32(1, 5)}],
    "EDGEC-E353": [{"x": np.array([[1, np.nan, 2, np.inf]], np.float32)}],
}
TEXTS = {
    "EDGEC-E350": "give at least one calibration sample: there is none",
    "EDGEC-E351": "add the input x to the calibration data: sample 0 holds nothing",
    "EDGEC-E352": "give x the shape [1, 4] in the calibration data: sample 0 has [1, 5]",
    "EDGEC-E353": "remove NaN and infinity from the calibration data: 2 of 4 elements of x in sample 0",
}


@pytest.mark.parametrize("code", list(BAD))
def test_unusable_calibration_data_is_refused(code: str) -> None:
    p = program("graph infer(%x: f32[1,4]) { %y: f32[1,4] = relu(%x) return %y }")
    with pytest.raises(UserError) as error:
        calibrate(p, BAD[code])
    assert str(error.value) == f"{code}: {TEXTS[code]}"


def test_a_layer_that_computes_nan_is_named() -> None:
    p = program(
        "graph infer(%x: f32[1,4]) { %y: f32[1,4] = linear(%x, @w)  // head net.py:3\n return %y }",
        w=f32(4, 4) * np.nan,
    )
    with pytest.raises(UserError) as error:
        calibrate(p, samples(p))
    assert str(error.value) == (
        "EDGEC-E354: check the weights and the calibration data: head (net.py:3) computes NaN (y), "
        "4 of 4 elements in one sample"
    )


def test_a_layer_that_overflows_is_named() -> None:
    text = "graph infer(%x: f32[1,4]) { %y: f32[1,4] = linear(%x, @w)  // head net.py:3\n return %y }"
    p = program(text, w=np.full((4, 4), np.inf, np.float32))
    with pytest.raises(UserError) as error:
        calibrate(p, [{"x": np.ones((1, 4), np.float32)}])
    assert str(error.value) == (
        "EDGEC-E355: check the weights and the calibration data: head (net.py:3) overflows to infinity (y), "
        "4 of 4 elements in one sample"
    )


def test_a_bias_beyond_the_accumulator_is_refused() -> None:
    with pytest.raises(TargetError) as error:
        quantize_bias(np.array([9e9]), per_tensor(1, 0), per_tensor(1, 0), Loc("head", "net.py", 3))
    assert str(error.value) == (
        "EDGEC-E442: keep head (net.py:3) in float (--keep-float head): its bias is 9000000000 steps of its "
        "input's times its "
        "weights' scale, half of a 32-bit accumulator holds 1073741824"
    )
