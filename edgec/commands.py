"""What each subcommand does: from parsed words to a result. It returns what `--json` prints; people read text."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from edgec import log
from edgec.cli import printable
from edgec.errors import EdgecError, TargetError, UserError
from edgec.training.options import NOT_TRAINED, TrainSpec, check_spec, parse_mode, read_scheme

if TYPE_CHECKING:
    from edgec.device import Place

Json = Any
NO_GPU: Final = tuple(f"EDGEC-E{n}" for n in (811, 812, 813, 814, 815, 817))  # none here that runs it


def _show(args: argparse.Namespace, text: str) -> None:
    """Print a result for a person, unless `--json` prints it for a machine."""
    if not args.json:
        print(printable(text))


def _refuse(args: argparse.Namespace, rows: Json, error: EdgecError) -> NoReturn:
    """Raise `error` after the result that explains it."""
    if args.json:
        print(json.dumps(rows, indent=1))
    raise error


def _request(args: argparse.Namespace, target: str) -> Any:
    from edgec.compiler import Request, default_precision
    from edgec.frontends.decoder_options import CONTEXT, DecoderOptions
    from edgec.pipeline import Options
    from edgec.targets.load import parse_size

    options = Options(
        precision=args.precision or default_precision(target),
        calibration=args.calibration,
        equalize=args.equalize,
        bias_correct=args.bias_correct,
        keep_float=tuple(args.keep_float or ()),
        smooth=args.smooth,
        awq=args.awq,
        group=args.group or 128,
        symmetric=args.symmetric,
        quantize_head=args.quantize_head,
        sensitivity=getattr(args, "sensitivity", False),
        train=_train_spec(args),
        ram_bytes=parse_size(args.ram) if args.ram else None,
        flash_bytes=parse_size(args.flash) if args.flash else None,
        stream=getattr(args, "stream", "auto"),
        stages=getattr(args, "stages", None),
        check=getattr(args, "check", False),
    )
    calib = str(args.calib) if args.calib is not None else None
    name = getattr(args, "name", None)
    request = Request(
        args.model, target, options, calib, factory=args.factory, trust=args.trust, name=name, seed=args.seed
    )
    prefill = None if args.prefill is None else tuple(args.prefill)
    return replace(request, decoder=DecoderOptions(args.context or CONTEXT, prefill))


def _train_spec(args: argparse.Namespace) -> TrainSpec:
    if not hasattr(args, "train"):
        return NOT_TRAINED
    from edgec.targets.load import parse_size

    mode, count = parse_mode(args.train)
    scheme = read_scheme(args.scheme) if args.scheme is not None else None
    return check_spec(
        TrainSpec(
            mode,
            count,
            scheme,
            args.loss,
            args.optimizer,
            args.learning_rate,
            args.momentum,
            args.weight_decay,
            args.accumulate,
            args.temperature,
            args.gradients,
            args.rounding,
            args.seed,
            parse_size(args.train_ram) if args.train_ram else None,
            head=args.head,
        )
    )


def compile(args: argparse.Namespace) -> Json:
    """`edgec compile`: artifact, built and checked against its golden vectors where the tools are here."""
    from edgec import compiler
    from edgec.artifact import Artifact, refuse_unless_free

    refuse_unless_free(args.out)  # first: a compile may take a minute
    compiled = compiler.plan(_request(args, args.target))
    compiler.write(compiled, args.out)
    made = Artifact(args.out)
    result: dict[str, Any] = {"artifact": str(args.out), **made.summary()}
    if not args.no_build:
        result["checked"] = _build_and_check(made)
        _hold_flash(made, result["checked"], args)
    arenas = ", ".join(f"{n} {b:,} B" for n, b in result["arena_bytes"].items())
    log.say(f"{compiled.name} for {compiled.target.name}: arena {arenas}, {result['macs']:,} MACs")
    log.say(f"artifact {args.out}; next: edgec report {args.out}")
    return result


def _build_and_check(made: Any) -> list[str]:
    """Build for every place that can run here and hold each against the golden vectors; say what was left out."""
    if made.target.family == "cuda":
        from edgec.cuda import build as cuda_build

        done = cuda_build.build_all(made.folder, made.manifest["name"], made.target)
        here = made.golden_steps() and any(name.startswith(platform.machine()) for name in done)
        return [*done, *_checked(made, "cuda", NO_GPU)] if here else done
    return [place for one in made.places() for place in _checked(made, one, ("EDGEC-EA",))]


def _checked(made: Any, place: Place, excused: tuple[str, ...]) -> list[str]:
    """[place] where its outputs are those of the golden vectors. An error of `excused` codes, as for want of a tool, is
    told and leaves it out."""
    try:
        with log.step(f"check {place}") as notes:
            made.check(place)
            notes.append("equals the interpreter on the golden vectors")
    except TargetError as error:
        if not error.code.startswith(excused):
            raise
        log.say(f"not {'checked' if place == 'cuda' else 'built'} for {place}: {error}")
        return []
    return [place]


def _hold_flash(made: Any, checked: Sequence[str], args: argparse.Namespace) -> None:
    """Raise TargetError E505 where the linked image exceeds --flash: before linking, the code's size is a guess."""
    from edgec.targets.load import parse_size

    sizes = made.sizes() if "qemu" in checked and args.flash else None
    if sizes is not None and sizes["flash_bytes"] > parse_size(args.flash):
        raise TargetError(
            "EDGEC-E505",
            f"give --flash {sizes['flash_bytes']} or use a smaller model: the image in {args.out} takes "
            f"{sizes['flash_bytes']:,} bytes of flash with its code, --flash allows {parse_size(args.flash):,}",
        )


