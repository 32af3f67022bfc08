"""Fine-tuning on a device: epochs over samples that go to its firmware one by one, loss and accuracy live, the curve as
JSON and picture, weights saved on the device.

`learn` drives any link.Link; `finetune` opens it for an artifact that was compiled with --train; weights that were
pulled from a device stand in an .npz that says whose they are.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec import log, samples
from edgec.errors import TargetError, UserError, cannot_write
from edgec.link import data as finetune_data
from edgec.link.data import Samples
from edgec.link.frame import HASH_BYTES
from edgec.link.host import CAN_EVALUATE, CAN_SAVE, Hello, Link, Step
from edgec.training.options import TRAIN_STEP

if TYPE_CHECKING:
    from edgec.artifact import Artifact

Data = finetune_data.Arrays | str | Path
MOST_REPLAY_STEPS: Final = 255
LABEL_ROOM: Final = 5  # bytes beside a label in a frame: its place in the replay buffer, one of the sample
HELD_OUT: Final = 0.1  # share of the data that tests, where no test data is given


@dataclass(frozen=True, slots=True)
class Options:
    """`rate`: the learning rate, None for the firmware's; `seed`: of the samples' order; `replay`: kept samples that
    each step repeats, where there are any; `save`: on the device, after each epoch; `factory`: begin with the
    factory weights."""

    epochs: int = 1
    rate: float | None = None
    seed: int = 0
    replay: int = 1
    save: bool = True
    factory: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss, and the share of labels that the largest output is (None where labels are no classes), in all and,
    where a sample has one, by class."""

    loss: float
    accuracy: float | None
    by_class: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Curve:
    """What came of it. `losses`: of each training step, before it; `epochs`: the test's score after each."""

    device: str
    model: str
    steps: int  # of the device, since its factory weights
    rate: float
    replay_kept: int
    replay_bytes: int
    replay_steps: int
    saved: bool
    before: Score
    epochs: tuple[Score, ...]
    training: tuple[Score, ...]  # of the same epochs, on the samples as they were learnt
    losses: tuple[float, ...]

    @property
    def after(self) -> Score:
        """The score at the end."""
        return self.epochs[-1] if self.epochs else self.before

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        made = asdict(self)
        made["after"] = asdict(self.after)
        return made


def check(options: Options) -> None:
    """Raise UserError E267 for options out of range."""
    for text, wrong in (
        (f"--epochs from 0 up, not {options.epochs}", options.epochs < 0),
        (
            f"--lr as a number from 0 up, not {options.rate}",
            options.rate is not None and not 0.0 <= options.rate < 3e38,
        ),
        (
            f"--replay-steps from 0 to {MOST_REPLAY_STEPS}, not {options.replay}",
            not 0 <= options.replay <= MOST_REPLAY_STEPS,
        ),
    ):
        if wrong:
            raise UserError("EDGEC-E267", f"give {text}")


def learn(
    link: Link, train: Samples, test: Samples, replay: Samples | None = None, options: Options | None = None
) -> Curve:
    """Train the device behind `link`, and test it before and after each epoch. Saves where `options` says so.

    The same samples, options and firmware give the same weights on every device. Raises TargetError E821 to E82D.
    """
    options = options or Options()
    check(options)
    device = link.device
    _check_device(link, device, train, options)
    if options.factory:
        link.reset()
    if options.rate is not None:
        link.set_rate(options.rate)
    kept = _fill_replay(link, device, replay, options)
    rate = link.stats().rate
    before = _score(link, test, "test before training")
    log.say(f"before       {_text(before)}")
    epochs, training, losses = [], [], []
    rng = np.random.default_rng(options.seed)
    for epoch in range(1, options.epochs + 1):
        order = rng.permutation(len(train)).tolist()
        learnt, steps = _epoch(link, train, order, f"epoch {epoch} of {options.epochs}", rate)
        losses += steps
        training.append(learnt)
        epochs.append(_score(link, test, f"test after epoch {epoch}"))
        log.say(f"epoch {epoch:<6} {_text(epochs[-1])}; while learning {_text(learnt)}")
        if options.save:
            link.save()
    return Curve(
        device=link.transport.name,
        model=device.name,
        steps=link.stats().steps,
        rate=rate,
        replay_kept=kept,
        replay_bytes=kept * (device.input_bytes + device.label_bytes),
        replay_steps=options.replay if kept else 0,
        saved=options.save and options.epochs > 0,
        before=before,
        epochs=tuple(epochs),
        training=tuple(training),
        losses=tuple(losses),
    )


