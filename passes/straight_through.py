"""straight_through: how int8 layers train. The `Integers` of passes/train.py.

Forward, layers on the way from a trained parameter to the loss become ops that take parameters from state and note in
a mask where their clamp lets a gradient pass. Backward, rounding counts as the identity: the gradient to a value is
that to its integer, in steps. The rules follow Lin et al., On-Device Training Under 256KB Memory (NeurIPS 2022),
section 3.1, with quantisation-aware scaling folded into one factor an output channel: a step of a weight is
rate * s_x / (s_w s_y) * sum (x - zero) g, of a bias rate / (s_w s_x s_y) * sum g.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.build import Builder
from edgec.errors import UserError
from edgec.ir import NO_ATTRS, Attrs, Node, Value
from edgec.ops import OPS
from edgec.ops.binary import BinaryAttrs
from edgec.ops.block_float import Rounding
from edgec.ops.cast import CastAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.gather import IndexSelectAttrs
from edgec.ops.gradient import GradientSumAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.shape import ExpandAttrs, ReshapeAttrs
from edgec.ops.train_conv import TrainedConv2dInputGradAttrs
from edgec.ops.trained import TrainedAddAttrs, TrainedConv2dAttrs, by_rows
from edgec.passes.autodiff import Gradient, IntegerRules, Vjp
from edgec.passes.integer_updates import Convolution, Updates, alive_of, alive_rows, rows
from edgec.passes.straight import Format, Straight, scale_of
from edgec.passes.straight_float import has_float_form, through_float
from edgec.passes.train import Integers, Operand, Pace, convolution_weight
from edgec.passes.weights import quantize_bias

EFF_MOST: Final = 128  # largest integer factor of an int8 gradient: 127 * 128 is an int16
INT32_MOST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Step:
    """How gradients are kept and parameters move."""

    gradients: Format
    updates: Updates


def integers(gradients: Format = "int8", rounding: Rounding = "stochastic", seed: int = 0) -> Integers:
    """How quantised layers train with gradients in this format."""

    def rules(b: Builder, pace: Pace) -> IntegerRules:
        if gradients == "fp64":
            pace = replace(pace, rate=b.call("cast", pace.rate, attrs=CastAttrs("f64")))
        step = _Step(gradients, Updates(pace, rounding, seed))
        return IntegerRules(lambda op: _rule(op, step), _total)

    def apply(b: Builder, operand: Operand, pace: Pace) -> None:
        Updates(pace, rounding, seed).apply(b, operand, alive_rows(b, operand))

    return Integers(forward, rules, partial(rows, rounding=rounding), apply)


def forward(b: Builder, node: Node, operands: Mapping[int, Operand], backward: bool) -> None:
    """Append `node` with these operands trained. In a training step, what a gradient passes notes where."""
    on_path = bool(operands) or any(r in _learned(b) for r in node.inputs)
    y = node.outputs[0]
    if not on_path or y.type.quant is None:
        b.copy(node, {})
    elif isinstance(node.attrs, Conv2dAttrs):
        _trained_conv(b, node, operands, backward)
    elif node.op == "linear" and isinstance(node.attrs, LinearAttrs):
        _trained_linear(b, node, operands, backward)
    elif node.op == "add" and isinstance(node.attrs, BinaryAttrs) and _same_shapes(b, node):
        attrs = TrainedAddAttrs(node.attrs.act, backward)
        _append(b, node, "trained_add", node.inputs, attrs, y)
    elif operands:
        raise UserError(
            "EDGEC-E404",
            "train other layers (--train last:N takes convolutions and linear layers alone), or compile with "
            f"--precision fp32: parameters of an int8 {node.op} do not train ({node.loc})",
        )
    else:
        b.copy(node, {})


def _learned(b: Builder) -> set[str]:
    """Values that depend on a state."""
    found: set[str] = set()
    for node in b.nodes:
        if any(r[0] == "$" or r in found for r in node.inputs):
            found.update(v.name for v in node.outputs)
    return found


def _same_shapes(b: Builder, node: Node) -> bool:
    return all(b.types[r].shape == node.outputs[0].type.shape for r in node.inputs)


def _append(b: Builder, node: Node, op: str, inputs: Sequence[str], attrs: Attrs, y: Value) -> None:
    """Append `op` with the output `y` and, where its type rule has one, a mask."""
    types = OPS[op].infer(attrs, tuple(b.types[r] for r in inputs))
    values = [y]
    b.types[y.name] = y.type
    for t in types[1:]:
        values.append(Value(b.fresh(f"{y.name}.mask"), t))
        b.types[values[-1].name] = t
    b.nodes.append(Node(op, tuple(inputs), tuple(values), attrs, node.loc))


def _parameters(b: Builder, node: Node, operands: Mapping[int, Operand], weight: str) -> tuple[str, ...]:
    """w, b (, idx, slice) of a trained convolution."""
    own = operands.get(1)
    w = weight if own is None or own.whole is not None else own.state
    if 2 in operands:
        bias = operands[2].state
    elif len(node.inputs) == 3:
        bias = node.inputs[2]
    else:
        x, of = b.types[node.inputs[0]].quant, b.types[weight].quant
        assert x is not None and of is not None
        zeros, quant = quantize_bias(np.zeros(b.types[weight].dims[0], np.float32), x, of)
        bias = b.constant(zeros, "no_bias", quant)
    if own is None or own.whole is None:
        return w, bias
    assert own.index is not None
    return w, bias, own.index, own.state


def _trained_conv(b: Builder, node: Node, operands: Mapping[int, Operand], mask: bool) -> None:
    a = node.attrs
    assert isinstance(a, Conv2dAttrs)
    own = operands.get(1)
    sliced = own is not None and own.index is not None
    if sliced and a.groups > 1 and not by_rows(b.types[node.inputs[1]], a.groups):
        raise UserError(
            "EDGEC-E404",
            "give the ratio 1 in the scheme, or compile with --precision fp32: slices of an int8 convolution of "
            f"several groups do not train ({node.loc})",
        )
    attrs = TrainedConv2dAttrs(a.stride, a.pad, a.dilation, a.groups, a.act, mask)
    inputs = (node.inputs[0], *_parameters(b, node, operands, node.inputs[1]))
    _append(b, node, "trained_conv2d", inputs, attrs, node.outputs[0])


def _trained_linear(b: Builder, node: Node, operands: Mapping[int, Operand], mask: bool) -> None:
    """A linear layer as a 1x1 convolution of its rows."""
    assert isinstance(node.attrs, LinearAttrs)
    x, y = b.types[node.inputs[0]], node.outputs[0]
    weight = convolution_weight(b, node.inputs[1])
    outputs, channels = b.types[node.inputs[1]].dims
    rows = x.size // channels
    flat = _viewed(b, node.inputs[0], (1, rows, 1, channels))
    made = Value(b.fresh(f"{y.name}.rows"), replace(y.type, shape=(1, rows, 1, outputs)))
    attrs = TrainedConv2dAttrs(act=node.attrs.act, mask=mask)
    _append(b, node, "trained_conv2d", (flat, *_parameters(b, node, operands, weight)), attrs, made)
    b.types[y.name] = y.type
    b.nodes.append(Node("reshape", (made.name,), (y,), ReshapeAttrs(y.type.dims), node.loc))


def _viewed(b: Builder, ref: str, shape: tuple[int, ...]) -> str:
    """`ref` in another shape, its quantisation kept."""
    quant = b.types[ref].quant
    return b.node("reshape", (ref,), ReshapeAttrs(shape), quants=None if quant is None else (quant,))[0]


def _rule(op: str, step: _Step) -> Vjp | None:
    """The straight-through rule of an op, through its float form where it has none of its own; None where it has no
    gradient."""
    rules: dict[str, Callable[[Builder, Node, Gradient, _Step], Sequence[Gradient | None]]] = {
        "trained_conv2d": _conv,
        "trained_add": _add,
        "adaptive_avg_pool2d": _average,
        "reduce_mean": _mean,
        "reshape": _reshape,
        "dequantize": _dequantize,
    }
    found = rules.get(op)
    if found is None and not has_float_form(op):
        return None

    def rule(b: Builder, node: Node, grads: Sequence[Gradient | None]) -> Sequence[Gradient | None]:
        if found is None:
            return through_float(b, node, grads, step.gradients)
        assert grads[0] is not None
        return found(b, node, grads[0], step)

    return rule


def _total(b: Builder, value: str, parts: Sequence[Gradient]) -> Gradient:
    """The gradient of a value that several nodes read; a state's one part is its next content."""
    whole = parts[0]
    for part in parts[1:]:
        if value[0] == "$":
            name = re.sub(r"(\.(trained|slice|rows|q)(_\d+)?)+$", "", value[1:])
            raise UserError(
                "EDGEC-E404",
                "train other layers, or compile with --precision fp32: several layers share the int8 parameter "
                f"{name}, whose steps would have to be one",
            )
        assert isinstance(whole, Straight) and isinstance(part, Straight)
        whole = _summed(b, (whole, part))
    return whole


