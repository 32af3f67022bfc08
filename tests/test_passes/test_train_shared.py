"""A parameter that several places of a network read stays one parameter: a step is that of PyTorch."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from edgec import interp, pipeline
from edgec.errors import UserError
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, Program
from edgec.passes.straight_through import integers
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from edgec.verify import verify

RATE = 0.1
LABEL = np.array([2], np.int32)


class Linears(nn.Module):
    """A linear layer and a norm that run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.norm, self.head = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.inputs = (torch.randn(1, 8),)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.norm(self.shared(x)))
        return self.head(self.norm(self.shared(y)))  # type: ignore[no-any-return]


class Convolutions(nn.Module):
    """A convolution that runs on maps of two sizes: on the small one its weight is the largest operand."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.inputs = (torch.randn(1, 4, 8, 8),)

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.avg_pool2d(torch.relu(self.shared(x)), 4)
        return self.head(torch.relu(self.shared(y)).mean((2, 3)))  # type: ignore[no-any-return]


class Equal(nn.Module):
    """Two norms whose gains are 1, and no more than that in common."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LayerNorm(6), nn.LayerNorm(6)
        self.first, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.inputs = (torch.randn(1, 5),)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(torch.tanh(self.a(self.first(x)))))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A cell that runs three times; the first time on a state of zeros, so on constants alone."""

    def __init__(self, cell: type[nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = cell(5, 6), nn.Linear(6, 3)
        self.inputs = (torch.randn(3, 1, 5),)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][-1])  # type: ignore[no-any-return]


class Gru(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.GRU)


class Lstm(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.LSTM)


def imported(module: nn.Module, precision: pipeline.Precision = "fp32") -> Program:
    inputs = module.inputs
    assert isinstance(inputs, tuple)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(module, LoadOptions(example_inputs=inputs))
    options = Options(precision=precision, train=TrainSpec("head"))
    arrays = {p.label: x.numpy() for p, x in zip(program.graphs[0].input_ports, inputs, strict=True)}
    steps = tuple(s for s in pipeline.graph_steps(options, arrays) if s.name not in ("train", "schedule"))
    return pipeline.run(program, steps, options, arrays).program


def moved(program: Program, x: Array) -> Array:
    """What a training step adds to the outputs."""
    infer, step = program.graph("infer"), program.graph("train_step")
    given = {infer.inputs[0].name: x}
    _, state = interp.run(program, step, {**given, step.inputs[1].name: LABEL})
    after, before = (interp.run(program, infer, given, s)[0][infer.outputs[0]] for s in (state, None))
    return np.asarray(after - before, np.float64)


def moved_by_torch(module: nn.Module, columns: int | None) -> Array:
    """The same; of the shared weight the first `columns` input channels train, or all parameters."""
    own = copy.deepcopy(module).double().requires_grad_()
    assert isinstance(own.inputs, tuple)
    x = own.inputs[0].double()
    before = own(x).detach()
    nnf.cross_entropy(own(x), torch.from_numpy(LABEL).long()).backward()
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            assert parameter.grad is not None
            step = RATE * parameter.grad
            if columns is not None and name == "shared.weight":
                step[:, columns:] = 0.0
            if columns is None or not name.startswith("norm"):
                parameter -= step
        return np.asarray((own(x) - before).numpy())


def layout(x: Tensor) -> Array:
    return np.asarray(x.permute(0, 2, 3, 1) if x.ndim == 4 else x)


@pytest.mark.parametrize("make", [Linears, Convolutions, Equal, Gru, Lstm])
def test_a_step_of_all_parameters_is_torchs(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    program = train(imported(module), TrainSpec("full", rate=RATE))
    verify(program)
    assert isinstance(module.inputs, tuple)
    wanted = moved_by_torch(module, None)
    found = moved(program, layout(module.inputs[0]))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("make", "channels"), [(Linears, 8), (Convolutions, 4)])
def test_a_step_of_a_slice_is_torchs(make: type[nn.Module], channels: int) -> None:
    torch.manual_seed(0)
    module = make()
    scheme = Scheme(2, (WeightSlice("shared", None, 0.5),), "first")
    program = train(imported(module), TrainSpec("sparse", rate=RATE, scheme=scheme))
    verify(program)
    assert len(program.state) == 6  # slice, bias, head's two, rate, counter
    assert isinstance(module.inputs, tuple)
    wanted = moved_by_torch(module, channels // 2)
    found = moved(program, layout(module.inputs[0]))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_two_ratios_for_one_weight_are_refused() -> None:
    torch.manual_seed(0)
    program = imported(Convolutions())
    first, second = (n.loc for n in program.graphs[0].nodes if n.op == "conv2d")
    scheme = Scheme(0, (WeightSlice(None, 0, 0.5), WeightSlice(None, 1, 0.25)))
    with pytest.raises(UserError) as caught:
        train(program, TrainSpec("sparse", scheme=scheme))
    assert str(caught.value) == (
        "EDGEC-E249: name one ratio in the scheme for a weight that several layers share: that of "
        f"{first} is the weight of {second}"
    )


class Tied(nn.Module):
    """A linear layer that shares its weight with the embedding before it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 6), nn.Linear(6, 3)
        self.inputs = (torch.tensor([[1, 2, 3]]),)

    def forward(self, tokens: Tensor) -> Tensor:
        y = torch.relu(nnf.linear(self.table(tokens), self.table.weight))
        return self.head(y.mean(1))  # type: ignore[no-any-return]


def test_a_slice_of_a_weight_that_an_embedding_shares_is_refused() -> None:
    torch.manual_seed(0)
    program = imported(Tied())
    layer = next(n for n in program.graphs[0].nodes if n.op == "linear")
    table = next(n for n in program.graphs[0].nodes if n.op == "embedding")
    scheme = Scheme(0, (WeightSlice(layer.loc.layer, None, 0.5),))
    with pytest.raises(UserError) as caught:
        train(program, TrainSpec("sparse", scheme=scheme))
    assert str(caught.value) == (
        f"EDGEC-E249: give the ratio 1 in the scheme for {layer.loc}: it shares its weight with the embedding at "
        f"{table.loc}, which has no slices"
    )


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (TrainSpec("bias"), "shared.bias"),
        (TrainSpec("sparse", scheme=Scheme(0, (WeightSlice("shared", None, 0.5),))), "shared.weight_1"),
    ],
    ids=lambda v: getattr(v, "title", ""),
)
def test_an_int8_parameter_of_several_places_is_refused(spec: TrainSpec, name: str) -> None:
    torch.manual_seed(0)
    program = imported(Convolutions(), "int8")
    with pytest.raises(UserError) as caught:
        train(program, spec, integers())
    assert str(caught.value) == (
        "EDGEC-E404: train other layers, or compile with --precision fp32: several layers share the int8 parameter "
        f"{name}, whose steps would have to be one"
    )
