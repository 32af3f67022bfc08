"""Models that cannot be compiled: each is refused with its code and its cause, and the cure in the text works."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from tests import cli_models
from tests.cli_command import COMPILE, Command

EXPORT = "torch.export.save(torch.export.export(model, example_inputs), 'model.pt2')"
HERE = "tests.cli_models"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A model as the user types it, the answer, and what the answer says to type instead ("" where it says to make
    the model another way, which `cure` then is)."""

    model: str
    code: int
    text: str
    cure: str = "net.pt2 --calib calib.npz"


FILES = (
    Mistake(
        "missing.pt2",
        3,
        "EDGEC-E300: give the path of a model file that can be read. 'missing.pt2': No such file or directory",
    ),
    Mistake(
        "folder.pt2",
        3,
        "EDGEC-E300: give the path of a model file that can be read. 'folder.pt2': Is a directory",
    ),
    Mistake(
        "truncated.pt2",
        3,
        "EDGEC-E302: copy or save the file again. truncated.pt2 is a zip archive that is truncated or corrupt: "
        "File is not a zip file",
    ),
    Mistake("empty.pt2", 3, "EDGEC-E301: save the model again. empty.pt2 is an empty file"),
    Mistake(
        "text.pt2",
        3,
        "EDGEC-E303: give a file that torch.export.save or torch.save wrote. text.pt2 is no model file that edgec "
        "knows",
    ),
    Mistake(
        "archive.pt2",
        3,
        "EDGEC-E303: give a file that torch.export.save or torch.save wrote. archive.pt2 is a zip archive that "
        "PyTorch did not write",
    ),
    Mistake(
        "script.pt",
        3,
        f"EDGEC-E304: export the original module: {EXPORT}. script.pt is a TorchScript archive (torch.jit.save)",
    ),
    Mistake(
        "model.onnx",
        3,
        "EDGEC-E304: export from PyTorch with torch.export.save; ONNX files are not supported yet. model.onnx is an "
        "ONNX model",
    ),
    Mistake(
        "model.tflite",
        3,
        "EDGEC-E304: export from PyTorch with torch.export.save; TFLite files are not supported yet. model.tflite is "
        "a TensorFlow Lite model",
    ),
    Mistake(
        "calib.npz",
        3,
        "EDGEC-E303: give a file that torch.export.save or torch.save wrote. calib.npz is a zip archive that PyTorch "
        "did not write",
    ),
    Mistake(
        "whole.pt",
        3,
        "EDGEC-E305: save an exported program (torch.export.save) or a state dict (torch.save(model.state_dict(), "
        "path)) instead, or pass --trust, which lets the file run its code. whole.pt is a whole pickled module "
        "(torch.save of a module); such a pickle can run any code when it is loaded",
        f"whole.pt --trust --model {HERE}:small --calib random",
    ),
    Mistake(
        "weights.pt",
        3,
        "EDGEC-E306: name the function that makes the module: --model package.module:function (it returns the "
        "module and its example inputs). weights.pt is a state dict (torch.save of tensors), which "
        "holds weights alone",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"net.pt2 --model {HERE}:small",
        3,
        "EDGEC-E309: leave out --model, or give a state dict with it. net.pt2 is an exported program "
        "(torch.export.save), a whole model",
    ),
    Mistake(
        "-",
        3,
        "EDGEC-E306: name the function that makes the module: --model package.module:function. `-` is no file",
        f"- --model {HERE}:small --calib random",
    ),
)


FACTORIES = (
    Mistake(
        "weights.pt --model nowhere:net",
        3,
        "EDGEC-E308: mend the factory nowhere:net, or put its folder on PYTHONPATH. It raised ModuleNotFoundError: "
        "No module named 'nowhere'",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:smal",
        3,
        f"EDGEC-E308: mend the factory {HERE}:smal, or put its folder on PYTHONPATH. It raised AttributeError: module "
        f"'{HERE}' has no attribute 'smal'",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}",
        3,
        f"EDGEC-E308: write --model as package.module:function. '{HERE}' has no such form",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:raising",
        3,
        f"EDGEC-E308: mend the factory {HERE}:raising, or put its folder on PYTHONPATH. It raised RuntimeError: no "
        "weights today",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:exiting",
        3,
        f"EDGEC-E308: mend the factory {HERE}:exiting, or put its folder on PYTHONPATH. It raised SystemExit: 3",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:number",
        3,
        f"EDGEC-E308: return a torch.nn.Module, or (module, example inputs), from {HERE}:number. It returned int",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:small_without_inputs",
        3,
        "EDGEC-E323: give example inputs: example_inputs=(...) in Python, or a --model factory that returns (module, "
        "inputs). They fix the sizes and types of the model's inputs",
        f"weights.pt --model {HERE}:small --calib random",
    ),
    Mistake(
        f"weights.pt --model {HERE}:larger",
        3,
        f"EDGEC-E307: give the factory that made these weights: weights.pt does not fit the module of {HERE}:larger. "
        "0.weight is [2, 4] in the file, [2, 5] in the module",
        f"weights.pt --model {HERE}:small --calib random",
    ),
)