def _summed(b: Builder, terms: Sequence[Straight]) -> Straight:
    """One or two gradients as one without mask and factor."""
    inputs: list[str] = []
    for term in terms:
        inputs += [*term.refs, *(() if term.mask is None else (term.mask,))]
    attrs = GradientSumAttrs(tuple(t.factor for t in terms), tuple(t.mask is not None for t in terms))
    made = b.node("gradient_sum", inputs, attrs)
    return Straight(made[0], made[1] if len(made) == 2 else None)


def _mask_of(b: Builder, node: Node, passed: Straight) -> str:
    """The node's own mask, joined with that of the gradient."""
    own = node.outputs[1].name
    return own if passed.mask is None else b.call("mask_and", own, passed.mask)


def _dequantize(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient]:
    assert isinstance(grad, str)
    quant = b.types[node.inputs[0]].quant
    assert quant is not None
    scale, _ = quant.per_tensor
    if step.gradients != "int8":
        double = b.call("cast", grad, attrs=CastAttrs("f64")) if step.gradients == "fp64" else grad
        return (Straight(double, None, factor=scale),)
    q, e = b.node("gradient_quantize", (grad,), NO_ATTRS)
    return (Straight(q, e, factor=scale),)


def _reshape(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient]:
    """Masks hold elements in flat order, which stays."""
    assert isinstance(grad, Straight)
    return (grad._replace(q=_viewed(b, grad.q, b.types[node.inputs[0]].dims)),)


