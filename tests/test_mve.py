"""MVE kernels on QEMU's Cortex-M55, bit for bit against their ops: on drawn shapes with odd sizes and tails, and at
the ends of their ranges."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import kernel_harness as harness
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ops.define import Arrays
from edgec.plan import Kernel
from edgec.targets.load import load_target
from tests.test_dsp import link_script
from tests.test_dsp import run as run_firmware
from tests.test_kernels_m0 import HEAD, LINK, MAIN, TESTS_C, c_case
from tests.test_train_kernels import (
    EXPONENTS,
    RATES,
    Drawn,
    drawn_bias_steps,
    drawn_convolutions,
    drawn_input_gradients,
    drawn_weight_steps,
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
