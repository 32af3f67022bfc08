"""The `edgec` command: parses words, calls one function a subcommand, turns errors into exit codes.

Results go to stdout (`--json`: one object or list), everything for people to stderr. Nothing heavy is
imported before a subcommand needs it: `edgec --version` starts in well under half a second.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from edgec import __version__, config, log
from edgec.control import command as control_command
from edgec.errors import EdgecError, Exit, TargetError, UserError, cannot_write
from edgec.training.words import integer_words
from edgec.tune import command as tune_command

Command = Callable[[argparse.Namespace], object]

_EXITS = """exit codes:
  0 ok  1 bug in edgec  2 usage  3 model rejected  4 unsupported operator  5 does not fit  6 accuracy gate
  7 speed gate  8 device or link  9 verification  10 tool missing  11 could not write  130 interrupted

options may also stand in edgec.toml, in a table a subcommand ([compile] target = "cortex-m4"; [edgec] for the flags
above), and in the environment (EDGEC_COMPILE_TARGET, EDGEC_SEED); the command line comes first, then the
environment, then the file. NO_COLOR in the environment does what --no-color does"""


class _Parser(argparse.ArgumentParser):
    """argparse with our error form: what to do first, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError("EDGEC-E201", f"see `{self.prog} --help`: {message}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(c) for c in action.choices]
        near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
        cure = f"use {near[0]}" if near else f"see `{self.prog} --help`"
        what = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
        raise UserError("EDGEC-E203", f"{cure}: {what} may be {', '.join(names)}; {value!r} is none of them")


def _global_flags(parser: argparse.ArgumentParser, top: bool = False) -> None:
    """Flags that may stand before or after the subcommand: only the top parser has their defaults."""

    def default(value: object) -> object:
        return value if top else argparse.SUPPRESS

    parser.add_argument(
        "-v", "--verbose", action="count", default=default(0), help="more detail; twice shows tracebacks"
    )
    parser.add_argument("-q", "--quiet", action="store_true", default=default(False), help="errors only")
    parser.add_argument(
        "--json", action="store_true", default=default(False), help="machine-readable result on stdout"
    )
    parser.add_argument("--no-progress", action="store_true", default=default(False), help="no progress bars")
    parser.add_argument("--no-color", action="store_true", default=default(False), help="no red in errors")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default(None),
        help="options by subcommand (default: the nearest edgec.toml from here upwards)",
    )
    parser.add_argument("--seed", type=int, default=default(0), help="seed of everything random (default 0)")


def _count(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"give a whole number above 0, not {text!r}")
    return int(text)


def _add(sub: argparse._SubParsersAction[_Parser], name: str, text: str) -> _Parser:
    parser: _Parser = sub.add_parser(name, help=text, description=text)
    _global_flags(parser)
    return parser


def _model_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "model", help="exported program (.pt2, .pt), state dict with --model, or a language model folder"
    )
    p.add_argument(
        "--model",
        dest="factory",
        metavar="PACKAGE.MODULE:FUNCTION",
        help="function that returns the module and its example inputs, for a state dict, or with `-` as model",
    )
    p.add_argument(
        "--trust", action="store_true", help="let pickles in the file run code: only for files you made"
    )
    p.add_argument(
        "--precision",
        choices=("int8", "fp32", "fp16", "bf16", "w8a8", "w4a16"),
        help="of all layers (default int8, for CUDA targets fp16)",
    )
    p.add_argument(
        "--calib",
        type=Path,
        metavar="FILE.npz",
        help="calibration inputs by input name, or `random` for made-up ranges (sizes and speed only)",
    )
    p.add_argument(
        "--calibration",
        choices=("minmax", "percentile", "entropy", "mse"),
        default="minmax",
        help="how ranges follow from the inputs (default minmax; the others clip long tails)",
    )
    p.add_argument("--equalize", action="store_true", help="cross-layer equalisation before quantisation")
    p.add_argument("--bias-correct", action="store_true", help="correct biases for the weights' rounding")
    _weight_options(p)
    p.add_argument(
        "--context",
        type=_count,
        metavar="TOKENS",
        help="of a language model: what its cache holds (default 1024)",
    )
    p.add_argument(
        "--prefill",
        type=_count,
        action="append",
        metavar="TOKENS",
        help="of a language model: tokens of the prompt that go in at once; may be given more than once (default 32, "
        "128)",
    )
    p.add_argument("--ram", metavar="SIZE", help="RAM budget, e.g. 64K (K = 1024)")
    p.add_argument("--flash", metavar="SIZE", help="flash budget, e.g. 1M")


