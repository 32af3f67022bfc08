"""straight_float: how a gradient passes an int8 op that has no rule of its own in straight_through.

It passes through the op's float form: the integers count as the numbers they stand for, the gradient is that of
`Op.vjp`, and becomes integers again behind it. Rounding counts as the identity, and so does the op's clamp: its range
was calibrated, and no mask is noted where it was left. Where the gradient asks for the output, it is computed again
in float: the int8 one is rounded. Costs float copies of the operands while the op's gradient is computed, and of
constant operands in flash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.build import Builder
from edgec.fixedpoint import dequantize_array
from edgec.ir import NO_ATTRS, Node, Type, Value
from edgec.ops import OPS
from edgec.ops.cast import CastAttrs
from edgec.ops.define import NoGrad
from edgec.ops.gradient import GradientSumAttrs
from edgec.ops.gradient_float import GradientFloatAttrs
from edgec.passes.autodiff import Gradient
from edgec.passes.straight import Format, Straight, scale_of


def has_float_form(op: str) -> bool:
    """Whether a gradient passes the op in float."""
    return not isinstance(OPS[op].vjp, NoGrad)


def through_float(
    b: Builder, node: Node, grads: Sequence[Gradient | None], gradients: Format
) -> Sequence[Gradient | None]:
    """Gradients of the node's inputs from those of its outputs."""
    vjp = OPS[node.op].vjp
    assert not isinstance(vjp, NoGrad)
    inputs = tuple(_real(b, ref) for ref in node.inputs)
    if gradients == "fp64":
        inputs = tuple(_double(b, ref) for ref in inputs)
    again = b.node(node.op, inputs, node.attrs)
    given = [_real_gradient(b, v.type, grad) for v, grad in zip(node.outputs, grads, strict=True)]
    outputs = tuple(Value(name, b.types[name]) for name in again)
    made = vjp(b, Node(node.op, inputs, outputs, node.attrs, node.loc), given)
    return tuple(
        None if grad is None or ref[0] == "@" else _integer_gradient(b, b.types[ref], grad, gradients)
        for ref, grad in zip(node.inputs, made, strict=True)
    )


def _real(b: Builder, ref: str) -> str:
    """The numbers that `ref` stands for; one node for all that ask."""
    quant = b.types[ref].quant
    if quant is None:
        return ref
    if ref[0] == "@":
        return b.constant(dequantize_array(b.constants[ref[1:]].data, quant).astype(np.float32), "real")
    for node in b.nodes:
        if node.op == "dequantize" and node.inputs == (ref,):
            return node.outputs[0].name
    return b.call("dequantize", ref)


def _double(b: Builder, ref: str) -> str:
    return b.call("cast", ref, attrs=CastAttrs("f64")) if b.types[ref].dtype.is_float else ref


def _real_gradient(b: Builder, t: Type, grad: Gradient | None) -> str | None:
    """Gradient to the real value of a quantised output: that to its integer by its scale."""
    if grad is None or isinstance(grad, str):
        return grad
    assert isinstance(grad, Straight)
    factor, mask = grad.factor / scale_of(t), () if grad.mask is None else (grad.mask,)
    if grad.exponent is None:
        return b.call("gradient_sum", grad.q, *mask, attrs=GradientSumAttrs((factor,), (bool(mask),)))
    return b.call(
        "gradient_float", grad.q, grad.exponent, *mask, attrs=GradientFloatAttrs(factor, bool(mask))
    )


def _integer_gradient(b: Builder, t: Type, grad: str, gradients: Format) -> Gradient:
    """Gradient to the integer of a quantised input from that to its real value; a float input's own."""
    if t.quant is None:
        return grad
    if gradients != "int8":
        return Straight(grad, None, factor=scale_of(t))
    q, e = b.node("gradient_quantize", (grad,), NO_ATTRS)
    return Straight(q, e, factor=scale_of(t))
