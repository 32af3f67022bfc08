"""fuse_updates: a weight gradient that only an SGD step reads becomes one op with it. Program -> Program.

The kernels of these ops compute one element of the gradient at a time and change the weight at once, so that no
gradient of a whole weight is in memory.
"""

from __future__ import annotations

from edgec.ir import Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops.conv import Conv2dWeightGradAttrs
from edgec.ops.conv_gradient import Conv2dWeightUpdateAttrs
from edgec.ops.optimizer import SgdAttrs
from edgec.passes.dead import remove_dead


def fuse_updates(program: Program) -> Program:
    """`program` with fused updates; the same object where there are none."""
    fused = rewrite(program, _visit)
    return program if fused is program else remove_dead(fused)


def _visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
    if node.op != "sgd":
        return None
    assert isinstance(node.attrs, SgdAttrs)
    w, g, rate = node.inputs
    gradient = at.sole(g, "conv2d_weight_grad", "linear_weight_grad")
    if gradient is None:
        return None
    operands = (w, *gradient.inputs, rate)
    name = node.outputs[0].name
    if gradient.op == "linear_weight_grad":
        return at.builder.node("linear_weight_update", operands, node.attrs, name=name)
    own = gradient.attrs
    assert isinstance(own, Conv2dWeightGradAttrs)
    attrs = Conv2dWeightUpdateAttrs(own.stride, own.pad, own.dilation, own.groups, node.attrs.weight_decay)
    return at.builder.node("conv2d_weight_update", operands, attrs, name=name)
