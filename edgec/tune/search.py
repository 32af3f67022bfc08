"""`edgec tune --train`: which parameters of a network should learn on the device, found on the user's own data.

First every part is trained alone (edgec/tune/contribution.py), then the scheme with the largest sum of contributions
within the budgets is searched (edgec/tune/evolution.py), then it is trained itself, so that its accuracy is measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from edgec import compiler, log
from edgec.compiler import Request
from edgec.errors import UserError
from edgec.ir import Array, DType, Port, Program, Type
from edgec.link import data as finetune_data
from edgec.link.data import LABEL, Ports
from edgec.passes.training_cost import TrainingCost, training_cost
from edgec.plan import Target
from edgec.report_html import write_whole
from edgec.text import show
from edgec.training.options import Scheme, TrainSpec, check_spec
from edgec.tune import contribution
from edgec.tune.contribution import Items, Staff
from edgec.tune.evolution import (
    HEAD_ONLY,
    Choice,
    Contributions,
    Found,
    Limit,
    impossible,
    refuse_impossible,
    search,
)
from edgec.tune.journal import Journal, Subject
from edgec.tune.training import Packed, Place, Training

RATIOS: Final = (0.125, 0.25, 0.5, 1.0)
HELD_OUT: Final = 0.2
CALIBRATING: Final = 64  # samples that calibrate int8, where --calib names none
ROUNDS: Final = 8  # plans that the search may ask for
CLOSE: Final = 256  # bytes: a budget used up to this is used


@dataclass(frozen=True, slots=True)
class Budgets:
    """`memory`: bytes; of all arenas of the firmware for `target`, or without one of what training adds by the sums
    of passes/training_cost.py. `instructions` of the backward pass, an estimate; None: any number."""

    memory: int
    target: Target | None = None
    instructions: int | None = None


@dataclass(frozen=True, slots=True)
class Measuring:
    """What is measured and how: `biases` (counts) and `layers` (names) that are tried, None: all; `repeats`: seeds
    a fine-tuning; `data` and `test`: .npz files or folders of samples."""

    data: Path
    test: Path | None = None
    biases: tuple[int, ...] | None = None
    layers: tuple[str, ...] | None = None
    ratios: tuple[float, ...] = RATIOS
    epochs: int = 1
    repeats: int = 1
    place: Place = "host"
    staff: Staff = field(default_factory=Staff)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came out. `accuracy` of every choice that was trained, as a share; `memory_bytes` counts as the budget
    does."""

    cost: TrainingCost
    items: Items
    accuracy: Mapping[Choice, float]
    contributions: Contributions
    found: Found
    memory_bytes: int
    left_out: tuple[str, ...]

    @property
    def scheme(self) -> Scheme:
        """As a scheme file holds it."""
        return self.cost.scheme(self.found.choice)


def journal_path(out: Path) -> Path:
    """Where the journal of this scheme file stands."""
    return out.with_name(out.name + ".journal")


def tune(
    request: Request, spec: TrainSpec, measuring: Measuring, budgets: Budgets, out: Path, resume: bool
) -> Tuned:
    """Measure, search, train the result and write the scheme to `out`. Results so far stay in `journal_path(out)`.

    Raises UserError and TargetError; what was measured until then is kept.
    """
    training = _training(request, check_spec(spec), measuring)
    items, left_out = _items(training, measuring, request.seed)
    for line in left_out:
        log.say(f"left out: {line}")
    _refuse_impossible(training, items, budgets)  # before hours of measuring
    subject = _subject(training, items)
    with Journal.open(journal_path(out), subject, resume) as journal:
        accuracy = contribution.measure(items, items.choices, training, journal, measuring.staff)
        table = contribution.contributions(items, accuracy)
        with log.step("search") as notes:
            found, taken = _searched(training, table, budgets, request.seed)
            notes.append(
                f"{found.seen:,} schemes, contributions of {100 * found.total:.1f} points in {taken:,} B"
            )
        last = contribution.measure(items, (found.choice,), training, journal, measuring.staff)
    tuned = Tuned(training.cost, items, {**accuracy, **last}, table, found, taken, left_out)
    write_whole(out, scheme_text(tuned).encode())
    return tuned