def _check_device(link: Link, device: Hello, train: Samples, options: Options) -> None:
    """Raise TargetError where the firmware takes other samples, or cannot do what is asked."""
    sizes = (len(train.inputs[0]), len(train.labels[0]))
    if sizes != (device.input_bytes, device.label_bytes):
        raise TargetError(
            "EDGEC-E824",
            f"flash the firmware of this artifact: {link.transport.name} runs {device.name}, which takes "
            f"{device.input_bytes:,} + {device.label_bytes} bytes a sample and label; the data has {sizes[0]:,} + "
            f"{sizes[1]}",
        )
    if device.label_bytes + LABEL_ROOM > device.payload:
        raise TargetError(
            "EDGEC-E829",
            f"train through the C API (docs/training.md): a label of {device.label_bytes:,} bytes does not go over the "
            f"link to {link.transport.name}, whose frames hold {device.payload:,}",
        )
    missing = [
        name
        for name, bit, needed in (
            ("evaluate", CAN_EVALUATE, True),
            ("save (or give --no-save)", CAN_SAVE, options.save),
        )
        if needed and not device.flags & bit
    ]
    if missing:
        raise TargetError(
            "EDGEC-E829",
            f"flash a firmware that can {' and '.join(missing)}: {link.transport.name}'s cannot",
        )


def _fill_replay(link: Link, device: Hello, replay: Samples | None, options: Options) -> int:
    """Give the device's replay buffer samples of `replay`; how many it holds."""
    if replay is None or options.replay == 0:
        return 0
    if device.replay == 0:
        raise TargetError(
            "EDGEC-E829",
            f"flash a firmware with a replay buffer, or leave --replay out: {link.transport.name}'s has none",
        )
    chosen = finetune_data.spread(replay, device.replay, options.seed)
    for slot, (sample, label) in enumerate(zip(chosen.inputs, chosen.labels, strict=True)):
        link.keep(slot, sample, label)
    link.set_replay(options.replay)
    size = len(chosen) * (device.input_bytes + device.label_bytes)
    log.say(
        f"replay       {len(chosen)} of {len(replay)} samples kept on the device ({size:,} B of its RAM), "
        f"{options.replay} repeated after each new one: batches of {1 + options.replay}"
    )
    return len(chosen)


def _epoch(
    link: Link, train: Samples, order: Sequence[int], title: str, rate: float
) -> tuple[Score, list[float]]:
    """One pass over the samples; (score while learning, loss of each step)."""
    losses, correct = [], 0
    with log.live(title, len(order)) as tell:
        for i in order:
            step = _step(link, train, i, rate)
            losses.append(step.loss)
            correct += step.correct
            recent = losses[-100:]
            tell(f"loss {sum(recent) / len(recent):.4f}" + _share(train, correct, len(losses)))
    mean = sum(losses) / len(losses)
    return Score(mean, correct / (train.rows * len(losses)) if train.rows else None), losses


def _share(samples: Samples, correct: int, count: int) -> str:
    return f"  accuracy {100 * correct / (samples.rows * count):.1f} %" if samples.rows else ""


def _step(link: Link, train: Samples, i: int, rate: float) -> Step:
    try:
        return link.train(train.inputs[i], train.labels[i])
    except TargetError as error:
        if error.code != "EDGEC-E827":
            raise
        raise TargetError(
            "EDGEC-E82D",
            f"lower --lr (it is {rate:g}), or look at sample {train.numbers[i]} of {train.what}: "
            f"{error.message.partition(': ')[2]}; the weights are as before the step, those of this epoch were not "
            "saved",
        ) from None


def _score(link: Link, test: Samples, title: str) -> Score:
    """Loss and accuracy of all test samples."""
    losses: list[float] = []
    right: dict[int, list[int]] = {}
    with log.live(title, len(test)) as tell:
        for sample, label, of_class in zip(test.inputs, test.labels, test.classes, strict=True):
            loss, correct = link.evaluate(sample, label)
            losses.append(loss)
            right.setdefault(of_class, []).append(correct)
            tell("")
    mean = sum(losses) / len(losses)
    if test.rows == 0:
        return Score(mean, None)
    every = [c for found in right.values() for c in found]
    by_class = {k: sum(right[k]) / len(right[k]) for k in sorted(right)} if test.rows == 1 else {}
    return Score(mean, sum(every) / (test.rows * len(every)), by_class)


