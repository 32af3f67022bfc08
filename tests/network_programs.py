"""The networks of examples/networks.py, imported once a process, and compiled for any target."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edgec import compiler, pipeline, samples
from edgec.cuda import artifact as cuda_artifact
from edgec.errors import TargetError
from edgec.frontends import LoadOptions, load
from edgec.ir import Array, DType, Program
from edgec.pipeline import Options
from edgec.targets.load import load_target
from examples.networks import NETWORKS


@dataclass(frozen=True, slots=True)
class Made:
    """A network with its example inputs by the name of forward's argument, and PyTorch's float32 outputs."""

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    arrays: dict[str, Array]
    wanted: tuple[Array, ...]
    program: Program


@cache
def made(name: str, small: bool = True) -> Made:
    """The network, imported."""
    module, inputs = NETWORKS[name].make(small)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about itself
        program = load(module, LoadOptions(example_inputs=inputs))
    with torch.no_grad():
        outputs = module(*inputs)
    wanted = tuple(y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,)))
    labels = [port.label for port in program.graphs[0].input_ports]
    return Made(module, inputs, {n: x.numpy() for n, x in zip(labels, inputs, strict=True)}, wanted, program)


@cache
def float_program(name: str, small: bool = True) -> Program:
    """After every pass that keeps it in float32."""
    one = made(name, small)
    return pipeline.run(one.program, pipeline.float_steps(), Options(precision="fp32"), one.arrays).program


@cache
def gpu_program(name: str) -> Program:
    """The small network in float32 after every pass of a GPU target."""
    one, options = made(name), Options(precision="fp32")
    steps = pipeline.graph_steps(options, one.arrays, load_target("orin").gpu)
    return pipeline.run(one.program, steps, options, one.arrays).program


def distance(program: Program, one: Made) -> float:
    """Largest difference of the interpreter's outputs from PyTorch's, of the largest magnitude of each output."""
    found = pipeline.outputs(program, one.arrays)
    return max(relative(a, b) for a, b in zip(one.wanted, found, strict=True))


def relative(wanted: Array, found: Array) -> float:
    """Largest difference, of the largest magnitude of `wanted`; infinite where something is not finite."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(a).max()) if np.isfinite(b).all() else float("inf")


def counts(program: Program) -> Counter[str]:
    """Nodes of the first graph by op."""
    return Counter(node.op for node in program.graphs[0].nodes)


def compiled(name: str, target: str, precision: str, small: bool = True) -> compiler.Compiled:
    """Planned; int8 is calibrated on two samples of noise beside the example."""
    one = made(name, small)
    rng = np.random.default_rng(1)
    calib = {}
    for label, array in one.arrays.items():
        more = np.stack(
            [array, *([rng.normal(size=array.shape)] * 2 if array.dtype.kind == "f" else [array] * 2)]
        )
        calib[label] = more.astype(array.dtype)
    options = Options(precision=precision)  # type: ignore[arg-type]
    request = compiler.Request(one.module, target, options, calib, one.inputs, name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compiler.plan(request)


DECODERS: Final = {"Llama-style 1B": "1b", "Llama-style 8B": "8b"}
LOW: Final = ("w8a8", "w4a16")
FREE: Final = ("quantize", "dequantize", "cast", "reshape", "transpose", "concat", "slice", "split", "select")


def outcome(program: Program, arrays: Mapping[str, Array], target: str, precision: str) -> str:
    """Either `yes`, with what stays in float, or the ops that have no kernel."""
    chip, options = load_target(target), Options(precision=precision)  # type: ignore[arg-type]
    steps = pipeline.graph_steps(options, arrays, chip.gpu)
    program = pipeline.run(program, steps, options, arrays).program
    try:
        pipeline.lower(program, chip, options, compiler.kernels_of(chip), "network")
    except TargetError as error:
        if error.code != "EDGEC-E402":
            raise
        return "no: " + ", ".join(sorted(set(re.findall(r"^  (\w+)\(", error.message, re.MULTILINE))))
    return "yes" + _left(program, precision)


def _left(program: Program, precision: str) -> str:
    """How many nodes an int8 network computes in float, or how many layers another low precision took."""
    nodes = program.graphs[0].nodes
    if precision == "int8":
        floats = sum(n.op not in FREE and n.outputs[0].type.dtype.is_float for n in nodes)
        return f", {floats} of {sum(n.op not in FREE for n in nodes)} nodes in float" if floats else ""
    if precision in LOW:
        layers = [n for n in nodes if n.op in ("linear", "linear_w8a8", "linear_w4")]
        low = sum(n.op != "linear" or n.outputs[0].type.dtype is DType.I8 for n in layers)
        return f", {low} of {len(layers)} linear layers"
    return ""


@cache
def decoder(shape: str) -> Program:
    """One layer of a Llama shape, with a small vocabulary: prefill, decode and begin."""
    from edgec.frontends import DecoderOptions
    from edgec.frontends.model_folder import empty_model, require_transformers
    from edgec.frontends.torch_decoder import import_decoder
    from examples.models.llama import SHAPES, random_weights

    fields = SHAPES[shape] | {"num_hidden_layers": 1, "vocab_size": 2048}
    config = require_transformers().LlamaConfig(**fields)
    model = empty_model(config)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    weights = random_weights(shapes, bool(config.tie_word_embeddings))
    return import_decoder(model, DecoderOptions(context=64, prefill=(16,)), weights)


def table(target: str, precisions: tuple[str, ...]) -> str:
    """The rows of docs/networks.md."""
    lines = [f"| network | {' | '.join(precisions)} |", "|---" * (len(precisions) + 1) + "|"]
    rows = [(NETWORKS[n].title, made(n).program, made(n).arrays) for n in NETWORKS]
    for title, program, arrays in rows:
        cells = (outcome(program, arrays, target, precision) for precision in precisions)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for title, shape in DECODERS.items():
        program = decoder(shape)
        graph = program.graphs[0]
        types = {v.name: v.type for v in graph.inputs}
        tokens = samples.random_samples(graph.input_ports, types, 1, 0)
        cells = (
            "–" if precision == "int8" else outcome(program, tokens, target, precision)
            for precision in precisions
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written(done: compiler.Compiled, folder: Path) -> Path:
    """The artifact in `folder`, without golden vectors: the tests compute their own."""
    most = cuda_artifact.MOST_GOLDEN_MACS
    cuda_artifact.MOST_GOLDEN_MACS = -1  # type: ignore[misc]
    try:
        compiler.write(done, folder)
    finally:
        cuda_artifact.MOST_GOLDEN_MACS = most  # type: ignore[misc]
    return folder


def selected() -> tuple[str, ...]:
    """All networks, or those that the variable EDGEC_NETWORKS lists."""
    names = os.environ.get("EDGEC_NETWORKS")
    return tuple(names.split(",")) if names else tuple(NETWORKS)
