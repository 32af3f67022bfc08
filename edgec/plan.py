"""The Plan: what is left when everything has been decided. Backends print it; they choose nothing.

A Plan has one Entry per Graph, the buffers of all of them, and the constants that the chosen kernels want,
packed. A Kernel is one record per symbol: what it accepts, the scratch it needs and how it is called stand
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from edgec.ir import Array, DType, Loc, Node, Persistence, Port, Type


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory of a target. `speed`: relative bandwidth, larger is faster. `origin`: address, `bytes`:
    size."""

    name: str
    kind: str  # "ram" or "flash"
    origin: int
    bytes: int
    align: int
    speed: int
    source: str  # where the numbers come from


@dataclass(frozen=True, slots=True)
class Toolchain:
    """C compiler, its flags for this target, and the linker's. `mve_cflags`: what the sources in folders named mve are
    compiled with besides."""

    cc: str
    cflags: tuple[str, ...]
    ldflags: tuple[str, ...]
    mve_cflags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Emulator:
    """The QEMU machine that stands for the target; its memories hold the image while it is emulated.

    Under -icount, instructions = timer ticks * `instructions_per_tick`; `timer` is "cmsdk", "systick" or
    "nrf51". `uart_base`: of the CMSDK UART over which a training firmware talks, 0 where there is none.
    """

    machine: str
    cpu: str
    port: str  # folder of start-up code in runtime_c/ports
    memories: tuple[Memory, ...]
    instructions_per_tick: float
    trap_unaligned: bool  # stands for Armv6-M on a larger core: unaligned accesses trap
    timer: str
    timer_base: int
    uart_base: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """What kernels are chosen and sized by on a GPU. `compute`: capability as 87 for 8.7; rates are peaks, dense,
    in operations a second (a multiply-accumulate is two); `integrated`: host and device share their memory."""

    compute: int
    sms: int
    shared_bytes: int  # that one block may use
    l2_bytes: int
    bandwidth: int  # bytes/s
    fp32_flops: float
    fp16_flops: float  # tensor cores, sums in fp32
    int8_ops: float
    integrated: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A device, as its TOML in targets/ says. `features`: dsp, fpu, mve, simd, unaligned. `gpu`: of family "cuda"."""

    name: str
    title: str
    family: str  # the backend: "c" or "cuda"
    isa: str
    features: tuple[str, ...]
    clock_hz: int
    memories: tuple[Memory, ...]
    reserve_ram_bytes: int  # stack, C library, and the user's own data
    toolchain: Toolchain
    emulator: Emulator | None
    source: str
    emulator_large: Emulator | None = None  # taken where the image exceeds the memories of `emulator`
    gpu: Gpu | None = None

    def has(self, feature: str) -> bool:
        return feature in self.features

    @property
    def rams(self) -> tuple[Memory, ...]:
        """RAMs, fastest first."""
        return tuple(sorted((m for m in self.memories if m.kind == "ram"), key=lambda m: (-m.speed, m.name)))

    @property
    def flash_bytes(self) -> int:
        return sum(m.bytes for m in self.memories if m.kind == "flash")


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with its types and the content of its constant inputs: what a Kernel decides by."""

    node: Node
    inputs: tuple[Type, ...]
    outputs: tuple[Type, ...]
    constants: tuple[Array | None, ...]  # per input; None where it is computed at run time


@dataclass(frozen=True, slots=True)
class Packed:
    """A constant as a kernel wants it. `layout` names the packing; equal content under one layout is stored
    once."""

    name: str
    layout: str
    data: Array


