"""Compiles generated pointwise bodies and calls them from numpy arrays."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import kernel_harness as harness
import numpy as np

from edgec.backends import pointwise
from edgec.ir import Array, Loc
from edgec.ops.examples import ExampleNode
from edgec.plan import BufferArg, Call, Kernel, NodeView

HEAD = "#include <math.h>\n#include <stdint.h>\n"


def call_of(kernel: Kernel, view: NodeView) -> Call:
    """The Plan's call of a generated kernel on one node."""
    launch = kernel.launch(view, harness.host())
    return Call(
        kernel=kernel,
        name="y",
        struct=launch.struct,
        params=launch.fields,
        inputs=tuple(BufferArg(f"x{i}") for i in launch.inputs),
        constants=(),
        outputs=(BufferArg("y"),),
        scratch=None,
        rows=0 if kernel.halo is None else view.outputs[0].dims[1],
        halo=None if kernel.halo is None else kernel.halo(view),
        macs=0,
        op=view.node.op,
        loc=Loc(""),
        in_types=view.inputs,
        out_types=view.outputs,
    )


def with_rings(call: Call, **rings: int) -> Call:
    """The call with other ring fields."""
    return replace(call, params=tuple((n, rings.get(n, v)) for n, v in call.params))


def cases(node: ExampleNode) -> list[Call]:
    """A call for each generated kernel that accepts the node."""
    view = node.view()
    records = [k for k in pointwise.KERNELS if k.op == node.op.name and k.accepts(view, harness.host())]
    return [call_of(k, view) for k in records]


def build(calls: Sequence[Call], folder: Path) -> ctypes.CDLL:
    """One library of the bodies of `calls`, each exported under its symbol."""
    bodies = dict(pointwise.emit(call) for call in calls)
    source, library = folder / "bodies.c", folder / "bodies.so"
    source.write_text(HEAD + "\n".join(bodies.values()).replace("static void", "void"))
    flags = [f for f in harness.FLAGS if f != "-pedantic"]
    prototypes = [f"-include{folder / 'bodies.h'}"]
    heads = [t.split("\n{")[0].replace("static void", "void") + ";" for t in bodies.values()]
    (folder / "bodies.h").write_text(HEAD + "\n".join(heads))
    command = ["gcc", *flags, "-pedantic", *prototypes, "-fsanitize=undefined", "-fPIC", "-shared"]
    done = subprocess.run(
        [*command, str(source), "-o", str(library), "-lm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def run(library: ctypes.CDLL, call: Call, inputs: Sequence[Array], rows: tuple[int, int] | None) -> Array:
    """The output between guard words; `rows` where the kernel takes them."""
    given = [harness.of(np.ascontiguousarray(x)) for x in inputs]
    t = call.out_types[0]
    y = harness.guarded(t.dims, t.dtype.numpy)
    arguments = [ctypes.c_int32(r) for r in rows or ()] + [g.pointer for g in (*given, y)]
    function = getattr(library, pointwise.emit(call)[0])
    function.restype = None
    function(*arguments)
    assert all(g.intact for g in (*given, y)), "a body wrote outside of its buffer"
    return y.array.copy()
