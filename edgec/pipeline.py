"""The compiler, in order. `graph_steps` is the one list of passes; `lower` is what follows it.

An order that matters has its reason beside it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from edgec import interp, log
from edgec.backends.cuda_blocks_s8 import find_blocks
from edgec.errors import InternalError, UserError
from edgec.ir import Array, DType, Pass, Program
from edgec.passes.attention_places import attention_places
from edgec.passes.bias_correct import bias_correct
from edgec.passes.cache_places import cache_places
from edgec.passes.calibrate import Ranges, calibrate
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.dead import remove_dead
from edgec.passes.equalize import equalize
from edgec.passes.fit import check_device_memory, check_flash, check_training_ram
from edgec.passes.fold import fold, fold_between_layers
from edgec.passes.fuse import fuse
from edgec.passes.fuse_w4 import fuse_w4
from edgec.passes.half import half
from edgec.passes.join_blocks import join_blocks
from edgec.passes.join_cells import join_cells
from edgec.passes.join_epilogues import join_epilogues
from edgec.passes.join_loops import join_loops
from edgec.passes.layout import layout
from edgec.passes.legalize import legalize
from edgec.passes.low_precision import Journal, LowPrecision, prepare, round_layers
from edgec.passes.memory import lay_out, plan_memory
from edgec.passes.merge_linears import merge_linears, merge_projections
from edgec.passes.norm_gain import norm_gain
from edgec.passes.quantize import Scheme, quantize
from edgec.passes.recognise_attention import recognise_attention
from edgec.passes.recognise_linear_attention import recognise_linear_attention
from edgec.passes.recognise_windows import recognise_windows
from edgec.passes.rotary import rotary
from edgec.passes.schedule import schedule
from edgec.passes.sensitivity import Sensitivity, sensitivity
from edgec.passes.simplify import simplify
from edgec.passes.smooth import Smoothing, smooth
from edgec.passes.straight_through import integers
from edgec.passes.stream import stream
from edgec.passes.train import train
from edgec.passes.trainables import layers_of
from edgec.plan import Gpu, Kernel, Plan, Target
from edgec.samples import to_device, value_to_user
from edgec.text import show
from edgec.training.options import NOT_TRAINED, TRAIN_STEP, TrainSpec
from edgec.training.ram import kept_bytes
from edgec.verify import verify
from edgec.verify_plan import verify_plan

Precision = Literal["int8", "fp32", "fp16", "bf16", "w8a8", "w4a16"]
# What floats become; in w8a8 and w4a16 those beside the rounded weights.
HALVES: Final = {"fp16": DType.F16, "bf16": DType.BF16, "w8a8": DType.F16, "w4a16": DType.F16}
# Steps after which the network is not the float one.
ROUNDING: Final = ("awq", "quantize", "half", "fuse w4", "train", "schedule")
LOGITS: Final = 8.0  # logits of +-8 tell two classes apart with a probability of 1 - 1e-7
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose. `ram_bytes` and `flash_bytes` override the target's budget; None leaves it.
    `keep_float`: layers of the user's model that stay in float. `smooth`: alpha, "auto" or "off"; `awq`, `group`,
    `symmetric`: of 4-bit weights; `quantize_head`: in w8a8 and w4a16 the head's weights are rounded, too. None: as
    `compiler.settled` says. `sensitivity`: the report compares the network with each layer rounded alone. `train`:
    what learns on the device."""

    precision: Precision = "int8"
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax"
    equalize: bool = False
    bias_correct: bool = False
    keep_float: tuple[str, ...] = ()
    smooth: float | Literal["auto", "off"] | None = None
    awq: bool | None = None
    group: int = 128
    symmetric: bool = False
    quantize_head: bool = False
    sensitivity: bool = False
    train: TrainSpec = NOT_TRAINED
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    stream: Literal["auto", "off", "all"] = "auto"
    stages: Path | None = None
    check: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A named pass of the pipeline. `exact`: it keeps the graph's numbers (to rounding), so `--check` may
    hold it."""

    name: str
    run: Pass
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Trace:
    """The Program after the import and after each step that changed it, by name."""

    after: tuple[tuple[str, Program], ...]

    @property
    def program(self) -> Program:
        """The last one."""
        return self.after[-1][1]

    @property
    def reference(self) -> Program:
        """The last one in float32: what quantisation and half precision are measured against."""
        return [program for name, program in self.after if name not in ROUNDING][-1]

    def step(self, name: str) -> Program:
        """The Program after this step, the reference where it changed nothing."""
        return dict(self.after).get(name, self.reference)


def float_steps(learns: bool = False) -> tuple[Step, ...]:
    """Passes that keep the float network's meaning. `learns`: in float, so that layers of constants stay."""
    folded = fold_between_layers if learns else fold
    return (
        Step(
            "legalize", partial(legalize, folded=folded)
        ),  # first: later passes know only the ops that kernels have
        Step("fold", folded),  # batch norms vanish into convolutions before anything looks at ranges
        Step("norm gain", norm_gain),  # after legalize, which makes rms_norm
        Step("rotary", rotary),  # before layout, which would move the transposes beside a rotation
        Step("merge linears", merge_linears),  # before the places: they point into the merged result
        Step("cache places", cache_places),  # after rotary and before layout: reads through its transposes
        Step("layout", layout),  # after fold: a folded batch norm no longer stands between transposes
        Step("simplify", simplify),  # after layout: removes the pairs of transposes and reshapes it left
        Step("fold again", folded),  # simplify exposes constants behind reshapes
        # After layout and fold: transposes have one form, a mask's parts are constants. Before fuse: it would put
        # activations into the products.
        Step("attention", recognise_attention),
        Step("fuse", fuse),  # last: a convolution and its clamp become one node, which calibration must see
        Step("dead", remove_dead),
    )


