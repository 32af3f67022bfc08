"""Attention masks: float masks of 0 and minus infinity become boolean, all others keep their nodes in float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import edgec
from edgec import interp
from edgec.build import constant
from edgec.compiler import Request, transform
from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import Array, Program
from edgec.passes.calibrate import calibrate
from edgec.passes.legalize import legalize
from edgec.passes.quantize import float_islands, quantize
from edgec.text import read, show
from edgec.verify import verify

if TYPE_CHECKING:
    import torch

TOKENS, WIDTH = 6, 8
CAUSAL = np.where(np.tril(np.ones((4, 4), np.bool_)), 0, -np.inf).astype(np.float32)
QKV = "%q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]"
ATTENTION = "%y: f32[1,2,4,8] = attention(%q, %k, %v, {}) {{scale=0.25}} return %y"
SCORES = "%s: f32[1,2,4,4] = matmul(%q, %k) {transpose_b=True}"


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def body(p: Program) -> list[str]:
    """Node lines of the only graph."""
    return [line.strip() for line in show(p.graphs[0]).splitlines()[1:-2]]


def samples(p: Program, count: int = 4) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        sample: dict[str, Array] = {}
        for v in p.graphs[0].inputs:
            bits = rng.random(v.type.dims) < 0.3
            bits[..., 0] = False  # one key stays
            plain = rng.normal(size=v.type.dims).astype(np.float32)
            sample[v.name] = bits if v.type.dtype.numpy == np.bool_ else plain
        made.append(sample)
    return made


def outputs(p: Program, inputs: dict[str, Array]) -> npt.NDArray[np.float64]:
    (ref,) = p.graphs[0].outputs
    return np.asarray(interp.run(p, p.graphs[0], inputs)[0][ref], np.float64)


def legal(p: Program) -> Program:
    """Legalised, verified, and the same numbers as before."""
    after = legalize(p)
    verify(after)
    for inputs in samples(p):
        np.testing.assert_allclose(outputs(after, inputs), outputs(p, inputs), atol=1e-6)
    return after


def test_a_constant_causal_mask_becomes_causal() -> None:
    p = program(f"graph g({QKV}) {{ {ATTENTION.format('@m')} }}", m=CAUSAL)
    assert body(legal(p)) == ["%y: f32[1,2,4,8] = attention(%q, %k, %v) {scale=0.25, causal=True}"]


def test_a_constant_mask_of_infinities_becomes_boolean() -> None:
    mask = CAUSAL[:, ::-1].copy()
    mask[:, 0] = 0
    after = legal(program(f"graph g({QKV}) {{ {ATTENTION.format('@m')} }}", m=mask))
    (node,) = after.graphs[0].nodes
    np.testing.assert_array_equal(after.constants[node.inputs[3][1:]].data, mask == 0)


def test_a_constant_mask_of_zeros_disappears() -> None:
    p = program(f"graph g({QKV}) {{ {ATTENTION.format('@m')} }}", m=np.zeros((4, 4), np.float32))
    assert body(legal(p)) == ["%y: f32[1,2,4,8] = attention(%q, %k, %v) {scale=0.25}"]


def test_a_constant_bias_stays() -> None:
    p = program(f"graph g({QKV}) {{ {ATTENTION.format('@m')} }}", m=np.full((4, 4), -1e9, np.float32))
    assert legalize(p) is p


def test_a_filled_mask_becomes_the_boolean_that_filled_it() -> None:
    p = program(
        f"""graph g({QKV}, %p: b8[1,4]) {{
          %m: f32[1,4] = masked_fill(@z, %p) {{value=-inf}}
          %r: f32[1,1,1,4] = reshape(%m) {{shape=(1,1,1,4)}}
          {ATTENTION.format("%r")} }}""",
        z=np.zeros((1, 4), np.float32),
    )
    assert body(legal(p)) == [
        "%shown: b8[1,4] = logical_not(%p)",
        "%r.allowed: b8[1,1,1,4] = reshape(%shown) {shape=(1,1,1,4)}",
        "%y: f32[1,2,4,8] = attention(%q, %k, %v, %r.allowed) {scale=0.25}",
    ]


def test_a_sum_of_masks_becomes_a_conjunction() -> None:
    p = program(
        f"""graph g({QKV}, %p: b8[1,4]) {{
          %m: f32[1,4] = where(%p, @h, @z)
          %r: f32[4,4] = add(@c, %m)
          {ATTENTION.format("%r")} }}""",
        z=np.zeros((), np.float32),
        h=np.array(-np.inf, np.float32),
        c=CAUSAL,
    )
    after = legal(p)
    assert [n.op for n in after.graphs[0].nodes][-2:] == ["logical_and", "attention"]


def test_a_mask_added_to_scores_becomes_a_fill() -> None:
    p = program(
        f"graph g(%q: f32[1,2,4,8], %k: f32[1,2,4,8]) {{ {SCORES} %m: f32[1,2,4,4] = add(%s, @c) "
        "%y: f32[1,2,4,4] = softmax(%m) {axis=3} return %y }",
        c=CAUSAL,
    )
    assert body(legal(p))[1] == "%m: f32[1,2,4,4] = masked_fill(%s, @c.allowed.not) {value=-inf}"


@pytest.mark.filterwarnings("ignore:invalid value")  # a row without a key: NaN before and after
@pytest.mark.parametrize("low", [-np.inf, -1e9])
@pytest.mark.parametrize("order", ["%p, %s, @h", "%p, @h, %s"])
def test_a_choice_of_scores_or_infinity_becomes_a_fill(order: str, low: float) -> None:
    p = program(
        f"graph g(%q: f32[1,2,4,8], %k: f32[1,2,4,8], %p: b8[1,1,4,4]) {{ {SCORES} "
        f"%m: f32[1,2,4,4] = where({order}) %y: f32[1,2,4,4] = softmax(%m) {{axis=3}} return %y }}",
        h=np.array(low, np.float32),
    )
    assert "masked_fill" in [n.op for n in legal(p).graphs[0].nodes]


def test_a_mask_of_large_numbers_keeps_its_nodes_in_float() -> None:
    p = program(
        f"""graph g({QKV}, %p: b8[1,4]) {{
          %m: f32[1,4] = masked_fill(@z, %p) {{value=-1e9}}
          %r: f32[4,4] = add(@b, %m)
          %a: f32[1,2,4,8] = attention(%q, %k, %v, %r) {{scale=0.25}}
          %y: f32[1,2,4,8] = sigmoid(%a)
          return %y }}""",
        z=np.zeros((1, 4), np.float32),
        b=np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32),
    )
    quantized = quantize(p, calibrate(p, samples(p)))
    why = {i.op: i.why for i in float_islands(quantized)}
    assert why["masked_fill"] == "it makes a mask of minus infinity, for which int8 has no number"
    assert why["attention"] == "its parameters are computed at run time"
    assert "add" in why


MASKINGS = {
    "a choice of -1e9": "%m: f32[1,4,4] = where(%p, @low, %s)",
    "a product with -1e9": '%c: f32[1,4,4] = cast(%p) {dtype="f32"} %d: f32[1,4,4] = mul(%c, @low) '
    "%m: f32[1,4,4] = add(%s, %d)",
    "a choice of 0 or -1e9": "%d: f32[1,4,4] = where(%p, @low, @none) %m: f32[1,4,4] = add(%s, %d)",
    "a fill that is moved": "%f: f32[1,4,4] = masked_fill(%s, %p) {value=-1e9} "
    "%m: f32[1,4,4] = transpose(%f) {perm=(0, 1, 2)}",
    "a fill that is scaled": "%f: f32[1,4,4] = masked_fill(%s, %p) {value=-1e9} "
    "%m: f32[1,4,4] = mul(%f, @tenth)",
    "infinity that is scaled": "%f: f32[1,4,4] = masked_fill(%s, %p) {value=-inf} "
    "%m: f32[1,4,4] = mul(%f, @tenth)",
}


@pytest.mark.parametrize("masking", MASKINGS)
def test_softmax_of_scores_masked_at_run_time_is_close_in_int8(masking: str) -> None:
    y = "%y: f32[1,4,4] = softmax(%m) {axis=2} %z: f32[1,4,4] = neg(%y) return %z"
    p = program(
        f"graph g(%s: f32[1,4,4], %p: b8[1,4,4]) {{ {MASKINGS[masking]} {y} }}",
        low=np.array(-1e9, np.float32),
        none=np.array(0, np.float32),
        tenth=np.array(0.1, np.float32),
    )
    quantized = quantize(p, calibrate(p, samples(p)))
    (t,) = (v.type for n in quantized.graphs[0].nodes for v in n.outputs if v.name == "z")
    s = quantized.graphs[0].inputs[0].type
    assert t.quant is not None
    for inputs in samples(p):
        own = (
            inputs
            if s.quant is None
            else {**inputs, "s": quantize_array(inputs["s"], s.quant).astype(np.int8)}
        )
        found = dequantize_array(outputs(quantized, own), t.quant)
        # scores that reach 16 below the largest have steps of 1/16 or so: 3 % of a probability
        np.testing.assert_allclose(found, outputs(p, inputs), atol=0.03)


def test_scores_filled_for_softmax_alone_stay_in_integers() -> None:
    p = program(
        "graph g(%s: f32[1,4,4], %p: b8[1,4,4]) { %f: f32[1,4,4] = masked_fill(%s, %p) {value=-1e9} "
        "%y: f32[1,4,4] = softmax(%f) {axis=2} return %y }"
    )
    assert float_islands(quantize(p, calibrate(p, samples(p)))) == ()


def test_a_bias_that_is_an_input_stays_in_float() -> None:
    p = program(
        f"""graph g({QKV}, %b: f32[4,4]) {{
          %r: f32[1,1,4,4] = reshape(%b) {{shape=(1,1,4,4)}}
          {ATTENTION.format("%r")} }}"""
    )
    quantized = quantize(p, calibrate(p, samples(p)))
    bias = quantized.graphs[0].inputs[3]
    assert bias.type.quant is None


def transformer(masked: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """An encoder layer under a mask: "causal", "padding" (a boolean input), or both."""
    import torch
    from torch import nn

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, 0.0, batch_first=True)

        def forward(self, x: Any, padding: Any = None) -> Any:
            mask = nn.Transformer.generate_square_subsequent_mask(TOKENS) if masked != "padding" else None
            return self.layer(x, src_mask=mask, src_key_padding_mask=padding)

    x, padding = torch.zeros(1, TOKENS, WIDTH), torch.zeros(1, TOKENS, dtype=torch.bool)
    return Masked().eval(), (x,) if masked == "causal" else (x, padding)


def inputs_of(masked: str) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    found: dict[str, Array] = {"x": rng.normal(size=(8, TOKENS, WIDTH)).astype(np.float32)}
    if masked != "causal":
        found["padding"] = np.arange(TOKENS) >= rng.integers(3, TOKENS, (8, 1))
    return found


@pytest.mark.parametrize("masked", ["causal", "padding", "both"])
def test_a_masked_transformer_has_no_float_island(masked: str) -> None:
    model, example = transformer(masked)
    done = transform(Request(model, "host", calib=inputs_of(masked), example_inputs=example))
    assert float_islands(done.program) == ()


def test_what_is_masked_does_not_reach_the_int8_outputs(tmp_path: Path) -> None:
    model, example = transformer("both")
    inputs = inputs_of("both")
    artifact = edgec.compile(model, example, target="host", out=tmp_path / "a", calib=inputs)
    (before,) = artifact.run(inputs).values()
    changed = inputs["x"].copy()
    changed[:, -1] = 5.0  # the last token is later than all others, and padding
    (after,) = artifact.run({**inputs, "x": changed}).values()
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])


def test_the_int8_outputs_of_a_masked_transformer_are_close(tmp_path: Path) -> None:
    import torch

    model, example = transformer("both")
    inputs = inputs_of("both")
    artifact = edgec.compile(model, example, target="host", out=tmp_path / "a", calib=inputs)
    (found,) = artifact.run(inputs).values()
    x, padding = (torch.from_numpy(inputs[n]) for n in ("x", "padding"))
    with torch.no_grad():
        wanted = model(x, padding).numpy()
    # 4 % of the range: five to ten int8 steps after two layer norms
    assert float(np.abs(found - wanted).max()) < 0.04 * float(np.ptp(wanted))