def run(args: argparse.Namespace) -> Json:
    """`edgec run`: outputs by name, written to --output or summed up on stdout."""
    from edgec import samples
    from edgec.artifact import Artifact, write_npz

    made = Artifact(args.artifact)
    inputs = samples.read_npz(args.input, "input file")
    outputs = made.run(inputs, on=args.on, raw=args.raw, entry=args.entry)
    if args.output is not None:
        write_npz(args.output, outputs)
    for name, array in outputs.items():
        head = np.array2string(array.ravel()[:10], precision=4, max_line_width=100)
        _show(args, f"{name} {array.dtype}{list(array.shape)} {head}")
    return {
        n: {"shape": list(a.shape), "dtype": str(a.dtype), "values": a.tolist()} for n, a in outputs.items()
    }


def generate(args: argparse.Namespace) -> Json:
    """`edgec generate`: text on stdout as it comes, speed on stderr."""
    from edgec import generate as generation
    from edgec.artifact import Artifact

    made = Artifact(args.artifact)
    tokenizer = generation.Tokenizer(args.tokenizer)
    sampling = generation.Sampling(args.temperature, args.top_k, args.top_p, args.seed)
    speed, found = generation.Speed(), []
    ids = tokenizer.encode(args.prompt)
    with generation.opened(made, args.on) as runner:
        told = generation.tokens(
            runner, made.entry_names, ids, args.max_tokens, sampling, tokenizer.stop, speed
        )
        for piece in generation.stream_text(told, tokenizer.decode):
            found.append(piece)
            if not args.json:
                print(printable(piece), end="", flush=True)
    _show(args, "")
    log.say(generation.summary(made, speed))
    return {"text": "".join(found), **generation.figures(made, speed)}


def finetune(args: argparse.Namespace) -> Json:
    """`edgec finetune`: scores before and after, the curve as JSON and picture, weights saved on the device."""
    from edgec.artifact import Artifact
    from edgec.link.finetune import summary

    curve = Artifact(args.artifact).finetune(
        args.data,
        test=args.test,
        on=args.on,
        epochs=args.epochs,
        lr=args.lr,
        replay=args.replay,
        replay_samples=args.replay_samples,
        replay_steps=args.replay_steps,
        factory=args.factory,
        save=not args.no_save,
        push=args.push,
        pull=args.pull,
        curve=args.curve,
        plot=args.plot,
        seed=args.seed,
    )
    _show(args, summary(curve))
    return curve.json()


