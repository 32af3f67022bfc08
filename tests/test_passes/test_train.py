"""Training steps in the interpreter against PyTorch: optimisers, slices, accumulation, and what each mode trains."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_programs import decoder
from small_programs import digits as int8_digits

from edgec import interp, pipeline
from edgec.build import Builder
from edgec.errors import UserError
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, DType, Program, Type
from edgec.ops.linear import LinearAttrs
from edgec.ops.reduce import ArgmaxAttrs
from edgec.passes.train import train
from edgec.text import read_program, show
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from edgec.verify import verify
from tests.training_networks import Network, close, counterpart, network

LABELS = np.array([1, 2], np.int32)
FIRST_CONV, SECOND_CONV, THIRD_CONV, HEAD = "stem.0", "wide.0", "deep.0", "head"


def trained(spec: TrainSpec, name: str = "digits") -> Program:
    program = train(network(name).program, spec)
    verify(program)
    return program


def inputs(program: Program, x: Array, label: Array = LABELS) -> dict[str, Array]:
    first, second = program.graph("train_step").inputs
    return {first.name: x, second.name: label}


def steps(
    program: Program, count: int, batches: list[Array], apply_every: int = 0
) -> tuple[list[float], dict[str, Array]]:
    """(losses, states) after `count` steps over the batches in turn."""
    state: dict[str, Array] | None = None
    losses = []
    graph = program.graph("train_step")
    for i in range(count):
        outputs, state = interp.run(program, graph, inputs(program, batches[i % len(batches)]), state)
        losses.append(float(outputs[graph.outputs[0]][0]))
        if apply_every and (i + 1) % apply_every == 0:
            _, state = interp.run(program, program.graph("apply"), {}, state)
    assert state is not None
    return losses, state


def batches(own: Network, count: int = 3) -> list[Array]:
    rng = np.random.default_rng(0)
    (value,) = own.program.graphs[0].inputs
    return [rng.normal(size=value.type.dims).astype(np.float32) for _ in range(count)]


def torch_steps(
    own: Network, make: Any, count: int, given: list[Array]
) -> tuple[list[float], dict[str, Array]]:
    """(losses, parameters by name) of a copy of the module after steps of torch's optimiser in float64."""
    import copy

    module = copy.deepcopy(own.module).double()
    optimizer = make(list(module.parameters()))
    (port,) = own.program.graphs[0].input_ports
    losses = []
    for i in range(count):
        x = torch.from_numpy(given[i % len(given)].transpose(np.argsort(port.axes)).astype(np.float64))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), torch.from_numpy(LABELS).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {n: p.detach().numpy() for n, p in module.named_parameters()}


def place(own: Network, state: str, program: Program) -> tuple[str, tuple[int, ...]]:
    """(parameter, axes) that a state holds at the start."""
    found = counterpart(program.state[state].initial.data, dict(own.module.named_parameters()))
    assert found is not None, state
    return found


