"""straight_through: what becomes of small int8 networks when they train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgec import interp
from edgec.build import Builder
from edgec.errors import UserError
from edgec.ir import Attrs, DType, Graph, Loc, Program, Quant, Type, per_channel, per_tensor
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv import Conv1dAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs
from edgec.ops.shape import ReshapeAttrs
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from edgec.verify import verify

ACT = per_tensor(0.05, -10)


class Net:
    """A network of quantised layers with a float head of three classes."""

    def __init__(self, channels: int = 4, size: int = 4) -> None:
        self.rng = np.random.default_rng(3)
        self.b = Builder("infer")
        self.at = self.b.input("image", Type((1, size, size, channels), DType.I8, ACT))

    def node(self, op: str, inputs: Sequence[str], attrs: Attrs, layer: str, quant: Quant = ACT) -> str:
        return self.b.node(op, inputs, attrs, name=layer, loc=Loc(layer), quants=(quant,))[0]

    def conv(self, x: str, outputs: int, layer: str, kernel: int = 1, groups: int = 1) -> str:
        channels = self.b.types[x].dims[-1]
        w = self.rng.integers(-127, 128, (outputs, kernel, kernel, channels // groups)).astype(np.int8)
        scale = self.rng.uniform(0.001, 0.004, outputs).astype(np.float32)
        names = (
            self.b.constant(w, f"{layer}.w", per_channel(scale, 0)),
            self.b.constant(
                self.rng.integers(-99, 99, outputs).astype(np.int32),
                f"{layer}.b",
                per_channel(scale * np.float32(0.05), 0),
            ),
        )
        pad = kernel // 2
        return self.node("conv2d", (x, *names), Conv2dAttrs(pad=(pad, pad, pad, pad), groups=groups), layer)

    def linear(self, x: str, outputs: int, layer: str) -> str:
        w = self.rng.integers(-127, 128, (outputs, self.b.types[x].dims[-1])).astype(np.int8)
        scale = np.full(outputs, 0.002, np.float32)
        names = (
            self.b.constant(w, f"{layer}.w", per_channel(scale, 0)),
            self.b.constant(
                np.zeros(outputs, np.int32), f"{layer}.b", per_channel(scale * np.float32(0.05), 0)
            ),
        )
        return self.node("linear", (x, *names), LinearAttrs(), layer)

    def pooled(self, x: str, size: tuple[int, int] = (1, 1)) -> str:
        y = self.node("adaptive_avg_pool2d", (x,), AdaptiveAvgPool2dAttrs(size), "pool")
        return self.node("reshape", (y,), ReshapeAttrs((1, self.b.types[y].size)), "flat")

    def program(self, x: str) -> Program:
        self.b.loc = Loc("head")
        real = self.b.call("dequantize", x)
        w = self.rng.normal(size=(3, self.b.types[x].dims[-1])).astype(np.float32)
        y = self.b.call("linear", real, self.b.constant(w, "head.w"), attrs=LinearAttrs(), name="logits")
        self.b.output(y, "logits")
        return self.b.program()


def learner(program: Program, spec: TrainSpec, gradients: Format = "int8") -> Program:
    trained = train(program, spec, integers(gradients))
    verify(trained)
    return trained


def step_of(program: Program) -> Graph:
    return program.graph("train_step")


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def chain() -> Program:
    net = Net()
    x = net.conv(net.at, 6, "a", 3)
    x = net.conv(x, 6, "b", 3, groups=6)
    return net.program(net.pooled(net.conv(x, 5, "c")))


def residual() -> Program:
    net = Net()
    x = net.conv(net.at, 6, "a")
    y = net.conv(net.conv(x, 8, "b"), 6, "c")
    total = net.node("add", (x, y), BinaryAttrs(), "join", per_tensor(0.07, 3))
    return net.program(pooled(net, total))


def pooled(net: Net, x: str) -> str:
    quant = net.b.types[x].quant
    assert quant is not None
    y = net.node("adaptive_avg_pool2d", (x,), AdaptiveAvgPool2dAttrs((1, 1)), "pool", quant)
    return net.node("reshape", (y,), ReshapeAttrs((1, net.b.types[y].size)), "flat", quant)


def biases(count: int, *slices: WeightSlice) -> TrainSpec:
    return TrainSpec("sparse", scheme=Scheme(count, slices), rate=0.05)


def test_layers_before_the_first_trained_one_have_no_backward() -> None:
    graph = step_of(learner(chain(), biases(1)))
    assert ops(graph)[:2] == ["conv2d", "conv2d"]
    assert "trained_conv2d_input_grad" not in ops(graph)
    assert ops(graph).count("train_conv2d_bias") == 1


def test_masks_stand_on_the_way_alone() -> None:
    program = learner(chain(), biases(2))
    masked = [
        n.outputs[0].name for n in step_of(program).nodes if len(n.outputs) == 2 and n.op == "trained_conv2d"
    ]
    assert masked == ["b", "c"]
    assert all(len(n.outputs) == 1 for n in program.graph("infer").nodes)


def test_gradients_of_a_value_that_two_nodes_read_are_summed() -> None:
    program = residual()
    assert ops(step_of(learner(program, biases(3)))).count("gradient_sum") == 1
    # The earliest trained layer lies behind the fork: nobody asks for the skip's gradient.
    assert "gradient_sum" not in ops(step_of(learner(program, biases(2))))


def test_a_slice_saves_its_own_channels_of_the_input() -> None:
    program = learner(chain(), biases(1, WeightSlice(None, 2, 0.5)))
    graph = step_of(program)
    (gathered,) = (n for n in graph.nodes if n.op == "index_select")
    assert gathered.outputs[0].type.dims == (1, 4, 4, 3)
    assert program.state["c.w.slice"].type.dims == (5, 1, 1, 3)


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
@pytest.mark.parametrize(
    "spec", [biases(3), TrainSpec("full", rate=0.05), biases(2, WeightSlice(None, 1, 0.5))]
)
def test_the_loss_falls(gradients: Format, spec: TrainSpec) -> None:
    program = learner(
        residual() if spec.mode == "sparse" and not spec.scheme.weights else chain(), spec, gradients
    )
    image = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 4)).astype(np.int8)
    inputs = {"image": image, "label": np.array([1], np.int32)}
    state, losses = None, []
    for _ in range(60):
        outputs, state = interp.run(program, step_of(program), inputs, state)
        losses.append(float(outputs["loss"][0]))
    assert losses[-1] < 0.5 * losses[0]
    frozen = {n: s for n, s in program.state.items() if s.type.quant is not None}
    assert any((state[n] != s.initial.data).any() for n, s in frozen.items())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    program = learner(chain(), TrainSpec("full", rate=0.05))
    state = {n: s.initial.data for n, s in program.state.items()}
    state["head.w.trained"] = np.full_like(state["head.w.trained"], np.inf)
    image = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 4)).astype(np.int8)
    _, after = interp.run(program, step_of(program), {"image": image, "label": np.int32([1])}, state)
    for name, content in state.items():
        if name != "step":
            np.testing.assert_array_equal(after[name], content, err_msg=name)


def test_a_dead_channel_stays_as_it_is() -> None:
    net = Net()
    x = net.conv(net.at, 6, "a")
    w = net.b.constants["a.w"]
    assert w.type.quant is not None
    scale = np.array(w.type.quant.scale, np.float32)
    scale[2] = 1e-10
    node = net.b.nodes[-1]
    net.b.nodes.clear()
    names = (
        net.b.constant(w.data, "d.w", per_channel(scale, 0)),
        net.b.constant(net.b.constants["a.b"].data, "d.b", per_channel(scale * np.float32(0.05), 0)),
    )
    del net.b.types[x]
    x = net.node("conv2d", (net.at, *names), node.attrs, "d")
    program = learner(net.program(net.pooled(x)), TrainSpec("full", rate=0.05))
    inputs = {"image": np.zeros((1, 4, 4, 4), np.int8), "label": np.int32([1])}
    _, after = interp.run(program, step_of(program), inputs)
    moved = after["d.w.trained"] != w.data
    assert moved.any()
    assert not moved[2].any()
    assert after["d.b.trained"][2] == program.state["d.b.trained"].initial.data[2]


def refused(program: Program, spec: TrainSpec) -> str:
    with pytest.raises(UserError) as error:
        train(program, spec, integers())
    return str(error.value)


def test_parameters_of_other_int8_layers_are_refused() -> None:
    net = Net()
    flat = net.node("reshape", (net.at,), ReshapeAttrs((1, 16, 4)), "rows")
    w = net.b.constant(np.ones((5, 3, 4), np.int8), "a.w", per_channel(np.full(5, 0.002), 0))
    x = net.node("conv1d", (flat, w), Conv1dAttrs(), "a")
    x = net.node("reshape", (x,), ReshapeAttrs((1, net.b.types[x].size)), "flat")
    assert refused(net.program(x), TrainSpec("full")) == (
        "EDGEC-E404: train other layers (--train last:N takes convolutions and linear layers alone), or compile with "
        "--precision fp32: parameters of an int8 conv1d do not train (a)"
    )


def test_sums_that_leave_int32_are_refused() -> None:
    net = Net(channels=1, size=1)
    x = net.conv(net.conv(net.at, 1, "a"), 140_000, "wide")
    assert refused(net.program(net.pooled(x)), biases(2)) == (
        "EDGEC-E404: train only layers behind this one, or pass --gradients fp32: sums of an int8 gradient over "
        "140000 products leave int32 (wide)"
    )


def hidden_linear() -> Program:
    net = Net()
    x = net.pooled(net.conv(net.at, 6, "a"))
    return net.program(net.linear(x, 5, "middle"))


def test_an_int8_linear_layer_trains_as_a_convolution_of_its_rows() -> None:
    program = learner(hidden_linear(), TrainSpec("full"))
    assert ops(step_of(program)).count("train_conv2d_weight") == 2
    assert program.state["middle.w.rows.trained"].type.dims == (5, 1, 1, 6)
    assert ops(step_of(learner(hidden_linear(), biases(2)))).count("train_conv2d_bias") == 2


def test_a_slice_of_an_int8_linear_layer_saves_its_own_channels() -> None:
    program = learner(hidden_linear(), biases(1, WeightSlice("middle", None, 0.5)))
    (gathered,) = (n for n in step_of(program).nodes if n.op == "index_select")
    assert gathered.outputs[0].type.dims == (1, 1, 1, 3)
    assert program.state["middle.w.rows.slice"].type.dims == (5, 1, 1, 3)


def test_what_a_linear_layer_infers_does_not_change_when_it_trains() -> None:
    plain = hidden_linear()
    trained = learner(plain, TrainSpec("full"))
    for seed in range(5):
        image = np.random.default_rng(seed).integers(-128, 128, (1, 4, 4, 4)).astype(np.int8)
        before, _ = interp.run(plain, plain.graphs[0], {"image": image})
        after, _ = interp.run(trained, trained.graph("infer"), {"image": image})
        np.testing.assert_array_equal(before["logits"], after["logits"])


def test_slices_of_an_int8_convolution_of_several_groups_are_refused() -> None:
    net = Net()
    program = net.program(net.pooled(net.conv(net.at, 6, "a", 3, groups=2)))
    assert refused(program, biases(1, WeightSlice("a", None, 0.5))) == (
        "EDGEC-E404: give the ratio 1 in the scheme, or compile with --precision fp32: slices of an int8 convolution "
        "of several groups do not train (a)"
    )
    assert "train_conv2d_weight" in ops(step_of(learner(program, biases(1, WeightSlice("a", None, 1.0)))))


def test_a_layer_without_bias_trains() -> None:
    net = Net()
    x = net.conv(net.at, 6, "a")
    (weight,) = net.b.nodes[-1].inputs[1:2]
    x = net.pooled(net.node("conv2d", (net.at, weight), net.b.nodes[-1].attrs, "bare"))
    middle = net.b.constant(np.ones((5, 6), np.int8), "m.w", per_channel(np.full(5, 0.002), 0))
    program = learner(net.program(net.node("linear", (x, middle), LinearAttrs(), "m")), TrainSpec("full"))
    assert [n.inputs[2][:8] for n in step_of(program).nodes if n.op == "trained_conv2d"] == ["@no_bias"] * 2


def test_an_int8_weight_of_several_layers_is_refused() -> None:
    net = Net()
    x = net.pooled(net.conv(net.at, 6, "a"))
    w = net.b.constant(np.ones((6, 6), np.int8), "w", per_channel(np.full(6, 0.002), 0))
    for layer in ("b", "c"):
        x = net.node("linear", (x, w), LinearAttrs(), layer)
    assert refused(net.program(x), TrainSpec("full")) == (
        "EDGEC-E404: train other layers, or compile with --precision fp32: several layers share the int8 parameter "
        "w, whose steps would have to be one"
    )
