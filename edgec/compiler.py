"""From a model to an artifact: the way through the whole compiler, one line a step."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgec import (
    __version__,
    artifact,
    buildfiles,
    device,
    interp,
    log,
    pipeline,
    report,
    samples,
)
from edgec.buildfiles import BuildSpec
from edgec.cost import cost
from edgec.errors import TargetError, UserError
from edgec.frontends import DecoderOptions
from edgec.ir import Array, Program
from edgec.passes.fit import kib
from edgec.passes.low_precision import Journal
from edgec.passes.trainables import layers_of
from edgec.pipeline import Options
from edgec.plan import Gpu, Kernel, Plan, Target
from edgec.training import ordered_floats
from edgec.training import report as train_report
from edgec.training.learned import learned_of
from edgec.training.options import APPLY, TRAIN_STEP
from edgec.training.ram import kept_bytes, lesser
from edgec.training.stability import stable_steps

GOLDEN_SAMPLES: Final = 4
RANDOM_SAMPLES: Final = 8
MAX_CALIBRATED_ELEMENTS: Final = 1 << 26
Calibration = Mapping[str, Array] | str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Request:
    """What to compile: the model (a path, a module or an exported program), for which target, and how.

    `calib`: arrays by input name, the path of an .npz with them, or "random". `factory`: package.module:function
    for a state dict. `name`: C name of the model; made from the file's name where None. `decoder`: context and
    prefill lengths of a language model.
    """

    model: Any
    target: str
    options: Options = field(default_factory=Options)
    calib: Calibration = None
    example_inputs: tuple[Any, ...] | None = None
    factory: str | None = None
    trust: bool = False
    name: str | None = None
    seed: int = 0
    decoder: DecoderOptions = field(default_factory=DecoderOptions)


@dataclass(frozen=True, slots=True)
class Transformed:
    """The Program after every graph pass, what it was before, and the inputs that calibrated it."""

    trace: pipeline.Trace
    arrays: Mapping[str, Array]  # in the user's layout
    made_up: bool
    journal: Journal = field(default_factory=Journal)
    gpu: Gpu | None = None

    @property
    def program(self) -> Program:
        """What is lowered."""
        return self.trace.program


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything known after planning."""

    name: str
    target: Target
    target_text: str
    options: Options
    source_hash: str
    done: Transformed
    plan: Plan


@dataclass(frozen=True, slots=True)
class Golden:
    """Raw device bytes that `steps` read, one sample after the other, and those that they must write."""

    inputs: bytes
    outputs: bytes
    steps: device.Steps


def transform(request: Request, imported: Program | None = None) -> Transformed:
    """Import, where it is not yet, and run every graph pass: all that does not depend on the target, but for its GPU,
    which has passes of its own and the roofline by which w8a8 and w4a16 choose their layers. Raises UserError."""
    program = load(request) if imported is None else imported
    options = settled(request)
    _refuse_huge(program, _calibrated(options))
    arrays, made_up = calibration(request, program)
    gpu = _gpu(request.target)
    journal = Journal()
    steps = pipeline.graph_steps(options, arrays, gpu, journal)
    return Transformed(pipeline.run(program, steps, options, arrays), arrays, made_up, journal, gpu)


def settled(request: Request) -> Options:
    """The options with what they leave open: w8a8 smooths and w4a16 uses AWQ where there is a calibration."""
    options, given = request.options, request.calib is not None
    smooth = (
        ("auto" if given and options.precision == "w8a8" else "off")
        if options.smooth is None
        else options.smooth
    )
    awq = given and options.precision == "w4a16" if options.awq is None else options.awq
    return replace(options, smooth=smooth, awq=awq)


def _calibrated(options: Options) -> bool:
    """Whether the network runs on samples before it is rounded."""
    return options.precision == "int8" or bool(options.awq) or options.smooth not in (None, "off")


def _gpu(target: str) -> Gpu | None:
    from edgec.targets.load import load_target

    return load_target(target).gpu