def _weight_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--keep-float",
        action="append",
        metavar="LAYER",
        help="layer that stays in float in an int8, w8a8 or w4a16 network; may be given more than once",
    )
    p.add_argument(
        "--smooth",
        type=_smooth,
        metavar="auto|ALPHA|off",
        help="SmoothQuant, alpha 0 to 1 or searched for each layer (default: auto for w8a8 with --calib, else off)",
    )
    p.add_argument(
        "--awq",
        action=argparse.BooleanOptionalAction,
        help="AWQ scales and clips before 4-bit rounding (default: where --calib is given)",
    )
    p.add_argument(
        "--group", type=int, choices=(64, 128), help="channels that share a 4-bit scale (default 128)"
    )
    p.add_argument("--symmetric", action="store_true", help="4-bit weights without zero points")
    p.add_argument("--quantize-head", action="store_true", help="round the head, too (w8a8 and w4a16)")


def _sensitivity_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--sensitivity", action="store_true", help="report the network's error with each layer rounded alone"
    )


def _smooth(text: str) -> float | str:
    if text in ("auto", "off"):
        return text
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0.0 <= alpha <= 1.0:
        raise argparse.ArgumentTypeError(f"give auto, off or an alpha from 0 to 1, not {text!r}")
    return alpha


def _compile_command(sub: argparse._SubParsersAction[_Parser]) -> None:
    p = _add(sub, "compile", "Compile a model to an artifact: C sources, weights, golden vectors, report.")
    _model_options(p)
    p.add_argument("--target", required=True, help="see `edgec targets`")
    p.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write")
    p.add_argument("--name", help="C name of the model (default: from the file name)")
    p.add_argument(
        "--stream",
        choices=("auto", "off", "all"),
        default="auto",
        help="row streaming: where --ram needs it (auto), nowhere, or wherever it lowers the arena",
    )
    p.add_argument(
        "--stages", type=Path, metavar="DIR", help="write the graph after each pass that changed it"
    )
    p.add_argument("--check", action="store_true", help="run the interpreter before and after each pass")
    _sensitivity_option(p)
    _train_options(p)
    p.add_argument("--no-build", action="store_true", help="write the artifact without building it")


def _train_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--train",
        metavar="MODE",
        default="none",
        help="what learns on the device: none, head, bias, last:N, sparse, full or lora:R (default none)",
    )
    p.add_argument("--scheme", type=Path, metavar="FILE.toml", help="slices that train, with --train sparse")
    p.add_argument("--train-ram", metavar="SIZE", help="all RAM of a firmware that learns, such as 256K")
    p.add_argument(
        "--loss",
        choices=("cross-entropy", "mse", "bce", "kl"),
        default="cross-entropy",
        help="what training lowers",
    )
    p.add_argument("--optimizer", choices=("sgd", "momentum", "adam"), default="sgd", help="default sgd")
    p.add_argument(
        "--learning-rate",
        type=float,
        default=0.01,
        help="at the start; the firmware can change it (default 0.01)",
    )
    p.add_argument("--momentum", type=float, default=0.9, help="of the optimizer momentum (default 0.9)")
    p.add_argument("--weight-decay", type=float, default=0.0, help="of what trains (default 0)")
    p.add_argument(
        "--accumulate",
        type=_count,
        default=1,
        metavar="STEPS",
        help="steps whose mean gradient makes one update",
    )
    p.add_argument("--temperature", type=float, default=1.0, help="of the loss kl (default 1)")
    p.add_argument(
        "--head",
        choices=("fp32", "int8"),
        default="fp32",
        help="of the last layer of an int8 network (default fp32)",
    )
    integer_words(p)


def _artifact_commands(sub: argparse._SubParsersAction[_Parser]) -> None:
    p = _add(sub, "run", "Run an artifact on inputs.")
    p.add_argument("artifact", type=Path)
    p.add_argument(
        "--on",
        choices=("host", "qemu", "cuda"),
        default=None,
        help="this computer, the emulated board, or this computer's GPU (default host; cuda for a CUDA target)",
    )
    p.add_argument(
        "--input", type=Path, required=True, metavar="FILE.npz", help="arrays by input name, PyTorch layout"
    )
    p.add_argument("--output", type=Path, metavar="FILE.npz", help="where to write the outputs")
    p.add_argument("--raw", action="store_true", help="outputs as the device's own integers")
    p.add_argument("--entry", default="infer", help="which entry of the program (default infer)")

    _generate_command(sub)
    _finetune_command(sub)

    p = _add(sub, "bench", "Count instructions, memory and stack of an artifact.")
    p.add_argument("artifact", type=Path)
    p.add_argument(
        "--on",
        choices=("host", "qemu", "cuda"),
        default=None,
        help="this computer, the emulated board, or this computer's GPU (default qemu; cuda for a CUDA target)",
    )
    p.add_argument("--runs", type=_count, default=3, help="inferences to take the median of (default 3)")

    p = _add(sub, "report", "Show an artifact's report: memory, layers, accuracy.")
    p.add_argument("artifact", type=Path)
    p.add_argument("--html", type=Path, metavar="FILE", help="write it as one HTML page")
    p.add_argument("--png", type=Path, metavar="FILE", help="write the memory timeline as a picture")


