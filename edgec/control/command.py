"""`edgec control`: its words, and what it does with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from edgec.control.settings import MODES, Actuation, Mode, Task
from edgec.errors import InternalError, TargetError, UserError, cannot_write

if TYPE_CHECKING:
    from edgec.control.realtime_types import RealTime
    from edgec.control.record import Recording
    from edgec.control.settings import Settings
    from edgec.control.simulate import Case

ACTIONS: Final = ("plan", "simulate", "run", "soak", "replay", "report")
ALL: Final = "all"
EXPERT: Final = "expert"


def options(p: argparse.ArgumentParser) -> None:
    """The words of `edgec control`."""
    p.add_argument(
        "what",
        choices=ACTIONS,
        help="plan: what a policy's latency asks for; simulate: score a mode on a task, in virtual time; run: a robot "
        "and a policy in real time; soak: hours of a loop with faults in virtual time, or --seconds in real time; "
        "replay: a recording again, bit for bit; report: what it says",
    )
    p.add_argument("recording", nargs="?", type=Path, metavar="FILE", help="of a loop (replay, report)")
    p.add_argument("--settings", type=Path, metavar="FILE.toml", help="of the loop (plan, run, soak)")
    p.add_argument("--html", type=Path, metavar="FILE", help="write the report with pictures (report)")
    p.add_argument("--png", type=Path, metavar="FILE", help="write the pictures alone (report)")
    p.add_argument(
        "--torn", action="store_true", help="take what is whole of a damaged file (replay, report)"
    )
    p.add_argument(
        "--periods", type=_natural, metavar="N", help="of a soak in virtual time (default 1800000)"
    )
    p.add_argument("--latency", type=float, metavar="MS", help="of the policy, at worst (plan)")
    p.add_argument("--task", choices=get_args(Task), default="mole", help="default mole")
    p.add_argument(
        "--action", choices=get_args(Actuation), default="delta", help="what actions are (default delta)"
    )
    p.add_argument("--mode", choices=(*MODES, ALL), default="vlash", help="default vlash; all: a table")
    p.add_argument(
        "--delay", type=_natural, default=4, metavar="N", help="periods that the policy takes (default 4)"
    )
    p.add_argument(
        "--horizon", type=_natural, default=16, metavar="N", help="actions of a chunk (default 16)"
    )
    p.add_argument("--execute", type=_natural, default=8, metavar="N", help="of which are played (default 8)")
    p.add_argument(
        "--quantum", type=_natural, default=1, metavar="N", help="actions joined to one (default 1)"
    )
    p.add_argument(
        "--policy",
        default=EXPERT,
        metavar="NAME",
        help="an .onnx file or the folder of an artifact; run: also package.module:function that returns it; simulate: "
        "also expert (default expert)",
    )
    p.add_argument("--robot", metavar="PACKAGE.MODULE:FUNCTION", help="returns the robot (run)")
    p.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="until the robot comes to rest (run); of a soak in real time",
    )
    p.add_argument("--record", type=Path, metavar="FILE", help="write all that happens (run)")
    p.add_argument(
        "--priority",
        type=_natural,
        default=0,
        metavar="N",
        help="SCHED_FIFO of the control thread (run, soak)",
    )
    p.add_argument(
        "--require-rt", action="store_true", help="do not run without what --priority asks for (run, soak)"
    )
    p.add_argument("--knows-age", action="store_true", help="the expert moves the target on by the delay")
    p.add_argument("--envs", type=_natural, default=128, metavar="N", help="robots at once (default 128)")
    p.add_argument("--steps", type=_natural, default=240, metavar="N", help="periods (default 240)")


def _natural(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 7):
        raise argparse.ArgumentTypeError(f"give a whole number from 0 up, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> tuple[Any, str]:
    """(the result for machines, the same for people) of `edgec control`."""
    return {
        "plan": _plan,
        "simulate": _simulate,
        "run": _run,
        "soak": _soak,
        "replay": _replay,
        "report": _report,
    }[args.what](args)


def _settings(args: argparse.Namespace) -> Settings:
    from edgec.control.settings_file import read_settings

    if args.settings is None:
        raise UserError("EDGEC-E283", f"give --settings FILE.toml: {args.what} needs it")
    return read_settings(args.settings)


def _recording(args: argparse.Namespace) -> Recording:
    from edgec.control.record import read

    if args.recording is None:
        raise UserError("EDGEC-E283", f"give a recording: {args.what} needs one")
    try:
        return read(args.recording, torn=args.torn)
    except OSError as error:
        raise UserError(
            "EDGEC-E288", f"give a recording that can be read: {args.recording}: {error.strerror or error}"
        ) from None


def _realtime(args: argparse.Namespace) -> RealTime:
    from edgec.control.realtime_types import RealTime

    return RealTime(args.priority, lock_memory=args.priority > 0, require=args.require_rt)


def _run(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.run import Run, run
    from edgec.control.settings_file import names_in

    settings = _settings(args)
    if args.robot is None:
        raise UserError("EDGEC-E283", "give --robot PACKAGE.MODULE:FUNCTION: run needs it")
    statistics, grants = run(
        Run(
            settings,
            *names_in(args.settings),
            args.robot,
            args.policy,
            args.seconds,
            args.record,
            _realtime(args),
        )
    )
    late = {
        share: statistics.quantile("lateness", q) / 1e6
        for share, q in (("p50", 0.5), ("p99", 0.99), ("max", 1))
    }
    lines = (
        f"{statistics.periods:,} periods at {statistics.achieved_hz:.2f} Hz, {statistics.missed:,} left out; "
        f"{grants.status}",
        "woken late " + "  ".join(f"{name} {ms:.3f} ms" for name, ms in late.items()),
        "  ".join(f"{name} {count:,}" for name, count in statistics.counts.items() if count),
        f"ended: {statistics.end}" + (f", stopped: {statistics.stop}" if statistics.stop != "none" else ""),
    )
    return {**statistics.json(), "realtime": grants.text}, "\n".join(lines)


def _soak(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.soak import PERIODS, soak

    if args.seconds is not None:
        return _soak_realtime(args)
    found = soak(_settings(args), PERIODS if args.periods is None else args.periods)
    if not found.good:
        raise InternalError(f"a soak lost {found.lost} records, and its log counts otherwise: {found.drift}")
    lines = (
        f"periods    {found.periods:,}, {found.records:,} records, none lost",
        *_happened(found.faults, found.counts),
        f"memory     grew by {found.memory_kib} KiB",
        f"log        {found.log}",
    )
    return asdict(found), "\n".join(lines)


def _happened(faults: dict[str, int], counts: dict[str, int]) -> tuple[str, str]:
    return (
        "faults     " + "  ".join(f"{name} {count:,}" for name, count in faults.items() if count),
        "counted    " + "  ".join(f"{name} {count:,}" for name, count in counts.items()),
    )


def _soak_realtime(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.soak_realtime import soak

    if args.periods is not None:
        raise UserError(
            "EDGEC-E283", "give --periods or --seconds, not both: a soak is in virtual or in real time"
        )
    if not 1.0 <= args.seconds < 1e6:
        raise UserError("EDGEC-E283", f"give --seconds from 1 up, not {args.seconds:g}")
    found = soak(_settings(args), args.seconds, realtime=_realtime(args))
    if not found.good:
        raise InternalError(
            f"a soak lost {found.lost} records, its log counts otherwise: {found.drift}, its deadlines drifted by "
            f"{found.grid_drift_ns} ns, its replay differs: {found.difference}"
        )
    lines = (
        f"periods    {found.periods:,} at {found.achieved_hz:.3f} Hz, {found.missed:,} left out, no drift of deadlines",
        "woken late "
        + "  ".join(f"{name} {ms:.3f} ms" for name, ms in found.late_ms.items())
        + f"; {found.realtime}",
        f"records    {found.records:,}, none lost, {found.replayed:,} periods the same bit for bit in a replay",
        *_happened(found.faults, found.counts),
        f"memory     {found.memory_first_kib:,} KiB after a tenth of the time, {found.memory_last_kib:,} at the end",
    )
    return asdict(found), "\n".join(lines)


def _replay(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.replay import replay

    found = replay(_recording(args))
    result = {"same": found.same, "periods": found.periods, "records": found.records, "gap_at": found.gap_at}
    if found.difference is not None:
        raise TargetError(
            "EDGEC-E902", f"run it with the edgec that recorded it, or report a bug: {found.difference}"
        )
    gap = f", up to a gap in the recording at period {found.gap_at:,}" if found.gap_at is not None else ""
    return result, f"{found.periods:,} periods are the same bit for bit{gap}"


def _report(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.report import report

    recording = _recording(args)
    found = report(recording)
    if args.html is not None or args.png is not None:
        from edgec.control.report_pictures import page, png

        files: list[tuple[Path, bytes]] = []
        if args.html is not None:
            files.append((args.html, page(recording).encode()))
        if args.png is not None:
            files.append((args.png, png(recording)))
        for path, content in files:
            _write(path, content)
    return found.json(), found.text()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write("EDGEC-EB0B", path, error) from error


def _plan(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control.plan import plan

    if args.latency is None:
        raise UserError("EDGEC-E283", "give --latency MS: a plan needs it")
    settings = _settings(args)
    found = plan(settings, args.latency / 1e3)
    lines = (
        f"delay           {found.delay} periods",
        f"execute         {settings.execute} actions of {settings.horizon}; "
        f"{found.execute_least} to {found.execute_most} never wait",
        f"worst reaction  {1e3 * found.reaction_s:.0f} ms; asked without a pause "
        f"{1e3 * found.reaction_continuous_s:.0f} ms",
        f"waits           {1e3 * found.wait_s:.0f} ms a chunk",
        f"memory          {found.loop_bytes:,} B",
    )
    return found.json(), "\n".join(lines)


def _simulate(args: argparse.Namespace) -> tuple[Any, str]:
    from edgec.control import worlds
    from edgec.control.simulate import Case

    if args.policy != EXPERT and args.knows_age:
        raise UserError(
            "EDGEC-E283", f"remove --knows-age: it is the expert's, and {args.policy} is told the delay"
        )
    if args.envs < 1 or args.steps <= worlds.SETTLE + worlds.LIFE:
        least = worlds.SETTLE + worlds.LIFE + 1
        raise UserError("EDGEC-E283", f"give --envs from 1 and --steps from {least} up: scores need both")
    case = Case(
        task=args.task,
        actuation=args.action,
        mode="sync" if args.mode == ALL else args.mode,
        delay=args.delay,
        horizon=args.horizon,
        execute=args.execute,
        quantum=args.quantum,
        robots=args.envs,
        periods=args.steps,
        seed=args.seed,
        knows_age=args.knows_age,
    )
    rows = list(_scores(case, MODES if args.mode == ALL else (args.mode,), args.policy))
    return (rows if args.mode == ALL else rows[0]), "\n".join(map(_text, rows))


def _scores(case: Case, modes: Sequence[Mode], policy: str) -> Iterator[dict[str, Any]]:
    from edgec.control.simulate import simulate
    from edgec.control.simulate_model import model_policy

    with nullcontext() if policy == EXPERT else model_policy(policy, case) as answers:
        for mode in modes:
            score = asdict(simulate(replace(case, mode=mode), answers))
            score["reaction_steps"] = score.pop("reaction_periods")
            yield {"mode": mode, "delay": case.delay, **score}


def _text(row: dict[str, Any]) -> str:
    parts = [f"{row['mode']:<11} delay {row['delay']}"]
    if row["hit_percent"] is not None:
        parts.append(f"hits {row['hit_percent']:5.1f} %")
    parts.append(f"rmse {row['rmse']:7.1f} /100, within reach {row['in_percent']:5.1f} %")
    parts.append(f"action change {row['action_change']:.3f}")
    if row["reaction_steps"] is not None:
        parts.append(f"reaction {row['reaction_steps']:.1f} periods")
    return ", ".join(parts)