def _average(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient | None]:
    """Of a global average: every pixel has its share of the gradient."""
    assert isinstance(grad, Straight) and isinstance(node.attrs, AdaptiveAvgPool2dAttrs)
    if node.attrs.size != (1, 1):
        return through_float(b, node, (grad,), step.gradients)
    return (_spread(b, node, grad, b.types[node.outputs[0].name].dims),)


def _mean(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient | None]:
    """As an average; its output has a scale of its own, whose range is taken as never left."""
    assert isinstance(grad, Straight) and isinstance(node.attrs, ReduceAttrs)
    x, y = (b.types[r] for r in (node.inputs[0], node.outputs[0].name))
    kept = tuple(1 if axis in node.attrs.axes else d for axis, d in enumerate(x.dims))
    given = _spread(b, node, grad, kept)
    return (given._replace(factor=given.factor * scale_of(x) / scale_of(y)),)


def _spread(b: Builder, node: Node, grad: Straight, shape: tuple[int, ...]) -> Straight:
    """The gradient of a mean, in `shape` with axes of 1, as that of the elements it is the mean of."""
    x = b.types[node.inputs[0]]
    if grad.mask is not None:
        grad = _summed(b, (grad,))
    spread = b.call("expand", _viewed(b, grad.q, shape), attrs=ExpandAttrs(x.dims))
    return grad._replace(q=spread, factor=grad.factor * math.prod(shape) / x.size)


def _add(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient]:
    assert isinstance(grad, Straight)
    mask = _mask_of(b, node, grad)
    scales = [scale_of(b.types[r]) / scale_of(node.outputs[0].type) for r in node.inputs]
    return tuple(grad._replace(mask=mask, factor=grad.factor * s) for s in scales)


def _conv(b: Builder, node: Node, grad: Gradient, step: _Step) -> Sequence[Gradient | None]:
    """dx first: it reads the weight that the update overwrites."""
    assert isinstance(grad, Straight) and isinstance(node.attrs, TrainedConv2dAttrs)
    layer = _Layer(b, node, grad._replace(mask=_mask_of(b, node, grad)), step)
    w, bias = node.inputs[1:3]
    dx = layer.input_gradient()
    new_bias = layer.bias() if bias[0] == "$" else None
    if len(node.inputs) == 3:
        return dx, layer.weight(w, None) if w[0] == "$" else None, new_bias
    return dx, None, new_bias, None, layer.weight(node.inputs[4], node.inputs[3])