def _training(request: Request, spec: TrainSpec, measuring: Measuring) -> Training:
    """The network and the samples, ready to train."""
    imported = compiler.load(request)
    ports = _ports(imported, spec)
    arrays, test = finetune_data.read(measuring.data, ports)
    if measuring.test is not None:
        test = finetune_data.read(measuring.test, ports)[0]
    # Before calibration, which may take long, and again as the quantised network takes them.
    count = len(finetune_data.to_device(arrays, ports, str(measuring.data)))
    if request.calib is None:
        request = replace(request, calib=_calibrating(arrays, count))
    head = replace(spec, mode="head", scheme=None)
    trace = compiler.transform(replace(request, options=replace(request.options, train=head)), imported).trace
    program = trace.step("quantize") if request.options.precision == "int8" else trace.reference
    ports = _ports(program, spec)
    samples = finetune_data.to_device(arrays, ports, str(measuring.data))
    if test is None:
        samples, held_out = finetune_data.split(samples, HELD_OUT, request.seed)
    else:
        held_out = finetune_data.to_device(test, ports, str(measuring.test or measuring.data))
    cost = training_cost(program, program.graphs[0])
    return Training(Packed.of(program), cost, spec, samples, held_out, measuring.epochs, measuring.place)


def _calibrating(arrays: Mapping[str, Array], count: int) -> dict[str, Array]:
    """At most CALIBRATING of the `count` samples, evenly spread."""
    inputs = {name: np.asarray(array) for name, array in arrays.items() if name != LABEL}
    if count <= CALIBRATING:
        return inputs
    chosen = np.arange(CALIBRATING) * count // CALIBRATING
    return {name: array[chosen] for name, array in inputs.items()}


def _ports(program: Program, spec: TrainSpec) -> Ports:
    """What a training step of the Program takes."""
    graph = program.graphs[0]
    types = program.type_of(graph)
    logits = types[graph.outputs[0]]
    assert spec.loss == "cross-entropy"  # another has no accuracy to compare
    rows = logits.size // logits.dims[-1] if logits.dims else 1
    label = Port(LABEL, LABEL, (0,)), Type((rows,), DType.I32)
    inputs = tuple((port, types[port.ref]) for port in graph.input_ports)
    return Ports(inputs, label, logits.dims[-1] if logits.dims else 1)


def _items(training: Training, measuring: Measuring, seed: int) -> tuple[Items, tuple[str, ...]]:
    """What is fine-tuned, and why some of what was asked for is left out. Raises UserError EDGEC-E274 for unknown
    layers, E275 for counts out of range."""
    cost = training.cost
    body = len(cost.body)
    counts = (
        tuple(sorted(set(measuring.biases))) if measuring.biases is not None else tuple(range(1, body + 1))
    )
    if any(not 0 < k <= body for k in counts):
        raise UserError(
            "EDGEC-E275",
            f"give --biases from 1 to {body}, the layers before the head: {max(counts)} is out of range",
        )
    left_out = []
    while counts and (why := training.learns(Choice(counts[-1]))) is not None:
        left_out.append(f"biases of the last {counts[-1]} layers: {why.message}")
        counts = counts[:-1]
    base = Items(counts, (), contribution.seeds(seed, measuring.repeats))
    slices: list[tuple[int, float]] = []
    for number in cost.numbers(measuring.layers) if measuring.layers is not None else range(body):
        layer, ratios = cost.layers[number], _distinct(cost, number, measuring.ratios)
        if not layer.named:
            left_out.append(f"weights of {layer.title}: several layers have this name")
        elif (why := training.learns(base.beside((number, ratios[0])))) is not None:
            left_out.append(f"weights of {layer.title}: {why.message}")
        else:
            slices += [(number, r) for r in ratios]
    return replace(base, slices=tuple(slices)), tuple(left_out)


def _distinct(cost: TrainingCost, number: int, ratios: Sequence[float]) -> list[float]:
    """Of ratios that train the same number of channels the smallest; 1 alone where the layer has no slices."""
    layer = cost.layers[number]
    if not layer.sliced:
        return [1.0]
    by_count: dict[int, float] = {}
    for ratio in sorted(ratios):
        by_count.setdefault(layer.trained_channels(ratio), ratio)
    return list(by_count.values())