def gpu_steps(options: Options) -> tuple[Step, ...]:
    """Passes for backends whose kernels take whole attentions where their operands stand."""
    linear = Step("linear attention", recognise_linear_attention)
    cells = Step("cells", join_cells)
    if options.precision == "int8":
        return (cells, linear)  # integer attention has operands of its own; these forms would stay in float
    return (
        cells,
        linear,
        # Before the places: they point into the merged result.
        Step("merge projections", merge_projections),
        Step("windows", recognise_windows),  # before the places: it moves projections out of the windows
        Step("attention places", attention_places),  # last: what no window took reads its projections
    )


def graph_steps(
    options: Options, arrays: Arrays, gpu: Gpu | None = None, journal: Journal | None = None
) -> tuple[Step, ...]:
    """Every pass from the imported Program to the one that is lowered. `arrays` calibrate, in the user's layout;
    `gpu`: of the target; `journal` is told what w8a8 and w4a16 made of each layer."""
    steps = float_steps(learns=options.train.mode != "none" and options.precision == "fp32")
    if options.equalize:
        steps += (Step("equalize", equalize),)  # before calibration: it changes the ranges
    if options.precision in ("w8a8", "w4a16"):
        steps += _low_steps(options, arrays, gpu, journal or Journal())
    if gpu is not None:
        steps += gpu_steps(options)  # after the folds of scales, which know attention
    if options.precision == "int8":
        if options.smooth not in (None, "off"):  # before calibration, too
            steps += (Step("smooth", partial(_smooth, arrays=arrays, options=options)),)
        steps += (Step("quantize", partial(_quantize, arrays=arrays, options=options), exact=False),)
    if options.precision in HALVES:
        # After everything that computes with weights, so that each is rounded once.
        steps += (Step("half", partial(half, dtype=HALVES[options.precision]), exact=False),)
    if options.precision == "w4a16":
        # After half: what becomes one node is no longer rounded in between.
        steps += (Step("fuse w4", fuse_w4, exact=False),)
    if options.train.mode != "none":
        steps += _train_steps(options, gpu)
    # Last: nothing may add a buffer after it. A training step comes in order, and is too large to search.
    return (*steps, Step("schedule", partial(schedule, keep=(TRAIN_STEP,))))


def _train_steps(options: Options, gpu: Gpu | None) -> tuple[Step, ...]:
    """The pass that adds the graphs that learn. Raises UserError EDGEC-E24A where this network cannot."""
    if gpu is not None or options.precision not in ("int8", "fp32"):
        raise UserError(
            "EDGEC-E24A",
            "compile with --precision int8 or fp32 for a microcontroller or the host, or without --train: "
            f"{options.precision} does not learn on {'a GPU' if gpu is not None else 'a device'}",
        )
    spec = options.train
    if spec.head == "int8" and options.precision != "int8":
        raise UserError(
            "EDGEC-E24A",
            "give --precision int8 with --head int8, or leave --head out: in "
            f"{options.precision} no layer has integers",
        )
    how = integers(spec.gradients, spec.rounding, spec.seed) if options.precision == "int8" else None
    return (
        Step("train", partial(train, spec=spec, integers=how)),
    )  # after quantize: it knows integer layers


def _quantize(program: Program, *, arrays: Arrays, options: Options) -> Program:
    samples = _samples(program, arrays)
    scheme = Scheme(keep_float=kept_layers(program, options) | _float_head(program, options))
    ranges = _with_room(program, calibrate(program, samples, options.calibration), options.train)
    quantized = quantize(program, ranges, scheme)
    return bias_correct(program, quantized, samples) if options.bias_correct else quantized


