"""MVE kernels on QEMU's Cortex-M55, bit for bit against their ops: on drawn shapes with odd sizes and tails, and at
the ends of their ranges."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import per_channel, per_tensor
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Arrays
from edgec.ops.linear import LinearAttrs
from edgec.plan import Kernel
from edgec.targets.load import load_target
from tests.test_dsp import link_script
from tests.test_dsp import run as run_firmware
from tests.test_kernels_m0 import HEAD, LINK, MAIN, TESTS_C, c_case
from tests.test_train_kernels import (
    EXPONENTS,
    RATES,
    Drawn,
    assert_same_bits,
    drawn_bias_steps,
    drawn_convolutions,
    drawn_input_gradients,
    drawn_weight_steps,
    int8,
    made,
    updates_at_the_ends,
)

CORE = "cortex-m55"
RECORDS = tuple(k for k in KERNELS if "/mve/" in k.source)
TARGET = harness.host("mve")


@dataclass(frozen=True)
class Node:
    """What `c_case` reads of an example."""

    inputs: Arrays
    expected: Arrays


def built(folder: Path, text: str, kernels: set[Kernel]) -> Path:
    """A firmware of a main.c with the kernels, each file compiled with the flags of its folder."""
    (folder / "main.c").write_text(text)
    toolchain = load_target(CORE).toolchain
    flags = ["-O2", "-std=c99", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-variable"]
    command = [toolchain.cc, *toolchain.cflags, *flags, f"-I{harness.RUNTIME / 'include'}", f"-I{TESTS_C}"]
    objects = []
    for source in sorted({k.source for k in kernels}):
        objects.append(str(folder / source.replace("/", "_")) + ".o")
        alone = [*command, *toolchain.mve_cflags, "-c", str(harness.RUNTIME / source), "-o", objects[-1]]
        subprocess.run(alone, check=True)
    link = [*LINK[:-2], "-T", str(link_script(folder / "board.ld", CORE)), "-o", str(folder / "t.elf"), "-lm"]
    sources = [str(folder / "main.c"), str(TESTS_C / "dsp_start.c")]
    subprocess.run([*command, *sources, *objects, *link], check=True)
    return folder / "t.elf"


def accepted(drawn: Iterator[Drawn]) -> Iterator[tuple[Kernel, Drawn]]:
    """Each drawn node with the kernels that take it."""
    for view, inputs, expected in drawn:
        for kernel in RECORDS:
            if kernel.op == view.node.op and kernel.accepts(view, TARGET):
                yield kernel, (view, inputs, expected)


def run_cases(folder: Path, drawn: Iterator[tuple[Kernel, Drawn]]) -> set[str]:
    """Run every case on the emulated core; the kernels' symbols."""
    cases, kernels = [], set()
    for kernel, (view, inputs, expected) in drawn:
        cases.append(c_case(f"case_{len(cases)}", kernel, Node(inputs, expected), view))  # type: ignore[arg-type]
        kernels.add(kernel)
    assert cases, "no kernel takes a drawn node"
    calls = "\n".join(f"    failures += case_{i}();" for i in range(len(cases)))
    text = HEAD + "".join(cases) + (MAIN % calls).replace("    CCR |= 8u;\n", "")
    code, printed = run_firmware(built(folder, text, kernels), core=CORE)
    assert code == 0, printed
    return {k.symbol for k in kernels}


def drawn_inference(seed: int = 41) -> Iterator[Drawn]:
    """Convolutions of one group and depthwise, and linear layers, with constant parameters."""
    rng = np.random.default_rng(seed)

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    for number in range(150):
        inputs, outputs, stride = pick(1, 40), pick(1, 20), (pick(1, 2), pick(1, 2))
        x, w, attrs = (1, pick(1, 7), pick(1, 7), inputs), (outputs, 1, 1, inputs), Conv2dAttrs(stride)
        if number % 3 == 0:  # depthwise
            channels, kernel, pads = 8 * pick(1, 3), (pick(1, 7), pick(1, 7)), [pick(0, 3) for _ in range(4)]
            low = [max(1, k - sum(pads[2 * i : 2 * i + 2])) for i, k in enumerate(kernel)]
            x, w = (1, low[0] + pick(0, 6), low[1] + pick(0, 6), channels), (channels, *kernel, 1)
            attrs = Conv2dAttrs(
                (stride[0], pick(1, 3)), (pads[0], pads[1], pads[2], pads[3]), groups=channels
            )
        if number % 6 == 2:  # dense
            kernel, reach = (pick(1, 4), pick(1, 4)), (pick(1, 2), pick(1, 2))
            pads = [pick(0, 3) for _ in range(4)]
            wide = [d * (k - 1) + 1 for d, k in zip(reach, kernel, strict=True)]
            low = [max(1, k - sum(pads[2 * i : 2 * i + 2])) for i, k in enumerate(wide)]
            x, w = (1, low[0] + pick(0, 5), low[1] + pick(0, 5), inputs), (outputs, *kernel, inputs)
            attrs = Conv2dAttrs(stride, (pads[0], pads[1], pads[2], pads[3]), reach)
        attrs = replace(attrs, act=(-3.0, 20.0) if pick(0, 1) else None)
        linear = number % 3 == 1
        scales = 10.0 ** rng.uniform(-9, -2, w[0])  # from shifts above 55 to such below 33
        scales[rng.random(w[0]) < 0.1] = 40.0
        bias = (rng.integers(-(2**30), 2**30, w[0]) >> rng.integers(0, 30, w[0])).astype(np.int32)
        weight = int8(rng, (outputs, inputs) if linear else w)
        arrays = (int8(rng, (*x[:2], inputs) if linear else x), weight, bias)
        quants = {0: per_tensor(0.5, pick(-128, 127)), 1: per_channel(scales, 0)}
        quants[2] = per_channel(0.5 * scales, 0)
        y = per_tensor(0.25, pick(-128, 127))
        op, made_attrs = ("linear", LinearAttrs(attrs.act)) if linear else ("conv2d", attrs)
        view, expected = made(op, made_attrs, arrays, quants, y)
        yield view, arrays, expected


