"""The step that benchmarks/training_memory.py measures in PyTorch is ours: same network, loss and gradients."""

from __future__ import annotations

import mcunet
import numpy as np
import pytest
import torch
import torch_mcunet

from benchmarks.schemes import MCUNET, spec_of
from edgec import interp
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Array, Node, Program
from edgec.ops import train_conv
from edgec.ops.block_float import unpack_mask
from edgec.passes.straight_through import integers
from edgec.passes.train import train

pytestmark = mcunet.needed
LABEL = 3
# Both sum in float32 in orders of their own. Of the largest element of a tensor.
TOLERANCE = 1e-5


def one_step(program: Program, image: Array) -> tuple[float, list[tuple[Node, list[Array]]]]:
    """(loss, nodes that update integers with their inputs) of one training step."""
    values: dict[str, Array] = {"image": image}

    def keep(node: Node, results: tuple[Array, ...]) -> None:
        values.update({v.name: r for v, r in zip(node.outputs, results, strict=True)})

    graph = program.graph("train_step")
    interp.run(program, graph, {"image": image, "label": np.int32([LABEL])}, observe=keep)
    values |= {"@" + n: c.data for n, c in program.constants.items()}
    values |= {"$" + n: s.initial.data for n, s in program.state.items()}
    nodes = [n for n in graph.nodes if n.op in ("train_conv2d_weight", "train_conv2d_bias")]
    return float(values["loss"][0]), [(n, [values[r] for r in n.inputs]) for n in nodes]


def scaled_gradient(node: Node, inputs: list[Array]) -> tuple[Array, Array]:
    """(that of the weight [O,C,R,S] or bias [O] times the factors of its update, channels that train)."""
    if isinstance(node.attrs, train_conv.TrainConv2dWeightAttrs):
        w, x, g, mask, factor = inputs[:5]
        h = np.where(unpack_mask(mask, g.shape), g, np.float32(0))
        sums = train_conv.weight_gradient(node.attrs, x, h, w.shape) * factor[:, None, None, None]
        return sums.transpose(0, 3, 1, 2), factor != 0
    g, mask, factor = inputs[1:4]
    return train_conv.bias_gradient(
        np.where(unpack_mask(mask, g.shape), g, np.float32(0))
    ) * factor, factor != 0


def theirs(conv: torch_mcunet.Conv, weight: bool) -> Array:
    """PyTorch's gradient, of the slice where one trains."""
    held = conv.bias if not weight else conv.weight if conv.part is None else conv.part
    assert held.grad is not None
    return held.grad.numpy()


@pytest.mark.parametrize("scheme", [99, 148])
def test_pytorchs_step_is_ours(scheme: int) -> None:
    imported = import_mcu_pickle(mcunet.FILE, Head(10, seed=1))
    program = train(imported, spec_of(str(scheme)), integers("fp32", seed=11))
    image = mcunet.golden_image()
    loss, updates = one_step(program, image)

    net = torch_mcunet.Network(mcunet.FILE, 10)
    net.train_only(MCUNET[scheme].scheme)
    head = next(n for n in imported.graph("infer").nodes if n.op == "linear")
    weight, bias = (torch.from_numpy(imported.constants[r[1:]].data.copy()) for r in head.inputs[1:3])
    net.head.load_state_dict({"weight": weight, "bias": bias})
    logits = net(torch.from_numpy(image.astype(np.float32)).permute(0, 3, 1, 2))
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([LABEL]))
    wanted.backward()
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)

    layers = [n for n in imported.graph("infer").nodes if n.op == "conv2d"]
    convs = [m for m in net.modules() if isinstance(m, torch_mcunet.Conv)]
    by_name = {n.inputs[1][1:].removesuffix(".w"): (n, c) for n, c in zip(layers, convs, strict=True)}
    assert len(updates) == sum(p.requires_grad for conv in convs for p in conv.parameters())
    types = imported.type_of(imported.graph("infer"))
    for node, inputs in updates:
        name = node.inputs[0][1:].rsplit(".", 2)[0]
        layer, conv = by_name[name]
        x, w = (types[r].quant for r in layer.inputs[:2])
        assert x is not None and w is not None
        unit = np.array(w.scale)  # of the parameter's integers
        if node.op == "train_conv2d_bias":
            unit = unit * x.scale[0]
        found, alive = scaled_gradient(node, inputs)
        expected = theirs(conv, node.op == "train_conv2d_weight")
        assert found.shape == expected.shape, name
        expected = expected / (unit**2).reshape(-1, *(1,) * (found.ndim - 1))
        most = np.abs(expected[alive]).max()
        assert most > 0, name
        np.testing.assert_allclose(
            found[alive], expected[alive], rtol=0, atol=TOLERANCE * most, err_msg=f"{name} {node.op}"
        )