def _text(score: Score) -> str:
    accuracy = "" if score.accuracy is None else f", accuracy {100 * score.accuracy:.1f} %"
    return f"loss {score.loss:.4f}{accuracy}"


@dataclass(frozen=True, slots=True)
class Sets:
    """Samples: to learn; to test on (None: a tenth of those to learn); `replay`: old ones of which the firmware keeps
    at most `replay_samples` and repeats them, so that it does not forget."""

    data: Data
    test: Data | None = None
    replay: Data | None = None
    replay_samples: int = 64


@dataclass(frozen=True, slots=True)
class Files:
    """`push`: weights to begin with; where to write the weights, the curve as JSON, and its picture."""

    push: Path | None = None
    pull: Path | None = None
    curve: Path | None = None
    plot: Path | None = None


def finetune(
    made: Artifact,
    sets: Sets,
    on: str = "host",
    options: Options | None = None,
    files: Files | None = None,
) -> Curve:
    """Train the artifact's firmware on the host, on QEMU or at a serial port (PATH or PATH@BAUD).

    Raises UserError E269 for an artifact that does not learn, E26A and E26B for files, and what `learn` raises.
    """
    from edgec.training import firmware as training_firmware

    options, files = options or Options(), files or Files()
    check(options)
    if sets.replay_samples < 1:
        raise UserError("EDGEC-E267", f"give --replay-samples from 1 up, not {sets.replay_samples}")
    if files.plot is not None:
        refuse_plot(files.plot)  # first: training may take an hour
    _refuse_unwritable(files)
    ports = _ports(made)
    train_set, test_set = _samples(sets.data, sets.test, ports, options.seed)
    old = None if sets.replay is None else _read(sets.replay, ports, "the replayed data")[0]
    begin = None if files.push is None else read_weights(files.push)
    room = 0 if old is None else sets.replay_samples
    with closing(training_firmware.opened(made, on, room)) as transport:
        link = Link(transport)
        _check_firmware(link, made)
        if begin is not None:
            link.push(*begin)
        curve = learn(link, train_set, test_set, old, options)
        if files.pull is not None:
            write_weights(files.pull, link)
    if files.curve is not None:
        write_curve(files.curve, curve)
    if files.plot is not None:
        write_plot(files.plot, curve)
    return curve