@dataclass(frozen=True, slots=True)
class Grid:
    """One launch of a CUDA kernel: the function template `body` with the arguments `template` over `blocks` of
    `threads`.

    `shared_bytes`: dynamic shared memory of a block. `min_blocks`: blocks that an SM must hold, for the register
    allocation. `waits`: the body itself waits for the previous kernel (it has work to do before that). `cluster`:
    neighbouring blocks along x that run at the same time and read each other's shared memory (sm_90 and later).
    `cached`: it reads the same elements several times and wants them in L1.
    """

    body: str
    template: tuple[str, ...]
    blocks: tuple[int, int, int]
    threads: int
    shared_bytes: int = 0
    min_blocks: int = 1
    waits: bool = False
    cluster: int = 1
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel is called for one node. The C argument order is fixed:

        symbol(&params, [row0, row1,] inputs..., constants..., outputs..., [scratch])

    `fields` fill `struct` (the params; no pointer where struct is ""). `inputs`: indices of the node's
    inputs passed as pointers. A kernel with rows has the fields `ring_0`, `ring_1`, ... (one per passed
    input) and `ring_y`: rows that the buffer holds; row r stands at r % ring. On CUDA, `grids` are the launches, one
    after the other with the same arguments; the params are passed by value.
    """

    struct: str
    fields: tuple[tuple[str, int | float], ...]
    inputs: tuple[int, ...]
    constants: tuple[Packed, ...]
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True, slots=True)
class Halo:
    """Input rows of output row p: [p * stride - pad, p * stride - pad + dilation * (kernel - 1)]."""

    kernel: int
    stride: int
    pad: int
    dilation: int

    def first(self, row: int) -> int:
        """First input row (may be negative) that output row `row` reads."""
        return row * self.stride - self.pad

    def last(self, row: int) -> int:
        """Last input row (may lie beyond the map) that output row `row` reads."""
        return self.first(row) + self.dilation * (self.kernel - 1)


ROW_BY_ROW = Halo(1, 1, 0, 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One C function and when it is used.

    `rank`: the lowest accepted rank wins, so faster kernels have lower numbers; each op ends with a
    portable one. `scratch`: bytes, None where the kernel takes no scratch pointer. `halo`: for kernels that
    compute a range of output rows (axis 1 of NHWC, batch 1 a call); None for all others. `in_place`: inputs
    whose buffer the output may take over; with a window, where the shapes are equal and the stride is 1.
    `bounded`: it takes tensors whose size along the first axis that is not 1 is known only at run time; its first
    argument is that size. `specialize`: model.c includes the source and calls `<symbol>_body` with literals, so
    that the C compiler unrolls. `counters` (CUDA): bytes of int32 counters, all zero when the kernel starts and
    again when it ends. `epilogue` (CUDA): its body applies a generated chain of pointwise steps to its results.
    `step` (CUDA): a call of it may become a step of such a chain on quantised values.
    `renews`: pairs (output, input): the output is the input with some elements changed and may stand in its memory,
    where the kernel then writes those alone.
    """

    op: str
    symbol: str
    source: str  # below runtime_c/; "" for a generated pointwise body
    rank: int
    accepts: Callable[[NodeView, Target], bool]
    launch: Callable[[NodeView, Target], Launch]
    scratch: Callable[[NodeView, Target], int] | None = None
    halo: Callable[[NodeView], Halo] | None = None
    in_place: tuple[int, ...] = ()
    specialize: bool = False
    bounded: bool = False
    counters: Callable[[NodeView, Target], int] | None = None
    epilogue: bool = False
    step: bool = False
    renews: tuple[tuple[int, int], ...] = ()


