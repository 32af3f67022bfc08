"""Fine-tuning on a device: epochs over samples that go to its firmware one by one, loss and accuracy live, the curve as
JSON and picture, weights saved on the device.

`learn` drives any link.Link; `finetune` opens it for an artifact that was compiled with --train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from edgec import finetune_data, log
from edgec.errors import TargetError, UserError
from edgec.finetune_data import Samples
from edgec.link import CAN_EVALUATE, CAN_SAVE, Hello, Link, Step

MOST_REPLAY_STEPS: Final = 255


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
    """Mean loss, and the share of samples whose largest output is the label's (None where labels are no classes),
    in all and by class."""

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
    return Score(mean, correct / len(losses) if train.classes[0] >= 0 else None), losses


def _share(samples: Samples, correct: int, count: int) -> str:
    return f"  accuracy {100 * correct / count:.1f} %" if samples.classes[0] >= 0 else ""


def _step(link: Link, train: Samples, i: int, rate: float) -> Step:
    try:
        return link.train(train.inputs[i], train.labels[i])
    except TargetError as error:
        if error.code != "EDGEC-E827":
            raise
        raise TargetError(
            "EDGEC-E82D",
            f"lower --lr (it is {rate:g}), or look at sample {i} of {train.what}: {error.message}; the weights are "
            "as before the step and were not saved",
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
    if test.classes[0] < 0:
        return Score(mean, None)
    every = [c for found in right.values() for c in found]
    by_class = {k: sum(right[k]) / len(right[k]) for k in sorted(right)}
    return Score(mean, sum(every) / len(every), by_class)


def _text(score: Score) -> str:
    accuracy = "" if score.accuracy is None else f", accuracy {100 * score.accuracy:.1f} %"
    return f"loss {score.loss:.4f}{accuracy}"
