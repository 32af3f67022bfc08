"""Compiles one kernel source and calls it from numpy arrays, every buffer between guard words.

node = quantized_node(op, example)
outputs = run_whole(record, node.view(constant=(1, 2)), node.inputs)
"""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.ir import Array
from edgec.plan import Emulator, Halo, Kernel, Launch, NodeView, Target, Toolchain

RUNTIME = Path(__file__).resolve().parent.parent / "runtime_c"
FLAGS = ("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-pedantic")
GUARD = 64
POISON = 0xA5


def host(*features: str) -> Target:
    """A target that is this machine, with the features asked for."""
    emulator: Emulator | None = None
    return Target(
        "host", "this machine", "c", "x86-64", features, 1, (), 0, Toolchain("gcc", (), ()), emulator, "tests"
    )


@functools.cache
def library(source: str, flags: tuple[str, ...] = ("-fsanitize=undefined",)) -> ctypes.CDLL:
    """The shared library of one source below runtime_c/, built alone."""
    out = Path(_folder().name) / "".join([source.replace("/", "_"), *flags, ".so"])
    command = ["gcc", *FLAGS, *flags, "-fPIC", "-shared", f"-I{RUNTIME / 'include'}", str(RUNTIME / source)]
    done = subprocess.run([*command, "-o", str(out), "-lm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(out))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="edgec-kernels-")


@functools.cache
def struct_fields(struct: str) -> tuple[tuple[str, str], ...]:
    """(name, C type) of each field of a params struct, as its header declares them."""
    for header in sorted((RUNTIME / "include").glob("*.h")):
        found = re.search(rf"typedef struct {struct} \{{(.*?)\}} {struct};", header.read_text(), re.S)
        if found:
            body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.S)
            return tuple((m[1], m[0]) for m in re.findall(r"(int32_t|float)\s+(\w+)\s*;", body))
    raise AssertionError(f"no header declares {struct}")


def params(launch: Launch) -> ctypes.Structure:
    """The params struct of a launch; its fields must stand in the header's order."""
    declared = struct_fields(launch.struct)
    assert [n for n, _ in declared] == [n for n, _ in launch.fields], (
        "Launch.fields are not the struct's fields"
    )
    kinds = {"int32_t": ctypes.c_int32, "float": ctypes.c_float}
    made = type(launch.struct, (ctypes.Structure,), {"_fields_": [(n, kinds[k]) for n, k in declared]})
    for (name, value), (_, kind) in zip(launch.fields, declared, strict=True):
        assert kind == "float" or isinstance(value, (int, np.integer)), f"{name} = {value!r} is no integer"
    return made(
        *(v if k == "float" else int(v) for (_, v), (_, k) in zip(launch.fields, declared, strict=True))
    )


@dataclass
class Guarded:
    """`array` inside of a poisoned block; `intact` tells whether the bytes round it are as they were."""

    block: Array
    array: Array

    @property
    def intact(self) -> bool:
        return bool(
            (self.block[:GUARD] == POISON).all() and (self.block[GUARD + self.array.nbytes :] == POISON).all()
        )

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.block.ctypes.data + GUARD)


def guarded(shape: tuple[int, ...], dtype: np.dtype, content: Array | None = None) -> Guarded:
    """A block with room for the array; poisoned where there is no content."""
    count = int(np.prod(shape)) * dtype.itemsize
    block = np.full(count + 2 * GUARD, POISON, np.uint8)
    array = block[GUARD : GUARD + count].view(dtype).reshape(shape)
    if content is not None:
        array[...] = content
    return Guarded(block, array)


def of(array: Array) -> Guarded:
    return guarded(array.shape, array.dtype, array)


def call(
    kernel: Kernel,
    launch: Launch,
    rows: tuple[int, int] | None,
    inputs: Sequence[Guarded],
    outputs: Sequence[Guarded],
    scratch_bytes: int | None,
) -> None:
    """One call of the C function; fails where a guard word, an input or a constant changed."""
    constants = [of(np.ascontiguousarray(c.data)) for c in launch.constants]
    scratch = [] if scratch_bytes is None else [guarded((scratch_bytes,), np.dtype(np.uint8))]
    read_only = [*inputs, *constants] if not any(i is o for i in inputs for o in outputs) else constants
    before = [g.array.tobytes() for g in read_only]
    arguments: list[object] = [] if launch.struct == "" else [ctypes.byref(params(launch))]
    arguments += [ctypes.c_int32(r) for r in rows or ()]
    arguments += [g.pointer for g in (*inputs, *constants, *outputs, *scratch)]
    function = getattr(library(kernel.source), kernel.symbol)
    function.restype = None
    function(*arguments)
    for g in (*inputs, *constants, *outputs, *scratch):
        assert g.intact, f"{kernel.symbol} wrote outside of a buffer"
    assert before == [g.array.tobytes() for g in read_only], f"{kernel.symbol} changed what it reads"


