"""Armv7E-M kernels on QEMU: against the portable ones on drawn shapes, and each record against its op."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.backends.kernels_c_dsp import constants_fit, few_outputs_bias
from edgec.fixedpoint import requantize
from edgec.ir import Array
from edgec.ops import OPS
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import Example
from edgec.ops.examples import ExampleNode, quantized_node
from edgec.plan import Kernel, NodeView

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "runtime_c"
TESTS_C = ROOT / "tests/c"
CC = "arm-none-eabi-gcc"
WARNINGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wconversion",
    "-pedantic",
    "-O2",
    "-mthumb",
)
M4 = ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
LINK = ("-nostartfiles", "-T", str(TESTS_C / "dsp.ld"), "-Wl,--gc-sections", "-specs=nano.specs")
PORTABLE = ("conv2d", "linear", "max_pool2d", "avg_pool2d", "add_rows")
RECORDS = tuple(k for k in KERNELS if "/dsp/" in k.source)
FIRMWARE_SECONDS = 900
DSP = harness.host("dsp", "unaligned")


def firmware(out: Path, source: Path, defines: dict[str, str]) -> Path:
    """The ELF of one test source with the kernels, dead code dropped."""
    kernels = [RUNTIME / f"kernels/ec_{name}_s8.c" for name in PORTABLE]
    kernels += sorted(RUNTIME.glob("kernels/dsp/*.c"))
    flags = [f for f in WARNINGS if f != "-Wconversion"] + ["-ffunction-sections", "-fdata-sections"]
    command = [CC, *flags, *M4, *(f"-D{k}={v}" for k, v in defines.items())]
    command += [f"-I{RUNTIME / 'include'}", f"-I{TESTS_C}", str(source), str(TESTS_C / "dsp_start.c")]
    done = subprocess.run(
        [*command, *map(str, kernels), *LINK, "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def run(elf: Path, *options: str) -> tuple[int, str]:
    """(exit code, text) of the firmware on the emulated Cortex-M4."""
    command = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", *options]
    command += ["-kernel", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FIRMWARE_SECONDS)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.qemu
@pytest.mark.parametrize("source", ["dsp_conv", "dsp_rest"])
@pytest.mark.parametrize(
    ("count", "seed"),
    [(5_000, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)],
    ids=["5000 shapes", "100000 shapes"],
)
def test_dsp_equals_portable_on_drawn_shapes(tmp_path: Path, source: str, count: int, seed: int) -> None:
    defines = {"COUNT": str(count), "SEED": f"{seed}u"}
    code, text = run(firmware(tmp_path / "test.elf", TESTS_C / f"{source}.c", defines))
    assert code == 0, text


def conv(label: str, attrs: Conv2dAttrs, x: tuple[int, ...], w: tuple[int, ...]) -> Example:
    """A convolution beside the op's own examples."""

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        arrays = (rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0]))
        return tuple(a.astype(np.float32) for a in arrays)

    return Example(label, attrs, make, None)


MORE = {
    "conv2d": (
        conv("3x3 depthwise", Conv2dAttrs(pad=(1, 1, 1, 1), groups=9), (1, 5, 6, 9), (9, 3, 3, 1)),
        conv(
            "3x3 depthwise, stride 2", Conv2dAttrs((2, 2), (0, 1, 0, 1), groups=6), (2, 8, 9, 6), (6, 3, 3, 1)
        ),
        conv("pointwise, stride 2", Conv2dAttrs((2, 2)), (1, 7, 6, 33), (34, 1, 1, 33)),
        conv("3x3, 13 channels", Conv2dAttrs(pad=(1, 1, 1, 1)), (1, 4, 5, 13), (6, 3, 3, 13)),
    )
}


def accepted(kernel: Kernel) -> Iterator[tuple[ExampleNode, NodeView]]:
    """The int8 examples of the kernel's op that it accepts."""
    for example in (*OPS[kernel.op].examples, *MORE.get(kernel.op, ())):
        node = quantized_node(OPS[kernel.op], example)
        weights = OPS[kernel.op].name in ("conv2d", "linear")
        view = node.view(tuple(range(1, len(node.inputs))) if weights else ())
        if kernel.accepts(view, DSP):
            yield node, view


def array(name: str, data: Array, const: str = "const ") -> str:
    """A C array of bytes or words, aligned to 16."""
    kind = "uint32_t" if data.dtype.itemsize == 4 else "int8_t"
    values = ", ".join(str(int(v)) + ("u" if kind == "uint32_t" else "") for v in data.ravel())
    return f"static {const}{kind} {name}[] __attribute__((aligned(16))) = {{{values}}};\n"


