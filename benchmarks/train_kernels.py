"""Instructions of a training step's kernels on the layer shapes of MCUNet-5FPS (128x128), emulated Cortex-M7.

    python benchmarks/train_kernels.py [--scheme 99] [--kernels ec_trained ...] [--portable] [--json]
    python benchmarks/train_kernels.py --scheme dense

Weights and maps are random; every output is compared with what the op says. The frozen front runs by the kernels of
conv2d and add, each of them called alone, on whole maps. `dense` is no scheme of MCUNet: four 3x3 convolutions of small
networks, all of which train. `--portable` takes no kernel of Armv7E-M. `--json` prints JSON and nothing else; else a
table is printed and results/train_kernels.json written (for a whole scheme of MCUNet alone).
docs/instruction-counting.md says how QEMU counts; a figure here is within 80 instructions of the truth.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import environment
import numpy as np

from edgec.backends.ctext import literal
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Attrs, DType, Loc, Node, Quant, Type, Value, per_channel, per_tensor
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.ops.block_float import Rounding, pack_mask
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.define import run
from edgec.ops.gradient import GradientSumAttrs
from edgec.ops.train_conv import TrainConv2dBiasAttrs, TrainConv2dWeightAttrs, TrainedConv2dInputGradAttrs
from edgec.ops.trained import TrainedAddAttrs, TrainedConv2dAttrs
from edgec.plan import Kernel, NodeView, Target
from edgec.targets.load import load_target

ROOT = Path(__file__).resolve().parents[1]
TESTS_C = ROOT / "tests/c"
RUNTIME = ROOT / "runtime_c"
# Input channels, expanded channels (0: no expansion), outputs, depthwise kernel, its stride, rows of the input.
BLOCKS = (
    (16, 0, 8, 3, 1, 64),
    (8, 32, 16, 3, 2, 64),
    (16, 48, 16, 3, 1, 32),
    (16, 48, 24, 7, 2, 32),
    (24, 120, 24, 3, 1, 16),
    (24, 120, 40, 3, 2, 16),
    (40, 160, 40, 7, 1, 8),
    (40, 160, 48, 5, 1, 8),
    (48, 144, 48, 3, 1, 8),
    (48, 192, 48, 3, 1, 8),
    (48, 240, 96, 7, 2, 8),
    (96, 384, 96, 5, 1, 4),
    (96, 384, 96, 5, 1, 4),
    (96, 576, 160, 3, 1, 4),
)
# Convolutions whose biases train, counted from the end, and {convolution: share of the input channels that trains}.
SCHEMES: dict[str, tuple[int, dict[int, float]]] = {
    "49": (20, {24: 0.25, 27: 0.5, 30: 0.5}),
    "74": (21, {21: 1, 24: 1, 27: 0.5, 30: 1}),
    "99": (22, {21: 1, 24: 1, 27: 1, 30: 1, 36: 0.125, 39: 0.25}),
    "124": (24, {21: 0.25, 24: 1, 27: 1, 30: 1, 33: 0.5, 39: 0.5}),
    "148": (23, {21: 1, 24: 1, 27: 1, 30: 1, 36: 1, 39: 0.5}),
}
X_SCALE, Y_SCALE = 0.05, 0.05


@dataclass(frozen=True)
class Layer:
    """Convolution `index`; `residual`: an add of the block's input follows it."""

    index: int
    channels: int
    outputs: int
    kernel: int
    stride: int
    size: int
    depthwise: bool
    residual: bool = False

    @property
    def out(self) -> int:
        return -(-self.size // self.stride)

    @property
    def pad(self) -> tuple[int, int, int, int]:
        return (self.kernel // 2,) * 4

    @property
    def groups(self) -> int:
        return self.channels if self.depthwise else 1

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.outputs, self.kernel, self.kernel, 1 if self.depthwise else self.channels

    @property
    def title(self) -> str:
        kind = "dw" if self.depthwise else "conv"
        sizes = f"{self.channels}->{self.outputs} {self.kernel}x{self.kernel}/{self.stride} @{self.size}"
        return f"{self.index} {kind} {sizes}"


@dataclass(frozen=True)
class Case:
    """One node with its arrays; `constant`: which inputs lie in flash."""

    layer: str
    phase: str
    op: str
    attrs: Attrs
    in_types: tuple[Type, ...]
    inputs: tuple[Array, ...]
    quant: Quant | None
    constant: tuple[int, ...]


def layers() -> Iterator[Layer]:
    """All convolutions, in order."""
    yield Layer(0, 3, 16, 3, 2, 128, False)
    index = 1
    for channels, middle, outputs, kernel, stride, size in BLOCKS:
        if middle:
            yield Layer(index, channels, middle, 1, 1, size, False)
            index += 1
        wide = middle or channels
        yield Layer(index, wide, wide, kernel, stride, size, True)
        residual = channels == outputs and stride == 1
        yield Layer(index + 1, wide, outputs, 1, 1, -(-size // stride), False, residual)
        index += 2


def typed(array: Array, quant: Quant | None = None) -> Type:
    return Type(
        array.shape,
        DType(array.dtype.name.replace("uint", "u").replace("int", "i").replace("float", "f")),
        quant,
    )


def forward(layer: Layer, rng: np.random.Generator, trained: bool, share: float) -> Iterator[Case]:
    """The convolution, and the add that follows it."""
    o, r, s, i = layer.w_shape
    x = rng.integers(-128, 128, (1, layer.size, layer.size, layer.channels)).astype(np.int8)
    w = rng.integers(-127, 128, layer.w_shape).astype(np.int8)
    bias = rng.integers(-20000, 20000, o).astype(np.int32)
    scales = rng.uniform(0.8, 1.2, o) * 40 / (74 * 73 * np.sqrt(r * s * i)) * Y_SCALE / X_SCALE
    types = [typed(x, per_tensor(X_SCALE, 5)), typed(w, per_channel(scales, 0)), typed(bias)]
    arrays, y = [x, w, bias], per_tensor(Y_SCALE, -10)
    name = layer.title
    if not trained:
        attrs = Conv2dAttrs((layer.stride,) * 2, layer.pad, (1, 1), layer.groups)
        yield Case(name, "forward", "conv2d", attrs, tuple(types), tuple(arrays), y, (1, 2))
    else:
        constant: tuple[int, ...] = (1,)
        if 0 < share < 1:
            idx = np.sort(rng.choice(i, int(share * i), replace=False)).astype(np.int32)
            arrays += [idx, rng.integers(-127, 128, (o, r, s, len(idx))).astype(np.int8)]
            types += [typed(idx), typed(arrays[-1], per_channel(scales, 0))]
            constant = (1, 3)
        mine = TrainedConv2dAttrs((layer.stride,) * 2, layer.pad, (1, 1), layer.groups, None, True)
        yield Case(name, "forward", "trained_conv2d", mine, tuple(types), tuple(arrays), y, constant)
    if layer.residual:
        a, b = (rng.integers(-128, 128, (1, layer.out, layer.out, o)).astype(np.int8) for _ in range(2))
        pair = (typed(a, per_tensor(0.05, 3)), typed(b, per_tensor(0.07, -4)))
        op, plus = ("trained_add", TrainedAddAttrs(None, True)) if trained else ("add", BinaryAttrs())
        yield Case(f"{layer.index} add", "forward", op, plus, pair, (a, b), per_tensor(0.09, 0), ())


def gradient_of(rng: np.random.Generator, shape: tuple[int, ...], floats: bool) -> list[Array]:
    """A gradient and its mask, three of four bits set."""
    mask = pack_mask(rng.random(shape) < 0.75)
    if floats:
        return [(0.1 * rng.normal(size=shape)).astype(np.float32), mask]
    q = np.clip(np.round(40 * rng.normal(size=shape)), -127, 127).astype(np.int8)
    return [q, np.array([-9], np.int32), mask]


def backward(
    layer: Layer, rng: np.random.Generator, share: float, dx: bool, floats: bool, rounding: Rounding
) -> Iterator[Case]:
    """Bias, gradient to the input (`dx`), weights; the sum of gradients where the block's input forks."""
    o, r, s, i = layer.w_shape
    name, shape = layer.title, (1, layer.out, layer.out, o)
    given = gradient_of(rng, shape, floats)
    rate, step = np.array([0.02], np.float32), np.array([7], np.int32)
    factor = rng.uniform(0.0, 0.02, o).astype(np.float32)

    def case(op: str, attrs: Attrs, arrays: list[Array], constant: tuple[int, ...]) -> Case:
        return Case(name, "backward", op, attrs, tuple(map(typed, arrays)), tuple(arrays), None, constant)

    bias = rng.integers(-20000, 20000, o).astype(np.int32)
    yield case("train_conv2d_bias", TrainConv2dBiasAttrs(1, 2), [bias, *given, factor, rate, step], ())
    place = {"stride": (layer.stride,) * 2, "pad": layer.pad, "groups": layer.groups}
    count = int(share * i)
    if dx:
        w = rng.integers(-127, 128, layer.w_shape).astype(np.int8)
        eff: Array = rng.uniform(0.01, 0.1, o).astype(np.float32)
        if not floats:
            eff = rng.integers(32, 129, o).astype(np.int16)
        arrays = [*given, w, eff]
        if 0 < count < i:
            idx = np.sort(rng.choice(i, count, replace=False)).astype(np.int32)
            arrays += [idx, rng.integers(-127, 128, (o, r, s, count)).astype(np.int8)]
        attrs = TrainedConv2dInputGradAttrs((layer.size,) * 2, exponent=-12, **place)
        yield case("trained_conv2d_input_grad", attrs, arrays, tuple(range(len(given), len(given) + 3)))
    if count:
        w = rng.integers(-127, 128, (o, r, s, count)).astype(np.int8)
        x = rng.integers(-128, 128, (1, layer.size, layer.size, count)).astype(np.int8)
        mine = TrainConv2dWeightAttrs(-3, 5, 17, rounding, **place)
        fraction = [rng.integers(-128, 128, w.shape).astype(np.int8)] if rounding == "q8.8" else []
        yield case("train_conv2d_weight", mine, [w, x, *given, factor, rate, step, *fraction], ())
    if layer.residual:
        both = [*given, *given[:-1]]
        yield case("gradient_sum", GradientSumAttrs((0.7, 1.0), (True, False)), both, ())


DENSE = (
    Layer(1, 16, 24, 3, 1, 8, False),
    Layer(2, 24, 32, 3, 1, 4, False),
    Layer(3, 32, 32, 3, 2, 8, False),
    Layer(4, 3, 16, 3, 1, 16, False),
)


def cases(scheme: str, floats: bool, rounding: Rounding) -> Iterator[Case]:
    """What a training step runs of the layers."""
    if scheme == "dense":
        for layer in DENSE:
            rng = np.random.default_rng(layer.index)
            yield from forward(layer, rng, True, 1.0)
            yield from backward(layer, rng, 1.0, True, floats, rounding)
        return
    biases, shares = SCHEMES[scheme]
    first = 42 - biases
    for layer in layers():
        rng = np.random.default_rng(layer.index)
        share = shares.get(layer.index, 0.0)
        yield from forward(layer, rng, layer.index >= first, share)
        if layer.index >= first:
            yield from backward(layer, rng, share, layer.index > first, floats, rounding)


@dataclass(frozen=True)
class Program:
    """A case as C: `text` defines the function `symbol`, which gives 1 where an output is wrong."""

    text: str
    kernel: Kernel
    scratch: int
    macs: int


def program(
    case: Case, number: int, target: Target, blob: bytearray, kernels: tuple[Kernel, ...] = KERNELS
) -> Program:
    """The case with its kernel, one of `kernels`; its arrays are added to `blob`."""
    op = OPS[case.op]
    out_types = op.infer(case.attrs, case.in_types)
    outs = (
        (replace(out_types[0], dtype=DType.I8, quant=case.quant), *out_types[1:]) if case.quant else out_types
    )
    expected = run(op, case.attrs, case.in_types, case.inputs, outs)
    names = tuple(f"@c{i}" if i in case.constant else f"x{i}" for i in range(len(case.inputs)))
    node = Node(case.op, names, tuple(Value(f"y{i}", t) for i, t in enumerate(outs)), case.attrs, Loc("x"))
    data = tuple(x if i in case.constant else None for i, x in enumerate(case.inputs))
    view = NodeView(node, case.in_types, outs, data)
    kernel = min(
        (k for k in kernels if k.op == case.op and k.accepts(view, target)), key=lambda k: (k.rank, k.symbol)
    )
    launch = kernel.launch(view, target)
    scratch = kernel.scratch(view, target) if kernel.scratch is not None else 0

    def stored(array: Array) -> str:
        at = len(blob)
        blob.extend(np.ascontiguousarray(array).tobytes())
        blob.extend(bytes(-len(blob) % 16))
        return f"(const void *)(blob + {at})"

    arguments = ["&p", *(["0", str(outs[0].dims[1])] if kernel.halo is not None else [])]
    arguments += [stored(case.inputs[i]) for i in launch.inputs]
    arguments += [stored(c.data) for c in launch.constants]
    checks, at = [], 0
    for y in expected:
        arguments.append(f"(void *)(out + {at})")
        checks.append(f"memcmp(out + {at}, {stored(y)}, {y.nbytes}) != 0")
        at += -(-y.nbytes // 16) * 16
    arguments += ["scratch"] if kernel.scratch is not None else []
    fields = ", ".join(literal(v) for _, v in launch.fields)
    text = (
        f"static int case_{number}(void)\n{{\n    static const {launch.struct} p = {{{fields}}};\n"
        f"    memset(out, 0, {at});\n    test_timer_start();\n"
        f"    {kernel.symbol}({', '.join(arguments)});\n    uint32_t spent = test_timer_instructions();\n"
        f'    test_print_int("case {number} ", (int32_t)spent, "\\n");\n    return {" || ".join(checks)};\n}}\n'
    )
    return Program(text, kernel, scratch, op.cost(case.attrs, case.in_types, outs).macs)


HEAD = """#include "dsp_test.h"
#include "ec_kernels.h"
#include <string.h>
__asm__(".section .blob,\\"a\\"\\n.balign 16\\n.global blob\\nblob:\\n.incbin \\"%s\\"\\n.previous\\n");
extern const uint8_t blob[];
static uint8_t out[262144] __attribute__((aligned(16)));
static uint8_t scratch[65536] __attribute__((aligned(16)));
"""


def script(folder: Path, target: Target) -> Path:
    """The test firmware's linker script with the target's emulated memories in place of its own; the arrays lie in
    the largest flash."""
    assert target.emulator is not None
    memories = target.emulator.memories
    places = {
        "code": next(m for m in memories if m.kind == "flash"),  # where the core starts
        "ram": max((m for m in memories if m.kind == "ram"), key=lambda m: m.bytes),
        "arrays": max((m for m in memories if m.kind == "flash"), key=lambda m: m.bytes),
    }
    text = (TESTS_C / "dsp.ld").read_text()
    text = text.replace("MEMORY {", "MEMORY {\n    arrays (r) : ORIGIN = 0, LENGTH = 0")
    text = text.replace("SECTIONS {", "SECTIONS {\n    .blob : { *(.blob) } > arrays")
    for name, memory in places.items():
        place = f"ORIGIN = 0x{memory.origin:08x}, LENGTH = {memory.bytes}"
        text = re.sub(rf"( {name} \(\w+\) : ).*", rf"\g<1>{place}", text)
    path = folder / "board.ld"
    path.write_text(text)
    return path


def counted(programs: list[Program], blob: bytes, target: Target) -> dict[int, int]:
    """Instructions of each program. Raises RuntimeError where an output is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "blob.bin").write_bytes(blob)
        calls = "".join(
            f'    if (case_{i}()) {{ test_print_int("wrong ", {i}, "\\n"); wrong = 1; }}\n'
            for i in range(len(programs))
        )
        text = HEAD % (folder / "blob.bin") + "".join(p.text for p in programs)
        text += f"int test_main(void)\n{{\n    int wrong = 0;\n{calls}    return wrong;\n}}\n"
        (folder / "main.c").write_text(text)
        sources = sorted({str(RUNTIME / p.kernel.source) for p in programs})
        flags = ["-std=c99", "-O2", "-ffp-contract=off", "-ffunction-sections", *target.toolchain.cflags]
        command = [target.toolchain.cc, *flags, f"-I{RUNTIME / 'include'}", f"-I{TESTS_C}"]
        command += [str(folder / "main.c"), str(TESTS_C / "dsp_start.c"), *sources, "-nostartfiles"]
        command += ["-specs=nano.specs", "-Wl,--gc-sections", "-T", str(script(folder, target))]
        subprocess.run([*command, "-o", str(folder / "bench.elf"), "-lm"], check=True)
        assert target.emulator is not None
        machine = ["qemu-system-arm", "-M", target.emulator.machine, "-nographic", "-monitor", "none"]
        machine += ["-serial", "none", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
        done = subprocess.run(
            [*machine, "-kernel", str(folder / "bench.elf")], capture_output=True, text=True, check=False
        )
    printed = done.stdout + done.stderr
    if done.returncode != 0:
        raise RuntimeError(f"an output differs from its op, or the firmware failed:\n{printed}")
    return {int(i): int(n) for i, n in re.findall(r"^case (\d+) (\d+)$", printed, re.M)}


def measure(
    scheme: str, floats: bool, only: tuple[str, ...], portable: bool, rounding: Rounding
) -> list[dict[str, Any]]:
    """A row a kernel call, in the order of the layers."""
    kernels = tuple(k for k in KERNELS if not (portable and "dsp" in k.source.split("/")))
    target = load_target("cortex-m7")
    blob, programs, kept = bytearray(), list[Program](), list[Case]()
    for case in cases(scheme, floats, rounding):
        made = program(case, len(programs), target, bytearray() if only else blob, kernels)
        if only:
            if not made.kernel.symbol.startswith(only):
                continue
            made = program(case, len(programs), target, blob, kernels)
        programs.append(made)
        kept.append(case)
    found = counted(programs, bytes(blob), target)
    return [
        {
            "layer": case.layer,
            "phase": case.phase,
            "kernel": made.kernel.symbol,
            "instructions": found[i],
            "macs": made.macs,
            "per_mac": round(found[i] / made.macs, 3) if made.macs else None,
            "scratch_bytes": made.scratch,
        }
        for i, (case, made) in enumerate(zip(kept, programs, strict=True))
    ]


def totals(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Instructions and MACs of each phase and of each kernel."""
    out: dict[str, dict[str, int]] = {}
    for row in rows:
        for key in (row["phase"], row["kernel"]):
            sums = out.setdefault(key, {"instructions": 0, "macs": 0})
            sums["instructions"] += row["instructions"]
            sums["macs"] += row["macs"]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scheme", default="99", choices=[*SCHEMES, "dense"])
    parser.add_argument("--gradients", default="int8", choices=["int8", "fp32"])
    parser.add_argument("--rounding", default="stochastic", choices=get_args(Rounding))
    parser.add_argument("--kernels", nargs="+", default=[], help="only those whose symbol begins so")
    parser.add_argument("--portable", action="store_true", help="without the kernels of Armv7E-M")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure(args.scheme, args.gradients == "fp32", tuple(args.kernels), args.portable, args.rounding)
    sums = totals(rows)
    if args.json:
        print(json.dumps({"scheme": args.scheme, "gradients": args.gradients, "rows": rows, "totals": sums}))
        return 0
    for row in rows:
        per_mac = f"{row['per_mac']:7.2f}" if row["per_mac"] else "      -"
        print(
            f"{row['layer']:<28} {row['phase']:<8} {row['kernel']:<38} {row['instructions']:>10,} {per_mac} "
            f"{row['scratch_bytes']:>6,}"
        )
    for name, total in sums.items():
        per_mac = f"{total['instructions'] / total['macs']:.2f}" if total["macs"] else "-"
        print(f"{name:<40} {total['instructions']:>12,} instructions {total['macs']:>11,} MACs  {per_mac}")
    if not (args.kernels or args.portable or args.scheme == "dense" or args.rounding != "stochastic"):
        name = "train_kernels" if args.gradients == "int8" else "train_kernels_fp32"
        print(f"wrote {environment.write(name, rows, scheme=args.scheme, totals=sums)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
