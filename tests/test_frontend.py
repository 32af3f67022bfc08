"""Every operator's import, on a tiny module each: the Program interpreted in numpy equals PyTorch.

The tolerance, 1e-4 of the largest magnitude, is that of float sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgec import interp
from edgec.frontends import LoadOptions, load
from edgec.ir import Program

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


class Wrap(nn.Module):
    """A module that is one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):  # type: ignore[no-untyped-def]
        return self.function(*inputs)


def interpret(program: Program, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    graph = program.graphs[0]
    arrays = {v.name: x.numpy() for v, x in zip(graph.inputs, inputs, strict=True)}
    outputs, _ = interp.run(program, graph, arrays)
    return [outputs[ref] for ref in graph.outputs]


def flat(value: Any) -> list[torch.Tensor]:
    leaves = torch.utils._pytree.tree_leaves(value)
    return [v for v in leaves if isinstance(v, torch.Tensor)]


def assert_same(program: Program, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        expected = [y.numpy() for y in flat(module(*inputs))]
    for ours, theirs in zip(interpret(program, inputs), expected, strict=True):
        assert ours.shape == theirs.shape
        largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-6)) if theirs.size else 1.0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * largest)


def check(module: nn.Module, *inputs: torch.Tensor) -> Program:
    """The module imported whole and after PyTorch's own decompositions computes what PyTorch computes."""
    module.eval()
    program = load(module, LoadOptions(example_inputs=inputs))
    assert_same(program, module, inputs)
    with torch.no_grad():
        exported = torch.export.export(module, inputs).run_decompositions()
    assert_same(load(exported), module, inputs)
    return program


def ops_of(program: Program) -> list[str]:
    return [node.op for node in program.graphs[0].nodes]


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + len(shape)))


