"""Attention that models spell out becomes one op, and takes its heads where projections left them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec import interp, pipeline
from edgec.build import constant
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, Program
from edgec.passes.attention_places import attention_places
from edgec.passes.merge_linears import merge_projections
from edgec.passes.recognise_attention import recognise_attention
from edgec.passes.recognise_linear_attention import recognise_linear_attention
from edgec.passes.recognise_windows import recognise_windows
from edgec.text import read, show
from edgec.verify import verify

torch = pytest.importorskip("torch")
QKV = "%q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]"
CAUSAL = np.tril(np.ones((4, 4), np.bool_))
FLOAT = pipeline.Options(precision="fp32")


def program(text: str, **constants: Array) -> Program:
    return Program((read(text),), {n: constant(c) for n, c in constants.items()}, {})


def body(p: Program) -> list[str]:
    """Node lines of the only graph."""
    return [line.strip() for line in show(p.graphs[0]).splitlines()[1:-2] if " in %" not in line]


def run(p: Program) -> list[Array]:
    rng = np.random.default_rng(0)
    inputs = {}
    for v in p.graphs[0].inputs:
        plain: Array = rng.normal(size=v.type.dims).astype(np.float32)
        hidden: Array = rng.random(v.type.dims) < 0.3
        if hidden.ndim:
            hidden[..., 0] = False  # one key stays
        inputs[v.name] = hidden if v.type.dtype.numpy == np.bool_ else plain
    found, _ = interp.run(p, p.graphs[0], inputs)
    return [found[ref] for ref in p.graphs[0].outputs]


def same(before: Program, after: Program) -> Program:
    """`after`, verified, and with the same numbers."""
    verify(after)
    for a, b in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(b, a, rtol=0.0, atol=2e-6 * float(np.abs(a).max()))
    return after


def recognised(text: str, **constants: Array) -> list[str]:
    p = program(text, **constants)
    return body(same(p, recognise_attention(p)))


def spelt_out(middle: str, inputs: str = QKV) -> str:
    """A graph from scores %s to what the softmax reads, %m."""
    return (
        f"graph g({inputs}) {{ %s: f32[1,2,4,4] = matmul(%q, %k) {{transpose_b=True}} {middle} "
        "%p: f32[1,2,4,4] = softmax(%m) {axis=3} %y: f32[1,2,4,8] = matmul(%p, %v) return %y }"
    )


def test_scaled_scores_become_attention() -> None:
    text = spelt_out("%m: f32[1,2,4,4] = mul(%s, @k)")
    assert recognised(text, k=np.float32([0.25])) == ["%y: f32[1,2,4,8] = attention(%q, %k, %v) {scale=0.25}"]


def test_scales_of_q_and_k_multiply() -> None:
    text = (
        f"graph g({QKV}) {{ %a: f32[1,2,4,8] = mul(%q, @c) %t: f32[1,2,8,4] = transpose(%k) {{perm=(0,1,3,2)}} "
        "%b: f32[1,2,8,4] = mul(%t, @c) %s: f32[1,2,4,4] = matmul(%a, %b) %p: f32[1,2,4,4] = softmax(%s) {axis=3} "
        "%y: f32[1,2,4,8] = matmul(%p, %v) return %y }"
    )
    assert recognised(text, c=np.float32([0.5])) == ["%y: f32[1,2,4,8] = attention(%q, %k, %v) {scale=0.25}"]


def test_constant_addends_become_one_mask() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((1, 2, 4, 4), (1, 1, 4, 4)))
    text = spelt_out("%n: f32[1,2,4,4] = add(%s, @a) %m: f32[1,2,4,4] = add(%n, @b)")
    p = program(text, a=a, b=b)
    after = same(p, recognise_attention(p))
    (node,) = after.graphs[0].nodes
    np.testing.assert_allclose(after.constants[node.inputs[3][1:]].data, a + b, atol=1e-6)


def test_an_addend_of_run_time_becomes_the_mask() -> None:
    text = spelt_out("%m: f32[1,2,4,4] = add(%s, %r)", QKV + ", %r: f32[1,1,1,4]")
    assert recognised(text) == ["%y: f32[1,2,4,8] = attention(%q, %k, %v, %r) {scale=1.0}"]


@pytest.mark.parametrize("low", ["-inf", "-1e9"])
def test_a_causal_fill_becomes_causal(low: str) -> None:
    text = spelt_out(f"%m: f32[1,2,4,4] = masked_fill(%s, @h) {{value={low}}}")
    wanted = ["%y: f32[1,2,4,8] = attention(%q, %k, %v) {scale=1.0, causal=True}"]
    assert recognised(text, h=~CAUSAL) == wanted


def test_a_fill_of_run_time_becomes_its_boolean() -> None:
    text = spelt_out("%m: f32[1,2,4,4] = masked_fill(%s, %h) {value=-inf}", QKV + ", %h: b8[1,1,1,4]")
    assert recognised(text) == [
        "%shown: b8[1,1,1,4] = logical_not(%h)",
        "%y: f32[1,2,4,8] = attention(%q, %k, %v, %shown) {scale=1.0}",
    ]


def test_a_finite_fill_of_run_time_stays() -> None:
    p = program(spelt_out("%m: f32[1,2,4,4] = masked_fill(%s, %h) {value=-1e9}", QKV + ", %h: b8[1,1,1,4]"))
    assert recognise_attention(p) is p


def test_a_fill_that_a_scale_makes_small_stays() -> None:
    """-1e4 * 5e-4 = -5 has weight beside other scores."""
    text = spelt_out("%n: f32[1,2,4,4] = masked_fill(%s, @h) {value=-1e4} %m: f32[1,2,4,4] = mul(%n, @k)")
    p = program(text, h=~CAUSAL, k=np.float32([5e-4]))
    assert recognise_attention(p) is p


def mixed(addend: float, row: int = 2) -> dict[str, Array]:
    """A causal fill, and an addend on all keys of one row that the fill leaves."""
    added = np.zeros((4, 4), np.float32)
    added[row, : row + 1] = addend
    return {"h": ~CAUSAL, "a": added}


MIXED = "%n: f32[1,2,4,4] = masked_fill(%s, @h) {value=-1e9} %m: f32[1,2,4,4] = add(%n, @a)"


@pytest.mark.parametrize("addend", [-np.inf, -1e9, -9.9999e8])
def test_a_finite_fill_stays_where_an_addend_is_as_low(addend: float) -> None:
    """The keys of the fill then have weight, in PyTorch the same for each."""
    p = program(spelt_out(MIXED), **mixed(addend))
    assert recognise_attention(p) is p


def test_a_finite_fill_and_an_addend_that_leaves_a_key_in_each_row_become_one_mask() -> None:
    p = program(spelt_out(MIXED), **mixed(-50.0))
    after = same(p, recognise_attention(p))
    assert [node.op for node in after.graphs[0].nodes] == ["attention"]
    p = program(spelt_out(MIXED.replace("-1e9", "-inf")), **mixed(-1e9))
    assert [node.op for node in same(p, recognise_attention(p)).graphs[0].nodes] == ["attention"]


def test_a_finite_fill_beside_an_addend_of_run_time_stays() -> None:
    middle = "%n: f32[1,2,4,4] = masked_fill(%s, @h) {value=-1e9} %m: f32[1,2,4,4] = add(%n, %r)"
    p = program(spelt_out(middle, QKV + ", %r: f32[1,1,1,4]"), h=~CAUSAL)
    assert recognise_attention(p) is p


def test_a_reshape_to_other_heads_before_the_softmax_stays() -> None:
    text = (
        "graph g(%q: f32[1,2,6,8], %k: f32[1,1,5,8], %v: f32[1,1,5,8]) { "
        "%s: f32[1,2,6,5] = matmul(%q, %k) {transpose_b=True} "
        "%m: f32[1,3,4,5] = reshape(%s) {shape=(1,3,4,5)} %p: f32[1,3,4,5] = softmax(%m) {axis=3} "
        "%y: f32[1,3,4,8] = matmul(%p, %v) return %y }"
    )
    p = program(text)
    assert recognise_attention(p) is p


def test_scores_that_leave_the_graph_stay() -> None:
    p = program(
        spelt_out("%m: f32[1,2,4,4] = mul(%s, @k)").replace("return %y", "return %y, %p"), k=np.float32([0.5])
    )
    assert recognise_attention(p) is p


def test_keys_repeated_for_their_group_are_taken_once() -> None:
    text = (
        "graph g(%q: f32[1,4,5,8], %k: f32[1,2,5,8], %v: f32[1,2,5,8]) { "
        + " ".join(
            f"%{x}a: f32[1,2,1,5,8] = reshape(%{x}) {{shape=(1,2,1,5,8)}} "
            f"%{x}b: f32[1,2,2,5,8] = expand(%{x}a) {{shape=(1,2,2,5,8)}} "
            f"%{x}c: f32[1,4,5,8] = reshape(%{x}b) {{shape=(1,4,5,8)}}"
            for x in "kv"
        )
        + " %y: f32[1,4,5,8] = attention(%q, %kc, %vc) {scale=0.5} return %y }"
    )
    assert recognised(text) == ["%y: f32[1,4,5,8] = attention(%q, %k, %v) {scale=0.5}"]


def test_heads_of_a_packed_projection_are_read_in_place() -> None:
    p = program(
        """graph g(%x: f32[2,5,48]) {
          %h: f32[2,5,3,2,8] = reshape(%x) {shape=(2,5,3,2,8)}
          %q: f32[2,5,2,8] = select(%h) {axis=2, index=0}
          %k: f32[2,5,2,8] = select(%h) {axis=2, index=1}
          %v: f32[2,5,2,8] = select(%h) {axis=2, index=2}
          %qt: f32[2,2,5,8] = transpose(%q) {perm=(0,2,1,3)}
          %kt: f32[2,2,5,8] = transpose(%k) {perm=(0,2,1,3)}
          %vt: f32[2,2,5,8] = transpose(%v) {perm=(0,2,1,3)}
          %a: f32[2,2,5,8] = attention(%qt, %kt, %vt) {scale=0.35, causal=True}
          %t: f32[2,5,2,8] = transpose(%a) {perm=(0,2,1,3)}
          %y: f32[2,5,16] = reshape(%t) {shape=(2,5,16)}
          return %y }"""
    )
    assert body(same(p, attention_places(p))) == [
        "%a.tokens: f32[2,5,2,8] = strided_attention(%x, %x, %x) {scale=0.35, batch=2, queries=5, keys=5, heads=2, "
        "kv_heads=2, depth=8, value_depth=8, q=(0,240,8,48), k=(16,240,8,48), v=(32,240,8,48), causal=True}",
        "%y: f32[2,5,16] = reshape(%a.tokens) {shape=(2,5,16)}",
    ]


def test_projections_of_one_attention_become_one() -> None:
    heads = " ".join(
        f"%{x}: f32[1,5,16] = linear(%x, @w{x}) %{x}h: f32[1,5,2,8] = reshape(%{x}) {{shape=(1,5,2,8)}} "
        f"%{x}t: f32[1,2,5,8] = transpose(%{x}h) {{perm=(0,2,1,3)}}"
        for x in "qkv"
    )
    rng = np.random.default_rng(2)
    weights = {f"w{x}": rng.normal(size=(16, 16)).astype(np.float32) for x in "qkv"}
    end = "%y: f32[1,2,5,8] = attention(%qt, %kt, %vt) {scale=0.35} return %y"
    p = program(f"graph g(%x: f32[1,5,16]) {{ {heads} {end} }}", **weights)
    after = same(p, attention_places(merge_projections(p)))
    assert ops(after) == ["linear", "strided_attention", "transpose"]
    assert "q=(0,0,8,48), k=(16,0,8,48), v=(32,0,8,48)" in body(after)[1]


def test_heads_that_no_movement_made_stay() -> None:
    p = program(f"graph g({QKV}) {{ %y: f32[1,2,4,8] = attention(%q, %k, %v) {{scale=0.5}} return %y }}")
    assert attention_places(p) is p


def imported(module: Any, *example: Any) -> Program:
    """The module after the float passes."""
    module.eval()
    return pipeline.run(load(module, LoadOptions(example)), pipeline.float_steps(), FLOAT, {}).program


def ops(p: Program) -> list[str]:
    return [n.op for n in p.graphs[0].nodes if n.op != "reshape"]


class Windows(torch.nn.Module):
    """Swin's attention in one block, written as its authors do. `own`: the size of numbers that each window adds."""

    def __init__(self, shift: int, own: float = 0.0) -> None:
        super().__init__()
        self.shift, self.qkv, self.out = shift, torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
        self.bias = torch.nn.Parameter(torch.randn(2, 16, 16))
        region = torch.zeros(8, 12)
        cuts = (slice(0, -4), slice(-4, -2), slice(-2, None))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                region[rows, columns] = 3 * i + j
        parts = region.view(2, 4, 3, 4).permute(0, 2, 1, 3).reshape(-1, 16)
        apart = (parts[:, None] != parts[:, :, None]).float()
        self.register_buffer("mask", apart * -100 + own * (1 - apart) * torch.randn(6, 16, 16))

    def forward(self, x: Any) -> Any:
        n = x.shape[0]
        y = torch.roll(x, (-2, -2), (1, 2)) if self.shift else x
        y = y.view(n, 2, 4, 3, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = (q * 8**-0.5) @ k.transpose(-2, -1) + self.bias
        if self.shift:
            scores = (scores.view(n, 6, 2, 16, 16) + self.mask[None, :, None]).view(-1, 2, 16, 16)
        y = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, 16))
        y = y.view(n, 2, 3, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 12, 16)
        return x + (torch.roll(y, (2, 2), (1, 2)) if self.shift else y)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shift", [0, 2])