def _generate_command(sub: argparse._SubParsersAction[_Parser]) -> None:
    p = _add(sub, "generate", "Continue a text with an artifact of a language model.")
    p.add_argument("artifact", type=Path)
    p.add_argument(
        "--tokenizer", type=Path, required=True, metavar="DIR", help="folder of the model's tokenizer"
    )
    p.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    p.add_argument("--max-tokens", type=_count, default=128, help="at most so many new tokens (default 128)")
    p.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest token (default 0)")
    p.add_argument(
        "--top-k", type=int, default=0, help="draw from the so many likeliest tokens (default 0: all)"
    )
    p.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the likeliest with this share (default 1)"
    )
    p.add_argument(
        "--on",
        choices=("host", "cuda"),
        default=None,
        help="this computer, or its GPU (default host; cuda for a CUDA target)",
    )


def _finetune_command(sub: argparse._SubParsersAction[_Parser]) -> None:
    p = _add(sub, "finetune", "Train the firmware of an artifact that was compiled with --train.")
    p.add_argument("artifact", type=Path)
    p.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help=".npz with the inputs and `label`, or a folder: train.npz, or .npy files in one folder a class",
    )
    p.add_argument(
        "--test", type=Path, metavar="PATH", help="samples to test on (default: a tenth, held out)"
    )
    p.add_argument(
        "--on",
        default="host",
        metavar="PLACE",
        help="host, qemu, or a serial port with the firmware behind it, as /dev/ttyACM0 or /dev/ttyACM0@921600",
    )
    p.add_argument("--epochs", type=int, default=1, help="passes over the data (default 1)")
    p.add_argument("--lr", type=float, help="learning rate (default: the firmware's)")
    p.add_argument(
        "--replay", type=Path, metavar="PATH", help="old samples that the firmware keeps and repeats"
    )
    p.add_argument(
        "--replay-samples",
        type=_count,
        default=64,
        help="room for old samples, on host and qemu (default 64)",
    )
    p.add_argument(
        "--replay-steps", type=int, default=1, help="old samples repeated after each new one (default 1)"
    )
    p.add_argument(
        "--factory", action="store_true", help="begin with the factory weights, not those saved last"
    )
    p.add_argument("--no-save", action="store_true", help="leave the weights saved on the device as they are")
    p.add_argument(
        "--push", type=Path, metavar="FILE.npz", help="begin with these weights, of an earlier --pull"
    )
    p.add_argument("--pull", type=Path, metavar="FILE.npz", help="write the trained weights")
    p.add_argument("--curve", type=Path, metavar="FILE.json", help="write losses and scores")
    p.add_argument("--plot", type=Path, metavar="FILE.png|svg", help="draw them")


def _other_commands(sub: argparse._SubParsersAction[_Parser]) -> None:
    p = _add(sub, "check", "Say whether a model fits, without generating code.")
    _model_options(p)
    p.add_argument("--target", action="append", help="may be given more than once")
    p.add_argument("--all-targets", action="store_true", help="every target that edgec knows")

    p = _add(sub, "quantize", "Say what rounding does to a model's accuracy, without compiling it.")
    _model_options(p)
    _sensitivity_option(p)
    p.add_argument("--target", default="host", help="whose speed decides what stays in float (default host)")

    p = _add(sub, "tune", "Search what a network's learning on the device should change, on your data.")
    _model_options(p)
    tune_command.options(p)

    _add(sub, "targets", "List the targets.")
    p = _add(sub, "ops", "List the operators, and where and at which precision each runs.")
    p.add_argument("--target", help="only this target")

    p = _add(
        sub, "bisect", "Find the first pass, then the first node, where numbers leave the float model's."
    )
    _model_options(p)
    p.add_argument(
        "--input", type=Path, metavar="FILE.npz", help="inputs to compare on (default: the calibration's)"
    )
    p.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        help="relative to the largest magnitude (default 1e-3; an int8 step alone is 4e-3, so try 0.05 with int8)",
    )

    p = _add(sub, "control", "The control loop of a robot whose policy takes longer than a period.")
    control_command.options(p)

    _add(sub, "doctor", "Check the tools that edgec uses, and how to get what is missing.")
    p = _add(sub, "completion", "Print a shell completion script.")
    p.add_argument("shell", choices=("bash", "zsh", "fish"))


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="edgec",
        description="Compile trained networks for microcontrollers and GPUs.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"edgec {__version__}")
    _global_flags(top, top=True)
    sub = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    _compile_command(sub)
    _artifact_commands(sub)
    _other_commands(sub)
    return top


