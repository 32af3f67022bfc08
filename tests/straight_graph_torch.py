"""A quantised graph once more in PyTorch: values are the interpreter's, gradients autograd's, straight through.

Each layer computes in float64 on the numbers that integers stand for, and its result is moved to the number of the
integer that the interpreter gave, which autograd does not see. Convolutions, linear layers and additions let a
gradient pass where the sum, requantised by straight_through_torch.py, lies within the clamp; other layers everywhere.
Written from docs/quantization.md and docs/training.md, and from no code of edgec beyond the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from straight_through_torch import F64, requantized
from torch import Tensor
from torch.nn import functional as nnf

from edgec.ir import Array, Node, Program, Type
from edgec.ops.attention import AttentionAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.norm import LayerNormAttrs
from edgec.ops.pool import MaxPool2dAttrs
from edgec.ops.reduce import ReduceAttrs
from edgec.ops.shape import ReshapeAttrs, TransposeAttrs
from edgec.ops.slicing import SplitAttrs

LAYERS = ("conv2d", "linear")


def scale_of(t: Type) -> Tensor:
    """Scales as float64 of their float32, one or one an output."""
    assert t.quant is not None
    return torch.tensor(np.asarray(t.quant.scale, np.float32).astype(np.float64))


def real(array: Array, t: Type) -> Tensor:
    """The numbers that an array of activations stands for."""
    if t.quant is None:
        return torch.tensor(array, dtype=F64)
    return (torch.tensor(array.astype(np.float64)) - t.quant.zero[0]) * scale_of(t)


class Walk:
    """`parameters`: integers of weights and biases by layer, as leaves; `values`: by name of the graph's value."""

    def __init__(self, program: Program, found: Mapping[str, Array], last: str) -> None:
        self.program, self.graph, self.found = program, program.graph("infer"), found
        self.types = program.type_of(self.graph)
        self.parameters: dict[str, tuple[Tensor, Tensor]] = {}
        self.values: dict[str, Tensor] = {v.name: real(found[v.name], v.type) for v in self.graph.inputs}
        for node in self.graph.nodes:
            if node.op in LAYERS:
                made = self.layer(node)
            elif node.op == "add":
                made = self.add(node)
            else:
                made = self.other(node)
            self.values.update(made)
            if last in self.values:
                return

    def given(self, ref: str) -> Tensor:
        if ref[0] == "@":
            return real(self.program.constants[ref[1:]].data, self.types[ref])
        return self.values[ref]

    def moved(self, name: str, y: Tensor, inside: Tensor | None = None) -> dict[str, Tensor]:
        """y with the interpreter's value, its gradient y's own where `inside`."""
        value = real(self.found[name], self.types[name])
        change = y - y.detach()
        return {name: value + (change if inside is None else torch.where(inside, change, 0.0))}

    def within(self, node: Node, v: Tensor) -> Tensor:
        """Where integers before the clamp lie in it."""
        quant = self.types[node.outputs[0].name].quant
        assert quant is not None
        low, high = -128, 127
        if getattr(node.attrs, "act", None) is not None:
            assert node.attrs.act == (0.0, math.inf)  # type: ignore[attr-defined]
            low = max(low, quant.zero[0])
        return (v >= low) & (v <= high)

    def layer(self, node: Node) -> dict[str, Tensor]:
        """A convolution or a linear layer, as a sum over channels-first maps."""
        name = node.outputs[0].name
        x, w, y = (self.types[r] for r in (*node.inputs[:2], name))
        assert x.quant is not None and y.quant is not None and w.quant is not None
        data = torch.tensor(self.program.constants[node.inputs[1][1:]].data.astype(np.float64))
        weight = (data if data.ndim == 2 else data.permute(0, 3, 1, 2)).contiguous().requires_grad_()
        bias = torch.zeros(w.dims[0], dtype=F64)
        if len(node.inputs) == 3:
            bias = torch.tensor(self.program.constants[node.inputs[2][1:]].data.astype(np.float64))
        bias.requires_grad_()
        self.parameters[node.loc.layer] = weight, bias
        x_int = self.given(node.inputs[0]) / scale_of(x)
        acc = self.sums(node, x_int, weight, bias)
        s_w = scale_of(w)
        ratio = scale_of(x) * s_w / scale_of(y)
        exact = self.sums(node, x_int.detach().round(), weight.detach(), bias.detach())
        flat = requantized(exact.reshape(-1, w.dims[0], 1, 1), ratio.expand(w.dims[0]))
        v = flat.reshape(exact.shape) + y.quant.zero[0]
        made = acc * (scale_of(x) * s_w)
        return self.moved(name, made, self.within(node, v))

    def sums(self, node: Node, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Channels last; x without its zero."""
        if not isinstance(node.attrs, Conv2dAttrs):
            return nnf.linear(x, w, b)
        top, bottom, left, right = node.attrs.pad
        padded = nnf.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = nnf.conv2d(padded, w, b, node.attrs.stride, 0, node.attrs.dilation, node.attrs.groups)
        return y.permute(0, 2, 3, 1)

    def add(self, node: Node) -> dict[str, Tensor]:
        name = node.outputs[0].name
        (a, b), (ta, tb, ty) = map(self.given, node.inputs), [self.types[r] for r in (*node.inputs, name)]
        assert ty.quant is not None
        ratios = [float(scale_of(t) / scale_of(ty)) for t in (ta, tb)]
        shift = min(21 - math.frexp(max(ratios))[1], 31)
        total = torch.zeros_like(a, dtype=torch.int64)
        for value, t, ratio in zip((a, b), (ta, tb), ratios, strict=True):
            steps = (value.detach() / scale_of(t)).round().to(torch.int64)
            total = total + steps * min(2**21 - 1, round(ratio * 2**shift))
        v = ((total + (1 << (shift - 1))) >> shift) + ty.quant.zero[0]
        return self.moved(name, a + b, self.within(node, v))

    def other(self, node: Node) -> dict[str, Tensor]:
        """Layers without parameters that train."""
        inputs = [self.given(r) for r in node.inputs]
        made = _computed(node, inputs)
        results: dict[str, Tensor] = {}
        for value, y in zip(node.outputs, made, strict=True):
            results |= self.moved(value.name, y) if node.op != "dequantize" else {value.name: y}
        return results


def _computed(node: Node, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    x = inputs[0]
    match node.attrs:
        case ReshapeAttrs(shape):
            return (x.reshape(shape),)
        case TransposeAttrs(perm):
            return (x.permute(perm),)
        case SplitAttrs(axis, sizes):
            return torch.split(x, list(sizes), axis)
        case ReduceAttrs(axes, keepdims):
            return (x.mean(axes, keepdims),)
        case LayerNormAttrs(_, eps):
            return (nnf.layer_norm(x, x.shape[-1:], inputs[1], inputs[2], eps),)
        case AttentionAttrs(scale):
            return (torch.softmax(scale * x @ inputs[1].transpose(2, 3), 3) @ inputs[2],)
        case MaxPool2dAttrs(kernel, stride):
            return (nnf.max_pool2d(x.permute(0, 3, 1, 2), kernel, stride).permute(0, 2, 3, 1),)
    if node.op == "gelu":
        return (nnf.gelu(x),)
    assert node.op == "dequantize", node.op
    return (x,)
