"""Kernels of int8 training beyond tests/test_kernels.py: bit for bit in float too, in place, on drawn shapes, at the
ends of their ranges, and emulated on Cortex-M with every example in one firmware."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Attrs, DType, Loc, Node, Quant, Type, Value, per_channel, per_tensor
from edgec.ops import OPS
from edgec.ops.block_float import Rounding
from edgec.ops.define import Arrays, run
from edgec.ops.examples import ExampleNode, types_of
from edgec.ops.gradient import GradientSumAttrs, random_mask, random_pair
from edgec.ops.train_conv import TrainConv2dBiasAttrs, TrainConv2dWeightAttrs, TrainedConv2dInputGradAttrs
from edgec.ops.trained import TrainedConv2dAttrs
from edgec.plan import Kernel, NodeView
from edgec.targets.load import load_target
from tests.test_dsp import CC, SANITIZE, WARNINGS, link_script
from tests.test_dsp import run as run_firmware
from tests.test_kernels import nodes
from tests.test_kernels_m0 import HEAD, LINK, MAIN, TESTS_C, c_case

NAMES = (
    *("mask_and", "gradient_quantize", "gradient_float", "gradient_sum", "trained_add", "trained_conv2d"),
    *("trained_conv2d_input_grad", "train_conv2d_weight", "train_conv2d_bias"),
    *("sum_conv2d_weight", "sum_conv2d_bias", "velocity", "sgd_integer"),
)
RECORDS = tuple(k for k in KERNELS if k.op in NAMES)
TARGET = harness.host("dsp", "mve", "unaligned")
ROUNDINGS: tuple[Rounding, ...] = ("stochastic", "nearest")


def bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def assert_same_bits(actual: Arrays, expected: Arrays) -> None:
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(bits(a), bits(e))


def made(
    op: str, attrs: Attrs, inputs: Arrays, quants: dict[int, Quant] | None = None, y: Quant | None = None
) -> tuple[NodeView, Arrays]:
    """The node with all inputs as constants, and the outputs that its op gives."""
    types = tuple(replace(t, quant=(quants or {}).get(i)) for i, t in enumerate(types_of(inputs)))
    outs = OPS[op].infer(attrs, types)
    if y is not None:
        outs = (Type(outs[0].shape, DType.I8, y), *outs[1:])
    names = tuple(f"@c{i}" for i in range(len(inputs)))
    node = Node(op, names, tuple(Value(f"y{i}", t) for i, t in enumerate(outs)), attrs, Loc("test"))
    return NodeView(node, types, outs, inputs), run(OPS[op], attrs, types, inputs, outs)


def assert_all_kernels(view: NodeView, inputs: Arrays, expected: Arrays) -> set[str]:
    """Every record that accepts the node gives what is expected; their symbols."""
    kernels = [k for k in RECORDS if k.op == view.node.op and k.accepts(view, TARGET)]
    assert kernels, "the portable kernel takes every shape"
    for kernel in kernels:
        assert_same_bits(harness.run_whole(kernel, view, inputs), expected)
    return {k.symbol for k in kernels}


@pytest.mark.parametrize("kernel", RECORDS, ids=lambda k: k.symbol)
def test_float_results_have_the_bits_of_the_op(kernel: Kernel) -> None:
    for node, view in nodes(kernel):
        assert_same_bits(harness.run_whole(kernel, view, node.inputs), node.expected)


@pytest.mark.parametrize("kernel", [k for k in RECORDS if k.in_place], ids=lambda k: k.symbol)
def test_result_may_stand_where_an_operand_stood(kernel: Kernel) -> None:
    for node, view in nodes(kernel):
        passed = kernel.launch(view, TARGET).inputs
        for index in kernel.in_place:
            if passed.count(index) == 1 and view.inputs[index].bytes == view.outputs[0].bytes:
                assert_same_bits(harness.run_in_place(kernel, view, node.inputs, index), node.expected)


def test_sources_of_training_all_have_records() -> None:
    sources = {p.relative_to(harness.RUNTIME).as_posix() for p in harness.RUNTIME.glob("train/**/*.c")}
    assert sources - {k.source for k in KERNELS} == set()


class Shapes:
    """A drawn convolution."""

    def __init__(self, rng: np.random.Generator, plain: bool) -> None:
        def pick(low: int, high: int) -> int:
            return int(rng.integers(low, high + 1))

        kind = pick(0, 3)
        self.groups, i, per_group = 1, pick(1, 21), pick(1, 21)
        if kind == 1:  # depthwise
            self.groups, i, per_group = pick(2, 21), 1, 1
        elif kind == 2:
            self.groups, i, per_group = 2, pick(1, 5), pick(1, 4)
        one = plain and kind == 0
        self.kernel = (1, 1) if one else (pick(1, 5), pick(1, 5))
        self.stride = (1, 1) if one else (pick(1, 3), pick(1, 3))
        self.dilation = (1, 1) if one or pick(0, 2) else (pick(1, 2), pick(1, 2))
        low = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        self.pad = (0, 0, 0, 0) if one else tuple(pick(0, 3) for _ in range(4))
        top, bottom, left, right = self.pad
        height, width = max(1, low[0] - top - bottom) + pick(0, 6), max(1, low[1] - left - right) + pick(0, 6)
        self.x = (pick(1, 2), height, width, i * self.groups)
        self.w = (per_group * self.groups, *self.kernel, i)
        out = [
            (size + before + after - reach) // step + 1
            for size, before, after, reach, step in (
                (height, top, bottom, low[0], self.stride[0]),
                (width, left, right, low[1], self.stride[1]),
            )
        ]
        self.y = (self.x[0], *out, self.w[0])
        self.rows = self.groups > 1 and i == 1
        count = pick(0, self.w[0] if self.rows else i) if self.rows or self.groups == 1 else 0
        among = self.w[0] if self.rows else i
        self.idx = np.sort(rng.choice(among, count, replace=False)).astype(np.int32)

    def columns(self, rng: np.random.Generator) -> Arrays:
        """idx and slice, or nothing."""
        k = len(self.idx)
        shape = (k, *self.w[1:]) if self.rows else (*self.w[:3], k)
        return (self.idx, int8(rng, shape)) if k else ()


def int8(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(-128, 128, shape).astype(np.int8)


Drawn = tuple[NodeView, Arrays, Arrays]
"""A node, its inputs and the outputs that its op gives."""


def drawn_convolutions(plain: bool, seed: int = 21) -> Iterator[Drawn]:
    rng = np.random.default_rng(seed)
    for _ in range(120):
        s = Shapes(rng, plain)
        scales = 10.0 ** rng.uniform(-9, -2, s.w[0])  # from shifts above 55 to such below 33
        scales[rng.random(s.w[0]) < 0.1] = 40.0
        w_quant = per_channel(scales, 0)
        bias = rng.integers(-(2**31), 2**31, s.w[0]) >> rng.integers(0, 31, s.w[0])
        inputs = (int8(rng, s.x), int8(rng, s.w), bias.astype(np.int32), *s.columns(rng))
        quants = {0: per_tensor(0.5, int(rng.integers(-128, 128))), 1: w_quant, 4: w_quant}
        y = per_tensor(0.25, int(rng.integers(-128, 128)))
        act = (-3.0, 20.0) if rng.integers(2) else None
        mask = bool(rng.integers(2))
        attrs = TrainedConv2dAttrs(s.stride, s.pad, s.dilation, s.groups, act, mask)
        view, expected = made("trained_conv2d", attrs, inputs, quants, y)
        yield view, inputs, expected


@pytest.mark.parametrize("plain", [True, False])
def test_trained_conv2d_on_drawn_shapes(plain: bool) -> None:
    seen = set().union(*(assert_all_kernels(*drawn) for drawn in drawn_convolutions(plain)))
    assert any("depthwise" in name for name in seen)
    assert any("pointwise" in name for name in seen) or not plain
    assert {"ec_dense_trained_conv2d_s8_dsp", "ec_dense_trained_conv2d_mask_s8_dsp"} <= seen


def drawn_input_gradients(plain: bool, seed: int = 22) -> Iterator[Drawn]:
    rng = np.random.default_rng(seed)
    for _ in range(120):
        s = Shapes(rng, plain)
        q, e = random_pair(rng, s.y, int(rng.integers(-40, 20)))
        attrs = TrainedConv2dInputGradAttrs(s.x[1:3], s.stride, s.pad, s.dilation, s.groups, -12)
        rest = (random_mask(rng, s.y), int8(rng, s.w))
        eff = rng.integers(0, 259, s.w[0]).astype(np.int16)
        for gradient, factor in (((q, e), eff), ((q.astype(np.float32),), eff.astype(np.float32) / 7)):
            inputs = (*gradient, *rest, factor, *s.columns(rng))
            view, expected = made("trained_conv2d_input_grad", attrs, inputs)
            yield view, inputs, expected


@pytest.mark.parametrize("plain", [True, False])
def test_input_gradient_on_drawn_shapes(plain: bool) -> None:
    seen = set().union(*(assert_all_kernels(*drawn) for drawn in drawn_input_gradients(plain)))
    assert "ec_depthwise_input_grad_s8_dsp" in seen
    assert "ec_pointwise_input_grad_s8_dsp" in seen or not plain
    assert "ec_dense_input_grad_s8_dsp" in seen


def drawn_weight_steps(plain: bool, seed: int = 23) -> Iterator[Drawn]:
    rng = np.random.default_rng(seed)
    for number in range(100):
        s = Shapes(rng, plain)
        chosen = (s.idx,) if s.rows and len(s.idx) else ()
        k = len(s.idx) if chosen else s.w[0]
        x = int8(rng, (*s.x[:3], k) if chosen else s.x)
        attrs = TrainConv2dWeightAttrs(
            int(rng.integers(-128, 128)),
            int(rng.integers(0, 2**32)),
            int(rng.integers(-(2**31), 2**31)),
            ROUNDINGS[number % 2],
            s.stride,
            s.pad,
            s.dilation,
            s.groups,
        )
        w = int8(rng, (k, *s.w[1:]))
        factor = (10.0 ** rng.uniform(-6, 4, k)).astype(np.float32)
        rest = (factor, np.array([0.01], np.float32), np.array([number], np.int32), *chosen)
        q, e = random_pair(rng, s.y, int(rng.integers(-20, 2)))
        for gradient in ((q, e), ((0.01 * q).astype(np.float32),)):
            inputs = (w, x, *gradient, random_mask(rng, s.y), *rest)
            view, expected = made("train_conv2d_weight", attrs, inputs)
            yield view, inputs, expected


@pytest.mark.parametrize("plain", [True, False])
def test_weights_after_a_step_on_drawn_shapes(plain: bool) -> None:
    seen = set().union(*(assert_all_kernels(*drawn) for drawn in drawn_weight_steps(plain)))
    assert "ec_pointwise_train_weight_pair_dsp" in seen or not plain
    assert "ec_dense_train_weight_pair_dsp" in seen


def test_pointwise_weights_of_a_large_map() -> None:
    rng = np.random.default_rng(24)
    shape, k = (1, 13, 11, 9), 7
    q, e = random_pair(rng, shape)
    rest = (np.full(9, 0.3, np.float32), np.array([1e-3], np.float32), np.array([3], np.int32))
    inputs = (int8(rng, (9, 1, 1, k)), int8(rng, (1, 13, 11, k)), q, e, random_mask(rng, shape), *rest)
    view, expected = made("train_conv2d_weight", TrainConv2dWeightAttrs(5, 6, 7), inputs)
    assert "ec_pointwise_train_weight_pair_dsp" in assert_all_kernels(view, inputs, expected)


EXPONENTS = (-400, -130, 0, 100, 127, 300)
RATES = (0.0, 1e-38, 1e-3, 3e38, np.inf, np.nan)


def updates_at_the_ends(e: int, rate: float) -> Iterator[Drawn]:
    rng = np.random.default_rng(25)
    q = rng.integers(-127, 128, (1, 3, 3, 5)).astype(np.int8)
    given = (q, np.array([e], np.int32), random_mask(rng, q.shape))
    rest = (
        np.array([0.0, 1e-20, 1.0, 1e20, 3e38], np.float32),
        np.array([rate], np.float32),
        np.array([-1], np.int32),
    )
    bias = np.array([-(2**31), -1, 0, 5, 2**31 - 1], np.int32)
    weight = (int8(rng, (5, 1, 1, 6)), int8(rng, (1, 3, 3, 6)))
    for op, attrs, state in (
        ("train_conv2d_bias", TrainConv2dBiasAttrs(1, 2), (bias,)),
        ("train_conv2d_weight", TrainConv2dWeightAttrs(-7, 1, 2), weight),
    ):
        inputs = (*state, *given, *rest)
        view, expected = made(op, attrs, inputs)
        yield view, inputs, expected


@pytest.mark.parametrize("e", EXPONENTS)
@pytest.mark.parametrize("rate", RATES)
def test_updates_at_the_ends_of_float(e: int, rate: float) -> None:
    for drawn in updates_at_the_ends(e, rate):
        assert_all_kernels(*drawn)


def drawn_bias_steps(seed: int = 27) -> Iterator[Drawn]:
    rng = np.random.default_rng(seed)
    for number in range(40):
        channels, pixels = int(rng.integers(1, 50)), int(rng.integers(1, 30 if number % 4 else 700))
        attrs = TrainConv2dBiasAttrs(number, int(rng.integers(-(2**31), 2**31)), ROUNDINGS[number % 2])
        shape = (1, 1, pixels, channels)
        q, e = random_pair(rng, shape, int(rng.integers(-20, 2)))
        if number % 4 == 0:
            q = np.full(shape, 127 if number % 8 else -127, np.int8)  # sums at their ends
        rate, step = np.array([0.01], np.float32), np.array([number], np.int32)
        factor = (10.0 ** rng.uniform(-6, 4, channels)).astype(np.float32)
        bias = rng.integers(-(2**31), 2**31, channels).astype(np.int32)
        inputs = (bias, q, e, random_mask(rng, shape), factor, rate, step)
        view, expected = made("train_conv2d_bias", attrs, inputs)
        yield view, inputs, expected


def test_biases_after_a_step_on_drawn_shapes() -> None:
    for drawn in drawn_bias_steps():
        assert_all_kernels(*drawn)


def test_gradient_that_grows_is_halved_where_it_was_written() -> None:
    rng = np.random.default_rng(26)
    for _ in range(60):
        shape = (1, int(rng.integers(1, 9)), 3, int(rng.integers(1, 12)))
        q = np.round(rng.normal(size=shape) * 2.0 ** np.linspace(0, 5, shape[1])[None, :, None, None])
        q = np.clip(q, -127, 127).astype(np.int8)
        e = [np.array([int(v)], np.int32) for v in rng.integers(-60, 10, 2)]
        factors = tuple(float(f) for f in rng.normal(size=2) * 10.0 ** rng.uniform(-4, 4, 2))
        attrs = GradientSumAttrs(factors, (True, True))
        masks = [random_mask(rng, shape) for _ in range(2)]
        inputs = (q, e[0], masks[0], q[:, ::-1].copy(), e[1], masks[1])
        view, expected = made("gradient_sum", attrs, inputs)
        assert_all_kernels(view, inputs, expected)


def test_no_gradient_at_all_is_zero() -> None:
    q, e = np.zeros((1, 4, 4, 8), np.int8), np.array([-5], np.int32)
    mask, eff = np.zeros(16, np.uint8), np.full(8, 128, np.int16)
    inputs = (q, e, mask, np.full((8, 1, 1, 12), -128, np.int8), eff)
    view, expected = made(
        "trained_conv2d_input_grad", TrainedConv2dInputGradAttrs((4, 4), exponent=-3), inputs
    )
    assert_all_kernels(view, inputs, expected)
    assert not expected[0].any()
    assert int(expected[1][0]) == -8


CORES = {
    "cortex-m0": (),
    "cortex-m4": ("dsp",),
    "cortex-m7": ("dsp",),
    "cortex-m33": ("dsp",),
    "cortex-m55": ("dsp", "mve"),
}


def all_examples(folders: tuple[str, ...]) -> Iterator[tuple[Kernel, ExampleNode, NodeView]]:
    """Each example once for each kernel that takes it and is portable or in one of the folders."""
    for kernel in RECORDS:
        if {"dsp", "mve"} & set(kernel.source.split("/")) - set(folders):
            continue
        done: set[str] = set()
        for node, view in nodes(kernel):
            if node.example.label not in done:
                done.add(node.example.label)
                yield kernel, node, view


def source_of(folders: tuple[str, ...]) -> tuple[str, list[str], int]:
    """main.c of a firmware that runs the examples, the kernels' sources, and how many cases there are."""
    cases, sources = [], set()
    for kernel, node, view in all_examples(folders):
        cases.append(c_case(f"case_{len(cases)}", kernel, node, view))
        sources.add(str(harness.RUNTIME / kernel.source))
    calls = "\n".join(f"    failures += case_{i}();" for i in range(len(cases)))
    text = HEAD + "".join(cases) + MAIN % calls
    return (text.replace("    CCR |= 8u;\n", "") if folders else text), sorted(sources), len(cases)


