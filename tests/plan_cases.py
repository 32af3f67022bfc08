"""Small programs, kernels and boards for the tests of lowering, memory, streams and Plans.

The kernels are records without C: they accept anything, so that these tests see the planners alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.build import Builder, constant
from edgec.ir import Array, DType, Loc, Persistence, Program, Quant, Type, per_channel, per_tensor
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.shape import ReshapeAttrs
from edgec.ops.slicing import SliceAttrs
from edgec.passes.choose_kernels import choose_kernels
from edgec.plan import ROW_BY_ROW, Halo, Kernel, Launch, Memory, NodeView, Packed, Plan, Target, Toolchain

F64 = Type((64,), DType.F32)  # 256 bytes


def accept(view: NodeView, target: Target) -> bool:
    return True


def accept_maps(view: NodeView, target: Target) -> bool:
    return len(view.outputs[0].shape) == 4


def launch_plain(view: NodeView, target: Target) -> Launch:
    return Launch("", (), tuple(range(len(view.inputs))), ())


def launch_rows(view: NodeView, target: Target) -> Launch:
    """Pointers to what is computed at run time, weights packed, rings of whole maps."""
    inputs = tuple(i for i, c in enumerate(view.constants) if c is None)
    fields = tuple((f"ring_{k}", view.inputs[i].dims[1]) for k, i in enumerate(inputs))
    packed = tuple(Packed(f"c{i}", "plain", c) for i, c in enumerate(view.constants) if c is not None)
    return Launch("rows_params", (*fields, ("ring_y", view.outputs[0].dims[1])), inputs, packed)


def conv_halo(view: NodeView) -> Halo:
    attrs = view.node.attrs
    assert isinstance(attrs, Conv2dAttrs)
    return Halo(view.inputs[1].dims[1], attrs.stride[0], attrs.pad[0], attrs.dilation[0])


def kernel(op: str, rank: int = 1, in_place: tuple[int, ...] = ()) -> Kernel:
    return Kernel(op, f"ec_{op}_{rank}", "", rank, accept, launch_plain, in_place=in_place, bounded=True)


KERNELS: tuple[Kernel, ...] = (
    kernel("relu", in_place=(0,)),
    kernel("neg", in_place=(0,)),
    kernel("exp"),
    kernel("add", rank=2, in_place=(0, 1)),
    Kernel(
        "add", "ec_add_rows", "", 1, accept_maps, launch_rows, halo=lambda view: ROW_BY_ROW, in_place=(0, 1)
    ),
    Kernel("conv2d", "ec_conv2d_rows", "", 1, accept, launch_rows, lambda view, target: 64, conv_halo),
    kernel("slice"),
)


def board(*rams: tuple[str, int, int], align: int = 16) -> Target:
    """A target with RAMs (name, bytes, speed); one of 4 KiB where none is named."""
    memories = tuple(
        Memory(name, "ram", 0x20000000, size, align, speed, "the test")
        for name, size, speed in rams or (("sram", 4096, 1),)
    )
    flash = Memory("flash", "flash", 0, 1 << 20, 16, 1, "the test")
    return Target(
        "testboard",
        "Test board",
        "c",
        "armv7e-m",
        (),
        1,
        (*memories, flash),
        0,
        Toolchain("cc", (), ()),
        None,
        "",
    )


def lowered(program: Program, kernels: Sequence[Kernel] = KERNELS) -> Plan:
    return choose_kernels(program, board(), kernels)


class Net(Builder):
    """A Builder that gives each node a layer and line of its own."""

    def op(self, op: str, *inputs: str, name: str | None = None) -> str:
        self.loc = Loc(f"net.{name or op}", "net.py", len(self.nodes) + 1)
        return self.call(op, *inputs, name=name)


def chain(*ops: str) -> Program:
    net = Net("infer")
    x = net.input("x", F64)
    for op in ops:
        x = net.op(op, x)
    net.output(x, "y")
    return net.program()


def residual() -> Program:
    """add(relu(x), x)"""
    net = Net("infer")
    x = net.input("x", F64)
    net.output(net.op("add", net.op("relu", x), x), "y")
    return net.program()


def zeros(net: Builder, name: str) -> str:
    return net.add_state(name, constant(np.zeros(64, np.float32)), Persistence.KEPT)


def counter(read_late: bool = False) -> Program:
    """count := count + x; with `read_late`, the old count is an operand of the output."""
    net = Net("infer")
    x = net.input("x", F64)
    count = zeros(net, "count")
    new = net.op("add", count, x)
    net.output(net.op("add", new, count, name="late") if read_late else new, "y")
    net.updates.append(("count", new))
    return net.program()


def swap() -> Program:
    """a, b := b, a"""
    net = Net("infer")
    x = net.input("x", F64)
    a, b = zeros(net, "a"), zeros(net, "b")
    net.updates += [("a", b[1:] and b), ("b", a)]
    net.output(net.op("exp", x), "y")
    return net.program()


def two_entries() -> Program:
    """Entries `first` and `second` that share the state `count`."""
    one = Net("first")
    count = zeros(one, "count")
    one.output(one.op("add", one.input("x", F64), count), "y")
    two = Net("second", one.constants, one.state)
    new = two.op("add", two.input("x", F64), count)
    two.updates.append(("count", new))
    two.output(two.op("exp", two.op("exp", new)), "y")
    return Program((one.graph(), two.graph()), two.constants, two.state)


def views_case() -> Program:
    """A reshape and a slice of the outermost axis, both read."""
    net = Net("infer")
    x = net.input("x", Type((4, 16), DType.F32))
    flat = net.call("reshape", x, attrs=ReshapeAttrs((64,)), name="flat")
    tail = net.call("slice", x, attrs=SliceAttrs(0, 2, 4), name="tail")
    net.output(net.op("exp", flat), "a")
    net.output(net.op("exp", tail), "b")
    return net.program()


def conv_weights(rng: np.random.Generator, o: int, k: int, i: int) -> Array:
    return rng.normal(size=(o, k, k, i)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted bottleneck; with `dilation` its depthwise window is spread."""

    expansion: int
    stride: int
    channels: int
    kernel: int = 3
    dilation: int = 1