class _Layer:
    """The backward nodes of one convolution. Factors are float64 until they are rounded once."""

    def __init__(self, b: Builder, node: Node, grad: Straight, step: _Step) -> None:
        assert isinstance(node.attrs, TrainedConv2dAttrs) and grad.mask is not None
        self.b, self.node, self.attrs, self.grad, self.step = b, node, node.attrs, grad, step
        self.mask = grad.mask
        self.x, self.w = b.types[node.inputs[0]], b.types[node.inputs[1]]
        assert self.w.quant is not None
        outputs = self.w.dims[0]
        scale = np.array(self.w.quant.scale, np.float64)
        self.scale_w = scale if len(scale) == outputs else np.full(outputs, scale[0])
        self.alive = alive_of(self.scale_w)
        self.scale_x, self.scale_y = scale_of(self.x), scale_of(node.outputs[0].type)

    def constant(self, values: npt.NDArray[np.float64], dtype: npt.DTypeLike, stem: str) -> str:
        if dtype is np.float32 and self.step.gradients == "fp64":
            dtype = np.float64
        return self.b.constant(
            np.where(self.alive, values, 0).astype(dtype), f"{self.node.outputs[0].name}.{stem}"
        )

    def input_gradient(self) -> Straight:
        b, a = self.b, self.attrs
        eff = np.where(self.alive, self.scale_x * self.scale_w / self.scale_y * self.grad.factor, 0.0)
        exponent = 0
        if self.grad.exponent is not None:
            exponent = self.exponent(float(eff.max(initial=0.0)))
            factor = self.constant(np.floor(eff * 2.0**-exponent + 0.5), np.int16, "eff")
        else:
            factor = self.constant(eff, b.types[self.grad.q].dtype.numpy, "eff")
        attrs = TrainedConv2dInputGradAttrs(
            (self.x.dims[1], self.x.dims[2]), a.stride, a.pad, a.dilation, a.groups, exponent
        )
        inputs = (*self.grad.refs, self.mask, self.node.inputs[1], factor, *self.node.inputs[3:])
        made = b.node("trained_conv2d_input_grad", inputs, attrs)
        return Straight(made[0], made[1] if len(made) == 2 else None)

    def exponent(self, largest: float) -> int:
        """The smallest e with round(largest * 2**-e) within what int32 sums allow."""
        o, r, s, _ = self.w.dims
        taps = (
            o // self.attrs.groups * math.ceil(r / self.attrs.stride[0]) * math.ceil(s / self.attrs.stride[1])
        )
        most = min(EFF_MOST, INT32_MOST // (127 * 127 * taps))
        if most < 1:
            raise UserError(
                "EDGEC-E404",
                "train only layers behind this one, or pass --gradients fp32: sums of an int8 gradient over "
                f"{taps} products leave int32 ({self.node.loc})",
            )
        if largest == 0.0:
            return 0
        e = math.frexp(largest / most)[1] - 1
        while math.floor(largest * 2.0**-e + 0.5) > most:
            e += 1
        return e

    def bias(self) -> str:
        ref = self.node.inputs[2]
        factor = self.constant(
            self.grad.factor / (self.scale_w * self.scale_x * self.scale_y), np.float32, "step_b"
        )
        return self.step.updates.bias(self.b, ref, (*self.grad.refs, self.mask, factor), self.alive)

    def weight(self, state: str, idx: str | None) -> str:
        b, a = self.b, self.attrs
        assert self.x.quant is not None
        steps = self.grad.factor * self.scale_x / (self.scale_w * self.scale_y)
        rows = idx is not None and by_rows(self.w, a.groups)
        x, alive = self.node.inputs[0], self.alive
        chosen: tuple[str, ...] = ()
        if idx is not None:
            x = b.node("index_select", (x, idx), IndexSelectAttrs(3), quants=(self.x.quant,))[0]
        factor = self.constant(steps, np.float32, "step_w")
        if rows:
            assert idx is not None
            at = np.asarray(b.constants[idx[1:]].data, np.int64)
            factor = b.constant(b.constants[factor[1:]].data[at], f"{self.node.outputs[0].name}.step_w")
            chosen, alive = (idx,), alive[at]
        place = Convolution(self.x.quant.per_tensor[1], a.stride, a.pad, a.dilation, a.groups)
        sources = (x, *self.grad.refs, self.mask, factor)
        return self.step.updates.weight(b, state, sources, alive, chosen, place)