def bench(args: argparse.Namespace) -> Json:
    """`edgec bench`: instructions, memory, stack; per layer."""
    from edgec.artifact import Artifact
    from edgec.report import one_line
    from edgec.training import bench as training_bench

    made = Artifact(args.artifact)
    result = made.bench(on=args.on, runs=args.runs)
    if made.target.family == "cuda":
        _show_times(args, result)
        return result
    instructions = result["instructions"]
    _show(args, f"target        {result['target']} on {args.on or 'qemu'}")
    if instructions is not None:
        per_mac = f" ({instructions / result['macs']:.2f} per MAC)" if result["macs"] else ""
        _show(args, f"instructions  {instructions:,}{per_mac}")
    for key in ("macs", "arena_bytes", "ram_bytes", "flash_bytes", "stack_bytes"):
        if result[key] is not None:
            _show(args, f"{key.replace('_bytes', ''):<13} {result[key]:,}{' B' if 'bytes' in key else ''}")
    for row in result["layers"]:
        _show(
            args,
            f"  {row['item']:3} {one_line(row['layer'])[:36]:<36} {row['op']:<20} {row['instructions']:>12,}",
        )
    if "training" in result:
        for line in training_bench.lines(result["training"]):
            _show(args, line)
    return result


def _show_times(args: argparse.Namespace, result: Json) -> None:
    """A GPU's times: of the whole graph, and of each kernel alone."""
    from edgec.report import one_line

    _show(args, f"target        {result['target']} on this computer's GPU")
    rate = 2e-9 * result["macs"] / result["milliseconds"]
    _show(args, f"gpu           {', '.join(f'{k} {v}' for k, v in result['gpu'].items())}")
    _show(args, f"time          {result['milliseconds']:.4f} ms, median of one graph ({rate:.2f} TFLOP/s)")
    copies = f"{result['copy_bytes_per_s'] * 1e-9:.1f} GB/s that copies reach"
    _show(args, f"bandwidth     {100 * result['share_of_bandwidth']:.1f} % of the {copies}")
    for key in ("macs", "arena_bytes", "library_bytes", "constant_bytes"):
        if result[key] is not None:
            _show(args, f"{key.replace('_bytes', ''):<13} {result[key]:,}{' B' if 'bytes' in key else ''}")
    for row in result["layers"]:
        layer = one_line(row["layer"])[:36]
        _show(args, f"  {row['item']:3} {layer:<36} {row['op'][:28]:<28} {row['microseconds']:>9.2f} us")


def report(args: argparse.Namespace) -> Json:
    """`edgec report`: the artifact's report as text, JSON, HTML or PNG."""
    from edgec import report as reports
    from edgec import report_html
    from edgec.artifact import Artifact

    made = Artifact(args.artifact)
    content, sizes = made.report(), made.sizes()
    if args.html is not None:
        report_html.write_html(args.html, content, sizes)
        log.say(f"wrote {args.html}")
    if args.png is not None:
        report_html.write_png(args.png, content)
        log.say(f"wrote {args.png}")
    if args.html is None and args.png is None:
        _show(args, reports.text(content, sizes))
    return {**content, "sizes": sizes}


def check(args: argparse.Namespace) -> Json:
    """`edgec check`: fit verdicts. Exit code 5 where the only target asked for does not fit."""
    from edgec import verdict
    from edgec.targets.load import target_names

    if not args.target and not args.all_targets:
        raise UserError("EDGEC-E202", "say which targets: --target NAME or --all-targets")
    names: Sequence[str] = target_names() if args.all_targets else args.target
    if args.calib is None:
        args.calib = Path("random")  # sizes do not depend on ranges
    verdicts = verdict.check(_request(args, names[0]), names, own_precision=args.precision is None)
    rows = [v.json() for v in verdicts]
    for v in verdicts:
        mark = "fits" if v.fits else "does not fit"
        _show(
            args,
            f"{v.target:<16} {mark:<13} RAM {v.ram_bytes:>10,} B  flash {v.flash_bytes:>10,} B  {v.reason}",
        )
        for proposal in v.proposals:
            _show(args, f"{'':<16} try {proposal}")
    refused = [v for v in verdicts if not v.fits]
    if refused and not args.all_targets:
        names = ", ".join(v.target for v in refused)
        cure = "take a proposal above" if any(v.proposals for v in refused) else "use a smaller model"
        text = f"{cure}, or another target: the model does not fit {names}"
        _refuse(args, rows, TargetError(refused[0].code if len(refused) == 1 else "EDGEC-E503", text))
    return rows