X = rand(2, 3, 6, 5)
B = rand(2, 3, 6, 5) > 0
I = torch.arange(2 * 3 * 4).reshape(2, 3, 4) % 5  # noqa: E741

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    # arithmetic
    "add": (lambda x, y: x + y, (X, rand(3, 1, 5))),
    "add scalar": (lambda x: x + 2, (X,)),
    "add alpha": (lambda x, y: torch.add(x, y, alpha=2), (X, X * 0.5)),
    "add in place": (lambda x: x.clone().add_(1.5), (X,)),
    "add of int and float": (lambda i, x: i + x, (I, rand(4))),
    "sub": (lambda x, y: x - y, (X, rand(5))),
    "sub scalar from the left": (lambda x: 1 - x, (X,)),
    "mul": (lambda x, y: x * y * 3, (X, rand(5))),
    "mul in place": (lambda x: x.clone().mul_(2), (X,)),
    "div": (lambda x, y: x / y, (X, rand(5).abs() + 1)),
    "div of ints": (lambda i: i / 2, (I,)),
    "one over": (lambda x: 1 / (x.abs() + 1), (X,)),
    "neg abs": (lambda x: -x.abs(), (X,)),
    "pow": (lambda x: x**2 + x**3, (X,)),
    "pow half": (lambda x: (x.abs() + 1) ** 0.5 + (x.abs() + 1) ** -0.5, (X,)),
    "pow of tensors": (lambda x, y: (x.abs() + 0.1) ** y, (X, X)),
    "scalar to a power": (lambda x: 2.0**x, (X,)),
    "sqrt rsqrt reciprocal": (lambda x: x.abs().sqrt() + (x.abs() + 1).rsqrt() + (x.abs() + 1).reciprocal(), (X,)),
    "exp log": (lambda x: x.exp() + (x.abs() + 1).log(), (X,)),
    "sin cos tan": (lambda x: x.sin() * x.cos() + (x * 0.3).tan(), (X,)),
    "erf": (torch.erf, (X,)),
    "expm1 log1p log2": (lambda x: x.expm1() + x.abs().log1p() + (x.abs() + 1).log2(), (X,)),
    "square": (torch.square, (X,)),
    "minimum maximum": (lambda x, y: torch.minimum(x, y) + torch.maximum(x, y * 2), (X, X.flip(0))),
    "max of two": (lambda x, y: torch.max(x, y) - torch.min(x, y), (X, X.flip(1))),
    "addcmul addcdiv lerp": (
        lambda x, y: torch.addcmul(x, y, y, value=2) + torch.addcdiv(x, y, y.abs() + 1) + torch.lerp(x, y, 0.3),
        (X, X.flip(0)),
    ),
    # comparisons, logic, selection
    "comparisons": (lambda x, y: torch.stack([x == y, x != y, x < y, x <= y, x > y, x >= y]), (X, X.flip(0))),
    "comparison with a scalar": (lambda x: (x > 0.5).float() + (x <= 0), (X,)),
    "comparison of int with float": (lambda i: (i > 2.5), (I,)),
    "logical": (lambda a, b: (a & ~b) | torch.logical_xor(a, b) | torch.logical_and(a, b), (B, B.flip(0))),
    "where": (lambda b, x: torch.where(b, x, 0.0) + torch.where(x > 0, x, -x), (B, X)),
    "masked fill": (lambda x, b: x.masked_fill(b, -1.5), (X, B)),
    "masked fill with a tensor": (lambda x, b: x.masked_fill(b, torch.tensor(2.0)), (X, B)),
    "clamp": (lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=0.1) + x.clamp(max=0.2), (X,)),
    "clamp with tensors": (lambda x, y: x.clamp(y - 0.1, y + 0.1), (X, X * 0.2)),
    "any all": (lambda b: torch.stack([b.any(1), b.all(1)]), (B,)),
    # windows, several indices, padding by copies
    "unfold": (lambda x: F.unfold(x, 3, padding=1, stride=2), (X,)),
    "windows of an axis": (lambda x: x.unfold(2, 3, 2).unfold(1, 2, 1), (X,)),
    "two indices": (lambda x: x[:, [0, 2, 1], [1, 0, -1]] + x[:, 0, [1, 2, 3]], (X,)),
    "two indices that broadcast": (lambda x: x[:, :, [[0], [4]], [[1, -1, 2]]], (X,)),
    "reflect, replicate, circular": (
        lambda x: (
            F.pad(x, (1, 2, 3, 0), mode="reflect")
            + F.pad(x, (1, 2, 3, 0), mode="replicate")
            + F.pad(x, (1, 2, 3, 0), mode="circular")
        ),
        (X,),
    ),
    # activations
    "relu": (lambda x: F.relu(x) + F.relu6(x * 5) + torch.relu_(x.clone()), (X,)),
    "hardtanh": (lambda x: F.hardtanh(x) + F.hardtanh(x, -0.3, 0.8), (X,)),
    "leaky relu elu selu celu": (
        lambda x: F.leaky_relu(x, 0.2) + F.elu(x, 0.7) + F.selu(x) + F.celu(x, 1.3),
        (X,),
    ),
    "hard swish, hard sigmoid": (lambda x: F.hardswish(x * 3) + F.hardsigmoid(x * 3), (X,)),
    "sigmoid tanh silu": (lambda x: x.sigmoid() + x.tanh() + F.silu(x), (X,)),
    "gelu": (lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"), (X,)),
    "softplus mish logsigmoid": (lambda x: F.softplus(x, 2) + F.mish(x) + F.logsigmoid(x), (X,)),
    "glu": (lambda x: F.glu(x, 2), (X,)),
    "threshold": (lambda x: F.threshold(x, 0.1, -2.0), (X,)),
    "softmax": (lambda x: x.softmax(1) + F.softmax(x, -1), (X,)),
    "log softmax": (lambda x: F.log_softmax(x, 1), (X,)),
    # no-ops and casts
    "no-ops": (lambda x: F.dropout(x.contiguous().detach().clone(), 0.5, False), (X,)),
    "casts": (lambda x: x.to(torch.int64).to(torch.float32) + x.bool() + x.int().float(), (X * 3,)),
    "constants": (
        lambda x: x + torch.arange(5) + torch.zeros(5) + torch.ones_like(x) + torch.full((5,), 2.0) + torch.eye(6, 5),
        (X,),
    ),
    # shapes
    "view": (lambda x: x.view(2, -1).reshape(3, 60).unflatten(1, (4, 15)).flatten(1), (X,)),
    "squeeze": (lambda x: x.unsqueeze(1).unsqueeze(-1).squeeze(1), (X,)),
    "permute": (
        lambda x: x.permute(0, 2, 3, 1).transpose(1, -1) + x.permute(0, 1, 3, 2).mT.swapaxes(2, 3).mT,
        (rand(2, 5, 5, 5),),
    ),
    "t": (lambda x: x.t() + x.T, (rand(4, 5),)),
    "expand": (lambda x: x.expand(2, 3, 4) + x.expand(-1, -1, 4), (rand(2, 3, 1),)),
    "repeat": (lambda x: x.repeat(2, 1, 3), (rand(2, 3),)),
    "tile": (lambda x: x.tile(1, 2), (rand(2, 3),)),
    "cat stack": (lambda x, y: torch.cat([x, y], 1) + torch.stack([x, y], 1).flatten(1, 2), (X, X * 2)),
    "chunk": (lambda x: [c * i for i, c in enumerate(x.chunk(2, 2))], (X,)),
    "split": (lambda x: x.split(4, 2)[1] + x.split([4, 2], 2)[1], (X,)),
    "unbind": (lambda x: x.unbind(1)[2] + x.unbind(1)[0], (X,)),
    "slice": (lambda x: x[:, 1:, ::2, -3:] + x[:, :2, 1::2, :3], (X,)),
    "select": (lambda x: x[:, 1] + x[:, -1] + x.select(1, 0), (X,)),
    "narrow": (lambda x: x.narrow(2, 1, 3), (X,)),
    "slice assignment": (lambda x, y: assigned(x, y), (X, rand(2, 3, 2, 5))),
    "constant pad": (lambda x: F.pad(x, (1, 2, 0, 1), value=0.5) + F.pad(x, (1, 2, 2, -1)), (X,)),
    "roll": (lambda x: x.roll((1, -2), (2, 3)) + x.roll(3), (X,)),
    "flip": (lambda x: x.flip((1, 3)), (X,)),
    "pixel shuffle": (
        lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) * F.pixel_shuffle(x, 2).mean(),
        (rand(1, 8, 3, 2),),
    ),
    "channel shuffle": (lambda x: F.channel_shuffle(x, 3), (rand(1, 6, 2, 2),)),
    "meshgrid": (lambda x: torch.meshgrid(x, x * 2, indexing="ij")[1], (rand(4),)),
    # indexing
    "index": (lambda x, i: x[:, i] + x[:, [2, 0]], (X, torch.tensor([1, 2]))),
    "index of two axes": (lambda x: x[:, :, torch.tensor([[0], [2]]), torch.tensor([1, 3])], (X,)),
    "index select": (lambda x, i: x.index_select(2, i), (X, torch.tensor([5, 0, 0]))),
    "gather": (lambda x, i: x.gather(1, i), (rand(2, 5, 4), I)),
    "scatter": (lambda x, i, y: x.scatter(1, i[:, :1], y), (rand(2, 5, 4), I, rand(2, 1, 4))),
    "scatter of a number": (lambda x, i: x.scatter(1, i[:, :1], 3.0), (rand(2, 5, 4), I)),
    "index copy": (lambda x, y: x.index_copy(1, torch.tensor([2, 0]), y), (rand(2, 5), rand(2, 2))),
    "index put": (lambda x, y: x.index_put((torch.tensor([2, 0]),), y), (rand(5, 2), rand(2, 2))),
    "embedding": (lambda w, i: F.embedding(i, w), (rand(5, 3), I)),
    # reductions
    "mean": (lambda x: x.mean((2, 3)) + x.mean((2, 3), keepdim=True).flatten(1) + x.mean(), (X,)),
    "sum": (lambda x: x.sum(-1) + x.sum() + x.sum((1, 2), keepdim=True)[..., 0], (X,)),
    "sum of ints and booleans": (lambda i, b: i.sum(1) + b.sum(), (I, B)),
    "extremes": (lambda x: x.amax((2, 3)) + x.amin((2, 3)) + x.max() + x.min(), (X,)),
    "max of an axis": (lambda x: (*x.max(1), *x.min(2, keepdim=True)), (X,)),
    "argmax": (lambda x: (x.argmax(1), x.argmin(-1), x.argmax()), (X,)),
    "variance": (lambda x: x.var(1) + x.var(1, correction=0) + x.std(1), (X,)),
    "norm": (lambda x: x.norm(dim=1) + torch.linalg.vector_norm(x, 1, dim=1) + F.normalize(x, dim=1)[:, 0], (X,)),
    # products
    "matmul": (lambda x, y: x @ y, (rand(2, 3, 4), rand(2, 4, 5))),
    "matmul of vectors": (lambda x, y, m: x @ m + m.t() @ x + (x @ y), (rand(4), rand(4), rand(4, 4))),
    "matmul broadcast": (lambda x, y: x @ y, (rand(2, 3, 3, 4), rand(4, 5))),
    "bmm mm": (lambda x, y: torch.bmm(x, y).sum(0) + torch.mm(x[0], y[0]), (rand(2, 3, 4), rand(2, 4, 5))),
    "addmm": (lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2), (rand(5), rand(3, 4), rand(4, 5))),
    "baddbmm": (torch.baddbmm, (rand(2, 3, 5), rand(2, 3, 4), rand(2, 4, 5))),
    "einsum": (lambda x, y: torch.einsum("bij,bkj->bik", x, y), (rand(2, 3, 4), rand(2, 5, 4))),
    "outer": (torch.outer, (rand(3), rand(4))),
    "attention": (F.scaled_dot_product_attention, (rand(2, 2, 4, 8), rand(2, 2, 5, 8), rand(2, 2, 5, 8))),
    "causal attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (rand(2, 2, 4, 8), rand(2, 2, 4, 8), rand(2, 2, 4, 8)),
    ),
    "masked attention": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m > -1, scale=0.2)
        + F.scaled_dot_product_attention(q, k, v, m),
        (rand(2, 4, 8), rand(2, 5, 8), rand(2, 5, 8), rand(4, 5)),
    ),
    "grouped-query attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (rand(1, 4, 3, 8), rand(1, 2, 5, 8), rand(1, 2, 5, 8)),
    ),
    # pooling and resizing
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1) + F.max_pool2d(x, (2, 3), (2, 2), (0, 1)), (X,)),
    "max pool, ceil mode": (lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), (X,)),
    "max pool 1-D": (lambda x: F.max_pool1d(x, 3, 2, 1), (rand(2, 3, 9),)),
    "average pool": (
        lambda x: F.avg_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        (X,),
    ),
    "average pool, ceil mode": (lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True), (X,)),
    "average pool 1-D": (lambda x: F.avg_pool1d(x, 3, 2, 1), (rand(2, 3, 9),)),
    "adaptive average pool": (lambda x: F.adaptive_avg_pool2d(x, 1) + F.adaptive_avg_pool2d(x, (3, 1)), (X,)),
    "adaptive average pool 1-D": (lambda x: F.adaptive_avg_pool1d(x, 3), (rand(2, 3, 9),)),
    "adaptive max pool": (lambda x: F.adaptive_max_pool2d(x, (1, 1)), (X,)),
    "nearest resize": (lambda x: F.interpolate(x, scale_factor=2.0), (X,)),
    "nearest resize to a size": (lambda x: F.interpolate(x, size=(9, 4)), (X,)),
    "bilinear resize": (
        lambda x: F.interpolate(x, size=(9, 11), mode="bilinear")
        + F.interpolate(x, size=(9, 11), mode="bilinear", align_corners=True),
        (X,),
    ),
}  # fmt: skip


