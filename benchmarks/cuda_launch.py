"""Times single kernels of the CUDA backend: compiles the instances of one node, launches them through the driver API
into a CUDA graph and compares with what PyTorch does in a graph of its own. Needs torch, nvcc and a GPU.
"""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import cuda_harness
from cuda_harness import Case

from edgec.backends import cuda
from edgec.plan import BufferArg, Call, ConstantArg, Grid, Plan, Target
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target

TARGET = load_target("h200")
LAUNCHES = (8, 40)  # in the two graphs whose difference is the time of a launch
REPEATS = 5
PROGRAMMATIC = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
FLAGS = ("-std=c++17", "-O3", "--expt-relaxed-constexpr")
SHARED_SIZE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_FORMAT = {"int32_t": "i", "uint32_t": "I", "int64_t": "q", "float": "f"}


class _Config(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_uint) for n in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint), ("pad", ctypes.c_char * 4), ("value", ctypes.c_uint * 16))


@dataclass
class Unit:
    """One compiled launch of a node."""

    grid: Grid
    function: ctypes.c_void_p
    params: bytes


@dataclass
class Node:
    """A node's launches and its constants on the device."""

    call: Call
    plan: Plan
    units: tuple[Unit, ...]
    constants: dict[str, Any]


def driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(status: int, what: str) -> None:
    if status:
        raise RuntimeError(f"{what}: CUDA error {status}")


def packed(call: Call) -> bytes:
    """The params as C lays them out."""
    if not call.struct:
        return b""
    for path in (ROOT / "cuda").glob("*_params.h"):
        found = re.search(r"typedef struct (?:\w+ )?\{([^}]*)\} " + call.struct + ";", path.read_text())
        if found:
            lines = [
                (kind, name)
                for kind, names in re.findall(r"^\s*(\w+) ([\w, ]+);", found[1], re.M)
                for name in names.split(", ")
            ]
            values = dict(call.params)
            return struct.pack(
                "@" + "".join(_FORMAT[t] for t, _ in lines), *(values[name] for _, name in lines)
            )
    raise KeyError(call.struct)


def compiled(texts: dict[str, str], arch: str = "sm_90") -> dict[str, bytes]:
    """The cubin of each translation unit."""
    folder = Path(tempfile.mkdtemp())

    def one(item: tuple[str, str]) -> tuple[str, bytes]:
        name, text = item
        source, out = folder / f"{name}.cu", folder / f"{name}.cubin"
        source.write_text(text)
        flags = [*FLAGS, f"-arch={arch}", "-I", str(ROOT / "cuda"), "-cubin", "-o", str(out)]
        done = subprocess.run(["nvcc", *flags, str(source)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-800:]}")
        return name, out.read_bytes()

    with ThreadPoolExecutor(16) as pool:
        return dict(pool.map(one, texts.items()))


def lowered(case: Case, target: Target = TARGET) -> tuple[Plan, Call, dict[str, str], list[tuple[str, Grid]]]:
    """The node's plan, its call, and its instances: text by name, and the launches in order."""
    plan = cuda_harness.lowered([case], target)
    (call,) = plan.entries[0].calls
    units = cuda._Units(target)
    return plan, call, units.texts, list(units.of(call))


def loaded(plan: Plan, call: Call, launches: Sequence[tuple[str, Grid]], cubins: dict[str, bytes]) -> Node:
    """The node on the current device."""
    lib, params, units = driver(), packed(call), []
    for name, grid in launches:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        _check(lib.cuModuleLoadData(ctypes.byref(module), cubins[name]), f"load {name}")
        _check(lib.cuModuleGetFunction(ctypes.byref(function), module, name.encode()), name)
        if grid.shared_bytes > 48 * 1024:
            _check(lib.cuFuncSetAttribute(function, SHARED_SIZE, grid.shared_bytes), name)
        units.append(Unit(grid, function, params))
    constants = {}
    for c in plan.constants:
        raw = np.ascontiguousarray(c.data).reshape(-1).view(np.uint8)
        constants[c.name] = torch.from_numpy(raw.copy()).cuda()
    return Node(call, plan, tuple(units), constants)