def scratch_of(kernel: Kernel, view: NodeView) -> int | None:
    return None if kernel.scratch is None else kernel.scratch(view, host())


def run_whole(kernel: Kernel, view: NodeView, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of the kernel on whole maps: one call, or one a batch element for a kernel with rows."""
    launch = kernel.launch(view, host())
    scratch = scratch_of(kernel, view)
    if kernel.halo is None:
        outputs = [guarded(t.dims, t.dtype.numpy) for t in view.outputs]
        call(kernel, launch, None, [of(inputs[i]) for i in launch.inputs], outputs, scratch)
        return tuple(g.array.copy() for g in outputs)
    batch, height = view.outputs[0].dims[:2]
    parts = []
    for n in range(batch):
        outputs = [guarded(t.dims[1:], t.dtype.numpy) for t in view.outputs]
        given = [of(_element(inputs[i], n, batch)) for i in launch.inputs]
        call(kernel, launch, (0, height), given, outputs, scratch)
        parts.append([g.array.copy() for g in outputs])
    return tuple(np.stack(p) for p in zip(*parts, strict=True))


def run_in_place(kernel: Kernel, view: NodeView, inputs: Sequence[Array], index: int) -> tuple[Array, ...]:
    """Outputs where the first output takes over the buffer of input `index`."""
    launch = kernel.launch(view, host())
    given = [of(inputs[i]) for i in launch.inputs]
    taken = given[launch.inputs.index(index)]
    rest = [guarded(t.dims, t.dtype.numpy) for t in view.outputs[1:]]
    rows = None if kernel.halo is None else (0, view.outputs[0].dims[1])
    call(kernel, launch, rows, given, [taken, *rest], scratch_of(kernel, view))
    first = view.outputs[0]
    whole = taken.array.view(first.dtype.numpy).reshape(-1)[: first.size].reshape(first.dims)
    return (whole.copy(), *(g.array.copy() for g in rest))


def run_rows(kernel: Kernel, view: NodeView, inputs: Sequence[Array], spare: int) -> tuple[Array, ...]:
    """Outputs of batch element 0 made row by row, through rings of the rows needed and `spare`."""
    assert kernel.halo is not None
    halo, scratch = kernel.halo(view), scratch_of(kernel, view)
    launch = kernel.launch(view, host())
    height = view.outputs[0].dims[1]
    batch = view.outputs[0].dims[0]
    maps = [_element(inputs[i], 0, batch) for i in launch.inputs]
    ringed = _ringed(halo, launch, maps, height, batch, inputs)
    span = halo.last(0) - halo.first(0) + 1 + spare
    rings = [min(span, m.shape[0]) if r else 0 for m, r in zip(maps, ringed, strict=True)]
    ring_y = min(1 + spare, height)
    changed = {f"ring_{i}": ring for i, ring in enumerate(rings) if ring} | {"ring_y": ring_y}
    launch = Launch(
        launch.struct,
        tuple((n, changed.get(n, v)) for n, v in launch.fields),
        launch.inputs,
        launch.constants,
    )
    made: list[list[Array]] = [[] for _ in view.outputs]
    for row in range(height):
        given = [_ring(m, ring, halo, row) if ring else of(m) for m, ring in zip(maps, rings, strict=True)]
        outputs = [guarded((ring_y, *t.dims[2:]), t.dtype.numpy) for t in view.outputs]
        call(kernel, launch, (row, row + 1), given, outputs, scratch)
        for kept, g in zip(made, outputs, strict=True):
            kept.append(g.array[row % ring_y].copy())
    return tuple(np.stack(rows) for rows in made)


def _element(x: Array, n: int, batch: int) -> Array:
    """Batch element n of a map; an operand without that batch axis as it is."""
    if x.ndim == 4 and x.shape[0] in (1, batch):
        return x[n if x.shape[0] == batch else 0]
    return x


def _ringed(
    halo: Halo, launch: Launch, maps: Sequence[Array], height: int, batch: int, inputs: Sequence[Array]
) -> list[bool]:
    """Which passed inputs are maps whose rows the kernel walks over: those with a ring field."""
    fields = dict(launch.fields)
    return [
        inputs[i].ndim == 4 and f"ring_{k}" in fields and m.shape[0] > 1
        for k, (i, m) in enumerate(zip(launch.inputs, maps, strict=True))
    ]


def _ring(m: Array, ring: int, halo: Halo, row: int) -> Guarded:
    """A ring buffer with the rows that output row `row` reads; all other rows are poison."""
    g = guarded((ring, *m.shape[1:]), m.dtype)
    for r in range(max(0, halo.first(row)), min(m.shape[0], halo.last(row) + 1)):
        g.array[r % ring] = m[r]
    return g