def test_windows_of_a_map_become_one_op(shift: int, batch: int) -> None:
    p = imported(Windows(shift), torch.randn(batch, 8, 12, 16))
    after = same(p, recognise_windows(p))
    assert ops(after) == ["linear", "window_attention", "linear", "add"]
    text = next(line for line in body(after) if "window_attention" in line)
    assert f"window=(4,4), shift=({shift},{shift}), q=(0,8), k=(16,8), v=(32,8)" in text
    assert ("hidden=-100.0" in text) == bool(shift)


def test_windows_with_small_numbers_of_their_own_stay() -> None:
    """1e-3 is far below the -100 of hidden pairs, and is no rounding of it."""
    p = imported(Windows(2, 1e-3), torch.randn(1, 8, 12, 16))
    assert "window_attention" not in ops(same(p, recognise_windows(p)))


class Linear(torch.nn.Module):
    """EfficientViT's attention from one map; `tokens_last` as in the first release."""

    def __init__(self, tokens_last: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.tokens_last, self.eps = tokens_last, eps
        self.qkv, self.out = torch.nn.Conv2d(16, 48, 1), torch.nn.Conv2d(16, 16, 1)

    def forward(self, x: Any) -> Any:
        n, _, h, w = x.shape
        y = self.qkv(x).reshape(n, 2, 24, h * w)
        if self.tokens_last:
            q, k, v = y.split(8, 2)
            v = torch.nn.functional.pad(v, (0, 0, 0, 1), value=1.0)
            y = (v @ k.relu().transpose(-1, -2)) @ q.relu()
            return self.out((y[:, :, :-1] / (y[:, :, -1:] + self.eps)).reshape(n, 16, h, w))
        q, k, v = y.transpose(-1, -2).chunk(3, -1)
        y = q.relu() @ (k.relu().transpose(-1, -2) @ torch.nn.functional.pad(v, (0, 1), value=1.0))
        return self.out((y[..., :-1] / (y[..., -1:] + self.eps)).transpose(-1, -2).reshape(n, 16, h, w))


@pytest.mark.parametrize("tokens_last", [False, True])
def test_linear_attention_becomes_one_op(tokens_last: bool) -> None:
    p = imported(Linear(tokens_last), torch.randn(1, 16, 3, 4))
    assert ops(same(p, recognise_linear_attention(p))) == ["conv2d", "linear_attention", "conv2d"]


def test_a_ratio_with_a_number_below_0_is_no_linear_attention() -> None:
    p = imported(Linear(False, -20.0), torch.randn(1, 16, 3, 4))
    assert "linear_attention" not in ops(same(p, recognise_linear_attention(p)))
