"""int8 training of linear layers: against PyTorch, straight through, and C against the interpreter."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import int8_linear_networks as networks
import numpy as np
import pytest
import straight_through_torch as reference
import torch
from artifacts import artifact, interpreted, ran
from straight_graph_torch import Walk
from torch.nn import functional as nnf

from edgec import interp, pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Node, Program
from edgec.ops import train_conv
from edgec.ops.block_float import unpack_mask
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.targets.load import load_target
from edgec.training.learned import learned_of
from edgec.training.options import Head, Loss, Scheme, TrainSpec, WeightSlice

SLICES = Scheme(3, (WeightSlice("a", None, 0.5), WeightSlice("b", None, 0.25), WeightSlice("c", None, 1.0)))
SPECS = pytest.mark.parametrize(
    "spec",
    [TrainSpec("full"), TrainSpec("last", 3), TrainSpec("sparse", scheme=SLICES)],
    ids=lambda s: s.title,
)


@functools.cache
def learner(spec: TrainSpec, gradients: Format) -> Program:
    return train(networks.chain(), spec, integers(gradients, seed=11))


@dataclass
class Run:
    """Nodes that update, with their inputs, of one training step; x, the gradient of the real features and the
    states after it."""

    updates: list[tuple[Node, list[Array]]]
    x: Array
    features: Array
    after: dict[str, Array]
    values: dict[str, Array]


def one_step(program: Program) -> Run:
    graph = program.graph("train_step")
    (given,) = networks.samples(graph, 1, networks.CLASSES)
    values: dict[str, Array] = dict(given)

    def keep(node: Node, results: tuple[Array, ...]) -> None:
        values.update({v.name: r for v, r in zip(node.outputs, results, strict=True)})

    _, after = interp.run(program, graph, given, observe=keep)
    values |= {"@" + n: c.data for n, c in program.constants.items()}
    values |= {"$" + n: s.initial.data for n, s in program.state.items()}
    updates = [
        (n, [values[r] for r in n.inputs])
        for n in graph.nodes
        if n.op in ("train_conv2d_weight", "train_conv2d_bias")
    ]
    first = next(
        n for n in graph.nodes if n.op in ("gradient_quantize", "cast") and values[n.inputs[0]].size > 1
    )
    return Run(updates, values["x"], values[first.inputs[0]], after, values)


def scales_of(program: Program, state: str) -> Array:
    """One float64 of each output."""
    quant = program.state[state[1:]].type.quant
    assert quant is not None
    return np.asarray(quant.scale, np.float32).astype(np.float64)


def layer_of(node: Node) -> str:
    return node.inputs[0][1]


def chosen(program: Program, layer: str) -> Array | slice:
    """Input channels of the layer that train."""
    found = program.constants.get(f"{layer}.w.rows.trained")
    return slice(None) if found is None else found.data.astype(np.int64)


def reference_layers() -> list[reference.Conv]:
    """The chain's layers from its integers, as convolutions of maps of one pixel."""
    constants = networks.chain().constants
    layers, zero = [], 11
    for name, (outputs, biased, zero_out) in networks.CHAIN.items():
        w = constants[f"{name}.w"]
        assert w.type.quant is not None
        params = {
            "weight": w.data[:, :, None, None],
            "bias": constants[f"{name}.b"].data if biased else np.zeros(outputs, np.int32),
            "x_scale": networks.SCALE,
            "x_zero": zero,
            "y_scale": networks.SCALE,
            "y_zero": zero_out,
            "w_scales": np.array(w.type.quant.scale),
        }
        layers.append(reference.Conv(name, params, 1, 0, 1))
        zero = zero_out
    return layers