def plan(request: Request) -> Compiled:
    """Import, transform and plan; generates no code. Raises UserError and TargetError."""
    from edgec.targets.load import load_target, target_file

    target = load_target(request.target)  # first: a misspelt target should not cost an import of torch
    text = target_file(request.target).read_text(encoding="utf-8")
    done = transform(request)
    name = chosen_name(request)
    with log.step("plan") as notes:
        fits = partial(_what_fits, done, request.options, target)
        planned = pipeline.lower(done.program, target, request.options, kernels_of(target), name, fits)
        notes.append(", ".join(f"{a.memory} {a.bytes:,} B" for a in planned.arenas))
    return Compiled(name, target, text, settled(request), _source_hash(request.model), done, planned)


def _what_fits(done: Transformed, options: Options, target: Target) -> str:
    """What less to train would fit into --train-ram, and the RAM it takes; "" for nothing."""
    names = [name for name, _ in done.trace.after]
    _, untrained = done.trace.after[names.index("train") - 1]
    layers = len(layers_of(untrained.graphs[0]))
    for title, spec in lesser(options.train, layers):
        smaller = replace(options, train=spec, stages=None)
        program = untrained
        for step in pipeline.graph_steps(smaller, done.arrays):
            program = step.run(program) if step.name in ("train", "schedule") else program
        try:
            plan = pipeline.lower(program, target, smaller, kernels_of(target), "smaller")
        except TargetError:
            continue
        return f"{title} ({kib(sum(a.bytes for a in plan.arenas) + kept_bytes(target))})"
    return ""


def default_precision(target: str) -> pipeline.Precision:
    """int8 for a microcontroller, fp16 for a GPU. Raises UserError where there is no such target."""
    from edgec.targets.load import load_target

    return "fp16" if load_target(target).family == "cuda" else "int8"


def kernels_of(target: Target) -> tuple[Kernel, ...]:
    """The kernel table of the target's family."""
    if target.family == "cuda":
        from edgec.backends import kernels_cuda

        return kernels_cuda.KERNELS
    from edgec.backends import kernels_c

    return kernels_c.KERNELS


def _refuse_huge(program: Program, calibrated: bool) -> None:
    """Raise TargetError where an input is too large to make samples of, or a value too large to calibrate (the
    interpreter holds it in float64)."""
    for graph in program.graphs:
        types = program.type_of(graph) if calibrated else {v.name: v.type for v in graph.inputs}
        for name, t in types.items():
            if name[0] not in "@$" and t.size > MAX_CALIBRATED_ELEMENTS:
                where = next((f" at {n.loc}" for n in graph.nodes if name in (v.name for v in n.outputs)), "")
                raise TargetError(
                    "EDGEC-E506",
                    f"make the tensor smaller: {name} {list(t.dims)}{where} has {t.size:,} elements, calibration "
                    f"takes at most {MAX_CALIBRATED_ELEMENTS:,}; no microcontroller holds more",
                )


def load(request: Request) -> Program:
    """The Program of the request's model."""
    from edgec.frontends import LoadOptions
    from edgec.frontends import load as load_model

    with log.step("import") as notes:
        options = LoadOptions(request.example_inputs, request.factory, request.trust, decoder=request.decoder)
        program = load_model(request.model, options)
        for graph in program.graphs:
            found = cost(program, graph)
            size = f"{found.macs:,} MACs, {found.weight_bytes:,} B of constants"
            notes.append(f"{graph.name}: {len(graph.nodes)} nodes, {size}")
    return program