def quantize(args: argparse.Namespace) -> Json:
    """`edgec quantize`: the network's error as rounded, by layer with --sensitivity, and what each layer became."""
    from edgec import compiler, pipeline
    from edgec import report as reports

    request = _request(args, args.target)
    done = compiler.transform(request)
    options = compiler.settled(request)
    rows = compiler.sensitivity_rows(done, options) if options.sensitivity else []
    layers = compiler.choices_of(done, options)
    snr = pipeline.output_snr(done.trace, done.arrays)
    _show(args, f"{options.precision}: {snr:.1f} dB signal to noise at the outputs, on the first sample")
    for line in (*(reports.choice_text(row) for row in layers), *reports.sensitivity_text(rows)):
        _show(args, line)
    return {
        "precision": options.precision,
        "output_snr_db": snr,
        "linear_layers": layers,
        "sensitivity": rows,
    }


def tune(args: argparse.Namespace) -> Json:
    """`edgec tune`: which parameters learn on the device."""
    from edgec.tune import command as tune_command

    tune_command.refuse_incomplete(args)
    found, text = tune_command.run(args, _request(args, args.target or "host"))
    _show(args, text)
    return found


def control(args: argparse.Namespace) -> Json:
    """`edgec control`: the control loop of a robot."""
    from edgec.control import command as control_command

    found, text = control_command.run(args)
    _show(args, text)
    return found


def targets(args: argparse.Namespace) -> Json:
    """`edgec targets`: name, title, memories and emulator of each."""
    from edgec.targets.load import load_targets

    rows = []
    for t in load_targets():
        memories = {m.name: m.bytes for m in t.memories}
        machine = t.emulator.machine if t.emulator else None
        rows.append(
            {"target": t.name, "title": t.title, "isa": t.isa, "memories": memories, "emulator": machine}
        )
        shown = ", ".join(f"{n} {b >> 10} KiB" for n, b in memories.items())
        _show(args, f"{t.name:<16} {t.title:<55} {shown}{f'; QEMU {machine}' if machine else ''}")
    return rows


def ops(args: argparse.Namespace) -> Json:
    """`edgec ops`: where and at which precision each operator runs."""
    from edgec import support
    from edgec.targets.load import load_target, load_targets

    chosen = (load_target(args.target),) if args.target else load_targets()
    rows = support.table(chosen)
    _show(args, support.text(rows, chosen))
    return [row.json() for row in rows]


def bisect(args: argparse.Namespace) -> Json:
    """`edgec bisect`: the first pass, then the first node, where numbers leave the tolerance."""
    from edgec import bisect as bisection
    from edgec import samples

    inputs = samples.read_npz(args.input, "input file") if args.input is not None else None
    found = bisection.bisect(_request(args, "host"), inputs, args.tolerance)
    _show(args, found.text())
    return found.json()


def doctor(args: argparse.Namespace) -> Json:
    """`edgec doctor`: each tool, its version, and how to get it. Exit code 10 where one is missing."""
    from edgec import doctor as checks

    rows = checks.examine()
    for row in rows:
        _show(args, f"{'ok' if row.found else 'missing':<8} {row.tool:<24} {row.version or row.cure}")
    missing = [row.tool for row in rows if not row.found and row.required]
    if missing:
        text = f"install what the list above says: {', '.join(missing)} missing"
        _refuse(args, [row.json() for row in rows], TargetError("EDGEC-EA03", text))
    return [row.json() for row in rows]


def completion(args: argparse.Namespace) -> Json:
    """`edgec completion`: a script for the shell, made from the parser itself."""
    from edgec import completion as scripts

    sys.stdout.write(scripts.script(args.shell))
    return None
