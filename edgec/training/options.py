"""What the user says of training: the mode, the scheme file, loss and optimiser, and the names that a trained
Program's graphs and states have."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edgec.errors import UserError

Mode = Literal["none", "head", "bias", "last", "sparse", "full", "lora"]
Loss = Literal["cross-entropy", "mse", "bce", "kl"]
Optimizer = Literal["sgd", "momentum", "adam"]
Criterion = Literal["magnitude+", "first", "random"]
Gradients = Literal["int8", "fp32"]
Rounding = Literal["stochastic", "nearest", "q8.8"]
Head = Literal["fp32", "int8"]

# Graphs of a trained Program beside `infer`; the last where gradients are accumulated.
TRAIN_STEP: Final = "train_step"
EVALUATE: Final = "evaluate"
APPLY: Final = "apply"
# Labels of their ports.
LABEL: Final = "label"
LOSS: Final = "loss"
CORRECT: Final = "correct"
# Their own states.
LEARNING_RATE: Final = "learning_rate"
STEP: Final = "step"
PENDING: Final = "pending"


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Input channels of one layer that train: of the layer of this name, or of convolution number `conv` (from 0)."""

    layer: str | None
    conv: int | None
    ratio: float  # of the input channels (of a depthwise convolution: of its channels), 0 to 1

    @property
    def title(self) -> str:
        """As the scheme file names it."""
        return repr(self.layer) if self.layer is not None else f"conv {self.conv}"


@dataclass(frozen=True, slots=True)
class Scheme:
    """`biases`: of the last n layers before the head train. The head trains whole, and so do the biases of layers
    whose weights train. `criterion`: which input channels of a slice, the heaviest, the first or any."""

    biases: int
    weights: tuple[WeightSlice, ...] = ()
    criterion: Criterion = "magnitude+"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """`count`: n of last:n and r of lora:r. `rate`: the learning rate at the start, which the application may change.
    `accumulate`: steps whose mean gradient makes one update. `temperature`: of the loss kl. `gradients` of int8 layers
    are kept in this format, `rounding` is that of their updates. `ram_bytes`: all RAM of the firmware that learns,
    stack and data included; None leaves it to the target. `head`: in what the last layer of an int8 network computes
    and learns."""

    mode: Mode = "none"
    count: int = 0
    scheme: Scheme | None = None
    loss: Loss = "cross-entropy"
    optimizer: Optimizer = "sgd"
    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    accumulate: int = 1
    temperature: float = 1.0
    gradients: Gradients = "int8"
    rounding: Rounding = "stochastic"
    seed: int = 0
    ram_bytes: int | None = None
    head: Head = "fp32"

    @property
    def title(self) -> str:
        """The mode as it is written on the command line."""
        return f"{self.mode}:{self.count}" if self.mode in ("last", "lora") else self.mode


NOT_TRAINED: Final = TrainSpec()


def parse_mode(text: str) -> tuple[Mode, int]:
    """(mode, count) of none, head, bias, last:N, sparse, full or lora:R. Raises UserError EDGEC-E246."""
    name, colon, count = text.partition(":")
    counted = name in ("last", "lora")
    for mode in get_args(Mode):
        if mode == name and bool(colon) == counted:
            if not counted:
                return mode, 0
            if count.isdecimal() and count.isascii() and 0 < int(count) < 10**6:
                return mode, int(count)
    raise UserError(
        "EDGEC-E246",
        f"give --train none, head, bias, last:N, sparse, full or lora:R: {text!r} is none of them",
    )


def check_spec(spec: TrainSpec) -> TrainSpec:
    """`spec`. Raises UserError EDGEC-E246 where its parts do not go together or a number is out of range."""
    wrong = {
        "--scheme FILE.toml with --train sparse": spec.mode == "sparse" and spec.scheme is None,
        "--scheme with --train sparse alone": spec.mode != "sparse" and spec.scheme is not None,
        "--train N or R from 1 up": spec.mode in ("last", "lora") and spec.count < 1,
        "--learning-rate as a number from 0 up": not 0.0 <= spec.rate < 3e38,
        "--momentum from 0 to below 1": not 0.0 <= spec.momentum < 1.0,
        "--weight-decay as a number from 0 up": not 0.0 <= spec.weight_decay < 3e38,
        "--accumulate from 1 up": spec.accumulate < 1,
        "--train-ram with --train alone": spec.mode == "none" and spec.ram_bytes is not None,
        "--head with --train alone": spec.mode == "none" and spec.head != "fp32",
        "--temperature as a number above 0": not 0.0 < spec.temperature < 3e38,
    }
    for cure, fails in wrong.items():
        if fails:
            raise UserError("EDGEC-E246", f"give {cure}")
    return spec


def read_scheme(path: Path) -> Scheme:
    """The scheme that a TOML file holds. Raises UserError EDGEC-E247."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("EDGEC-E247", f"give a scheme in TOML: {path} cannot be read ({error})") from None
    try:
        return _scheme(content)
    except _Wrong as error:
        raise UserError("EDGEC-E247", f"correct the scheme {path}: {error}") from None


class _Wrong(ValueError):
    """What a scheme file has wrong."""


def _scheme(content: dict[str, Any]) -> Scheme:
    _only(content, ("biases", "weights", "criterion", "seed"), "the file")
    rows = content.get("weights", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _Wrong("weights are tables, [[weights]]")
    criterion = content.get("criterion", "magnitude+")
    if criterion not in get_args(Criterion):
        raise _Wrong(f"criterion is {', '.join(get_args(Criterion))}, not {criterion!r}")
    weights = tuple(_slice(row, number) for number, row in enumerate(rows, 1))
    return Scheme(_whole(content, "biases", 0), weights, criterion, _whole(content, "seed", 0))


def _slice(row: dict[str, Any], number: int) -> WeightSlice:
    where = f"[[weights]] number {number}"
    _only(row, ("layer", "conv", "ratio"), where)
    if ("layer" in row) == ("conv" in row):
        raise _Wrong(f"{where} names a layer or a conv, one of them")
    layer, conv = row.get("layer"), None
    if layer is None:
        conv = _whole(row, "conv", -1)
    elif not isinstance(layer, str):
        raise _Wrong(f"layer of {where} is a name, not {layer!r}")
    return WeightSlice(layer, conv, _ratio(row.get("ratio", 1), where))


def _ratio(value: object, where: str) -> float:
    """0 to 1, as a number or as a fraction in text ("1/8")."""
    try:
        given = value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
        ratio = float(Fraction(given))
    except (ValueError, ZeroDivisionError, OverflowError):
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise _Wrong(f"ratio of {where} is 0 to 1, such as 0.25 or '1/8', not {value!r}")
    return ratio


def _whole(table: dict[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**6:
        raise _Wrong(f"{key} is a whole number from 0 on, not {value!r}")
    return value


def _only(table: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [key for key in table if key not in keys]
    if unknown:
        raise _Wrong(f"{where} may hold {', '.join(keys)}, not {', '.join(unknown)}")
