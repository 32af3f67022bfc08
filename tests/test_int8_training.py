"""int8 training of MCUNet against straight_through_torch.py, and the published memory of its schemes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mcunet
import numpy as np
import pytest
import straight_through_torch as reference
import torch

from benchmarks.schemes import MCUNET, extra_bytes, spec_of
from edgec import interp
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle, read_tree
from edgec.ir import Array, Node, Program
from edgec.ops import train_conv
from edgec.ops.block_float import unpack_mask
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train

pytestmark = mcunet.needed
SCHEMES = pytest.mark.parametrize("scheme", MCUNET)
LABEL = 3


@functools.cache
def imported() -> Program:
    return import_mcu_pickle(mcunet.FILE, Head(10, seed=1))


@functools.cache
def trained(scheme: int, gradients: Format) -> Program:
    return train(imported(), spec_of(str(scheme)), integers(gradients, seed=11))


@dataclass
class Run:
    """Nodes that update, with their inputs, of one training step; the gradient of the real features."""

    updates: list[tuple[Node, list[Array]]]
    features: Array
    after: dict[str, Array]


def one_step(program: Program, image: Array) -> Run:
    graph = program.graph("train_step")
    values: dict[str, Array] = {}

    def keep(node: Node, results: tuple[Array, ...]) -> None:
        values.update({v.name: r for v, r in zip(node.outputs, results, strict=True)})

    values["image"] = image
    _, after = interp.run(program, graph, {"image": image, "label": np.int32([LABEL])}, observe=keep)
    values |= {"@" + n: c.data for n, c in program.constants.items()}
    values |= {"$" + n: s.initial.data for n, s in program.state.items()}
    updates = [
        (n, [values[r] for r in n.inputs])
        for n in graph.nodes
        if n.op in ("train_conv2d_weight", "train_conv2d_bias")
    ]
    quantised = [
        n for n in graph.nodes if n.op in ("gradient_quantize", "cast") and values[n.inputs[0]].size > 1
    ]
    return Run(updates, values[quantised[0].inputs[0]], after)


def layer_of(node: Node) -> str:
    """Name of the convolution whose parameter the node updates."""
    return node.inputs[0][1:].rsplit(".", 2)[0]


def as_oihw(w: Array) -> Array:
    return np.asarray(w).transpose(0, 3, 1, 2)


def chosen(program: Program, layer: str) -> Array | slice:
    """Input channels of the layer that train."""
    found = program.constants.get(f"{layer}.w.trained")
    return slice(None) if found is None else found.data.astype(np.int64)


@SCHEMES
def test_labels_are_the_published_memory(scheme: int) -> None:
    kib = extra_bytes(imported(), MCUNET[scheme].scheme) / 1024
    assert kib == pytest.approx(MCUNET[scheme].kib, abs=0.06)


@SCHEMES
def test_double_gradients_are_those_of_autograd(scheme: int) -> None:
    """All trained tensors, after the factors of quantisation-aware scaling: within 1e-11 of the largest of a tensor in
    float64, and equal bit for bit in float32 but for at most one in 10,000 that stand next to a tie. Both start from
    one float32 gradient of the pooled features."""
    program = trained(scheme, "fp64")
    image = mcunet.golden_image()
    run = one_step(program, image)
    network = reference.Network(read_tree(mcunet.FILE))
    pooled = network(torch.tensor(image.astype(np.float64)).permute(0, 3, 1, 2))
    scale = float(np.float32(network.classifier["x_scale"]))
    (pooled * scale).backward(torch.tensor(run.features.astype(np.float64)))
    convs = {c.name: c for c in network.convs}
    different = total = 0
    for node, inputs in run.updates:
        layer = layer_of(node)
        conv = convs[layer]
        alive = conv.alive.numpy()
        s_w, s_x = conv.scale_w.numpy(), conv.scale("x_scale")
        if node.op == "train_conv2d_weight":
            assert isinstance(node.attrs, train_conv.TrainConv2dWeightAttrs) and conv.weight.grad is not None
            w, x, g, mask, factor = inputs[:5]
            h = np.where(unpack_mask(mask, g.shape), g, 0.0)
            ours = as_oihw(
                train_conv.weight_gradient(node.attrs, x, h, w.shape) * factor[:, None, None, None]
            )
            full = conv.weight.grad.numpy() / (s_w**2)[:, None, None, None]
            theirs = np.where(alive[:, None, None, None], full, 0.0)[:, chosen(program, layer)]
        else:
            assert conv.bias.grad is not None
            g, mask, factor = inputs[1:4]
            ours = train_conv.bias_gradient(np.where(unpack_mask(mask, g.shape), g, 0.0)) * factor
            theirs = np.where(alive, conv.bias.grad.numpy() / (s_w * s_x) ** 2, 0.0)
        assert ours.dtype == theirs.dtype == np.float64
        assert ours.shape == theirs.shape
        assert np.abs(theirs).max() > 0, layer
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max(), err_msg=layer)
        different += int((ours.astype(np.float32) != theirs.astype(np.float32)).sum())
        total += ours.size
    assert total == sum(s.type.size for n, s in program.state.items() if s.type.quant is not None)
    assert different <= total / 10_000


@SCHEMES
def test_integer_steps_are_those_of_the_definition(scheme: int) -> None:
    """Every trained integer after one step, bit for bit."""
    program = trained(scheme, "int8")
    image = mcunet.golden_image()
    run = one_step(program, image)
    network = reference.Network(read_tree(mcunet.FILE))
    network(torch.tensor(image.astype(np.float64)).permute(0, 3, 1, 2))
    backward = reference.Integer(network)
    last = network.blocks[-1].convs[-1]
    shape = (1, last.weight.shape[0], 4, 4)
    start = backward.features(
        run.features, float(np.float32(network.classifier["x_scale"])), torch.zeros(shape)
    )
    convs = network.convs
    backward.walk(start, len(convs) - MCUNET[scheme].biases)
    changed = 0
    for node, inputs in run.updates:
        layer = layer_of(node)
        dw, db, factor_w, factor_b, e = backward.steps[layer]
        weight = node.op == "train_conv2d_weight"
        assert isinstance(node.attrs, (train_conv.TrainConv2dWeightAttrs, train_conv.TrainConv2dBiasAttrs))
        old = inputs[0].astype(np.int64)
        raw = dw.numpy()[:, chosen(program, layer)].transpose(0, 2, 3, 1) if weight else db.numpy()
        factor = factor_w.reshape(-1, 1, 1, 1) if weight else factor_b
        rates = np.float32(0.0005) * factor * np.float32(2.0**e)
        blocks = [
            reference.philox((i, 1, node.attrs.salt, 0), (node.attrs.seed, 0))
            for i in range(-(-old.size // 4))
        ]
        words = [word for block in blocks for word in block][: old.size]
        limits = (-127, 127) if weight else (-(2**31), 2**31 - 1)
        wanted = reference.moved(old, raw, rates, words, *limits)
        np.testing.assert_array_equal(run.after[node.inputs[0][1:]], wanted, err_msg=f"{layer} {node.op}")
        changed += int((wanted != old).sum())
    assert changed > 100