class Use(Enum):
    """What a buffer is for."""

    INPUT = "input"
    OUTPUT = "output"
    ACTIVATION = "activation"
    SCRATCH = "scratch"
    RING = "ring"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of an entry. `first`..`last`: items of the entry between which its content matters, inclusive.

    Inputs begin at -1, before the first item; outputs, and what `Entry.updates` touches, end at len(items).
    `memory` is "" and `offset` -1 until planned. `inside`: the root buffer whose bytes this one shares, from
    byte `at` on (an in-place result, a reshape, a slice); None in a root, whose lifetime covers its aliases.
    State buffers have entry "" and live always.
    """

    name: str
    bytes: int
    align: int
    use: Use
    entry: str
    first: int
    last: int
    memory: str = ""
    offset: int = -1
    inside: str | None = None
    at: int = 0


@dataclass(frozen=True, slots=True)
class PlanConstant:
    """A packed constant in flash."""

    name: str
    layout: str
    data: Array


@dataclass(frozen=True, slots=True)
class BufferArg:
    """Pointer to a buffer, `at` bytes on."""

    buffer: str
    at: int = 0


@dataclass(frozen=True, slots=True)
class ConstantArg:
    """Pointer to a constant of the Plan."""

    constant: str


Argument = BufferArg | ConstantArg


@dataclass(frozen=True, slots=True)
class LoopStep:
    """One op of a generated loop. `operands`: k >= 0 is input k of the call, -1 - s the result of step s.
    `fields`: the op's attributes as numbers; `result`: the element type of what it makes."""

    op: str
    fields: tuple[tuple[str, int | float], ...]
    operands: tuple[int, ...]
    result: DType


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call. `params` name the struct's fields in order; rows > 0 for a kernel with row ranges.

    `inputs` are the pointers that Launch.inputs asks for; one is a constant where the node's operand is.
    `in_place`: positions of `inputs` whose buffer the first output may take over. `loop`: the steps of a
    generated loop that does several ops, `op` being the last of them; empty for one op.
    `count`: the int32 scalar that holds the size of its Bound, where it has one. `grids`: its launches on CUDA,
    empty for generated loops, whose size is that of their output. A call with an epilogue has a `loop` too: the op
    itself, then the steps that follow it; operands beyond those of the op come last in `inputs`. `renews`: pairs
    (output, position of `inputs`) as in Kernel.
    """

    kernel: Kernel
    name: str  # of the node's first output: unique in the entry
    struct: str
    params: tuple[tuple[str, int | float], ...]
    inputs: tuple[Argument, ...]
    constants: tuple[ConstantArg, ...]
    outputs: tuple[BufferArg, ...]
    scratch: BufferArg | None
    rows: int
    halo: Halo | None
    macs: int
    op: str
    loc: Loc
    in_types: tuple[Type, ...]
    out_types: tuple[Type, ...]
    in_place: tuple[int, ...] = ()
    loop: tuple[LoopStep, ...] = ()
    count: BufferArg | None = None
    grids: tuple[Grid, ...] = ()
    counters: BufferArg | None = None
    renews: tuple[tuple[int, int], ...] = ()

    @property
    def title(self) -> str:
        """What it computes, for people: its op, or the ops of its loop in order."""
        return " + ".join(s.op for s in self.loop) or self.op


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls that run row by row. `rings`: buffers between them that hold only `rows` of their rows (name,
    rows).

    The last call makes `rows` rows; before each of its rows every earlier call makes the rows that it needs.
    """

    rows: int
    calls: tuple[Call, ...]
    rings: tuple[tuple[str, int], ...]


Item = Call | Stream


@dataclass(frozen=True, slots=True)
class PlanPort:
    """An input or output of an entry: the user's view (`port`), its type on the device and its buffer."""

    port: Port
    type: Type
    buffer: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A lowered Graph. `updates`: copies (destination buffer, source, bytes) made in this order at the end.

    The source is a buffer, or `@name` for a constant of the Plan. The destination is a state whose update
    could not be planned in place, or an output that no item computes (a constant, a state's old content).
    """

    name: str
    inputs: tuple[PlanPort, ...]
    outputs: tuple[PlanPort, ...]
    items: tuple[Item, ...]
    updates: tuple[tuple[str, str, int], ...] = ()

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, streamed or not, in order."""
        return tuple(c for item in self.items for c in (item.calls if isinstance(item, Stream) else (item,)))


@dataclass(frozen=True, slots=True)
class Arena:
    """Bytes used of one memory; the first `persistent_bytes` hold state and keep their content between
    calls."""

    memory: str
    bytes: int
    persistent_bytes: int


@dataclass(frozen=True, slots=True)
class PlanState:
    """A state's buffer, its initial content and what becomes of it between calls."""

    buffer: str
    data: Array
    persistence: Persistence


@dataclass(frozen=True, slots=True)
class Plan:
    """The lowered Program. `arenas` is empty until planned."""

    name: str
    entries: tuple[Entry, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[PlanConstant, ...]
    state: tuple[PlanState, ...] = ()
    arenas: tuple[Arena, ...] = ()

    def buffer(self, name: str) -> Buffer:
        for b in self.buffers:
            if b.name == name:
                return b
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Flow:
    """The calls of an entry without streams, for a backend that looks for some to do together.

    `writers` and `readers`: of buffers that hold one value between calls, the call that makes it and those that
    read it, by their places in `calls`."""

    calls: tuple[Call, ...]
    writers: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, Buffer]
    constants: Mapping[str, PlanConstant]


@dataclass(frozen=True, slots=True)
class Block:
    """Calls that come instead of others: `gone` are the places of those, `calls` stand at the places given (of some
    that are gone), with new buffers and constants of their own."""

    gone: tuple[int, ...]
    calls: tuple[tuple[int, Call], ...]
    buffers: tuple[Buffer, ...] = ()
    constants: tuple[PlanConstant, ...] = ()