def _command(name: str) -> Command:
    """The function behind a subcommand; its module is imported here and not before."""
    from edgec import commands

    found: Command = getattr(commands, name)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    log.set_color("--no-color" not in words)
    try:
        args = _parse(words)
    except SystemExit as stop:  # argparse's --help and --version
        return int(stop.code or 0)
    except EdgecError as error:
        return _fail(error)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("interrupted: nothing half-written is left", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except EdgecError as error:
        return _fail(error)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            return _fail(cannot_write("EDGEC-EB07", error.filename or "the result", error))
        return _bug(error)
    except MemoryError as error:
        return _fail(_out_of_memory(error))
    except (Exception, SystemExit) as error:
        return _bug(error)


def _parse(words: list[str]) -> argparse.Namespace:
    """The command line, completed from the environment and edgec.toml."""
    top = parser()
    here = _working_folder()
    settings = config.configure(top, words, os.environ, here)
    args = top.parse_args(words)
    settings.complete(args)
    if args.config is not None and settings.path != here / args.config:
        raise UserError("EDGEC-E201", "write --config in full: it is read before all other words")
    args.config = settings.path
    return args


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path("/")


def _run(args: argparse.Namespace) -> int:
    if args.command is None:
        parser().print_help(sys.stderr)
        return int(Exit.USAGE)
    log.set_level(0 if args.quiet else max(1 + args.verbose, log.level_of_environment()))
    log.set_progress(not args.no_progress)
    log.set_color(not args.no_color)
    if args.config is not None:
        log.say(f"options from {args.config}", at=2)
    _refuse_conflicts(args)
    with warnings.catch_warnings():
        if log.level() < 2:
            warnings.simplefilter("ignore")  # of libraries; none of them is for the user to act on
        result = _command(args.command)(args)
    if args.json and result is not None:
        print(json.dumps(result, indent=1, sort_keys=False))
    sys.stdout.flush()  # here, where a closed pipe or a full disk still has an answer
    return int(Exit.OK)


def _refuse_conflicts(args: argparse.Namespace) -> None:
    """Raise UserError E207 for two flags of which one would silently win."""
    given = vars(args)
    precision = given.get("precision") or "int8"
    conflicts = (
        ("--quiet", "--verbose", args.quiet and args.verbose),
        ("--target", "--all-targets", given.get("all_targets") and given.get("target")),
        *(
            (
                flag,
                f"--precision {precision}",
                given.get(name) not in (None, False, []) and precision not in those,
            )
            for name, (flag, those) in _PRECISIONS_OF.items()
        ),
    )
    for one, other, both in conflicts:
        if both:
            raise UserError(
                "EDGEC-E207", f"give either {one} or {other}: together they contradict each other"
            )


# Flags that mean something in some precisions only: name -> (the flag, those).
_PRECISIONS_OF = {
    "bias_correct": ("--bias-correct", ("int8",)),
    "keep_float": ("--keep-float", ("int8", "w8a8", "w4a16")),
    "smooth": ("--smooth", ("int8", "w8a8")),
    "awq": ("--awq", ("w4a16",)),
    "group": ("--group", ("w4a16",)),
    "symmetric": ("--symmetric", ("w4a16",)),
    "quantize_head": ("--quantize-head", ("w8a8", "w4a16")),
}
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES)


def _out_of_memory(error: MemoryError) -> TargetError:
    return TargetError(
        "EDGEC-E504",
        f"use a smaller model, fewer calibration samples or a larger computer: this one has no memory for it ({error})",
    )


def _fail(error: EdgecError) -> int:
    if log.level() >= 3:
        import traceback

        traceback.print_exc()
    code, text = log.red(error.code), printable(str(error))
    print(text.replace(error.code, code, 1), file=sys.stderr)
    return int(error.exit_code)


def printable(text: str) -> str:
    """`text` with control characters and those that turn the direction of writing as escapes: names come from files."""
    return "".join(c if c == "\n" or c.isprintable() else ascii(c)[1:-1] for c in text)


def _bug(error: BaseException) -> int:
    import traceback

    if log.level() >= 2:
        traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"EDGEC-E100: run again with -vv and report what it prints: {type(error).__name__}: {error} "
        f"(at {Path(where.filename).name}:{where.lineno}). This is a bug in edgec",
        file=sys.stderr,
    )
    return int(Exit.INTERNAL)
