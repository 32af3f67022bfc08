"""Every portable integer kernel as Armv6-M code in an emulator that traps unaligned access, against its op.

All examples stand in one firmware. One-byte arrays begin at odd addresses: the kernels ask for no alignment.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array
from edgec.ops import OPS
from edgec.ops.define import QuantRule
from edgec.ops.examples import ExampleNode, float_node, quantized_node
from edgec.plan import Kernel, NodeView

TESTS_C = Path(__file__).resolve().parent / "c"
COMPILE = ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-Os", "-std=c99", "-Wall", "-Werror")
LINK = ("-nostartfiles", "-specs=nano.specs", "-Wl,--gc-sections", "-T", str(TESTS_C / "dsp.ld"))
EMULATE = ("qemu-system-arm", "-M", "mps2-an385", "-nographic", "-monitor", "none", "-serial", "none")
SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")
PORTABLE = tuple(k for k in KERNELS if k.source and not {"dsp", "mve"} & set(k.source.split("/")))

HEAD = """#include "dsp_test.h"
#include "ec_kernels.h"
#include <string.h>
#define CCR (*(volatile uint32_t *)0xE000ED14u)
#define DATA __attribute__((aligned(8)))
static uint8_t scratch[65536] DATA;
static int check(const char *name, const uint8_t *y, const uint8_t *wanted, int bytes)
{
    if (memcmp(y, wanted, (size_t)bytes) == 0 && y[bytes] == 0xA5) {
        return 0;
    }
    test_print(name);
    return 1;
}
"""
MAIN = """
int test_main(void)
{
    int failures = 0;
    CCR |= 8u;
%s
    test_print_int("failures ", failures, "\\n");
    return failures != 0;
}
"""


def integer_nodes(kernel: Kernel) -> Iterator[tuple[ExampleNode, NodeView]]:
    """The examples that the kernel accepts and that hold no float at run time."""
    op = OPS[kernel.op]
    for example in op.examples:
        if isinstance(op.quant, QuantRule):
            node = quantized_node(op, example)
            fixed = [
                i for i in range(len(node.inputs)) if op.quant.role(i) in ("weight", "bias", "parameter")
            ]
        else:
            node, fixed = float_node(op, example), []
        view = node.view(tuple(fixed))
        floats = [t for i, t in enumerate(view.inputs) if t.dtype.is_float and i not in fixed]
        floats += [t for t in view.outputs if t.dtype.is_float]
        if not floats and kernel.accepts(view, harness.host()):
            yield node, view


def c_array(name: str, data: Array) -> tuple[str, str]:
    """(definition, expression of its address) of the bytes of an array; odd addresses for one-byte types."""
    odd = 1 if data.itemsize == 1 else 0
    content = ",".join(map(str, [0] * odd + list(np.ascontiguousarray(data).tobytes()))) or "0"
    return f"static const uint8_t {name}[] DATA = {{{content}}};\n", f"(const void *)({name} + {odd})"


def c_case(name: str, kernel: Kernel, node: ExampleNode, view: NodeView) -> str:
    """A function that calls the kernel (on batch element 0 where it has rows) and counts wrong outputs."""
    launch = kernel.launch(view, harness.host())
    batch = view.outputs[0].dims[:1]

    def element(x: Array) -> Array:
        return x[0] if kernel.halo is not None and x.ndim == 4 and x.shape[:1] in (batch, (1,)) else x

    inputs = [element(node.inputs[i]) for i in launch.inputs]
    made = [c_array(f"{name}_a{i}", x) for i, x in enumerate([*inputs, *(c.data for c in launch.constants)])]
    text = "".join(definition for definition, _ in made)
    arguments, checks = [], []
    if launch.struct:
        values = ", ".join(repr(v) if isinstance(v, float) else str(int(v)) for _, v in launch.fields)
        text += f"static const {launch.struct} {name}_p = {{{values}}};\n"
        arguments.append(f"&{name}_p")
    if kernel.halo is not None:
        arguments += ["0", str(view.outputs[0].dims[1])]
    arguments += [address for _, address in made]
    for i, y in enumerate(element(e) for e in node.expected):
        definition, address = c_array(f"{name}_w{i}", y)
        odd = 1 if y.itemsize == 1 else 0
        text += definition + f"static uint8_t {name}_y{i}[{y.nbytes + 2}] DATA;\n"
        arguments.append(f"(void *)({name}_y{i} + {odd})")
        checks.append(
            f'check("{kernel.symbol}: {name}\\n", {name}_y{i} + {odd}, (const uint8_t *){address}, {y.nbytes})'
        )
    if kernel.scratch is not None:
        arguments.append("scratch")
    poison = "".join(f"    memset({name}_y{i}, 0xA5, sizeof {name}_y{i});\n" for i in range(len(checks)))
    call = f"    {kernel.symbol}({', '.join(arguments)});\n"
    return f"{text}static int {name}(void)\n{{\n{poison}{call}    return {' + '.join(checks)};\n}}\n"


@pytest.mark.qemu
def test_integer_kernels_equal_their_ops_on_armv6m(tmp_path: Path) -> None:
    cases, sources = [], set()
    for kernel in PORTABLE:
        for node, view in integer_nodes(kernel):
            cases.append(c_case(f"case_{len(cases)}", kernel, node, view))
            sources.add(kernel.source)
    assert len(cases) > 50
    calls = "\n".join(f"    failures += case_{i}();" for i in range(len(cases)))
    (tmp_path / "main.c").write_text(HEAD + "".join(cases) + MAIN % calls)
    paths = [str(harness.RUNTIME / s) for s in sorted(sources)]
    command = [*COMPILE, f"-I{harness.RUNTIME / 'include'}", f"-I{TESTS_C}", str(tmp_path / "main.c")]
    command += [str(TESTS_C / "dsp_start.c"), *paths, *LINK, "-o", str(tmp_path / "m0.elf"), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [*EMULATE, *SEMIHOSTING, "-kernel", str(tmp_path / "m0.elf")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