def _float_head(program: Program, options: Options) -> frozenset[str]:
    """The last layer where it learns in float: no output has a scale that logits could leave."""
    if options.train.mode == "none" or options.train.head == "int8":
        return frozenset()
    return frozenset(n.loc.layer for n in layers_of(program.graphs[0])[-1:] if n.loc.layer)


def _with_room(program: Program, ranges: Ranges, spec: TrainSpec) -> Ranges:
    """The ranges with that of an int8 head's logits from -LOGITS to LOGITS at least: calibration saw those of the
    network before it learns."""
    if spec.mode == "none" or spec.head != "int8" or spec.loss == "mse":
        return ranges
    graph = program.graphs[0]
    wide = dict(ranges.of)
    for node in layers_of(graph)[-1:]:
        key = graph.name, node.outputs[0].name
        low, high = wide[key]
        wide[key] = min(low, -LOGITS), max(high, LOGITS)
    return replace(ranges, of=wide)


def _samples(program: Program, arrays: Arrays) -> list[dict[str, Array]]:
    graph = program.graphs[0]
    return to_device(arrays, graph.input_ports, program.type_of(graph), "the calibration")


def _smooth(program: Program, *, arrays: Arrays, options: Options) -> Program:
    assert options.smooth is not None and options.smooth != "off"
    how = Smoothing(options.smooth, "tensor", keep=kept_layers(program, options))
    return smooth(program, _samples(program, arrays), how)[0]


def low_precision(program: Program, options: Options, gpu: Gpu | None) -> LowPrecision:
    """How w8a8 and w4a16 treat `program`. AWQ and smoothing are off where the options leave them open."""
    assert options.precision in ("w8a8", "w4a16")
    return LowPrecision(
        options.precision,
        options.smooth or "off",
        bool(options.awq),
        options.group,
        options.symmetric,
        options.quantize_head,
        kept_layers(program, options),
        gpu,
    )


def _low_steps(options: Options, arrays: Arrays, gpu: Gpu | None, journal: Journal) -> tuple[Step, ...]:
    def make_easy(program: Program) -> Program:
        return prepare(program, _samples(program, arrays), low_precision(program, options, gpu), journal)

    def to_integers(program: Program) -> Program:
        rounded = round_layers(program, low_precision(program, options, gpu), journal)
        before, after = (sum(n.op == "linear" for g in p.graphs for n in g.nodes) for p in (program, rounded))
        stay = f"{len(journal.slower)} layers would be slower rounded; the report says why each one stays"
        log.say(f"{options.precision}: {before - after} of {before} linear nodes rounded; {stay}")
        return rounded

    prepared = options.awq if options.precision == "w4a16" else options.smooth not in (None, "off")
    clips = options.precision == "w4a16"  # a clipped weight is not what it was
    first = (Step("awq" if clips else "smooth", make_easy, exact=not clips),) if prepared else ()
    return (*first, Step("quantize", to_integers, exact=False))


def layer_sensitivity(trace: Trace, options: Options, arrays: Arrays) -> tuple[Sensitivity, ...]:
    """What rounding each layer alone does to the float network that was rounded (after smoothing or AWQ)."""
    reference = trace.step("awq")
    if options.precision == "int8":
        ranges = calibrate(reference, _samples(reference, arrays), options.calibration)
        own = frozenset(options.keep_float)
        return sensitivity(
            reference, arrays, lambda keep: quantize(reference, ranges, Scheme(keep_float=own | keep))
        )
    how = low_precision(reference, options, None)  # no target: also layers that would be slower
    return sensitivity(
        reference,
        arrays,
        lambda keep: round_layers(reference, replace(how, keep=how.keep | keep), Journal()),
    )


def kept_layers(program: Program, options: Options) -> frozenset[str]:
    """`options.keep_float`, every name of which is a layer of the program. Raises UserError EDGEC-E236."""
    layers = sorted({node.loc.layer for graph in program.graphs for node in graph.nodes if node.loc.layer})
    for name in options.keep_float:
        if name not in layers:
            near = difflib.get_close_matches(name, layers, n=3, cutoff=0.3) or layers[:3]
            raise UserError(
                "EDGEC-E236",
                f"name a layer of the model for --keep-float, such as {', '.join(near)}: {name!r} is none",
            )
    return frozenset(options.keep_float)


def run(program: Program, steps: Sequence[Step], options: Options, arrays: Arrays) -> Trace:
    """Apply `steps`, verifying after each; write stages and compare numbers where the options ask for it."""
    verify(program)
    _stage(options.stages, 0, "import", program)
    after = [("import", program)]
    for index, one in enumerate(steps, 1):
        with log.step(one.name) as notes:
            changed = one.run(program)
            if changed is program:
                continue
            verify(changed)
            notes.append(f"{_nodes(program)} -> {_nodes(changed)} nodes")
            _stage(options.stages, index, one.name, changed)
            if options.check and one.exact:
                _compare(program, changed, arrays, one.name)
            program = changed
            after.append((one.name, program))
    return Trace(tuple(after))