@pytest.mark.qemu
@pytest.mark.parametrize("core", CORES)
def test_examples_on_emulated_cores(tmp_path: Path, core: str) -> None:
    portable = core == "cortex-m0"
    text, sources, count = source_of(CORES[core])
    assert count > 60
    (tmp_path / "main.c").write_text(text)
    toolchain = load_target(core).toolchain
    board = "cortex-m4" if portable else core  # Armv6-M code on a board that traps unaligned access
    command = [
        toolchain.cc,
        *toolchain.cflags,
        *toolchain.mve_cflags,
        "-Os",
        "-std=c99",
        "-ffp-contract=off",
        "-Wall",
        "-Werror",
    ]
    command += [f"-I{harness.RUNTIME / 'include'}", f"-I{TESTS_C}", str(tmp_path / "main.c")]
    command += [str(TESTS_C / "dsp_start.c"), *sources, *LINK[:-2]]
    command += ["-T", str(link_script(tmp_path / "board.ld", board)), "-o", str(tmp_path / "t.elf"), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    code, printed = run_firmware(tmp_path / "t.elf", core=board)
    assert code == 0, printed


def test_examples_under_sanitizers(tmp_path: Path) -> None:
    text, sources, _ = source_of(("dsp", "mve"))
    (tmp_path / "main.c").write_text(text)
    command = ["gcc", "-std=c99", "-ffp-contract=off", "-Wall", "-Werror", *SANITIZE]
    command += [f"-I{harness.RUNTIME / 'include'}", f"-I{TESTS_C}", str(tmp_path / "main.c")]
    command += [str(TESTS_C / "dsp_host.c"), *sources, "-o", str(tmp_path / "t"), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(tmp_path / "t")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kernel", [k for k in RECORDS if "/dsp/" in k.source], ids=lambda k: k.symbol)
def test_dsp_record_of_training_is_only_for_targets_with_dsp(kernel: Kernel) -> None:
    for _, view in nodes(kernel):
        assert not kernel.accepts(view, harness.host("dsp"))
        assert not kernel.accepts(view, harness.host("unaligned"))


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", CORES)
def test_sources_compile_alone_without_warnings(tmp_path: Path, cpu: str) -> None:
    for source in sorted({k.source for k in RECORDS}):
        if {"dsp", "mve"} & set(source.split("/")) - set(CORES[cpu]):
            continue
        hard = ["-mfloat-abi=hard"] if "/mve/" in source else []
        command = [CC, *WARNINGS, f"-mcpu={cpu}", *hard, f"-I{harness.RUNTIME / 'include'}", "-c"]
        command += [str(harness.RUNTIME / source), "-o", str(tmp_path / "k.o")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
