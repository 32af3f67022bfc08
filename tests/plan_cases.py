"""Small programs, kernels and boards for the tests of lowering, memory, streams and Plans.

The kernels are records without C: they accept anything, so that these tests see the planners alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.build import Builder, constant
from edgec.ir import Array, DType, Loc, Persistence, Program, Type
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
    return Kernel(op, f"ec_{op}_{rank}", "", rank, accept, launch_plain, in_place=in_place)


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


def mobile_net(size: int = 32, blocks: Sequence[tuple[int, int, int]] = ((4, 2, 16), (4, 1, 16))) -> Program:
    """A first stage and inverted bottlenecks (expansion, stride, channels), as in MobileNetV2."""
    rng = np.random.default_rng(0)
    net = Net("infer")
    channels = 8
    x = net.input("x", Type((1, size, size, 3), DType.F32))

    def conv(x: str, o: int, k: int = 1, stride: int = 1, depthwise: bool = False) -> str:
        c = net.types[x].dims[3]
        w = net.constant(conv_weights(rng, o, k, 1 if depthwise else c), "w")
        pad = (k // 2,) * 4
        attrs = Conv2dAttrs((stride, stride), pad, groups=c if depthwise else 1)
        net.loc = Loc(f"net.{len(net.nodes)}", "net.py", len(net.nodes) + 1)
        return net.call("conv2d", x, w, attrs=attrs, name="conv")

    x = conv(x, channels, 3, 2)
    for expansion, stride, out in blocks:
        wide = net.types[x].dims[3] * expansion
        y = conv(conv(conv(x, wide), wide, 3, stride, depthwise=True), out)
        x = net.op("add", x, y) if stride == 1 and net.types[x].dims[3] == out else y
    net.output(x, "y")
    return net.program()