def case(index: int, kernel: Kernel, node: ExampleNode, view: NodeView) -> str:
    """C function `case_<index>` that runs the example and returns whether its output is the op's."""
    launch = kernel.launch(view, DSP)
    scratch = kernel.scratch(view, DSP) if kernel.scratch is not None else 0
    batch, height = (node.out_types[0].dims[:2]) if kernel.halo is not None else (1, 0)
    size = node.out_types[0].size
    names = [(f"x{index}_{i}", node.inputs[i]) for i in launch.inputs]
    text = "".join(array(n, x) for n, x in names)
    text += "".join(array(f"c{index}_{i}", c.data) for i, c in enumerate(launch.constants))
    text += array(f"want{index}", node.expected[0])
    text += f"static int8_t y{index}[{size}];\nstatic uint32_t scratch{index}[{scratch // 4 + 1}];\n"
    fields = ", ".join(str(v) for _, v in launch.fields)
    arguments = ["&p", *([f"0, {height}"] if kernel.halo is not None else [])]
    arguments += [f"{n} + n * {x.size // batch}" for n, x in names]
    arguments += [f"c{index}_{i}" for i in range(len(launch.constants))]
    arguments += [f"y{index} + n * {size // batch}"]
    arguments += [f"scratch{index}"] if kernel.scratch is not None else []
    return text + (
        f"static int case_{index}(void)\n{{\n    const {launch.struct} p = {{{fields}}};\n"
        f"    scratch{index}[{scratch // 4}] = 0xdeadbeefu;\n"
        f"    for (int32_t n = 0; n < {batch}; n++) {{\n"
        f"        {kernel.symbol}({', '.join(arguments)});\n    }}\n"
        f"    return memcmp(y{index}, want{index}, sizeof want{index}) == 0 &&\n"
        f"           scratch{index}[{scratch // 4}] == 0xdeadbeefu;\n}}\n"
    )


@pytest.mark.qemu
@pytest.mark.parametrize("kernel", RECORDS, ids=lambda k: f"{k.op}-{k.symbol}")
def test_record_equals_its_op(tmp_path: Path, kernel: Kernel) -> None:
    cases = [case(i, kernel, node, view) for i, (node, view) in enumerate(accepted(kernel))]
    assert cases, f"no example of {kernel.op} reaches {kernel.symbol}"
    checks = "".join(
        f'    if (!case_{i}()) {{ test_print("case {i} differs\\n"); failures++; }}\n'
        for i in range(len(cases))
    )
    source = tmp_path / "records.c"
    source.write_text(
        '#include "dsp_test.h"\n#include "ec_kernels.h"\n#include "ec_dsp_kernels.h"\n#include <string.h>\n'
        + "".join(cases)
        + f"int test_main(void)\n{{\n    int failures = 0;\n{checks}    return failures;\n}}\n"
    )
    code, text = run(firmware(tmp_path / "test.elf", source, {}))
    assert code == 0, text


@pytest.mark.qemu
def test_layers_of_mlperf_tiny_take_at_most_1_4_instructions_per_mac(tmp_path: Path) -> None:
    code, text = run(firmware(tmp_path / "bench.elf", TESTS_C / "dsp_bench.c", {}), "-icount", "shift=0")
    assert code == 0, text
    totals = dict(re.findall(r"^(\w+) total .* = (\d+) per 1000 MACs$", text, re.M))
    assert {n: int(t) <= 1400 for n, t in totals.items() if n != "large"} == dict.fromkeys(
        ("kws", "vww", "ic", "ad"), True
    ), text


@pytest.mark.parametrize("kernel", RECORDS, ids=lambda k: f"{k.op}-{k.symbol}")
def test_dsp_record_is_only_for_targets_with_dsp_and_unaligned_loads(kernel: Kernel) -> None:
    for _, view in accepted(kernel):
        assert not kernel.accepts(view, harness.host("dsp"))
        assert not kernel.accepts(view, harness.host("unaligned"))


@pytest.mark.qemu
@pytest.mark.parametrize("source", sorted(RUNTIME.glob("kernels/dsp/*.c")), ids=lambda p: p.stem)
@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_dsp_source_compiles_alone_without_warnings(tmp_path: Path, source: Path, cpu: str) -> None:
    command = [CC, *WARNINGS, f"-mcpu={cpu}", "-mfloat-abi=hard", f"-I{RUNTIME / 'include'}"]
    done = subprocess.run(
        [*command, "-c", str(source), "-o", str(tmp_path / "k.o")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_weights_beyond_the_packing_are_left_to_the_portable_kernel() -> None:
    op = OPS["linear"]
    node = quantized_node(op, op.examples[0])
    x, w, *bias = node.inputs
    low = w.copy()
    low[0, 0] = -128
    view = node.view(tuple(range(1, len(node.inputs))))
    assert constants_fit(view)
    assert not constants_fit(NodeView(view.node, view.inputs, view.outputs, (None, low, *bias)))
    assert np.asarray(x).dtype == np.int8


def test_channel_of_few_outputs_keeps_them_with_its_new_bias() -> None:
    rng = np.random.default_rng(5)
    for _ in range(2000):
        span, shift = int(rng.integers(0, 1 << 23)), int(rng.integers(56, 63))
        bias, m = int(rng.integers(-(1 << 30), 1 << 30)), int(rng.integers(1 << 30, 1 << 31))
        near = 0
        if rng.integers(2):  # a threshold within the span
            near = int(rng.integers(-span, span + 1))
            bias = (2 * int(rng.integers(-20, 20)) + 1) * (1 << shift) // (2 * m) - near
        if abs(bias) + span >= 1 << 31:
            continue
        sums = np.concatenate((rng.integers(-span, span + 1, 50), near + np.arange(-3, 4), [-span, span]))
        sums = np.clip(sums, -span, span)
        new = few_outputs_bias(bias, span, m, shift)
        assert abs(new) + span < 1 << 31
        expected = requantize(sums + bias, m, shift)
        assert np.array_equal(requantize(sums + new, 1 << 30, 54), expected), (bias, span, m, shift)
