"""`edgec tune`: its words, and what it does with them."""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec import log
from edgec.errors import UserError
from edgec.training.words import integer_words

if TYPE_CHECKING:
    from edgec.compiler import Request


def options(p: argparse.ArgumentParser) -> None:
    """The words of `edgec tune`, beside the model's."""
    p.add_argument(
        "--train", dest="learns", action="store_true", help="search which parameters learn on the device"
    )
    p.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help=".npz with inputs by name and `label`, or a folder with train.npz and test.npz, or one folder a class",
    )
    p.add_argument(
        "--test",
        type=Path,
        metavar="FILE",
        help="held-out samples (default: a fifth of --data, drawn by --seed)",
    )
    p.add_argument(
        "--memory",
        metavar="SIZE",
        help="budget: of all arenas of the firmware with --target, else of what training adds; e.g. 160K",
    )
    p.add_argument("--target", help="whose planned RAM --memory limits; see `edgec targets`")
    p.add_argument(
        "--instructions",
        type=_count,
        metavar="N",
        help="budget of the backward pass, at 4 a multiply-accumulate",
    )
    p.add_argument(
        "-o", "--out", type=Path, metavar="FILE.toml", help="scheme to write, for compile --scheme"
    )
    p.add_argument("--png", type=Path, metavar="FILE", help="write the contributions as a picture")
    p.add_argument("--resume", action="store_true", help="go on with the journal beside -o")
    _measuring(p)
    p.add_argument("--workers", type=_count, default=1, metavar="N", help="processes here (default 1)")
    p.add_argument(
        "--cluster", metavar="ADDRESS", help="the Ray cluster that works instead, such as head:6379"
    )


def _measuring(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--epochs", type=_count, default=1, help="times that a fine-tuning sees --data (default 1)"
    )
    p.add_argument("--repeats", type=_count, default=1, help="seeds a fine-tuning, averaged (default 1)")
    p.add_argument("--learning-rate", type=float, default=0.01, help="constant (default 0.01)")
    integer_words(p)
    p.add_argument(
        "--biases",
        type=_count,
        action="append",
        metavar="K",
        help="try the biases of the last K layers; may be given more than once (default: every K)",
    )
    p.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="try this layer's weights; may be given more than once (default: every layer)",
    )
    p.add_argument(
        "--ratio",
        type=_ratio,
        action="append",
        metavar="R",
        help="try this share of input channels; may be given more than once (default 1/8, 1/4, 1/2, 1)",
    )
    p.add_argument(
        "--on",
        choices=("host", "interpreter"),
        default="host",
        help="what computes a training step: C built for this computer, or numpy (default host)",
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"give a whole number above 0, not {text!r}")
    return int(text)


def _ratio(text: str) -> float:
    try:
        ratio = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        ratio = math.nan
    if not 0.0 < ratio <= 1.0:
        raise argparse.ArgumentTypeError(f"give a share above 0 and up to 1, such as 1/8, not {text!r}")
    return ratio


def run(args: argparse.Namespace, request: Request) -> tuple[dict[str, Any], str]:
    """(the result for machines, the same for people) of `edgec tune --train`."""
    from edgec.targets.load import load_target, parse_size
    from edgec.training.options import TrainSpec
    from edgec.tune import report as tune_report
    from edgec.tune import search as tune
    from edgec.tune.contribution import Staff

    target = load_target(args.target) if args.target is not None else None
    budgets = tune.Budgets(parse_size(args.memory), target, args.instructions)
    spec = TrainSpec(
        rate=args.learning_rate, gradients=args.gradients, rounding=args.rounding, seed=args.seed
    )
    measuring = tune.Measuring(
        args.data,
        args.test,
        None if args.biases is None else tuple(args.biases),
        None if args.layer is None else tuple(args.layer),
        tune.RATIOS if args.ratio is None else tuple(args.ratio),
        args.epochs,
        args.repeats,
        args.on,
        Staff(args.workers, args.cluster),
    )
    tuned = tune.tune(request, spec, measuring, budgets, args.out, args.resume)
    if args.png is not None:
        tune_report.write_png(args.png, tuned)
        log.say(f"wrote {args.png}")
    log.say(f"wrote {args.out}; next: edgec compile {args.model} --train sparse --scheme {args.out} ...")
    return tune_report.json(tuned), tune_report.text(tuned)


def refuse_incomplete(args: argparse.Namespace) -> None:
    """Raise UserError EDGEC-E276 for words that are missing."""
    needed = {
        "--train": args.learns,
        "--data FILE": args.data,
        "--memory SIZE": args.memory,
        "-o FILE.toml": args.out,
    }
    missing = [word for word, given in needed.items() if not given]
    if missing:
        raise UserError(
            "EDGEC-E276", f"give {', '.join(missing)}, too: `edgec tune` searches what learns on a device"
        )