def _refuse_unwritable(files: Files) -> None:
    """Raise UserError EB04 or EB08 for files whose folder is not there."""
    for path, code in ((files.pull, "EDGEC-EB08"), (files.curve, "EDGEC-EB04"), (files.plot, "EDGEC-EB04")):
        if path is not None and not path.absolute().parent.is_dir():
            raise cannot_write(code, path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def _ports(made: Artifact) -> finetune_data.Ports:
    if "training" not in made.manifest:
        raise UserError(
            "EDGEC-E269",
            f"compile the model again with --train (edgec compile --help): {made.folder} only infers",
        )
    return finetune_data.ports_of(made.entry(TRAIN_STEP)[1], made.manifest["training"]["classes"])


def _read(data: Data, ports: finetune_data.Ports, what: str) -> tuple[Samples, Samples | None]:
    """(samples, those beside them to test on) of arrays or a path."""
    if isinstance(data, (str, Path)):
        whole, test = finetune_data.read(Path(data), ports)
        what = str(data)
    else:
        whole, test = data, None
    beside = None if test is None else finetune_data.to_device(test, ports, f"{what}'s test.npz")
    return finetune_data.to_device(whole, ports, what), beside


def _samples(data: Data, test: Data | None, ports: finetune_data.Ports, seed: int) -> tuple[Samples, Samples]:
    train_set, test_set = _read(data, ports, "the data")
    if test is not None:
        return train_set, _read(test, ports, "the test data")[0]
    if test_set is not None:
        return train_set, test_set
    train_set, test_set = finetune_data.split(train_set, HELD_OUT, seed)
    log.say(f"data         {len(train_set)} samples to learn, {len(test_set)} held out to test")
    return train_set, test_set


def _check_firmware(link: Link, made: Artifact) -> None:
    """Raise TargetError E824 where the device runs another artifact's firmware."""
    device, own = link.device, made.manifest["training"]
    for what, theirs in (("graph", device.graph_hash), ("layout", device.layout_hash)):
        mine = own[f"{what}_hash"]
        if theirs.hex() != mine:
            kind = "another network" if what == "graph" else "a firmware in which other weights train"
            raise TargetError(
                "EDGEC-E824",
                f"flash the firmware of {made.folder}: {link.transport.name} runs {kind}, {device.name} "
                f"({theirs.hex()}, not {mine})",
            )


def write_weights(path: Path, link: Link) -> None:
    """Pull the device's weights into an .npz that says to which network they belong. Raises UserError EB08."""
    from edgec.artifact import write_npz

    device = link.device
    arrays = {
        "weights": np.frombuffer(link.pull(), np.uint8),
        "graph_hash": np.frombuffer(device.graph_hash, np.uint8),
        "layout_hash": np.frombuffer(device.layout_hash, np.uint8),
    }
    write_npz(path, arrays)
    log.say(f"wrote {path}: weights of {device.name} after {link.steps} steps")


def read_weights(path: Path) -> tuple[bytes, bytes, bytes]:
    """(weights, graph hash, layout hash) as Link.push takes them. Raises UserError E26A."""
    arrays = samples.read_npz(path, "weights")
    wanted = {"weights": None, "graph_hash": HASH_BYTES, "layout_hash": HASH_BYTES}
    for name, size in wanted.items():
        array = arrays.get(name)
        if array is None or array.dtype != np.uint8 or array.ndim != 1 or (size and len(array) != size):
            raise UserError(
                "EDGEC-E26A",
                f"give a file that `edgec finetune --pull` wrote: {path} has no proper {name}",
            )
    weights, graph, layout = (arrays[name].tobytes() for name in wanted)
    return weights, graph, layout


def figure(curve: Curve) -> Any:
    """Loss of each step with its running mean, and the test's accuracy after each epoch."""
    from edgec.report_html import new_figure

    made = new_figure(9.0, 4.0)
    left = made.add_subplot(1, 2, 1)
    steps = np.arange(1, len(curve.losses) + 1)
    losses = np.asarray(curve.losses, np.float64)
    window = max(1, len(losses) // 50)
    left.plot(steps, losses, color="#bab0ac", linewidth=0.6, label="each step")
    if len(losses):
        mean = np.convolve(losses, np.ones(window) / window, "valid")
        left.plot(steps[window - 1 :], mean, color="#4e79a7", label=f"mean of {window}")
    left.set(xlabel="training step", ylabel="loss", title=f"{curve.model} on {curve.device}")
    left.legend(frameon=False)
    right = made.add_subplot(1, 2, 2)
    scores = (curve.before, *curve.epochs)
    by_accuracy = curve.before.accuracy is not None
    values = [100 * (s.accuracy or 0.0) if by_accuracy else s.loss for s in scores]
    right.plot(range(len(scores)), values, marker="o", color="#59a14f")
    right.set(xlabel="epoch", ylabel="accuracy, %" if by_accuracy else "loss", title="test")
    right.set_xticks(range(len(scores)))
    return made


def refuse_plot(path: Path) -> str:
    """png or svg by the path's ending. Raises UserError E26B for others, TargetError EA04 without matplotlib."""
    from edgec.report_html import new_figure

    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UserError("EDGEC-E26B", f"name the plot .png or .svg: {path}")
    new_figure(1.0, 1.0)
    return kind


def summary(curve: Curve) -> str:
    """What came of it, in a few lines."""
    saved = "saved on the device" if curve.saved else "not saved on the device"
    lines = [f"{curve.model} on {curve.device}: {curve.steps} training steps, {saved}"]
    lines += [
        f"{name:<12} {_text(score)}" for name, score in (("before", curve.before), ("after", curve.after))
    ]
    for label, share in curve.after.by_class.items():
        before = curve.before.by_class.get(label, 0.0)
        lines.append(f"  class {label:<5} accuracy {100 * before:.1f} % to {100 * share:.1f} %")
    return "\n".join(lines)


def write_plot(path: Path, curve: Curve) -> None:
    """The curve as a picture, PNG or SVG by the file's ending. Raises what refuse_plot raises."""
    from edgec.report_html import write_whole

    kind = refuse_plot(path)
    stream = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    figure(curve).savefig(stream, format=kind, dpi=110, metadata=metadata)
    write_whole(path, stream.getvalue())
    log.say(f"wrote {path}")


def write_curve(path: Path, curve: Curve) -> None:
    """The curve as JSON."""
    from edgec.artifact import json_text
    from edgec.report_html import write_whole

    write_whole(path, json_text(curve.json()).encode())
    log.say(f"wrote {path}")
