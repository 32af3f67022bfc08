"""A product of rms_norm with a constant gain becomes the norm's own gain, as in the models that write it out."""

from __future__ import annotations

from edgec.ir import Node, Program
from edgec.match import Rewrite, rewrite
from edgec.passes.dead import remove_dead


def norm_gain(program: Program) -> Program:
    """`program` with gains inside their norms. Same object where there are none."""
    changed = rewrite(program, _visit)
    return program if changed is program else remove_dead(changed)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    """rms_norm(x) * gain or gain * rms_norm(x), gain a constant [C]."""
    if node.op != "mul" or getattr(node.attrs, "act", None) is not None:
        return None
    for x, gain in (node.inputs, node.inputs[::-1]):
        norm = at.sole(x, "rms_norm")
        if norm is None or len(norm.inputs) != 1 or gain[0] != "@":
            continue
        if at.type(gain).dims == at.type(x).dims[-1:] and at.type(gain).dtype is at.type(x).dtype:
            inputs = (norm.inputs[0], gain)
            return (at.remake(node, op="rms_norm", inputs=inputs, attrs=norm.attrs),)
    return None
