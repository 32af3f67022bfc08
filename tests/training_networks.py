"""Small networks that train, each imported with its batch norms folded, and PyTorch's gradients of the same weights."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgec import pipeline
from edgec.build import constant
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, DType, Graph, Node, Program, State, Type, Value
from edgec.pipeline import Options
from examples.models.bert import Bert, Sizes
from examples.models.digits_cnn import DigitsCnn
from examples.models.encoder import EncoderBlock
from examples.models.mobilenet_v2 import MobileNetV2
from examples.models.seeded import seeded, seeded_with


class Vit(nn.Module):
    """x[N,3,16,16] -> logits[N,5]: patches of 4, two blocks of 24 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.position = nn.Parameter(torch.randn(1, 17, 24))
        self.blocks = nn.Sequential(*(EncoderBlock(24, 3, 48) for _ in range(2)))
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class BertClassifier(nn.Module):
    """tokens i64[N,8], mask i64[N,8] -> logits[N,3]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Bert(Sizes(32, 4, 2, 50, 8))
        self.head = nn.Linear(32, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.body(tokens, mask)[1])


class LlamaBlock(nn.Module):
    """x[N,6,32] -> logits[N,7]: root mean square norms, rotary grouped-query attention, gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(32, eps=1e-5), nn.RMSNorm(32, eps=1e-5)
        self.query, self.out = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
        self.key, self.value = nn.Linear(32, 16, bias=False), nn.Linear(32, 16, bias=False)
        self.gate, self.up = nn.Linear(32, 48, bias=False), nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)
        self.head = nn.Linear(32, 7)
        angle = torch.arange(6)[:, None] * 10000.0 ** (-torch.arange(4) / 4)
        self.register_buffer("cos", angle.cos().repeat(1, 2))
        self.register_buffer("sin", angle.sin().repeat(1, 2))

    def rotate(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return x * self.cos + torch.cat([-high, low], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (
            p(y).view(x.shape[0], 6, -1, 8).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        k, v = (t.repeat_interleave(2, 1) for t in (self.rotate(k), v))
        y = nn.functional.scaled_dot_product_attention(self.rotate(q), k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        y = self.norm2(x)
        x = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return self.head(x[:, -1])


def _tokens() -> tuple[Tensor, ...]:
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[:, 6:] = 0
    return torch.randint(0, 50, (2, 8)), mask


MAKERS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "digits": lambda: seeded(DigitsCnn, (2, 1, 8, 8)),
    "mobilenet": lambda: seeded(lambda: MobileNetV2(0.35, classes=4), (2, 3, 32, 32)),
    "vit": lambda: seeded(Vit, (2, 3, 16, 16)),
    "bert": lambda: seeded_with(BertClassifier, _tokens),
    "llama": lambda: seeded(LlamaBlock, (2, 6, 32)),
}


@dataclass(frozen=True, slots=True)
class Network:
    """The module without batch norms, its example inputs, and the Program right after the import and the passes that
    keep its weights as they are."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    program: Program

    def arrays(self) -> dict[str, Array]:
        """The example inputs by the name of the graph's value, in its layout."""
        graph = self.program.graphs[0]
        return {
            p.ref: x.numpy().transpose(p.axes).astype(v.type.dtype.numpy)
            for p, v, x in zip(graph.input_ports, graph.inputs, self.inputs, strict=True)
        }


# These move factors between weights: gradients of the moved ones have no counterpart in PyTorch.
_MOVING = ("norm gain", "merge linears")


@cache
def network(name: str, whole: bool = False) -> Network:
    """The network by name; `whole`: after every pass, also those that move factors between weights."""
    module, inputs = MAKERS[name]()
    module = told_apart(without_norms(module))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(module, LoadOptions(example_inputs=inputs))
    steps = tuple(s for s in pipeline.float_steps() if whole or s.name not in _MOVING)
    arrays = {p.label: x.numpy() for p, x in zip(program.graphs[0].input_ports, inputs, strict=True)}
    trace = pipeline.run(program, steps, Options(precision="fp32"), arrays)
    return Network(module, inputs, trace.program)


def without_norms(module: nn.Module) -> nn.Module:
    """`module` with each batch norm folded into the convolution before it in its Sequential."""
    for child in module.modules():
        if isinstance(child, nn.Sequential):
            layers = list(child)
            for i, (a, b) in enumerate(itertools.pairwise(layers)):
                if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d):
                    child[i], child[i + 1] = fuse_conv_bn_eval(a, b), nn.Identity()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    return module.eval().requires_grad_()


def told_apart(module: nn.Module) -> nn.Module:
    """`module` with noise on its vectors: equal ones, all gains of 1, would become one constant."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


def as_double(program: Program) -> Program:
    """The Program computing in float64."""

    def wide(t: Type) -> Type:
        return replace(t, dtype=DType.F64) if t.dtype is DType.F32 else t

    def node(n: Node) -> Node:
        return replace(n, outputs=tuple(Value(v.name, wide(v.type)) for v in n.outputs))

    def graph(g: Graph) -> Graph:
        inputs = tuple(Value(v.name, wide(v.type)) for v in g.inputs)
        return replace(g, inputs=inputs, nodes=tuple(node(n) for n in g.nodes))

    constants = {
        n: constant(c.data.astype(np.float64)) if c.type.dtype is DType.F32 else c
        for n, c in program.constants.items()
    }
    state = {}
    for n, s in program.state.items():
        initial = constant(s.initial.data.astype(np.float64)) if s.type.dtype is DType.F32 else s.initial
        state[n] = State(initial.type, initial, s.persistence)
    return Program(tuple(graph(g) for g in program.graphs), constants, state)


def counterpart(content: Array, parameters: Mapping[str, Tensor]) -> tuple[str, tuple[int, ...]] | None:
    """(name, axes) of the parameter that an array holds: array = parameter.transpose(axes)."""
    for name, parameter in parameters.items():
        data = parameter.detach().numpy()
        axes = (0, 2, 3, 1) if data.ndim == 4 else tuple(range(data.ndim))
        moved = data.transpose(axes)
        if moved.size == content.size and np.allclose(moved.ravel(), content.ravel(), rtol=1e-6, atol=0):
            return name, axes
    return None


def close(found: Array, wanted: Array, tolerance: float, floor: float = 1e-12) -> bool:
    """Whether the largest difference is below `tolerance` of the largest magnitude or of `floor`."""
    scale = float(np.abs(wanted).max(initial=floor))
    return (
        float(np.abs(found.ravel().astype(np.float64) - wanted.ravel()).max(initial=0.0)) <= tolerance * scale
    )