def assigned(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    out = x.clone()
    out[:, :, 2:4] = y
    out[:, 1] = 0.5
    return out


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...]]] = {
    "conv": (lambda: nn.Conv2d(3, 4, 3, 2, 1), (X,)),
    "conv without a batch": (lambda: nn.Conv2d(3, 4, 3), (X[0],)),
    "conv, groups and dilation": (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (rand(1, 4, 7, 7),)),
    "conv, same padding of an even kernel": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), (X,)),
    "conv, valid padding": (lambda: nn.Conv2d(3, 4, 3, padding="valid", bias=False), (X,)),
    "depthwise conv": (lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3), (X,)),
    "conv 1-D": (lambda: nn.Conv1d(3, 4, 3, 2, 1, dilation=2), (rand(2, 3, 11),)),
    "conv 1-D, same padding": (lambda: nn.Conv1d(3, 6, 4, padding="same", groups=3), (rand(2, 3, 11),)),
    "transposed conv": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (rand(1, 4, 5, 4),)),
    "transposed conv 1-D": (lambda: nn.ConvTranspose1d(4, 3, 4, 2, 1), (rand(1, 4, 5),)),
    "linear": (lambda: nn.Linear(5, 7), (X,)),
    "linear without bias": (lambda: nn.Linear(5, 7, bias=False), (rand(2, 5),)),
    "linear of a vector": (lambda: nn.Linear(5, 7), (rand(5),)),
    "batch norm 1-D": (lambda: nn.BatchNorm1d(3), (rand(4, 3),)),
    "batch norm": (lambda: trained(nn.BatchNorm2d(3)), (X,)),
    "batch norm, not affine": (lambda: trained(nn.BatchNorm2d(3, affine=False)), (X,)),
    "layer norm": (lambda: trained(nn.LayerNorm((6, 5))), (X,)),
    "layer norm, not affine": (lambda: nn.LayerNorm(5, elementwise_affine=False), (X,)),
    "layer norm without bias": (lambda: trained(nn.LayerNorm(5, bias=False)), (X,)),
    "RMS norm": (lambda: trained(nn.RMSNorm(5, eps=1e-5)), (X,)),
    "group norm": (lambda: trained(nn.GroupNorm(2, 4)), (rand(2, 4, 3, 5),)),
    "instance norm": (lambda: trained(nn.InstanceNorm2d(3, affine=True)), (X,)),
    "PReLU": (lambda: nn.PReLU(3), (X,)),
    "PReLU, one slope": (lambda: nn.PReLU(), (X,)),
    "embedding": (lambda: nn.Embedding(6, 4), (I,)),
    "multi-head attention": (lambda: SelfAttention(), (rand(2, 5, 8),)),
    "transformer layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (rand(2, 5, 8),)),
    "GRU cell": (lambda: nn.GRUCell(4, 6), (rand(2, 4), rand(2, 6))),
    "LSTM": (lambda: nn.LSTM(4, 5, batch_first=True), (rand(1, 3, 4),)),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), (X,)),
}  # fmt: skip


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.attention(x, x, x, need_weights=False)[0]


def trained(norm: nn.Module) -> nn.Module:
    """Parameters and statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return norm


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_computes_what_pytorch_computes(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    check(Wrap(function), *inputs)


@pytest.mark.parametrize("name", MODULES)
def test_module_computes_what_pytorch_computes(name: str) -> None:
    torch.manual_seed(0)
    make, inputs = MODULES[name]
    check(make(), *inputs)