def mobile_net(
    size: int = 32,
    blocks: Sequence[Block] = (Block(4, 2, 16), Block(4, 1, 16)),
    channels: int = 8,
    seed: int = 0,
) -> Program:
    """A first stage and inverted bottlenecks, as in MobileNetV2, float."""
    return _mobile_net(size, blocks, channels, seed, None)


def mobile_net_s8(size: int, blocks: Sequence[Block], channels: int = 8, seed: int = 0) -> Program:
    """The same in int8, with random weights and scales that keep the values spread."""
    return _mobile_net(size, blocks, channels, seed, per_tensor(0.05, 3))


def _mobile_net(size: int, blocks: Sequence[Block], channels: int, seed: int, quant: Quant | None) -> Program:
    rng = np.random.default_rng(seed)
    net = Net("infer")
    x = net.input("x", Type((1, size, size, 3), DType.I8 if quant else DType.F32, quant))
    quants = (quant,) if quant else None

    def conv(x: str, o: int, k: int = 1, stride: int = 1, depthwise: bool = False, dilation: int = 1) -> str:
        c = net.types[x].dims[3]
        pad = (dilation * (k // 2),) * 4
        attrs = Conv2dAttrs((stride, stride), pad, (dilation, dilation), c if depthwise else 1)
        net.loc = Loc(f"net.{len(net.nodes)}", "net.py", len(net.nodes) + 1)
        w = conv_weights(rng, o, k, 1 if depthwise else c)
        operands = [x, net.constant(w, "w")] if quant is None else [x, *quantized(w)]
        return net.node("conv2d", operands, attrs, name="conv", quants=quants)[0]

    def quantized(w: Array) -> tuple[str, str]:
        scale = np.abs(w).max(axis=(1, 2, 3)) / 127
        q = np.round(w / scale[:, None, None, None]).astype(np.int8)
        bias = rng.integers(-500, 500, size=len(w)).astype(np.int32)
        small = scale / np.sqrt(w[0].size)  # sums of this many products keep the spread of their operands
        return (
            net.constant(q, "w", per_channel(small, 0)),
            net.constant(bias, "b", per_channel(small.astype(np.float32) * np.float32(0.05), 0)),
        )

    x = conv(x, channels, 3, 2)
    for b in blocks:
        wide = net.types[x].dims[3] * b.expansion
        y = conv(x, wide) if b.expansion > 1 else x
        y = conv(conv(y, wide, b.kernel, b.stride, True, b.dilation), b.channels)
        same = net.types[x].dims == net.types[y].dims
        x = net.node("add", (x, y), BinaryAttrs(), name="add", quants=quants)[0] if same else y
    net.output(x, "y")
    return net.program()


def _stages(*stages: tuple[int, int, int, int, int]) -> tuple[Block, ...]:
    """Blocks of stages (expansion, channels, blocks, stride of the first, kernel)."""
    return tuple(Block(e, s if i == 0 else 1, c, k) for e, c, n, s, k in stages for i in range(n))


# MobileNetV2 (arXiv 1801.04381, table 2) at width 0.35, channels rounded to multiples of 8.
MOBILENET_V2_035 = _stages(
    (1, 8, 1, 1, 3),
    (6, 8, 2, 2, 3),
    (6, 16, 3, 2, 3),
    (6, 24, 4, 2, 3),
    (6, 32, 3, 1, 3),
    (6, 56, 3, 2, 3),
    (6, 112, 1, 1, 3),
)
# In the manner of MCUNet (arXiv 2007.10319): windows of 3, 5 and 7, low expansion where the maps are large.
MCUNET_LIKE = _stages(
    (1, 8, 1, 1, 3),
    (3, 16, 2, 2, 7),
    (4, 24, 3, 2, 5),
    (5, 40, 3, 2, 5),
    (5, 48, 2, 1, 5),
    (6, 96, 3, 2, 5),
    (6, 160, 1, 1, 3),
)