def linear(layer: reference.Conv, x: torch.Tensor) -> torch.Tensor:
    """The layer by PyTorch's own linear, clamped and rounded straight through."""
    acc = nnf.linear(x - layer.params["x_zero"], layer.weight[:, :, 0, 0], layer.bias)
    flat = acc.reshape(-1, acc.shape[-1], 1, 1)
    made = reference.Round.apply(flat, layer.real, layer.alive, layer.params["y_zero"])
    assert isinstance(made, torch.Tensor)
    return made.reshape(acc.shape)


@SPECS
def test_double_gradients_are_those_of_autograd(spec: TrainSpec) -> None:
    """All trained integers of linear layers, after the factors of quantisation-aware scaling, within 1e-11."""
    program = learner(spec, "fp64")
    run = one_step(program)
    layers = reference_layers()
    x = torch.tensor(run.x.astype(np.float64))
    for layer in layers:
        x = linear(layer, x)
    (x * float(np.float32(networks.SCALE))).backward(torch.tensor(run.features.astype(np.float64)))
    named = {layer.name: layer for layer in layers}
    for node, inputs in run.updates:
        layer = named[layer_of(node)]
        s_w, s_x = layer.scale_w.numpy(), layer.scale("x_scale")
        if isinstance(node.attrs, train_conv.TrainConv2dWeightAttrs):
            assert layer.weight.grad is not None
            w, saved, g, mask, factor = inputs[:5]
            h = np.where(unpack_mask(mask, g.shape), g, 0.0)
            found = train_conv.weight_gradient(node.attrs, saved, h, w.shape)[:, 0, 0] * factor[:, None]
            wanted = (layer.weight.grad.numpy()[:, :, 0, 0] / (s_w**2)[:, None])[
                :, chosen(program, layer.name)
            ]
        else:
            assert layer.bias.grad is not None
            g, mask, factor = inputs[1:4]
            found = train_conv.bias_gradient(np.where(unpack_mask(mask, g.shape), g, 0.0)) * factor
            wanted = layer.bias.grad.numpy() / (s_w * s_x) ** 2
        assert found.shape == wanted.shape
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(
            found, wanted, rtol=0, atol=1e-11 * np.abs(wanted).max(), err_msg=layer.name
        )
    assert {layer_of(n) for n, _ in run.updates} == set(named if spec.mode != "last" else "bc")


