"""What the frontend tells: labels, places in the user's model, state, and its refusals, each with its code."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec import interp
from edgec.errors import UserError
from edgec.frontends import LoadOptions, load
from edgec.ir import DType, Persistence, Program
from tests.test_frontend import Wrap, assert_same, ops_of, rand

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def imported(module: nn.Module, *inputs: torch.Tensor) -> Program:
    return load(module, LoadOptions(example_inputs=inputs))


def refused(code: str, module: nn.Module, *inputs: torch.Tensor) -> str:
    with pytest.raises(UserError) as error:
        imported(module, *inputs)
    assert error.value.code == code, error.value.message
    return error.value.message


def line_of(text: str) -> int:
    """Line of this file that holds `text`."""
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, image, gain):  # type: ignore[no-untyped-def]
        x = self.stem(image).mean((2, 3))
        return {"scores": self.head(x * gain), "features": [x]}  # the head


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros(3))

    def forward(self, x):  # type: ignore[no-untyped-def]
        self.sum += x
        return self.sum * 2


def test_inputs_and_outputs_have_the_users_names() -> None:
    graph = imported(Net(), rand(1, 3, 5, 5), rand(1, 4)).graphs[0]
    assert [p.label for p in graph.input_ports] == ["image", "gain"]
    assert [p.label for p in graph.output_ports] == ["scores", "features.0"]
    assert all(p.axes == tuple(range(len(p.axes))) for p in graph.input_ports)


def test_the_only_output_is_called_output() -> None:
    assert imported(Wrap(torch.relu), rand(3)).graphs[0].output_ports[0].label == "output"


def test_nodes_know_their_layer_and_the_users_line() -> None:
    graph = imported(Net(), rand(1, 3, 5, 5), rand(1, 4)).graphs[0]
    loc = next(n.loc for n in graph.nodes if n.op == "linear")
    assert (loc.layer, loc.file, loc.line) == ("head", __file__, line_of("# the head"))
    assert next(n.loc.layer for n in graph.nodes if n.op == "conv2d") == "stem.0"


def test_weights_keep_their_names_in_a_safe_form() -> None:
    names = imported(Net(), rand(1, 3, 5, 5), rand(1, 4)).constants
    assert {"head.weight", "head.bias", "stem.0.bias"} <= set(names)


@pytest.mark.parametrize("name", ["a*/b", "a'b; %s", "a b", "\u202eabc", "x" * 3000])
def test_hostile_names_do_not_reach_the_program(name: str) -> None:
    module = nn.Sequential()
    module.add_module(name, nn.Linear(3, 2))
    program = imported(module, rand(1, 3))
    assert all(n.replace("_", "").replace(".", "").isalnum() and n.isascii() for n in program.constants)
    assert program.graphs[0].nodes[0].loc.layer == name


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\\b", "for"])
def test_name_that_breaks_out_of_generated_python_is_refused(name: str) -> None:
    module = nn.Sequential()
    module.add_module(name, nn.Linear(3, 2))
    assert ascii(name) in refused("EDGEC-E325", module, rand(1, 3))


def test_integers_become_32_bits() -> None:
    program = imported(Wrap(lambda i, w: w[i]), torch.tensor([1, 2]), rand(4, 3))
    assert program.graphs[0].inputs[0].type.dtype is DType.I32


def test_written_buffer_is_state_and_its_update() -> None:
    program = imported(Counter(), rand(3))
    ((name, state),) = program.state.items()
    assert state.persistence is Persistence.RESET
    graph, x, content = program.graphs[0], rand(3).numpy(), None
    for _ in range(2):
        outputs, content = interp.run(program, graph, {graph.inputs[0].name: x}, content)
    assert content is not None
    np.testing.assert_allclose(content[name], 2 * x, rtol=1e-6)
    np.testing.assert_allclose(outputs[graph.outputs[0]], 4 * x, rtol=1e-6)


def test_unused_constants_are_dropped() -> None:
    assert imported(Wrap(lambda x: x + torch.arange(3).sum()), rand(3)).constants.keys() == {"arange_1"}


def test_the_users_module_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    module[1].eval()
    imported(module, rand(2, 3))
    assert [m.training for m in module.modules()] == [True, True, False]


@pytest.mark.parametrize("strict", [False, True])
def test_strict_and_default_trace_give_the_same_numbers(strict: bool) -> None:
    module, inputs = Wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).eval(), (rand(1, 3, 5, 5),)
    assert_same(load(module, LoadOptions(example_inputs=inputs, strict=strict)), module, inputs)


def test_no_grad_inside_the_model_changes_nothing() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            y = x * 2
        return y + 1

    module, inputs = Wrap(forward), (rand(3),)
    assert_same(imported(module, *inputs), module, inputs)


@pytest.mark.parametrize("decomposed", [False, True])
def test_saved_program_computes_what_the_module_computes(tmp_path: Path, decomposed: bool) -> None:
    module, inputs = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), (rand(1, 5, 8),)
    exported = torch.export.export(module, inputs)
    path = tmp_path / "model.pt2"
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    assert_same(load(path), module, inputs)


def test_linear_and_attention_stay_whole() -> None:
    ops = ops_of(imported(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), rand(1, 5, 8)))
    assert (ops.count("attention"), ops.count("linear"), ops.count("layer_norm")) == (1, 4, 2)


def test_all_unsupported_operators_are_in_one_report() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        y = torch.cumprod(x, 0)  # first
        z = torch.cumprod(y, 1)
        return torch.linalg.inv_ex(z)[0] + torch.div(z, 2, rounding_mode="floor")

    with pytest.raises(UserError) as error:
        imported(Wrap(forward), rand(3, 3))
    assert (error.value.code, int(error.value.exit_code)) == ("EDGEC-E401", 4)
    text = error.value.message
    assert text.startswith("rewrite these parts of the model")
    assert f"2 x aten.cumprod.default at {__file__}:{line_of('# first')}" in text
    assert "aten.linalg_inv_ex.default" in text
    assert "aten.div.Tensor_mode (rounding_mode='floor'; plain division is supported)" in text


def test_boolean_mask_as_index_is_refused() -> None:
    message = refused("EDGEC-E401", Wrap(lambda x: x.index_put((x > 0,), torch.tensor(0.0))), rand(3))
    assert "boolean mask" in message or "several indices" in message


def test_control_flow_on_data_names_the_line() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        if x.sum() > 0:  # the branch
            return x
        return -x

    message = refused("EDGEC-E320", Wrap(forward), rand(3))
    assert f"{__file__}:{line_of('# the branch')}" in message
    assert message.startswith("make the model's path independent of the data")


def test_item_of_a_tensor_is_control_flow_on_data() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        return x[: int(x.sum().item())]  # the item

    assert "depends on the values" in refused("EDGEC-E320", Wrap(forward), rand(3))


def test_error_in_the_users_forward_names_its_line() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        return x.view(7)  # does not fit

    assert f"{__file__}:{line_of('# does not fit')}" in refused("EDGEC-E321", Wrap(forward), rand(3))


def test_dynamic_size_names_the_axis() -> None:
    shapes = ({0: torch.export.Dim("n", min=2, max=8)},)
    exported = torch.export.export(nn.Linear(3, 2), (rand(4, 3),), dynamic_shapes=shapes)
    with pytest.raises(UserError, match="Axis 0 of 'input'") as error:
        load(exported)
    assert error.value.code == "EDGEC-E322"


def test_module_without_example_inputs_asks_for_them() -> None:
    with pytest.raises(UserError, match="example inputs") as error:
        load(nn.Linear(3, 2))
    assert error.value.code == "EDGEC-E323"


def test_writing_into_an_input_is_refused() -> None:
    assert "'x" in refused("EDGEC-E324", Overwrite(), rand(3))


class Overwrite(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        x.add_(1)
        return x * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_that_is_not_finite_is_named(value: float) -> None:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[1, 2] = value
    assert "'weight' [2, 3]" in refused("EDGEC-E330", module, rand(1, 3))


def test_mask_of_minus_infinity_is_no_broken_weight() -> None:
    mask = torch.full((3,), -torch.inf)
    imported(Wrap(lambda x: torch.maximum(x, mask)), rand(3))


def test_tensor_beyond_32_bits_of_elements_is_refused() -> None:
    message = refused("EDGEC-E331", Wrap(lambda x: x.expand(50000, 50000) + x), rand(1))
    assert "2500000000 elements" in message


def test_seven_axes_are_refused() -> None:
    assert "7 axes" in refused("EDGEC-E332", Wrap(lambda x: x * 2), rand(1, 1, 1, 1, 1, 1, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_other_element_types_are_refused(dtype: torch.dtype) -> None:
    refused("EDGEC-E333", Wrap(lambda x: x * 2), torch.ones(3, dtype=dtype))


def test_integers_beyond_32_bits_are_refused() -> None:
    big = torch.tensor([2**40, 1])
    assert "32-bit" in refused("EDGEC-E333", Wrap(lambda i: i + big), torch.tensor([1, 2]))


def test_random_numbers_are_not_folded_into_constants() -> None:
    assert "rand" in refused("EDGEC-E401", Wrap(lambda x: x + torch.rand(3)), rand(3))


def test_file_of_another_torch_names_the_cure(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(3, 2), (rand(1, 3),)), buffer)
    path = tmp_path / "model.pt2"
    path.write_bytes(buffer.getvalue().replace(b'"major": 8', b'"major": 1'))
    with pytest.raises(UserError) as error:
        load(path)
    assert error.value.code in ("EDGEC-E340", "EDGEC-E302")