def _subject(training: Training, items: Items) -> Subject:
    """Hashes of what the accuracies depend on. Budgets, items and workers are not among it: what was measured once is
    of use to any of them."""
    packed = training.packed.program()
    digests = [f"{n} {c.digest}" for n, c in sorted(packed.constants.items())]
    data = (training.samples, training.held_out)
    parts = [part for s in data for part in (*s.inputs, b"|", *s.labels, b"|")]
    spec = {k: v for k, v in asdict(training.spec).items() if k not in ("mode", "scheme", "count", "seed")}
    options = {**spec, "epochs": training.epochs, "on": training.place, "beside": items.most}
    return Subject(
        _sha256(show(packed).encode(), *(d.encode() for d in digests)),
        _sha256(*parts),
        _sha256(json.dumps(options, sort_keys=True).encode()),
    )


def _sha256(*parts: bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()


def _limits(training: Training, budgets: Budgets) -> tuple[Limit, ...]:
    """What the sums must keep: memory where no target plans it, and instructions."""
    cost = training.cost
    limits: tuple[Limit, ...] = ()
    if budgets.target is None:
        limits = (Limit("--memory", "bytes", budgets.memory, cost.extra_bytes),)
    if budgets.instructions is not None:
        limits += (Limit("--instructions", "instructions", budgets.instructions, cost.instructions),)
    return limits


def _refuse_impossible(training: Training, items: Items, budgets: Budgets) -> None:
    """Raise TargetError EDGEC-E511 where the budgets do not even hold the head."""
    table = Contributions(dict.fromkeys(items.biases, 0.0), dict.fromkeys(items.slices, 0.0))
    refuse_impossible(table, _limits(training, budgets))
    if budgets.target is None:
        return
    cost, head = training.cost, training.planned_bytes(HEAD_ONLY, budgets.target)
    if head > budgets.memory:
        cheapest = min(table.parts, key=cost.extra_bytes, default=HEAD_ONLY)
        limit = Limit("--memory", "bytes", budgets.memory, cost.extra_bytes)
        raise impossible(limit, head, training.planned_bytes(cheapest, budgets.target))


def _searched(training: Training, table: Contributions, budgets: Budgets, seed: int) -> tuple[Found, int]:
    """The best scheme within the budgets, and its memory as the budget counts it."""
    limits = _limits(training, budgets)
    if budgets.target is None:
        found = search(table, limits, seed)
        return found, training.cost.extra_bytes(found.choice)
    return _searched_by_plan(training, table, budgets, limits, seed)


def _searched_by_plan(
    training: Training, table: Contributions, budgets: Budgets, other: tuple[Limit, ...], seed: int
) -> tuple[Found, int]:
    """The search goes by sums, which take microseconds, and the plan corrects what they may reach: a plan adds what
    lives beside the trained parts, and hides some of them under the forward pass."""
    cost, target = training.cost, budgets.target
    assert target is not None
    planned = {HEAD_ONLY: training.planned_bytes(HEAD_ONLY, target)}
    room = budgets.memory - planned[HEAD_ONLY]
    best = Found(HEAD_ONLY, 0.0, (), 0)
    low, high = cost.extra_bytes(HEAD_ONLY), None  # sums that fit, and do not
    for _ in range(ROUNDS):
        allowed = low + room if high is None or low + room < high else (low + high) // 2
        found = search(table, (Limit("--memory", "bytes", allowed, cost.extra_bytes), *other), seed)
        if found.choice not in planned:
            planned[found.choice] = training.planned_bytes(found.choice, target)
        if planned[found.choice] > budgets.memory:
            high = allowed
        else:
            low, room = allowed, budgets.memory - planned[found.choice]
            best = max(best, found, key=lambda f: f.total)
        if room < CLOSE or (high is not None and high - low < CLOSE):
            break
    return best, planned[best.choice]


def scheme_text(tuned: Tuned) -> str:
    """The scheme as TOML, with what was measured as comments."""
    choice, accuracy = tuned.found.choice, tuned.accuracy
    lines = [
        f"# accuracy on held-out data: {_percent(accuracy[choice])}; the head alone {_percent(accuracy[HEAD_ONLY])}, "
        f"with the last {tuned.items.most} biases {_percent(accuracy[Choice(tuned.items.most)])}",
        f"biases = {choice.biases}",
    ]
    for part, ratio in zip(tuned.scheme.weights, (r for _, r in choice.slices), strict=True):
        named = f"layer = {_toml(part.layer)}" if part.layer is not None else f"conv = {part.conv}"
        lines += ["", "[[weights]]", named, f'ratio = "{Fraction(ratio)}"']
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """A TOML basic string."""
    plain = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(plain) + '"'


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
