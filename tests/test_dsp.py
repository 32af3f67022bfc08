"""Armv7E-M kernels on QEMU, and their C bodies on this machine under sanitizers: against the portable kernels on
drawn shapes, and each record against its op."""

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
from edgec.ops.examples import ExampleNode, quantized_node
from edgec.plan import Kernel, NodeView
from edgec.targets.load import load_target
from tests.dsp_examples import DSP_EXAMPLES

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
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PORTABLE = ("conv2d", "linear", "max_pool2d", "avg_pool2d", "add_rows")
RECORDS = tuple(k for k in KERNELS if k.source.startswith("kernels/dsp/"))
FIRMWARE_SECONDS = 900
DSP = harness.host("dsp", "unaligned")


def built(command: list[str], out: Path, sources: list[Path], defines: dict[str, str]) -> Path:
    """The program of test sources with the kernels."""
    kernels = [RUNTIME / f"kernels/ec_{name}_s8.c" for name in PORTABLE]
    kernels += sorted(RUNTIME.glob("kernels/dsp/*.c"))
    command = [*command, *(f"-D{k}={v}" for k, v in defines.items()), f"-I{RUNTIME / 'include'}"]
    command += [f"-I{TESTS_C}", *map(str, (*sources, *kernels)), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def link_script(out: Path, core: str) -> Path:
    """dsp.ld with the core's emulated board in place of the Cortex-M4's: its first flash, its largest RAM."""
    emulator = load_target(core).emulator
    assert emulator is not None
    code = next(m for m in emulator.memories if m.kind == "flash")
    ram = max((m for m in emulator.memories if m.kind == "ram"), key=lambda m: m.bytes)
    text = (TESTS_C / "dsp.ld").read_text()
    for name, memory in (("code", code), ("ram", ram)):
        place = f"ORIGIN = 0x{memory.origin:08x}, LENGTH = {memory.bytes}"
        text, count = re.subn(rf"( {name} \(\w+\) : ).*", rf"\g<1>{place}", text)
        assert count == 1
    out.write_text(text)
    return out


def firmware(out: Path, source: Path, defines: dict[str, str], core: str = "cortex-m4") -> Path:
    """The ELF of one test source with the kernels, dead code dropped."""
    flags = [f for f in WARNINGS if f != "-Wconversion"] + ["-ffunction-sections", "-fdata-sections"]
    script = link_script(out.with_suffix(".ld"), core)
    link = ["-nostartfiles", "-T", str(script), "-Wl,--gc-sections", "-specs=nano.specs"]
    command = [CC, *flags, *load_target(core).toolchain.cflags, *link]
    more = [TESTS_C / "dsp_wrappers_c.c"] if source.stem == "dsp_instructions" else []
    return built(command, out, [source, *more, TESTS_C / "dsp_start.c"], defines)


def run(elf: Path, *options: str, core: str = "cortex-m4") -> tuple[int, str]:
    """(exit code, text) of the firmware on the core's emulated board."""
    emulator = load_target(core).emulator
    assert emulator is not None
    command = ["qemu-system-arm", "-M", emulator.machine, "-nographic", "-monitor", "none", "-serial", "none"]
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


@pytest.mark.qemu
@pytest.mark.parametrize("source", ["dsp_conv", "dsp_rest"])
@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33", "cortex-m55"])
def test_dsp_equals_portable_on_the_other_cores(tmp_path: Path, source: str, core: str) -> None:
    defines = {"COUNT": "500", "SEED": "3u"}
    code, text = run(firmware(tmp_path / "test.elf", TESTS_C / f"{source}.c", defines, core), core=core)
    assert code == 0, text


@pytest.mark.parametrize("source", ["dsp_conv", "dsp_rest"])
@pytest.mark.parametrize(
    ("count", "seed"),
    [(5_000, 4), pytest.param(100_000, 5, marks=pytest.mark.slow)],
    ids=["5000 shapes", "100000 shapes"],
)
def test_c_bodies_equal_portable_under_sanitizers(tmp_path: Path, source: str, count: int, seed: int) -> None:
    defines = {"COUNT": str(count), "SEED": f"{seed}u"}
    command = ["gcc", *(f for f in WARNINGS if f not in ("-Wconversion", "-mthumb", "-O2")), *SANITIZE]
    sources = [TESTS_C / f"{source}.c", TESTS_C / "dsp_host.c"]
    program = built(command, tmp_path / "test", sources, defines)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.qemu
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_instructions_equal_their_c_bodies(tmp_path: Path, core: str) -> None:
    defines = {"COUNT": "100000", "SEED": "6u"}
    elf = firmware(tmp_path / "test.elf", TESTS_C / "dsp_instructions.c", defines, core)
    code, text = run(elf, core=core)
    assert code == 0, text


def accepted(kernel: Kernel) -> Iterator[tuple[ExampleNode, NodeView]]:
    """The int8 examples of the kernel's op that it accepts."""
    for example in (*OPS[kernel.op].examples, *DSP_EXAMPLES.get(kernel.op, ())):
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