@SPECS
def test_integer_steps_are_those_of_the_definition(spec: TrainSpec) -> None:
    """Every trained integer after one step, bit for bit."""
    program = learner(spec, "int8")
    run = one_step(program)
    layers = reference_layers()
    rows = int(np.prod(networks.TOKENS[:2]))
    x = torch.tensor(run.x.astype(np.float64)).reshape(rows, -1, 1, 1)
    for layer in layers:
        x = layer(x)
    network = reference.Network.__new__(reference.Network)
    network.blocks = [reference.Block([layer], None) for layer in layers]
    backward = reference.Integer(network)
    last = torch.zeros(rows, layers[-1].weight.shape[0], 1, 1)
    backward.walk(backward.features(run.features, float(np.float32(networks.SCALE)), last), 0)
    changed = 0
    for node, inputs in run.updates:
        dw, db, factor_w, factor_b, e = backward.steps[layer_of(node)]
        assert isinstance(node.attrs, (train_conv.TrainConv2dWeightAttrs, train_conv.TrainConv2dBiasAttrs))
        weight = node.op == "train_conv2d_weight"
        old = inputs[0].astype(np.int64)
        raw = dw.numpy()[:, chosen(program, layer_of(node))].transpose(0, 2, 3, 1) if weight else db.numpy()
        factor = factor_w.reshape(-1, 1, 1, 1) if weight else factor_b
        rates = np.float32(spec.rate) * factor * np.float32(2.0**e)
        blocks = [
            reference.philox((i, 1, node.attrs.salt, 0), (node.attrs.seed, 0))
            for i in range(-(-old.size // 4))
        ]
        words = [word for block in blocks for word in block][: old.size]
        limits = (-127, 127) if weight else (-(2**31), 2**31 - 1)
        wanted = reference.moved(old, raw, rates, words, *limits)
        np.testing.assert_array_equal(run.after[node.inputs[0][1:]], wanted, err_msg=node.inputs[0])
        changed += int((wanted != old).sum())
    assert changed > 50


@pytest.mark.parametrize("head", ["fp32", "int8"])
@pytest.mark.parametrize("name", networks.MAKERS)
def test_gradients_of_whole_networks_are_those_of_autograd(name: str, head: Head) -> None:
    """Of every convolution and linear layer of the body, through attention, norms and pools, within 2e-6: where a
    gradient passes floats, the graph takes float32 of the integers."""
    spec = TrainSpec("last", 6, head=head)
    plain, program = networks.quantized(name, spec), networks.trained(name, spec, "fp64")
    run = one_step(program)
    features = plain.graphs[0].outputs[0]  # the logits, or what a float head reads
    for node in plain.graphs[0].nodes:
        features = node.outputs[0].name if node.op == "dequantize" else features
    walk = Walk(plain, run.values, features)
    walk.values[features].backward(torch.tensor(run.features.astype(np.float64)))
    seen = set()
    for node, inputs in run.updates:
        weight, bias = walk.parameters[node.loc.layer]
        wanted = weight.grad if node.op == "train_conv2d_weight" else bias.grad
        assert wanted is not None
        if isinstance(node.attrs, train_conv.TrainConv2dWeightAttrs):
            w, saved, g, mask, factor = inputs[:5]
            h = np.where(unpack_mask(mask, g.shape), g, 0.0)
            found = train_conv.weight_gradient(node.attrs, saved, h, w.shape) * factor[:, None, None, None]
            found = found.transpose(0, 3, 1, 2).reshape(wanted.shape)
        else:
            g, mask, factor = inputs[1:4]
            found = train_conv.bias_gradient(np.where(unpack_mask(mask, g.shape), g, 0.0)) * factor
        scales = scales_of(program, node.inputs[0])
        theirs = (wanted.numpy().reshape(len(scales), -1) / scales[:, None] ** 2).reshape(found.shape)
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(
            found, theirs, rtol=0, atol=2e-6 * np.abs(theirs).max(), err_msg=node.inputs[0]
        )
        seen.add(node.loc.layer)
    assert seen == set(walk.parameters)


NETWORKS = pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("mlp", TrainSpec("full", rate=0.05)),
        ("mlp", TrainSpec("sparse", scheme=Scheme(2, (WeightSlice("second", None, 0.5),)), rate=0.05)),
        ("digits", TrainSpec("full", rate=0.05)),
        ("digits", TrainSpec("sparse", scheme=Scheme(1, (WeightSlice("hidden", None, 0.25),)), rate=0.05)),
        ("vit", TrainSpec("last", 6, rate=0.05)),
        ("mlp", TrainSpec("full", rate=0.05, head="int8")),
        ("digits", TrainSpec("last", 2, rate=0.2, head="int8")),
        ("vit", TrainSpec("last", 6, rate=0.05, head="int8")),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{v.title}-{v.head}",
)


@NETWORKS
@pytest.mark.parametrize("gradients", ["int8", "fp32"])
def test_the_loss_falls_and_integers_move(name: str, spec: TrainSpec, gradients: Format) -> None:
    program = networks.trained(name, replace(spec, gradients=gradients))
    graph = program.graph("train_step")
    given = networks.samples(graph, 3, 3)
    state, losses = None, []
    for step in range(90):
        outputs, state = interp.run(program, graph, given[step % 3], state)
        losses.append(float(outputs["loss"][0]))
    assert state is not None
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    weights = {n: s for n, s in program.state.items() if ".rows." in n}
    assert weights
    for n, s in weights.items():
        assert (state[n] != s.initial.data).any(), n


@NETWORKS
def test_rows_and_weights_are_viewed_without_a_copy(name: str, spec: TrainSpec) -> None:
    program = networks.trained(name, spec)
    plan = pipeline.lower(program, load_target("host"), pipeline.Options(), KERNELS, "model")
    calls = [c for e in plan.entries for item in e.items for c in getattr(item, "calls", (item,))]
    assert any(c.op == "trained_conv2d" for c in calls)
    assert not [c for c in calls if c.op == "reshape"]


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
@NETWORKS
def test_c_steps_are_the_interpreters_bit_for_bit(
    tmp_path: Path, name: str, spec: TrainSpec, gradients: Format
) -> None:
    """Losses of four steps and the logits that the trained network then gives, with sanitizers."""
    program = networks.trained(name, replace(spec, gradients=gradients))
    calls = [("train_step", given) for given in networks.samples(program.graph("train_step"), 4, 3)]
    x = program.graph("infer").inputs[0].name
    calls.append(("infer", {x: calls[0][1][x]}))
    made = artifact(program, "host", tmp_path / "a")
    assert ran(made, program, calls, fill=0xA5) == interpreted(program, calls)


@pytest.mark.qemu
@pytest.mark.parametrize(("name", "head"), [("mlp", "int8"), ("digits", "fp32"), ("digits", "int8")])
def test_the_emulated_board_gives_the_interpreters_bits(tmp_path: Path, name: str, head: Head) -> None:
    """Two steps and the logits after them, by the kernels of Armv7E-M."""
    program = networks.trained(name, TrainSpec("full", rate=0.05, head=head))
    calls = [("train_step", given) for given in networks.samples(program.graph("train_step"), 2, 3)]
    x = program.graph("infer").inputs[0].name
    calls.append(("infer", {x: calls[0][1][x]}))
    made = artifact(program, "cortex-m7", tmp_path / "a")
    assert ran(made, program, calls, on="qemu", fill=0xA5) == interpreted(program, calls)


def test_the_loss_is_that_of_the_logits_real_numbers() -> None:
    """An int8 head's logits count with their scale and zero."""
    spec = TrainSpec("full", head="int8")
    program = networks.trained("mlp", spec)
    (logits,) = program.graph("infer").outputs
    quant = program.type_of(program.graph("infer"))[logits].quant
    assert quant is not None
    for given in networks.samples(program.graph("evaluate"), 4, 3):
        x, label = given.values()
        ints, _ = interp.run(program, program.graph("infer"), {next(iter(given)): x})
        real = torch.tensor((ints[logits].astype(np.float64) - quant.zero[0]) * quant.scale[0])
        wanted = nnf.cross_entropy(real, torch.tensor(label.astype(np.int64)))
        found, _ = interp.run(program, program.graph("evaluate"), given)
        np.testing.assert_allclose(found["loss"][0], float(wanted), rtol=1e-5)


@pytest.mark.parametrize(("loss", "widened"), [("cross-entropy", True), ("mse", False)])
def test_logits_of_an_int8_head_have_room_to_grow(loss: Loss, widened: bool) -> None:
    """Those of the untrained network reach 0.5; a loss of other targets keeps the calibrated range."""
    plain = networks.quantized("mlp", TrainSpec("full", head="int8", loss=loss))
    (logits,) = plain.graphs[0].outputs
    quant = plain.type_of(plain.graphs[0])[logits].quant
    assert quant is not None
    low, high = (quant.scale[0] * (end - quant.zero[0]) for end in (-128, 127))
    assert (low <= -7.9 and high >= 7.9) == widened


def test_the_graphs_hash_is_that_of_the_network_whatever_trains() -> None:
    specs = [TrainSpec("head"), TrainSpec("bias"), TrainSpec("full"), TrainSpec("sparse", scheme=SLICES)]
    found = [learned_of(learner(spec, "int8"), spec) for spec in specs]
    assert len({one.graph_hash for one in found if one is not None}) == 1
    assert len({one.layout_hash for one in found if one is not None}) == len(specs)