OPTIMIZERS: dict[str, tuple[TrainSpec, Any]] = {
    "sgd": (TrainSpec("full", rate=0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "sgd, decayed": (
        TrainSpec("full", rate=0.05, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    ),
    "momentum": (
        TrainSpec("full", rate=0.02, optimizer="momentum", weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.02, 0.9, weight_decay=0.01),
    ),
    "adam": (
        TrainSpec("full", rate=0.01, optimizer="adam", weight_decay=0.01),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_of_an_optimiser_are_those_of_torch(name: str) -> None:
    own, (spec, make) = network("digits"), OPTIMIZERS[name]
    program = trained(spec)
    found, state = steps(program, 10, batches(own))
    wanted, parameters = torch_steps(own, make, 10, batches(own))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    compared = [s for s in program.state if s.endswith(".trained")]
    assert len(compared) == len(parameters)
    for s in compared:
        parameter, axes = place(own, s, program)
        # Ten steps of rounding in float32; adam divides by roots of small squares.
        assert close(state[s], parameters[parameter].transpose(axes), 1e-3 if name == "adam" else 1e-5), s
    assert state["step"].tolist() == [10]


def names(program: Program) -> set[str]:
    """Layers whose operands are states, with the operand's position."""
    graph = program.graph("infer")
    return {
        f"{n.loc.layer}[{i}]"
        for n in graph.nodes
        for i, r in enumerate(n.inputs)
        if r[0] == "$" or r.endswith(".whole")
        if n.op != "index_copy"
    }


def both(*layers: str) -> set[str]:
    return {f"{layer}[{i}]" for layer in layers for i in (1, 2)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (TrainSpec("head"), both(HEAD)),
        (TrainSpec("bias"), both(HEAD) | {f"{c}[2]" for c in (FIRST_CONV, SECOND_CONV, THIRD_CONV)}),
        (TrainSpec("last", 2), both(THIRD_CONV, HEAD)),
        (TrainSpec("full"), both(FIRST_CONV, SECOND_CONV, THIRD_CONV, HEAD)),
        (
            TrainSpec("sparse", scheme=Scheme(1, (WeightSlice(SECOND_CONV, None, 0.25),))),
            both(SECOND_CONV, HEAD) | {f"{THIRD_CONV}[2]"},
        ),
        (TrainSpec("sparse", scheme=Scheme(0, (WeightSlice(None, 2, 1.0),))), both(THIRD_CONV, HEAD)),
        (TrainSpec("sparse", scheme=Scheme(0, (WeightSlice(SECOND_CONV, None, 0.0),))), both(HEAD)),
    ],
    ids=lambda v: v.title if isinstance(v, TrainSpec) else "",
)
def test_a_mode_trains_these_operands(spec: TrainSpec, expected: set[str]) -> None:
    assert names(trained(spec)) == expected


def test_none_changes_nothing() -> None:
    program = network("digits").program
    assert train(program, TrainSpec()) is program


@pytest.mark.parametrize("name", ["digits", "mobilenet", "vit", "llama"])
@pytest.mark.parametrize("spec", [TrainSpec("full"), TrainSpec("lora", 2)], ids=["full", "lora"])
def test_the_network_infers_as_before(name: str, spec: TrainSpec) -> None:
    own = network(name)
    graph, program = own.program.graphs[0], trained(spec, name)
    before = interp.run(own.program, graph, own.arrays())[0][graph.outputs[0]]
    after = interp.run(program, program.graph("infer"), own.arrays())[0][graph.outputs[0]]
    np.testing.assert_array_equal(before, after)


SLICES = Scheme(2, (WeightSlice(SECOND_CONV, None, 0.25), WeightSlice(THIRD_CONV, None, 0.5)))


@pytest.mark.parametrize("criterion", ["magnitude+", "first", "random"])
def test_a_sparse_scheme_trains_its_slices_and_nothing_else(criterion: Any) -> None:
    own = network("digits")
    scheme = Scheme(SLICES.biases, SLICES.weights, criterion)
    program = trained(TrainSpec("sparse", scheme=scheme, rate=0.05))
    weights = dict(own.module.named_parameters())
    slices = {}
    for state in (s for s in program.state if s.endswith(".slice")):
        stem = state.removesuffix(".slice")
        (parameter, _), at = place_of(own, program, stem), program.constants[f"{stem}.trained"].data
        slices[parameter] = at
        size = weights[parameter].detach().numpy().transpose(0, 2, 3, 1)
        lengths = np.square(size).sum((0, 1, 2))
        if criterion == "first":
            assert at.tolist() == list(range(len(at)))
        if criterion == "magnitude+":
            assert set(at) == set(np.argsort(-lengths)[: len(at)])
        assert program.state[state].type.dims == (*size.shape[:3], len(at))
    assert {p: len(at) for p, at in slices.items()} == {"wide.0.weight": 4, "deep.0.weight": 12}

    class Masked(torch.optim.SGD):
        """SGD that leaves everything but the slices, two biases and the head."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for (name, _), p in zip(weights.items(), self.param_groups[0]["params"], strict=True):
                mask = torch.zeros_like(p)
                if name in slices:
                    mask[:, slices[name].tolist()] = 1
                elif name.startswith("head") or name in ("wide.0.bias", "deep.0.bias"):
                    mask[...] = 1
                p.grad *= mask
            super().step()

    _, state = steps(program, 5, batches(own))
    _, parameters = torch_steps(own, lambda p: Masked(p, 0.05), 5, batches(own))
    for name, at in slices.items():
        s = next(
            s for s in program.state if s.endswith(".slice") and place_of(own, program, s[:-6])[0] == name
        )
        assert close(state[s], parameters[name].transpose(0, 2, 3, 1)[..., at], 1e-5)
    head = next(s for s in program.state if "head" in s and program.state[s].type.dims == (10, 32))
    assert close(state[head], parameters["head.weight"], 1e-5)


def test_a_heavy_layer_reads_its_frozen_weight_where_it_lies() -> None:
    program = trained(TrainSpec("sparse", scheme=SLICES))
    counts = Counter((n.op, n.loc.layer) for n in program.graph("infer").nodes)
    assert counts["conv2d", "deep.0"] == 2  # its weight is larger than its input and output
    assert counts["conv2d", "wide.0"] == 1
    copied = [
        n.inputs[0]
        for n in program.graph("train_step").nodes
        if n.op == "index_copy" and n.inputs[0][0] == "@"
    ]
    assert len(copied) == 1  # the forward part alone assembles a weight


def place_of(own: Network, program: Program, constant: str) -> tuple[str, tuple[int, ...]]:
    found = counterpart(program.constants[constant].data, dict(own.module.named_parameters()))
    assert found is not None
    return found


def test_a_slice_of_a_depthwise_convolution_trains() -> None:
    own = network("mobilenet")
    layers = [n for n in own.program.graphs[0].nodes if n.op == "conv2d"]
    deep = next(i for i, n in enumerate(layers) if getattr(n.attrs, "groups", 1) > 1 and i > 20)
    spec = TrainSpec("sparse", scheme=Scheme(0, (WeightSlice(None, deep, 0.5),)), rate=0.1)
    full, sparse = trained(TrainSpec("full", rate=0.1), "mobilenet"), trained(spec, "mobilenet")
    name = next(s for s in sparse.state if s.endswith(".slice"))
    stem = name.removesuffix(".slice")
    at = sparse.constants[f"{stem}.trained"].data
    _, after_full = steps(full, 1, batches(own))
    _, after_sparse = steps(sparse, 1, batches(own))
    assert close(after_sparse[name], after_full[f"{stem}.trained"][at], 1e-5)
    assert not np.array_equal(after_sparse[name], sparse.state[name].initial.data)


def test_accumulated_gradients_are_those_of_a_bigger_batch() -> None:
    own = network("digits")
    given = batches(own, 4)
    _, state = steps(trained(TrainSpec("full", rate=0.1, accumulate=4)), 4, given, apply_every=4)
    program = trained(TrainSpec("full", rate=0.1))
    gradients: dict[str, Array] = {}
    for x in given:
        _, after = steps(program, 1, [x])
        for s in (s for s in program.state if s.endswith(".trained")):
            gradients[s] = gradients.get(s, 0) + (after[s] - program.state[s].initial.data) / 4
    for s, moved in gradients.items():
        assert close(state[s], program.state[s].initial.data + moved, 1e-6), s
        assert not state[s.replace(".trained", ".trained.sum")].any()
    assert (state["step"].tolist(), state["pending"].tolist()) == ([1], [0])


def test_adapters_learn_and_the_weights_stay() -> None:
    own = network("llama")
    program = trained(TrainSpec("lora", 2, rate=0.5), "llama")
    losses, state = steps(program, 20, batches(own, 1))
    assert losses[-1] < 0.5 * losses[0]
    linears = sum(n.op == "linear" for n in own.program.graphs[0].nodes)
    assert sum(s.endswith(".up") for s in state) == linears
    assert not any(s.endswith(".trained") for s in state)


def ops(program: Program) -> Counter[str]:
    return Counter(n.op for n in program.graph("train_step").nodes)


def test_no_node_of_a_gradient_that_nobody_asked_for_is_left() -> None:
    found = ops(trained(TrainSpec("head")))
    assert found["conv2d_input_grad"] == found["conv2d_weight_update"] == found["max_pool2d_grad"] == 0
    assert found["linear_weight_update"] == 1
    found = ops(trained(TrainSpec("last", 2)))
    assert (found["conv2d_weight_update"], found["conv2d_input_grad"], found["max_pool2d_grad"]) == (1, 0, 0)
    found = ops(trained(TrainSpec("bias")))
    assert (found["conv2d_weight_update"], found["conv2d_input_grad"], found["max_pool2d_grad"]) == (0, 2, 1)
    found = ops(trained(TrainSpec("full")))
    assert (found["conv2d_weight_update"], found["conv2d_input_grad"], found["max_pool2d_grad"]) == (3, 2, 1)
    assert found["conv2d_weight_grad"] == found["linear_weight_grad"] == 0  # fused with the update


def test_an_update_stands_behind_the_last_reader_of_the_old_weight() -> None:
    nodes = trained(TrainSpec("full")).graph("train_step").nodes
    for i, node in enumerate(nodes):
        if node.op == "conv2d_weight_update":
            readers = [j for j, n in enumerate(nodes) if node.inputs[0] in n.inputs and j != i]
            assert max(readers) < i
            assert i < len(nodes) - 1 or len(readers) == 1  # only the first layer's update may come last


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    program = trained(TrainSpec("full", optimizer="momentum"))
    x = batches(network("digits"), 1)[0]
    x[0, 0, 0, 0] = np.nan
    _, state = steps(program, 1, [x])
    for name, s in program.state.items():  # the step does not count either
        np.testing.assert_array_equal(state[name], s.initial.data)


def test_evaluation_gives_loss_and_right_answers_and_updates_nothing() -> None:
    program = trained(TrainSpec("full"))
    graph = program.graph("evaluate")
    x = batches(network("digits"), 1)[0]
    feeds = dict(zip((v.name for v in graph.inputs), (x, LABELS), strict=True))
    outputs, _ = interp.run(program, graph, feeds)
    wanted, _ = steps(program, 1, [x])
    assert float(outputs[graph.outputs[0]][0]) == pytest.approx(wanted[0], rel=1e-6)
    logits = interp.run(program, program.graph("infer"), {graph.inputs[0].name: x})[0]
    right = (next(iter(logits.values())).argmax(1) == LABELS).sum()
    assert outputs[graph.outputs[1]].tolist() == [right]
    assert graph.updates == ()


@pytest.mark.parametrize("loss", ["mse", "bce", "kl"])
def test_other_losses_take_a_target_of_the_output_and_fall(loss: Any) -> None:
    own = network("digits")
    program = trained(TrainSpec("full", loss=loss, rate=0.2))
    graph = program.graph("train_step")
    target = np.random.default_rng(1).uniform(size=graph.inputs[1].type.dims).astype(np.float32)
    state, losses = None, []
    for _ in range(15):
        outputs, state = interp.run(program, graph, inputs(program, batches(own, 1)[0], target), state)
        losses.append(float(outputs[graph.outputs[0]][0]))
    assert losses[-1] < 0.9 * losses[0]
    assert [p.label for p in graph.output_ports] == ["loss"]


ENDS = {
    "softmax": (lambda y: torch.softmax(y, -1), "cross-entropy"),
    "log softmax": (lambda y: torch.log_softmax(y, -1), "cross-entropy"),
    "sigmoid": (torch.sigmoid, "bce"),
}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("end", ENDS)
def test_a_loss_reads_the_logits_before_what_ends_the_network(end: str, precision: Any) -> None:
    """In int8, too, the float ones of the head, not what was rounded for the softmax."""
    last, loss = ENDS[end]

    class Ends(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = torch.nn.Conv2d(2, 4, 3), torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> Any:
            return last(self.head(torch.relu(self.body(x)).mean((2, 3))))

    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    spec = TrainSpec("full", loss=loss)
    options = pipeline.Options(precision=precision, train=spec)
    arrays = {"x": x.numpy()}
    steps = pipeline.graph_steps(options, arrays)
    program = pipeline.run(load(Ends(), LoadOptions(example_inputs=(x,))), steps, options, arrays).program
    for name in ("train_step", "evaluate"):
        graph = program.graph(name)
        made = {v.name: n for n in graph.nodes for v in n.outputs}
        read = made[made[graph.outputs[0]].inputs[0]]
        assert (read.op, read.loc.layer) == ("linear", "head")
    assert end.split()[-1] in program.graph("infer").nodes[-1].op


def refused(spec: TrainSpec, name: str = "digits") -> str:
    with pytest.raises(UserError) as error:
        trained(spec, name)
    return str(error.value)


def slices(*parts: WeightSlice) -> TrainSpec:
    return TrainSpec("sparse", scheme=Scheme(0, parts))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            [WeightSlice("wide.1", None, 1.0)],
            "in the scheme, name a layer of the model, such as wide.0, deep.0, stem.0: 'wide.1' has no weights or does "
            "not exist",
        ),
        (
            [WeightSlice("zzzz", None, 1.0), WeightSlice("hea", None, 1.0)],
            "in the scheme, name a layer of the model, such as head: 'zzzz', 'hea' have no weights or do not "
            "exist",
        ),
        (
            [WeightSlice(None, 3, 1.0)],
            "in the scheme, give a conv from 0 to 2: the model has 3 convolutions, there is no conv 3",
        ),
        (
            [WeightSlice(None, 9, 1.0), WeightSlice("steam", None, 1.0), WeightSlice(None, 8, 1.0)],
            "in the scheme, give a conv from 0 to 2 and name a layer of the model, such as stem.0, head: the model has "
            "3 convolutions, there is no conv 9, conv 8; 'steam' has no weights or does not exist",
        ),
    ],
)
def test_a_scheme_with_unknown_layers_is_refused_with_near_names(parts: list[WeightSlice], text: str) -> None:
    assert refused(slices(*parts)) == f"EDGEC-E249: {text}"


def test_a_scheme_that_names_a_layer_twice_is_refused() -> None:
    (layer,) = (n for n in network("digits").program.graphs[0].nodes if n.loc.layer == SECOND_CONV)
    assert refused(slices(WeightSlice(SECOND_CONV, None, 0.5), WeightSlice(None, 1, 0.25))) == (
        f"EDGEC-E249: name each layer once in the scheme: conv 1 is there already ({layer.loc})"
    )


def test_a_scheme_with_a_slice_of_the_head_is_refused() -> None:
    (layer,) = (n for n in network("digits").program.graphs[0].nodes if n.loc.layer == HEAD)
    assert refused(slices(WeightSlice(HEAD, None, 0.5))) == (
        f"EDGEC-E249: leave 'head' out of the scheme: it is the head, which trains whole ({layer.loc})"
    )


def test_an_input_with_the_name_of_the_label_is_refused() -> None:
    program = network("digits").program
    graph = program.graphs[0]
    named = replace(graph, input_ports=(replace(graph.input_ports[0], label="label"),))
    with pytest.raises(UserError) as error:
        train(replace(program, graphs=(named,)), TrainSpec("head"))
    assert str(error.value) == (
        "EDGEC-E248: rename the model's input 'label': what a training step is to answer has this name"
    )


def test_adapters_without_a_linear_layer_are_refused() -> None:
    from tests.plan_cases import Block, mobile_net

    program = mobile_net(16, (Block(2, 2, 8),), channels=4)
    with pytest.raises(UserError) as error:
        train(program, TrainSpec("lora", 4))
    assert str(error.value) == (
        "EDGEC-E248: choose another --train than lora: the model has no float linear layer to adapt"
    )


def small(dtype: DType = DType.F32, op: str = "linear") -> Program:
    b = Builder("infer")
    x = b.input("x", Type((1, 4), dtype))
    if op == "linear":
        x = b.call("linear", x, b.constant(np.ones((3, 4), np.float32), "w"), attrs=LinearAttrs())
    b.output(b.call("argmax", x, attrs=ArgmaxAttrs(1)) if op == "linear" else b.call("relu", x), "y")
    return b.program()


def message(program: Program, spec: TrainSpec) -> str:
    with pytest.raises(UserError) as error:
        train(program, spec)
    return str(error.value)


def test_a_model_without_layers_does_not_learn() -> None:
    assert message(small(op="relu"), TrainSpec("full")) == (
        "EDGEC-E248: compile without --train: the model has no convolution or linear layer that could learn"
    )


def test_an_output_of_indices_has_no_loss() -> None:
    assert message(small(), TrainSpec("full")) == (
        "EDGEC-E248: compile without --train, or with a model whose first output is float: y is i32[1], no loss is "
        "defined on it"
    )


def test_a_model_with_several_entries_does_not_learn() -> None:
    assert message(decoder(), TrainSpec("head")) == (
        "EDGEC-E248: compile without --train: a model with several entries (prefill, decode) does not learn on the "
        "device"
    )


def test_integers_do_not_learn_by_adam() -> None:
    assert message(int8_digits(), TrainSpec("full", optimizer="adam")) == (
        "EDGEC-E248: give --optimizer sgd or momentum, or --precision fp32, or train a float head alone: int8 layers "
        "do not learn by Adam, which fp32 has"
    )


def test_adapters_stand_beside_large_models_too() -> None:
    program = trained(TrainSpec("lora", 1), "bert")
    assert not any(
        r.startswith("$") for n in program.graph("infer").nodes if n.op == "layer_norm" for r in n.inputs
    )


def test_a_trained_program_reads_back_from_its_text() -> None:
    program = trained(TrainSpec("sparse", scheme=SLICES, optimizer="adam"))
    text = show(program)
    assert show(read_program(text, program.constants)) == text