def calibration(request: Request, program: Program) -> tuple[Mapping[str, Array], bool]:
    """(inputs in the user's layout by label, whether they are made up). What calibrates wants real ones or "random"."""
    graph = program.graphs[0]
    types = {v.name: v.type for v in graph.inputs}
    given = request.calib
    if isinstance(given, (str, os.PathLike)) and str(given) != "random":
        given = samples.read_npz(Path(given), "calibration file")
    if isinstance(given, Mapping):
        samples.to_device(given, graph.input_ports, types, "the calibration")  # refuses what does not fit
        return given, False
    precision = request.options.precision
    if given is None and _calibrated(settled(request)):
        cure = {"w8a8": "--smooth off", "w4a16": "--no-awq"}.get(precision, "--precision fp32")
        names = ", ".join(f"{p.label} {list(samples.user_shape(p, types[p.ref]))}" for p in graph.input_ports)
        raise UserError(
            "EDGEC-E220",
            f"give --calib FILE.npz with typical inputs ({names}), or {cure}, or --calib random for "
            f"made-up ranges: {precision} needs the ranges of activations",
        )
    return samples.random_samples(graph.input_ports, types, RANDOM_SAMPLES, request.seed), True


def model_name(model: Any) -> str:
    """A C name for the model: of its file, or of its class, or what a user's name for it leaves."""
    from edgec.backends.ctext import identifier
    from edgec.build import safe_name

    stem = Path(model).stem if isinstance(model, (str, os.PathLike)) else type(model).__name__
    return identifier(safe_name(stem)).lower()


def chosen_name(request: Request) -> str:
    """The C name that the user chose, or one made from the model's. Raises UserError EDGEC-E204."""
    if request.name is None and request.model == "-" and request.factory:
        module, _, function = request.factory.rpartition(":")
        return model_name(module.rpartition(".")[2] if function == "factory" else function)
    if request.name is None:
        return model_name(request.model)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}", request.name):
        raise UserError(
            "EDGEC-E204",
            "name the model with letters, digits and _, a letter first, at most 60 (such as "
            f"{model_name(request.name)[:60]}): {request.name[:80]!a} cannot stand in C",
        )
    return request.name


