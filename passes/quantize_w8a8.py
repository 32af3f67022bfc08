"""Linear layers become int8 products with a scale for each output channel and for each token: linear becomes
quantize_rows and linear_w8a8.

Xiao et al., "SmoothQuant", ICML 2023, table 2, scheme O1: scale[n] = max|w[n]| / 127, tokens at run time. Layers that
share their input share its quantize_rows. The head stays as it is unless `head` asks for it. The float weights of no
more than one layer are in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.ir import Array, Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.linear import LinearAttrs
from edgec.ops.linear_w8a8 import LinearW8A8Attrs
from edgec.passes.dead import remove_dead
from edgec.passes.quantize_w4 import head_names


@dataclass(frozen=True, slots=True)
class W8A8Scheme:
    """`keep`: layers of the user's model (Loc.layer) that stay as they are."""

    head: bool = False
    keep: frozenset[str] = frozenset()


def quantize_channels(w: Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(int8[N,K], scale f32[N]) of w float[N,K], symmetric, 127 steps on each side."""
    real = np.asarray(w, np.float32)
    scale = np.maximum(np.abs(real).max(axis=1), np.float32(1e-30)) / np.float32(127)
    q = np.clip(np.rint(real / scale[:, None]), -127, 127)
    return q.astype(np.int8), scale


def quantize_w8a8(program: Program, scheme: W8A8Scheme) -> Program:
    """`program` with the linear layers that `scheme` takes in int8; the same object where there is none."""
    heads = frozenset[str]() if scheme.head else frozenset(n for g in program.graphs for n in head_names(g))
    made: dict[str, tuple[str, str]] = {}

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        if node.op != "linear" or node.outputs[0].name in heads or node.loc.layer in scheme.keep:
            return None
        return _quantized(at, node, made)

    return remove_dead(rewrite(program, visit))


def _quantized(at: Rewrite, node: Node, made: dict[str, tuple[str, str]]) -> tuple[str, ...] | None:
    x, weight = node.inputs[:2]
    attrs = node.attrs
    assert isinstance(attrs, LinearAttrs)
    if weight[0] != "@" or not at.type(weight).dtype.is_float or at.type(x).quant is not None:
        return None
    b = at.builder
    if weight not in made:
        q, scale = quantize_channels(b.constants[weight[1:]].data)
        made[weight] = (b.constant(q, f"{weight[1:]}.q"), b.constant(scale, f"{weight[1:]}.scale"))
    key = ("quantize_rows", x)
    rows = at.memo.get(key) or b.node("quantize_rows", (x,), name=f"{x}.q", loc=node.loc)
    at.memo[key] = rows
    w8a8 = LinearW8A8Attrs(at.type(x).dtype.value, attrs.act)
    inputs = (*rows, *made[weight], *node.inputs[2:])
    return b.node("linear_w8a8", inputs, w8a8, name=node.outputs[0].name, loc=node.loc)