class Buffers:
    """Memory of one node: a tensor for each of its buffers, several times over, so that launches take turns."""

    def __init__(self, node: Node, case: Case, turns: int) -> None:
        self.node, self.turns = node, turns
        names = [a.buffer for a in (*node.call.inputs, *node.call.outputs) if isinstance(a, BufferArg)]
        sizes = {b.name: b.bytes for b in node.plan.buffers}
        self.sets = [
            {n: torch.zeros(sizes[n], dtype=torch.uint8, device="cuda") for n in names} for _ in range(turns)
        ]
        free = [i for i in range(len(case.arrays)) if i not in case.constants]
        for made in self.sets:
            for i, argument in zip(
                free, [a for a in node.call.inputs if isinstance(a, BufferArg)], strict=False
            ):
                raw = np.ascontiguousarray(case.arrays[i]).reshape(-1).view(np.uint8)
                made[argument.buffer].copy_(torch.from_numpy(raw.copy()))
        scratch = sizes[node.call.scratch.buffer] if node.call.scratch else 0
        self.scratch = torch.zeros(max(scratch, 16), dtype=torch.uint8, device="cuda")
        self.counters = torch.zeros(1 << 18, dtype=torch.uint8, device="cuda")

    def pointers(self, turn: int) -> list[int]:
        """Device addresses in the order of the kernel's arguments."""
        made, call = self.sets[turn % self.turns], self.node.call
        out = []
        for a in (*call.inputs, *call.constants, *call.outputs):
            tensor = self.node.constants[a.constant] if isinstance(a, ConstantArg) else made[a.buffer]
            out.append(tensor.data_ptr())
        if call.scratch:
            out.append(self.scratch.data_ptr())
        if call.counters:
            out.append(self.counters.data_ptr())
        return out

    def launch(self, turn: int, stream: int) -> None:
        """Enqueue the node's launches with programmatic dependence on what comes before."""
        lib, pointers = driver(), self.pointers(turn)
        for unit in self.node.units:
            values: list[Any] = (
                [ctypes.create_string_buffer(unit.params, len(unit.params))] if unit.params else []
            )
            values += [ctypes.c_uint64(p) for p in pointers]
            array = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
            attribute = _Attribute(PROGRAMMATIC)
            attribute.value[0] = 1
            config = _Config(
                *unit.grid.blocks, unit.grid.threads, 1, 1, unit.grid.shared_bytes, stream, None, 1
            )
            config.attributes = ctypes.addressof(attribute)
            _check(lib.cuLaunchKernelEx(ctypes.byref(config), unit.function, array, None), "launch")


def graph_us(run: Callable[[int], object]) -> float:
    """Microseconds that one `run(turn)` adds to a graph of many."""
    stream = torch.cuda.Stream()
    graphs = []
    with torch.cuda.stream(stream):
        for turn in range(3):
            run(turn)
        stream.synchronize()
        for count in LAUNCHES:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for turn in range(count):
                    run(turn)
            graphs.append(graph)
        times: list[list[float]] = [[], []]
        for repeat in range(REPEATS + 1):
            for k, graph in enumerate(graphs):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record(stream)
                graph.replay()
                end.record(stream)
                end.synchronize()
                if repeat:
                    times[k].append(begin.elapsed_time(end) * 1e3)
    short, long = (sorted(t)[len(t) // 2] for t in times)
    return (long - short) / (LAUNCHES[1] - LAUNCHES[0])


def kernel_us(node: Node, case: Case, turns: int) -> float:
    """Microseconds of the node, over `turns` sets of buffers."""
    buffers = Buffers(node, case, turns)
    return graph_us(lambda turn: buffers.launch(turn, torch.cuda.current_stream().cuda_stream))