def _nodes(program: Program) -> int:
    return sum(len(g.nodes) for g in program.graphs)


def _stage(folder: Path | None, index: int, name: str, program: Program) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:02}_{name.replace(' ', '_')}.txt").write_text(show(program), encoding="utf-8")
    except OSError as error:
        raise UserError(
            "EDGEC-EB03", f"choose another folder for --stages: {folder} cannot be written ({error})"
        ) from error


def _compare(before: Program, after: Program, arrays: Arrays, name: str) -> None:
    """Run both on the first sample; an output that moved more than rounding explains is our bug."""
    old, new = outputs(before, arrays), outputs(after, arrays)
    for a, b in zip(old, new, strict=True):
        distance = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0))
        if distance > 1e-3 * max(1e-6, float(np.max(np.abs(a), initial=0.0))):
            raise InternalError(f"pass {name} changed the network's outputs by {distance:.3g}")


def outputs(program: Program, arrays: Arrays) -> list[Array]:
    """Outputs of the first graph for the first sample, in the user's layout and in float."""
    graph = program.graphs[0]
    types = program.type_of(graph)
    inputs = to_device(arrays, graph.input_ports, types, "the sample")[0]
    found, _ = interp.run(program, graph, inputs)
    return [value_to_user(found[p.ref], p, types[p.ref], raw=False) for p in graph.output_ports]


def output_snr(trace: Trace, arrays: Arrays) -> float:
    """Signal to noise of the outputs in dB against the float network's, at most 99, on the first sample."""
    wanted, found = (
        np.concatenate([np.asarray(y, np.float64).ravel() for y in outputs(p, arrays)])
        for p in (trace.reference, trace.program)
    )
    finite = np.isfinite(wanted) & np.isfinite(found)
    signal, noise = (float(np.square(x[finite]).sum()) for x in (wanted, wanted - found))
    if noise == 0.0 or signal == 0.0:
        return 99.0 if noise == 0.0 else 0.0
    return min(99.0, 10.0 * float(np.log10(signal / noise)))


def choose(program: Program, target: Target, options: Options, kernels: Sequence[Kernel], name: str) -> Plan:
    """The Plan with kernels and streams but without offsets."""
    # loops first: what reads a value several times then reads it in one call, which can be an epilogue
    plan = join_epilogues(join_loops(choose_kernels(program, target, kernels, name)))
    if target.family == "cuda":
        plan = join_blocks(plan, partial(find_blocks, target=target))
    if options.stream == "off" or target.family == "cuda":  # no CUDA kernel works row by row
        return plan
    return stream(plan, target, arena_budget(target, options), options.stream)


def arena_budget(target: Target, options: Options) -> int | None:
    """What --ram, and --train-ram less stack and data of the firmware, leave to the arenas; None: the target says."""
    given = [] if options.ram_bytes is None else [options.ram_bytes]
    if options.train.ram_bytes is not None:
        given.append(max(0, options.train.ram_bytes - kept_bytes(target)))
    return min(given, default=None)


def lower(
    program: Program,
    target: Target,
    options: Options,
    kernels: Sequence[Kernel],
    name: str,
    what_fits: Callable[[], str] | None = None,
) -> Plan:
    """The planned Plan. Raises TargetError where it does not fit; `what_fits` says what less to train would."""
    chosen = choose(program, target, options, kernels, name)
    total = options.train.ram_bytes
    if total is not None:
        check_training_ram(
            lay_out(chosen, target, arena_budget(target, options))[0], target, total, what_fits or str
        )
    plan = plan_memory(chosen, target, arena_budget(target, options))
    verify_plan(plan, target)
    weights = sum(c.data.nbytes for c in plan.constants)
    if target.family == "cuda":
        check_device_memory(target, sum(a.bytes for a in plan.arenas), weights)
    check_flash_of(plan, target, options, weights)
    return plan


def check_flash_of(plan: Plan, target: Target, options: Options, needed: int) -> None:
    """Raise TargetError EDGEC-E502 where `needed` bytes exceed the flash."""
    largest = sorted(((c.name, c.data.nbytes) for c in plan.constants), key=lambda c: -c[1])
    if target.flash_bytes or options.flash_bytes is not None:  # the host has no flash
        check_flash(target, needed, largest, options.flash_bytes)


def ram_available(target: Target, options: Options) -> int:
    """Bytes that arenas may take: by --ram and --train-ram, or the target's RAM less what stack and data need."""
    budget = arena_budget(target, options)
    if budget is not None:
        return budget
    return sum(m.bytes for m in target.rams) - target.reserve_ram_bytes