NETWORKS = (
    Mistake(
        "nan_weight",
        3,
        "EDGEC-E330: train or load the model again. The weight '0.weight' [2, 4] holds 1 NaN and 0 infinite values of "
        "8",
        "small",
    ),
    Mistake(
        "infinite_weight",
        3,
        "EDGEC-E330: train or load the model again. The weight '0.weight' [2, 4] holds 0 NaN and 1 infinite values of "
        "8",
        "small",
    ),
    Mistake(
        "branch",
        3,
        "EDGEC-E320: make the model's path independent of the data: torch.where in place of if, fixed loop counts, no "
        ".item(). The control flow at LINE depends on the values of a tensor, and a compiled program has one path",
        "branchless",
    ),
    Mistake(
        "chosen_elements",
        3,
        "EDGEC-E322: export the model with fixed sizes (no dynamic_shapes). Axis 0 of 'index' ['u0'] has a size known "
        "only at run time, at LINE",
        "branchless",
    ),
    Mistake(
        "double",
        3,
        "EDGEC-E333: call model.float() and give float32 inputs. 'x' is float64 at ?; float32 models are compiled",
        "small",
    ),
    Mistake(
        "complex_numbers",
        3,
        "EDGEC-E333: use real numbers. 'mul' is complex64 at LINE; float32 models are compiled",
        "small",
    ),
    Mistake(
        "writes_into_input",
        3,
        "EDGEC-E324: return the new value instead: the model writes into its input 'x'",
        "small",
    ),
    Mistake(
        "seven_axes",
        3,
        "EDGEC-E332: reshape to fewer axes. 'x' [1, 1, 1, 1, 1, 1, 2] has 7 axes at ?; the limit is 6",
        "small",
    ),
    Mistake(
        "failing",
        3,
        "EDGEC-E321: mend the model so that it runs on the example inputs and torch.export accepts it. It failed at "
        "LINE with ValueError: wrong size",
        "small",
    ),
    Mistake("returns_nothing", 3, "EDGEC-E323: return at least one tensor: the model returns none", "small"),
    Mistake(
        "giant_input",
        5,
        "EDGEC-E506: make the tensor smaller: x [1000000000] has 1,000,000,000 elements, calibration takes at most "
        "67,108,864; no microcontroller holds more",
        "small",
    ),
    Mistake(
        "giant_value",
        5,
        "EDGEC-E506: make the tensor smaller: expand [1, 1000000000] at LINE has 1,000,000,000 elements, calibration "
        "takes at most 67,108,864; no microcontroller holds more",
        "small",
    ),
    Mistake(
        "beyond_int32",
        3,
        "EDGEC-E331: make the tensor smaller. 'expand' [1048576, 1048576] has 1099511627776 elements at LINE; the "
        "limit is 2147483647 (sizes are 32-bit integers in C)",
        "small",
    ),
)


def line(name: str) -> str:
    """The line of `forward` that messages name."""
    modules = {"branch": cli_models.Branch, "failing": cli_models.Failing}
    forward = modules.get(name, cli_models.Function).forward
    return f"{cli_models.__file__}:{inspect.getsourcelines(forward)[1] + 1}"


@pytest.mark.parametrize("mistake", FILES + FACTORIES, ids=lambda m: m.model)
def test_a_file_that_is_no_model_is_refused_and_the_named_cure_works(
    edgec: Command, mistake: Mistake
) -> None:
    calib = () if "--calib" in mistake.model else ("--calib", "calib.npz")
    edgec.refused(mistake.code, mistake.text, *COMPILE, *mistake.model.split(), *calib)
    edgec.works(*COMPILE, *mistake.cure.split())


@pytest.mark.parametrize("mistake", NETWORKS, ids=lambda m: m.model)
def test_a_network_that_cannot_be_compiled_is_refused_and_its_mended_form_compiles(
    edgec: Command, mistake: Mistake
) -> None:
    text = mistake.text.replace("LINE", line(mistake.model)) if "LINE" in mistake.text else mistake.text
    edgec.refused(
        mistake.code, text, *COMPILE, "-", "--model", f"{HERE}:{mistake.model}", "--calib", "random"
    )
    edgec.works(*COMPILE, "-", "--model", f"{HERE}:{mistake.cure}", "--calib", "random")


def test_a_corrupt_record_of_a_program_is_named(edgec: Command) -> None:
    answer = edgec(*COMPILE, "flipped.pt2", "--calib", "calib.npz")
    assert answer.code == 3
    assert answer.err.startswith(
        "EDGEC-E302: copy or save the file again. flipped.pt2 is a zip archive that is "
    )


def test_all_unsupported_operators_are_in_one_report_with_counts_and_lines(edgec: Command) -> None:
    where = line("unsupported")
    text = (
        "EDGEC-E401: rewrite these parts of the model with supported operators (edgec ops lists them). 3 calls of 2 "
        f"operators are not supported:\n  2 x aten.cumprod.default at {where}\n  1 x aten.i0.default at {where}"
    )
    edgec.refused(4, text, *COMPILE, "-", "--model", f"{HERE}:unsupported", "--calib", "random")
