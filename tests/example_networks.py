"""The example networks, imported and quantised once a process, and their artifacts for any target."""

from __future__ import annotations

import importlib
import shutil
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgec import compiler, interp, pipeline, samples
from edgec.artifact import Artifact, pack
from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array, Port, Program
from edgec.pipeline import Options
from edgec.targets.load import load_target, target_file
from examples.models import digits_cnn

CALIBRATION_SAMPLES = 4
CORES = ("cortex-m0", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
FACTORIES = {
    "kws": "mlperf_tiny:ds_cnn",
    "vww": "mlperf_tiny:mobilenet_v1_025",
    "ic": "mlperf_tiny:resnet8",
    "ad": "mlperf_tiny:autoencoder",
    "mobilenet_v2_035": "mobilenet_v2:width_035",
    "mcunet_like": "mcunet_like:factory",
    "audio_transformer": "audio_transformer:factory",
    "mobilenet_v2_100": "mobilenet_v2:width_100",
    "resnet18": "resnet18:factory",
    "vit_tiny": "vit_tiny:factory",
}
LARGE = ("mobilenet_v2_100", "resnet18", "vit_tiny")
ON_DEVICE = ("digits", *(name for name in FACTORIES if name not in LARGE))

emulated = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs qemu-system-arm and arm-none-eabi-gcc",
)


@cache
def network(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """(module in eval mode, example inputs); digits is the trained one."""
    if name == "digits":
        return digits_cnn.train(digits_cnn.load()), digits_cnn.factory()[1]
    module, _, function = FACTORIES[name].partition(":")
    return getattr(importlib.import_module(f"examples.models.{module}"), function)()  # type: ignore[no-any-return]


def calibration_inputs(name: str) -> dict[str, Array]:
    """Typical inputs by the name of forward's argument: images for digits, standard normal for random nets."""
    if name == "digits":
        return {"x": digits_cnn.load().train_x[:64]}
    shape = network(name)[1][0].shape
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(CALIBRATION_SAMPLES, *shape)).astype(np.float32)}


@dataclass(frozen=True, slots=True)
class Transformed:
    """A network after all graph passes."""

    name: str
    options: Options
    done: compiler.Transformed

    @property
    def program(self) -> Program:
        return self.done.program


@cache
def transformed(name: str, precision: str = "int8") -> Transformed:
    """Imported and taken through every graph pass."""
    module, inputs = network(name)
    options = Options(precision=precision)  # type: ignore[arg-type]
    request = compiler.Request(module, "host", options, calibration_inputs(name), inputs, name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        return Transformed(name, options, compiler.transform(request))


def compiled(
    name: str, target: str, stream: str = "off", precision: str = "int8", ram: int | None = None
) -> compiler.Compiled:
    """Planned for `target`."""
    one = transformed(name, precision)
    options = Options(precision=precision, stream=stream, ram_bytes=ram)  # type: ignore[arg-type]
    board = load_target(target)
    plan = pipeline.lower(one.program, board, options, KERNELS, name)
    text = target_file(target).read_text(encoding="utf-8")
    return compiler.Compiled(name, board, text, options, "", one.done, plan)


def artifact(folder: Path, made: compiler.Compiled) -> Artifact:
    """Written to `folder`."""
    compiler.write(made, folder)
    return Artifact(folder)


def raw_inputs(name: str) -> list[dict[str, Array]]:
    """Two typical samples, all -128, all 127 and uniform bytes, as the device takes them."""
    program = transformed(name).program
    graph = program.graphs[0]
    types = {v.name: v.type for v in graph.inputs}
    typical = samples.to_device(calibration_inputs(name), graph.input_ports, types, "the calibration")[:2]
    rng = np.random.default_rng(2)
    extreme: list[dict[str, Array]] = []
    for low, high in ((-128, -127), (127, 128), (-128, 128)):
        extreme.append({n: rng.integers(low, high, t.dims).astype(np.int8) for n, t in types.items()})
    return [*typical, *extreme]


def every_value_out(name: str) -> Program:
    """The int8 Program with every value that a node makes among the outputs, so that no layer can hide."""
    program = transformed(name).program
    graph = program.graphs[0]
    values = [v for node in graph.nodes for v in node.outputs]
    ports = tuple(Port(v.name, v.name, tuple(range(len(v.type.shape)))) for v in values)
    whole = replace(graph, outputs=tuple(v.name for v in values), output_ports=ports)
    return replace(program, graphs=(whole,))


@dataclass(frozen=True, slots=True)
class Expected:
    """`inputs` as the firmware reads them, `outputs` as it must write them, for `count` samples."""

    inputs: bytes
    outputs: bytes
    count: int


@cache
def expected(name: str, every_value: bool = False) -> Expected:
    """What the interpreter makes of `raw_inputs`."""
    program = every_value_out(name) if every_value else transformed(name).program
    graph = program.graphs[0]
    given: list[Any] = []
    wanted: list[Any] = []
    for inputs in raw_inputs(name):
        outputs, _ = interp.run(program, graph, inputs)
        given += [inputs[v.name] for v in graph.inputs]
        wanted += [outputs[ref] for ref in graph.outputs]
    return Expected(pack(given), pack(wanted), len(raw_inputs(name)))