@pytest.mark.qemu
def test_inference_kernels_on_drawn_shapes(tmp_path: Path) -> None:
    symbols = {f"ec_{name}_s8_mve" for name in ("pointwise_conv2d", "conv2d", "depthwise_conv2d", "linear")}
    assert run_cases(tmp_path, accepted(drawn_inference())) == symbols


def test_inference_kernels_on_drawn_shapes_here() -> None:
    """The C bodies, on whole maps, row by row through rings, and in place."""
    for kernel, (view, inputs, expected) in accepted(drawn_inference()):
        assert_same_bits(harness.run_whole(kernel, view, inputs), expected)
        if kernel.halo is not None:
            rows = harness.run_rows(kernel, view, inputs, 1)
            assert_same_bits(rows, tuple(e[0] for e in expected))
        if kernel.in_place and view.inputs[0].dims == view.outputs[0].dims:
            assert_same_bits(harness.run_in_place(kernel, view, inputs, 0), expected)


DRAWS = {
    "trained_conv2d-pointwise": (
        drawn_convolutions,
        True,
        {"ec_pointwise_trained_conv2d_s8_mve", "ec_pointwise_trained_conv2d_mask_s8_mve"},
    ),
    "trained_conv2d-depthwise": (
        drawn_convolutions,
        False,
        {"ec_depthwise_trained_conv2d_s8_mve", "ec_depthwise_trained_conv2d_mask_s8_mve"},
    ),
    "input_grad-depthwise": (drawn_input_gradients, False, {"ec_depthwise_input_grad_s8_mve"}),
    "weight-pointwise": (drawn_weight_steps, True, {"ec_pointwise_train_weight_pair_mve"}),
    "input_grad-pointwise": (drawn_input_gradients, True, {"ec_pointwise_input_grad_s8_mve"}),
}


@pytest.mark.qemu
@pytest.mark.parametrize(("draw", "plain", "symbols"), DRAWS.values(), ids=DRAWS)
def test_training_kernels_on_drawn_shapes(
    tmp_path: Path, draw: Callable[[bool, int], Iterator[Drawn]], plain: bool, symbols: set[str]
) -> None:
    assert run_cases(tmp_path, accepted(draw(plain, 31))) >= symbols


@pytest.mark.qemu
def test_biases_after_a_step_on_drawn_shapes(tmp_path: Path) -> None:
    assert run_cases(tmp_path, accepted(drawn_bias_steps())) == {"ec_train_conv2d_bias_pair_mve"}


@pytest.mark.qemu
def test_updates_at_the_ends_of_float(tmp_path: Path) -> None:
    drawn = chain.from_iterable(updates_at_the_ends(e, rate) for e in EXPONENTS for rate in RATES)
    assert run_cases(tmp_path, accepted(drawn)) == {
        "ec_train_conv2d_bias_pair_mve",
        "ec_pointwise_train_weight_pair_mve",
    }


@pytest.mark.parametrize("kernel", RECORDS, ids=lambda k: k.symbol)
def test_mve_record_is_only_for_targets_with_mve(kernel: Kernel) -> None:
    draws = (drawn_convolutions, drawn_input_gradients, drawn_weight_steps)
    for draw in draws:
        for view, _, _ in islice(draw(True, 3), 20):
            assert not (kernel.op == view.node.op and kernel.accepts(view, harness.host("dsp", "unaligned")))