def _source_hash(model: Any) -> str:
    if not isinstance(model, (str, os.PathLike)) or not Path(model).is_file():
        return ""
    with open(model, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def golden(compiled: Compiled, count: int = GOLDEN_SAMPLES) -> Golden:
    """What the interpreter makes of `count` samples an entry, entry after entry on one instance: state lives on.

    The first entry gets the calibration's samples, the others seeded ones.
    """
    program = compiled.done.program
    state: dict[str, Array] | None = None
    given, wanted, steps = [], [], []
    # Steps that learn come last: what follows them would hang on the last bits of their floats.
    order = sorted(range(len(program.graphs)), key=lambda i: program.graphs[i].name in (TRAIN_STEP, APPLY))
    for index in order:
        graph = program.graphs[index]
        sets = _golden_inputs(compiled, index, count)
        if graph.name == TRAIN_STEP and compiled.options.precision == "fp32":
            sets = sets[: stable_steps(program, graph, sets, state)]
        for inputs in sets:
            outputs, state = interp.run(program, graph, inputs, state)
            given += [inputs[v.name] for v in graph.inputs]
            wanted += [outputs[ref] for ref in graph.outputs]
        steps.append((index, len(sets)))
    return Golden(artifact.pack(given), artifact.pack(wanted), tuple(steps))


def _golden_inputs(compiled: Compiled, index: int, count: int) -> list[dict[str, Array]]:
    """Inputs by value name for each golden sample of the entry; none where a port's size is known only at run
    time, since the bytes beyond it are undefined."""
    program = compiled.done.program
    graph = program.graphs[index]
    known = program.type_of(graph)
    if any(known[ref].bounds for ref in (*(v.name for v in graph.inputs), *graph.outputs)):
        return []
    if not graph.inputs:
        return [{}] * count
    types = {v.name: v.type for v in graph.inputs}
    arrays = compiled.done.arrays
    if index:
        arrays = samples.random_samples(graph.input_ports, types, count, index)
    return samples.to_device(arrays, graph.input_ports, types, "the calibration")[:count]


def write(compiled: Compiled, out: Path) -> None:
    """Generate code, golden vectors and report, and write the artifact folder."""
    if compiled.target.family == "cuda":
        from edgec.cuda import artifact as cuda_artifact

        cuda_artifact.write(compiled, out)
        return
    from edgec.backends import c, c_firmware, c_store
    from edgec.runtime_c import ROOT
    from edgec.training import firmware as training_firmware

    plan = compiled.plan
    with log.step("emit") as notes:
        origin = c.Origin(__version__, f"edgec compile --target {compiled.target.name}")
        learned = learned_of(compiled.done.program, compiled.options.train)
        files: dict[str, str | bytes] = dict(c.emit(plan, compiled.target, origin, learned))
        for source in c.sources(plan):
            files[f"src/{source}"] = (ROOT / source).read_text(encoding="utf-8")
        for header in sorted((ROOT / "include").glob("*.h")):
            files[f"src/include/{header.name}"] = header.read_text(encoding="utf-8")
        vectors = golden(compiled)
        files["golden/in.bin"], files["golden/out.bin"] = vectors.inputs, vectors.outputs
        spec = _spec(compiled, vectors.steps)
        files.update(buildfiles.build_files(compiled.target, spec, ROOT))
        if learned is not None:
            files |= c_store.emit(plan, c.head(plan, compiled.target, origin))
            files |= {**c_firmware.emit(plan, learned), **training_firmware.files(compiled.target, ROOT)}
        files["target.toml"] = compiled.target_text
        files["report.json"] = artifact.json_text(make_report(compiled))
        artifact.write(out, files, manifest(compiled, vectors.steps))
        notes.append(f"{len(files)} files")


def _spec(compiled: Compiled, golden_steps: device.Steps) -> BuildSpec:
    """What Makefile, CMakeLists.txt and linker scripts depend on."""
    comparable = golden_steps if _bits_are_numpys(compiled) else ()
    return build_spec(compiled.plan, comparable, compiled.options.train.ram_bytes)


def _bits_are_numpys(compiled: Compiled) -> bool:
    """Whether `make check` may compare bytes: outputs are integers, or floats that only a trained head makes of
    integers, which numpy adds up in the order of the kernels."""
    outputs = [p.type.dtype for entry in compiled.plan.entries for p in entry.outputs]
    if not any(t.is_float for t in outputs):
        return True
    learns = compiled.options.precision == "int8" and compiled.options.train.mode != "none"
    return learns and ordered_floats.are_numpys(compiled.done.program)


def build_spec(plan: Plan, golden_steps: device.Steps, ram_bytes: int | None = None) -> BuildSpec:
    """Likewise of a Plan alone. `golden_steps`: those whose bytes `make check` compares."""
    from edgec.backends import c
    from edgec.backends.ctext import identifier

    constants = sum(constant.data.nbytes for constant in plan.constants)
    kernels = (f"src/{source}" for source in c.sources(plan))
    return BuildSpec(
        identifier(plan.name),
        ("src/model.c", "src/weights.c", *kernels, "src/model_desc.c"),
        ("src", "src/include"),
        plan.arenas,
        constants,
        golden_steps,
        ram_bytes,
    )


def make_report(compiled: Compiled, fidelity: bool = True) -> dict[str, Any]:
    """The report as JSON. `fidelity`: measure it on the first two samples."""
    reference, program = compiled.done.trace.reference, compiled.done.program
    found = {}
    for graph in program.graphs[: int(fidelity)]:
        sets = []
        for p in (reference, program):
            g = p.graph(graph.name)
            types = {v.name: v.type for v in g.inputs}
            sets.append(samples.to_device(compiled.done.arrays, g.input_ports, types, "the calibration")[:2])
        found[graph.name] = report.fidelity(reference, program, graph.name, list(zip(*sets, strict=True)))
    made = report.build(compiled.plan, compiled.target, program, found, float_islands(compiled))
    rows = layer_choices(compiled)
    made |= {"linear_layers": rows} if rows else {}
    learns = train_report.build(compiled.plan, program, compiled.options.train)
    made |= {"training": learns} if learns is not None else {}
    if compiled.options.sensitivity:
        made["sensitivity"] = sensitivity_rows(compiled.done, compiled.options)
    return made


def sensitivity_rows(done: Transformed, options: Options) -> list[dict[str, Any]]:
    """The network's error with each layer rounded alone, the worst first; row 0 is that with all of them. Raises
    UserError EDGEC-E20B."""
    if options.precision not in ("int8", "w8a8", "w4a16"):
        raise UserError(
            "EDGEC-E20B",
            f"choose --precision int8, w8a8 or w4a16: {options.precision} rounds no layer for itself, there is no "
            "sensitivity to measure",
        )
    return [row.json() for row in pipeline.layer_sensitivity(done.trace, options, done.arrays)]


def chosen_layers(compiled: Compiled) -> dict[str, Any]:
    """What the manifest says of `layer_choices`."""
    rows = [{k: row[k] for k in ("entry", "layer", "became", "why")} for row in layer_choices(compiled)]
    return {"linear_layers": rows} if rows else {}


def layer_choices(compiled: Compiled) -> list[dict[str, Any]]:
    """What w8a8 and w4a16 made of each linear layer, and why; empty in the other precisions."""
    return choices_of(compiled.done, compiled.options)


def choices_of(done: Transformed, options: Options) -> list[dict[str, Any]]:
    """`layer_choices` before there is a plan."""
    from edgec.passes.low_precision import choices

    if options.precision not in ("w8a8", "w4a16"):
        return []
    reference = done.trace.reference
    how = pipeline.low_precision(reference, options, done.gpu)
    return choices(reference, done.trace.step("quantize"), how, done.journal)


def float_islands(compiled: Compiled) -> list[dict[str, str]]:
    """Nodes that run in float in an int8 network, each with its reason."""
    from edgec.passes.quantize import Scheme
    from edgec.passes.quantize import float_islands as islands

    if compiled.options.precision != "int8":
        return []
    scheme = Scheme(keep_float=frozenset(compiled.options.keep_float))
    found = islands(compiled.done.program, scheme, every=True)
    return [{"layer": str(i.loc), "op": i.op, "why": i.why} for i in found]


def _training(compiled: Compiled) -> dict[str, Any]:
    """What the manifest says of a network that learns: whose weights are its own, and how many classes labels have."""
    learned = learned_of(compiled.done.program, compiled.options.train)
    if learned is None:
        return {}
    hashes = {"graph_hash": learned.graph_hash[:16], "layout_hash": learned.layout_hash[:16]}
    plan, ram = compiled.plan, compiled.options.train.ram_bytes
    scratch = [
        plan.buffer(c.scratch.buffer).bytes for e in plan.entries for c in e.calls if c.scratch is not None
    ]
    return {
        "training": {
            **hashes,
            "classes": learned.classes,
            "scratch_bytes": max(scratch, default=0),
            "ram_limit_bytes": ram,
        }
    }


def manifest(compiled: Compiled, golden_steps: device.Steps) -> dict[str, Any]:
    """manifest.json without the files' hashes."""
    plan = compiled.plan
    machine = buildfiles.choose_emulator(compiled.target, _spec(compiled, golden_steps))
    hidden = ("stages", "check", *(("train",) if compiled.options.train.mode == "none" else ()))
    options = {k: v for k, v in asdict(compiled.options).items() if k not in hidden}
    return {
        **chosen_layers(compiled),
        "edgec": __version__,
        "name": compiled.name,
        "target": compiled.target.name,
        "options": options,
        "calibration": "made up" if compiled.done.made_up else "given",
        "model_sha256": compiled.source_hash,
        "macs": sum(call.macs for entry in plan.entries for call in entry.calls),
        "arenas": [
            {"memory": a.memory, "bytes": a.bytes, "persistent_bytes": a.persistent_bytes}
            for a in plan.arenas
        ],
        "constant_bytes": sum(c.data.nbytes for c in plan.constants),
        "golden_steps": [list(step) for step in golden_steps],
        **_training(compiled),
        "machine": machine.machine if machine is not None else None,
        "entries": [
            {
                "name": e.name,
                "inputs": [artifact.port_json(p) for p in e.inputs],
                "outputs": [artifact.port_json(p) for p in e.outputs],
            }
            for e in plan.entries
        ],
    }
